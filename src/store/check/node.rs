//! A directory on the way of the walk, and places in it by both of their names.

use std::sync::Arc;

use crate::crypto::DirId;
use crate::store::backing::Backing;
use crate::store::check::salvage::OutDir;
use crate::store::dir::Dir;

/// An open directory. It stays open as long as something in it is still to be checked.
#[derive(Debug)]
pub struct Node<B: Backing> {
    // Before the parent: attributes of a salvaged directory are set before those of the one it is in.
    pub out: Option<OutDir>,
    pub dir: Dir<B>,
    /// `None` if it is lost, and the names with it.
    pub id: Option<DirId>,
    pub name: Vec<u8>,
    pub stored: Vec<u8>,
    pub parent: Option<Arc<Node<B>>>,
}

impl<B: Backing> Node<B> {
    fn join(&self, name: &[u8], part: fn(&Self) -> &[u8]) -> Vec<u8> {
        let mut parts = vec![name];
        let mut at = Some(self);
        while let Some(node) = at {
            parts.push(part(node));
            at = node.parent.as_deref();
        }
        parts.retain(|p| !p.is_empty());
        parts.reverse();
        parts.join(&b'/')
    }
}

/// An entry of a directory; the directory itself if both names are empty.
#[derive(Debug)]
pub struct Place<'a, B: Backing> {
    pub node: &'a Node<B>,
    pub name: &'a [u8],
    pub stored: &'a [u8],
}

impl<'a, B: Backing> Place<'a, B> {
    pub fn of_dir(node: &'a Node<B>) -> Self {
        Self {
            node,
            name: b"",
            stored: b"",
        }
    }

    /// The path in the mount. The root is a dot.
    pub fn path(&self) -> Vec<u8> {
        match self.node.join(self.name, |n| &n.name) {
            empty if empty.is_empty() => b".".to_vec(),
            path => path,
        }
    }

    /// The path in the vault.
    pub fn stored_path(&self) -> Vec<u8> {
        match self.node.join(self.stored, |n| &n.stored) {
            empty if empty.is_empty() => b".".to_vec(),
            path => path,
        }
    }
}
