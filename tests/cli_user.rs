//! Ordinary users, who mount through fusermount3, and machines that lack something.

mod common;

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;

use common::namespace::{
    User, bare_dev, in_own_namespace, mount_fusectl, open_fuse_to_users, replace_file,
};
use common::{CHEAP_KDF, Mount, PASSPHRASE, TempDir, Vault, is_mounted, run, wait_until};

/// A vault of the user in his home, with a mount point beside it.
struct Mine {
    scratch: TempDir,
    user: User,
}

impl Mine {
    fn new() -> Self {
        let scratch = TempDir::new();
        open_fuse_to_users(&scratch);
        let user = User::new(&scratch);
        let mine = Self { scratch, user };
        mine.user
            .sh(&format!(
                "umask 077; mkdir mnt other; printf %s '{PASSPHRASE}' > pw"
            ))
            .ok();
        run(mine
            .user
            .wardfs()
            .args(["init", "vault", "--passphrase-file", "pw"])
            .args(CHEAP_KDF))
        .ok();
        mine
    }

    fn mount(&self, arguments: &[&str]) -> common::Ran {
        run(self
            .user
            .wardfs()
            .args(["mount", "vault", "mnt", "--passphrase-file", "pw"])
            .args(arguments))
    }

    fn umount(&self, arguments: &[&str]) -> common::Ran {
        run(self.user.wardfs().args(["umount", "mnt"]).args(arguments))
    }

    fn mountpoint(&self) -> std::path::PathBuf {
        self.user.home.join("mnt")
    }
}

impl Drop for Mine {
    fn drop(&mut self) {
        if is_mounted(&self.mountpoint()) {
            run(common::wardfs()
                .args(["umount", "--force"])
                .arg(self.mountpoint()));
        }
        run(Command::new("umount").arg("/dev/fuse"));
        let _ = &self.scratch;
    }
}

#[test]
fn an_ordinary_user_mounts_works_and_unmounts_through_fusermount3() {
    in_own_namespace(
        "an_ordinary_user_mounts_works_and_unmounts_through_fusermount3",
        || {
            let mine = Mine::new();
            mine.mount(&["-o", "noexec,noatime,fsname=my\\,vault"]).ok();
            let entry = wardfs::sys::mount::mount_at(&mine.mountpoint())
                .expect("procfs")
                .expect("it is mounted");
            assert_eq!(entry.fs_type, "fuse.wardfs");
            assert_eq!(entry.source, "my,vault");
            assert_eq!(entry.user_id(), Some(65534));
            for word in ["nosuid", "nodev", "noexec", "noatime"] {
                assert!(
                    entry.options.split(',').any(|o| o == word),
                    "{word} in {}",
                    entry.options
                );
            }
            mine.user
                .sh("echo content > mnt/file && mkdir mnt/d && ln -s file mnt/l && cat mnt/l")
                .ok();
            assert!(
                fs::read_dir(mine.mountpoint()).is_err(),
                "root is another user and stays outside"
            );
            mine.umount(&[]).ok();
            assert!(!is_mounted(&mine.mountpoint()));
            mine.mount(&["-o", "ro"]).ok();
            assert_eq!(mine.user.sh("cat mnt/file").ok(), "content\n");
            assert_ne!(mine.user.sh("touch mnt/new").code, Some(0));
            mine.umount(&[]).ok();
        },
    );
}

#[test]
fn writing_keeps_working_without_privileges_when_the_kernel_writes_back() {
    in_own_namespace(
        "writing_keeps_working_without_privileges_when_the_kernel_writes_back",
        || {
            let mine = Mine::new();
            mine.mount(&[]).ok();
            mine.user.sh("dd if=/dev/urandom of=mnt/big bs=64k count=64 2>/dev/null; sync mnt/big; touch -d '2001-02-03 04:05:06 UTC' mnt/big; cp mnt/big copy").ok();
            mine.umount(&[]).ok();
            mine.mount(&[]).ok();
            assert_eq!(
                mine.user.sh("cmp mnt/big copy && stat -c %Y mnt/big").ok(),
                "981173106\n"
            );
            mine.umount(&[]).ok();
        },
    );
}

#[test]
fn a_signal_unmounts_for_an_ordinary_user_too() {
    in_own_namespace("a_signal_unmounts_for_an_ordinary_user_too", || {
        let mine = Mine::new();
        mine.mount(&[]).ok();
        mine.user
            .sh("echo x > mnt/f; kill $(sed 's/.*\"pid\"://; s/[^0-9].*//' vault/~wardfs/lock)")
            .ok();
        wait_until("it is unmounted", || !is_mounted(&mine.mountpoint()));
        let free = || {
            let info = run(mine.user.wardfs().args(["info", "vault", "--json"])).ok();
            info.contains("\"mounted\": null")
        };
        wait_until("the vault is free", free);
        mine.mount(&[]).ok();
        assert_eq!(mine.user.sh("cat mnt/f").ok(), "x\n");
        mine.umount(&[]).ok();
    });
}

#[test]
fn a_busy_mount_of_an_ordinary_user_is_reported_detached_or_forced() {
    in_own_namespace(
        "a_busy_mount_of_an_ordinary_user_is_reported_detached_or_forced",
        || {
            let mine = Mine::new();
            let resident = || {
                mine.mount(&[]).ok();
                let child = mine
                    .user
                    .command("/bin/sh")
                    .args(["-c", "cd mnt && exec sleep 1000"])
                    .spawn()
                    .expect("sh");
                let inside = || {
                    fs::read_link(format!("/proc/{}/cwd", child.id()))
                        .is_ok_and(|cwd| cwd == mine.mountpoint())
                };
                wait_until("it is inside", inside);
                common::Background(child)
            };
            let first = resident();
            let line = format!("process {} (sleep): working directory", first.0.id());
            mine.umount(&[]).refused(13, &["is in use by", &line]);
            assert!(mine.umount(&["--lazy"]).ok().contains("detached"));
            assert!(!is_mounted(&mine.mountpoint()));
            drop(first);
            wait_until("the vault is free", || {
                run(mine.user.wardfs().args(["info", "vault", "--json"]))
                    .ok()
                    .contains("\"mounted\": null")
            });
            let second = resident();
            mine.umount(&["--force"]).ok();
            assert!(!is_mounted(&mine.mountpoint()));
            drop(second);
        },
    );
}

#[test]
fn a_connection_broken_from_outside_leaves_no_dead_mount() {
    in_own_namespace(
        "a_connection_broken_from_outside_leaves_no_dead_mount",
        || {
            let vault = Vault::new();
            let mount = vault.mount();
            mount_fusectl();
            let entry = wardfs::sys::mount::mount_at(mount.path())
                .expect("procfs")
                .expect("mounted");
            let control = format!("/sys/fs/fuse/connections/{}/abort", entry.dev.minor);
            let open = fs::File::create(mount.join("f")).expect("usable");
            fs::write(control, "1").expect("fusectl is mounted");
            mount.wait_until_gone();
            drop(open);
            vault.mount().umount();
            run(Command::new("umount").arg("/sys/fs/fuse/connections")).ok();
        },
    );
}

#[test]
fn an_ordinary_user_breaks_the_connection_of_a_mount_by_force() {
    in_own_namespace(
        "an_ordinary_user_breaks_the_connection_of_a_mount_by_force",
        || {
            let mine = Mine::new();
            mount_fusectl();
            mine.mount(&[]).ok();
            let open = mine
                .user
                .command("/bin/sh")
                .args(["-c", "exec sleep 1000 > mnt/f"])
                .spawn();
            let open = common::Background(open.expect("sh"));
            let has_opened = || {
                fs::read_link(format!("/proc/{}/fd/1", open.0.id()))
                    .is_ok_and(|f| f.ends_with("mnt/f"))
            };
            wait_until("it has opened its file", has_opened);
            mine.umount(&["--force"]).ok();
            assert!(!is_mounted(&mine.mountpoint()));
            drop(open);
            mine.mount(&[]).ok();
            mine.umount(&[]).ok();
            run(Command::new("umount").arg("/sys/fs/fuse/connections")).ok();
        },
    );
}

#[test]
fn options_for_root_are_refused_to_others_by_name() {
    in_own_namespace("options_for_root_are_refused_to_others_by_name", || {
        let mine = Mine::new();
        mine.mount(&["-o", "dev"])
            .refused(12, &["'dev' is for root only"]);
        mine.mount(&["-o", "suid"])
            .refused(12, &["'suid' is for root only"]);
        replace_file(
            &mine.scratch,
            "/etc/fuse.conf",
            "#user_allow_other\n",
            0o644,
        );
        mine.mount(&["-o", "allow_other"])
            .refused(12, &["user_allow_other", "/etc/fuse.conf"]);
        run(Command::new("umount").arg("/etc/fuse.conf")).ok();
    });
}

#[test]
fn allow_other_lets_others_in_where_the_administrator_has_permitted_it() {
    in_own_namespace(
        "allow_other_lets_others_in_where_the_administrator_has_permitted_it",
        || {
            let mine = Mine::new();
            replace_file(&mine.scratch, "/etc/fuse.conf", "user_allow_other\n", 0o644);
            mine.mount(&["-o", "allow_other"]).ok();
            mine.user.sh("echo shared > mnt/f").ok();
            assert_eq!(
                fs::read_to_string(mine.mountpoint().join("f")).expect("root gets in"),
                "shared\n"
            );
            mine.umount(&[]).ok();
            run(Command::new("umount").arg("/etc/fuse.conf")).ok();
        },
    );
}

#[test]
fn a_mount_point_of_somebody_else_is_refused() {
    in_own_namespace("a_mount_point_of_somebody_else_is_refused", || {
        let mine = Mine::new();
        let foreign = mine.scratch.dir("foreign");
        let mut command = mine.user.wardfs();
        command
            .args(["mount", "vault"])
            .arg(&foreign)
            .args(["--passphrase-file", "pw"]);
        run(&mut command).refused(
            8,
            &["foreign may not be written to", "directories of their own"],
        );
    });
}

#[test]
fn a_vault_on_a_read_only_filesystem_is_mounted_read_only() {
    in_own_namespace(
        "a_vault_on_a_read_only_filesystem_is_mounted_read_only",
        || {
            let vault = Vault::new();
            vault.mount().umount();
            run(Command::new("mount")
                .args(["--bind", "-o", "ro"])
                .args([vault.path(), vault.path()]))
            .ok();
            let refusal = run(&mut vault.mount_command());
            let mounted = run(vault.mount_command().args(["-o", "ro"]));
            if mounted.code == Some(0) {
                Mount::adopt(&vault, vault.mountpoint()).umount();
            }
            run(Command::new("umount").arg(vault.path())).ok();
            mounted.ok();
            refusal.refused(1, &["Read-only file system", "-o ro"]);
        },
    );
}

#[test]
fn somebody_elses_mount_is_not_unmounted() {
    in_own_namespace("somebody_elses_mount_is_not_unmounted", || {
        let mine = Mine::new();
        let vault = Vault::new();
        let mount = vault.mount();
        run(mine.user.wardfs().arg("umount").arg(mount.path()))
            .refused(12, &["mounted by user 0", "root"]);
        mount.umount();
    });
}

#[test]
fn somebody_elses_vault_is_not_opened() {
    in_own_namespace("somebody_elses_vault_is_not_opened", || {
        let mine = Mine::new();
        let vault = Vault::new();
        run(mine.user.wardfs().arg("info").arg(vault.path())).refused(12, &["Permission denied"]);
    });
}

#[test]
fn a_device_that_is_closed_to_the_user_is_named() {
    in_own_namespace("a_device_that_is_closed_to_the_user_is_named", || {
        let mine = Mine::new();
        run(Command::new("chmod").args(["600", "/dev/fuse"])).ok();
        mine.mount(&[]).refused(
            11,
            &["/dev/fuse may not be opened by this user", "chmod 666"],
        );
    });
}

#[test]
fn a_missing_fusermount3_is_named() {
    in_own_namespace("a_missing_fusermount3_is_named", || {
        let mine = Mine::new();
        replace_file(&mine.scratch, "/usr/bin/fusermount3", "", 0o644);
        mine.mount(&[])
            .refused(11, &["fusermount3 is not installed", "package fuse3"]);
        run(Command::new("umount").arg("/usr/bin/fusermount3")).ok();
    });
}

#[test]
fn a_missing_fuse_device_is_named() {
    in_own_namespace("a_missing_fuse_device_is_named", || {
        let vault = Vault::new();
        bare_dev(vault.dir(), &[]);
        let ran = run(&mut vault.mount_command());
        run(Command::new("umount").args(["--lazy", "/dev"])).ok();
        ran.refused(11, &["there is no /dev/fuse", "modprobe fuse"]);
    });
}

#[test]
fn the_daemon_speaks_to_the_system_log() {
    in_own_namespace("the_daemon_speaks_to_the_system_log", || {
        let vault = Vault::new();
        let scratch = TempDir::new();
        let socket = scratch.join("log");
        let log = UnixDatagram::bind(&socket).expect("the name is free");
        bare_dev(&scratch, &[["fuse", "10", "229"]]);
        std::os::unix::fs::symlink(&socket, Path::new("/dev/log")).expect("writable");
        run(&mut vault.mount_command()).ok();
        Mount::adopt(&vault, vault.mountpoint()).umount();
        let mut said = Vec::new();
        log.set_nonblocking(true).expect("a socket");
        let mut record = [0; 1024];
        while let Ok(n) = log.recv(&mut record) {
            said.push(String::from_utf8_lossy(&record[..n]).into_owned());
        }
        run(Command::new("umount").args(["--lazy", "/dev"])).ok();
        assert!(
            said.iter()
                .any(|s| s.starts_with("<30>wardfs[") && s.contains("mounted ")),
            "{said:?}"
        );
        assert!(said.iter().any(|s| s.contains("unmounted ")), "{said:?}");
    });
}
