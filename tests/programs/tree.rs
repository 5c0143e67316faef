//! A tree with everything a source tree or a home directory may hold, copied in by the programs people copy with.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, lsetxattr, mknodat, utimensat,
};

use crate::common::{Mount, TempDir, Vault, run};
use crate::snapshot::{AccessTimes, Snapshot};
use crate::support::{command, files_below, installed, is_root, mkdir, noise, sh, write};

/// Makes the tree in `root`, which must not exist yet.
pub fn make(root: &Path) {
    mkdir(root);
    contents(&mkdir(root.join("sizes")));
    names(&mkdir(root.join("names")));
    links(&mkdir(root.join("links")));
    sparse(&mkdir(root.join("sparse")));
    modes(&mkdir(root.join("modes")));
    xattrs(&mkdir(root.join("xattrs")));
    specials(&mkdir(root.join("specials")));
    mkdir(root.join("empty"));
    deep(root);
    times(root);
}

fn contents(dir: &Path) {
    for (seed, len) in [
        0, 1, 15, 4095, 4096, 4097, 8192, 65535, 65536, 131_073, 3_000_001,
    ]
    .into_iter()
    .enumerate()
    {
        write(dir.join(format!("{len}.bin")), noise(seed as u64, len));
    }
    write(dir.join("zeros"), vec![0; 20_000]);
    for n in 0..200 {
        write(
            dir.join(format!("module_{n}.c")),
            format!("int f{n}(void) {{ return {n}; }}\n").repeat(n),
        );
    }
}

fn names(dir: &Path) {
    let umlauts = "ä".repeat(127);
    let names: [&[u8]; 14] = [
        &[b'x'; 255],
        &[0xff; 255],
        &[b'y'; 175],
        &[b'z'; 176],
        umlauts.as_bytes(),
        b"\xc3\x28 not utf-8 \xfe",
        b" leading and trailing ",
        b"new\nline\ttab\x01\x7f",
        b"-rf",
        b"...",
        b"~wardfs",
        b"~id",
        b"*?[a]'\"\\$`",
        ".hidden Ärztebrief (Kopie).doc".as_bytes(),
    ];
    for (n, name) in names.into_iter().enumerate() {
        let name = OsString::from_vec(name.to_vec());
        write(dir.join(&name), format!("file {n}"));
    }
    let long = mkdir(dir.join("d".repeat(255)));
    write(long.join("e".repeat(255)), "below a long name");
    symlink("t".repeat(255), long.join("s".repeat(255))).expect("a symlink");
}

fn links(dir: &Path) {
    write(dir.join("one"), "three names");
    mkdir(dir.join("below"));
    fs::hard_link(dir.join("one"), dir.join("two")).expect("a hard link");
    fs::hard_link(dir.join("one"), dir.join("below").join("l".repeat(250))).expect("a hard link");
    for (name, target) in [
        ("relative", "one"),
        ("dangling", "../no/where"),
        ("absolute", "/etc/hostname"),
    ] {
        symlink(target, dir.join(name)).expect("a symlink");
    }
    symlink("a/".repeat(2000), dir.join("long")).expect("a symlink of 4000 bytes");
    symlink(
        OsString::from_vec(b"\xff\xfe".to_vec()),
        dir.join("not utf-8"),
    )
    .expect("a symlink");
}

fn sparse(dir: &Path) {
    let file = File::create(dir.join("middle")).expect("writable");
    for (n, offset) in [0, 20 << 20, (40 << 20) + 4096 * 3 + 7]
        .into_iter()
        .enumerate()
    {
        file.write_all_at(&noise(n as u64, 10_000), offset)
            .expect("there is room");
    }
    file.set_len(64 << 20).expect("a hole at the end");
    File::create(dir.join("only a hole"))
        .and_then(|f| f.set_len(16 << 20))
        .expect("a hole");
    let file = File::create(dir.join("hole first")).expect("writable");
    file.write_all_at(b"end", (8 << 20) - 3)
        .expect("there is room");
}

fn modes(dir: &Path) {
    for mode in [
        0o000, 0o400, 0o111, 0o644, 0o777, 0o4755, 0o2755, 0o1777, 0o6711, 0o7777,
    ] {
        let file = dir.join(format!("f{mode:04o}"));
        write(&file, format!("{mode:o}"));
        let below = mkdir(dir.join(format!("d{mode:04o}")));
        write(below.join("inside"), "");
        for path in [&file, &below] {
            if rustix::process::geteuid().is_root() {
                lchown(path, Some(1000 + mode), Some(54321)).expect("root may");
            }
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours");
        }
    }
}

fn xattrs(dir: &Path) {
    let file = dir.join("file");
    write(&file, "with attributes");
    let below = mkdir(dir.join("below"));
    let long = format!("user.{}", "n".repeat(120));
    let values: [(&str, &[u8]); 5] = [
        ("user.empty", b""),
        ("user.text", b"value"),
        ("user.binary", &[0, 1, 2, 0xff, 0]),
        ("user.Patient.Name", "Müller^Ä".as_bytes()),
        (&long, &[0x5a; 700]),
    ];
    for path in [&file, &below] {
        for (name, value) in values {
            lsetxattr(path, name, value, XattrFlags::empty())
                .unwrap_or_else(|e| panic!("{name}: {e}"));
        }
        lsetxattr(
            path,
            "trusted.overlay.note",
            b"root only",
            XattrFlags::empty(),
        )
        .expect("root may");
    }
}

fn specials(dir: &Path) {
    let node = |name: &str, kind, number| {
        mknodat(
            CWD,
            dir.join(name),
            kind,
            Mode::from_raw_mode(0o640),
            number,
        )
        .unwrap_or_else(|e| panic!("{name}: {e}"));
    };
    node("fifo", FileType::Fifo, 0);
    node("null", FileType::CharacterDevice, rustix::fs::makedev(1, 3));
    node("loop", FileType::BlockDevice, rustix::fs::makedev(7, 200));
}

fn deep(root: &Path) {
    let mut dir = mkdir(root.join("deep"));
    for n in 0..40 {
        dir = mkdir(dir.join(format!("level {n} of a deep path")));
    }
    write(dir.join("bottom"), "reached");
}

/// Gives every entry times of its own, to the nanosecond, some before 1970. Access times lie in the future, where
/// reading does not change them (relatime).
fn times(root: &Path) {
    for (n, path) in all_below(root).into_iter().enumerate() {
        let n = i64::try_from(n).expect("few");
        let seconds = if n % 7 == 0 {
            -1_000_000_000 + n * 1000
        } else {
            1_500_000_000 + n * 1001
        };
        let nanoseconds = (n * 123_456_789 + 1) % 1_000_000_000;
        let times = Timestamps {
            last_access: Timespec {
                tv_sec: 4_000_000_000 + n,
                tv_nsec: nanoseconds / 3,
            },
            last_modification: Timespec {
                tv_sec: seconds,
                tv_nsec: nanoseconds,
            },
        };
        utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW)
            .unwrap_or_else(|e| panic!("times of {}: {e}", path.display()));
    }
}

/// Entries before the directory they are in.
fn all_below(dir: &Path) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).expect("ours") {
        let entry = entry.expect("ours");
        if entry.file_type().expect("ext4 tells").is_dir() {
            paths.extend(all_below(&entry.path()));
        } else {
            paths.push(entry.path());
        }
    }
    paths.push(dir.to_owned());
    paths
}

/// Copies the tree in by `copy`, compares, mounts again, compares again, and lets rsync look for differences.
fn survives(access_times: AccessTimes, copy: impl FnOnce(&Path, &Mount<'_>)) {
    if !is_root("make device nodes and give files away") || !installed("rsync", &["rsync"]) {
        return;
    }
    let outside = TempDir::new();
    let source = outside.join("tree");
    make(&source);
    let original = Snapshot::of(&source);
    assert!(original.len() > 300);
    let vault = Vault::new();
    let mount = vault.mount_with(&["-o", "allow_other,dev,suid"]);
    copy(&source, &mount);
    original.assert_kept_in(&Snapshot::of(&mount.join("tree")), access_times);
    mount.umount();

    let mount = vault.mount_with(&["-o", "ro,allow_other,dev,suid"]);
    original.assert_kept_in(&Snapshot::of(&mount.join("tree")), access_times);
    let found = sh(
        outside.path(),
        &format!(
            "rsync -aHX -n -c --itemize-changes tree {}",
            mount.path().display()
        ),
    );
    assert_eq!(found, "", "rsync finds differences");
    mount.umount();
    // Nothing that was stored shows: neither content nor names.
    for file in files_below(&vault.path()) {
        let name = file
            .file_name()
            .expect("a file")
            .to_string_lossy()
            .into_owned();
        assert!(
            !name.contains("module_") && !name.contains("Arztebrief"),
            "{name}"
        );
    }
}

#[test]
fn a_tree_copied_with_cp_is_the_same_after_a_remount() {
    survives(AccessTimes::Compared, |source, mount| {
        run(command("cp").arg("-a").arg(source).arg(mount.path())).ok();
    });
}

#[test]
fn a_tree_copied_with_rsync_is_the_same_after_a_remount() {
    survives(AccessTimes::Ignored, |source, mount| {
        run(command("rsync")
            .args(["-aHAXS"])
            .arg(source)
            .arg(mount.path()))
        .ok();
    });
}

#[test]
fn a_tree_unpacked_by_tar_is_the_same_after_a_remount() {
    survives(AccessTimes::Ignored, |source, mount| {
        let outside = source.parent().expect("it has one");
        let pack = "tar --format=posix --xattrs --xattrs-include='*' -S -cf tree.tar tree";
        sh(outside, pack);
        let archive = outside.join("tree.tar");
        let unpack = "tar --xattrs --xattrs-include='*' --numeric-owner -p -S -xf";
        sh(mount.path(), &format!("{unpack} {}", archive.display()));
    });
}

#[test]
fn a_tree_moved_out_again_by_tar_is_the_same() {
    survives(AccessTimes::Ignored, |source, mount| {
        run(command("cp").arg("-a").arg(source).arg(mount.path())).ok();
        let back = TempDir::new();
        let tar = "tar --format=posix --xattrs --xattrs-include='*'";
        let (from, to) = (mount.path().display(), back.path().display());
        sh(
            Path::new("/"),
            &format!("{tar} -S -C {from} -cf - tree | {tar} --numeric-owner -p -C {to} -xf -"),
        );
        Snapshot::of(source)
            .assert_kept_in(&Snapshot::of(&back.join("tree")), AccessTimes::Ignored);
    });
}

#[test]
fn times_of_files_just_written_are_the_same_after_a_remount() {
    let vault = Vault::new();
    let mount = vault.mount();
    for n in 0..300 {
        let path = mount.join(format!("file {n}"));
        write(&path, "short");
        // Cut and written again within one tick of the kernel's clock, and so with the same time.
        write(&path, noise(n, 300 * n as usize));
    }
    let open = File::options()
        .append(true)
        .open(mount.join("file 7"))
        .expect("it is there");
    (&open).write_all(b"appended").expect("writable");
    open.sync_all().expect("writable");
    (&open).write_all(b"appended").expect("writable");
    drop(open);
    let before = Snapshot::of(mount.path());
    mount.umount();
    let mount = vault.mount();
    before.assert_kept_in(&Snapshot::of(mount.path()), AccessTimes::Ignored);
    mount.umount();
}
