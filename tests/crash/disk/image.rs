//! The content of a simulated disk at one moment. A copy costs a map of pointers.

use std::collections::BTreeMap;
use std::sync::Arc;

use wardfs::store::backing::{Attr, Kind, Time};

pub type Ino = u64;

pub const SECTOR: usize = 512;
pub const BLOCK: usize = 4096;
const SECTORS_PER_BLOCK: u64 = (BLOCK / SECTOR) as u64;

/// The inode number of the root directory. Not 1, which the filesystem layer gives to its own root.
pub const ROOT_INO: Ino = 2;

/// One sector's content.
pub type Sector = [u8; SECTOR];

#[derive(Debug, Clone, Default)]
pub struct FileBody {
    pub len: u64,
    /// A block that is `None` or missing is a hole.
    blocks: Vec<Option<Arc<[u8; BLOCK]>>>,
}

#[derive(Debug, Clone, Copy)]
pub struct Entry {
    pub ino: Ino,
    pub cookie: u64,
}

#[derive(Debug, Clone)]
pub enum Body {
    File(FileBody),
    Dir(BTreeMap<Vec<u8>, Entry>),
    Symlink(Vec<u8>),
    Special,
}

#[derive(Debug, Clone)]
pub struct Node {
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u64,
    pub atime: Time,
    pub mtime: Time,
    pub ctime: Time,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub body: Body,
}

impl Node {
    pub fn new(mode: u32, body: Body, now: Time) -> Self {
        Self {
            mode,
            nlink: 0,
            uid: 0,
            gid: 0,
            rdev: 0,
            atime: now,
            mtime: now,
            ctime: now,
            xattrs: BTreeMap::new(),
            body,
        }
    }

    pub fn is_dir(&self) -> bool {
        matches!(self.body, Body::Dir(_))
    }

    pub fn file(&self) -> Option<&FileBody> {
        match &self.body {
            Body::File(file) => Some(file),
            _ => None,
        }
    }

    pub fn entries(&self) -> Option<&BTreeMap<Vec<u8>, Entry>> {
        match &self.body {
            Body::Dir(entries) => Some(entries),
            _ => None,
        }
    }

    pub fn kind(&self) -> Option<Kind> {
        Kind::of_mode(self.mode)
    }

    pub fn attr(&self, ino: Ino) -> Attr {
        let (size, blocks) = match &self.body {
            Body::File(file) => (file.len, file.allocated() * SECTORS_PER_BLOCK),
            Body::Symlink(target) => (target.len() as u64, 0),
            Body::Dir(_) => (BLOCK as u64, SECTORS_PER_BLOCK),
            Body::Special => (0, 0),
        };
        Attr {
            ino,
            dev: 1,
            mode: self.mode,
            nlink: if self.is_dir() { 2 } else { self.nlink },
            uid: self.uid,
            gid: self.gid,
            rdev: self.rdev,
            size,
            blocks,
            atime: self.atime,
            mtime: self.mtime,
            ctime: self.ctime,
        }
    }
}

impl FileBody {
    pub fn block(&self, no: u64) -> Option<&[u8; BLOCK]> {
        self.blocks.get(no as usize)?.as_deref()
    }

    fn allocated(&self) -> u64 {
        self.blocks.iter().flatten().count() as u64
    }

    /// Reads from `off` on; answers how many bytes there were.
    pub fn read(&self, off: u64, out: &mut [u8]) -> usize {
        let end = self.len.min(off.saturating_add(out.len() as u64));
        let mut at = off;
        while at < end {
            let no = at / BLOCK as u64;
            let within = (at % BLOCK as u64) as usize;
            let take = (BLOCK - within).min((end - at) as usize);
            let to = &mut out[(at - off) as usize..][..take];
            match self.block(no) {
                Some(block) => to.copy_from_slice(&block[within..within + take]),
                None => to.fill(0),
            }
            at += take as u64;
        }
        end.saturating_sub(off) as usize
    }

    /// The sector as the page cache holds it: also beyond the end.
    pub fn sector(&self, no: u64) -> Sector {
        let mut sector = [0; SECTOR];
        if let Some(block) = self.block(no / SECTORS_PER_BLOCK) {
            let at = (no % SECTORS_PER_BLOCK) as usize * SECTOR;
            sector.copy_from_slice(&block[at..at + SECTOR]);
        }
        sector
    }

    fn block_mut(&mut self, no: u64) -> &mut [u8; BLOCK] {
        if self.blocks.len() <= no as usize {
            self.blocks.resize(no as usize + 1, None);
        }
        let block = self.blocks[no as usize].get_or_insert_with(|| Arc::new([0; BLOCK]));
        Arc::make_mut(block)
    }

    pub fn put_sector(&mut self, no: u64, content: &Sector) {
        let at = (no % SECTORS_PER_BLOCK) as usize * SECTOR;
        self.block_mut(no / SECTORS_PER_BLOCK)[at..at + SECTOR].copy_from_slice(content);
    }

    /// Gives an empty file its content.
    pub fn fill(&mut self, bytes: &[u8]) {
        for (no, piece) in bytes.chunks(BLOCK).enumerate() {
            self.block_mut(no as u64)[..piece.len()].copy_from_slice(piece);
        }
        self.len = bytes.len() as u64;
    }

    /// Adds a page that was read elsewhere, of which `len` bytes belong to the file; `None` is a hole.
    pub fn append_page(&mut self, no: u64, page: Option<&[u8; BLOCK]>, len: usize) {
        if let Some(page) = page.filter(|_| len > 0) {
            *self.block_mut(no) = *page;
        }
        self.len = no * BLOCK as u64 + len as u64;
    }

    /// Makes the blocks `first..end` holes.
    pub fn punch_blocks(&mut self, first: u64, end: u64) {
        let end = (end as usize).min(self.blocks.len());
        for block in self.blocks.iter_mut().take(end).skip(first as usize) {
            *block = None;
        }
    }

    /// Throws away what lies beyond the end.
    pub fn trim(&mut self) {
        let whole = self.len.div_ceil(BLOCK as u64);
        self.blocks.truncate(whole as usize);
        let within = (self.len % BLOCK as u64) as usize;
        if within > 0
            && let Some(Some(last)) = self.blocks.get_mut(whole as usize - 1)
            && last[within..].iter().any(|b| *b != 0)
        {
            Arc::make_mut(last)[within..].fill(0);
        }
    }

    pub fn set_len(&mut self, len: u64) {
        self.trim();
        self.len = len;
        self.trim();
    }

    /// The next offset at or after `off` in an allocated block (`data`) or in a hole.
    pub fn seek(&self, off: u64, data: bool) -> Option<u64> {
        let mut at = off;
        while at < self.len {
            if self.block(at / BLOCK as u64).is_some() == data {
                return Some(at);
            }
            at = (at / BLOCK as u64 + 1) * BLOCK as u64;
        }
        (!data && off < self.len).then_some(self.len)
    }
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Image {
    nodes: BTreeMap<Ino, Arc<Node>>,
}

impl Image {
    pub fn new(now: Time) -> Self {
        let root = Node::new(libc::S_IFDIR | 0o755, Body::Dir(BTreeMap::new()), now);
        let mut image = Self::default();
        image.insert(ROOT_INO, root);
        image
    }

    pub fn insert(&mut self, ino: Ino, node: Node) {
        self.nodes.entry(ino).or_insert_with(|| Arc::new(node));
    }

    pub fn node(&self, ino: Ino) -> Option<&Node> {
        self.nodes.get(&ino).map(Arc::as_ref)
    }

    pub fn node_mut(&mut self, ino: Ino) -> Option<&mut Node> {
        self.nodes.get_mut(&ino).map(Arc::make_mut)
    }

    pub fn file_mut(&mut self, ino: Ino) -> Option<&mut FileBody> {
        match &mut self.node_mut(ino)?.body {
            Body::File(file) => Some(file),
            _ => None,
        }
    }

    pub fn entry(&self, dir: Ino, name: &[u8]) -> Option<Ino> {
        Some(self.node(dir)?.entries()?.get(name)?.ino)
    }

    /// Above every number in use.
    pub fn next_ino(&self) -> Ino {
        self.nodes.keys().next_back().map_or(100, |ino| ino + 1)
    }

    /// Puts an entry into a directory; what it replaces loses a link.
    pub fn enter(&mut self, dir: Ino, name: &[u8], ino: Ino, cookie: u64) {
        self.leave(dir, name);
        if let Some(Body::Dir(entries)) = self.node_mut(dir).map(|n| &mut n.body) {
            entries.insert(name.to_vec(), Entry { ino, cookie });
        }
        if let Some(node) = self.node_mut(ino) {
            node.nlink += 1;
        }
    }

    /// Takes an entry out of a directory; answers what it was.
    pub fn leave(&mut self, dir: Ino, name: &[u8]) -> Option<Ino> {
        self.entry(dir, name)?;
        let Some(Body::Dir(entries)) = self.node_mut(dir).map(|n| &mut n.body) else {
            return None;
        };
        let ino = entries.remove(name)?.ino;
        if let Some(node) = self.node_mut(ino) {
            node.nlink = node.nlink.saturating_sub(1);
        }
        Some(ino)
    }
}
