//! The daemon as a process: what it hides, and that its descriptors and its memory do not grow.

mod common;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::Path;
use std::process::Command;

use wardfs::crypto::DirId;
use wardfs::keys::secret::SlotSecret;
use wardfs::store::volume::Locked;
use wardfs::sys::secret::SecretVec;

use common::namespace::{User, in_own_namespace, open_fuse_to_users};
use common::{CHEAP_KDF, Mount, PASSPHRASE, TempDir, Vault, run, wait_until};

const MIB: u64 = 1 << 20;
/// What the daemon may take, whatever it serves.
const MEMORY_LIMIT: u64 = 150 * MIB;

/// A field of `/proc/PID/status` in bytes.
fn status(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status
        .lines()
        .find_map(|l| l.strip_prefix(field)?.strip_prefix(':'));
    let kib = line
        .and_then(|l| l.trim().strip_suffix(" kB"))
        .expect("a size");
    kib.trim().parse::<u64>().expect("a number") * 1024
}

/// Forgets the peak so far, for example of the key derivation.
fn reset_peak(pid: u32) {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("it is ours");
}

fn peak(pid: u32) -> u64 {
    status(pid, "VmHWM")
}

fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("it runs")
        .count()
}

#[test]
fn the_daemon_leaves_no_core_and_keeps_its_keys_in_locked_memory() {
    let vault = Vault::new();
    let mount = vault.mount();
    let limits = fs::read_to_string(format!("/proc/{}/limits", mount.pid())).expect("it runs");
    let core = limits
        .lines()
        .find(|l| l.starts_with("Max core file size"))
        .expect("it has one");
    let fields: Vec<&str> = core["Max core file size".len()..]
        .split_whitespace()
        .collect();
    assert_eq!(fields, ["0", "0", "bytes"]);
    assert!(status(mount.pid(), "VmLck") > 0);
    // Key memory is marked: dd is "do not dump", wf is "wipe on fork", lo is "locked".
    let maps = fs::read_to_string(format!("/proc/{}/smaps", mount.pid())).expect("it runs");
    let flags = maps.lines().filter_map(|l| l.strip_prefix("VmFlags:"));
    let secret = |flags: &str| {
        ["dd", "wf", "lo"]
            .iter()
            .all(|f| flags.split(' ').any(|g| g == *f))
    };
    assert!(
        flags.into_iter().any(secret),
        "no mapping is locked, not dumped and wiped on fork"
    );
    mount.umount();
}

/// Of a process that is not dumpable, what `/proc` shows belongs to root, and its user may not trace it.
#[test]
fn the_daemon_of_an_ordinary_user_is_closed_to_that_user() {
    let test = "the_daemon_of_an_ordinary_user_is_closed_to_that_user";
    in_own_namespace(test, || {
        let scratch = TempDir::new();
        open_fuse_to_users(&scratch);
        let user = User::new(&scratch);
        user.sh(&format!(
            "umask 077; mkdir mnt; printf %s '{PASSPHRASE}' > pw"
        ))
        .ok();
        let init = ["init", "vault", "--passphrase-file", "pw"];
        run(user.wardfs().args(init).args(CHEAP_KDF)).ok();
        run(user
            .wardfs()
            .args(["mount", "vault", "mnt", "--passphrase-file", "pw"]))
        .ok();
        let info = run(user.wardfs().args(["info", "vault", "--json"])).ok();
        let info: serde_json::Value = serde_json::from_str(&info).expect("JSON");
        let pid = info["mounted"]["pid"].as_u64().expect("it is mounted");
        let owner = |file: &str| {
            fs::metadata(format!("/proc/{pid}/{file}"))
                .expect("it runs")
                .uid()
        };
        let refused = user
            .sh(&format!("cat /proc/{pid}/environ /proc/{pid}/mem"))
            .code;
        let unmounted = run(user.wardfs().args(["umount", "mnt"])).code;
        run(Command::new("umount").arg("/dev/fuse"));
        assert_eq!(owner("mem"), 0);
        assert_eq!(refused, Some(1));
        assert_eq!(unmounted, Some(0));
    });
}

/// Everything that opens something, and everything that fails after it has.
fn exercise(mount: &Mount<'_>, damaged: &Path) {
    for i in 0..50 {
        let dir = mount.join(format!("dir-{i}"));
        fs::create_dir(&dir).expect("made");
        let file = dir.join("file");
        fs::write(&file, "some content").expect("written");
        fs::write(dir.join("n".repeat(250)), "long").expect("written");
        fs::hard_link(&file, dir.join("link")).expect("linked");
        symlink("target", dir.join("symlink")).expect("made");
        symlink("t/".repeat(2000), dir.join("far")).expect("made");
        rustix::fs::setxattr(&file, "user.a", b"1", rustix::fs::XattrFlags::empty()).expect("set");
        rustix::fs::setxattr(&dir, "user.a", b"1", rustix::fs::XattrFlags::empty()).expect("set");
        fs::read_link(dir.join("far")).expect("a link");
        assert_eq!(fs::read_dir(&dir).expect("a directory").count(), 5);
        assert!(File::open(dir.join("missing")).is_err());
        assert!(fs::create_dir(&file).is_err());
        assert!(
            File::options()
                .write(true)
                .create_new(true)
                .open(&file)
                .is_err()
        );
        assert!(fs::remove_dir(&dir).is_err());
        assert!(fs::hard_link(&file, dir.join("link")).is_err());
        assert!(fs::rename(&dir, dir.join("below")).is_err());
        assert!(fs::read(damaged).is_err());
        assert!(
            fs::write(damaged, "x")
                .and_then(|()| File::open(damaged)?.sync_all())
                .is_err()
        );
        let open = File::open(&file).expect("opens");
        fs::remove_file(&file).expect("removed");
        assert_eq!(open.metadata().expect("open").nlink(), 1);
        drop(open);
        fs::remove_dir_all(&dir).expect("removed");
    }
}

#[test]
fn descriptors_do_not_leak_in_success_or_failure() {
    let vault = Vault::new();
    let mount = vault.mount();
    fs::write(mount.join("damaged"), vec![1; 5000]).expect("written");
    let ino = fs::metadata(mount.join("damaged"))
        .expect("it exists")
        .ino();
    mount.umount();
    for entry in fs::read_dir(vault.path()).expect("a directory").flatten() {
        if entry.metadata().expect("it exists").ino() == ino {
            let file = File::options()
                .write(true)
                .open(entry.path())
                .expect("stored");
            file.set_len(0).expect("cut");
        }
    }
    let mount = vault.mount();
    let damaged = mount.join("damaged");
    exercise(&mount, &damaged);
    // A file is closed a moment after its last user: the counts are taken when they have settled.
    let settled = || {
        let mut last = usize::MAX;
        wait_until("descriptors settle", || {
            let now = descriptors(mount.pid());
            std::mem::replace(&mut last, now) == now
        });
        last
    };
    let after_one = settled();
    for _ in 0..3 {
        exercise(&mount, &damaged);
    }
    let after_four = settled();
    assert!(
        after_four <= after_one + 2,
        "{after_one} descriptors became {after_four}"
    );
    mount.umount();
}

#[test]
fn few_descriptors_are_enough_for_many_directories() {
    let vault = Vault::new();
    let limited = run(Command::new("prlimit")
        .arg("--nofile=200:200")
        .arg(env!("CARGO_BIN_EXE_wardfs"))
        .args(["mount"])
        .args([vault.path(), vault.mountpoint()])
        .arg("--passphrase-file")
        .arg(vault.passphrase_file()));
    assert_eq!(limited.code, Some(0), "{limited:?}");
    let mount = Mount::adopt(&vault, vault.mountpoint());
    for i in 0..1000 {
        let dir = mount.join(format!("{}/{}/{i}", i % 10, i % 100));
        fs::create_dir_all(&dir).expect("made");
        fs::write(dir.join("file"), format!("{i}")).expect("written");
    }
    for i in 0..1000 {
        let path = mount.join(format!("{}/{}/{i}/file", i % 10, i % 100));
        assert_eq!(fs::read_to_string(path).expect("readable"), format!("{i}"));
    }
    assert!(descriptors(mount.pid()) < 200);
    mount.umount();
}

#[test]
fn memory_does_not_grow_with_the_size_of_files() {
    let vault = Vault::new();
    let mount = vault.mount();
    reset_peak(mount.pid());
    let block = vec![0x5a; MIB as usize];
    let mut file = File::create(mount.join("large")).expect("made");
    for _ in 0..256 {
        file.write_all(&block).expect("written");
    }
    file.sync_all().expect("synced");
    drop(file);
    // 1 TiB, with data in a thousand places.
    let sparse = File::create(mount.join("sparse")).expect("made");
    sparse.set_len(1 << 40).expect("sized");
    for i in 0..1000 {
        sparse.write_all_at(b"data", i << 30).expect("written");
    }
    sparse.sync_all().expect("synced");
    drop(sparse);
    mount.umount();
    let mount = vault.mount();
    reset_peak(mount.pid());
    let mut file = File::open(mount.join("large")).expect("opens");
    let mut read = vec![0; MIB as usize];
    for _ in 0..256 {
        file.read_exact(&mut read).expect("readable");
        assert!(read == block);
    }
    let sparse = File::open(mount.join("sparse")).expect("opens");
    for i in 0..1000 {
        sparse.read_exact_at(&mut read, i << 30).expect("readable");
        assert!(read.starts_with(b"data\0"));
    }
    drop((file, sparse));
    let peak = peak(mount.pid());
    assert!(peak < MEMORY_LIMIT, "{} MiB", peak / MIB);
    mount.umount();
}

/// A million entries that the kernel knows must fit the limit. Making and looking up that many takes minutes, and the
/// daemon keeps the same for each, so as a rule fewer are tried against their share of the limit.
/// `WARDFS_TEST_ENTRIES=1000000` tries them all.
#[test]
fn memory_for_a_million_known_entries_is_within_the_limit() {
    const ALL: u64 = 1_000_000;
    let entries = std::env::var("WARDFS_TEST_ENTRIES");
    let entries: u64 = entries.map_or(200_000, |n| n.parse().expect("a number"));
    let vault = Vault::new();
    let mount = vault.mount();
    fs::create_dir(mount.join("dir")).expect("made");
    fs::write(mount.join("dir/first"), "").expect("written");
    let ino = fs::metadata(mount.join("dir")).expect("it exists").ino();
    mount.umount();
    let dir = fs::read_dir(vault.path()).expect("a directory").flatten();
    let dir = dir
        .map(|e| e.path())
        .find(|p| fs::metadata(p).expect("it exists").ino() == ino);
    make_entries(&vault, &dir.expect("it is stored"), entries);

    let mount = vault.mount();
    reset_peak(mount.pid());
    let before = peak(mount.pid());
    for i in 0..entries {
        // Only what was looked up is known; the stored file is empty, which matters to readers alone.
        fs::symlink_metadata(mount.join(format!("dir/scan-{i:07}.dcm"))).expect("it exists");
    }
    let grown = peak(mount.pid()) - before;
    let share = (MEMORY_LIMIT - before) * entries / ALL;
    eprintln!(
        "{entries} entries: {before} bytes before, {} per entry",
        grown / entries
    );
    assert!(
        grown <= share,
        "{grown} bytes for {entries} entries, of {share}"
    );
    mount.umount();
}

/// Makes empty files with sealed names in the vault's directory `dir`, without the daemon: that takes too long.
fn make_entries(vault: &Vault, dir: &Path, entries: u64) {
    let secret =
        SlotSecret::new(Some(SecretVec::from(PASSPHRASE.as_bytes())), None).expect("a secret");
    let locked = Locked::open(&vault.path()).expect("a vault");
    let (_, keys) = locked.unlock(&secret).expect("the passphrase");
    let record = fs::read(dir.join("~id")).expect("it has entries");
    let id: DirId = keys.names().parse_dir_record(&record).expect("its id");
    let handle = File::open(dir).expect("a directory");
    for i in 0..entries {
        let name = keys
            .names()
            .seal(&id, format!("scan-{i:07}.dcm").as_bytes());
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        let kind = rustix::fs::FileType::RegularFile;
        rustix::fs::mknodat(&handle, name.entry, kind, mode, 0).expect("made");
    }
}
