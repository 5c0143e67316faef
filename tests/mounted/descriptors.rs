//! The daemon keeps no descriptor and little memory for what is over.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;

use rustix::fs::{FallocateFlags, XattrFlags, fallocate, setxattr};

use crate::common::wait_until;
use crate::fixture::{DATA_KINDS, PLAIN, Place, bytes, on_each};

fn open_descriptors(place: &Place<'_>) -> usize {
    let dir = format!("/proc/{}/fd", place.mount().pid());
    fs::read_dir(dir).expect("the daemon runs").count()
}

/// Uses everything once, also in ways that fail, and removes it.
fn use_everything(root: &Path) {
    let dir = root.join("dir");
    fs::create_dir_all(dir.join("sub/sub")).expect("free");
    for i in 0..20 {
        let path = dir.join(format!("file{i}"));
        fs::write(&path, bytes(i, 10_000)).expect("room");
        fs::read(&path).expect("there");
        setxattr(&path, "user.a", b"x", XattrFlags::empty()).expect("room");
        fs::rename(&path, dir.join("renamed")).expect("there");
        fs::hard_link(dir.join("renamed"), dir.join("sub").join("l".repeat(250))).expect("free");
        fs::remove_file(dir.join("sub").join("l".repeat(250))).expect("there");
    }
    symlink("t".repeat(4000), dir.join("far")).expect("free");
    fs::read_link(dir.join("far")).expect("there");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(dir.join("renamed"))
        .expect("there");
    let reader = File::open(dir.join("renamed")).expect("there");
    fs::remove_file(dir.join("renamed")).expect("there");
    file.write_all_at(b"x", 1 << 20).expect("room");
    reader.read_at(&mut [0; 10], 0).expect("open");
    fallocate(
        &file,
        FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
        0,
        100_000,
    )
    .expect("supported");
    drop((file, reader));
    for failing in ["none", "dir/none", "dir/file0/none"] {
        assert!(File::open(root.join(failing)).is_err());
        assert!(fs::read_dir(root.join(failing)).is_err());
        assert!(fs::remove_dir(root.join(failing)).is_err());
    }
    assert!(fs::remove_dir(&dir).is_err());
    assert!(File::create(&dir).is_err());
    assert!(fs::read_dir(dir.join("sub")).expect("there").count() == 1);
    fs::remove_dir_all(&dir).expect("ours");
}

#[test]
fn no_descriptor_outlives_its_use() {
    on_each(&DATA_KINDS[..2], |place| {
        use_everything(place.root());
        let mut before = 0;
        wait_until("the kernel has released the files", || {
            let now = open_descriptors(place);
            std::mem::replace(&mut before, now) == now
        });
        for _ in 0..20 {
            use_everything(place.root());
        }
        wait_until("as many descriptors are open as before", || {
            open_descriptors(place) <= before
        });
    });
}

#[test]
fn descriptors_are_held_for_open_files_only() {
    PLAIN.run(|place| {
        for i in 0..200 {
            fs::write(place.join(i.to_string()), b"x").expect("room");
        }
        let before = open_descriptors(place);
        let open: Vec<File> = (0..200)
            .map(|i| File::open(place.join(i.to_string())).expect("there"))
            .collect();
        assert!(open_descriptors(place) >= before + 150);
        drop(open);
        wait_until("they are closed", || open_descriptors(place) <= before);
    });
}

#[test]
fn directories_kept_open_are_bounded_by_what_the_process_may_open() {
    PLAIN.run(|place| {
        for i in 0..300 {
            fs::create_dir(place.join(i.to_string())).expect("free");
            fs::write(place.join(format!("{i}/file")), b"x").expect("free");
        }
        let limits =
            fs::read_to_string(format!("/proc/{}/limits", place.mount().pid())).expect("it runs");
        let line = limits
            .lines()
            .find(|l| l.starts_with("Max open files"))
            .expect("told");
        let limit: usize = line
            .split_whitespace()
            .nth(3)
            .expect("soft limit")
            .parse()
            .expect("a number");
        assert!(open_descriptors(place) <= 64 + limit / 4);
    });
}

#[test]
fn memory_does_not_grow_with_the_size_of_a_file() {
    PLAIN.run(|place| {
        let path = place.join("file");
        let file = File::create(&path).expect("free");
        let piece = bytes(1, 1 << 20);
        for i in 0..256 {
            file.write_all_at(&piece, i << 20).expect("room");
        }
        file.sync_all().expect("room");
        drop(file);
        place.remount();
        let file = File::open(&path).expect("there");
        let mut seen = vec![0; 1 << 20];
        for i in 0..256 {
            file.read_exact_at(&mut seen, i << 20).expect("there");
        }
        let status =
            fs::read_to_string(format!("/proc/{}/status", place.mount().pid())).expect("it runs");
        let line = status
            .lines()
            .find(|l| l.starts_with("VmHWM:"))
            .expect("told");
        let peak: usize = line
            .split_whitespace()
            .nth(1)
            .expect("KiB")
            .parse()
            .expect("a number");
        assert!(peak < 150 * 1024, "{peak} KiB");
    });
}
