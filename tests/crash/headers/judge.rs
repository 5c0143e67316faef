//! Cuts the power at every point of a change of the header, and judges every header that may be left.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use wardfs::format::volume::VolumeHeader;
use wardfs::store::header;

use crate::disk::{Image, Logged, ROOT_INO, SimDisk};
use crate::oracle::Problem;
use crate::profile::{Certain, Durability, PROFILES, Profile};
use crate::random::Random;
use crate::runner::Effort;
use crate::states::Window;
use crate::verdict::{Verdict, Violation};

pub const META: &[u8] = b"~wardfs";
pub const TMP: &[u8] = b"tmp";
pub const COPIES: [&str; 2] = ["volume", "volume.bak"];

/// What was done to a header, call by call.
pub struct Run {
    pub name: String,
    /// What the disk held before it.
    pub base: Image,
    pub log: Vec<Logged>,
    /// The header before, then one for each change; `None` where neither copy was whole.
    pub headers: Vec<Option<VolumeHeader>>,
    /// How long the log was when each change began, and when it had answered.
    pub changes: Vec<(usize, usize)>,
    /// Headers that an earlier change, which was interrupted, has left somewhere.
    pub stale: Vec<VolumeHeader>,
    pub earlier: Earlier,
    pub extent: Extent,
}

/// How the change before this run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Earlier {
    /// What it left is on the disk.
    Durable,
    /// It was killed just now: a power cut may still undo it.
    Killed,
}

/// What of the header is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    Both,
    /// The copy that is not as it should be; what lies in `tmp` for the other one stays.
    Bad,
}

impl Run {
    /// Changes that answered the headers behind the first one.
    pub fn new(name: impl Into<String>, base: Image, headers: Vec<Option<VolumeHeader>>) -> Self {
        Self {
            name: name.into(),
            base,
            log: Vec::new(),
            headers,
            changes: Vec::new(),
            stale: Vec::new(),
            earlier: Earlier::Durable,
            extent: Extent::Both,
        }
    }

    /// The header that an opener finds; `None` if it rightly finds none.
    fn judge(&self, at: usize, image: &Image) -> Result<Option<VolumeHeader>, Problem> {
        let done = self.changes.iter().filter(|(_, end)| *end <= at).count();
        let legal = &self.headers[done..(done + 2).min(self.headers.len())];
        let is_legal = |header: &VolumeHeader| legal.iter().flatten().any(|h| h == header);
        let is_stale = |header: &VolumeHeader| self.stale.contains(header);
        let found = match header::read(&SimDisk::from_now(image.clone())) {
            Ok(found) => Some(found.header),
            Err(_) if legal.contains(&None) => None,
            Err(e) => return problem("no whole header", e.to_string()),
        };
        let may_return = done == 0 && self.earlier == Earlier::Killed;
        if let Some(found) = &found
            && !(is_legal(found) || may_return && is_stale(found))
        {
            return problem("a header of another time", text_of(found));
        }
        let files = files(image);
        for (name, bytes) in &files {
            let Ok(header) = VolumeHeader::decode(bytes) else {
                continue;
            };
            let is_scratch = !COPIES.contains(&name.as_str());
            let may_stay = done == 0 || is_scratch && self.extent == Extent::Bad;
            if !(is_legal(&header) || may_stay && is_stale(&header)) {
                let text = format!("{name}: {}", text_of(&header));
                return problem("an old header is left", text);
            }
        }
        let rests = self.changes.get(done).is_none_or(|(begin, _)| at <= *begin);
        if done > 0 && rests {
            let wanted = self.headers[done].as_ref().expect("it was written");
            both_are(&files, wanted, "a copy is not what was answered")?;
        }
        Ok(found)
    }
}

fn problem<T>(class: &'static str, text: String) -> Result<T, Problem> {
    Err(Problem { class, text })
}

fn text_of(header: &VolumeHeader) -> String {
    let slots: Vec<String> = header
        .slots
        .iter()
        .map(|slot| format!("{} {:?}", slot.id, slot.label))
        .collect();
    format!("slots {slots:?}, MAC {:02x?}", &header.mac[..4])
}

fn both_are(
    files: &BTreeMap<String, Vec<u8>>,
    wanted: &VolumeHeader,
    class: &'static str,
) -> Result<(), Problem> {
    let wanted = wanted.encode();
    match COPIES
        .iter()
        .find(|name| files.get(**name) != Some(&wanted))
    {
        Some(name) => problem(class, (*name).to_owned()),
        None => Ok(()),
    }
}

/// The files that may hold a header, by their names below `~wardfs`.
pub fn files(image: &Image) -> BTreeMap<String, Vec<u8>> {
    let meta = image.entry(ROOT_INO, META).expect("a vault");
    let tmp = image.entry(meta, TMP).expect("a vault");
    let content = |dir, name: &[u8]| {
        let file = image.node(image.entry(dir, name)?)?.file()?;
        let mut bytes = vec![0; file.len as usize];
        file.read(0, &mut bytes);
        Some(bytes)
    };
    let copies = COPIES
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), content(meta, name.as_bytes())?)));
    let scratch = image.node(tmp).and_then(|node| node.entries());
    let scratch = scratch.into_iter().flatten().filter_map(|(name, _)| {
        let path = format!("tmp/{}", String::from_utf8_lossy(name));
        Some((path, content(tmp, name)?))
    });
    copies.chain(scratch).collect()
}

/// Which headers lie where; `None` for one that is damaged.
type Class = BTreeMap<String, Option<u64>>;

fn class_of(image: &Image) -> Class {
    let whole = |bytes: &Vec<u8>| VolumeHeader::decode(bytes).ok().map(|_| hash(bytes));
    let files = files(image).into_iter();
    files.map(|(name, bytes)| (name, whole(&bytes))).collect()
}

fn hash(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// All headers in an image.
pub fn whole_in(image: &Image) -> Vec<VolumeHeader> {
    let files = files(image);
    let whole = files.values().filter_map(|b| VolumeHeader::decode(b).ok());
    whole.collect()
}

/// One of the images that a power cut left, of those in which the headers lie alike.
pub struct Left {
    pub profile: Profile,
    pub image: Image,
    /// What an opener finds.
    pub header: VolumeHeader,
}

/// What came of it.
#[derive(Default)]
pub struct Outcome {
    pub verdict: Verdict,
    pub left: Vec<Left>,
    known: BTreeSet<(Profile, usize, Class)>,
}

/// Opens what was left for writing, which mends the header that was found, and looks at what is of interest.
pub type Open<'o> = &'o dyn Fn(&SimDisk, &VolumeHeader) -> Result<(), String>;

/// Mends the header, and nothing else.
pub fn mend(disk: &SimDisk, found: &VolumeHeader) -> Result<(), String> {
    header::heal(disk, found).map_err(|e| e.to_string())
}

/// How runs are judged.
pub struct Judge<'o> {
    pub open: Open<'o>,
    pub effort: Effort,
}

impl Judge<'_> {
    pub fn examine(&self, run: &Run) -> Outcome {
        self.examine_on(&PROFILES, run)
    }

    pub fn examine_on(&self, profiles: &[Profile], run: &Run) -> Outcome {
        let mut out = Outcome::default();
        out.verdict.workloads = 1;
        for profile in profiles {
            self.cut_everywhere(*profile, run, 0, &mut out);
        }
        out
    }

    fn cut_everywhere(&self, profile: Profile, run: &Run, depth: usize, out: &mut Outcome) {
        let mut durability = Durability::new(profile, &run.log, run.base.clone());
        for at in 0..=run.log.len() {
            durability.advance(at);
            let next = run.log.get(at);
            let last = next.map_or(0, |next| next.op.pages().saturating_sub(1));
            for pages in BTreeSet::from([0, 1, last]) {
                let part = next.and_then(|next| {
                    let op = next.op.prefix(pages)?;
                    Some(Logged { op, ..next.clone() })
                });
                if pages > 0 && part.is_none() {
                    continue;
                }
                let (base, ops, certain) = durability.pending();
                let mut window = Window {
                    profile,
                    base,
                    ops: ops.iter().collect(),
                    certain: certain.to_vec(),
                };
                if let Some(part) = &part {
                    window.ops.push(part);
                    window.certain.push(Certain::at_first(profile, &part.op));
                }
                let seed = (self.effort.seed, &run.name, profile.to_string(), at, pages);
                self.judge_cut(run, (at, pages), &window, hash(seed), depth, out);
            }
        }
    }

    fn judge_cut(
        &self,
        run: &Run,
        (at, pages): (usize, u64),
        window: &Window<'_>,
        seed: u64,
        depth: usize,
        out: &mut Outcome,
    ) {
        let mut random = Random::new(seed);
        let limit = match depth {
            0 => self.effort.states,
            _ => self.effort.states_again,
        };
        for choice in window.choices(&mut random, limit) {
            out.verdict.states += 1;
            out.verdict.again += u64::from(depth > 0);
            let cut = || {
                let op = run.log.get(at).map(|l| l.op.to_string());
                let op = op.unwrap_or_else(|| "the end".into());
                format!("before operation {at}: {op}; {pages} pages of it done")
            };
            let image = window.image(&choice);
            let again = random.chance(self.effort.again);
            let name = || format!("{}\n    {}\n{}", run.name, cut(), window.describe(&choice));
            let judged = run.judge(at, &image).and_then(|found| match found {
                Some(found) => self.open(window.profile, image, found, (depth, again), &name, out),
                None => Ok(()),
            });
            if let Err(problem) = judged {
                out.verdict.blame(Violation {
                    workload: run.name.clone(),
                    profile: window.profile,
                    cut: cut(),
                    state: window.describe(&choice),
                    problem,
                });
            }
        }
    }

    /// Opens what was left; the power may go again meanwhile.
    fn open(
        &self,
        profile: Profile,
        image: Image,
        found: VolumeHeader,
        (depth, again): (usize, bool),
        name: &dyn Fn() -> String,
        out: &mut Outcome,
    ) -> Result<(), Problem> {
        let is_new = out.known.insert((profile, depth, class_of(&image)));
        let disk = SimDisk::from_now(image.clone());
        (self.open)(&disk, &found).or_else(|text| problem("unreadable volume", text))?;
        both_are(&files(&disk.image()), &found, "a copy was not mended")?;
        let log = disk.log();
        if depth < self.effort.depth && (is_new || again) && !log.is_empty() {
            let headers = vec![Some(found.clone()); 2];
            let run = Run {
                changes: vec![(0, log.len())],
                stale: whole_in(&image),
                extent: Extent::Bad,
                log,
                ..Run::new(format!("{}    then opened", name()), image.clone(), headers)
            };
            self.cut_everywhere(profile, &run, depth + 1, out);
        }
        if is_new && depth == 0 {
            out.left.push(Left {
                profile,
                image,
                header: found,
            });
        }
        Ok(())
    }
}
