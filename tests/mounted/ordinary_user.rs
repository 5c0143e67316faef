//! A mount that an ordinary user makes: the daemon has no rights beyond his.

use std::path::PathBuf;

use crate::common::namespace::{User, in_own_namespace, open_fuse_to_users};
use crate::common::{CHEAP_KDF, PASSPHRASE, Ran, TempDir, run};

/// A vault that nobody made and mounted for himself.
struct His {
    user: User,
    mountpoint: PathBuf,
    passphrase: PathBuf,
}

impl His {
    fn mount(&self) {
        let mut command = self.user.wardfs();
        command
            .args(["mount", "vault", "mnt", "--passphrase-file"])
            .arg(&self.passphrase);
        run(&mut command).ok();
    }

    fn umount(&self) -> Ran {
        run(self.user.wardfs().args(["umount", "mnt"]))
    }

    /// A shell command line in his mount.
    #[track_caller]
    fn sh(&self, line: &str) -> String {
        self.user.sh(&format!("cd mnt && {line}")).ok()
    }

    #[track_caller]
    fn remount(&self) {
        self.umount().ok();
        self.mount();
    }
}

impl Drop for His {
    fn drop(&mut self) {
        if crate::common::is_mounted(&self.mountpoint) && self.umount().code != Some(0) {
            run(self.user.wardfs().args(["umount", "--lazy", "mnt"]));
        }
    }
}

fn on_his_mount(test: &str, body: impl FnOnce(&His)) {
    in_own_namespace(test, || {
        let scratch = TempDir::new();
        open_fuse_to_users(&scratch);
        let user = User::new(&scratch);
        user.sh(&format!(
            "umask 077; mkdir mnt; printf '%s' '{PASSPHRASE}' > passphrase"
        ))
        .ok();
        let passphrase = user.home.join("passphrase");
        let mut command = user.wardfs();
        command
            .args(["init", "vault", "--passphrase-file"])
            .arg(&passphrase)
            .args(CHEAP_KDF);
        run(&mut command).ok();
        let mountpoint = user.home.join("mnt");
        let his = His {
            user,
            mountpoint,
            passphrase,
        };
        his.mount();
        body(&his);
    });
}

#[test]
fn files_that_their_own_mode_closes_to_the_owner_are_written_and_read_back() {
    let test =
        "ordinary_user::files_that_their_own_mode_closes_to_the_owner_are_written_and_read_back";
    on_his_mount(test, |his| {
        // The shell opens with O_CREAT and this umask, writes and closes.
        for (umask, mode) in [
            ("0777", "0"),
            ("0577", "200"),
            ("0333", "444"),
            ("0377", "400"),
        ] {
            his.sh(&format!(
                "(umask {umask}; head -c 9000 /dev/zero > f{mode})"
            ));
            assert_eq!(his.sh(&format!("stat -c %a f{mode}")).trim(), mode);
        }
        his.remount();
        for mode in ["0", "200", "444", "400"] {
            assert_eq!(
                his.sh(&format!("stat -c '%a %s' f{mode}")).trim(),
                format!("{mode} 9000")
            );
            his.sh(&format!(
                "chmod 600 f{mode} && cmp -n 9000 f{mode} /dev/zero && chmod {mode} f{mode}"
            ));
        }
        assert_ne!(
            his.user.sh("cat mnt/f0").code,
            Some(0),
            "the kernel keeps to the mode"
        );
        his.sh("chmod 200 f200 && printf more >> f200 && test \"$(stat -c %s f200)\" = 9004");
        his.sh("mv f0 g0 && ln g0 h0 && rm g0 && touch -d 2001-01-01 h0 && rm -f h0 f444");
    });
}

#[test]
fn directories_that_their_own_mode_closes_to_the_owner_are_kept() {
    let test = "ordinary_user::directories_that_their_own_mode_closes_to_the_owner_are_kept";
    on_his_mount(test, |his| {
        for mode in ["0", "400", "500", "300", "100", "200"] {
            his.sh(&format!(
                "mkdir -m {mode} d{mode} && test \"$(stat -c %a d{mode})\" = {mode}"
            ));
        }
        his.sh("chmod 700 d500 && echo content > d500/file && chmod 500 d500");
        his.sh("chmod 700 d300 && echo content > d300/file && chmod 300 d300");
        his.sh("! touch d500/new 2>/dev/null && ! rm -f d500/file 2>/dev/null && ! ls d300 2>/dev/null");
        his.sh("echo new > d300/new && cat d300/new && cat d500/file && ls d500");
        his.remount();
        for mode in ["0", "400", "500", "300", "100", "200"] {
            assert_eq!(his.sh(&format!("stat -c %a d{mode}")).trim(), mode);
        }
        assert_eq!(
            his.sh("cat d500/file d300/file d300/new"),
            "content\ncontent\nnew\n"
        );
        his.sh("rmdir d0 d400 d100 d200 && chmod 700 d300 d500 && rm -r d300 d500 && test -z \"$(ls)\"");
    });
}

#[test]
fn read_only_objects_as_git_writes_them_survive() {
    let test = "ordinary_user::read_only_objects_as_git_writes_them_survive";
    on_his_mount(test, |his| {
        his.sh("export HOME=$PWD && git init -q repo && cd repo && git config user.email a@b && git config user.name a \
                && for i in 1 2 3; do head -c 20000 /dev/urandom > file$i; git add -A; git commit -qm $i; done \
                && git gc -q && git fsck --strict");
        his.remount();
        his.sh("export HOME=$PWD && cd repo && git fsck --strict && git status --porcelain && git log --oneline | wc -l");
        his.sh("rm -rf repo");
    });
}

#[test]
fn links_xattrs_holes_and_long_names_work() {
    let test = "ordinary_user::links_xattrs_holes_and_long_names_work";
    on_his_mount(test, |his| {
        let (name, target) = ("n".repeat(255), "t".repeat(4000));
        his.sh(&format!("ln -s {target} link && echo long > {name} && ln {name} other && mkfifo fifo && mkdir -p a/b/c"));
        his.sh("echo x > file && setfattr -n user.a -v value file && chmod 444 file && getfattr -n user.a file");
        his.sh("truncate -s 10M sparse && fallocate -o 1M -l 1M sparse && mv a/b z && touch -h -d 1960-01-01 link");
        his.remount();
        assert_eq!(his.sh("readlink link").trim(), target);
        assert_eq!(his.sh(&format!("cat {name} other")), "long\nlong\n");
        assert_eq!(his.sh("getfattr --only-values -n user.a file"), "value");
        assert_eq!(his.sh("stat -c %Y link").trim(), "-315619200");
        assert_ne!(his.user.sh("chown 1 mnt/file").code, Some(0));
    });
}
