//! POSIX access control lists: kept and applied with `-o acl`, refused without.

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::fs::{Mode, mkdir};
use rustix::process::umask;

use crate::common::{Ran, run};
use crate::fixture::{ACL, SHARED, as_user, assert_errno, chmod, mode_of};

fn setfacl(arguments: &[&str], path: &Path) -> Ran {
    run(Command::new("setfacl").args(arguments).arg(path))
}

fn acl(path: &Path) -> Vec<String> {
    let told = run(Command::new("getfacl")
        .args(["--omit-header", "--numeric", "--absolute-names"])
        .arg(path))
    .ok();
    told.lines()
        .filter(|l| !l.is_empty())
        .map(|l| l.split('\t').next().expect("a word").to_owned())
        .collect()
}

#[test]
fn lists_are_kept_and_enforced() {
    ACL.run(|place| {
        let path = place.join("file");
        fs::write(&path, b"content").expect("free");
        chmod(&path, 0o600);
        as_user(1000, 1000, || assert_errno(fs::read(&path), libc::EACCES));
        setfacl(&["-m", "u:1000:r,g:77:rw"], &path).ok();
        for _ in 0..2 {
            as_user(1000, 1000, || {
                assert_eq!(fs::read(&path).expect("listed"), b"content");
                assert_errno(fs::write(&path, b"x"), libc::EACCES);
            });
            as_user(1001, 77, || {
                fs::write(&path, b"content").expect("of the group")
            });
            as_user(1002, 1002, || assert_errno(fs::read(&path), libc::EACCES));
            assert_eq!(
                acl(&path),
                [
                    "user::rw-",
                    "user:1000:r--",
                    "group::---",
                    "group:77:rw-",
                    "mask::rw-",
                    "other::---"
                ]
            );
            assert_eq!(mode_of(&path), 0o660);
            place.remount();
        }
        chmod(&path, 0o600);
        as_user(1000, 1000, || assert_errno(fs::read(&path), libc::EACCES));
        setfacl(&["-b"], &path).ok();
        assert_eq!(acl(&path), ["user::rw-", "group::---", "other::---"]);
    });
}

#[test]
fn a_default_list_takes_the_place_of_the_umask() {
    crate::common::namespace::in_own_namespace(
        "acls::a_default_list_takes_the_place_of_the_umask",
        || {
            ACL.run(|place| {
                let dir = place.join("dir");
                fs::create_dir(&dir).expect("free");
                setfacl(&["-d", "-m", "u::rwx,g::rwx,o::---,u:1000:rwx"], &dir).ok();
                let before = umask(Mode::from_raw_mode(0o077));
                mkdir(dir.join("sub"), Mode::from_raw_mode(0o777)).expect("free");
                fs::write(dir.join("file"), b"").expect("free");
                as_user(0, 0, || fs::write(dir.join("sub/deep"), b"").expect("free"));
                mkdir(place.join("plain"), Mode::from_raw_mode(0o777)).expect("free");
                umask(before);
                for _ in 0..2 {
                    assert_eq!(mode_of(&dir.join("sub")), 0o770);
                    assert_eq!(mode_of(&dir.join("file")), 0o660);
                    assert_eq!(mode_of(&dir.join("sub/deep")), 0o660);
                    assert!(acl(&dir.join("sub")).contains(&"default:user:1000:rwx".to_owned()));
                    assert!(acl(&dir.join("file")).contains(&"user:1000:rwx".to_owned()));
                    assert_eq!(
                        mode_of(&place.join("plain")),
                        0o700,
                        "without a default list the umask applies"
                    );
                    place.remount();
                }
            });
        },
    );
}

#[test]
fn a_default_list_applies_to_what_others_make() {
    ACL.run(|place| {
        let dir = place.join("dir");
        fs::create_dir(&dir).expect("free");
        chmod(&dir, 0o777);
        setfacl(&["-d", "-m", "u::rwx,g::r-x,o::---,u:1001:rw"], &dir).ok();
        as_user(1000, 1000, || {
            fs::write(dir.join("file"), b"his").expect("free");
            mkdir(dir.join("sub"), Mode::from_raw_mode(0o777)).expect("free");
            chmod(&dir.join("file"), 0o660);
        });
        as_user(1001, 1001, || {
            fs::write(dir.join("file"), b"mine").expect("listed by default")
        });
        as_user(1002, 1002, || {
            assert_errno(fs::read(dir.join("file")), libc::EACCES)
        });
        assert!(acl(&dir.join("sub")).contains(&"default:user:1001:rw-".to_owned()));
    });
}

#[test]
fn without_the_option_lists_are_refused() {
    SHARED.run(|place| {
        let path = place.join("file");
        fs::write(&path, b"").expect("free");
        let ran = setfacl(&["-m", "u:1000:r"], &path);
        assert!(ran.stderr.contains("Operation not supported"), "{ran:?}");
        assert_eq!(acl(&path).len(), 3);
    });
}
