//! mount and umount as root: the happy path, every refusal, signals, and what the daemon is like.

mod common;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use common::{Background, Mount, Vault, is_mounted, run, runs, wait_until, wardfs};
use wardfs::sys::mount::mounts;

fn entry(mount: &Mount<'_>) -> wardfs::sys::mount::MountEntry {
    mounts()
        .expect("procfs")
        .into_iter()
        .find(|m| m.mountpoint == mount.path())
        .expect("it is mounted")
}

fn umount(mount: &Mount<'_>, arguments: &[&str]) -> common::Ran {
    run(wardfs().arg("umount").args(arguments).arg(mount.path()))
}

#[test]
fn a_mount_is_usable_when_the_command_returns_and_complete_when_umount_does() {
    let vault = Vault::new();
    let mount = vault.mount();
    fs::write(mount.join("file"), "content").expect("usable");
    let pid = mount.pid();
    mount.umount();
    assert!(!runs(pid), "the daemon has ended");
    assert!(!vault.mountpoint().join("file").exists());
    let again = vault.mount();
    assert_eq!(
        fs::read_to_string(again.join("file")).expect("it is there"),
        "content"
    );
    again.umount();
}

#[test]
fn the_daemon_keeps_no_descriptor_of_the_process_that_started_it() {
    let vault = Vault::new();
    let passed_on = vault.dir().join("passed on");
    let typed = vault.mount_command();
    let mut shell = Command::new("sh");
    shell
        .arg("-c")
        .arg("exec 9>\"$1\"; shift; exec \"$@\"")
        .arg("sh");
    shell
        .arg(&passed_on)
        .arg(typed.get_program())
        .args(typed.get_args());
    run(&mut shell).ok();
    let mount = Mount::adopt(&vault, vault.mountpoint().to_owned());
    assert!(passed_on.exists(), "it was open in the shell");
    for entry in fs::read_dir(format!("/proc/{}/fd", mount.pid())).expect("it runs") {
        let target = fs::read_link(entry.expect("readable").path());
        assert_ne!(target.ok().as_deref(), Some(passed_on.as_path()));
    }
    mount.umount();
}

#[test]
fn the_mount_table_shows_type_and_vault_and_safe_defaults() {
    let vault = Vault::new();
    let mount = vault.mount();
    let entry = entry(&mount);
    assert_eq!(entry.fs_type, "fuse.wardfs");
    assert_eq!(entry.source, vault.path());
    assert!(
        entry.options.contains("nosuid") && entry.options.contains("nodev"),
        "{}",
        entry.options
    );
    // Tests run as root, whom no mode stops.
    assert!(
        !entry.super_options.contains("default_permissions"),
        "{}",
        entry.super_options
    );
    assert!(
        !entry.super_options.contains("allow_other"),
        "{}",
        entry.super_options
    );
    mount.umount();
}

#[test]
fn mount_options_reach_the_kernel() {
    let vault = Vault::new();
    let options =
        "ro,noexec,noatime,allow_other,dev,suid,fsname=ct\\,scans,nofail,x-systemd.automount";
    let mount = vault.mount_with(&["-o", options, "-o", "threads=1"]);
    let entry = entry(&mount);
    for word in ["ro", "noexec", "noatime"] {
        assert!(
            entry.options.split(',').any(|o| o == word),
            "{word} in {}",
            entry.options
        );
    }
    assert!(
        !entry.options.contains("nodev") && !entry.options.contains("nosuid"),
        "{}",
        entry.options
    );
    for word in ["allow_other", "default_permissions"] {
        assert!(
            entry.super_options.contains(word),
            "{}",
            entry.super_options
        );
    }
    assert_eq!(entry.source, "ct,scans");
    mount.umount();
}

#[test]
fn unknown_options_are_refused_by_name() {
    let vault = Vault::new();
    run(vault.mount_command().args(["-o", "ro,allow_othr"]))
        .refused(2, &["'allow_othr'", "did you mean 'allow_other'?"]);
    run(vault.mount_command().args(["-o", "threads=0"])).refused(2, &["threads=0", "1 to 64"]);
}

#[test]
fn a_wrong_secret_is_refused_and_nothing_stays_behind() {
    let vault = Vault::new();
    let wrong = vault.dir().file("wrong", "wrong");
    let mut command = wardfs();
    command
        .arg("mount")
        .arg(vault.path())
        .arg(vault.mountpoint())
        .arg("--passphrase-file")
        .arg(wrong);
    run(&mut command).refused(6, &["wrong passphrase or key file"]);
    assert!(!is_mounted(&vault.mountpoint()));
    assert_eq!(vault.info()["mounted"], serde_json::Value::Null);
    run(command.arg("--foreground")).refused(6, &["wrong passphrase or key file"]);
}

#[test]
fn a_passphrase_comes_from_a_descriptor_a_command_or_a_credential() {
    let vault = Vault::new();
    let mount = || {
        let mut command = wardfs();
        command
            .arg("mount")
            .arg(vault.path())
            .arg(vault.mountpoint());
        command
    };
    let mut child = mount()
        .args(["--passphrase-fd", "0"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("it starts");
    writeln!(child.stdin.take().expect("piped"), "{}", common::PASSPHRASE).expect("it reads");
    assert!(child.wait().expect("it ends").success());
    Mount::adopt(&vault, vault.mountpoint()).umount();

    run(mount()
        .arg("--passphrase-command")
        .arg(format!("cat '{}'", vault.passphrase_file().display())))
    .ok();
    Mount::adopt(&vault, vault.mountpoint()).umount();

    let credentials = vault.dir().dir("credentials");
    fs::copy(
        vault.passphrase_file(),
        credentials.join("wardfs.passphrase"),
    )
    .expect("room");
    run(mount().env("CREDENTIALS_DIRECTORY", credentials)).ok();
    Mount::adopt(&vault, vault.mountpoint()).umount();
}

#[test]
fn any_other_inherited_descriptor_gives_the_passphrase_too() {
    let vault = Vault::new();
    let line = format!(
        "exec 5< '{}'; exec '{}' mount '{}' '{}' --passphrase-fd 5",
        vault.passphrase_file().display(),
        env!("CARGO_BIN_EXE_wardfs"),
        vault.path().display(),
        vault.mountpoint().display(),
    );
    run(Command::new("/bin/sh").arg("-c").arg(line)).ok();
    Mount::adopt(&vault, vault.mountpoint()).umount();
}

#[test]
fn a_second_mount_says_by_whom_and_where_the_first_is() {
    for options in [&[][..], &["-o", "ro"]] {
        let vault = Vault::new();
        let mount = vault.mount_with(options);
        let other = vault.dir().dir("other");
        let pid = format!("process {}", mount.pid());
        let place = format!("mounted at {}", mount.path().display());
        let mut second = wardfs();
        second
            .arg("mount")
            .arg(vault.path())
            .arg(&other)
            .arg("--passphrase-file")
            .arg(vault.passphrase_file());
        run(&mut second).refused(10, &[&pid, &place, "wardfs umount"]);
        let info = vault.info();
        assert_eq!(info["mounted"]["pid"], mount.pid());
        assert_eq!(
            info["mounted"]["mountpoint"].as_str(),
            mount.path().to_str()
        );
        mount.umount();
    }
}

#[test]
fn of_two_mounts_at_the_same_time_one_is_refused() {
    let vault = Vault::new();
    let places = ["a", "b"].map(|name| vault.dir().dir(name));
    let started = places.clone().map(|place| {
        let mut command = wardfs();
        command
            .arg("mount")
            .arg(vault.path())
            .arg(place)
            .arg("--passphrase-file");
        command
            .arg(vault.passphrase_file())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts")
    });
    let mut codes = started.map(|mut child| child.wait().expect("it ends").code());
    let mounted: Vec<_> = places
        .into_iter()
        .filter(|place| is_mounted(place))
        .collect();
    let mounts: Vec<_> = mounted
        .into_iter()
        .map(|place| Mount::adopt(&vault, place))
        .collect();
    codes.sort();
    assert_eq!(codes, [Some(0), Some(10)]);
    assert_eq!(mounts.len(), 1);
}

#[test]
fn a_read_only_mount_is_not_taken_for_the_one_before_it() {
    let vault = Vault::new();
    vault.mount().umount();
    let other = vault.dir().dir("other");
    let mut command = wardfs();
    command
        .arg("mount")
        .arg(vault.path())
        .arg(&other)
        .args(["-o", "ro", "--passphrase-file"])
        .arg(vault.passphrase_file());
    run(&mut command).ok();
    let mount = Mount::adopt(&vault, other.clone());
    assert_eq!(
        vault.info()["mounted"]["mountpoint"].as_str(),
        other.to_str()
    );
    mount.umount();
}

#[test]
fn what_is_no_vault_is_not_mounted() {
    let vault = Vault::new();
    let mount = |path| run(wardfs().arg("mount").arg(path).arg(vault.mountpoint()));
    mount(vault.dir().join("none")).refused(3, &["none", "does not exist", "wardfs init"]);
    mount(vault.dir().path().to_owned()).refused(3, &["is not a wardfs vault"]);
    mount(vault.passphrase_file()).refused(3, &["not a directory"]);
}

#[test]
fn a_mount_point_is_an_empty_directory_that_is_free() {
    let vault = Vault::new();
    let mount = |place: &std::path::Path| {
        let mut command = wardfs();
        command
            .arg("mount")
            .arg(vault.path())
            .arg(place)
            .arg("--passphrase-file")
            .arg(vault.passphrase_file());
        run(&mut command)
    };
    mount(&vault.dir().join("none")).refused(8, &["none", "does not exist", "mkdir"]);
    mount(&vault.passphrase_file()).refused(8, &["not a directory"]);
    let full = vault.dir().dir("full");
    fs::write(full.join("x"), "").expect("writable");
    mount(&full).refused(8, &["full is not empty", "hidden by the mount"]);
    mount(std::path::Path::new("/proc"))
        .refused(8, &["/proc is a mount point already", "type proc"]);

    let other = Vault::new();
    let taken = other.mount();
    mount(taken.path()).refused(
        8,
        &["is a mount point already", "fuse.wardfs", "wardfs umount"],
    );
    taken.umount();
}

#[test]
fn vault_and_mount_point_lie_apart() {
    let vault = Vault::new();
    let mount = |place: &std::path::Path| {
        let mut command = wardfs();
        command
            .arg("mount")
            .arg(vault.path())
            .arg(place)
            .arg("--passphrase-file")
            .arg(vault.passphrase_file());
        run(&mut command)
    };
    let inside = vault.path().join("inside");
    fs::create_dir(&inside).expect("writable");
    mount(&inside).refused(8, &["lies inside the vault"]);
    mount(&vault.path()).refused(8, &["cannot be its own mount point"]);
    mount(vault.dir().path()).refused(8, &["lies below the mount point", "which would hide it"]);
}

#[test]
fn a_dead_mount_is_told_apart_and_removed_as_advised() {
    let vault = Vault::new();
    let mount = vault.mount();
    mount.kill_daemon();
    let advice = format!("wardfs umount --lazy {}", mount.path().display());
    run(&mut vault.mount_command()).refused(9, &["dead mount", &advice]);
    umount(&mount, &["--lazy"]).ok();
    assert!(!is_mounted(mount.path()));
    vault.mount().umount();
}

#[test]
fn a_dead_mount_comes_off_without_options_too() {
    let vault = Vault::new();
    let mount = vault.mount();
    mount.kill_daemon();
    mount.umount();
}

#[test]
fn a_busy_mount_stays_and_its_users_are_listed() {
    let vault = Vault::new();
    let mount = vault.mount();
    fs::write(mount.join("f"), "x").expect("writable");
    let resident = Background::spawn("sleep", &["1000"], mount.path());
    let reader = Background::spawn("tail", &["-f", "f"], mount.path());
    wait_until("tail has opened its file", || {
        fs::read_dir(format!("/proc/{}/fd", reader.0.id())).is_ok_and(|mut fds| {
            fds.any(|fd| {
                fs::read_link(fd.expect("procfs").path()).is_ok_and(|to| to.ends_with("f"))
            })
        })
    });
    let (first, second) = (
        format!("process {} (sleep): working directory", resident.0.id()),
        format!("process {} (tail): ", reader.0.id()),
    );
    umount(&mount, &[]).refused(
        13,
        &["is in use by", &first, &second, "open file", "--lazy"],
    );
    assert!(is_mounted(mount.path()));
    fs::read(mount.join("f")).expect("still served");
    drop((resident, reader));
    mount.umount();
}

#[test]
fn a_mapping_and_a_running_program_are_uses_too() {
    let vault = Vault::new();
    let mount = vault.mount();
    fs::copy("/bin/sleep", mount.join("sleeper")).expect("room");
    fs::set_permissions(mount.join("sleeper"), fs::Permissions::from_mode(0o755)).expect("ours");
    let program = Background::spawn(mount.join("sleeper"), &["1000"], std::path::Path::new("/"));
    let line = format!(
        "process {} (sleeper): running program, mapped file",
        program.0.id()
    );
    wait_until("it runs", || {
        fs::read_to_string(format!("/proc/{}/comm", program.0.id())).is_ok_and(|c| c == "sleeper\n")
    });
    umount(&mount, &[]).refused(13, &[&line]);
    drop(program);
    mount.umount();
}

#[test]
fn a_lazy_unmount_hides_the_mount_and_the_daemon_ends_with_its_last_user() {
    let vault = Vault::new();
    let mount = vault.mount();
    let mut open = fs::File::create(mount.join("f")).expect("writable");
    let said = umount(&mount, &["--lazy"]).ok();
    assert!(
        said.contains("detached") && said.contains(&format!("process {}", std::process::id())),
        "{said}"
    );
    assert!(!is_mounted(mount.path()));
    assert!(runs(mount.pid()));
    open.write_all(b"later").expect("the daemon goes on");
    drop(open);
    mount.wait_until_gone();
    let again = vault.mount();
    assert_eq!(fs::read(again.join("f")).expect("it is there"), b"later");
    again.umount();
}

#[test]
fn a_forced_unmount_ends_the_mount_and_the_daemon_although_a_file_is_open() {
    let vault = Vault::new();
    let mount = vault.mount();
    let open = fs::File::create(mount.join("f")).expect("writable");
    umount(&mount, &["--force"]).ok();
    assert!(!is_mounted(mount.path()));
    assert!(!runs(mount.pid()));
    drop(open);
}

#[test]
fn umount_takes_only_wardfs_mounts_and_names_the_others() {
    let vault = Vault::new();
    let umount = |path: &std::path::Path| run(wardfs().arg("umount").arg(path));
    umount(std::path::Path::new("/proc"))
        .refused(14, &["/proc is a mount of type proc", "umount /proc"]);
    umount(&vault.mountpoint()).refused(14, &["nothing is mounted at"]);
    umount(&vault.dir().join("none")).refused(14, &["none does not exist"]);
    let mount = vault.mount();
    let advice = format!("mounted at {0}: wardfs umount {0}", mount.path().display());
    umount(&vault.path()).refused(14, &["nothing is mounted at", &advice]);
    umount(&mount.path().join("inside")).refused(14, &["inside does not exist"]);
    mount.umount();
}

#[test]
fn umount_finds_the_mount_by_a_relative_path_and_through_a_link() {
    let vault = Vault::new();
    let mount = vault.mount();
    run(wardfs()
        .args(["umount", "mnt/"])
        .current_dir(vault.dir().path()))
    .ok();
    mount.wait_until_gone();
    let link = vault.dir().join("link");
    std::os::unix::fs::symlink(vault.mountpoint(), &link).expect("writable");
    let mount = vault.mount();
    run(wardfs().arg("umount").arg(link)).ok();
    mount.wait_until_gone();
}

#[test]
fn umount_waits_for_the_daemon_whatever_fsname_says() {
    let vault = Vault::new();
    let mount = vault.mount_with(&["-o", "fsname=elsewhere"]);
    let pid = mount.pid();
    mount.umount();
    assert!(!runs(pid));
}

#[test]
fn umount_of_the_system_works_as_well() {
    let vault = Vault::new();
    let mount = vault.mount();
    run(Command::new("umount").arg(mount.path())).ok();
    mount.wait_until_gone();
}

#[test]
fn term_int_and_hup_unmount_cleanly() {
    for signal in ["TERM", "INT", "HUP"] {
        let vault = Vault::new();
        let mount = vault.mount();
        fs::write(mount.join("f"), signal).expect("writable");
        mount.signal(signal);
        mount.wait_until_gone();
        let again = vault.mount();
        assert_eq!(
            fs::read_to_string(again.join("f")).expect("it is there"),
            signal
        );
        again.umount();
    }
}

#[test]
fn a_signal_detaches_a_busy_mount_and_the_last_user_ends_the_daemon() {
    let vault = Vault::new();
    let log = vault.dir().join("log");
    let mount = vault.mount_with(&["--log-file", log.to_str().expect("UTF-8")]);
    let mut open = fs::File::create(mount.join("f")).expect("writable");
    mount.signal("TERM");
    wait_until("it is detached", || !is_mounted(mount.path()));
    open.write_all(b"still served").expect("the daemon goes on");
    drop(open);
    mount.wait_until_gone();
    let log = fs::read_to_string(log).expect("it was written");
    assert!(
        log.contains(&format!("in use by process {}", std::process::id())),
        "{log}"
    );
    assert!(log.contains("detaching "), "{log}");
}

#[test]
fn in_the_foreground_it_stays_and_a_signal_ends_it() {
    let vault = Vault::new();
    let mut child = vault
        .mount_command()
        .arg("-f")
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    wait_until("it is mounted", || is_mounted(&vault.mountpoint()));
    let mount = Mount::adopt(&vault, vault.mountpoint());
    assert_eq!(mount.pid(), child.id());
    fs::write(mount.join("f"), "x").expect("usable");
    mount.signal("INT");
    let status = child.wait().expect("it ends");
    assert_eq!(status.code(), Some(0));
    mount.wait_until_gone();
}

#[test]
fn the_daemon_lets_go_of_the_terminal_the_directory_and_the_standard_streams() {
    let vault = Vault::new();
    let mount = vault.mount();
    let process = format!("/proc/{}", mount.pid());
    assert_eq!(
        fs::read_link(format!("{process}/cwd"))
            .expect("root reads it")
            .to_str(),
        Some("/")
    );
    for fd in 0..3 {
        assert_eq!(
            fs::read_link(format!("{process}/fd/{fd}"))
                .expect("root reads it")
                .to_str(),
            Some("/dev/null")
        );
    }
    let stat = fs::read_to_string(format!("{process}/stat")).expect("it runs");
    let session: u32 = stat
        .rsplit(") ")
        .next()
        .and_then(|s| s.split(' ').nth(3))
        .and_then(|s| s.parse().ok())
        .expect("stat");
    assert_eq!(session, mount.pid(), "a session of its own");
    mount.umount();
}

#[test]
fn the_daemon_cannot_be_dumped_and_may_open_all_the_files_it_is_allowed() {
    let vault = Vault::new();
    let mount = vault.mount();
    let limits = fs::read_to_string(format!("/proc/{}/limits", mount.pid())).expect("it runs");
    let limit = |name: &str| -> Vec<String> {
        let line = limits
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .expect("a limit");
        line.split_whitespace().take(2).map(str::to_owned).collect()
    };
    assert_eq!(limit("Max core file size"), ["0", "0"]);
    let files = limit("Max open files");
    assert_eq!(files[0], files[1]);
    let status = fs::read_to_string(format!("/proc/{}/status", mount.pid())).expect("it runs");
    let locked = status
        .lines()
        .find_map(|line| line.strip_prefix("VmLck:"))
        .expect("VmLck")
        .trim();
    assert_ne!(locked, "0 kB", "keys are in locked memory");
    mount.umount();
}

#[test]
fn closed_standard_streams_do_no_harm() {
    let vault = Vault::new();
    let line = format!(
        "exec '{}' mount '{}' '{}' --passphrase-file '{}' 0<&- 1>&- 2>&-",
        env!("CARGO_BIN_EXE_wardfs"),
        vault.path().display(),
        vault.mountpoint().display(),
        vault.passphrase_file().display(),
    );
    assert_eq!(
        Command::new("/bin/sh")
            .arg("-c")
            .arg(line)
            .status()
            .expect("it starts")
            .code(),
        Some(0)
    );
    let mount = Mount::adopt(&vault, vault.mountpoint());
    fs::write(mount.join("f"), "x").expect("usable");
    mount.umount();
}

#[test]
fn the_daemon_holds_no_pipe_of_the_command_that_started_it() {
    let vault = Vault::new();
    // `output` returns when both pipes are closed, which is when nobody holds them any more.
    let ran = run(&mut vault.mount_command());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", ""));
    Mount::adopt(&vault, vault.mountpoint()).umount();
}

#[test]
fn a_log_file_tells_when_it_was_mounted_and_unmounted_and_is_private() {
    let vault = Vault::new();
    let log = vault.dir().join("log");
    let mut command = vault.mount_command();
    run(command
        .args(["--log-file", "log"])
        .current_dir(vault.dir().path()))
    .ok();
    Mount::adopt(&vault, vault.mountpoint()).umount();
    let text = fs::read_to_string(&log).expect("it was written");
    assert!(
        text.contains("info: mounted ") && text.contains("info: unmounted "),
        "{text}"
    );
    assert_eq!(
        fs::metadata(&log)
            .expect("it is there")
            .permissions()
            .mode()
            & 0o777,
        0o600
    );
    run(vault.mount_command().args(["--log-file", "/no/such/log"]))
        .refused(1, &["log file /no/such/log"]);
}

#[test]
fn names_of_files_are_not_logged_whatever_level_is_asked_for() {
    let vault = Vault::new();
    let log = vault.dir().join("log");
    let mut command = vault.mount_command();
    run(command
        .arg("-vv")
        .arg("--log-file")
        .arg(&log)
        .env("WARDFS_LOG", "trace,fuser=trace,fuser::request=trace"))
    .ok();
    let mount = Mount::adopt(&vault, vault.mountpoint());
    fs::write(mount.join("patient-name"), "secret content").expect("usable");
    fs::rename(mount.join("patient-name"), mount.join("patient-other")).expect("usable");
    assert_eq!(fs::read_dir(mount.path()).expect("usable").count(), 1);
    mount.umount();
    let text = fs::read_to_string(&log).expect("it was written");
    assert!(!text.contains("patient"), "{text}");
}

#[test]
fn passwd_works_while_the_vault_is_mounted() {
    let vault = Vault::new();
    let mount = vault.mount();
    fs::write(mount.join("f"), "x").expect("usable");
    let new = vault.dir().file("new", "another");
    let mut command = wardfs();
    command
        .arg("passwd")
        .arg(vault.path())
        .args(common::CHEAP_KDF)
        .arg("--passphrase-file")
        .arg(vault.passphrase_file());
    run(command.arg("--new-passphrase-file").arg(&new)).ok();
    assert_eq!(
        fs::read_to_string(mount.join("f")).expect("still served"),
        "x"
    );
    mount.umount();
    run(&mut vault.mount_command()).refused(6, &["wrong passphrase"]);
    fs::copy(new, vault.passphrase_file()).expect("room");
    let mount = vault.mount();
    assert_eq!(
        fs::read_to_string(mount.join("f")).expect("the same content"),
        "x"
    );
    mount.umount();
}

#[test]
fn a_mount_from_the_second_header_copy_warns_and_mends_the_first() {
    let vault = Vault::new();
    let header = vault.path().join("~wardfs/volume");
    let whole = fs::read(&header).expect("a header");
    fs::write(&header, &whole[..whole.len() / 2]).expect("writable");
    let ran = run(&mut vault.mount_command());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        ran.stderr
            .contains("warning: the first copy of the volume header is damaged"),
        "{ran:?}"
    );
    Mount::adopt(&vault, vault.mountpoint()).umount();
    assert_eq!(fs::read(&header).expect("a header"), whole);
}

#[test]
fn a_header_changed_without_the_key_is_refused() {
    let vault = Vault::with(&["--label", "original"]);
    for name in ["~wardfs/volume", "~wardfs/volume.bak"] {
        let path = vault.path().join(name);
        let mut bytes = fs::read(&path).expect("a header");
        let at = bytes
            .windows(8)
            .position(|w| w == b"original")
            .expect("the label is readable");
        bytes[at] = b'O';
        let end = bytes.len() - 32;
        let checksum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes[..end]);
        bytes[end..].copy_from_slice(checksum.as_ref());
        fs::write(&path, bytes).expect("writable");
    }
    run(&mut vault.mount_command())
        .refused(16, &["changed by somebody without the key", "Do not trust"]);
}
