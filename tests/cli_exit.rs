//! The table of exit codes in the manual is the one in the code.

use std::fs;

use wardfs::cli::exit::Exit;

/// The rows of section EXIT STATUS: `.TP`, `.B number`, and the text up to the next macro.
fn rows(manual: &str) -> Vec<(u8, String)> {
    let section = manual
        .split("\n.SH ")
        .find(|s| s.trim_start_matches('"').starts_with("EXIT STATUS"));
    let lines: Vec<&str> = section
        .expect("the manual has a section EXIT STATUS")
        .lines()
        .collect();
    let mut rows = Vec::new();
    for (index, pair) in lines.windows(2).enumerate() {
        let Some(number) = pair[1].strip_prefix(".B ").filter(|_| pair[0] == ".TP") else {
            continue;
        };
        let text: Vec<&str> = lines[index + 2..]
            .iter()
            .take_while(|line| !line.starts_with('.'))
            .map(|line| line.trim())
            .collect();
        let text = text.join(" ").replace("\\-", "-").replace("\\(aq", "'");
        rows.push((
            number.trim().parse().expect("a row begins with a number"),
            text,
        ));
    }
    rows
}

#[test]
fn the_manual_has_the_exit_codes_of_the_program() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/man/wardfs.1");
    let manual = fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let expected: Vec<(u8, String)> = Exit::ALL
        .iter()
        .map(|exit| (exit.number(), exit.meaning().to_owned()))
        .collect();
    let source: String = expected
        .iter()
        .map(|(n, text)| format!(".TP\n.B {n}\n{text}\n"))
        .collect();
    assert_eq!(
        rows(&manual),
        expected,
        "section EXIT STATUS should contain\n{source}"
    );
}

#[test]
fn rows_are_read_as_roff_writes_them() {
    let manual = ".SH NAME\nx\n.SH \"EXIT STATUS\"\nText.\n.TP\n.B 0\nAll is\nwell.\n.TP\n.B 7\nCan\\-not.\n.SH NEXT\n.TP\n.B 9\nNo.\n";
    assert_eq!(
        rows(manual),
        [(0, "All is well.".to_owned()), (7, "Can-not.".to_owned())]
    );
}
