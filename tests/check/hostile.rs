//! What somebody who has no key may leave in a vault: the check ends soon, says what it is, and does not wait for anything.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use crate::common::run;
use crate::lab::*;
use crate::report::check;

fn fifo(path: &Path) {
    let _ = fs::remove_file(path);
    run(Command::new("mkfifo").arg(path)).ok();
}

#[test]
fn other_kinds_of_files_where_wardfs_has_its_own() {
    let long = "l".repeat(200);
    let vault = prepared(&[], |mount| {
        fs::create_dir(mount.join("dir")).expect("made");
        fs::write(mount.join("dir/x"), "x").expect("written");
        fs::write(mount.join(&long), "x").expect("written");
    });
    let mount = vault.mount();
    let [dir, entry] = ["dir", &long].map(|n| stored(&mount, n));
    mount.umount();
    fifo(&dir.join("~id"));
    fifo(Path::new(&format!("{}.name", entry.display())));
    fifo(&vault.path().join("~wardfs/tmp/volume"));
    fifo(&vault.path().join("~wardfs/targets/AAAAAAAAAAAAAAAAAAAAAA"));
    fifo(&vault.path().join("~wardfs/volume.bak"));
    let checked = check(&vault, &[]);
    assert_eq!(checked.code, Some(27));
    let entry = entry
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    assert_eq!(
        checked.told(),
        [
            "damaged directory id dir".to_owned(),
            format!("damaged name file name-lost.{entry}"),
            "damaged volume header -".to_owned(),
            "foreign file -".to_owned(),
            "leftover temporary file -".to_owned(),
        ]
    );
}

/// As large as the filesystem lets a file be, with nothing in it.
#[test]
fn huge_files_of_nothing() {
    const HUGE: u64 = 1 << 43;
    let vault = prepared(&[], |mount| {
        for name in ["grown", "new", "sparse"] {
            fs::write(mount.join(name), content(1, 3 * CHUNK)).expect("written");
        }
        let file = File::options().write(true).open(mount.join("sparse"));
        file.expect("opens").set_len(HUGE).expect("extended");
    });
    let mount = vault.mount();
    let [grown, new] = ["grown", "new"].map(|n| stored(&mount, n));
    mount.umount();
    let set_len = |path: &Path, len: u64| {
        let file = File::options().write(true).open(path).expect("stored");
        file.set_len(len).expect("extended");
    };
    set_len(&grown, 64 + (HUGE >> 12) * STORED_CHUNK as u64);
    set_len(&new, 0);
    set_len(&new, HUGE);
    let checked = check(&vault, &["--threads", "2"]);
    assert_eq!(checked.code, Some(27));
    let told = checked.told();
    assert_eq!(told[0], format!("damaged file grown 8192..{HUGE}"));
    assert!(told[1].starts_with("damaged file new 0.."), "{told:?}");
    assert_eq!(told.len(), 2);
    assert_eq!(checked.summary["verified_bytes"], HUGE + 2 * CHUNK as u64);
    let out = vault.dir().join("out");
    let checked = check(&vault, &["--salvage", out.to_str().expect("UTF-8")]);
    assert_eq!(checked.told(), told);
    let mut start = vec![0; 4 * CHUNK];
    let file = File::open(out.join("grown")).expect("saved");
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut start, 0).expect("long enough");
    let mut expected = content(1, 3 * CHUNK);
    expected.resize(4 * CHUNK, 0);
    assert!(start == expected, "also the old last chunk is saved");
    check(&vault, &["--repair"]);
}
