//! Copies of a vault in use, as any program makes them: file by file in an order of its own, each page as it is at that
//! moment, the journal at others. Mounted as copies they must hold, chunk by chunk, what was there meanwhile, or name what
//! they do not; what nobody wrote to must be as it was.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Instant;

use wardfs::fs::ROOT;

use crate::disk::{
    BLOCK, Body, Image, Ino, Keep, Logged, Node, ROOT_INO, SimDisk, Unplaced, wall_clock,
};
use crate::drive::{self, sensible};
use crate::history::{History, Version};
use crate::lab::{Lab, Protection};
use crate::long::smaller;
use crate::observe::{Observed, observe};
use crate::oracle::Problem;
use crate::place::{FILES, Place};
use crate::random::Random;
use crate::step::Workload;
use crate::workload::random_workload;

/// Random workloads, and copies that are made during each.
const WORKLOADS: usize = 150;
const COPIES: u64 = 40;
/// Of a workload that is made smaller.
const COPIES_AGAIN: u64 = 150;

/// In seconds: longer than any of this takes.
const LONG: i64 = 3600;

/// In which order a program takes the entries of a directory.
#[derive(Debug, Clone, Copy)]
enum Order {
    ByName,
    Backwards,
    Any,
}

/// A copy under way.
struct Copier<'c> {
    /// The disk after each operation.
    states: &'c [Image],
    now: usize,
    end: usize,
    random: Random,
    order: Order,
    /// Whether files with several names are kept as one.
    keeps_links: bool,
    /// Percentage of steps at which time goes on.
    pace: usize,
    made: Image,
    links: BTreeMap<Ino, Ino>,
}

impl Copier<'_> {
    fn disk(&self) -> &Image {
        &self.states[self.now]
    }

    fn wait(&mut self) {
        if self.now < self.end && self.random.chance(self.pace) {
            self.now = self.end.min(self.now + 1 + self.random.below(6));
        }
    }

    fn copy_dir(&mut self, from: Ino, to: Ino) {
        self.wait();
        let listed = self.disk().node(from).and_then(Node::entries);
        let mut names: Vec<Vec<u8>> = listed
            .into_iter()
            .flatten()
            .map(|(n, _)| n.clone())
            .collect();
        match self.order {
            Order::ByName => {}
            Order::Backwards => names.reverse(),
            Order::Any => self.random.shuffle(&mut names),
        }
        for name in names {
            self.wait();
            // It may have gone since it was listed.
            if let Some(ino) = self.disk().entry(from, &name) {
                self.copy_entry(ino, to, &name);
            }
        }
    }

    fn copy_entry(&mut self, ino: Ino, to: Ino, name: &[u8]) {
        if let Some(copied) = self.links.get(&ino).copied() {
            return self.made.enter(to, name, copied, copied);
        }
        let node = self.disk().node(ino).expect("it has a name").clone();
        let copied = self.made.next_ino();
        let body = match &node.body {
            Body::Dir(_) => Body::Dir(BTreeMap::new()),
            Body::File(_) => Body::File(Default::default()),
            other => other.clone(),
        };
        let is_dir = node.is_dir();
        let new = Node {
            nlink: 0,
            ctime: wall_clock(0),
            body,
            ..node
        };
        self.made.insert(copied, new);
        self.made.enter(to, name, copied, copied);
        if is_dir {
            return self.copy_dir(ino, copied);
        }
        if self.keeps_links {
            self.links.insert(ino, copied);
        }
        self.copy_pages(ino, copied);
    }

    fn copy_pages(&mut self, from: Ino, to: Ino) {
        for no in 0.. {
            let Some(source) = self.disk().node(from).and_then(Node::file) else {
                return;
            };
            let mut page = [0; BLOCK];
            let got = source.read(no * BLOCK as u64, &mut page);
            let is_hole = source.block(no).is_none();
            let file = self.made.file_mut(to).expect("made as a file");
            file.append_page(no, (!is_hole).then_some(&page), got);
            if got < BLOCK {
                return;
            }
            self.wait();
        }
    }
}

/// The disk after each operation of the log, from the first one on.
fn all_states(base: Image, log: &[Logged]) -> Vec<Image> {
    let mut states = vec![base];
    for logged in log {
        let mut image = states.last().expect("one at least").clone();
        image.apply(logged, &Keep::ALL, Unplaced::Kept);
        states.push(image);
    }
    states
}

/// What is wrong with the copies that are made during a workload, and how many were looked at.
struct Trial<'t> {
    lab: &'t Lab,
    history: &'t History,
    states: Vec<Image>,
    begin: usize,
}

impl Trial<'_> {
    /// A copy, and between which operations it was made.
    fn copy(&self, seed: u64) -> (Image, Range<usize>) {
        let mut random = Random::new(2 * seed);
        let last = self.states.len() - 1;
        let begin = self.begin + random.below(last - self.begin + 1);
        let end = begin + random.below(last - begin + 1);
        let order = [Order::ByName, Order::Backwards, Order::Any];
        let mut copier = Copier {
            states: &self.states,
            now: begin,
            end,
            order: *random.pick(&order),
            keeps_links: random.chance(50),
            pace: [5, 20, 60][random.below(3)],
            made: Image::new(wall_clock(0)),
            links: BTreeMap::new(),
            random,
        };
        copier.copy_dir(ROOT_INO, ROOT_INO);
        (copier.made, begin..copier.now)
    }

    fn judge(&self, seed: u64) -> Vec<Problem> {
        let (image, during) = self.copy(seed);
        let long_ago = wall_clock(LONG);
        let looks_old = |ino| image.node(ino).is_some_and(|node| node.mtime < long_ago);
        let disk = SimDisk::from_now(image.clone());
        let fs = match self.lab.open_copy(&disk) {
            Ok(fs) => fs,
            Err(text) => {
                return vec![Problem {
                    class: "no mount",
                    text,
                }];
            }
        };
        let report = fs.volume().recovered();
        let cut = report.cut.iter().map(|c| &c.path);
        let failed = report.failed.iter().map(|f| &f.path);
        let lists = [&report.emptied, &report.damaged, &report.orphans];
        let stored = lists.into_iter().flatten().chain(cut).chain(failed);
        let named: BTreeSet<Vec<u8>> = stored
            .filter_map(|path| fs.volume().plain_path(path.as_bytes()))
            .collect();
        // Of a new file nothing was on the disk: it was empty.
        let emptied: BTreeSet<Vec<u8>> = report
            .emptied
            .iter()
            .filter_map(|path| fs.volume().plain_path(path.as_bytes()))
            .collect();
        let seen = observe(&fs, &[]);
        let window = Window::new(self.history, during);
        let mut problems = Vec::new();
        for place in FILES {
            let ino = resolve(&seen, place);
            let found = ino.and_then(|ino| seen.files.get(&ino));
            let is_named = named.contains(&path_of(place));
            let wrong = match window.is_left_alone(place) {
                true if is_named && !emptied.contains(&path_of(place)) => {
                    Some(("left alone and blamed", "it is named as damaged".into()))
                }
                _ if is_named => None,
                // Recovery goes by the time, which was read first: what was torn in just that moment is found by readers.
                _ if ino.is_some_and(looks_old) && matches!(found, Some(Err(_))) => None,
                _ => window.objection(place, found),
            };
            problems.extend(wrong.map(|(class, what)| Problem {
                class,
                text: format!("{place}: {what}; {report:?}"),
            }));
        }
        problems
    }
}

fn path_of(place: Place) -> Vec<u8> {
    match place.parent() {
        Some(parent) => [parent.name(), place.name()].join(&b'/'),
        None => place.name().to_vec(),
    }
}

fn resolve(seen: &Observed, place: Place) -> Option<Ino> {
    let parent = match place.parent() {
        Some(parent) => resolve(seen, parent)?,
        None => ROOT,
    };
    let slot = seen.slots.get(&(parent, place.name().to_vec()))?;
    slot.listed.then_some(slot.ino)
}

/// The part of a history that a copy may show.
struct Window<'h> {
    history: &'h History,
    /// Everything before this event was in its place when the copy began.
    applied: usize,
    /// Events from this one on had not answered when it began; those after `end` had not begun when it ended.
    begin: usize,
    end: usize,
}

impl<'h> Window<'h> {
    fn new(history: &'h History, during: Range<usize>) -> Self {
        let begin = history.done_at(during.start);
        let applies = |text: &str| matches!(text, "checkpoint" | "open again");
        let applied = history.events[..begin]
            .iter()
            .rposition(|e| applies(&e.text));
        Self {
            history,
            applied: applied.unwrap_or(0),
            begin,
            end: history.done_at(during.end),
        }
    }

    /// What has been at a place, from event `since` on; `None` where nothing was.
    fn inodes(&self, place: Place, since: usize) -> BTreeSet<Option<Ino>> {
        let trees = &self.history.trees;
        let first = trees.partition_point(|(e, _)| *e < since.max(1));
        trees[first.saturating_sub(1)..]
            .iter()
            .filter(|(e, _)| *e <= self.end)
            .map(|(_, tree)| {
                let parent = place.parent().map_or(Some(ROOT), |p| {
                    tree.get(&(ROOT, p.name().to_vec())).copied()
                });
                let key = (parent?, place.name().to_vec());
                tree.get(&key).copied()
            })
            .collect()
    }

    fn versions(&self, ino: Ino, since: usize) -> &'h [Version] {
        let versions = &self.history.files[&ino].versions;
        let first = versions.partition_point(|v| v.event < since.max(1));
        let end = versions.partition_point(|v| v.event <= self.end);
        &versions[first.saturating_sub(1)..end.max(first.max(1))]
    }

    /// Whether nobody has touched the file since it was in its place.
    fn is_left_alone(&self, place: Place) -> bool {
        let inodes = self.inodes(place, self.applied);
        let [Some(ino)] = inodes.into_iter().collect::<Vec<_>>()[..] else {
            return false;
        };
        self.versions(ino, self.applied).len() == 1
    }

    fn objection(
        &self,
        place: Place,
        found: Option<&Result<Vec<u8>, String>>,
    ) -> Option<(&'static str, String)> {
        let inodes = self.inodes(place, self.applied);
        let Some(found) = found else {
            let always = self.inodes(place, self.begin.min(self.applied)).len() == 1;
            let gone = inodes.contains(&None) || !always;
            return (!gone).then(|| ("missing file", "it was there all the time".into()));
        };
        let files = inodes.iter().flatten();
        let files: Vec<&[Version]> = files.map(|ino| self.versions(*ino, self.applied)).collect();
        let found = match found {
            Ok(found) => found,
            Err(e) => return Some(("unreadable and not named", e.clone())),
        };
        if files.is_empty() {
            return Some(("unknown file", "nothing was ever there".into()));
        }
        let wrong: Vec<String> = files
            .iter()
            .filter_map(|v| content_wrong(v, found))
            .collect();
        // All of it belongs to one file.
        (wrong.len() == files.len()).then(|| ("wrong content and not named", wrong.join("; ")))
    }
}

/// Why a file cannot have been made of chunks that these versions have.
fn content_wrong(versions: &[Version], found: &[u8]) -> Option<String> {
    let sizes: Vec<usize> = versions.iter().map(|v| v.content.len()).collect();
    let grows = versions
        .windows(2)
        .any(|pair| (pair[0].content.len()..=pair[1].content.len()).contains(&found.len()));
    if !sizes.contains(&found.len()) && !grows {
        return Some(format!("{} bytes, legal are {sizes:?}", found.len()));
    }
    let shortest = sizes.iter().min().copied().unwrap_or(0);
    for (no, chunk) in found.chunks(4096).enumerate() {
        let at = no * 4096;
        let of_one = |v: &Version| {
            let has = v.content.get(at..).unwrap_or_default();
            let has = &has[..has.len().min(chunk.len())];
            chunk.starts_with(has) && chunk[has.len()..].iter().all(|b| *b == 0)
        };
        let grown = at + chunk.len() > shortest;
        if !versions
            .iter()
            .any(|v| of_one(v) && (grown || v.content.len() >= at + chunk.len()))
        {
            return Some(format!("chunk {no} of {} bytes was never so", found.len()));
        }
    }
    None
}

/// The problems of the copies of one workload, with their seeds; `None` if it makes no sense.
fn examine(lab: &Lab, workload: &Workload, copies: Range<u64>) -> Option<Vec<(u64, Problem)>> {
    let mut run = drive::run(lab, workload, None)?;
    assert_eq!(run.failed, None, "{workload}");
    let log = run.disk.log();
    drop(run.fs.take());
    let trial = Trial {
        lab,
        history: &run.history,
        states: all_states(lab.disk().image(), &log),
        begin: run.begin,
    };
    let judge = |seed| trial.judge(seed).into_iter().map(move |p| (seed, p));
    Some(copies.flat_map(judge).collect())
}

/// The smallest workload that has a problem of the same class.
fn shrink(lab: &Lab, workload: &Workload, class: &str) -> (Workload, u64, Problem) {
    let mut best = workload.clone();
    let mut found = None;
    'again: loop {
        let candidates = match found {
            None => vec![best.clone()],
            Some(_) => smaller(&best),
        };
        for candidate in candidates {
            let problems = examine(lab, &candidate, 0..COPIES_AGAIN).unwrap_or_default();
            if let Some(problem) = problems.into_iter().find(|(_, p)| p.class == class) {
                (best, found) = (candidate, Some(problem));
                continue 'again;
            }
        }
        let (seed, problem) = found.expect("the workload itself has it");
        return (best, seed, problem);
    }
}

#[test]
fn a_copy_of_a_vault_in_use_holds_what_was_there_or_names_it() {
    let from = |name: &str, default: u64| {
        let text = std::env::var(name).ok();
        text.and_then(|t| t.parse().ok()).unwrap_or(default)
    };
    let lab = Lab::new(Protection::Journal);
    let begun = Instant::now();
    let mut random = Random::new(from("WARDFS_CRASH_SEED", 1));
    let mut copies = 0;
    let mut classes: BTreeMap<&str, (u64, Workload)> = BTreeMap::new();
    for _ in 0..from("WARDFS_CRASH_COPIES", WORKLOADS as u64) {
        let steps = 2 + random.below(10);
        let workload = sensible(&lab, &random_workload(&mut random, steps));
        let Some(problems) = examine(&lab, &workload, 0..COPIES) else {
            continue;
        };
        copies += COPIES;
        for (_, problem) in problems {
            let class = classes
                .entry(problem.class)
                .or_insert((0, workload.clone()));
            class.0 += 1;
        }
    }
    eprintln!(
        "copies: {copies} mounted in {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    for (class, (count, workload)) in &classes {
        let (smallest, seed, problem) = shrink(&lab, workload, class);
        eprintln!(
            "{class}: {count} files\n  workload: {smallest}\n  copy {seed}: {}",
            problem.text
        );
    }
    assert!(classes.is_empty(), "see above");
}
