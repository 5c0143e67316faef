//! The id of a directory: in its file, in the name of the link to it, and what can be mended from the other.

use std::io;

use crate::crypto::DirId;
use crate::names::{Stored, classify};
use crate::store::backing::{Backing, Kind, Listing, OpenFor, SetTime, Target};
use crate::store::check::finding::{Finding, State, Subject};
use crate::store::check::node::{Node, Place};
use crate::store::check::{Check, Mode};
use crate::store::dir::ID_FILE;
use crate::store::header;
use crate::store::layout::TMP_DIR;
use crate::store::volume::Volume;
use crate::store::xattr::SEALED_PREFIX;

/// The id as the two places have it.
struct Copies {
    file: Result<DirId, String>,
    /// The authentic ones among the link names; those that are not.
    links: Vec<DirId>,
    bad_links: Vec<Vec<u8>>,
    has_entries: bool,
}

impl<B: Backing> Check<'_, B> {
    /// Finds the id of the directory, tells what is wrong with it, and mends it if that is wanted.
    pub(super) fn check_id(&self, node: &mut Node<B>) {
        // The usual case needs no listing; a link too many is met by the walk.
        if let Ok(id) = self.read_id_file(node.dir.handle())
            && self.exists(node, self.link_name(&id).as_bytes())
        {
            node.id = Some(id);
            return;
        }
        node.id = self.check_copies(node);
    }

    /// Whether this is the link that belongs to the directory.
    pub(super) fn is_own_link(&self, node: &Node<B>, stored: &[u8]) -> bool {
        node.id
            .is_some_and(|id| self.link_name(&id).as_bytes() == stored)
    }

    fn link_name(&self, id: &DirId) -> String {
        self.volume.keys().names().dir_link_name(id)
    }

    /// Compares all copies of the id and answers it.
    pub(super) fn check_copies(&self, node: &Node<B>) -> Option<DirId> {
        let mut found = self.copies(node);
        let wrong = |c: &io::Result<Copies>| !c.as_ref().is_ok_and(Copies::is_whole);
        for _ in 0..self.patience() {
            if !wrong(&found) {
                break;
            }
            self.wait();
            found = self.copies(node);
        }
        let place = Place::of_dir(node);
        let copies = match found {
            Ok(copies) => copies,
            Err(e) => {
                let said = format!("the directory cannot be read: {e}");
                self.unreadable(&place, Subject::Directory, said);
                return None;
            }
        };
        let id = match (&copies.file, &copies.links[..]) {
            (Ok(id), _) => Some(*id),
            (Err(_), [id]) => Some(*id),
            (Err(_), _) => None,
        };
        if !copies.is_whole() {
            self.tell_id(&place, &copies, id);
        }
        id
    }

    fn tell_id(&self, place: &Place<'_, B>, copies: &Copies, id: Option<DirId>) {
        let needed = copies.has_entries || self.has_sealed_xattrs(place.node);
        // A crash can leave an empty directory with half an id: it gets a new one with its first entry.
        if !needed && (copies.file.is_err() || copies.links.is_empty()) {
            return;
        }
        let said = copies.describe();
        let mut finding = Finding::at(place, State::Damaged, Subject::DirectoryId, said);
        if let Some(id) = id
            && self.plan.mode == Mode::Repair
            && copies.links.iter().all(|l| *l == id)
        {
            match self.mend_id(place.node, copies, id) {
                Ok(()) => finding.state = State::Repaired,
                Err(e) => finding.detail += &format!("; it could not be mended: {e}"),
            }
        }
        let one_is_left = copies.file.is_err() && id.is_some();
        if finding.state == State::Damaged && one_is_left && self.crash_left(place.node, ID_FILE) {
            finding.crash_left();
        }
        self.tell(finding);
    }

    /// Whether a file beside the tree was written when a crash may have torn it.
    pub(super) fn crash_left(&self, node: &Node<B>, name: &[u8]) -> bool {
        let attr = self
            .volume
            .backing()
            .stat(Target::At(node.dir.handle(), name));
        attr.is_ok_and(|a| a.kind() == Kind::File && self.volume.is_crash_leftover(&a))
    }

    fn copies(&self, node: &Node<B>) -> io::Result<Copies> {
        let (backing, dir) = (self.volume.backing(), node.dir.handle());
        let names = self.volume.keys().names();
        let mut copies = Copies {
            file: self.read_id_file(dir),
            links: Vec::new(),
            bad_links: Vec::new(),
            has_entries: false,
        };
        backing.list(dir)?.read(&mut |entry| {
            match classify(entry.name) {
                Stored::DirIdLink => match names.parse_dir_link_name(entry.name) {
                    Ok(id) => copies.links.push(id),
                    Err(_) => copies.bad_links.push(entry.name.to_vec()),
                },
                Stored::Short | Stored::Long => copies.has_entries = true,
                _ => {}
            }
            true
        })?;
        Ok(copies)
    }

    fn read_id_file(&self, dir: &B::Dir) -> Result<DirId, String> {
        let backing = self.volume.backing();
        let mut record = [0; 64];
        let got = backing
            .open(dir, ID_FILE, OpenFor::Read)
            .and_then(|file| backing.read_at(&file, &mut record, 0))
            .map_err(|e| match e.kind() {
                io::ErrorKind::NotFound => "is missing".to_owned(),
                _ => format!("cannot be read ({e})"),
            })?;
        let parsed = self.volume.keys().names().parse_dir_record(&record[..got]);
        parsed.map_err(|_| "is damaged".to_owned())
    }

    fn has_sealed_xattrs(&self, node: &Node<B>) -> bool {
        let listed = self.volume.backing().list_xattrs(node.dir.target());
        listed.is_ok_and(|names| {
            names
                .split(|b| *b == 0)
                .any(|n| n.starts_with(SEALED_PREFIX))
        })
    }

    /// Gives the directory both copies of `id`, which one of them has.
    fn mend_id(&self, node: &Node<B>, copies: &Copies, id: DirId) -> io::Result<()> {
        let backing = self.volume.backing();
        let dir = node.dir.handle();
        let names = self.volume.keys().names();
        let link = names.dir_link_name(&id);
        let link = link.as_bytes();
        keeping_times(self.volume, dir, || {
            if copies.file.is_err() {
                put_file(self.volume, dir, ID_FILE, &names.dir_record(&id))?;
                // The link is to be the same file again; its name is only given up when the file holds the id.
                backing.unlink(dir, link)?;
            }
            if copies.file.is_err() || copies.links.is_empty() {
                backing
                    .link((dir, ID_FILE), (dir, link))
                    .or_else(|_| backing.create(dir, link, 0o600).map(drop))?;
            }
            for bad in &copies.bad_links {
                backing.unlink(dir, bad)?;
            }
            backing.sync_dir(dir)
        })
    }
}

impl Copies {
    fn is_whole(&self) -> bool {
        let alike = matches!((&self.file, &self.links[..]), (Ok(a), [b]) if a == b);
        let new = self.file.is_err() && self.links.is_empty() && !self.has_entries;
        (alike || new) && self.bad_links.is_empty()
    }

    fn describe(&self) -> String {
        match (&self.file, &self.links[..]) {
            (Err(file), [_]) => format!("the id file {file}; the link to it has the id"),
            (Err(file), []) => {
                format!("the id file {file} and no link has the id: the names are lost")
            }
            (Err(file), _) => format!("the id file {file} and its links have different ids"),
            (Ok(_), []) => "the link to the id file is missing or damaged".to_owned(),
            (Ok(id), [link]) if id == link => "a link to the id file has a damaged name".to_owned(),
            (Ok(_), _) => "the id file and its links have different ids".to_owned(),
        }
    }
}

/// Puts a whole file in the place of `name`, durably.
pub(super) fn put_file<B: Backing>(
    volume: &Volume<B>,
    dir: &B::Dir,
    name: &[u8],
    bytes: &[u8],
) -> io::Result<()> {
    let backing = volume.backing();
    let tmp = backing.open_dir(volume.meta_dir(), TMP_DIR.as_bytes())?;
    header::replace(backing, &tmp, dir, name, bytes)
}

/// Changes entries of a directory that are not the user's: its times stay as they are.
pub(super) fn keeping_times<B: Backing, R>(
    volume: &Volume<B>,
    dir: &B::Dir,
    change: impl FnOnce() -> io::Result<R>,
) -> io::Result<R> {
    let backing = volume.backing();
    let before = backing.stat(Target::Dir(dir))?;
    let changed = change();
    let mtime = SetTime::At(before.mtime);
    backing.set_times(Target::Dir(dir), SetTime::Keep, mtime)?;
    changed
}
