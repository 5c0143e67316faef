//! The walk through the tree: one directory after the other, depth first, every name and every directory checked on the
//! way, files handed to the threads.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;

use crate::names::{Stored, classify};
use crate::store::backing::{Attr, Backing, Kind, Listing, Target};
use crate::store::check::Check;
use crate::store::check::file::{FileTask, Task};
use crate::store::check::finding::{Finding, State, Subject};
use crate::store::check::node::{Node, Place};
use crate::store::check::pool::Pool;
use crate::store::check::tally::Tally;
use crate::store::dir::Dir;
use crate::store::error::Error;
use crate::store::namespace::far_target;

/// Entries taken from a listing at once.
const BATCH: usize = 256;

/// A directory that is being listed.
struct Frame<B: Backing> {
    listing: B::Listing,
    batch: VecDeque<Vec<u8>>,
    /// Name files without an entry.
    orphans: Vec<Vec<u8>>,
    /// An id link too many was met.
    links_told: bool,
    node: Arc<Node<B>>,
}

/// A file with several names: how many of them are still to come, and where it was salvaged to.
struct Link {
    left: u32,
    path: Vec<u8>,
}

/// The files with several names that were met, by inode.
#[derive(Default)]
pub(super) struct Links(HashMap<u64, Link>);

impl<B: Backing> Check<'_, B> {
    pub(super) fn walk(&self, pool: &Pool<Task<B>>) -> io::Result<()> {
        let mut links = Links::default();
        let mut open = vec![self.root()?];
        while let Some(frame) = open.last_mut() {
            if self.has_failed() {
                break;
            }
            let deeper = match self.next_entry(frame) {
                Some(entry) => self.check_entry(frame, &entry, &mut links, pool),
                None => {
                    for orphan in std::mem::take(&mut frame.orphans) {
                        self.check_orphan(&frame.node, &orphan);
                    }
                    open.pop();
                    None
                }
            };
            open.extend(deeper);
        }
        Ok(())
    }

    fn root(&self) -> io::Result<Frame<B>> {
        let backing = self.volume.backing();
        let handle = backing.root()?;
        let attr = backing.stat(Target::Dir(&handle))?;
        let out = match &self.salvage {
            Some(salvage) => Some(salvage.root(attr)?),
            None => None,
        };
        let listing = backing.list(&handle)?;
        let node = Node {
            out,
            dir: Dir::new(handle, attr.ino),
            id: None,
            name: Vec::new(),
            stored: Vec::new(),
            parent: None,
        };
        Ok(self.frame(node, listing))
    }

    /// Checks what belongs to the directory itself.
    fn frame(&self, mut node: Node<B>, listing: B::Listing) -> Frame<B> {
        Tally::add(&self.tally.directories, 1);
        self.check_id(&mut node);
        let id = node.id.as_ref().map(|id| &id.0[..]);
        let xattrs = self.check_xattrs(&Place::of_dir(&node), node.dir.target(), id);
        if let Some(out) = &mut node.out {
            out.give_xattrs(xattrs);
        }
        Frame {
            listing,
            batch: VecDeque::new(),
            orphans: Vec::new(),
            links_told: false,
            node: Arc::new(node),
        }
    }

    fn next_entry(&self, frame: &mut Frame<B>) -> Option<Vec<u8>> {
        if frame.batch.is_empty() {
            let batch = &mut frame.batch;
            let read = frame.listing.read(&mut |entry| {
                let wanted = batch.len() < BATCH;
                if wanted && !matches!(entry.name, b"." | b"..") {
                    batch.push_back(entry.name.to_vec());
                }
                wanted
            });
            if let Err(e) = read {
                let said = format!("the directory cannot be read to its end: {e}");
                self.unreadable(&Place::of_dir(&frame.node), Subject::Directory, said);
                return None;
            }
        }
        frame.batch.pop_front()
    }

    fn check_entry(
        &self,
        frame: &mut Frame<B>,
        entry: &[u8],
        links: &mut Links,
        pool: &Pool<Task<B>>,
    ) -> Option<Frame<B>> {
        let node = &frame.node;
        match classify(entry) {
            Stored::DirIdFile => None,
            Stored::VaultDir if node.parent.is_none() => None,
            Stored::DirIdLink => {
                if node.id.is_some() && !self.is_own_link(node, entry) && !frame.links_told {
                    frame.links_told = true;
                    self.check_copies(node);
                }
                None
            }
            Stored::Sidecar => {
                if !crate::names::classify::sidecar_owner(entry)
                    .is_some_and(|owner| self.exists(node, owner))
                {
                    frame.orphans.push(entry.to_vec());
                }
                None
            }
            Stored::Foreign | Stored::VaultDir => {
                let place = Place {
                    node,
                    name: entry,
                    stored: entry,
                };
                let said = "is nothing of wardfs";
                self.tell(Finding::at(&place, State::Foreign, Subject::File, said));
                None
            }
            stored @ (Stored::Short | Stored::Long) => {
                let name = self.name_of(node, entry, stored)?;
                self.check_object(&Arc::clone(node), name, entry, links, pool)
            }
        }
    }

    fn check_object(
        &self,
        node: &Arc<Node<B>>,
        name: Vec<u8>,
        entry: &[u8],
        links: &mut Links,
        pool: &Pool<Task<B>>,
    ) -> Option<Frame<B>> {
        let place = Place {
            node,
            name: &name,
            stored: entry,
        };
        let target = Target::At(node.dir.handle(), entry);
        let attr = match self.volume.backing().stat(target) {
            Ok(attr) => attr,
            Err(e) => {
                if !self.has_gone(&e) {
                    let said = format!("its attributes cannot be read: {e}");
                    self.unreadable(&place, Subject::File, said);
                }
                return None;
            }
        };
        match attr.kind() {
            Kind::Dir => return self.enter(&place, node, attr),
            Kind::File => self.hand_out(node, &place, attr, links, pool),
            Kind::Symlink => self.check_symlink(&place, &attr),
            _ => {
                Tally::add(&self.tally.special, 1);
                if let Some(out) = &node.out
                    && out.make_special(&name, &attr).is_err()
                {
                    let said = "only root can make it anew";
                    self.unreadable(&place, Subject::File, said.to_owned());
                }
            }
        }
        None
    }

    fn enter(&self, place: &Place<'_, B>, parent: &Arc<Node<B>>, attr: Attr) -> Option<Frame<B>> {
        let backing = self.volume.backing();
        let opened = backing
            .open_dir(parent.dir.handle(), place.stored)
            .and_then(|handle| Ok((backing.list(&handle)?, handle)));
        let (listing, handle) = match opened {
            Ok(opened) => opened,
            Err(e) => {
                if !self.has_gone(&e) {
                    let said = format!("the directory cannot be opened: {e}");
                    self.unreadable(place, Subject::Directory, said);
                }
                return None;
            }
        };
        let out = match &parent.out {
            Some(out) => Some(out.salvage().note(out.make_dir(place.name, attr))?),
            None => None,
        };
        let node = Node {
            out,
            dir: Dir::new(handle, attr.ino),
            id: None,
            name: place.name.to_vec(),
            stored: place.stored.to_vec(),
            parent: Some(Arc::clone(parent)),
        };
        Some(self.frame(node, listing))
    }

    /// Gives a file to the threads; one with several names only once.
    fn hand_out(
        &self,
        node: &Arc<Node<B>>,
        place: &Place<'_, B>,
        attr: Attr,
        links: &mut Links,
        pool: &Pool<Task<B>>,
    ) {
        if attr.nlink > 1 {
            if let Some(path) = links.met_before(&attr) {
                Tally::add(&self.tally.done, attr.size);
                if let Some(out) = &node.out
                    && let Err(e) = out.link(&path, place.name)
                {
                    let said = format!("this further name of a file could not be given: {e}");
                    self.unreadable(place, Subject::File, said);
                }
                return;
            }
            let path = match node.out {
                Some(_) => place.path(),
                None => Vec::new(),
            };
            links.remember(&attr, path);
        }
        Tally::add(&self.tally.files, 1);
        let size = self.volume.plain_size_of(&attr);
        let out = match &node.out {
            Some(out) => {
                let made = out.make_file(place.name, size);
                match out.salvage().note(made) {
                    Some(made) => Some(made),
                    None => return,
                }
            }
            None => None,
        };
        pool.push(Task::File(FileTask {
            out,
            size,
            node: Arc::clone(node),
            name: place.name.to_vec(),
            stored: place.stored.to_vec(),
        }));
    }

    fn check_symlink(&self, place: &Place<'_, B>, attr: &Attr) {
        Tally::add(&self.tally.symlinks, 1);
        let dir = &place.node.dir;
        let stored = self.volume.backing().readlink(dir.handle(), place.stored);
        if let Some((id, _)) = stored.as_ref().ok().and_then(|s| far_target(s)) {
            self.use_target(id.as_bytes());
        }
        match self.volume.read_target(dir, place.stored) {
            Ok(target) => {
                if let Some(out) = &place.node.out {
                    let made = out.make_symlink(place.name, &target, attr);
                    out.salvage().note(made);
                }
            }
            Err(Error::Io(e)) if self.has_gone(&e) => {}
            Err(e @ Error::Io(_)) => {
                let said = format!("its target cannot be read: {e}");
                self.unreadable(place, Subject::Symlink, said);
            }
            Err(_) => {
                if self.is_live() && !self.exists(place.node, place.stored) {
                    return;
                }
                self.note_blind();
                let said = match stored.as_ref().ok().and_then(|s| far_target(s)) {
                    Some((id, _)) => {
                        format!("its target, the file {id}, is missing or damaged")
                    }
                    None => "its target does not authenticate".to_owned(),
                };
                self.tell(Finding::at(place, State::Damaged, Subject::Symlink, said));
            }
        }
    }
}

impl Links {
    /// Where a file was salvaged to that was met under another name. Forgets it with its last name.
    fn met_before(&mut self, attr: &Attr) -> Option<Vec<u8>> {
        let link = self.0.get_mut(&attr.ino)?;
        link.left = link.left.saturating_sub(1);
        if link.left == 0 {
            return self.0.remove(&attr.ino).map(|link| link.path);
        }
        Some(link.path.clone())
    }

    fn remember(&mut self, attr: &Attr, path: Vec<u8>) {
        let left = attr.nlink - 1;
        self.0.insert(attr.ino, Link { left, path });
    }
}
