//! Zeros and holes where there were none.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{FallocateFlags, SeekFrom, fallocate};

use crate::common::Vault;
use crate::lab::*;

const LEN: usize = 5 * CHUNK + 100;

fn zero(path: &Path, at: usize, len: usize) {
    patch(path, at, &vec![0; len]);
}

fn punch(path: &Path, at: usize, len: usize) {
    let file = File::options().write(true).open(path).expect("stored");
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    fallocate(file, flags, at as u64, len as u64).expect("ext4, xfs, btrfs and tmpfs punch holes");
}

#[test]
fn zeros_in_a_file_without_holes_are_refused() {
    let vault = prepared(&[], |mount| {
        for name in [
            "header",
            "first",
            "inner",
            "last",
            "all",
            "punched",
            "bystander",
        ] {
            fs::write(mount.join(name), content(1, LEN)).expect("written");
        }
    });
    let mount = vault.mount();
    let at = |name| stored(&mount, name);
    let [header, first, inner, last, all, punched] = [
        at("header"),
        at("first"),
        at("inner"),
        at("last"),
        at("all"),
        at("punched"),
    ];
    mount.umount();
    zero(&header, 0, HEADER);
    zero(&first, chunk_at(0), STORED_CHUNK);
    zero(&inner, chunk_at(3), STORED_CHUNK);
    zero(&last, chunk_at(5), 140);
    zero(&all, 0, chunk_at(5) + 140);
    punch(&punched, chunk_at(1), 3 * STORED_CHUNK);
    let mount = vault.mount();
    for name in ["header", "first", "inner", "last", "all", "punched"] {
        assert_refused(&mount.join(name), name);
    }
    assert_eq!(read(&mount.join("bystander")), Ok(content(1, LEN)));
    mount.umount();
}

#[test]
fn a_sparse_file_keeps_its_holes_and_its_last_chunk_cannot_become_one() {
    let vault = prepared(&[], |mount| {
        for name in ["whole", "last"] {
            let file = File::create(mount.join(name)).expect("made");
            file.write_all_at(&content(1, 10), 0).expect("written");
            file.write_all_at(&content(2, 100), (LEN - 100) as u64)
                .expect("written");
        }
    });
    let mount = vault.mount();
    let last = stored(&mount, "last");
    mount.umount();
    zero(&last, chunk_at(5), 140);
    let mount = vault.mount();
    let mut expected = vec![0; LEN];
    expected[..10].copy_from_slice(&content(1, 10));
    expected[LEN - 100..].copy_from_slice(&content(2, 100));
    assert_eq!(read(&mount.join("whole")), Ok(expected));
    assert_refused(&mount.join("last"), "zeroed last chunk");
    mount.umount();
}

/// A program that copies by holes never reads what it is told is one.
#[test]
fn a_seek_does_not_believe_in_holes_of_a_file_without() {
    let vault = Vault::new();
    for (options, how) in [(&FORGETFUL[..], "zeroed"), (&[][..], "punched")] {
        let mount = vault.mount_with(options);
        fs::write(mount.join(how), content(1, 40 * CHUNK)).expect("written");
        let path = stored(&mount, how);
        mount.umount();
        match how {
            "zeroed" => zero(&path, chunk_at(1), STORED_CHUNK),
            _ => punch(&path, chunk_at(1), 30 * STORED_CHUNK),
        }
        let mount = vault.mount_with(options);
        for access in [false, true] {
            let file = File::options()
                .read(true)
                .write(access)
                .open(mount.join(how))
                .expect("opens");
            let hole = rustix::fs::seek(&file, SeekFrom::Hole(0));
            assert!(
                matches!(hole, Err(rustix::io::Errno::IO) | Ok(163_840)),
                "{how}: {hole:?}"
            );
            let data = rustix::fs::seek(&file, SeekFrom::Data(CHUNK as u64));
            assert!(
                matches!(data, Err(rustix::io::Errno::IO) | Ok(4096)),
                "{how}: {data:?}"
            );
        }
        mount.umount();
    }
}
