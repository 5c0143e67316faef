//! Keys on paper: recovery keys and shares are shown once, found wrong by group, and open the vault.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::terminal::Terminal;
use crate::common::{Mount, Vault, run, wardfs};
use crate::lab::*;

fn recovery(vault: &Vault, arguments: &[&str]) -> (String, PathBuf) {
    let said = run(key(vault, "add").arg("--recovery").args(arguments)).ok();
    let keys = printed(vault, &said);
    assert_eq!(keys.len(), 1, "{said}");
    (said, keys[0].clone())
}

fn shares(vault: &Vault, of: &str) -> Vec<PathBuf> {
    let said = run(key(vault, "add").args(["--shares", of])).ok();
    printed(vault, &said)
}

fn share_options(files: &[&PathBuf]) -> Vec<String> {
    let option = |file: &&PathBuf| ["--share".to_owned(), file.display().to_string()];
    files.iter().flat_map(option).collect()
}

#[test]
fn a_recovery_key_opens_the_vault_that_printed_it() {
    let vault = Vault::with(&["--label", "CT 2"]);
    let (said, file) = recovery(&vault, &[]);
    for words in [
        "Added key slot 1",
        "recovery key",
        "'CT 2'",
        "It is shown only now",
    ] {
        assert!(said.contains(words), "{words} in {said}");
    }
    let option = ["--recovery-key-file".as_ref(), file.as_os_str()];
    opens(&vault, 1, &option);
    let mut mount = wardfs();
    mount
        .arg("mount")
        .arg(vault.path())
        .arg(vault.mountpoint())
        .args(option);
    run(&mut mount).ok();
    Mount::adopt(&vault, vault.mountpoint()).umount();
    test(&Vault::new(), &option).refused(7, &["is of kind recovery key"]);
    let other = Vault::new();
    recovery(&other, &[]);
    test(&other, &option).refused(6, &[]);
}

#[test]
fn a_typo_is_located_by_its_group() {
    let vault = Vault::new();
    let (_, file) = recovery(&vault, &[]);
    let right = fs::read_to_string(&file).expect("written");
    let groups: Vec<&str> = right.split(['-', '\n']).collect();
    assert_eq!(groups.len(), 13);
    let wrong = |at: usize, group: &str| {
        let mut groups = groups.clone();
        groups[at] = group;
        let file = vault.dir().file("typed", groups.join(" "));
        test(&vault, &["--recovery-key-file".as_ref(), file.as_os_str()])
    };
    let other = if groups[4].starts_with('7') { "8" } else { "7" };
    wrong(4, &format!("{other}{}", &groups[4][1..])).refused(7, &["typo in group 5"]);
    wrong(12, &groups[12][..4]).refused(7, &["group 13", "4 characters"]);
    wrong(0, "").refused(7, &["typo in group 1"]);
    assert!(
        wrong(7, &groups[7].to_lowercase())
            .ok()
            .contains("key slot 1")
    );
}

#[test]
fn a_recovery_key_is_typed_on_the_terminal_until_it_has_no_typo() {
    let vault = Vault::new();
    let (_, file) = recovery(&vault, &[]);
    let right = fs::read_to_string(&file)
        .expect("written")
        .replace('\n', "-");
    let mut terminal = Terminal::start(bare(&vault, ["key", "test"]).arg("--ask-recovery-key"));
    terminal.expect("Recovery key for ");
    assert!(!terminal.echoes());
    terminal.type_line(&right[6..]);
    terminal.expect("Try again.");
    terminal.expect("Recovery key for ");
    terminal.type_line(&right);
    terminal.expect("Opens key slot 1 ");
    let (status, shown) = terminal.finish();
    assert_eq!(status.code(), Some(0));
    assert!(!shown.contains(&right[..11]), "{shown}");
}

fn decode_qr(image: &Path) -> String {
    let decoder = png::Decoder::new(std::io::BufReader::new(
        fs::File::open(image).expect("drawn"),
    ));
    let mut reader = decoder.read_info().expect("a PNG");
    let mut pixels = vec![0; reader.output_buffer_size().expect("it fits")];
    let info = reader.next_frame(&mut pixels).expect("whole");
    let (width, height) = (info.width as usize, info.height as usize);
    let mut grid =
        rqrr::PreparedImage::prepare_from_greyscale(width, height, |x, y| pixels[y * width + x]);
    let codes = grid.detect_grids();
    assert_eq!(codes.len(), 1);
    codes[0].decode().expect("readable").1
}

#[test]
fn qr_codes_hold_the_key_that_was_printed() {
    let vault = Vault::new();
    let image = vault.dir().join("key.png");
    let (said, file) = recovery(
        &vault,
        &["--qr", "--qr-png", image.to_str().expect("UTF-8")],
    );
    assert!(
        said.contains('\u{2588}') || said.contains('\u{2580}'),
        "{said}"
    );
    let key_text = fs::read_to_string(file)
        .expect("written")
        .replace('\n', "-");
    assert_eq!(decode_qr(&image), key_text);
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&image).expect("made").permissions());
    assert_eq!(mode & 0o777, 0o600);
    // An image that exists is not overwritten, and no key is made that could not be drawn.
    let again = ["--recovery", "--qr-png", image.to_str().expect("UTF-8")];
    run(key(&vault, "add").args(again)).refused(1, &["cannot make the image"]);
    assert_eq!(list(&vault)["slots"].as_array().expect("a list").len(), 2);
    let new = vault.dir().file("new", "new one");
    let useless = run(key(&vault, "add")
        .args(CHEAP)
        .arg("--qr")
        .arg("--new-passphrase-file")
        .arg(new));
    useless.refused(2, &["only for a recovery key"]);
}

#[test]
fn images_of_shares_are_one_each() {
    let vault = Vault::new();
    let image = vault.dir().join("share.png");
    let said = run(key(&vault, "add")
        .args(["--shares", "2/3", "--qr-png"])
        .arg(&image))
    .ok();
    for (number, file) in printed(&vault, &said).iter().enumerate() {
        let image = vault.dir().join(format!("share-{}.png", number + 1));
        let text = fs::read_to_string(file)
            .expect("written")
            .replace('\n', "-");
        assert_eq!(decode_qr(&image), text);
    }
}

#[test]
fn any_three_of_five_shares_open_and_two_do_not() {
    let vault = Vault::new();
    let files = shares(&vault, "3/5");
    assert_eq!(files.len(), 5);
    for three in [[0, 1, 2], [4, 2, 0], [1, 3, 4]] {
        opens(&vault, 1, &share_options(&three.map(|i| &files[i])));
    }
    opens(&vault, 1, &share_options(&files.iter().collect::<Vec<_>>()));
    test(&vault, &share_options(&[&files[0], &files[1]]))
        .refused(7, &["takes 3 different shares, and 2"]);
    test(&vault, &share_options(&[&files[0], &files[1], &files[0]]))
        .refused(7, &["and 2 were given"]);
    let others = shares(&vault, "3/5");
    let mixed = test(&vault, &share_options(&[&files[0], &files[1], &others[2]]));
    mixed.refused(7, &["takes 3 different shares"]);
    let detail = list(&vault)["slots"][1]["detail"].clone();
    assert_eq!(detail, "any 3 of 5");
    for bad in ["1/5", "6/5", "0/0", "3"] {
        run(key(&vault, "add").args(["--shares", bad])).refused(2, &["M of N"]);
    }
}

#[test]
fn shares_are_typed_one_after_the_other() {
    let vault = Vault::new();
    let files = shares(&vault, "2/2");
    let text = |n: usize| {
        fs::read_to_string(&files[n])
            .expect("written")
            .replace('\n', "-")
    };
    let mut terminal = Terminal::start(bare(&vault, ["key", "test"]).arg("--ask-shares"));
    terminal.expect("First share for ");
    terminal.type_line(&text(1));
    terminal.expect("Share 2 of 2: ");
    terminal.type_line(&text(0));
    terminal.expect("Opens key slot 1 ");
    assert_eq!(terminal.finish().0.code(), Some(0));
}

#[test]
fn an_opening_with_shares_is_warned_about_until_it_is_acknowledged() {
    let vault = Vault::new();
    let files = shares(&vault, "2/3");
    let log = vault.dir().join("log");
    let mut mount = wardfs();
    mount.arg("mount").arg(vault.path()).arg(vault.mountpoint());
    mount.arg("--log-file").arg(&log);
    run(mount.args(share_options(&[&files[0], &files[2]]))).ok();
    Mount::adopt(&vault, vault.mountpoint()).umount();
    let logged = fs::read_to_string(log).expect("written");
    assert!(
        logged.contains("opened with the shares of key slot 1"),
        "{logged}"
    );
    assert_eq!(list(&vault)["openings"][0]["slot"], 1);
    for _ in 0..2 {
        let ran = run(&mut key(&vault, "test"));
        assert!(
            ran.stderr.contains("key slot 1 was opened with shares at"),
            "{ran:?}"
        );
    }
    let said = run(&mut key(&vault, "acknowledge")).ok();
    assert!(said.contains("Acknowledged: key slot 1"), "{said}");
    let ran = run(&mut key(&vault, "test"));
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    let said = run(&mut key(&vault, "acknowledge")).ok();
    assert!(said.contains("nothing to acknowledge"), "{said}");
}
