//! The manuals say what the program does: options, mount options, sizes, labels, limits, test vectors, named tests.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{PASSPHRASE, Vault, run, wardfs};
use wardfs::content::Geometry;
use wardfs::format::file::{CHUNK_OVERHEAD, HEADER_LEN};
use wardfs::format::keyring::MAX_KEYRING;
use wardfs::format::slot::{Argon2Params, MAX_LABEL, MAX_SLOT_DATA, MAX_SLOTS};
use wardfs::format::superblock::{MAX_WINDOWS, SUPERBLOCK_LEN};
use wardfs::fuse::options::MountOptions;
use wardfs::names::name::{MAX_NAME, MAX_SHORT};

/// Subsections of options that several verbs have.
const SHARED: [&str; 6] = [
    "Key derivation",
    "Secrets",
    "Other ways in",
    "New secrets",
    "New secrets of other kinds",
    "What is said of a slot",
];

const PAGES: [&str; 3] = ["wardfs.1", "wardfs-format.5", "wardfs-security.7"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page(name: &str) -> String {
    read(&root().join("man").join(name))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The text of a section, which `heading` begins, up to the next heading of one of these macros.
fn section<'a>(page: &'a str, heading: &str, ends: &[&str]) -> &'a str {
    let begin = page
        .find(heading)
        .unwrap_or_else(|| panic!("no section {heading:?}"));
    let text = &page[begin + heading.len()..];
    let end = ends
        .iter()
        .filter_map(|e| text.find(&format!("\n{e} ")))
        .min();
    &text[..end.unwrap_or(text.len())]
}

/// The lines that say what a paragraph is about: those after `.TP` and `.TQ`.
fn heads(section: &str) -> Vec<String> {
    let lines: Vec<&str> = section.lines().collect();
    let heads = lines
        .windows(2)
        .filter(|pair| matches!(pair[0], ".TP" | ".TQ"));
    heads.map(|pair| pair[1].replace("\\-", "-")).collect()
}

/// Options among the words of a line, as in `-f`, `--foreground`.
fn options_in(line: &str) -> BTreeSet<String> {
    let words = line.split([' ', ',', '"', '=', '.']);
    words
        .filter(|w| w.starts_with('-') && w.len() > 1)
        .map(str::to_owned)
        .collect()
}

/// What `--help` defines: lines that begin with an option.
fn options_of_help(help: &str) -> BTreeSet<String> {
    let lines = help
        .lines()
        .filter(|line| line.trim_start().starts_with('-'));
    lines
        .flat_map(|line| options_in(line.split('<').next().unwrap_or(line)))
        .collect()
}

fn help(arguments: &[&str]) -> String {
    run(wardfs().args(arguments)).ok()
}

/// Verbs and, as in `key list`, the verbs below them.
fn verbs() -> Vec<String> {
    let mut all = Vec::new();
    for verb in verbs_of(&help(&["--help"])) {
        let below = verbs_of(&help(&["help", &verb]));
        let below = below.iter().filter(|name| *name != "help");
        all.extend(below.map(|name| format!("{verb} {name}")));
        all.push(verb);
    }
    all
}

fn verbs_of(help: &str) -> Vec<String> {
    let Some((_, commands)) = help.split_once("Commands:\n") else {
        return Vec::new();
    };
    let lines = commands.lines().take_while(|line| line.starts_with("  "));
    lines
        .map(|line| line.split_whitespace().next().expect("a verb").to_owned())
        .collect()
}

#[test]
fn every_verb_and_option_of_the_program_is_in_the_manual_and_no_other() {
    let page = page("wardfs.1");
    let options = |section: &str| -> BTreeSet<String> {
        heads(section)
            .iter()
            .flat_map(|head| options_in(head))
            .collect()
    };
    let commands = section(&page, "\n.SH COMMANDS", &[".SS"]);
    let common = options(commands);
    assert_eq!(
        common,
        options_of_help(&help(&["--help"])),
        "options of all verbs"
    );

    let described: BTreeSet<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix(".SS wardfs "))
        .map(str::to_owned)
        .collect();
    assert_eq!(described, verbs().into_iter().collect(), "verbs");

    let ends = [".SS", ".SH"];
    for verb in described.iter().filter(|verb| *verb != "help") {
        let own = section(&page, &format!("\n.SS wardfs {verb}\n"), &ends);
        let mut told = options(own);
        for shared in SHARED {
            if own.contains(shared) {
                told.extend(options(section(&page, &format!("\n.SS {shared}\n"), &ends)));
            }
        }
        let words: Vec<&str> = ["help"].into_iter().chain(verb.split(' ')).collect();
        let offered = options_of_help(&help(&words));
        let own_to_it: BTreeSet<String> = offered.difference(&common).cloned().collect();
        assert_eq!(told, own_to_it, "wardfs {verb}");
    }
}

#[test]
fn every_default_of_the_help_is_the_one_of_the_manual() {
    let page = page("wardfs.1");
    for (verb, option, default) in [
        ("init", "--cipher", "auto"),
        ("init", "--chunk-size", "4K"),
        ("bench", "--seconds", "0.25"),
    ] {
        let help = help(&["help", verb]);
        assert!(
            help.contains(&format!("[default: {default}]")),
            "{verb} {option}: {help}"
        );
        let own = section(&page, &format!("\n.SS wardfs {verb}\n"), &[".SS", ".SH"]);
        let text = section(own, &option.replace('-', "\\-"), &[".TP"]);
        let said = text.contains(&format!("The default is {default}."))
            || text.contains(&format!("The default,\n.BR {default} ,"));
        assert!(said, "{verb} {option}: {text}");
    }
}

#[test]
fn mount_options_are_those_that_are_understood() {
    let page = page("wardfs.1");
    let part = section(&page, "\n.SH \"MOUNT OPTIONS\"", &[".SH"]);
    let mut described = BTreeSet::new();
    for head in heads(part) {
        let words = head
            .split([' ', ',', '"'])
            .filter(|w| !w.is_empty() && !w.starts_with('.'));
        let names = words.filter(|w| w.chars().any(|c| c.is_ascii_lowercase()));
        described.extend(names.map(str::to_owned));
    }
    let help = help(&["help", "mount"]);
    let (_, list) = help
        .split_once("Mount options (-o)")
        .expect("the help lists them");
    let (list, _) = list.split_once("TIME is").expect("the list ends");
    let lines = list
        .lines()
        .skip(1)
        .filter(|l| l.starts_with("  ") && l.as_bytes().get(2).is_some_and(|b| *b != b' '));
    let mut helped = BTreeSet::new();
    for line in lines {
        let column = line
            .trim_start()
            .split("  ")
            .next()
            .expect("a first column");
        for word in column.split(", ") {
            helped.insert(match word.split_once('=') {
                Some((name, _)) => format!("{name}="),
                None => word.to_owned(),
            });
        }
    }
    assert!(
        helped.is_subset(&described),
        "in the help only: {:?}",
        &helped - &described
    );
    for word in &described {
        let option = if word.ends_with('=') {
            format!("{word}1")
        } else {
            word.clone()
        };
        MountOptions::parse(&[option]).unwrap_or_else(|e| panic!("{word}: {e}"));
    }
    let (_, ignored) = part
        .split_once("accepted and mean nothing here")
        .expect("they are listed");
    for line in ignored.lines() {
        let line = line.replace("\\-", "-");
        if let Some(word) = line.strip_prefix(".BR ").and_then(|l| l.split(' ').next()) {
            MountOptions::parse(&[word]).unwrap_or_else(|e| panic!("{word}: {e}"));
        }
    }
}

#[test]
fn worked_lengths_are_those_of_the_code() {
    let page = page("wardfs-format.5");
    let geometry = Geometry::new(12).expect("4 KiB chunks");
    let mut seen = Vec::new();
    for line in section(&page, "\n.Ss Lengths", &[".Ss"]).lines() {
        let Some((left, sum)) = line.split_once(" = ") else {
            continue;
        };
        let numbers: Vec<u64> = left
            .split_whitespace()
            .filter_map(|n| n.parse().ok())
            .collect();
        let &[plain, stored] = &numbers[..] else {
            continue;
        };
        let parts: Vec<u64> = sum
            .split(" + ")
            .map(|n| n.parse().expect("a number"))
            .collect();
        assert_eq!(geometry.stored_size(plain), stored, "{line}");
        assert_eq!(parts.iter().sum::<u64>(), stored, "{line}");
        seen.push(plain);
    }
    assert_eq!(seen, [0, 1, 4096, 4097, 5000]);
}

#[test]
fn limits_and_sizes_are_those_of_the_code() {
    let page = page("wardfs-format.5");
    let memory = (Argon2Params::MIN_MEMORY_KIB, Argon2Params::MAX_MEMORY_KIB);
    for said in [
        format!("{HEADER_LEN} + i * (C + {CHUNK_OVERHEAD})"),
        format!("at most {MAX_LABEL} bytes"),
        format!("at most {MAX_SLOTS} slots"),
        format!("at most {MAX_SLOT_DATA} bytes"),
        format!("at most {} bytes", MAX_KEYRING + 16),
        format!("KiB, {} to {}", memory.0, memory.1),
        format!("passes, 1 to {}", Argon2Params::MAX_TIME),
        format!("lanes   u32   1 to {}", Argon2Params::MAX_LANES),
        format!("at most {} KiB", Argon2Params::MAX_WORK_KIB),
        format!("two slots of {SUPERBLOCK_LEN} bytes"),
        format!("at most {MAX_WINDOWS}\n"),
        format!("Of {} windows", MAX_WINDOWS + 1),
        format!("A name is 1 to {MAX_NAME} bytes"),
        format!("A name of at most {MAX_SHORT} bytes"),
    ] {
        assert!(page.contains(&said), "the manual does not say {said:?}");
    }
}

/// Byte strings in the code, outside its tests, that begin with `prefix`.
fn byte_strings(dir: &Path, prefix: &str, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir)
        .expect("sources")
        .map(|e| e.expect("an entry").path())
    {
        if entry.is_dir() {
            byte_strings(&entry, prefix, found);
            continue;
        }
        let text = read(&entry);
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for piece in code.split(&format!("b\"{prefix}")).skip(1) {
            let rest = piece.split('"').next().expect("a string ends");
            found.insert(format!("{prefix}{rest}"));
        }
    }
}

fn quoted(page: &str, prefix: &str) -> Vec<String> {
    let page = page.replace("\\(dq", "\"");
    let begin = format!("\"{prefix}");
    let pieces = page.split(&begin).skip(1);
    pieces
        .map(|p| format!("{prefix}{}", p.split('"').next().expect("a string ends")))
        .collect()
}

#[test]
fn labels_domains_and_magics_are_those_of_the_code() {
    let page = page("wardfs-format.5");
    for prefix in ["wardfs v1 ", "wrd", "WARDFS"] {
        let mut in_code = BTreeSet::new();
        byte_strings(&root().join("src"), prefix, &mut in_code);
        assert!(!in_code.is_empty(), "{prefix}");
        let told: BTreeSet<String> = quoted(&page, prefix).into_iter().collect();
        assert_eq!(told, in_code);
    }
    let schedule = section(&page, "\n.Sh KEY SCHEDULE", &[".Sh"]);
    let mut derived = BTreeMap::new();
    for label in quoted(schedule, "wardfs v1 ") {
        *derived.entry(label).or_insert(0) += 1;
    }
    assert!(
        derived.values().all(|n| *n == 1),
        "a label derives one key: {derived:?}"
    );
}

#[test]
fn test_vectors_are_the_golden_ones() {
    let squeeze = |text: &str| text.split([' ', '\n', '\\']).collect::<String>();
    let golden = squeeze(&read(&root().join("tests/golden.rs")));
    let page = page("wardfs-format.5");
    let vectors = section(&page, "\n.Sh TEST VECTORS", &[".Sh"]);
    let mut checked = 0;
    for line in vectors.lines() {
        let last = line.split_whitespace().last().unwrap_or_default();
        let is_name = line.starts_with("stored ");
        let is_hex = last.len() >= 40 && last.bytes().all(|b| b.is_ascii_hexdigit());
        if is_name || is_hex {
            assert!(golden.contains(last), "{last}");
            checked += 1;
        }
    }
    assert_eq!(checked, 10);
}

#[test]
fn the_tests_that_the_manuals_name_exist() {
    let mut named = 0;
    for name in PAGES {
        for line in page(name).lines() {
            let Some(reference) = line.strip_prefix(".\\\" test: ") else {
                continue;
            };
            let (file, test) = reference.split_once("::").expect("file::test");
            let text = read(&root().join(file));
            let function = format!("fn {test}(");
            let (before, _) = text
                .split_once(&function)
                .unwrap_or_else(|| panic!("{name} names {reference}, which does not exist"));
            let attributes = before.rsplit("\n\n").next().unwrap_or_default();
            assert!(
                attributes.contains("#[test]"),
                "{name}: {reference} is not a test"
            );
            named += 1;
        }
    }
    assert!(named > 20, "{named}");
}

#[test]
fn the_manuals_are_well_formed() {
    for name in PAGES {
        let mut command = Command::new("mandoc");
        command
            .args(["-T", "lint", "-W", "warning"])
            .arg(root().join("man").join(name));
        let output = command
            .output()
            .unwrap_or_else(|e| panic!("mandoc (package mandoc): {e}"));
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.is_empty(), "{said}");
    }
}

/// `tests/manual/reader.py` was written from the format manual alone, on other libraries.
#[test]
#[ignore = "needs python3 with the package cryptography, 44 or newer (PYTHON names another interpreter)"]
fn a_reader_written_from_the_manual_reads_a_vault() {
    for cipher in ["xaes-256-gcm", "xchacha20-poly1305"] {
        let vault = Vault::with(&["--cipher", cipher]);
        let mount = vault.mount();
        let plain = vault.dir().dir("plain");
        for dir in [&plain, mount.path()] {
            write_tree(dir);
        }
        mount.umount();
        let out = vault.dir().join("out");
        let python = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
        let mut reader = Command::new(python);
        reader
            .arg(root().join("tests/manual/reader.py"))
            .arg(vault.path())
            .arg(&out);
        run(reader.env("PASSPHRASE", PASSPHRASE)).ok();
        run(Command::new("diff")
            .args(["-r", "--no-dereference"])
            .args([&plain, &out]))
        .ok();
    }
}

fn write_tree(dir: &Path) {
    let write = |path: PathBuf, len: usize| {
        let content: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
        fs::write(path, content).expect("written");
    };
    for len in [0, 1, 4096, 4097, 5000, 1_000_000] {
        write(dir.join(format!("{len}")), len);
    }
    let long = dir.join("l".repeat(MAX_NAME));
    fs::create_dir(&long).expect("made");
    write(long.join("n".repeat(MAX_SHORT + 1)), 10);
    write(long.join("s".repeat(MAX_SHORT)), 10);
    fs::create_dir(dir.join("empty")).expect("made");
    fs::hard_link(dir.join("5000"), dir.join("link")).expect("linked");
    std::os::unix::fs::symlink("../target", dir.join("near")).expect("linked");
    std::os::unix::fs::symlink("t".repeat(4095), dir.join("far")).expect("linked");
    let sparse = fs::File::create(dir.join("sparse")).expect("made");
    sparse.set_len(300_000).expect("extended");
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"middle", 100_000).expect("written");
}
