//! Fifos, sockets and device nodes.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use crate::fixture::{Kind, PLAIN, assert_errno};

fn mknod(path: &Path, kind: FileType, mode: u32, device: u64) -> rustix::io::Result<()> {
    mknodat(CWD, path, kind, Mode::from_raw_mode(mode), device)
}

#[test]
fn a_fifo_carries_data() {
    PLAIN.run(|place| {
        let path = place.join("fifo");
        mknod(&path, FileType::Fifo, 0o600, 0).expect("free");
        let mut heard = Vec::new();
        std::thread::scope(|scope| {
            let path = &path;
            scope.spawn(move || {
                let mut writer = OpenOptions::new().write(true).open(path).expect("there");
                writer
                    .write_all(b"through the fifo")
                    .expect("a reader is there");
            });
            File::open(path)
                .expect("there")
                .read_to_end(&mut heard)
                .expect("readable");
        });
        assert_eq!(heard, b"through the fifo");
        place.remount();
        assert!(fs::metadata(&path).expect("there").file_type().is_fifo());
    });
}

#[test]
fn a_socket_is_bound_and_reached() {
    PLAIN.run(|place| {
        let path = place.join("socket");
        let listener = UnixListener::bind(&path).expect("free");
        let mut client = UnixStream::connect(&path).expect("bound");
        let (mut server, _) = listener.accept().expect("connected");
        client.write_all(b"hello").expect("connected");
        drop(client);
        let mut heard = Vec::new();
        server.read_to_end(&mut heard).expect("connected");
        assert_eq!(heard, b"hello");
        drop((server, listener));
        place.remount();
        assert!(fs::metadata(&path).expect("there").file_type().is_socket());
        fs::remove_file(&path).expect("there");
    });
}

#[test]
fn device_nodes_keep_their_numbers() {
    PLAIN.run(|place| {
        let nodes = [
            ("null", 1, 3),
            ("large-minor", 259, 300_000),
            ("large-major", 4095, 1),
            ("zero", 0, 0),
        ];
        for (name, major, minor) in nodes {
            mknod(
                &place.join(name),
                FileType::CharacterDevice,
                0o600,
                makedev(major, minor),
            )
            .expect("root");
            mknod(
                &place.join(format!("{name}.b")),
                FileType::BlockDevice,
                0o600,
                makedev(major, minor),
            )
            .expect("root");
        }
        for _ in 0..2 {
            for (name, major, minor) in nodes {
                let meta = fs::metadata(place.join(name)).expect("there");
                assert!(meta.file_type().is_char_device());
                assert_eq!(meta.rdev(), makedev(major, minor), "{name}");
                assert!(
                    fs::metadata(place.join(format!("{name}.b")))
                        .expect("there")
                        .file_type()
                        .is_block_device()
                );
            }
            place.remount();
        }
    });
}

#[test]
fn device_nodes_work_with_the_option_dev_only() {
    for (options, works) in [("rw", false), ("dev", true)] {
        Kind { options, ..PLAIN }.run(|place| {
            let path = place.join("null");
            mknod(&path, FileType::CharacterDevice, 0o666, makedev(1, 3)).expect("root");
            let opened = OpenOptions::new().write(true).open(&path);
            if works {
                opened
                    .expect("permitted")
                    .write_all(b"x")
                    .expect("like /dev/null");
            } else {
                assert_errno(opened, libc::EACCES);
            }
        });
    }
}

#[test]
fn mknod_makes_a_regular_file_too() {
    PLAIN.run(|place| {
        let path = place.join("file");
        mknod(&path, FileType::RegularFile, 0o640, 0).expect("free");
        assert_errno(mknod(&path, FileType::RegularFile, 0o640, 0), libc::EEXIST);
        assert_errno(mknod(&path, FileType::Fifo, 0o640, 0), libc::EEXIST);
        place.remount();
        let meta = fs::metadata(&path).expect("there");
        assert_eq!((meta.mode(), meta.len()), (libc::S_IFREG | 0o640, 0));
        assert_eq!(fs::read(&path).expect("there"), b"");
    });
}
