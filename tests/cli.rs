//! The command line without a mount: init, info, passwd, bench, version, completions, help.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use common::{CHEAP_KDF, PASSPHRASE, TempDir, Vault, run, wardfs};

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).expect("one JSON object")
}

#[test]
fn init_makes_a_private_directory_and_says_what_it_chose_and_why() {
    let dir = TempDir::new();
    let vault = dir.join("new");
    let passphrase = dir.file("pw", PASSPHRASE);
    let said = run(wardfs()
        .arg("init")
        .arg(&vault)
        .args(["--label", "CT 2"])
        .args(CHEAP_KDF)
        .arg("--passphrase-file")
        .arg(passphrase))
    .ok();
    assert_eq!(
        fs::metadata(&vault).expect("made").permissions().mode() & 0o7777,
        0o700
    );
    for words in [
        "CT 2",
        "uuid",
        "instructions for AES",
        "4 KiB (suits most uses)",
        "8 MiB, 1 pass, 1 lane (as told",
        "wardfs mount",
    ] {
        assert!(said.contains(words), "{words} in {said}");
    }
}

#[test]
fn init_measures_the_key_derivation_when_it_is_not_told() {
    let dir = TempDir::new();
    let passphrase = dir.file("pw", PASSPHRASE);
    let made = run(wardfs()
        .arg("init")
        .arg(dir.join("v"))
        .arg("--json")
        .arg("--passphrase-file")
        .arg(passphrase))
    .ok();
    let made = json(&made);
    assert!(
        made["kdf_memory_kib"].as_u64().expect("a number") >= 64 * 1024,
        "{made}"
    );
    assert!(
        made["kdf_milliseconds"].as_u64().expect("a number") > 100,
        "{made}"
    );
}

#[test]
fn init_takes_cipher_chunk_size_and_label_as_told() {
    for cipher in ["xaes-256-gcm", "xchacha20-poly1305"] {
        let vault = Vault::with(&[
            "--cipher",
            cipher,
            "--chunk-size",
            "16K",
            "--label",
            "Röntgen",
        ]);
        let info = vault.info();
        assert_eq!(info["cipher"], cipher);
        assert_eq!(info["chunk_size"], 16384);
        assert_eq!(info["label"], "Röntgen");
    }
}

#[test]
fn init_refuses_a_directory_that_is_not_empty_also_with_force() {
    let dir = TempDir::new();
    dir.dir("full");
    dir.file("full/x", "");
    let passphrase = dir.file("pw", PASSPHRASE);
    let mut command = wardfs();
    command
        .arg("init")
        .arg(dir.join("full"))
        .args(CHEAP_KDF)
        .arg("--passphrase-file")
        .arg(passphrase);
    run(&mut command).refused(4, &["full is not empty"]);
    let vault = Vault::new();
    run(wardfs().arg("init").arg(vault.path())).refused(4, &["is a vault already", "wardfs info"]);
}

#[test]
fn init_names_the_parent_that_is_missing() {
    let dir = TempDir::new();
    run(wardfs().arg("init").arg(dir.join("a/b"))).refused(1, &["/a does not exist", "mkdir -p"]);
}

#[test]
fn init_refuses_a_cheap_key_derivation_without_force() {
    let dir = TempDir::new();
    let mut command = wardfs();
    command
        .arg("init")
        .arg(dir.join("v"))
        .args(["--kdf-memory", "32M"]);
    run(&mut command).refused(2, &["less than 64 MiB", "--force"]);
    assert!(!dir.join("v").exists());
    run(command.args(["--force", "--kdf-time", "65"])).refused(2, &["out of bounds"]);
}

#[test]
fn values_that_make_no_sense_are_refused_with_what_would() {
    for (arguments, words) in [
        (
            ["--cipher", "rot13"],
            "use auto, xaes-256-gcm or xchacha20-poly1305",
        ),
        (["--chunk-size", "5000"], "use 4K, 8K, 16K, 32K or 64K"),
        (["--kdf-memory", "lots"], "a size begins with a number"),
        (["--kdf-memory", "1X"], "use K, M or G"),
    ] {
        run(wardfs().args(["init", "v"]).args(arguments)).refused(2, &[words]);
    }
}

#[test]
fn a_label_of_more_than_255_bytes_is_refused_before_anything_is_made() {
    let dir = TempDir::new();
    let label = "x".repeat(256);
    run(wardfs()
        .arg("init")
        .arg(dir.join("v"))
        .arg("--label")
        .arg(label))
    .refused(2, &["255 bytes"]);
    assert!(!dir.join("v").exists());
}

#[test]
fn info_shows_the_vault_without_a_secret() {
    let vault = Vault::with(&["--label", "archive"]);
    let info = vault.info();
    assert_eq!(info["format_version"], 1);
    assert_eq!(info["mounted"], serde_json::Value::Null);
    assert_eq!(info["header_copy"], "first");
    let slot = &info["slots"][0];
    assert_eq!(
        (&slot["id"], &slot["kind"]),
        (&0.into(), &"passphrase".into())
    );
    assert_eq!(slot["kdf"]["algorithm"], "argon2id");
    assert_eq!(slot["kdf"]["memory_kib"], 8192);
    for time in [&info["created"], &slot["created"], &slot["changed"]] {
        let time = time.as_str().expect("text");
        assert!(
            time.len() == 20 && time.ends_with('Z') && time.as_bytes()[10] == b'T',
            "{time}"
        );
    }
    assert_eq!(info["uuid"].as_str().map(str::len), Some(36));
    let text = run(wardfs().arg("info").arg(vault.path())).ok();
    for words in [
        "archive",
        "key slot 0",
        "8 MiB, 1 pass, 1 lane",
        "mounted      no",
    ] {
        assert!(text.contains(words), "{words} in {text}");
    }
}

#[test]
fn what_is_no_vault_is_named() {
    let dir = TempDir::new();
    let file = dir.file("file", "");
    for verb in ["info", "passwd"] {
        run(wardfs().arg(verb).arg(dir.join("none")))
            .refused(3, &["none", "does not exist", "wardfs init"]);
        run(wardfs().arg(verb).arg(dir.path())).refused(3, &["is not a wardfs vault"]);
        run(wardfs().arg(verb).arg(&file)).refused(3, &["not a directory"]);
    }
}

#[test]
fn a_damaged_header_is_replaced_by_its_copy_and_two_damaged_ones_are_refused() {
    let vault = Vault::new();
    let copies = ["~wardfs/volume", "~wardfs/volume.bak"].map(|name| vault.path().join(name));
    let damage = |path: &std::path::Path| {
        let mut bytes = fs::read(path).expect("a header");
        bytes[100] ^= 1;
        fs::write(path, bytes).expect("writable");
    };
    damage(&copies[0]);
    let ran = run(wardfs().arg("info").arg(vault.path()).arg("--json"));
    assert!(
        ran.stderr
            .contains("warning: the first copy of the volume header is damaged"),
        "{ran:?}"
    );
    assert_eq!(json(&ran.ok())["header_copy"], "second");
    damage(&copies[1]);
    run(wardfs().arg("info").arg(vault.path())).refused(5, &["both copies", "backup"]);
}

#[test]
fn a_vault_of_a_later_format_is_refused_as_such() {
    let vault = Vault::new();
    for name in ["~wardfs/volume", "~wardfs/volume.bak"] {
        let path = vault.path().join(name);
        let mut bytes = fs::read(&path).expect("a header");
        // Format version and minimum reader (wardfs-format(5)), with the checksum made right.
        bytes[8..12].copy_from_slice(&[2, 0, 2, 0]);
        let end = bytes.len() - 32;
        let checksum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes[..end]);
        bytes[end..].copy_from_slice(checksum.as_ref());
        fs::write(&path, bytes).expect("writable");
    }
    run(wardfs().arg("info").arg(vault.path())).refused(15, &["another version"]);
}

#[test]
fn passwd_replaces_the_passphrase_and_the_old_one_is_wrong_from_then_on() {
    let vault = Vault::new();
    let new = vault.dir().file("new", "a new one\r\n");
    let mut change = wardfs();
    change.arg("passwd").arg(vault.path()).args(CHEAP_KDF);
    change
        .arg("--passphrase-file")
        .arg(vault.passphrase_file())
        .arg("--new-passphrase-file")
        .arg(&new);
    assert!(run(&mut change).ok().contains("Changed key slot 0"));
    run(&mut change).refused(6, &["wrong passphrase"]);
    let mut back = wardfs();
    back.arg("passwd")
        .arg(vault.path())
        .args(CHEAP_KDF)
        .args(["--passphrase-command", "printf 'a new one'"]);
    run(back
        .arg("--new-passphrase-file")
        .arg(vault.passphrase_file()))
    .ok();
    vault.mount().umount();
}

#[test]
fn passwd_goes_from_passphrase_to_key_file_and_on_to_both() {
    let vault = Vault::new();
    let key = vault.dir().file("key", [0, 159, 10, 255]);
    let passwd = |arguments: &[&str]| {
        let mut command = wardfs();
        command
            .arg("passwd")
            .arg(vault.path())
            .args(CHEAP_KDF)
            .args(arguments);
        run(&mut command)
    };
    let (pw, key) = (vault.passphrase_file(), key);
    let (pw, key) = (pw.to_str().expect("UTF-8"), key.to_str().expect("UTF-8"));
    passwd(&["--passphrase-file", pw, "--new-keyfile", key]).ok();
    assert_eq!(vault.info()["slots"][0]["kind"], "keyfile");
    passwd(&["--passphrase-file", pw, "--new-keyfile", key])
        .refused(7, &["needs its key file", "--keyfile FILE"]);
    passwd(&[
        "--keyfile",
        key,
        "--new-keyfile",
        key,
        "--new-passphrase-file",
        pw,
    ])
    .ok();
    assert_eq!(vault.info()["slots"][0]["kind"], "passphrase and keyfile");
    passwd(&["--passphrase-file", pw, "--new-passphrase-file", pw])
        .refused(7, &["needs its key file"]);
    passwd(&[
        "--keyfile",
        key,
        "--passphrase-file",
        pw,
        "--new-passphrase-file",
        pw,
    ])
    .ok();
    passwd(&["--keyfile", key, "--new-keyfile", key])
        .refused(7, &["opens with a passphrase alone"]);
}

#[test]
fn secrets_that_cannot_be_read_are_named_by_their_place() {
    let vault = Vault::new();
    let empty = vault.dir().file("empty", "\n");
    let long = vault.dir().file("long", vec![b'x'; 5000]);
    let passwd = |arguments: &[&str]| run(wardfs().arg("passwd").arg(vault.path()).args(arguments));
    passwd(&["--passphrase-file", "/no/such"]).refused(7, &["/no/such", "No such file"]);
    passwd(&["--passphrase-file", empty.to_str().expect("UTF-8")]).refused(7, &["it is empty"]);
    passwd(&["--passphrase-file", long.to_str().expect("UTF-8")]).refused(7, &["--keyfile"]);
    passwd(&["--passphrase-fd", "99"]).refused(7, &["file descriptor 99"]);
    passwd(&["--passphrase-command", "exit 3"])
        .refused(7, &["passphrase command", "exit status: 3"]);
    passwd(&["--passphrase-command", "true"]).refused(7, &["it is empty"]);
    passwd(&["--passphrase-fd", "0", "--new-passphrase-fd", "0"]).refused(2, &["cannot hold both"]);
}

#[test]
fn two_places_for_one_passphrase_contradict_each_other() {
    run(wardfs().args([
        "passwd",
        "v",
        "--passphrase-fd",
        "0",
        "--passphrase-file",
        "x",
    ]))
    .refused(
        2,
        &[
            "--passphrase-fd",
            "cannot be used with",
            "--passphrase-file",
        ],
    );
    run(wardfs().args([
        "passwd",
        "v",
        "--new-passphrase-fd",
        "0",
        "--ask-new-passphrase",
    ]))
    .refused(2, &["cannot be used with"]);
}

#[test]
fn a_secret_that_others_can_read_is_warned_about() {
    let vault = Vault::new();
    fs::set_permissions(vault.passphrase_file(), fs::Permissions::from_mode(0o644)).expect("ours");
    let ran = run(vault.mount_command().args(["-o", "nonsense"]));
    assert_eq!(ran.code, Some(2), "options come first: {ran:?}");
    let mut command = wardfs();
    command
        .arg("passwd")
        .arg(vault.path())
        .args(CHEAP_KDF)
        .arg("--passphrase-file")
        .arg(vault.passphrase_file());
    let ran = run(command
        .arg("--new-passphrase-file")
        .arg(vault.passphrase_file()));
    assert!(
        ran.stderr.contains("accessible to other users (mode 0644)"),
        "{ran:?}"
    );
    ran.ok();
}

#[test]
fn a_systemd_credential_is_used_and_an_option_goes_before_it() {
    let vault = Vault::new();
    let credentials = vault.dir().dir("credentials");
    fs::write(
        credentials.join("wardfs.passphrase"),
        format!("{PASSPHRASE}\n"),
    )
    .expect("writable");
    fs::write(credentials.join("wardfs.new-passphrase"), PASSPHRASE).expect("writable");
    let mut command = wardfs();
    command
        .env("CREDENTIALS_DIRECTORY", &credentials)
        .arg("passwd")
        .arg(vault.path())
        .args(CHEAP_KDF);
    run(&mut command).ok();
    run(command.args(["--passphrase-command", "echo no"])).refused(6, &["wrong passphrase"]);
}

#[test]
fn without_a_terminal_the_ways_to_give_a_passphrase_are_listed() {
    let dir = TempDir::new();
    let mut command = std::process::Command::new("setsid");
    command
        .arg("--wait")
        .arg(env!("CARGO_BIN_EXE_wardfs"))
        .arg("init")
        .arg(dir.join("v"))
        .args(CHEAP_KDF);
    command
        .stdin(std::process::Stdio::null())
        .env_remove("CREDENTIALS_DIRECTORY");
    run(&mut command).refused(
        7,
        &[
            "no terminal",
            "--passphrase-file",
            "--passphrase-fd 0",
            "--keyfile",
        ],
    );
    assert!(!dir.join("v").exists());
}

#[test]
fn no_message_or_argument_shows_a_secret() {
    let vault = Vault::new();
    let wrong = vault.dir().file("wrong", "hunter2-secret");
    let mut command = wardfs();
    command
        .env("WARDFS_LOG", "trace")
        .arg("passwd")
        .arg(vault.path())
        .arg("-vv")
        .arg("--passphrase-file")
        .arg(wrong);
    let ran = run(&mut command);
    assert_eq!(ran.code, Some(6));
    assert!(
        !ran.stderr.contains("hunter2") && !ran.stdout.contains("hunter2"),
        "{ran:?}"
    );
}

#[test]
fn version_says_what_it_reads() {
    let text = run(wardfs().arg("version")).ok();
    assert!(
        text.starts_with(&format!("wardfs {}\n", env!("CARGO_PKG_VERSION"))),
        "{text}"
    );
    let version = json(&run(wardfs().args(["version", "--json"])).ok());
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(version["format_version"], 1);
    assert_eq!(
        version["ciphers"],
        serde_json::json!(["xaes-256-gcm", "xchacha20-poly1305"])
    );
}

#[test]
fn bench_measures_every_cipher_chunk_size_and_derivation() {
    let results = json(&run(wardfs().args(["bench", "--seconds", "0.005", "--json"])).ok());
    let ciphers = results["ciphers"].as_array().expect("a list");
    assert_eq!(ciphers.len(), 10);
    for speed in ciphers {
        for direction in ["seal_mib_per_second", "open_mib_per_second"] {
            assert!(
                speed[direction].as_f64().expect("a number") > 1.0,
                "{speed}"
            );
        }
    }
    assert!(
        results["name_microseconds"]["seal"]
            .as_f64()
            .expect("a number")
            > 0.0
    );
    assert_eq!(results["key_derivation"].as_array().map(Vec::len), Some(4));
}

#[test]
fn completions_exist_for_the_usual_shells_and_know_the_verbs() {
    for shell in ["bash", "zsh", "fish"] {
        let script = run(wardfs().args(["completions", shell])).ok();
        for verb in ["init", "umount", "passphrase-file"] {
            assert!(script.contains(verb), "{verb} for {shell}");
        }
    }
}

#[test]
fn help_is_an_answer_and_nonsense_a_usage_error() {
    for arguments in [
        &["--help"][..],
        &["help", "mount"],
        &["mount", "-h"],
        &["--version"],
    ] {
        assert!(!run(wardfs().args(arguments)).ok().is_empty());
    }
    assert!(
        run(wardfs().args(["help", "mount"]))
            .ok()
            .contains("negative_timeout=TIME")
    );
    for arguments in [
        &[][..],
        &["mont"],
        &["mount", "v"],
        &["info", "v", "--frob"],
        &["umount", "-l", "-f", "m"],
    ] {
        run(wardfs().args(arguments)).refused(2, &[]);
    }
}

#[test]
fn help_fits_the_width_it_is_written_for() {
    for verb in [
        "init",
        "mount",
        "umount",
        "info",
        "passwd",
        "bench",
        "version",
        "completions",
    ] {
        let help = run(wardfs().args(["help", verb])).ok();
        let widest = help.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(100), "{verb}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let line = format!(
        "'{}' completions bash | head -n 1 > /dev/null; exit ${{PIPESTATUS[0]}}",
        env!("CARGO_BIN_EXE_wardfs")
    );
    run(std::process::Command::new("bash").arg("-c").arg(line)).ok();
}
