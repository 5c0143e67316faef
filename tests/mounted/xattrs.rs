//! Extended attributes.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use rustix::fs::{
    CWD, FileType, Mode, XattrFlags, fsetxattr, lgetxattr, lgetxattr_query, llistxattr,
    llistxattr_query, lremovexattr, lsetxattr, mknodat,
};

use crate::common::run;
use crate::fixture::{DATA_KINDS, PLAIN, assert_errno, on_each};

fn set(path: &Path, name: &str, value: &[u8]) -> rustix::io::Result<()> {
    lsetxattr(path, name, value, XattrFlags::empty())
}

fn get(path: &Path, name: &str) -> rustix::io::Result<Vec<u8>> {
    let mut value = vec![0; 65536];
    let len = lgetxattr(path, name, &mut value)?;
    value.truncate(len);
    Ok(value)
}

fn list(path: &Path) -> BTreeSet<String> {
    let mut names = vec![0; 65536];
    let len = llistxattr(path, &mut names).expect("there");
    let names = names[..len].split(|b| *b == 0).filter(|n| !n.is_empty());
    names
        .map(|n| String::from_utf8(n.to_vec()).expect("plain names here"))
        .collect()
}

fn set_of(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

#[test]
fn user_attributes_are_kept_on_files_and_directories() {
    on_each(&DATA_KINDS, |place| {
        fs::write(place.join("file"), b"content").expect("free");
        fs::write(place.join("empty"), b"").expect("free");
        fs::create_dir(place.join("dir")).expect("free");
        for path in ["file", "empty", "dir", "."].map(|n| place.join(n)) {
            set(&path, "user.name", b"value").expect("room");
            set(&path, "user.empty", b"").expect("room");
            set(&path, "user.bytes", &[0, 255, 10]).expect("room");
        }
        for _ in 0..2 {
            for path in ["file", "empty", "dir", "."].map(|n| place.join(n)) {
                assert_eq!(get(&path, "user.name").expect("set"), b"value");
                assert_eq!(get(&path, "user.empty").expect("set"), b"");
                assert_eq!(get(&path, "user.bytes").expect("set"), [0, 255, 10]);
                assert_eq!(
                    list(&path),
                    set_of(&["user.name", "user.empty", "user.bytes"])
                );
            }
            place.remount();
        }
        for path in ["file", "empty", "dir", "."].map(|n| place.join(n)) {
            lremovexattr(&path, "user.name").expect("set");
            assert_errno(get(&path, "user.name"), libc::ENODATA);
            assert_errno(lremovexattr(&path, "user.name"), libc::ENODATA);
            assert_eq!(list(&path), set_of(&["user.empty", "user.bytes"]));
        }
        crate::fixture::assert_content(&place.join("file"), b"content");
    });
}

#[test]
fn names_and_values_are_sealed_in_the_vault() {
    PLAIN.run(|place| {
        fs::write(place.join("file"), b"").expect("free");
        set(&place.join("file"), "user.patient", b"diagnosis").expect("room");
        let stored = place.stored(&place.join("file"));
        let names = list(&stored);
        assert_eq!(names.len(), 1);
        let name = names.first().expect("one");
        assert!(
            name.starts_with("user.wardfs.") && !name.contains("patient"),
            "{name}"
        );
        let value = get(&stored, name).expect("there");
        assert!(!value.windows(9).any(|w| w == b"diagnosis"));
        assert_errno(get(&place.join("file"), name), libc::ENODATA);
    });
}

#[test]
fn names_may_be_as_long_as_the_kernel_allows() {
    PLAIN.run(|place| {
        let path = place.join("file");
        fs::write(&path, b"").expect("free");
        for len in [1, 16, 100, 200, 250] {
            let name = format!("user.{}", "n".repeat(len));
            set(&path, &name, name.as_bytes()).unwrap_or_else(|e| panic!("{len}: {e}"));
        }
        assert_errno(
            set(&path, &format!("user.{}", "n".repeat(251)), b"x"),
            libc::ERANGE,
        );
        place.remount();
        for len in [1, 16, 100, 200, 250] {
            let name = format!("user.{}", "n".repeat(len));
            assert_eq!(get(&path, &name).expect("set"), name.as_bytes());
        }
        assert_eq!(list(&path).len(), 5);
    });
}

#[test]
fn creating_and_replacing_are_told_apart() {
    PLAIN.run(|place| {
        let path = place.join("file");
        fs::write(&path, b"").expect("free");
        assert_errno(
            lsetxattr(&path, "user.a", b"1", XattrFlags::REPLACE),
            libc::ENODATA,
        );
        lsetxattr(&path, "user.a", b"1", XattrFlags::CREATE).expect("new");
        assert_errno(
            lsetxattr(&path, "user.a", b"2", XattrFlags::CREATE),
            libc::EEXIST,
        );
        lsetxattr(&path, "user.a", b"3", XattrFlags::REPLACE).expect("there");
        assert_eq!(get(&path, "user.a").expect("set"), b"3");
    });
}

#[test]
fn sizes_can_be_asked_for_and_short_buffers_are_refused() {
    PLAIN.run(|place| {
        let path = place.join("file");
        fs::write(&path, b"").expect("free");
        set(&path, "user.a", b"twelve bytes").expect("room");
        assert_eq!(lgetxattr_query(&path, "user.a").expect("size"), 12);
        assert_eq!(llistxattr_query(&path).expect("size"), 7);
        assert_errno(lgetxattr(&path, "user.a", &mut [0; 11]), libc::ERANGE);
        assert_errno(llistxattr(&path, &mut [0; 6]), libc::ERANGE);
    });
}

#[test]
fn large_values_are_kept_or_refused_as_the_backing_filesystem_does() {
    PLAIN.run(|place| {
        let (path, plain) = (place.join("file"), place.vault().dir().join("plain"));
        fs::write(&path, b"").expect("free");
        fs::write(&plain, b"").expect("free");
        let mut kept = 0;
        for len in [1000, 3000, 3900, 6000, 20_000, 60_000] {
            let value = crate::fixture::bytes(1, len);
            let here = set(&path, "user.large", &value);
            match set(&plain, "user.large", &value) {
                // The sealed value is a little longer than the plain one.
                Ok(()) if here.is_ok() => kept = len,
                Ok(()) => assert!(
                    set(&plain, "user.large", &crate::fixture::bytes(1, len + 150)).is_err(),
                    "{len}"
                ),
                Err(e) => assert_errno(here, e.raw_os_error()),
            }
        }
        assert!(kept >= 3000);
        assert_errno(set(&path, "user.large", &vec![0; 65_537]), libc::E2BIG);
        place.remount();
        assert_eq!(
            get(&path, "user.large").expect("the last that fitted"),
            crate::fixture::bytes(1, kept)
        );
    });
}

#[test]
fn trusted_and_security_attributes_pass_through() {
    PLAIN.run(|place| {
        let path = place.join("file");
        fs::copy("/bin/true", &path).expect("room");
        set(&path, "trusted.overlay.opaque", b"y").expect("root");
        set(&path, "security.custom", b"label").expect("root");
        run(Command::new("setcap")
            .arg("cap_net_bind_service+ep")
            .arg(&path))
        .ok();
        for _ in 0..2 {
            assert_eq!(get(&path, "trusted.overlay.opaque").expect("set"), b"y");
            assert_eq!(get(&path, "security.custom").expect("set"), b"label");
            assert!(
                run(Command::new("getcap").arg(&path))
                    .ok()
                    .contains("cap_net_bind_service")
            );
            let names = [
                "trusted.overlay.opaque",
                "security.custom",
                "security.capability",
            ];
            assert_eq!(list(&path), set_of(&names));
            place.remount();
        }
        assert_eq!(
            get(&place.stored(&path), "security.custom").expect("passed through"),
            b"label"
        );
    });
}

#[test]
fn other_namespaces_are_refused() {
    PLAIN.run(|place| {
        let path = place.join("file");
        fs::write(&path, b"").expect("free");
        for name in ["other.name", "system.other", "name"] {
            assert_errno(set(&path, name, b"x"), libc::EOPNOTSUPP);
            assert_errno(get(&path, name), libc::EOPNOTSUPP);
        }
        assert_errno(set(&path, "user.", b"x"), libc::EINVAL);
    });
}

#[test]
fn links_and_special_files_have_no_user_attributes_but_trusted_ones() {
    PLAIN.run(|place| {
        fs::write(place.join("file"), b"").expect("free");
        symlink("file", place.join("link")).expect("free");
        mknodat(CWD, place.join("fifo"), FileType::Fifo, Mode::RWXU, 0).expect("free");
        for name in ["link", "fifo"] {
            let path = place.join(name);
            assert_errno(set(&path, "user.a", b"x"), libc::EPERM);
            set(&path, "trusted.a", b"x").expect("root");
            place.remount();
            assert_eq!(get(&path, "trusted.a").expect("set"), b"x");
            assert_eq!(list(&path), set_of(&["trusted.a"]));
            assert_errno(get(&path, "user.a"), libc::ENODATA);
            lremovexattr(&path, "trusted.a").expect("set");
        }
        assert!(list(&place.join("file")).is_empty());
    });
}

#[test]
fn attributes_go_with_the_file_under_every_name() {
    on_each(&DATA_KINDS[..2], |place| {
        fs::create_dir(place.join("dir")).expect("free");
        let file = File::create(place.join("a")).expect("free");
        fsetxattr(&file, "user.a", b"set while open", XattrFlags::empty()).expect("room");
        drop(file);
        fs::hard_link(place.join("a"), place.join("dir/b")).expect("free");
        fs::rename(place.join("a"), place.join("c")).expect("there");
        fs::rename(place.join("dir"), place.join("moved")).expect("there");
        set(&place.join("moved"), "user.dir", b"dir").expect("room");
        fs::rename(place.join("moved"), place.join("again")).expect("there");
        place.remount();
        for name in ["c", "again/b"] {
            assert_eq!(
                get(&place.join(name), "user.a").expect("set"),
                b"set while open"
            );
        }
        assert_eq!(get(&place.join("again"), "user.dir").expect("set"), b"dir");
    });
}

#[test]
fn setting_an_attribute_leaves_the_modification_time() {
    PLAIN.run(|place| {
        fs::create_dir(place.join("dir")).expect("free");
        fs::write(place.join("file"), b"").expect("free");
        for path in [place.join("dir"), place.join("file")] {
            let before = fs::metadata(&path)
                .expect("there")
                .modified()
                .expect("told");
            set(&path, "user.a", b"x").expect("room");
            place.remount();
            assert_eq!(
                fs::metadata(&path)
                    .expect("there")
                    .modified()
                    .expect("told"),
                before
            );
        }
    });
}
