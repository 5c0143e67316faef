//! One change of a simulated disk, and what it does to an image when all, some or nothing of it got there.

use std::fmt;

use wardfs::store::backing::{SetTime, Sync, Time};

use crate::disk::image::{BLOCK, Body, Image, Ino, Node, SECTOR, Sector};

const SECTORS_PER_BLOCK: u64 = (BLOCK / SECTOR) as u64;

#[derive(Debug, Clone)]
pub enum AttrChange {
    Mode(u32),
    Owner(Option<u32>, Option<u32>),
    Times(SetTime, SetTime),
}

#[derive(Debug, Clone)]
pub enum Op {
    Make {
        dir: Ino,
        name: Vec<u8>,
        ino: Ino,
        node: Node,
    },
    Link {
        dir: Ino,
        name: Vec<u8>,
        ino: Ino,
    },
    Remove {
        dir: Ino,
        name: Vec<u8>,
        ino: Ino,
    },
    Rename {
        from: (Ino, Vec<u8>),
        to: (Ino, Vec<u8>),
        ino: Ino,
        replaced: Option<Ino>,
        exchange: bool,
    },
    Write {
        ino: Ino,
        /// The first sector, and the whole sectors as the page cache held them after the write.
        first: u64,
        sectors: Vec<Sector>,
        /// Bytes: where the write began and ended, and how long the file was before.
        begin: u64,
        end: u64,
        len_before: u64,
        /// The blocks that had no place on the disk before.
        fresh: Vec<u64>,
    },
    SetLen {
        ino: Ino,
        len: u64,
    },
    /// Whole blocks become holes; the edges are zeroed as data.
    Punch {
        ino: Ino,
        blocks: (u64, u64),
        edges: Vec<(u64, Sector)>,
    },
    Attr {
        ino: Ino,
        change: AttrChange,
    },
    Xattr {
        ino: Ino,
        name: Vec<u8>,
        value: Option<Vec<u8>>,
    },
    Sync {
        ino: Ino,
        what: Sync,
    },
    SyncDir {
        ino: Ino,
    },
    SyncAll,
}

/// An operation and the moment of it.
#[derive(Debug, Clone)]
pub struct Logged {
    pub op: Op,
    pub time: Time,
    /// For new entries: where they stand in a listing.
    pub cookie: u64,
}

/// Which sectors of an operation got to the disk.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Mask {
    All,
    None,
    Some(Vec<bool>),
}

impl Mask {
    pub fn has(&self, i: usize) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::Some(kept) => kept.get(i).copied().unwrap_or(false),
        }
    }
}

/// What of an operation got to the disk.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Keep {
    /// Names, attributes, cuts.
    pub meta: bool,
    /// The new length of a file that a write extends.
    pub size: bool,
    pub data: Mask,
}

impl Keep {
    pub const ALL: Self = Self {
        meta: true,
        size: true,
        data: Mask::All,
    };
}

/// What happens to a sector that was overwritten in a block which never got a place on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unplaced {
    Lost,
    Kept,
}

impl Op {
    pub fn has_meta(&self) -> bool {
        match self {
            Self::Make { .. }
            | Self::Link { .. }
            | Self::Remove { .. }
            | Self::Rename { .. }
            | Self::SetLen { .. }
            | Self::Attr { .. }
            | Self::Xattr { .. } => true,
            Self::Punch { blocks, .. } => blocks.0 < blocks.1,
            _ => false,
        }
    }

    pub fn has_size(&self) -> bool {
        matches!(self, Self::Write { end, len_before, .. } if end > len_before)
    }

    pub fn sectors(&self) -> usize {
        match self {
            Self::Write { sectors, .. } => sectors.len(),
            Self::Punch { edges, .. } => edges.len(),
            _ => 0,
        }
    }

    /// The block in which sector number `i` of a write lies.
    pub fn block_of(&self, i: usize) -> u64 {
        match self {
            Self::Write { first, .. } => (first + i as u64) / SECTORS_PER_BLOCK,
            Self::Punch { edges, .. } => edges[i].0 / SECTORS_PER_BLOCK,
            _ => 0,
        }
    }

    /// The file whose content or attributes it changes.
    pub fn content_of(&self) -> Option<Ino> {
        match self {
            Self::Write { ino, .. }
            | Self::SetLen { ino, .. }
            | Self::Punch { ino, .. }
            | Self::Attr { ino, .. }
            | Self::Xattr { ino, .. } => Some(*ino),
            _ => None,
        }
    }

    /// Whether the inode is changed, also by a name of it that comes or goes.
    pub fn touches(&self, wanted: Ino) -> bool {
        match self {
            Self::Make { ino, .. } | Self::Link { ino, .. } | Self::Remove { ino, .. } => {
                *ino == wanted
            }
            Self::Rename { ino, replaced, .. } => *ino == wanted || *replaced == Some(wanted),
            other => other.content_of() == Some(wanted),
        }
    }

    /// The names it changes.
    pub fn slots(&self) -> Vec<(Ino, &[u8])> {
        match self {
            Self::Make { dir, name, .. }
            | Self::Link { dir, name, .. }
            | Self::Remove { dir, name, .. } => vec![(*dir, name)],
            Self::Rename { from, to, .. } => vec![(from.0, &from.1), (to.0, &to.1)],
            _ => Vec::new(),
        }
    }

    /// What a write interrupted after `pages` pages has done.
    pub fn prefix(&self, pages: u64) -> Option<Self> {
        let Self::Write {
            ino,
            first,
            sectors,
            begin,
            end,
            len_before,
            fresh,
        } = self
        else {
            return None;
        };
        let cut = (begin / BLOCK as u64 + pages) * BLOCK as u64;
        if pages == 0 || cut >= *end {
            return None;
        }
        let kept = (cut / SECTOR as u64 - first) as usize;
        Some(Self::Write {
            ino: *ino,
            first: *first,
            sectors: sectors[..kept].to_vec(),
            begin: *begin,
            end: cut,
            len_before: *len_before,
            fresh: fresh
                .iter()
                .copied()
                .filter(|b| *b < cut / BLOCK as u64)
                .collect(),
        })
    }

    pub fn pages(&self) -> u64 {
        match self {
            Self::Write { begin, end, .. } => end.div_ceil(BLOCK as u64) - begin / BLOCK as u64,
            _ => 0,
        }
    }
}

impl Image {
    pub fn apply(&mut self, logged: &Logged, keep: &Keep, unplaced: Unplaced) {
        let (now, cookie) = (logged.time, logged.cookie);
        match &logged.op {
            Op::Make {
                dir,
                name,
                ino,
                node,
            } => {
                self.insert(*ino, node.clone());
                if keep.meta {
                    self.enter(*dir, name, *ino, cookie);
                    self.touch(*dir, now);
                }
            }
            Op::Link { dir, name, ino } if keep.meta => {
                self.enter(*dir, name, *ino, cookie);
                self.touch(*dir, now);
                self.touch_attributes(*ino, now);
            }
            Op::Remove { dir, name, ino } if keep.meta => {
                self.leave(*dir, name);
                self.touch(*dir, now);
                self.touch_attributes(*ino, now);
            }
            Op::Rename {
                from,
                to,
                exchange,
                replaced,
                ..
            } if keep.meta => {
                let Some(moved) = self.leave(from.0, &from.1) else {
                    return;
                };
                self.enter(to.0, &to.1, moved, cookie);
                if let (true, Some(other)) = (*exchange, *replaced) {
                    self.enter(from.0, &from.1, other, cookie + 1);
                }
                self.touch(from.0, now);
                self.touch(to.0, now);
                self.touch_attributes(moved, now);
            }
            Op::Write {
                ino,
                first,
                sectors,
                end,
                fresh,
                ..
            } => {
                let Some(file) = self.file_mut(*ino) else {
                    return;
                };
                for (i, sector) in sectors.iter().enumerate() {
                    let block = logged.op.block_of(i);
                    let placed = unplaced == Unplaced::Kept
                        || fresh.contains(&block)
                        || file.block(block).is_some();
                    if keep.data.has(i) && placed {
                        file.put_sector(first + i as u64, sector);
                    }
                }
                if keep.size {
                    file.len = file.len.max(*end);
                    self.touch(*ino, now);
                }
            }
            Op::SetLen { ino, len } if keep.meta => {
                if let Some(file) = self.file_mut(*ino) {
                    file.set_len(*len);
                }
                self.touch(*ino, now);
            }
            Op::Punch { ino, blocks, edges } => {
                let Some(file) = self.file_mut(*ino) else {
                    return;
                };
                if keep.meta {
                    file.punch_blocks(blocks.0, blocks.1);
                }
                for (i, (no, sector)) in edges.iter().enumerate() {
                    if keep.data.has(i) && file.block(logged.op.block_of(i)).is_some() {
                        file.put_sector(*no, sector);
                    }
                }
                if keep.meta {
                    self.touch(*ino, now);
                }
            }
            Op::Attr { ino, change } if keep.meta => {
                let Some(node) = self.node_mut(*ino) else {
                    return;
                };
                match change {
                    AttrChange::Mode(mode) => node.mode = node.mode & libc::S_IFMT | mode & 0o7777,
                    AttrChange::Owner(uid, gid) => {
                        node.uid = uid.unwrap_or(node.uid);
                        node.gid = gid.unwrap_or(node.gid);
                    }
                    AttrChange::Times(atime, mtime) => {
                        set_time(&mut node.atime, *atime, now);
                        set_time(&mut node.mtime, *mtime, now);
                    }
                }
                node.ctime = now;
            }
            Op::Xattr { ino, name, value } if keep.meta => {
                let Some(node) = self.node_mut(*ino) else {
                    return;
                };
                match value {
                    Some(value) => node.xattrs.insert(name.clone(), value.clone()),
                    None => node.xattrs.remove(name),
                };
                node.ctime = now;
            }
            _ => {}
        }
    }

    fn touch(&mut self, ino: Ino, now: Time) {
        if let Some(node) = self.node_mut(ino) {
            node.mtime = now;
            node.ctime = now;
        }
    }

    fn touch_attributes(&mut self, ino: Ino, now: Time) {
        if let Some(node) = self.node_mut(ino) {
            node.ctime = now;
        }
    }
}

fn set_time(time: &mut Time, to: SetTime, now: Time) {
    match to {
        SetTime::Keep => {}
        SetTime::Now => *time = now,
        SetTime::At(at) => *time = at,
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Make {
                dir,
                name,
                ino,
                node,
            } => {
                let what = match &node.body {
                    Body::File(_) => "create",
                    Body::Dir(_) => "mkdir",
                    Body::Symlink(_) => "symlink",
                    Body::Special => "mknod",
                };
                write!(f, "{what} {dir}/{} = inode {ino}", short(name))
            }
            Self::Link { dir, name, ino } => {
                write!(f, "link inode {ino} as {dir}/{}", short(name))
            }
            Self::Remove { dir, name, ino } => {
                write!(f, "remove {dir}/{} (inode {ino})", short(name))
            }
            Self::Rename { from, to, ino, .. } => write!(
                f,
                "rename {}/{} to {}/{} (inode {ino})",
                from.0,
                short(&from.1),
                to.0,
                short(&to.1)
            ),
            Self::Write {
                ino,
                begin,
                end,
                len_before,
                ..
            } => write!(
                f,
                "write inode {ino} {begin}..{end} (length was {len_before})"
            ),
            Self::SetLen { ino, len } => write!(f, "set length of inode {ino} to {len}"),
            Self::Punch { ino, blocks, .. } => {
                write!(f, "punch inode {ino} blocks {}..{}", blocks.0, blocks.1)
            }
            Self::Attr { ino, change } => match change {
                AttrChange::Mode(mode) => write!(f, "mode of inode {ino}: {mode:o}"),
                AttrChange::Owner(..) => write!(f, "owner of inode {ino}"),
                AttrChange::Times(..) => write!(f, "times of inode {ino}"),
            },
            Self::Xattr { ino, name, .. } => {
                write!(f, "extended attribute of inode {ino}: {}", short(name))
            }
            Self::Sync { ino, what } => write!(f, "sync inode {ino} {what:?}"),
            Self::SyncDir { ino } => write!(f, "sync directory {ino}"),
            Self::SyncAll => f.write_str("sync everything"),
        }
    }
}

fn short(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    match text.char_indices().nth(12) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.into_owned(),
    }
}
