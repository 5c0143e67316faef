//! Random operations on the filesystem layer and on a model in memory: same answers, same content, also after the volume
//! was closed and opened again.

use std::collections::BTreeMap;

use wardfs::fs::{Detail, Fh, ROOT};
use wardfs::store::backing::{RenameMode, Sync, XattrMode};

use crate::driver::{Answer, CALLER, Driver, KEEP, KINDS, Path, new_mode, ok};
use crate::lab::Lab;
use crate::random::Random;
use wardfs::fs::SetAttr;

const OPERATIONS: usize = 2500;
const HANDLES: usize = 6;
const LARGEST: usize = 8;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Content {
    File(Vec<u8>),
    Dir(BTreeMap<Vec<u8>, usize>),
    Link(Vec<u8>),
}

#[derive(Debug)]
struct Node {
    content: Content,
    links: u32,
    mode: u32,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Nodes by number; 0 is the root. Those without links stay until the end, for handles.
#[derive(Debug)]
struct Model {
    nodes: Vec<Node>,
}

impl Model {
    fn new() -> Self {
        let mut model = Self { nodes: Vec::new() };
        model.add(Content::Dir(BTreeMap::new()), 0o700);
        model
    }

    fn add(&mut self, content: Content, mode: u32) -> usize {
        self.nodes.push(Node {
            content,
            links: 1,
            mode,
            xattrs: BTreeMap::new(),
        });
        self.nodes.len() - 1
    }

    fn entries(&mut self, dir: usize) -> &mut BTreeMap<Vec<u8>, usize> {
        match &mut self.nodes[dir].content {
            Content::Dir(entries) => entries,
            other => panic!("not a directory: {other:?}"),
        }
    }

    fn data(&mut self, file: usize) -> &mut Vec<u8> {
        match &mut self.nodes[file].content {
            Content::File(data) => data,
            other => panic!("not a file: {other:?}"),
        }
    }

    fn find(&mut self, path: &[Vec<u8>]) -> Option<usize> {
        path.iter()
            .try_fold(0, |at, name| self.entries(at).get(name).copied())
    }

    fn is_dir(&self, id: usize) -> bool {
        matches!(self.nodes[id].content, Content::Dir(_))
    }

    fn put(&mut self, path: &[Vec<u8>], id: usize) {
        let (name, parent) = path.split_last().expect("not the root");
        let parent = self.find(parent).expect("chosen from those that are there");
        self.entries(parent).insert(name.clone(), id);
    }

    fn take(&mut self, path: &[Vec<u8>]) -> usize {
        let (name, parent) = path.split_last().expect("not the root");
        let parent = self.find(parent).expect("chosen from those that are there");
        self.entries(parent).remove(name).expect("there")
    }

    /// All paths, the root first.
    fn paths(&mut self) -> Vec<(Path, usize)> {
        let mut found = vec![(Vec::new(), 0)];
        let mut next = 0;
        while next < found.len() {
            let (path, id) = found[next].clone();
            if self.is_dir(id) {
                for (name, child) in self.entries(id).clone() {
                    let mut path = path.clone();
                    path.push(name);
                    found.push((path, child));
                }
            }
            next += 1;
        }
        found
    }
}

struct Run<'l> {
    random: Random,
    chunk: usize,
    driver: Driver<'l>,
    model: Model,
    /// Open handles with the model's number of the file.
    handles: Vec<((u64, Fh), usize)>,
    names: Vec<Vec<u8>>,
}

impl Run<'_> {
    fn a_dir(&mut self) -> Path {
        let dirs: Vec<Path> = self
            .model
            .paths()
            .into_iter()
            .filter(|(p, id)| p.len() < 4 && self.model.nodes[*id].links > 0)
            .map(|(p, _)| p)
            .collect();
        let dirs: Vec<Path> = dirs
            .into_iter()
            .filter(|p| self.model.find(p).is_some_and(|id| self.model.is_dir(id)))
            .collect();
        self.random.pick(&dirs).clone()
    }

    /// Any name in some directory, there or not.
    fn a_path(&mut self) -> Path {
        let mut path = self.a_dir();
        path.push(self.random.pick(&self.names).clone());
        path
    }

    /// A path that is there, for which `wanted` holds.
    fn some(&mut self, wanted: impl Fn(&Content) -> bool) -> Option<(Path, usize)> {
        let all = self.model.paths();
        let fitting: Vec<_> = all
            .into_iter()
            .filter(|(p, id)| !p.is_empty() && wanted(&self.model.nodes[*id].content))
            .collect();
        (!fitting.is_empty()).then(|| self.random.pick(&fitting).clone())
    }

    fn a_file(&mut self) -> Option<(Path, usize)> {
        self.some(|c| matches!(c, Content::File(_)))
    }

    fn a_handle(&mut self) -> Option<((u64, Fh), usize)> {
        (!self.handles.is_empty()).then(|| *self.random.pick(&self.handles))
    }

    fn step(&mut self) -> String {
        let what = self.random.below(24);
        let (said, expected): (String, Answer<()>) = match what {
            0..=2 => self.create(),
            3 | 4 => self.open_or_close(),
            5..=9 => self.write(),
            10 | 11 => self.read(),
            12 => self.truncate(),
            13 => self.allocate(),
            14 => self.copy(),
            15 => self.mkdir(),
            16 => self.remove(),
            17..=19 => self.rename(),
            20 => self.link(),
            21 => self.symlink(),
            22 => self.xattr(),
            _ => self.chmod_or_sync(),
        };
        assert!(expected.is_ok() || expected.is_err_and(|e| e > 0), "{said}");
        if self.random.one_in(2) {
            self.driver.forget_all();
        }
        said
    }

    #[track_caller]
    fn same<T: std::fmt::Debug>(
        &self,
        said: String,
        found: Answer<T>,
        expected: Answer<()>,
    ) -> (String, Answer<()>) {
        let found = found.map(drop);
        assert_eq!(found, expected, "{said}");
        (said, expected)
    }

    fn create(&mut self) -> (String, Answer<()>) {
        let path = self.a_path();
        let there = self.model.find(&path).is_some();
        let expected = if there { Err(libc::EEXIST) } else { Ok(()) };
        let made = self.driver.create(&path);
        if let (Ok(handle), false) = (made, there) {
            let id = self.model.add(Content::File(Vec::new()), 0o600);
            self.model.put(&path, id);
            if self.handles.len() < HANDLES {
                self.handles.push((handle, id));
            } else {
                self.driver.close(handle);
            }
        }
        self.same(format!("create {path:?}"), made, expected)
    }

    fn open_or_close(&mut self) -> (String, Answer<()>) {
        if self.handles.len() == HANDLES || (self.random.one_in(2) && !self.handles.is_empty()) {
            let at = self.random.below(self.handles.len());
            let (handle, _) = self.handles.swap_remove(at);
            self.driver.close(handle);
            return ("close".into(), Ok(()));
        }
        let Some((path, id)) = self.a_file() else {
            return ("nothing to open".into(), Ok(()));
        };
        let handle = self.driver.open(&path, libc::O_RDWR);
        if let Ok(handle) = handle {
            self.handles.push((handle, id));
        }
        self.same(format!("open {path:?}"), handle, Ok(()))
    }

    fn write(&mut self) -> (String, Answer<()>) {
        let Some(((_, fh), id)) = self.a_handle() else {
            return self.create();
        };
        let (mut off, len) = (
            self.random.offset(self.chunk),
            self.random.length(self.chunk),
        );
        if self.random.one_in(3) {
            off = self.model.data(id).len().min(LARGEST * self.chunk);
        }
        let bytes = self.random.bytes(len);
        let written = ok(self.driver.fs().write(fh, off as u64, &bytes));
        let data = self.model.data(id);
        if data.len() < off + len {
            data.resize(off + len, 0);
        }
        data[off..off + len].copy_from_slice(&bytes);
        self.same(format!("write {len} at {off} of #{id}"), written, Ok(()))
    }

    fn read(&mut self) -> (String, Answer<()>) {
        let Some(((_, fh), id)) = self.a_handle() else {
            return self.create();
        };
        let (off, len) = (
            self.random.offset(self.chunk),
            self.random.length(self.chunk),
        );
        let mut found = vec![0xee; len];
        let got = ok(self.driver.fs().read(fh, off as u64, &mut found));
        let data = self.model.data(id);
        let expected = &data[off.min(data.len())..(off + len).min(data.len())];
        let said = format!("read {len} at {off} of #{id}");
        assert_eq!(got, Ok(expected.len()), "{said}");
        assert!(found[..expected.len()] == *expected, "{said}: content");
        (said, Ok(()))
    }

    fn truncate(&mut self) -> (String, Answer<()>) {
        let size = self.random.offset(self.chunk);
        if let (true, Some(((ino, _), id))) = (self.random.one_in(2), self.a_handle()) {
            let done = self.driver.set_size(ino, size as u64);
            self.model.data(id).resize(size, 0);
            return self.same(format!("ftruncate #{id} to {size}"), done, Ok(()));
        }
        let Some((path, id)) = self.a_file() else {
            return self.create();
        };
        let done = self
            .driver
            .ino(&path)
            .and_then(|ino| self.driver.set_size(ino, size as u64));
        self.model.data(id).resize(size, 0);
        self.same(format!("truncate {path:?} #{id} to {size}"), done, Ok(()))
    }

    fn allocate(&mut self) -> (String, Answer<()>) {
        let Some(((_, fh), id)) = self.a_handle() else {
            return self.create();
        };
        let (off, len) = (
            self.random.offset(self.chunk),
            self.random.length(self.chunk),
        );
        let keep = libc::FALLOC_FL_KEEP_SIZE;
        let modes = [
            0,
            keep,
            libc::FALLOC_FL_PUNCH_HOLE | keep,
            libc::FALLOC_FL_ZERO_RANGE,
            libc::FALLOC_FL_ZERO_RANGE | keep,
        ];
        let mode = *self.random.pick(&modes);
        let done = ok(self
            .driver
            .fs()
            .fallocate(CALLER, fh, off as u64, len as u64, mode));
        let data = self.model.data(id);
        if mode & keep == 0 && data.len() < off + len {
            data.resize(off + len, 0);
        }
        if mode & !keep != 0 {
            let end = data.len().min(off + len);
            data[off.min(end)..end].fill(0);
        }
        self.same(
            format!("fallocate {mode} {len} at {off} of #{id}"),
            done,
            Ok(()),
        )
    }

    fn copy(&mut self) -> (String, Answer<()>) {
        let (Some(((_, from), a)), Some(((_, to), b))) = (self.a_handle(), self.a_handle()) else {
            return self.create();
        };
        if a == b {
            return ("no copy within one file".into(), Ok(()));
        }
        let (off, into, len) = (
            self.random.offset(self.chunk),
            self.random.offset(self.chunk),
            self.random.length(self.chunk),
        );
        let done = ok(self.driver.fs().copy_range(
            CALLER,
            (from, off as u64),
            (to, into as u64),
            len as u64,
        ));
        let source = self.model.data(a);
        let piece = source[off.min(source.len())..(off + len).min(source.len())].to_vec();
        let said = format!("copy {len} from {off} of #{a} to {into} of #{b}");
        assert_eq!(done, Ok(piece.len() as u64), "{said}");
        if !piece.is_empty() {
            let target = self.model.data(b);
            target.resize(target.len().max(into + piece.len()), 0);
            target[into..into + piece.len()].copy_from_slice(&piece);
        }
        (said, Ok(()))
    }

    fn mkdir(&mut self) -> (String, Answer<()>) {
        let path = self.a_path();
        let expected = if self.model.find(&path).is_some() {
            Err(libc::EEXIST)
        } else {
            Ok(())
        };
        let made = self.driver.at(&path).and_then(|(parent, name)| {
            ok(self
                .driver
                .fs()
                .mkdir(CALLER, parent, name, new_mode(0o700)))
            .map(|entry| self.driver.told(&entry))
        });
        if expected.is_ok() {
            let id = self.model.add(Content::Dir(BTreeMap::new()), 0o700);
            self.model.put(&path, id);
        }
        self.same(format!("mkdir {path:?}"), made, expected)
    }

    fn remove(&mut self) -> (String, Answer<()>) {
        let path = self.a_path();
        let found = self.model.find(&path);
        let is_dir = found.is_some_and(|id| self.model.is_dir(id));
        let as_dir = if self.random.one_in(8) {
            !is_dir
        } else {
            is_dir
        };
        let expected = match found {
            None => Err(libc::ENOENT),
            Some(_) if as_dir && !is_dir => Err(libc::ENOTDIR),
            Some(_) if !as_dir && is_dir => Err(libc::EISDIR),
            Some(id) if is_dir && !self.model.entries(id).is_empty() => Err(libc::ENOTEMPTY),
            Some(_) => Ok(()),
        };
        let done = self
            .driver
            .at(&path)
            .and_then(|(parent, name)| match as_dir {
                true => ok(self.driver.fs().rmdir(parent, name)),
                false => ok(self.driver.fs().unlink(parent, name)),
            });
        if expected.is_ok() {
            let id = self.model.take(&path);
            self.model.nodes[id].links -= 1;
        }
        self.same(
            format!("remove {path:?} as directory: {as_dir}"),
            done,
            expected,
        )
    }

    fn rename(&mut self) -> (String, Answer<()>) {
        let Some((from, a)) = self.some(|_| true) else {
            return self.create();
        };
        let to = self.a_path();
        // The kernel refuses to move a directory below itself before it asks.
        if to.starts_with(&from) || from.starts_with(&to) {
            return ("no rename".into(), Ok(()));
        }
        let mode = *self.random.pick(&[
            RenameMode::Replace,
            RenameMode::Replace,
            RenameMode::NoReplace,
            RenameMode::Exchange,
        ]);
        let target = self.model.find(&to);
        let expected = match (mode, target) {
            (RenameMode::NoReplace, Some(_)) => Err(libc::EEXIST),
            (RenameMode::Exchange, None) => Err(libc::ENOENT),
            (RenameMode::Replace, Some(b)) if a != b => {
                match (self.model.is_dir(a), self.model.is_dir(b)) {
                    (true, false) => Err(libc::ENOTDIR),
                    (false, true) => Err(libc::EISDIR),
                    (true, true) if !self.model.entries(b).is_empty() => Err(libc::ENOTEMPTY),
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        };
        let done = self.driver.at(&from).and_then(|old| {
            let new = self.driver.at(&to)?;
            ok(self.driver.fs().rename(old, new, mode))
        });
        match (expected, target) {
            (Ok(()), Some(b)) if a == b => {}
            (Ok(()), Some(b)) if mode == RenameMode::Exchange => {
                self.model.put(&from, b);
                self.model.put(&to, a);
            }
            (Ok(()), target) => {
                if let Some(b) = target {
                    self.model.nodes[b].links -= 1;
                }
                self.model.take(&from);
                self.model.put(&to, a);
            }
            _ => {}
        }
        self.same(
            format!("rename {mode:?} {from:?} to {to:?}"),
            done,
            expected,
        )
    }

    fn link(&mut self) -> (String, Answer<()>) {
        let Some((from, id)) = self.some(|c| !matches!(c, Content::Dir(_))) else {
            return self.create();
        };
        let to = self.a_path();
        let expected = if self.model.find(&to).is_some() {
            Err(libc::EEXIST)
        } else {
            Ok(())
        };
        let done = self.driver.ino(&from).and_then(|ino| {
            let (parent, name) = self.driver.at(&to)?;
            ok(self.driver.fs().link(ino, parent, name)).map(|entry| self.driver.told(&entry))
        });
        if expected.is_ok() {
            self.model.put(&to, id);
            self.model.nodes[id].links += 1;
        }
        self.same(format!("link {from:?} as {to:?}"), done, expected)
    }

    fn symlink(&mut self) -> (String, Answer<()>) {
        let path = self.a_path();
        let len = *self.random.pick(&[1, 20, 500, 3100, 4095]);
        let target = vec![b'a' + self.random.below(26) as u8; len];
        let expected = if self.model.find(&path).is_some() {
            Err(libc::EEXIST)
        } else {
            Ok(())
        };
        let done = self.driver.at(&path).and_then(|(parent, name)| {
            ok(self.driver.fs().symlink(CALLER, parent, name, &target))
                .map(|entry| self.driver.told(&entry))
        });
        if expected.is_ok() {
            let id = self.model.add(Content::Link(target), 0o777);
            self.model.put(&path, id);
        }
        self.same(format!("symlink of {len} at {path:?}"), done, expected)
    }

    fn xattr(&mut self) -> (String, Answer<()>) {
        let Some((path, id)) = self.some(|c| !matches!(c, Content::Link(_))) else {
            return self.create();
        };
        let name = format!("user.{}", self.random.below(3)).into_bytes();
        let ino = self.driver.ino(&path).expect("there");
        let there = self.model.nodes[id].xattrs.contains_key(&name);
        if self.random.one_in(3) {
            let done = ok(self.driver.fs().removexattr(ino, &name));
            self.model.nodes[id].xattrs.remove(&name);
            let expected = if there { Ok(()) } else { Err(libc::ENODATA) };
            return self.same(format!("removexattr {path:?}"), done, expected);
        }
        let len = self.random.below(200);
        let value = self.random.bytes(len);
        let mode = *self
            .random
            .pick(&[XattrMode::Any, XattrMode::Create, XattrMode::Replace]);
        let expected = match (mode, there) {
            (XattrMode::Create, true) => Err(libc::EEXIST),
            (XattrMode::Replace, false) => Err(libc::ENODATA),
            _ => Ok(()),
        };
        let done = ok(self.driver.fs().setxattr(ino, &name, &value, mode));
        if expected.is_ok() {
            self.model.nodes[id].xattrs.insert(name, value);
        }
        self.same(format!("setxattr {mode:?} {path:?}"), done, expected)
    }

    fn chmod_or_sync(&mut self) -> (String, Answer<()>) {
        if let (true, Some(((_, fh), id))) = (self.random.one_in(2), self.a_handle()) {
            let done = ok(self.driver.fs().fsync(fh, Sync::Data));
            return self.same(format!("fsync #{id}"), done, Ok(()));
        }
        let Some((path, id)) = self.some(|c| !matches!(c, Content::Link(_))) else {
            return self.create();
        };
        let mode = 0o600 | self.random.below(0o200) as u32;
        let ino = self.driver.ino(&path).expect("there");
        let done = ok(self.driver.fs().setattr(
            CALLER,
            ino,
            &SetAttr {
                mode: Some(mode),
                ..KEEP
            },
        ));
        self.model.nodes[id].mode = mode;
        self.same(format!("chmod {mode:o} {path:?}"), done, Ok(()))
    }

    /// Compares everything that can be seen.
    fn compare(&mut self) {
        for (path, id) in self.model.paths() {
            let ino = self
                .driver
                .ino(&path)
                .unwrap_or_else(|e| panic!("{path:?}: errno {e}"));
            let attr =
                ok(self.driver.fs().getattr(ino)).unwrap_or_else(|e| panic!("{path:?}: errno {e}"));
            let node = &self.model.nodes[id];
            if ino != ROOT {
                assert_eq!(attr.mode & 0o7777, node.mode, "mode of {path:?}");
            }
            match node.content.clone() {
                Content::Dir(entries) => {
                    let expected: Vec<Vec<u8>> = entries.into_keys().collect();
                    for detail in [Detail::Names, Detail::Attributes] {
                        assert_eq!(
                            self.driver.names(ino, detail),
                            Ok(expected.clone()),
                            "names in {path:?}"
                        );
                    }
                }
                Content::Link(target) => {
                    assert_eq!(
                        (attr.size, attr.nlink),
                        (target.len() as u64, node.links),
                        "{path:?}"
                    );
                    assert!(
                        ok(self.driver.fs().readlink(ino)) == Ok(target),
                        "target of {path:?}"
                    );
                }
                Content::File(data) => {
                    assert_eq!(
                        (attr.size, attr.nlink),
                        (data.len() as u64, node.links),
                        "{path:?}"
                    );
                    let handle = self.driver.open(&path, libc::O_RDONLY).expect("readable");
                    let found = self.driver.read_all(handle.1, data.len());
                    assert!(
                        found.as_ref() == Ok(&data),
                        "content of {path:?}: {:?}",
                        found.map(|d| d.len())
                    );
                    self.driver.close(handle);
                }
            }
            if !matches!(self.model.nodes[id].content, Content::Link(_)) {
                let listed = ok(self.driver.fs().listxattr(ino)).expect("listed");
                let mut names: Vec<Vec<u8>> = listed
                    .split(|b| *b == 0)
                    .filter(|n| !n.is_empty())
                    .map(<[u8]>::to_vec)
                    .collect();
                names.sort();
                assert_eq!(
                    names,
                    self.model.nodes[id]
                        .xattrs
                        .keys()
                        .cloned()
                        .collect::<Vec<_>>(),
                    "xattrs of {path:?}"
                );
                for (name, value) in &self.model.nodes[id].xattrs {
                    assert!(
                        ok(self.driver.fs().getxattr(ino, name)).as_ref() == Ok(value),
                        "xattr of {path:?}"
                    );
                }
            }
            self.driver.forget_all();
        }
        for ((_, fh), id) in self.handles.clone() {
            let data = self.model.data(id).clone();
            assert!(
                self.driver.read_all(fh, data.len()) == Ok(data),
                "content of open #{id}"
            );
        }
    }

    fn reopen(&mut self) {
        for (handle, _) in std::mem::take(&mut self.handles) {
            self.driver.close(handle);
        }
        self.driver.reopen();
    }

    /// The daemon dies: nothing that it acknowledged may be lost.
    fn kill(&mut self) {
        self.handles.clear();
        self.driver.kill();
    }
}

fn run(seed: u64, (cipher, chunk): (wardfs::crypto::Cipher, u32)) {
    let lab = Lab::new(cipher, chunk);
    let mut names: Vec<Vec<u8>> = (0..9).map(|i| format!("name{i}").into_bytes()).collect();
    names.extend([vec![b'l'; 255], vec![b'm'; 200], b"\xff\xfe ~".to_vec()]);
    let mut run = Run {
        random: Random::new(seed),
        chunk: chunk as usize,
        driver: Driver::new(&lab),
        model: Model::new(),
        handles: Vec::new(),
        names,
    };
    for i in 0..OPERATIONS {
        // Printed only when the test fails: then the last line is what was done before.
        println!("seed {seed} {cipher} {chunk} operation {i}: {}", run.step());
        if i % 250 == 249 {
            run.compare();
        }
        if run.random.one_in(40) {
            run.driver.fs().checkpoint().expect("room");
        }
        if run.random.one_in(60) {
            run.kill();
            run.compare();
        }
        if i % 500 == 499 {
            run.reopen();
            run.compare();
        }
    }
}

/// One more seed can be told by `WARDFS_TEST_SEED`.
fn seeds(first: u64) -> Vec<u64> {
    let told = std::env::var("WARDFS_TEST_SEED")
        .ok()
        .map(|s| s.parse().expect("a number"));
    (first..first + 3).chain(told).collect()
}

#[test]
fn random_operations_agree_with_the_model_with_xaes() {
    seeds(1).into_iter().for_each(|seed| run(seed, KINDS[0]));
}

#[test]
fn random_operations_agree_with_the_model_with_xchacha() {
    seeds(11).into_iter().for_each(|seed| run(seed, KINDS[1]));
}

#[test]
fn random_operations_agree_with_the_model_with_large_chunks() {
    seeds(21).into_iter().for_each(|seed| run(seed, KINDS[2]));
}
