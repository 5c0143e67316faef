//! Several users of one mount, made by root with `allow_other`.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::common::{Ran, Vault, run};
use crate::support::{command, is_root};

const ANNA: u32 = 61001;
const BEN: u32 = 61002;
const WARD: u32 = 61010;

/// A shell command line as a user; the group of the ward as a further one.
fn sh_as(user: u32, directory: &Path, line: &str) -> Ran {
    let mut command = command("setpriv");
    command.args([
        format!("--reuid={user}"),
        format!("--regid={user}"),
        format!("--groups={WARD}"),
    ]);
    run(command
        .args(["--inh-caps=-all", "--", "sh", "-euc", line])
        .current_dir(directory))
}

#[test]
fn two_users_share_a_mount_as_far_as_modes_let_them() {
    if !is_root("act as two users") {
        return;
    }
    let vault = Vault::new();
    let mount = vault.mount_with(&["-o", "allow_other"]);
    let root = mount.path();
    fs::set_permissions(root, fs::Permissions::from_mode(0o1777)).expect("ours");

    sh_as(
        ANNA,
        root,
        "umask 077; echo private > anna; mkdir hers; echo deep > hers/file",
    )
    .ok();
    sh_as(BEN, root, "umask 022; echo public > ben").ok();
    let owner = |name: &str| {
        fs::metadata(mount.join(name))
            .map(|m| (m.uid(), m.gid()))
            .expect("it is there")
    };
    assert_eq!(owner("anna"), (ANNA, ANNA));
    assert_eq!(owner("ben"), (BEN, BEN));

    assert_eq!(
        sh_as(ANNA, root, "cat anna ben hers/file").ok(),
        "private\npublic\ndeep\n"
    );
    for forbidden in [
        "cat anna",
        "ls hers",
        "cat hers/file",
        "echo x >> anna",
        "rm -f anna",
        "mv anna mine",
        "chmod 777 anna",
        "chown 61002 anna",
        "touch hers/new",
    ] {
        let ran = sh_as(BEN, root, forbidden);
        assert_ne!(ran.code, Some(0), "{forbidden}: {ran:?}");
        assert!(ran.stderr.contains("ermi"), "{forbidden}: {ran:?}");
    }

    // A directory of the ward: its group is inherited, its members work together.
    run(command("install")
        .args(["-d", "-m", "2770", "-g", &WARD.to_string()])
        .arg(mount.join("ward")))
    .ok();
    sh_as(
        ANNA,
        root,
        "umask 007; echo by anna > ward/list; mkdir ward/below",
    )
    .ok();
    sh_as(
        BEN,
        root,
        "echo by ben >> ward/list; echo new > ward/below/file",
    )
    .ok();
    assert_eq!(owner("ward/list"), (ANNA, WARD));
    assert_eq!(owner("ward/below/file"), (BEN, WARD));
    let ran = run(command("setpriv")
        .args([
            "--reuid=61003",
            "--regid=61003",
            "--clear-groups",
            "--",
            "cat",
        ])
        .arg(mount.join("ward/list")));
    assert_ne!(ran.code, Some(0), "{ran:?}");
    mount.umount();

    let mount = vault.mount_with(&["-o", "allow_other"]);
    assert_eq!(
        sh_as(BEN, mount.path(), "cat ward/list").ok(),
        "by anna\nby ben\n"
    );
    assert_ne!(sh_as(BEN, mount.path(), "cat anna").code, Some(0));
    mount.umount();
}

#[test]
fn without_allow_other_nobody_else_gets_in() {
    if !is_root("act as two users") {
        return;
    }
    let vault = Vault::new();
    let mount = vault.mount();
    fs::set_permissions(mount.path(), fs::Permissions::from_mode(0o777)).expect("ours");
    let ran = sh_as(
        ANNA,
        Path::new("/"),
        &format!("ls {}", mount.path().display()),
    );
    assert!(
        ran.code != Some(0) && ran.stderr.contains("ermi"),
        "{ran:?}"
    );
    mount.umount();
}

#[test]
fn a_lock_of_one_process_keeps_another_out() {
    if !is_root("act as two users") {
        return;
    }
    let vault = Vault::new();
    let mount = vault.mount_with(&["-o", "allow_other"]);
    fs::set_permissions(mount.path(), fs::Permissions::from_mode(0o1777)).expect("ours");
    let line = "exec 9> lock; chmod 666 lock; flock -n 9; setpriv --reuid=61002 flock -n lock true && exit 1; exec 9>&-; flock -n lock true";
    run(command("sh").args(["-uc", line]).current_dir(mount.path())).ok();
    mount.umount();
}

#[test]
fn both_users_at_once_lose_no_line_of_a_shared_file() {
    if !is_root("act as two users") {
        return;
    }
    let vault = Vault::new();
    let mount = vault.mount_with(&["-o", "allow_other"]);
    fs::set_permissions(mount.path(), fs::Permissions::from_mode(0o755)).expect("ours");
    let shared = mount.join("log");
    fs::write(&shared, "").expect("writable");
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o666)).expect("ours");
    let root = mount.path();
    std::thread::scope(|scope| {
        for user in [ANNA, BEN] {
            let line =
                format!("i=0; while [ $i -lt 400 ]; do echo {user} $i >> log; i=$((i+1)); done");
            scope.spawn(move || sh_as(user, root, &line).ok());
        }
    });
    mount.umount();
    let mount = vault.mount_with(&["-o", "allow_other"]);
    let log = fs::read_to_string(mount.join("log")).expect("text");
    for user in [ANNA, BEN] {
        let of_user = log
            .lines()
            .filter_map(|line| line.strip_prefix(&format!("{user} ")));
        let expected: Vec<String> = (0..400).map(|n| n.to_string()).collect();
        assert_eq!(of_user.collect::<Vec<_>>(), expected, "lines of {user}");
    }
    assert_eq!(log.lines().count(), 800);
    mount.umount();
}
