//! Stored paths, as the journal has them, back to the names that people know.

use crate::names::classify;
use crate::store::backing::{Backing, Target};
use crate::store::dir::Dir;
use crate::store::volume::Volume;

impl<B: Backing> Volume<B> {
    /// The plaintext of a path of stored names joined by `/`. `None` if it cannot be read, or leads nowhere any more.
    pub fn plain_path(&self, stored: &[u8]) -> Option<Vec<u8>> {
        let backing = self.backing();
        let mut plain = Vec::new();
        let mut handle = backing.root().ok()?;
        let mut parts = stored.split(|b| *b == b'/').peekable();
        while let Some(part) = parts.next() {
            let ino = backing.stat(Target::Dir(&handle)).ok()?.ino;
            let dir = Dir::<B>::new(handle, ino);
            let name = dir.open_name(self, part, classify(part)).ok()?;
            if !plain.is_empty() {
                plain.push(b'/');
            }
            plain.extend(name);
            if parts.peek().is_none() {
                break;
            }
            handle = backing.open_dir(dir.handle(), part).ok()?;
        }
        Some(plain)
    }
}
