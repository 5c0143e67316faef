//! The names of entries, and the files beside them that hold the long ones.

use std::io;

use crate::names::classify::{sidecar_of, sidecar_owner};
use crate::names::{Stored, classify};
use crate::store::backing::{Backing, Kind, Listing, OpenFor, Target};
use crate::store::check::directory::{keeping_times, put_file};
use crate::store::check::finding::{Finding, State, Subject};
use crate::store::check::node::{Node, Place};
use crate::store::check::{Check, Mode};

/// The longest sealed name, and one byte to see that there is more.
const SIDECAR_ROOM: usize = 512;
/// Lengths of sealed long names: 16 bytes and a name of 176 to 256, padded.
const SEALED: [usize; 6] = [192, 208, 224, 240, 256, 272];
/// Files looked into when a name file is lost.
const CANDIDATES: usize = 1024;

/// Begins the name, in reports and in a salvage directory, of what has lost its own.
const LOST: &[u8] = b"name-lost.";

impl<B: Backing> Check<'_, B> {
    /// The plaintext name of an entry; one that is lost is replaced and told.
    ///
    /// `None` if the entry has gone meanwhile.
    pub(super) fn name_of(&self, node: &Node<B>, entry: &[u8], stored: Stored) -> Option<Vec<u8>> {
        let lost = [LOST, entry].concat();
        // Told once, for the directory.
        let Some(id) = node.id else {
            return Some(lost);
        };
        let place = Place {
            node,
            name: &lost,
            stored: entry,
        };
        if stored == Stored::Short {
            return Some(match self.volume.keys().names().open(&id, entry) {
                Ok(name) => name,
                Err(e) => {
                    let said = format!("the name {e}");
                    self.tell(Finding::at(&place, State::Damaged, Subject::Name, said));
                    lost
                }
            });
        }
        let mut opened = self.open_long(node, entry);
        for _ in 0..self.patience() {
            if opened.is_ok() || !self.exists(node, entry) {
                break;
            }
            self.wait();
            opened = self.open_long(node, entry);
        }
        match opened {
            Ok(name) => Some(name),
            Err(_) if self.is_live() && !self.exists(node, entry) => None,
            Err(said) => {
                let recovered = self.recover_long(node, entry, &said);
                if recovered.is_none() {
                    let mut finding = Finding::at(&place, State::Damaged, Subject::NameFile, said);
                    if self.crash_left(node, &sidecar_of(entry)) {
                        finding.crash_left();
                    }
                    self.tell(finding);
                }
                Some(recovered.unwrap_or(lost))
            }
        }
    }

    fn open_long(&self, node: &Node<B>, entry: &[u8]) -> Result<Vec<u8>, String> {
        let content = self
            .small_file(node, &sidecar_of(entry))
            .map_err(|e| match e.kind() {
                io::ErrorKind::NotFound => {
                    "the file that holds the long name is missing".to_owned()
                }
                _ => format!("the file that holds the long name cannot be read: {e}"),
            })?;
        self.open_sealed(node, entry, &content)
            .ok_or_else(|| "the file that holds the long name is damaged".to_owned())
    }

    fn open_sealed(&self, node: &Node<B>, entry: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let names = self.volume.keys().names();
        names.open_long(&node.id?, entry, sealed).ok()
    }

    /// Finds the name in what is left: the name file with something behind it, or a copy of it under another name. The
    /// entry is a keyed hash of the name, so nothing is guessed.
    fn recover_long(&self, node: &Node<B>, entry: &[u8], said: &str) -> Option<Vec<u8>> {
        let sidecar = sidecar_of(entry);
        let mut sources = vec![sidecar.clone()];
        let listed = self
            .volume
            .backing()
            .list(node.dir.handle())
            .ok()?
            .read(&mut |e| {
                if matches!(classify(e.name), Stored::Sidecar | Stored::Foreign)
                    && !matches!(e.name, b"." | b"..")
                    && e.name != sidecar
                {
                    sources.push(e.name.to_vec());
                }
                sources.len() < CANDIDATES
            });
        listed.ok()?;
        let (sealed, name) = sources.iter().find_map(|source| {
            let content = self.small_file(node, source).ok()?;
            SEALED.iter().find_map(|len| {
                let sealed = content.get(..*len)?;
                Some((sealed.to_vec(), self.open_sealed(node, entry, sealed)?))
            })
        })?;
        let place = Place {
            node,
            name: &name,
            stored: entry,
        };
        let mut finding = Finding::at(&place, State::Damaged, Subject::NameFile, said);
        finding.detail += "; a copy of the name was found";
        if self.plan.mode == Mode::Repair {
            let dir = node.dir.handle();
            let put = keeping_times(self.volume, dir, || {
                put_file(self.volume, dir, &sidecar, &sealed)
            });
            match put {
                Ok(()) => finding.state = State::Repaired,
                Err(e) => finding.detail += &format!("; it could not be mended: {e}"),
            }
        }
        self.tell(finding);
        Some(name)
    }

    /// A name file whose entry is gone. Called when all entries of the directory are checked.
    pub(super) fn check_orphan(&self, node: &Node<B>, sidecar: &[u8]) {
        let Some(owner) = sidecar_owner(sidecar) else {
            return;
        };
        if self.exists(node, owner) {
            return;
        }
        if self.is_live() {
            self.wait();
            if self.exists(node, owner) || !self.exists(node, sidecar) {
                return;
            }
        }
        let place = Place {
            node,
            name: sidecar,
            stored: sidecar,
        };
        let said = "it holds the long name of an entry that does not exist";
        let mut finding = Finding::at(&place, State::Leftover, Subject::NameFile, said);
        if self.plan.mode == Mode::Repair {
            let (backing, dir) = (self.volume.backing(), node.dir.handle());
            match keeping_times(self.volume, dir, || backing.unlink(dir, sidecar)) {
                Ok(()) => {
                    finding.state = State::Repaired;
                    finding.detail += "; removed";
                }
                Err(e) => finding.detail += &format!("; it could not be removed: {e}"),
            }
        }
        self.tell(finding);
    }

    pub(super) fn exists(&self, node: &Node<B>, entry: &[u8]) -> bool {
        let stat = self
            .volume
            .backing()
            .stat(Target::At(node.dir.handle(), entry));
        !stat.is_err_and(|e| e.kind() == io::ErrorKind::NotFound)
    }

    fn small_file(&self, node: &Node<B>, name: &[u8]) -> io::Result<Vec<u8>> {
        let (backing, dir) = (self.volume.backing(), node.dir.handle());
        let attr = backing.stat(Target::At(dir, name))?;
        if attr.kind() != Kind::File {
            return Err(io::Error::other("it is not a file"));
        }
        let file = backing.open(dir, name, OpenFor::Read)?;
        let mut content = vec![0; SIDECAR_ROOM];
        let got = backing.read_at(&file, &mut content, 0)?;
        content.truncate(got);
        Ok(content)
    }
}
