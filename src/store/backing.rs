//! The seam to the backing filesystem: every operation wardfs asks of the disk below the vault's root.
//!
//! Statically dispatched. [`crate::store::disk::Disk`] is the real one; power-cut simulation, fault injection and call
//! counting stand in for it. Names are single stored components, never paths. Errors are those of the system call.

use std::io;

/// Attributes of a backing object. Times are seconds and nanoseconds since 1970, negative before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attr {
    pub ino: u64,
    pub dev: u64,
    /// File type and permission bits as in `st_mode`.
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u64,
    pub size: u64,
    /// Allocated space in units of 512 bytes.
    pub blocks: u64,
    pub atime: Time,
    pub mtime: Time,
    pub ctime: Time,
}

/// Seconds since 1970 and nanoseconds after that second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time {
    pub sec: i64,
    pub nsec: u32,
}

impl Time {
    pub fn now() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let since = since.unwrap_or_default();
        Self {
            sec: since.as_secs() as i64,
            nsec: since.subsec_nanos(),
        }
    }
}

/// The type bits of `st_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    File,
    Dir,
    Symlink,
    Fifo,
    Socket,
    CharDevice,
    BlockDevice,
}

impl Kind {
    /// From `st_mode`; `None` for type bits that Linux does not have.
    pub fn of_mode(mode: u32) -> Option<Self> {
        Some(match mode & libc::S_IFMT {
            libc::S_IFREG => Self::File,
            libc::S_IFDIR => Self::Dir,
            libc::S_IFLNK => Self::Symlink,
            libc::S_IFIFO => Self::Fifo,
            libc::S_IFSOCK => Self::Socket,
            libc::S_IFCHR => Self::CharDevice,
            libc::S_IFBLK => Self::BlockDevice,
            _ => return None,
        })
    }
}

impl Attr {
    /// The object's type; an unknown one counts as a regular file, which then fails to authenticate.
    pub fn kind(&self) -> Kind {
        Kind::of_mode(self.mode).unwrap_or(Kind::File)
    }
}

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenFor {
    Read,
    ReadWrite,
}

/// One of the two times that `utimensat` sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetTime {
    Keep,
    Now,
    At(Time),
}

/// What [`Backing::allocate`] does with a range. None of them changes the length of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allocate {
    Reserve,
    Punch,
    Zero,
}

/// What [`Backing::seek`] looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeekTo {
    Data,
    Hole,
}

/// What a sync makes durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// Content, and what is needed to read it back.
    Data,
    /// Content and all attributes.
    All,
}

/// How [`Backing::rename`] treats an existing target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenameMode {
    Replace,
    NoReplace,
    Exchange,
}

/// How [`Backing::set_xattr`] treats an existing attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XattrMode {
    Any,
    Create,
    Replace,
}

/// An object whose attributes are read or changed: by name, or already open.
#[derive(Debug)]
pub enum Target<'a, B: Backing + ?Sized> {
    At(&'a B::Dir, &'a [u8]),
    Dir(&'a B::Dir),
    File(&'a B::File),
}

impl<B: Backing + ?Sized> Clone for Target<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<B: Backing + ?Sized> Copy for Target<'_, B> {}

/// One entry of a directory listing.
#[derive(Debug, Clone, Copy)]
pub struct ListedEntry<'a> {
    pub name: &'a [u8],
    pub ino: u64,
    /// `None` where the backing filesystem does not tell.
    pub kind: Option<Kind>,
    /// Where to go on after this entry.
    pub cookie: u64,
}

/// Space and inode counts of the backing filesystem, as `statvfs` gives them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Space {
    pub block_size: u32,
    pub fragment_size: u32,
    pub blocks: u64,
    pub blocks_free: u64,
    pub blocks_available: u64,
    pub files: u64,
    pub files_free: u64,
    pub name_max: u32,
}

/// A directory stream with its own position.
pub trait Listing: Send {
    /// Continues behind the entry that had this cookie; 0 is the beginning.
    fn seek(&mut self, cookie: u64) -> io::Result<()>;
    /// Calls `each` for the entries from here on until it answers `false` or the directory ends. An entry for which it
    /// answered `false` is delivered again by the next call.
    fn read(&mut self, each: &mut dyn FnMut(ListedEntry<'_>) -> bool) -> io::Result<()>;
}

/// See the module.
pub trait Backing: Send + std::marker::Sync + 'static {
    type Dir: Send + std::marker::Sync + std::fmt::Debug;
    type File: Send + std::marker::Sync + std::fmt::Debug;
    type Listing: Listing + std::fmt::Debug;
    type Pin: std::fmt::Debug;

    /// A handle of the vault's root directory.
    fn root(&self) -> io::Result<Self::Dir>;
    fn open_dir(&self, parent: &Self::Dir, name: &[u8]) -> io::Result<Self::Dir>;
    fn list(&self, dir: &Self::Dir) -> io::Result<Self::Listing>;
    fn sync_dir(&self, dir: &Self::Dir) -> io::Result<()>;

    /// Creates and opens for reading and writing; an existing name is an error.
    fn create(&self, dir: &Self::Dir, name: &[u8], mode: u32) -> io::Result<Self::File>;
    /// Opens a regular file without following links; anything else is `EINVAL`.
    fn open(&self, dir: &Self::Dir, name: &[u8], how: OpenFor) -> io::Result<Self::File>;
    /// Holds an object of any type by what is answered: its inode number is given to no other one before that is dropped,
    /// also when its last name is removed.
    fn pin(&self, dir: &Self::Dir, name: &[u8]) -> io::Result<Self::Pin>;
    /// Reads until `buf` is full or the file ends; answers how many bytes.
    fn read_at(&self, file: &Self::File, buf: &mut [u8], off: u64) -> io::Result<usize>;
    /// This range will be read soon, or written in part. A hint: nothing waits for it, and it cannot fail.
    fn will_read(&self, _file: &Self::File, _off: u64, _len: u64) {}
    /// Writes as much as possible; the error comes with the number of bytes written before it.
    fn write_at(&self, file: &Self::File, buf: &[u8], off: u64) -> Result<(), (usize, io::Error)>;
    fn set_len(&self, file: &Self::File, len: u64) -> io::Result<()>;
    fn sync(&self, file: &Self::File, what: Sync) -> io::Result<()>;
    fn allocate(&self, file: &Self::File, how: Allocate, off: u64, len: u64) -> io::Result<()>;
    /// Has it begin to write to the disk what it holds of this range in memory. Nothing waits for that or depends on it.
    fn start_write_back(&self, _file: &Self::File, _off: u64, _len: u64) {}
    /// `None` beyond the last data.
    fn seek(&self, file: &Self::File, to: SeekTo, off: u64) -> io::Result<Option<u64>>;

    fn mkdir(&self, dir: &Self::Dir, name: &[u8], mode: u32) -> io::Result<()>;
    fn mknod(&self, dir: &Self::Dir, name: &[u8], mode: u32, rdev: u64) -> io::Result<()>;
    fn symlink(&self, dir: &Self::Dir, name: &[u8], target: &[u8]) -> io::Result<()>;
    fn readlink(&self, dir: &Self::Dir, name: &[u8]) -> io::Result<Vec<u8>>;
    fn link(&self, from: (&Self::Dir, &[u8]), to: (&Self::Dir, &[u8])) -> io::Result<()>;
    fn rename(
        &self,
        from: (&Self::Dir, &[u8]),
        to: (&Self::Dir, &[u8]),
        mode: RenameMode,
    ) -> io::Result<()>;
    fn unlink(&self, dir: &Self::Dir, name: &[u8]) -> io::Result<()>;
    fn rmdir(&self, dir: &Self::Dir, name: &[u8]) -> io::Result<()>;

    fn stat(&self, target: Target<'_, Self>) -> io::Result<Attr>;
    fn chmod(&self, target: Target<'_, Self>, mode: u32) -> io::Result<()>;
    fn chown(&self, target: Target<'_, Self>, uid: Option<u32>, gid: Option<u32>)
    -> io::Result<()>;
    fn set_times(&self, target: Target<'_, Self>, atime: SetTime, mtime: SetTime)
    -> io::Result<()>;
    fn get_xattr(&self, target: Target<'_, Self>, name: &[u8]) -> io::Result<Vec<u8>>;
    fn set_xattr(
        &self,
        target: Target<'_, Self>,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
    ) -> io::Result<()>;
    fn remove_xattr(&self, target: Target<'_, Self>, name: &[u8]) -> io::Result<()>;
    /// Attribute names, each ended by a NUL.
    fn list_xattrs(&self, target: Target<'_, Self>) -> io::Result<Vec<u8>>;
    fn space(&self) -> io::Result<Space>;
    /// Makes everything on the backing filesystem durable.
    fn sync_all(&self) -> io::Result<()>;
}
