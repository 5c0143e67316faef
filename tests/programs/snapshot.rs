//! A directory tree as one comparable value: everything a copy must keep.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{SeekFrom, lgetxattr, llistxattr, seek};

use crate::support::read;

/// Whether access times are compared; not every program copies them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessTimes {
    Compared,
    Ignored,
}

/// Seconds and nanoseconds.
type Time = (i64, i64);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    kind: Kind,
    mode: u32,
    owner: (u32, u32),
    mtime: Time,
    atime: Time,
    xattrs: BTreeMap<OsString, Vec<u8>>,
    /// The first path, in order, of the same inode. Directories count for themselves.
    same_as: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    File {
        content: Vec<u8>,
        links: u64,
        allocated: u64,
        holes: bool,
    },
    Directory,
    Symlink {
        target: PathBuf,
    },
    Fifo,
    Socket,
    Device {
        character: bool,
        number: u64,
    },
}

#[derive(Debug, Clone, Default)]
pub struct Snapshot(BTreeMap<PathBuf, Entry>);

impl Snapshot {
    pub fn of(root: &Path) -> Self {
        let mut paths = vec![PathBuf::new()];
        let mut pending = vec![PathBuf::new()];
        while let Some(directory) = pending.pop() {
            let listing = fs::read_dir(root.join(&directory));
            for entry in listing.unwrap_or_else(|e| panic!("list {}: {e}", directory.display())) {
                let entry = entry.expect("it can be listed");
                let path = directory.join(entry.file_name());
                if entry
                    .file_type()
                    .expect("every filesystem here tells")
                    .is_dir()
                {
                    pending.push(path.clone());
                }
                paths.push(path);
            }
        }
        paths.sort();
        let mut first_of = BTreeMap::new();
        let entries = paths.into_iter().map(|path| {
            let full = root.join(&path);
            let metadata = fs::symlink_metadata(&full)
                .unwrap_or_else(|e| panic!("stat {}: {e}", full.display()));
            let same_as = first_of
                .entry(metadata.ino())
                .or_insert_with(|| path.clone())
                .clone();
            (path, Entry::of(&full, &metadata, same_as))
        });
        Self(entries.collect())
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Leaves the times of the root out of comparisons.
    pub fn forget_times_of_root(&mut self) {
        let root = self
            .0
            .get_mut(Path::new(""))
            .expect("every tree has a root");
        (root.mtime, root.atime) = ((0, 0), (0, 0));
    }

    /// Leaves sparseness out of comparisons.
    pub fn forget_holes(&mut self) {
        for entry in self.0.values_mut() {
            if let Kind::File {
                allocated, holes, ..
            } = &mut entry.kind
            {
                (*allocated, *holes) = (u64::MAX / 2, false);
            }
        }
    }

    /// Takes 1970 for every modification time before it.
    pub fn begin_times_in_1970(&mut self) {
        for entry in self.0.values_mut().filter(|entry| entry.mtime.0 < 0) {
            entry.mtime = (0, 0);
        }
    }

    /// Panics with the first difference between this, the original, and `copy`.
    #[track_caller]
    pub fn assert_kept_in(&self, copy: &Self, access_times: AccessTimes) {
        let (mine, theirs): (Vec<_>, Vec<_>) = (self.0.keys().collect(), copy.0.keys().collect());
        assert_eq!(mine, theirs, "not the same names");
        for (path, original) in &self.0 {
            original.assert_kept_in(&copy.0[path], path, access_times);
        }
    }
}

impl Entry {
    fn of(full: &Path, metadata: &fs::Metadata, same_as: PathBuf) -> Self {
        let kind = metadata.file_type();
        let kind = if kind.is_dir() {
            Kind::Directory
        } else if kind.is_file() {
            Kind::File {
                content: read(full),
                links: metadata.nlink(),
                allocated: metadata.blocks() * 512,
                holes: has_holes(full, metadata.len()),
            }
        } else if kind.is_symlink() {
            Kind::Symlink {
                target: fs::read_link(full).expect("a symlink"),
            }
        } else if kind.is_fifo() {
            Kind::Fifo
        } else if kind.is_socket() {
            Kind::Socket
        } else {
            Kind::Device {
                character: kind.is_char_device(),
                number: metadata.rdev(),
            }
        };
        Self {
            kind,
            mode: metadata.mode(),
            owner: (metadata.uid(), metadata.gid()),
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
            atime: (metadata.atime(), metadata.atime_nsec()),
            xattrs: xattrs(full),
            same_as,
        }
    }

    #[track_caller]
    fn assert_kept_in(&self, copy: &Self, path: &Path, access_times: AccessTimes) {
        let path = path.display();
        match (&self.kind, &copy.kind) {
            (
                Kind::File {
                    content,
                    links,
                    allocated,
                    holes,
                },
                Kind::File {
                    content: content2,
                    links: links2,
                    allocated: allocated2,
                    holes: holes2,
                },
            ) => {
                assert_eq!(content.len(), content2.len(), "length of {path}");
                let differs = content.iter().zip(content2).position(|(a, b)| a != b);
                assert_eq!(differs, None, "first byte that differs in {path}");
                assert_eq!(links, links2, "links of {path}");
                assert!(!holes || *holes2, "the holes of {path} are gone");
                // 104 bytes for every chunk and file, and what partial blocks at the edges of holes cost.
                let most = allocated + allocated / 32 + 64 * 1024;
                assert!(
                    *allocated2 <= most,
                    "{path} takes {allocated2} bytes of disk in place of {allocated}"
                );
            }
            (kind, kind2) => assert_eq!(kind, kind2, "{path}"),
        }
        assert_eq!(
            format!("{:o}", self.mode),
            format!("{:o}", copy.mode),
            "mode of {path}"
        );
        assert_eq!(self.owner, copy.owner, "owner of {path}");
        assert_eq!(self.mtime, copy.mtime, "mtime of {path}");
        if access_times == AccessTimes::Compared {
            assert_eq!(self.atime, copy.atime, "atime of {path}");
        }
        assert_eq!(self.xattrs, copy.xattrs, "xattrs of {path}");
        assert_eq!(self.same_as, copy.same_as, "hard links of {path}");
    }
}

fn has_holes(path: &Path, len: u64) -> bool {
    let file = File::open(path).unwrap_or_else(|e| panic!("open {}: {e}", path.display()));
    len > 0 && seek(&file, SeekFrom::Hole(0)).expect("SEEK_HOLE works") < len
}

/// Without ACLs, which are copied only between filesystems that have them switched on.
fn xattrs(path: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let mut list = vec![0; 64 * 1024];
    let used = llistxattr(path, &mut list[..])
        .unwrap_or_else(|e| panic!("xattrs of {}: {e}", path.display()));
    list.truncate(used);
    let names = list
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty() && !name.starts_with(b"system."));
    names
        .map(|name| {
            let name = OsString::from_vec(name.to_vec());
            let mut value = vec![0; 64 * 1024];
            let len = lgetxattr(path, name.as_bytes(), &mut value[..])
                .unwrap_or_else(|e| panic!("xattr {name:?} of {}: {e}", path.display()));
            value.truncate(len);
            (name, value)
        })
        .collect()
}
