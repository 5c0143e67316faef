//! `rotate --names`: every stored name, link target and attribute is another one afterwards, and nothing else changes,
//! however often it is killed on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{XattrFlags, lgetxattr, setxattr};
use wardfs::names::{NameKeys, Stored, classify};

use crate::common::namespace::{User, in_own_namespace, open_fuse_to_users};
use crate::common::{CHEAP_KDF, Mount, PASSPHRASE, Ran, TempDir, Vault, run, wardfs};
use crate::lab::{
    Seen, Times, close, is_clean, keyring, rotate, rotated, see, with_tree, without_link_numbers,
};

fn names(vault: &Vault) -> Command {
    let mut command = rotate(vault);
    command.arg("--names");
    command
}

fn set(path: &Path, name: &str, value: &[u8]) {
    setxattr(path, name, value, XattrFlags::empty()).expect("set");
}

fn get(path: &Path, name: &str) -> Vec<u8> {
    let mut value = vec![0; 65536];
    let len = lgetxattr(path, name, &mut value[..]).expect("there");
    value.truncate(len);
    value
}

/// Everything that the keys of names seal, small.
fn make_names(root: &Path) {
    let deep = root.join("a directory").join("d".repeat(200));
    fs::create_dir_all(&deep).expect("made");
    fs::write(deep.join("file"), b"content").expect("written");
    fs::write(deep.join("l".repeat(255)), b"long").expect("written");
    fs::hard_link(deep.join("file"), root.join("n".repeat(180))).expect("linked");
    symlink("../target", root.join("near")).expect("linked");
    fs::hard_link(root.join("near"), deep.join("near too")).expect("linked");
    symlink("t".repeat(4000), root.join("far")).expect("linked");
    fs::create_dir(root.join("empty")).expect("made");
    for (name, value) in [("user.a", &b"value"[..]), ("user.b", &[7; 3000])] {
        set(&deep.join("file"), name, value);
        set(&root.join("a directory"), name, value);
    }
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .expect("made");
    for dir in [deep.as_path(), root, &root.join("empty")] {
        run(Command::new("touch")
            .args(["-m", "-d", "2001-02-03 04:05:06.789"])
            .arg(dir))
        .ok();
    }
    fs::set_permissions(&deep, fs::Permissions::from_mode(0o500)).expect("set");
}

fn has_attributes(mount: &Mount<'_>) {
    let deep = mount.join("a directory").join("d".repeat(200));
    for path in [deep.join("file"), mount.join("a directory")] {
        assert_eq!(get(&path, "user.a"), b"value");
        assert_eq!(get(&path, "user.b"), vec![7; 3000]);
    }
}

fn small() -> (Vault, BTreeMap<PathBuf, Seen>) {
    let vault = Vault::new();
    let mount = vault.mount();
    make_names(mount.path());
    close(mount);
    let seen = seen(&vault);
    (vault, seen)
}

#[track_caller]
fn seen(vault: &Vault) -> BTreeMap<PathBuf, Seen> {
    let mount = vault.mount();
    let seen = see(mount.path(), Times::Compare);
    close(mount);
    without_link_numbers(seen)
}

/// All that is stored under keys of names: entries, ids, targets, attributes, the files of long names.
fn stored(vault: &Vault) -> BTreeSet<Vec<u8>> {
    let mut all = BTreeSet::new();
    let mut dirs = vec![vault.path(), vault.path().join("~wardfs/targets")];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).expect("a directory") {
            let path = entry.expect("readable").path();
            let name = path.file_name().expect("a name").as_bytes().to_vec();
            let is_target = dir.ends_with("targets");
            match classify(&name) {
                Stored::VaultDir => continue,
                Stored::DirIdFile | Stored::Sidecar => {
                    all.insert(fs::read(&path).expect("readable"));
                }
                _ if is_target => {
                    all.insert(fs::read(&path).expect("readable"));
                    continue;
                }
                _ => {}
            }
            if name != b"~id" {
                all.insert(name);
            }
            let meta = fs::symlink_metadata(&path).expect("there");
            if meta.is_symlink() {
                let target = fs::read_link(&path).expect("a link");
                if !target.as_os_str().as_bytes().starts_with(b"~T") {
                    all.insert(target.as_os_str().as_bytes().to_vec());
                }
                continue;
            }
            let mut list = vec![0; 4096];
            let len = rustix::fs::llistxattr(&path, &mut list[..]).expect("listed");
            for name in list[..len]
                .split(|b| *b == 0)
                .filter(|n| n.starts_with(b"user."))
            {
                let name = String::from_utf8_lossy(name).into_owned();
                all.insert(get(&path, &name));
                all.insert(name.into_bytes());
            }
            if meta.is_dir() {
                dirs.push(path);
            }
        }
    }
    all
}

#[track_caller]
fn summary(ran: Ran) -> serde_json::Value {
    let said = ran.ok();
    serde_json::from_str(said.lines().last().expect("a summary")).expect("JSON")
}

#[test]
fn everything_that_is_stored_under_keys_of_names_is_another_one_and_nothing_else_changes() {
    let (vault, before) = small();
    let old = stored(&vault);
    assert!(old.len() > 25, "{}", old.len());
    let said = run(&mut names(&vault));
    assert!(
        said.stderr.contains("cannot read the names any more"),
        "{said:?}"
    );
    assert!(said.ok().contains("the old key of names is destroyed"));
    let new = stored(&vault);
    assert_eq!(new.len(), old.len());
    let both: Vec<_> = old.intersection(&new).collect();
    assert!(both.is_empty(), "{both:?}");
    assert_eq!(
        fs::read_dir(vault.path().join("~wardfs/tmp"))
            .expect("there")
            .count(),
        0
    );
    is_clean(&vault);
    assert_eq!(seen(&vault), before);
    let mount = vault.mount();
    has_attributes(&mount);
    close(mount);
}

#[test]
fn a_large_tree_and_all_rotations_one_after_the_other() {
    let (vault, before) = with_tree(&[]);
    let before = without_link_numbers(before);
    for _ in 0..2 {
        run(&mut names(&vault)).ok();
        assert_eq!(seen(&vault), before);
        rotated(&vault);
        run(rotate(&vault).arg("--volume-key")).ok();
    }
    is_clean(&vault);
    assert_eq!(seen(&vault), before);
}

/// Each of these calls that the rotation makes, at which it is killed before it takes effect.
#[test]
fn killed_at_any_call_it_goes_on_when_it_is_started_again() {
    let (vault, before) = small();
    let trace = vault.dir().join("trace");
    const CALLS: [&str; 9] = [
        "renameat",
        "renameat2",
        "unlinkat",
        "linkat",
        "symlinkat",
        "setxattr",
        "fsetxattr",
        "fchmod",
        "utimensat",
    ];
    let go = |vault: &Vault, inject: Option<String>| {
        let mut command = Command::new("strace");
        command.args(["--quiet=all", "-f", &format!("--trace={}", CALLS.join(","))]);
        command.arg("--output").arg(&trace);
        command.args(inject.map(|at| format!("--inject={at}")));
        let names = names(vault);
        run(command
            .arg("--")
            .arg(names.get_program())
            .args(names.get_args()))
    };
    go(&Vault::copy_of(&vault.path(), PASSPHRASE), None).ok();
    let calls = fs::read_to_string(&trace).expect("strace wrote it");
    let mut refused = 0;
    for call in CALLS {
        let times = calls
            .lines()
            .filter(|l| l.contains(&format!(" {call}(")))
            .count();
        // Every call of a kind that is rare, and some of those that are many.
        for when in (1..=times).step_by(1 + times / 12) {
            let victim = Vault::copy_of(&vault.path(), PASSPHRASE);
            // A copy has other inode numbers, and no times of its own were lost.
            let inject = format!("{call}:signal=KILL:error=EIO:when={when}");
            assert_ne!(go(&victim, Some(inject)).code, Some(0), "{call} {when}");
            let mut mount = victim.mount_command();
            match run(&mut mount) {
                ran if ran.code == Some(30) => {
                    assert!(ran.stderr.contains("wardfs rotate --names"), "{ran:?}");
                    refused += 1;
                }
                ran => {
                    ran.ok();
                    close(Mount::adopt(&victim, victim.mountpoint()));
                }
            }
            run(&mut names(&victim)).ok();
            let content = |seen: BTreeMap<PathBuf, Seen>| -> Vec<_> {
                seen.into_iter()
                    .map(|(path, seen)| (path, seen.comparable()))
                    .collect()
            };
            assert_eq!(
                content(seen(&victim)),
                content(before.clone()),
                "{call} {when}"
            );
            let mount = victim.mount();
            has_attributes(&mount);
            let links = |name: &str| {
                use std::os::unix::fs::MetadataExt;
                fs::symlink_metadata(mount.join(name))
                    .expect("there")
                    .nlink()
            };
            assert_eq!(links("near"), 2, "{call} {when}");
            close(mount);
            is_clean(&victim);
        }
    }
    assert!(refused > 20, "{refused}: {calls}");
}

#[test]
fn killed_again_and_again_it_ends_whole() {
    let (vault, before) = with_tree(&[]);
    let before = without_link_numbers(before);
    let mut killed = 0;
    for when in [3, 20, 40, 50] {
        let mut command = Command::new("strace");
        let names = names(&vault);
        command.args([
            "--quiet=all",
            "-f",
            "--trace=renameat,renameat2",
            "--output=/dev/null",
        ]);
        command.arg(format!(
            "--inject=renameat,renameat2:signal=KILL:when={when}"
        ));
        let ran = run(command
            .arg("--")
            .arg(names.get_program())
            .args(names.get_args()));
        killed += i32::from(ran.code != Some(0));
    }
    assert!(killed >= 2, "{killed}");
    let said = run(&mut names(&vault)).ok();
    assert!(said.contains("since an earlier run"), "{said}");
    is_clean(&vault);
    assert_eq!(seen(&vault), before);
}

#[test]
fn as_long_as_it_is_under_way_nothing_else_touches_the_vault() {
    let (vault, _) = small();
    let mut command = Command::new("strace");
    let names_command = names(&vault);
    command.args([
        "--quiet=all",
        "-f",
        "--trace=renameat,renameat2",
        "--output=/dev/null",
    ]);
    command.arg("--inject=renameat,renameat2:signal=KILL:when=12");
    run(command
        .arg("--")
        .arg(names_command.get_program())
        .args(names_command.get_args()));
    let refused = |command: &mut Command| {
        let ran = run(command);
        assert_eq!(ran.code, Some(30), "{ran:?}");
        assert!(ran.stderr.contains("wardfs rotate --names"), "{ran:?}");
    };
    refused(&mut vault.mount_command());
    refused(&mut rotate(&vault));
    refused(rotate(&vault).arg("--volume-key"));
    let mut check = wardfs();
    check
        .arg("check")
        .arg(vault.path())
        .arg("--passphrase-file");
    refused(check.arg(vault.passphrase_file()));
    // Secrets are changed as always.
    let new = vault.dir().file("new", "new one");
    let mut change = wardfs();
    change
        .arg("passwd")
        .arg(vault.path())
        .args(crate::common::CHEAP_KDF);
    change.arg("--passphrase-file").arg(vault.passphrase_file());
    run(change.arg("--new-passphrase-file").arg(&new)).ok();
    fs::copy(&new, vault.passphrase_file()).expect("copied");
    assert_eq!(
        summary(run(names(&vault).arg("--json")))["old_keys_destroyed"],
        1
    );
}

#[test]
fn what_is_damaged_is_named_before_anything_changes_and_passed_over_with_force() {
    let (vault, _) = small();
    let (_, keys) = keyring(&vault);
    let entry = |name: &[u8]| vault.path().join(stored_name(keys.names(), &vault, name));
    let (file, bad) = (entry(b"fifo"), vault.path().join("A".repeat(43)));
    fs::rename(file, &bad).expect("renamed");
    let header = fs::read(vault.path().join("~wardfs/volume")).expect("there");
    let before = stored(&vault);
    let ran = run(&mut names(&vault));
    assert_eq!(ran.code, Some(27), "{ran:?}");
    assert!(ran.stdout.contains("does not authenticate"), "{ran:?}");
    assert!(ran.stderr.contains("--force passes over"), "{ran:?}");
    assert_eq!(
        fs::read(vault.path().join("~wardfs/volume")).expect("there"),
        header
    );
    assert_eq!(stored(&vault), before);
    let ran = run(names(&vault).arg("--force"));
    assert_eq!(ran.code, Some(27), "{ran:?}");
    assert!(
        ran.stdout.contains("the old key of names is destroyed"),
        "{ran:?}"
    );
    let mount = vault.mount();
    has_attributes(&mount);
    assert!(fs::symlink_metadata(mount.join("fifo")).is_err());
    close(mount);
}

fn stored_name(keys: &NameKeys, vault: &Vault, name: &[u8]) -> String {
    let record = fs::read(vault.path().join("~id")).expect("there");
    let id = keys.parse_dir_record(&record).expect("the root's");
    String::from_utf8(keys.seal(&id, name).entry).expect("ASCII")
}

#[test]
fn a_header_from_before_is_not_put_back() {
    let (vault, _) = small();
    let old = vault.dir().join("old");
    let mut backup = wardfs();
    run(backup
        .args(["header", "backup"])
        .arg(vault.path())
        .arg(&old))
    .ok();
    run(&mut names(&vault)).ok();
    let mut restore = wardfs();
    restore
        .args(["header", "restore", "--yes"])
        .arg(vault.path())
        .arg(&old);
    run(restore
        .arg("--passphrase-file")
        .arg(vault.passphrase_file()))
    .refused(23, &["from before its names were encrypted anew"]);
}

#[test]
fn json_and_what_is_refused() {
    let (vault, _) = small();
    let mount = vault.mount();
    run(&mut names(&vault)).refused(10, &["already mounted at"]);
    close(mount);
    run(names(&vault).args(["--rate", "5"])).refused(2, &["--rate"]);
    run(names(&vault).arg("--volume-key")).refused(2, &["--volume-key"]);
    let said = summary(run(names(&vault).arg("--json")));
    assert_eq!(said["summary"], "complete");
    assert_eq!(
        (&said["passed_over"], &said["old_keys_destroyed"]),
        (&0.into(), &1.into())
    );
    assert_eq!(said["names"], said["reencrypted_names"]);
}

/// The vault of an ordinary user, with `vault` and `mnt` in his home.
struct His {
    user: User,
    scratch: TempDir,
}

impl His {
    fn new() -> Self {
        let scratch = TempDir::new();
        open_fuse_to_users(&scratch);
        let user = User::new(&scratch);
        let his = Self { user, scratch };
        his.sh(&format!(
            "umask 077; mkdir mnt; printf '%s' '{PASSPHRASE}' > passphrase"
        ));
        let mut init = his.wardfs(&["init"]);
        run(init.args(CHEAP_KDF)).ok();
        his
    }

    /// The program with the vault and its passphrase.
    fn wardfs(&self, verb: &[&str]) -> Command {
        let mut command = self.user.wardfs();
        command
            .args(verb)
            .args(["vault", "--passphrase-file", "passphrase"]);
        command
    }

    #[track_caller]
    fn sh(&self, line: &str) -> String {
        self.user.sh(line).ok()
    }

    /// Runs a shell command line in his mount.
    #[track_caller]
    fn mounted(&self, line: &str) -> String {
        let mut mount = self.wardfs(&["mount"]);
        run(mount.arg("mnt")).ok();
        let said = self.user.sh(&format!("cd mnt && {line}"));
        run(self.user.wardfs().args(["umount", "mnt"])).ok();
        said.ok()
    }

    #[track_caller]
    fn check(&self) {
        let said = run(&mut self.wardfs(&["check"])).ok();
        assert!(said.contains("The vault is clean"), "{said}");
    }
}

impl Drop for His {
    fn drop(&mut self) {
        if crate::common::is_mounted(&self.scratch.join("home/mnt")) {
            run(self.user.wardfs().args(["umount", "--lazy", "mnt"]));
        }
    }
}

/// Names, modes, times and numbers of links; what is in links and attributes, of what he may read.
const LOOK: &str = "find . -printf '%p %y %m %n %T@ %l\\n' | sort; getfattr -R -d -h -m - . | sort";

/// Files and directories that their modes close to their owner for writing, each with an attribute.
const CLOSED: &str = "umask 022; mkdir -p d555/nested d500 && for f in f444 f400 d555/f444 d555/nested/f400 d500/f555; do \
    echo content > $f && setfattr -n user.note -v value $f && chmod ${f##*f} $f && touch -d 2001-02-03 $f; done && \
    ln f444 d555/again && ln -s target d500/link && \
    for d in d555/nested d555 d500; do setfattr -n user.note -v dir $d && touch -d 2002-03-04 $d; done && \
    chmod 555 d555/nested d555 && chmod 500 d500 && touch -d 2003-04-05 .";

#[test]
fn an_ordinary_user_encrypts_anew_what_he_has_closed_to_himself() {
    let test = "names::an_ordinary_user_encrypts_anew_what_he_has_closed_to_himself";
    in_own_namespace(test, || {
        let his = His::new();
        his.mounted(CLOSED);
        // He may not even read these.
        his.mounted(
            "mkdir d000 d300 && for f in f000 f200 d000/f000 d300/f200; do echo content > $f && \
             setfattr -n user.note -v value $f && chmod ${f##*f} $f; done && \
             setfattr -n user.note -v dir d000 d300 && ln -s target d000/link && chmod 000 d000 && chmod 300 d300",
        );
        let look = format!("({LOOK}) 2>/dev/null");
        let before = his.mounted(&look);
        assert!(before.contains("./d555/again f 444 2 981"), "{before}");
        run(&mut his.wardfs(&["rotate", "--names"])).ok();
        his.check();
        assert_eq!(his.mounted(&look), before);
        let open = "chmod 700 d000 d300 && chmod 600 f000 f200 d000/f000 d300/f200 && \
            getfattr --only-values -n user.note f000 f200 d000/f000 d300/f200 d000 d300 && \
            readlink d000/link && cat f000 f200 d000/f000 d300/f200";
        let said = his.mounted(open);
        assert_eq!(
            said,
            format!(
                "valuevaluevaluevaluedirdirtarget\n{}",
                "content\n".repeat(4)
            )
        );
    });
}

#[test]
fn killed_while_a_file_is_writable_for_a_moment_it_gives_the_mode_back() {
    let test = "names::killed_while_a_file_is_writable_for_a_moment_it_gives_the_mode_back";
    in_own_namespace(test, || {
        let his = His::new();
        his.mounted(CLOSED);
        let before = his.mounted(LOOK);
        his.sh("cp -a vault first");
        let mut killed = 0;
        for when in 1..100 {
            his.sh("chmod -R u+rwx vault && rm -r vault && cp -a first vault");
            let mut command = his.user.command("strace");
            let names = his.wardfs(&["rotate", "--names"]);
            let inject = "chmod,fchmod,fchmodat:signal=KILL:error=EIO";
            command.args(["--quiet=all", "-f", "--trace=chmod,fchmod,fchmodat"]);
            command.args([
                "--output=/dev/null",
                &format!("--inject={inject}:when={when}"),
            ]);
            // The program as the user runs it, behind setpriv.
            let program = his.scratch.join("wardfs");
            let arguments = names.get_args().skip_while(|a| *a != "rotate");
            let ran = run(command.arg("--").arg(program).args(arguments));
            if ran.code == Some(0) {
                break;
            }
            killed += 1;
            run(&mut his.wardfs(&["rotate", "--names"])).ok();
            assert_eq!(his.mounted(LOOK), before, "{when}");
        }
        assert!(killed >= 10, "{killed}");
        his.check();
    });
}

/// A vault on an ext4 of its own, unmounted when dropped.
struct OnSmallDisk {
    vault: Vault,
}

impl OnSmallDisk {
    fn new(mebibytes: u64) -> Self {
        let vault = Vault::unmade(PASSPHRASE);
        let image = vault.dir().join("disk.img");
        let file = fs::File::create(&image).expect("there is room");
        file.set_len(mebibytes << 20).expect("a sparse file");
        let mut mkfs = Command::new("mkfs.ext4");
        mkfs.args(["-q", "-m", "0", "-b", "4096", "-I", "256"]);
        run(mkfs.args(["-O", "^ea_inode,^has_journal"]).arg(&image)).ok();
        let disk = vault.dir().dir("disk");
        let mut mount = Command::new("mount");
        run(mount.args(["-o", "loop"]).arg(&image).arg(&disk)).ok();
        fs::create_dir(disk.join("vault")).expect("there is room");
        symlink(disk.join("vault"), vault.path()).expect("the name is free");
        vault.init(&[]);
        Self { vault }
    }

    fn join(&self, name: &str) -> PathBuf {
        self.vault.dir().join("disk").join(name)
    }
}

impl Drop for OnSmallDisk {
    fn drop(&mut self) {
        run(Command::new("umount").arg(self.join("")));
    }
}

/// Values of which an inode of this filesystem has room for one, in its only block.
#[test]
fn attributes_without_room_for_two_are_kept_aside() {
    let disk = OnSmallDisk::new(24);
    let vault = &disk.vault;
    let mount = vault.mount();
    let objects = ["file", "dir", "read only"];
    fs::create_dir(mount.join("dir")).expect("made");
    for (number, name) in (0..).zip(objects) {
        if name != "dir" {
            fs::write(mount.join(name), b"content").expect("written");
        }
        set(&mount.join(name), "user.large", &[number; 3500]);
        set(&mount.join(name), "user.small", b"value");
    }
    fs::set_permissions(mount.join("read only"), fs::Permissions::from_mode(0o444)).expect("set");
    close(mount);
    let has_all = || {
        let mount = vault.mount();
        for (number, name) in (0..).zip(objects) {
            assert_eq!(get(&mount.join(name), "user.large"), [number; 3500]);
            assert_eq!(get(&mount.join(name), "user.small"), b"value");
        }
        close(mount);
    };
    let calls = "setxattr,fsetxattr,removexattr,fremovexattr";
    let tmp = disk.join("vault/~wardfs/tmp");
    let (mut died, mut aside) = (0, 0);
    for when in 1..100 {
        let mut command = Command::new("strace");
        let rotate = names(vault);
        command.args(["--quiet=all", "-f", "--output=/dev/null"]);
        command.arg(format!("--trace={calls}"));
        command.arg(format!(
            "--inject={calls}:signal=KILL:error=EIO:when={when}"
        ));
        let ran = run(command
            .arg("--")
            .arg(rotate.get_program())
            .args(rotate.get_args()));
        if ran.code == Some(0) {
            break;
        }
        died += 1;
        let left = fs::read_dir(&tmp).expect("there");
        let left = left.filter(|entry| {
            let name = entry.as_ref().expect("readable").file_name();
            name.as_bytes().starts_with(b"names-attributes-")
        });
        aside += left.count();
        run(&mut names(vault)).ok();
        has_all();
    }
    assert!(died >= 6, "{died}");
    assert!(aside >= 2, "{aside} of {died}");
    is_clean(vault);
}

/// With so many free blocks and no more.
#[test]
fn on_a_full_disk_it_says_where_it_stopped_and_goes_on_when_there_is_room() {
    let disk = OnSmallDisk::new(24);
    let vault = &disk.vault;
    let mount = vault.mount();
    make_names(mount.path());
    close(mount);
    let before = seen(vault);
    let filler = disk.join("filler");
    let mut stuck = 0;
    let mut found = Vec::new();
    for blocks in (0..30).step_by(2) {
        let mut size = 24 << 20;
        let mut length = 0;
        while size >= 4096 {
            let mut fill = Command::new("fallocate");
            fill.args(["-o", &length.to_string(), "-l", &size.to_string()]);
            match run(fill.arg(&filler)).code {
                Some(0) => length += size,
                _ => size /= 2,
            }
        }
        let file = fs::OpenOptions::new().write(true).open(&filler);
        let file = file.expect("made");
        file.set_len(length - blocks * 4096).expect("shorter");
        file.sync_all().expect("synced");
        drop(file);
        let ran = run(&mut names(vault));
        found.push((blocks, ran.code, ran.stderr.clone()));
        match ran.code {
            Some(0) => {}
            Some(30) => {
                assert!(ran.stderr.contains("No space left"), "{ran:?}");
                assert!(ran.stderr.contains("Make room"), "{ran:?}");
                stuck += i32::from(ran.stderr.contains(" was interrupted at "));
            }
            // The header could not be written.
            code => assert_eq!(code, Some(1), "{ran:?}"),
        }
        fs::remove_file(&filler).expect("made");
        if ran.code != Some(0) {
            run(&mut names(vault)).ok();
        }
        assert_eq!(seen(vault), before, "{blocks}");
    }
    assert!(stuck > 0, "{found:#?}");
    let mount = vault.mount();
    has_attributes(&mount);
    close(mount);
    is_clean(vault);
}
