//! Sealing everything anew that is sealed under the keys of names: names, long names, directory ids, link targets and the
//! attributes of users, while nobody else uses the vault.
//!
//! Everything opens under the old keys or under the new ones, never under neither: what is there says what is done, and a
//! walk that ended early is simply walked again. What is written anew is durable before what it replaces goes. Times of
//! directories, which renaming changes, are noted in [`scratch`] before.
//!
//! Parents come before children, and each directory is finished before the next one is begun.

mod object;
mod scratch;

use std::collections::VecDeque;
use std::{fmt, io};

use crate::crypto::{DirId, NameKeys, VolumeKeys};
use crate::names::{Stored, classify};
use crate::store::backing::{Attr, Backing, Kind, Listing, OpenFor, RenameMode, Sync, Target};
use crate::store::check::finding::{Finding, State, Subject};
use crate::store::dir::ID_FILE;
use crate::store::renaming::scratch::Scratch;

/// Entries taken from a listing at once.
const BATCH: usize = 256;
const SIDECAR: &[u8] = b".name";

/// Told what the walk does.
pub trait Watch {
    /// So many names were looked at since the last call.
    fn advanced(&self, names: u64);
    /// What opens under no key, or cannot be read.
    fn passed_over(&self, found: Finding);
    /// Whether to stop. What is done so far stays done.
    fn is_stopped(&self) -> bool;
}

/// Whether anything is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// Only looks whether everything can be opened.
    Look,
    Seal,
}

/// What a walk came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Names of entries that were looked at.
    pub names: u64,
    /// Names of entries that were sealed anew.
    pub resealed: u64,
    /// What opens under no key: it is lost already.
    pub damaged: u64,
    /// What may open another time.
    pub unreadable: u64,
    /// It was stopped before its end.
    pub stopped: bool,
}

/// Where a walk could not go on, and why. What is there opens as before.
#[derive(Debug)]
pub struct Stuck {
    /// In the mount; empty at its root, and where the name could not be read.
    pub path: Vec<u8>,
    pub source: io::Error,
}

impl Stuck {
    fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        |source| Self {
            path: path.plain.clone(),
            source,
        }
    }

    /// At this object, if not at one in it.
    fn within(self, path: &Path) -> Self {
        match self.path.is_empty() {
            true => Self::at(path)(self.source),
            false => self,
        }
    }
}

impl From<io::Error> for Stuck {
    fn from(source: io::Error) -> Self {
        Self::at(&Path::default())(source)
    }
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl std::error::Error for Stuck {}

type Result<T> = std::result::Result<T, Stuck>;

/// Walks through the vault. With [`Pass::Seal`] `keys` have next ones, and everything is durable when this returns.
///
/// # Errors
/// Whatever could not be written.
pub fn run<B: Backing>(
    backing: &B,
    keys: &VolumeKeys,
    pass: Pass,
    watch: &dyn Watch,
) -> Result<Outcome> {
    let mut walk = Walk {
        backing,
        old: keys.names(),
        new: keys.next_names(),
        pass,
        watch,
        scratch: Scratch::open(backing)?,
        outcome: Outcome::default(),
    };
    if pass == Pass::Seal {
        // What an earlier walk did before it was killed: this one takes what is there for durable.
        backing.sync_all()?;
    }
    walk.tree()?;
    if !walk.outcome.stopped {
        walk.far_targets()?;
    }
    if pass == Pass::Seal {
        backing.sync_all()?;
        if !walk.outcome.stopped && walk.outcome.unreadable == 0 {
            walk.scratch.clear(backing)?;
        }
    }
    Ok(walk.outcome)
}

/// Under which keys something opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Age {
    Old,
    New,
}

struct Walk<'a, B: Backing> {
    backing: &'a B,
    old: &'a NameKeys,
    /// `None` before they were added, when everything has to be old.
    new: Option<&'a NameKeys>,
    pass: Pass,
    watch: &'a dyn Watch,
    scratch: Scratch<B>,
    outcome: Outcome,
}

/// Where something lies: in the vault, and, as far as its names can be read, in the mount.
#[derive(Debug, Clone, Default)]
struct Path {
    stored: Vec<u8>,
    plain: Vec<u8>,
}

impl Path {
    fn below(&self, stored: &[u8], plain: Option<&[u8]>) -> Self {
        let join = |dir: &[u8], name: &[u8]| match dir {
            [] => name.to_vec(),
            dir => [dir, name].join(&b'/'),
        };
        Self {
            stored: join(&self.stored, stored),
            plain: plain.map_or_else(Vec::new, |name| join(&self.plain, name)),
        }
    }
}

/// A directory whose subdirectories are being walked through.
struct Frame<B: Backing> {
    dir: B::Dir,
    id: Option<DirId>,
    listing: B::Listing,
    batch: VecDeque<Vec<u8>>,
    path: Path,
}

/// A directory while its own entries are sealed anew.
struct Open<'d, B: Backing> {
    dir: &'d B::Dir,
    id: DirId,
    path: &'d Path,
    attr: Attr,
}

impl<B: Backing> Walk<'_, B> {
    fn tree(&mut self) -> Result<()> {
        let mut frames = Vec::new();
        frames.extend(self.enter(self.backing.root()?, Path::default())?);
        while let Some(frame) = frames.last_mut() {
            if self.watch.is_stopped() {
                self.outcome.stopped = true;
                break;
            }
            let Some(name) = self.next_entry(frame) else {
                frames.pop();
                continue;
            };
            let target = Target::At(&frame.dir, &name);
            if self.backing.stat(target).map(|attr| attr.kind()).ok() != Some(Kind::Dir) {
                continue;
            }
            let plain = frame
                .id
                .and_then(|id| self.open_name(&frame.dir, &id, &name).ok()?)
                .map(|(plain, _)| plain);
            let path = frame.path.below(&name, plain.as_deref());
            match self.backing.open_dir(&frame.dir, &name) {
                Ok(dir) => {
                    let deeper = self.enter(dir, path)?;
                    frames.extend(deeper);
                }
                Err(e) => self.unreadable(Subject::Directory, &path, &e),
            }
        }
        Ok(())
    }

    fn next_entry(&mut self, frame: &mut Frame<B>) -> Option<Vec<u8>> {
        if frame.batch.is_empty() {
            match batch(&mut frame.listing) {
                Ok(names) => frame.batch = names.into(),
                Err(e) => self.unreadable(Subject::Directory, &frame.path, &e),
            }
        }
        frame.batch.pop_front()
    }

    /// Seals what is in a directory anew, and gives what is needed to go through its subdirectories.
    fn enter(&mut self, dir: B::Dir, path: Path) -> Result<Option<Frame<B>>> {
        let looked = self
            .backing
            .stat(Target::Dir(&dir))
            .and_then(|attr| Ok((attr, self.inspect(&dir)?)));
        let (attr, seen) = match looked {
            Ok(looked) => looked,
            Err(e) => {
                self.unreadable(Subject::Directory, &path, &e);
                return Ok(None);
            }
        };
        let id = seen.id();
        match id {
            Some(id) => {
                let mut open = Open {
                    dir: &dir,
                    id,
                    path: &path,
                    attr,
                };
                self.directory(&mut open, &seen)
                    .map_err(|e| e.within(&path))?;
            }
            None if seen.has_entries => {
                let why = "it is lost, and with it the names in the directory";
                self.damaged(Subject::DirectoryId, &path, why);
            }
            None => {}
        }
        match self.backing.list(&dir) {
            Ok(listing) => Ok(Some(Frame {
                dir,
                id,
                listing,
                batch: VecDeque::new(),
                path,
            })),
            Err(e) => {
                self.unreadable(Subject::Directory, &path, &e);
                Ok(None)
            }
        }
    }

    fn inspect(&self, dir: &B::Dir) -> io::Result<Seen> {
        let mut seen = Seen::default();
        match self.backing.open(dir, ID_FILE, OpenFor::Read) {
            Ok(file) => {
                let mut record = [0; 64];
                let got = self.backing.read_at(&file, &mut record, 0)?;
                seen.file = self.either(|keys| keys.parse_dir_record(&record[..got]).ok());
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        self.backing.list(dir)?.read(&mut |entry| {
            match classify(entry.name) {
                Stored::DirIdLink => {
                    match self.either(|keys| keys.parse_dir_link_name(entry.name).ok()) {
                        Some((id, Age::New)) => seen.new_link = Some(id),
                        Some((id, Age::Old)) => seen.old_link = Some(id),
                        None => {}
                    }
                }
                Stored::Sidecar => seen.sidecars += 1,
                Stored::Short => seen.has_entries = true,
                Stored::Long => {
                    seen.has_entries = true;
                    seen.long += 1;
                }
                _ => {}
            }
            true
        })?;
        Ok(seen)
    }

    /// What opens under the new keys, or under the old ones.
    fn either<T>(&self, open: impl Fn(&NameKeys) -> Option<T>) -> Option<(T, Age)> {
        let new = self.new.and_then(|keys| Some((open(keys)?, Age::New)));
        new.or_else(|| Some((open(self.old)?, Age::Old)))
    }

    /// The new keys, where something is to be sealed anew.
    fn sealing(&self) -> Option<&NameKeys> {
        self.new.filter(|_| self.pass == Pass::Seal)
    }

    fn directory(&mut self, open: &mut Open<'_, B>, seen: &Seen) -> Result<()> {
        let id = open.id;
        if self.sealing().is_some()
            && (seen.file != Some((id, Age::New)) || seen.new_link != Some(id))
        {
            self.put_id(open)?;
        }
        self.attributes(Target::Dir(open.dir), open.path, &|| Ok(id.0.to_vec()))?;
        let mut listing = match self.backing.list(open.dir) {
            Ok(listing) => listing,
            Err(e) => {
                self.unreadable(Subject::Directory, open.path, &e);
                return Ok(());
            }
        };
        let mut long = false;
        loop {
            let names = match batch(&mut listing) {
                Ok(names) if names.is_empty() => break,
                Ok(names) => names,
                Err(e) => {
                    self.unreadable(Subject::Directory, open.path, &e);
                    break;
                }
            };
            long |= self.entries(open, &names)?;
            self.watch.advanced(names.len() as u64);
            self.outcome.names += names.len() as u64;
            if self.watch.is_stopped() {
                break;
            }
        }
        if self.sealing().is_some() {
            if long {
                self.backing.sync_dir(open.dir)?;
            }
            let leftovers = seen.old_link.is_some() || seen.sidecars > seen.long;
            if leftovers || long || self.scratch.noted(&id.0).is_some() {
                self.clear_old(open)?;
            }
            self.scratch.restore(self.backing, open.dir, &id.0)?;
        }
        Ok(())
    }

    /// Remembers what the directory was like before it is changed.
    fn touch(&mut self, open: &mut Open<'_, B>) -> io::Result<()> {
        self.scratch.note(self.backing, &open.id.0, &open.attr)?;
        let wanted = open.attr.mode & 0o7777 | 0o700;
        if open.attr.mode & 0o7777 != wanted {
            self.backing.chmod(Target::Dir(open.dir), wanted)?;
            open.attr.mode = open.attr.mode & !0o7777 | wanted;
        }
        Ok(())
    }

    /// The id under the new keys, in a file and in the name of a link to it. The old link stays for the time being.
    fn put_id(&mut self, open: &mut Open<'_, B>) -> io::Result<()> {
        self.touch(open)?;
        let Some(new) = self.sealing() else {
            return Ok(());
        };
        let (record, link) = (new.dir_record(&open.id), new.dir_link_name(&open.id));
        let (backing, dir, link) = (self.backing, open.dir, link.as_bytes());
        let like = backing.stat(Target::At(dir, ID_FILE)).ok();
        let made = self
            .scratch
            .file(backing, &record, like.as_ref(), &open.attr)?;
        remove(backing, dir, link)?;
        if backing
            .link((self.scratch.dir(), made), (dir, link))
            .is_err()
        {
            // A filesystem without hard links keeps the id in the name of an empty file.
            drop(backing.create(dir, link, 0o600)?);
        }
        backing.rename(
            (self.scratch.dir(), made),
            (dir, ID_FILE),
            RenameMode::Replace,
        )?;
        backing.sync_dir(dir)
    }

    /// Seals the names of some entries anew; answers whether there was a long one among them that changed.
    fn entries(&mut self, open: &mut Open<'_, B>, names: &[Vec<u8>]) -> Result<bool> {
        let mut moves = Vec::new();
        let mut long = Vec::new();
        for stored in names {
            let Some((plain, age)) = self.entry(open, stored)? else {
                continue;
            };
            if age == Age::New {
                continue;
            }
            let Some(new) = self.sealing() else {
                continue;
            };
            let sealed = new.seal(&open.id, &plain);
            if let Some(content) = &sealed.sidecar {
                self.touch(open)?;
                let like = self
                    .backing
                    .stat(Target::At(open.dir, &sidecar_of(stored)))
                    .ok();
                let made = self
                    .scratch
                    .file(self.backing, content, like.as_ref(), &open.attr)?;
                let name = sidecar_of(&sealed.entry);
                let (from, to) = ((self.scratch.dir(), made), (open.dir, &name[..]));
                self.backing.rename(from, to, RenameMode::Replace)?;
                long.push(name);
            }
            moves.push((stored, sealed.entry));
        }
        if !long.is_empty() {
            self.backing.sync_dir(open.dir)?;
        }
        for (old, new) in moves {
            if self.is_there(open.dir, &new)? {
                let path = open.path.below(old, None);
                self.damaged(Subject::Name, &path, "another entry has the same name");
                continue;
            }
            self.touch(open)?;
            let (from, to) = ((open.dir, &old[..]), (open.dir, &new[..]));
            self.backing.rename(from, to, RenameMode::Replace)?;
            self.outcome.resealed += 1;
        }
        Ok(!long.is_empty())
    }

    /// Looks at an entry, and seals its target or attributes anew. Answers its name, if it can be opened.
    fn entry(&mut self, open: &mut Open<'_, B>, stored: &[u8]) -> Result<Option<(Vec<u8>, Age)>> {
        let path = open.path.below(stored, None);
        let attr = match self.backing.stat(Target::At(open.dir, stored)) {
            Ok(attr) => attr,
            Err(e) => {
                self.unreadable(Subject::Name, &path, &e);
                return Ok(None);
            }
        };
        let opened = match self.open_name(open.dir, &open.id, stored) {
            Ok(opened) => opened,
            Err(e) => {
                self.unreadable(Subject::NameFile, &path, &e);
                return Ok(None);
            }
        };
        let plain = opened.as_ref().map(|(plain, _)| &plain[..]);
        let path = open.path.below(stored, plain);
        if plain.is_none() {
            self.damaged(Subject::Name, &path, "it does not authenticate");
        }
        match attr.kind() {
            Kind::File => self.file_attributes(open.dir, stored, &path),
            Kind::Symlink => self.symlink(open, stored, &attr, &path),
            // Those of directories come with what is in them.
            _ => Ok(()),
        }
        .map_err(Stuck::at(&path))?;
        Ok(opened)
    }

    /// A name, and which keys it is sealed under; `None` if under none.
    fn open_name(
        &self,
        dir: &B::Dir,
        id: &DirId,
        stored: &[u8],
    ) -> io::Result<Option<(Vec<u8>, Age)>> {
        if classify(stored) == Stored::Short {
            return Ok(self.either(|keys| keys.open(id, stored).ok()));
        }
        let file = match self.backing.open(dir, &sidecar_of(stored), OpenFor::Read) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let mut content = [0; 512];
        let got = self.backing.read_at(&file, &mut content, 0)?;
        Ok(self.either(|keys| keys.open_long(id, stored, &content[..got]).ok()))
    }

    /// Removes what only the old keys needed: links with the id, and the files of long names whose entries are renamed.
    fn clear_old(&mut self, open: &mut Open<'_, B>) -> io::Result<()> {
        let mut old = Vec::new();
        self.backing.list(open.dir)?.read(&mut |entry| {
            match classify(entry.name) {
                Stored::DirIdLink if self.old.parse_dir_link_name(entry.name).is_ok() => {
                    old.push(entry.name.to_vec());
                }
                Stored::Sidecar => old.push(entry.name.to_vec()),
                _ => {}
            }
            true
        })?;
        for name in old {
            if classify(&name) == Stored::Sidecar && !self.is_left(open, &name)? {
                continue;
            }
            self.touch(open)?;
            remove(self.backing, open.dir, &name)?;
        }
        Ok(())
    }

    /// Whether the file of a long name is sealed under the old keys, and its entry gone.
    fn is_left(&self, open: &Open<'_, B>, sidecar: &[u8]) -> io::Result<bool> {
        let entry = &sidecar[..sidecar.len() - SIDECAR.len()];
        if self.is_there(open.dir, entry)? {
            return Ok(false);
        }
        let opened = self.open_name(open.dir, &open.id, entry)?;
        Ok(matches!(opened, Some((_, Age::Old))))
    }

    fn is_there(&self, dir: &B::Dir, name: &[u8]) -> io::Result<bool> {
        match self.backing.stat(Target::At(dir, name)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            other => other.map(|_| true),
        }
    }

    fn damaged(&mut self, subject: Subject, path: &Path, why: impl Into<String>) {
        self.outcome.damaged += 1;
        self.tell(State::Damaged, subject, path, why.into());
    }

    fn unreadable(&mut self, subject: Subject, path: &Path, why: &io::Error) {
        self.outcome.unreadable += 1;
        self.tell(State::Unreadable, subject, path, why.to_string());
    }

    fn tell(&self, state: State, subject: Subject, path: &Path, why: String) {
        self.watch.passed_over(Finding {
            state,
            subject,
            path: path.plain.clone(),
            stored: path.stored.clone(),
            ranges: Vec::new(),
            gaps: Vec::new(),
            detail: format!("was passed over: {why}"),
        });
    }
}

/// What is in a directory besides its entries.
#[derive(Debug, Default)]
struct Seen {
    /// In the id file.
    file: Option<(DirId, Age)>,
    new_link: Option<DirId>,
    old_link: Option<DirId>,
    has_entries: bool,
    long: u64,
    sidecars: u64,
}

impl Seen {
    fn id(&self) -> Option<DirId> {
        let file = self.file.map(|(id, _)| id);
        file.or(self.new_link).or(self.old_link)
    }
}

/// The next entries of the tree; empty at the end.
fn batch<L: Listing>(listing: &mut L) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    listing.read(&mut |entry| {
        let wanted = names.len() < BATCH;
        if wanted && matches!(classify(entry.name), Stored::Short | Stored::Long) {
            names.push(entry.name.to_vec());
        }
        wanted
    })?;
    Ok(names)
}

fn remove<B: Backing>(backing: &B, dir: &B::Dir, name: &[u8]) -> io::Result<()> {
    match backing.unlink(dir, name) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn sidecar_of(entry: &[u8]) -> Vec<u8> {
    [entry, SIDECAR].concat()
}

/// Makes what `file` holds durable, with its attributes.
fn sync_file<B: Backing>(backing: &B, file: &B::File) -> io::Result<()> {
    backing.sync(file, Sync::All)
}
