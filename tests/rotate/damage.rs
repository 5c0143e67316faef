//! Damage is named and passed over, and the old key kept as long as it may be needed.

use std::fs;
use std::os::unix::fs::FileExt;

use crate::common::{Vault, run};
use crate::lab::{
    bytes, close, content_files, epochs_in_use, json_lines, keyring, rotate, rotated,
};

/// A vault with three files, one of which was changed in its second chunk; and the place of that byte.
fn damaged() -> (Vault, fs::File) {
    let vault = Vault::new();
    let mount = vault.mount();
    for (number, name) in ["first", "second", "third"].into_iter().enumerate() {
        fs::write(mount.join(name), bytes(number as u64, 20_000 + number)).expect("written");
    }
    close(mount);
    let path = content_files(&vault.path())
        .into_iter()
        .find(|path| fs::metadata(path).expect("there").len() == 20_001 + 64 + 5 * 40)
        .expect("the second file");
    let file = fs::File::options().read(true).write(true).open(path);
    let file = file.expect("writable");
    flip(&file);
    (vault, file)
}

fn flip(file: &fs::File) {
    let mut byte = [0];
    file.read_exact_at(&mut byte, 5000).expect("there");
    file.write_all_at(&[byte[0] ^ 1], 5000).expect("written");
}

#[test]
fn a_damaged_file_is_named_and_the_old_key_kept_until_it_is_mended() {
    let (vault, file) = damaged();
    let ran = run(&mut rotate(&vault));
    assert_eq!(ran.code, Some(27), "{ran:?}");
    assert!(ran.stdout.contains("damaged: file second"), "{ran:?}");
    assert!(
        ran.stdout.contains("The old content key is kept"),
        "{ran:?}"
    );
    assert_eq!(keyring(&vault).0, [0, 1]);
    flip(&file);
    assert_eq!(epochs_in_use(&vault), [0, 1].into());
    let mount = vault.mount();
    assert_eq!(
        fs::read(mount.join("second")).expect("readable"),
        bytes(1, 20_001)
    );
    close(mount);
    rotated(&vault);
    assert_eq!(keyring(&vault).0, [1]);
    assert_eq!(epochs_in_use(&vault), [1].into());
}

#[test]
fn in_json_damage_is_a_finding_as_of_a_check() {
    let (vault, _) = damaged();
    let ran = run(rotate(&vault).arg("--json"));
    assert_eq!(ran.code, Some(27), "{ran:?}");
    let lines = json_lines(&ran.stdout);
    let found: Vec<_> = lines.iter().filter(|l| l["finding"].is_string()).collect();
    assert_eq!(found.len(), 1, "{ran:?}");
    assert_eq!(found[0]["finding"], "damaged");
    assert_eq!(found[0]["path"], "second");
    let summary = lines.last().expect("a summary");
    assert_eq!(summary["summary"], "damaged");
    assert_eq!(summary["old_keys_destroyed"], 0);
}
