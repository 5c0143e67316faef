//! Limits of the disk and of the filesystem reach the program as they are, and cost nothing that was there.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use crate::common::{Vault, run};
use crate::fixture::{
    Kind, NOWRITEBACK, PLAIN, Place, XCHACHA_64K, assert_content, assert_errno, bytes,
};

/// A small ext4 filesystem under a vault; gone when dropped.
struct SmallDisk<'v> {
    vault: &'v Vault,
}

impl<'v> SmallDisk<'v> {
    fn under(vault: &'v Vault, mib: u64) -> Self {
        let image = vault.dir().join("disk.img");
        File::create(&image)
            .and_then(|f| f.set_len(mib << 20))
            .expect("there is room");
        run(Command::new("mkfs.ext4")
            .args(["-q", "-m", "0"])
            .arg(&image))
        .ok();
        let content = vault.dir().join("content");
        fs::rename(vault.path(), &content).expect("ours");
        fs::create_dir(vault.path()).expect("ours");
        run(Command::new("mount")
            .args(["-o", "loop"])
            .arg(&image)
            .arg(vault.path()))
        .ok();
        let disk = Self { vault };
        fs::remove_dir(vault.path().join("lost+found")).expect("every ext4 has it");
        run(Command::new("cp")
            .arg("-aT")
            .arg(&content)
            .arg(vault.path()))
        .ok();
        disk
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let ran = run(Command::new("umount").arg(self.vault.path()));
        if ran.code != Some(0) {
            run(Command::new("umount").arg("--lazy").arg(self.vault.path()));
        }
    }
}

/// Writes until it fails, at the latest when synced. Gives what was accepted and the error.
fn fill(path: &Path) -> std::io::Error {
    let mut file = match File::create(path) {
        Ok(file) => file,
        Err(e) => return e,
    };
    for i in 0..200 {
        if let Err(e) = file
            .write_all(&bytes(i, 300_000))
            .and_then(|()| file.sync_data())
        {
            return e;
        }
    }
    panic!("the disk is larger than it should be");
}

fn on_small_disk(kind: Kind, test: impl Fn(&mut Place<'_>)) {
    let vault = kind.vault();
    let _disk = SmallDisk::under(&vault, 24);
    let mut place = Place::new(&vault, kind.options);
    test(&mut place);
    place.umount();
}

#[test]
fn a_full_disk_is_told_and_costs_nothing_that_was_there() {
    for kind in [PLAIN, NOWRITEBACK, XCHACHA_64K] {
        on_small_disk(kind, |place| {
            for i in 0..20 {
                fs::write(
                    place.join(format!("before{i}")),
                    bytes(i, 50_000 + i as usize),
                )
                .expect("room");
            }
            let sparse = File::create(place.join("sparse")).expect("room");
            sparse.set_len(40 << 20).expect("a hole");
            sparse.write_all_at(b"middle", 20 << 20).expect("room");
            sparse.sync_all().expect("room");
            drop(sparse);

            let failed = fill(&place.join("filler"));
            assert_eq!(failed.raw_os_error(), Some(libc::ENOSPC), "{failed}");
            // Other ways to need space.
            let append = OpenOptions::new()
                .append(true)
                .open(place.join("before0"))
                .expect("there");
            let appended = (&append)
                .write_all(&vec![1; 4 << 20])
                .and_then(|()| append.sync_all());
            assert_eq!(
                appended.expect_err("full").raw_os_error(),
                Some(libc::ENOSPC)
            );
            drop(append);
            let hole = OpenOptions::new()
                .write(true)
                .open(place.join("sparse"))
                .expect("there");
            let filled = hole
                .write_all_at(&vec![1; 4 << 20], 1 << 20)
                .and_then(|()| hole.sync_all());
            assert_eq!(filled.expect_err("full").raw_os_error(), Some(libc::ENOSPC));
            drop(hole);
            let full = rustix::fs::fallocate(
                OpenOptions::new()
                    .write(true)
                    .open(place.join("before1"))
                    .expect("there"),
                rustix::fs::FallocateFlags::empty(),
                0,
                16 << 20,
            );
            assert_errno(full, libc::ENOSPC);

            for round in 0..2 {
                for i in 1..20 {
                    assert_content(
                        &place.join(format!("before{i}")),
                        &bytes(i, 50_000 + i as usize),
                    );
                }
                let grown = fs::read(place.join("before0")).expect("readable");
                assert!(grown[..50_000] == bytes(0, 50_000), "round {round}");
                let filler =
                    fs::read(place.join("filler")).expect("what was written stays readable");
                let model: Vec<u8> = (0..200)
                    .flat_map(|i| bytes(i, 300_000))
                    .take(filler.len())
                    .collect();
                let sound = filler
                    .iter()
                    .zip(&model)
                    .take_while(|(a, b)| a == b)
                    .count();
                assert!(
                    sound >= 300_000 || filler.len() < 300_000,
                    "round {round}: {sound} of {}",
                    filler.len()
                );
                let sparse = fs::read(place.join("sparse")).expect("readable");
                assert_eq!(&sparse[20 << 20..][..6], b"middle");
                assert!(sparse[..1 << 20].iter().all(|b| *b == 0));
                assert!(sparse[(20 << 20) + 6..].iter().all(|b| *b == 0));
                place.remount();
            }
            fs::remove_file(place.join("filler")).expect("removing needs no space");
            fs::write(place.join("after"), bytes(5, 1_000_000)).expect("room again");
            place.remount();
            assert_content(&place.join("after"), &bytes(5, 1_000_000));
        });
    }
}

#[test]
fn on_a_full_disk_files_can_still_be_overwritten_cut_and_removed() {
    for kind in [PLAIN, NOWRITEBACK] {
        on_small_disk(kind, |place| {
            let mut model = bytes(1, 2_000_000);
            fs::write(place.join("file"), &model).expect("room");
            while fill(&place.join("filler")).raw_os_error() != Some(libc::ENOSPC) {}
            let file = OpenOptions::new()
                .write(true)
                .open(place.join("file"))
                .expect("there");
            crate::fixture::write_both(&file, &mut model, 12_345, &bytes(2, 70_000));
            file.sync_all().expect("needs no new space");
            file.set_len(1_000_001).expect("needs no new space");
            model.truncate(1_000_001);
            drop(file);
            place.remount();
            assert_content(&place.join("file"), &model);
            fs::remove_file(place.join("filler")).expect("needs no space");
        });
    }
}

#[test]
fn a_disk_without_inodes_is_told() {
    on_small_disk(PLAIN, |place| {
        let mut made = 0;
        let failed = loop {
            match File::create(place.join(format!("file{made}"))) {
                Ok(_) => made += 1,
                Err(e) => break e,
            }
            assert!(made < 100_000, "no end of inodes");
        };
        assert_eq!(failed.raw_os_error(), Some(libc::ENOSPC));
        assert_errno(fs::create_dir(place.join("dir")), libc::ENOSPC);
        assert_errno(
            std::os::unix::fs::symlink("x", place.join("link")),
            libc::ENOSPC,
        );
        assert_errno(fs::write(place.join("l".repeat(255)), b""), libc::ENOSPC);
        place.remount();
        assert_eq!(fs::read_dir(place.root()).expect("readable").count(), made);
        fs::remove_file(place.join("file0")).expect("there");
        fs::create_dir(place.join("dir")).expect("one inode is free again");
    });
}

#[test]
fn a_file_larger_than_the_backing_filesystem_takes_is_refused_with_efbig() {
    PLAIN.run(|place| {
        let path = place.join("file");
        fs::write(&path, b"content").expect("room");
        let file = OpenOptions::new().write(true).open(&path).expect("there");
        for size in [1 << 50, 1 << 61, (1 << 62) + 1, i64::MAX as u64] {
            assert_errno(file.set_len(size), libc::EFBIG);
        }
        assert_eq!(file.metadata().expect("open").len(), 7);
        drop(file);
        place.remount();
        assert_content(&path, b"content");
        NOWRITEBACK.run(|place| {
            let file = File::create(place.join("file")).expect("free");
            file.write_all_at(b"x", 0).expect("room");
            assert_errno(file.write_all_at(b"x", 1 << 50), libc::EFBIG);
            assert_eq!(file.metadata().expect("open").len(), 1);
        });
    });
}

#[test]
fn a_large_sparse_file_is_served_to_its_end() {
    PLAIN.run(|place| {
        let path = place.join("file");
        let file = File::create(&path).expect("free");
        // ext4 ends at 16 TiB.
        file.write_all_at(b"end", 8 << 40)
            .expect("a hole takes no space");
        file.sync_all().expect("room");
        drop(file);
        place.remount();
        let mut seen = [0; 3];
        File::open(&path)
            .expect("there")
            .read_exact_at(&mut seen, 8 << 40)
            .expect("inside");
        assert_eq!(&seen, b"end");
    });
}
