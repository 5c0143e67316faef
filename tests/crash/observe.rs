//! What a volume shows to whoever looks at all of it.

use std::collections::BTreeMap;

use wardfs::fs::{Detail, Fs, ROOT};
use wardfs::store::backing::Kind;

use crate::disk::{Ino, SimDisk};
use crate::drive::XATTR;
use crate::history::History;

/// One name as found.
#[derive(Debug, Clone, Copy)]
pub struct Slot {
    pub ino: Ino,
    /// A listing shows it; else only a lookup finds it.
    pub listed: bool,
}

/// A file's content, or why it cannot be read.
pub type Content = Result<Vec<u8>, String>;

/// See the module.
#[derive(Debug, Default)]
pub struct Observed {
    pub slots: BTreeMap<(Ino, Vec<u8>), Slot>,
    pub files: BTreeMap<Ino, Content>,
    pub xattrs: BTreeMap<Ino, Result<Option<Vec<u8>>, String>>,
    /// Directories that cannot be listed, or in which nothing can be looked up.
    pub unreadable: BTreeMap<Ino, String>,
}

/// Walks the whole tree. `names` are looked up in every directory that may hold them, listed or not.
pub fn observe(fs: &Fs<SimDisk>, names: &[(Ino, Vec<u8>)]) -> Observed {
    let mut seen = Observed::default();
    let mut dirs = vec![ROOT];
    while let Some(dir) = dirs.pop() {
        seen.look_into(fs, dir, names, &mut dirs);
    }
    seen
}

impl Observed {
    /// A history that begins with what was seen. `None` if anything of it is unreadable.
    pub fn as_prepared(&self) -> Option<History> {
        if !self.unreadable.is_empty() || self.slots.values().any(|slot| !slot.listed) {
            return None;
        }
        let mut history = History::default();
        for ((dir, name), slot) in &self.slots {
            let Some(content) = self.files.get(&slot.ino) else {
                history.prepared_dir(*dir, name, slot.ino);
                continue;
            };
            let content = content.as_ref().ok()?.clone();
            history.prepared_file(*dir, name, slot.ino, content);
            let value = self.xattrs.get(&slot.ino)?.as_ref().ok()?.clone();
            history.prepared_xattr(slot.ino, value);
        }
        Some(history)
    }

    fn look_into(
        &mut self,
        fs: &Fs<SimDisk>,
        dir: Ino,
        names: &[(Ino, Vec<u8>)],
        dirs: &mut Vec<Ino>,
    ) {
        let mut found = Vec::new();
        let listed = fs.opendir(dir).and_then(|fh| {
            let listed = fs.readdir(fh, 0, Detail::Attributes, &mut |entry| {
                if let Some(e) = entry.entry.filter(|_| !matches!(entry.name, b"." | b"..")) {
                    found.push((entry.name.to_vec(), e.attr, true));
                }
                true
            });
            fs.releasedir(fh)?;
            listed
        });
        if let Err(e) = listed {
            self.unreadable.insert(dir, e.to_string());
        }
        for (_, name) in names.iter().filter(|(d, _)| *d == dir) {
            if found.iter().any(|(n, ..)| n == name) {
                continue;
            }
            match fs.lookup(dir, name) {
                Ok(Some(entry)) => found.push((name.clone(), entry.attr, false)),
                Ok(None) => {}
                Err(e) => {
                    self.unreadable.insert(dir, e.to_string());
                }
            }
        }
        for (name, attr, listed) in found {
            let ino = attr.ino;
            self.slots.insert((dir, name), Slot { ino, listed });
            match attr.kind() {
                Kind::Dir => dirs.push(ino),
                Kind::File if !self.files.contains_key(&ino) => {
                    self.files.insert(ino, read(fs, ino));
                    self.xattrs.insert(ino, xattr(fs, ino));
                }
                _ => {}
            }
        }
    }
}

fn read(fs: &Fs<SimDisk>, ino: Ino) -> Content {
    let size = fs.getattr(ino).map_err(|e| e.to_string())?.size as usize;
    let fh = fs.open(ino, libc::O_RDONLY).map_err(|e| e.to_string())?;
    // More than there is, to see that it ends there.
    let mut content = vec![0xee; size + 100];
    let got = fs.read(fh, 0, &mut content);
    let _ = fs.release(fh);
    content.truncate(got.map_err(|e| e.to_string())?);
    if content.len() != size {
        return Err(format!("{} bytes are read of {size}", content.len()));
    }
    Ok(content)
}

fn xattr(fs: &Fs<SimDisk>, ino: Ino) -> Result<Option<Vec<u8>>, String> {
    let listed = fs.listxattr(ino).map_err(|e| e.to_string())?;
    if !listed.split(|b| *b == 0).any(|name| name == XATTR) {
        return Ok(None);
    }
    fs.getxattr(ino, XATTR).map(Some).map_err(|e| e.to_string())
}
