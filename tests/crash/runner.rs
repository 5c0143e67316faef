//! Cuts the power at every point of a workload and judges every state that may be left.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::disk::{Image, Logged, Plan, SimDisk};
use crate::drive::{self, Run};
use crate::history::History;
use crate::lab::Lab;
use crate::observe::observe;
use crate::oracle::{Moment, Problem, judge};
use crate::profile::{Certain, Durability, PROFILES, Profile};
use crate::random::Random;
use crate::states::Window;
use crate::step::Workload;

/// How much of what is possible is tried.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// States at each cut.
    pub states: usize,
    /// Percentage of states in whose recovery the power is cut again, and how many states of that are judged.
    pub again: usize,
    pub states_again: usize,
    /// How often the power may be cut within recoveries.
    pub depth: usize,
    pub seed: u64,
}

/// A state that breaks the contract.
#[derive(Debug, Clone)]
pub struct Violation {
    pub workload: String,
    pub profile: Profile,
    pub cut: String,
    pub state: String,
    pub problem: Problem,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  {}: {}", self.problem.class, self.problem.text)?;
        writeln!(f, "    workload: {}", self.workload)?;
        writeln!(f, "    profile: {}", self.profile)?;
        writeln!(f, "    cut: {}", self.cut)?;
        write!(f, "    what was not durable:\n{}", self.state)
    }
}

/// Violations of one class on one kind of filesystem.
#[derive(Debug, Default)]
pub struct Class {
    pub states: u64,
    /// The shortest ones.
    pub examples: Vec<Violation>,
}

/// Violations that are kept of each class.
const EXAMPLES: usize = 3;

impl Class {
    fn keep(&mut self, violation: Violation) {
        let length = |v: &Violation| (v.workload.len(), v.cut.len(), v.state.len());
        let at = self
            .examples
            .partition_point(|v| length(v) <= length(&violation));
        if at < EXAMPLES {
            self.examples.insert(at, violation);
            self.examples.truncate(EXAMPLES);
        }
    }
}

/// What came of judging.
#[derive(Debug, Default)]
pub struct Verdict {
    pub workloads: u64,
    pub states: u64,
    pub again: u64,
    pub classes: BTreeMap<(Profile, &'static str), Class>,
}

impl Verdict {
    pub fn add(&mut self, other: Verdict) {
        self.workloads += other.workloads;
        self.states += other.states;
        self.again += other.again;
        for (key, class) in other.classes {
            let kept = self.classes.entry(key).or_default();
            kept.states += class.states;
            class.examples.into_iter().for_each(|v| kept.keep(v));
        }
    }

    fn blame(&mut self, violation: Violation) {
        let key = (violation.profile, violation.problem.class);
        let class = self.classes.entry(key).or_default();
        class.states += 1;
        class.keep(violation);
    }

    /// States that break the contract; one that does so in two ways counts twice.
    pub fn violations(&self) -> u64 {
        self.classes.values().map(|class| class.states).sum()
    }

    pub fn examples(&self) -> impl Iterator<Item = &Violation> {
        self.classes.values().flat_map(|class| &class.examples)
    }
}

/// A workload under judgement.
struct Case<'c> {
    lab: &'c Lab,
    run: &'c Run,
    names: Vec<(u64, Vec<u8>)>,
    workload: String,
    effort: Effort,
}

/// Judges one workload under all profiles. `None` if it makes no sense.
pub fn examine(
    lab: &Lab,
    workload: &Workload,
    effort: Effort,
    plan: Option<Plan>,
) -> Option<Verdict> {
    let run = drive::run(lab, workload, plan)?;
    let text = workload.to_string();
    let case = Case {
        lab,
        names: all_names(&run.history),
        run: &run,
        workload: text.clone(),
        effort,
    };
    let mut verdict = Verdict {
        workloads: 1,
        ..Verdict::default()
    };
    if let Some(why) = &run.failed {
        verdict.blame(Violation {
            workload: text,
            profile: Profile::Kill,
            cut: "none: a call of the workload failed".into(),
            state: String::new(),
            problem: Problem {
                class: "failed call",
                text: why.clone(),
            },
        });
    }
    let log = run.disk.log();
    let base = lab.disk().image();
    for profile in PROFILES {
        case.cut_everywhere(profile, &log, &base, &mut verdict);
    }
    Some(verdict)
}

pub fn all_names(history: &History) -> Vec<(u64, Vec<u8>)> {
    let keys = history.trees.iter().flat_map(|(_, tree)| tree.keys());
    let mut names: Vec<_> = keys.cloned().collect();
    names.sort();
    names.dedup();
    names
}

/// One point at which the power goes.
struct Cut<'d> {
    durability: &'d Durability<'d>,
    profile: Profile,
    /// What was done of the operation under way.
    part: Option<Logged>,
    moment: Moment<'d>,
    limit: usize,
    /// In how many recoveries the power was cut before.
    depth: usize,
    seed: u64,
    text: &'d dyn Fn() -> String,
}

fn hash(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

impl Case<'_> {
    fn cut_everywhere(&self, profile: Profile, log: &[Logged], base: &Image, to: &mut Verdict) {
        let mut durability = Durability::new(profile, log, base.clone());
        for at in self.run.begin..=log.len() {
            durability.advance(at);
            let moment = Moment {
                history: &self.run.history,
                done: self.run.history.done_at(at),
                promise: profile.promise(),
            };
            let pages = log.get(at).map_or(0, |next| next.op.pages());
            for pages in [0, 1, pages.saturating_sub(1)] {
                let text = || match pages {
                    0 => cut_text(log, at, moment),
                    _ => format!("{}, inside, after {pages} pages", cut_text(log, at, moment)),
                };
                let part = log.get(at).and_then(|next| {
                    let op = next.op.prefix(pages)?;
                    Some(Logged { op, ..next.clone() })
                });
                if pages > 0 && part.is_none() {
                    continue;
                }
                let cut = Cut {
                    durability: &durability,
                    profile,
                    limit: match part {
                        Some(_) => 2 + self.effort.states / 4,
                        None => self.effort.states,
                    },
                    part,
                    moment,
                    depth: 0,
                    seed: hash((
                        self.effort.seed,
                        &self.workload,
                        profile.to_string(),
                        at,
                        pages,
                    )),
                    text: &text,
                };
                self.judge_cut(&cut, to);
            }
        }
    }

    /// Judges the states of one cut; in some of them the power is cut again during recovery.
    fn judge_cut(&self, cut: &Cut<'_>, to: &mut Verdict) {
        let (base, ops, certain) = cut.durability.pending();
        let mut window = Window {
            profile: cut.profile,
            base,
            ops: ops.iter().collect(),
            certain: certain.to_vec(),
        };
        if let Some(part) = &cut.part {
            window.ops.push(part);
            window
                .certain
                .push(Certain::at_first(cut.profile, &part.op));
        }
        let mut random = Random::new(cut.seed);
        for choice in window.choices(&mut random, cut.limit) {
            let image = window.image(&choice);
            to.states += 1;
            to.again += u64::from(cut.depth > 0);
            let disk = SimDisk::from_now(image.clone());
            for problem in self.problems(&disk, cut.moment) {
                to.blame(Violation {
                    workload: self.workload.clone(),
                    profile: cut.profile,
                    cut: (cut.text)(),
                    state: window.describe(&choice),
                    problem,
                });
            }
            if cut.depth < self.effort.depth && random.chance(self.effort.again) {
                let before = || format!("{}\n{}    then", (cut.text)(), window.describe(&choice));
                self.cut_recovery(cut, &disk, image, random.next(), &before, to);
            }
        }
    }

    /// The power goes again while the volume is opened.
    fn cut_recovery(
        &self,
        cut: &Cut<'_>,
        recovered: &SimDisk,
        base: Image,
        seed: u64,
        before: &dyn Fn() -> String,
        to: &mut Verdict,
    ) {
        let log = recovered.log();
        let mut durability = Durability::new(cut.profile, &log, base);
        for at in 0..=log.len() {
            durability.advance(at);
            let text = || {
                let op = log.get(at).map_or("the end".into(), |l| l.op.to_string());
                format!("{} in recovery before operation {at}: {op}", before())
            };
            let again = Cut {
                durability: &durability,
                part: None,
                limit: self.effort.states_again,
                depth: cut.depth + 1,
                seed: hash((seed, at)),
                text: &text,
                ..*cut
            };
            self.judge_cut(&again, to);
        }
    }

    /// Opens what was left and looks at all of it.
    fn problems(&self, disk: &SimDisk, moment: Moment<'_>) -> Vec<Problem> {
        match self.lab.open(disk) {
            Ok(fs) => judge(moment, &observe(&fs, &self.names)),
            Err(e) => vec![Problem {
                class: "no mount",
                text: e,
            }],
        }
    }
}

fn cut_text(log: &[Logged], cut: usize, moment: Moment<'_>) -> String {
    let op = log.get(cut).map_or("the end".into(), |l| l.op.to_string());
    let events = &moment.history.events;
    let under_way = events
        .get(moment.done)
        .map_or("nothing", |e| e.text.as_str());
    format!("before operation {cut}: {op}; under way: {under_way}")
}
