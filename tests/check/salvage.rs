//! `--salvage` writes out every byte that authenticates, with everything that belongs to it.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::getxattr;

use crate::common::{Vault, run};
use crate::damage::fill;
use crate::lab::*;
use crate::report::{Checked, check, plain, snapshot};

#[track_caller]
fn salvage(vault: &Vault, name: &str) -> (Checked, PathBuf) {
    let out = vault.dir().join(name);
    let checked = check(vault, &["--salvage", text(&out)]);
    (checked, out)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn report(out: &Path) -> String {
    fs::read_to_string(out.join("salvage-report.txt")).expect("there is a report")
}

#[test]
fn a_whole_vault_comes_out_as_it_was() {
    let vault = prepared(&[], fill);
    let before = snapshot(&vault);
    let (checked, out) = salvage(&vault, "out");
    checked.assert_clean();
    assert_eq!(checked.summary["missing_bytes"], 0);
    assert!(report(&out).contains("Nothing is missing."));
    fs::remove_file(out.join("salvage-report.txt")).expect("removed");
    let mount = vault.mount();
    let list = |dir: &Path| {
        let format = "%P %y %m %u %g %s %n %l %T@\n";
        let mut find = Command::new("find");
        find.arg(dir).args(["-mindepth", "1", "!", "-type", "d"]);
        let mut lines: Vec<String> = run(find.args(["-printf", format]))
            .ok()
            .lines()
            .map(str::to_owned)
            .collect();
        let mut find = Command::new("find");
        find.arg(dir).args(["-mindepth", "1", "-type", "d"]);
        let dirs = run(find.args(["-printf", "%P %m %u %g %T@\n"])).ok();
        lines.extend(dirs.lines().map(str::to_owned));
        lines.sort();
        lines
    };
    assert_eq!(list(&out), list(mount.path()));
    for name in ["deep", "deep/linked"] {
        let mut value = [0; 16];
        let len = getxattr(out.join(name), "user.note", &mut value).expect("kept");
        assert_eq!(&value[..len], b"value", "{name}");
    }
    for name in ["deep/er/100000", "sparse", "other name"] {
        assert!(
            read(&out.join(name)) == read(&mount.join(name)),
            "{name} differs"
        );
    }
    mount.umount();
    let ino = |name| fs::metadata(out.join(name)).expect("there").ino();
    assert_eq!(ino("deep/linked"), ino("other name"));
    let blocks = fs::metadata(out.join("sparse")).expect("there").blocks();
    assert!(blocks < 1000, "holes stay holes: {blocks}");
    assert!(snapshot(&vault) == before, "the vault is as it was");
}

const LEN: usize = 5 * CHUNK + 100;

#[test]
fn every_byte_that_authenticates_is_saved_and_the_others_are_reported() {
    let names = [
        "changed", "cut", "short", "grown", "header", "old end", "odd",
    ];
    let vault = Vault::new();
    let mount = vault.mount();
    for name in names {
        fs::write(mount.join(name), content(1, LEN)).expect("written");
    }
    fs::write(mount.join("old end"), content(1, CHUNK)).expect("written");
    let paths = names.map(|name| stored(&mount, name));
    mount.umount();
    let old = piece(&paths[5], chunk_at(0), STORED_CHUNK);
    let mount = vault.mount();
    let file = File::options()
        .write(true)
        .open(mount.join("old end"))
        .expect("opens");
    file.write_all_at(&content(2, CHUNK), CHUNK as u64)
        .expect("written");
    drop(file);
    mount.umount();
    let [changed, at, inside, grown, header, end, odd] = &paths;
    flip(changed, chunk_at(2) + 30, 1);
    cut(at, chunk_at(3));
    cut(inside, chunk_at(3) + 77);
    cut(grown, chunk_at(6));
    flip(header, 40, 1);
    cut(odd, chunk_at(2) + 20);
    patch(end, chunk_at(0), &old);

    let (checked, out) = salvage(&vault, "out");
    assert_eq!(checked.code, Some(27));
    let whole = content(1, LEN);
    let saved = |name: &str| fs::read(out.join(name)).expect("written");
    let with_zeros = |from: usize, to: usize, len: usize| {
        let mut bytes = whole.clone();
        bytes.resize(len, 0);
        bytes[from..to].fill(0);
        bytes
    };
    assert!(saved("changed") == with_zeros(2 * CHUNK, 3 * CHUNK, LEN));
    assert!(saved("cut") == whole[..3 * CHUNK]);
    assert!(saved("short") == with_zeros(3 * CHUNK, 3 * CHUNK + 37, 3 * CHUNK + 37));
    assert!(saved("grown") == with_zeros(LEN, 6 * CHUNK, 6 * CHUNK));
    assert!(saved("odd") == whole[..2 * CHUNK]);
    assert!(saved("header") == vec![0; LEN]);
    let mut both = content(1, CHUNK);
    both.extend(content(2, CHUNK));
    assert!(saved("old end") == both, "a flag is no byte of the user");

    let missing = CHUNK + 37 + (CHUNK - 100) + LEN;
    assert_eq!(checked.summary["missing_bytes"], missing);
    let salvaged = LEN - CHUNK + 3 * CHUNK + 3 * CHUNK + LEN + 2 * CHUNK + 2 * CHUNK;
    assert_eq!(checked.summary["salvaged_bytes"], salvaged);
    let report = report(&out);
    for line in [
        "changed\n  chunk 2: does not authenticate\n  missing: bytes 8192-12287\n",
        "short\n  chunk 3: does not authenticate\n  missing: bytes 12288-12324\n",
        "header\n  the file header is damaged\n  missing: bytes 0-20579\n",
    ] {
        assert!(report.contains(line), "{line}: {report}");
    }
    let gaps = |name: &str| {
        let finding = checked.findings.iter().find(|f| f["path"] == name);
        finding.expect("told")["gaps"].clone()
    };
    let expected = serde_json::json!([{ "start": 8192, "end": 12288 }]);
    assert_eq!(gaps("changed"), expected);
    assert!(gaps("old end").is_null());
}

#[test]
fn files_whose_names_are_lost_are_saved_under_their_stored_ones() {
    let vault = prepared(&[], |mount| {
        fs::create_dir(mount.join("dir")).expect("made");
        fs::write(mount.join("dir/file"), content(1, 5000)).expect("written");
        fs::create_dir(mount.join("dir/sub")).expect("made");
        fs::write(mount.join("dir/sub/known"), content(2, 100)).expect("written");
    });
    let mount = vault.mount();
    let [dir, file, sub] = ["dir", "dir/file", "dir/sub"].map(|n| stored(&mount, n));
    mount.umount();
    for entry in fs::read_dir(&dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.to_string_lossy().contains("/~id") {
            fs::remove_file(path).expect("removed");
        }
    }
    let (checked, out) = salvage(&vault, "out");
    assert_eq!(checked.told(), ["damaged directory id dir"]);
    let lost = |path: &Path| {
        let name = path.file_name().expect("a name").to_string_lossy();
        out.join("dir").join(format!("name-lost.{name}"))
    };
    assert!(fs::read(lost(&file)).expect("saved") == content(1, 5000));
    assert!(fs::read(lost(&sub).join("known")).expect("saved") == content(2, 100));
}

#[test]
fn the_report_does_not_take_the_place_of_a_file() {
    let vault = prepared(&[], |mount| {
        fs::write(mount.join("salvage-report.txt"), "mine").expect("written");
    });
    let (_, out) = salvage(&vault, "out");
    assert_eq!(report(&out), "mine");
    let second = fs::read_to_string(out.join("salvage-report.1.txt")).expect("there");
    assert!(second.contains("Nothing is missing."));
}

#[test]
fn the_directory_must_be_empty_or_missing_and_outside_the_vault() {
    let vault = Vault::new();
    let full = vault.dir().dir("full");
    fs::write(full.join("file"), "x").expect("written");
    for (dir, words) in [
        (full, "is not empty"),
        (vault.path().join("new"), "lies in the vault"),
        (vault.path().join("~wardfs/tmp"), "lies in the vault"),
        (vault.dir().join("a/b"), "there is no place for"),
    ] {
        plain(&vault, &["--salvage", text(&dir)]).refused(2, &[words]);
    }
    assert!(!vault.path().join("new").exists());
    let empty = vault.dir().dir("empty");
    plain(&vault, &["--salvage", text(&empty)]).ok();
}

#[test]
fn a_full_disk_is_told_and_no_success() {
    let vault = prepared(&[], |mount| {
        fs::write(mount.join("file"), content(1, 2_000_000)).expect("written");
    });
    let small = vault.dir().dir("small");
    run(Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
        .arg(&small))
    .ok();
    let ran = plain(&vault, &["--salvage", text(&small)]);
    run(Command::new("umount").arg(&small)).ok();
    assert_eq!(ran.code, Some(1), "{ran:?}");
    for words in ["No space left", "not complete"] {
        assert!(ran.stderr.contains(words), "{ran:?}");
    }
}
