//! Files mapped into memory.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::ptr;

use rustix::mm::{MapFlags, MsyncFlags, ProtFlags, mmap, msync, munmap};

use crate::fixture::{DATA_KINDS, assert_content, bytes, on_each};

/// The whole of a file in memory.
struct Mapping {
    at: *mut u8,
    len: usize,
}

#[allow(unsafe_code, reason = "mapping memory is what is tested here")]
impl Mapping {
    fn new(file: &File, len: usize, flags: MapFlags) -> Self {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of this program.
        let at = unsafe { mmap(ptr::null_mut(), len, access, flags, file, 0) }.expect("mappable");
        Self { at: at.cast(), len }
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the mapping is that long, readable and writable, lives as long as `self`, and the files of these
        // tests are not cut below its length.
        unsafe { std::slice::from_raw_parts_mut(self.at, self.len) }
    }

    fn sync(&mut self) {
        // SAFETY: exactly the mapping made in `new`.
        unsafe { msync(self.at.cast(), self.len, MsyncFlags::SYNC) }.expect("mapped");
    }
}

#[allow(unsafe_code, reason = "mapping memory is what is tested here")]
impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `new`; no reference to it outlives `self`.
        let _ = unsafe { munmap(self.at.cast(), self.len) };
    }
}

fn open(path: &std::path::Path) -> File {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .expect("it is there")
}

#[test]
fn a_shared_mapping_writes_the_file() {
    on_each(&DATA_KINDS, |place| {
        let path = place.join("file");
        let mut model = bytes(1, 200_000);
        fs::write(&path, &model).expect("there is room");
        let file = open(&path);
        let mut mapping = Mapping::new(&file, model.len(), MapFlags::SHARED);
        assert!(mapping.bytes() == model);
        for (i, off) in [0usize, 4090, 65_530, 150_000, 199_980]
            .into_iter()
            .enumerate()
        {
            let piece = bytes(10 + i as u64, 20);
            mapping.bytes()[off..off + 20].copy_from_slice(&piece);
            model[off..off + 20].copy_from_slice(&piece);
        }
        assert_content(&path, &model);
        mapping.sync();
        drop(mapping);
        drop(file);
        place.remount();
        assert_content(&path, &model);
    });
}

#[test]
fn what_a_mapping_wrote_without_msync_is_in_the_file_after_unmounting() {
    on_each(&DATA_KINDS, |place| {
        let path = place.join("file");
        fs::write(&path, vec![0; 100_000]).expect("there is room");
        let file = open(&path);
        let mut mapping = Mapping::new(&file, 100_000, MapFlags::SHARED);
        drop(file);
        let model = bytes(2, 100_000);
        mapping.bytes().copy_from_slice(&model);
        drop(mapping);
        place.remount();
        assert_content(&path, &model);
    });
}

#[test]
fn a_private_mapping_leaves_the_file_alone() {
    on_each(&DATA_KINDS, |place| {
        let path = place.join("file");
        let model = bytes(3, 50_000);
        fs::write(&path, &model).expect("there is room");
        let file = open(&path);
        let mut mapping = Mapping::new(&file, model.len(), MapFlags::PRIVATE);
        mapping.bytes()[10_000..20_000].fill(7);
        assert_content(&path, &model);
        drop(mapping);
        drop(file);
        place.remount();
        assert_content(&path, &model);
    });
}

#[test]
fn a_mapping_and_a_descriptor_see_each_other() {
    on_each(&DATA_KINDS, |place| {
        let path = place.join("file");
        fs::write(&path, vec![0; 70_000]).expect("there is room");
        let file = open(&path);
        let mut mapping = Mapping::new(&file, 70_000, MapFlags::SHARED);
        file.write_all_at(b"written", 66_000).expect("inside");
        assert_eq!(&mapping.bytes()[66_000..66_007], b"written");
        mapping.bytes()[5..11].copy_from_slice(b"mapped");
        let mut seen = [0; 6];
        file.read_exact_at(&mut seen, 5).expect("inside");
        assert_eq!(&seen, b"mapped");
    });
}

#[test]
fn bytes_written_beyond_the_end_in_the_last_page_stay_out_of_the_file() {
    on_each(&DATA_KINDS, |place| {
        let path = place.join("file");
        fs::write(&path, bytes(4, 5000)).expect("there is room");
        let file = open(&path);
        let mut mapping = Mapping::new(&file, 8192, MapFlags::SHARED);
        mapping.bytes()[5000..].fill(9);
        mapping.bytes()[0] = 1;
        mapping.sync();
        drop(mapping);
        file.set_len(8192).expect("there is room");
        let mut model = bytes(4, 5000);
        model[0] = 1;
        model.resize(8192, 0);
        drop(file);
        place.remount();
        assert_content(&path, &model);
    });
}
