//! Cuts the power at every point of a workload and judges every state that may be left.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::disk::{Image, Logged, Plan, SimDisk};
use crate::drive::{self, Run};
use crate::history::History;
use crate::lab::Lab;
use crate::observe::observe;
use crate::oracle::{Moment, Problem, judge};
use crate::profile::{Durability, PROFILES, Profile};
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

/// What came of judging.
#[derive(Debug, Default)]
pub struct Verdict {
    pub workloads: u64,
    pub states: u64,
    pub again: u64,
    pub violations: Vec<Violation>,
}

impl Verdict {
    pub fn add(&mut self, other: Verdict) {
        self.workloads += other.workloads;
        self.states += other.states;
        self.again += other.again;
        self.violations.extend(other.violations);
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
    if let Some(why) = &run.failed {
        panic!("{text}: {why}");
    }
    let case = Case {
        lab,
        names: all_names(&run.history),
        run: &run,
        workload: text,
        effort,
    };
    let mut verdict = Verdict {
        workloads: 1,
        ..Verdict::default()
    };
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

impl Case<'_> {
    fn random(&self, what: impl Hash) -> Random {
        let mut hasher = DefaultHasher::new();
        (self.effort.seed, &self.workload, what).hash(&mut hasher);
        Random::new(hasher.finish())
    }

    fn cut_everywhere(
        &self,
        profile: Profile,
        log: &[Logged],
        base: &Image,
        verdict: &mut Verdict,
    ) {
        let mut durability = Durability::new(profile, log, base.clone());
        for cut in self.run.begin..=log.len() {
            durability.advance(cut);
            let moment = Moment {
                history: &self.run.history,
                done: self.run.history.done_at(cut),
                promise: profile.promise(),
            };
            let where_ = || cut_text(log, cut, moment);
            let limit = self.effort.states;
            self.judge_cut(
                &durability,
                profile,
                None,
                moment,
                limit,
                0,
                &where_,
                verdict,
            );
            let Some(next) = log.get(cut) else { continue };
            for pages in [1, next.op.pages().saturating_sub(1)] {
                let Some(op) = next.op.prefix(pages) else {
                    continue;
                };
                let part = Logged { op, ..next.clone() };
                let inside = || {
                    format!(
                        "{}, inside, after {pages} pages",
                        cut_text(log, cut, moment)
                    )
                };
                let limit = 2 + self.effort.states / 4;
                self.judge_cut(
                    &durability,
                    profile,
                    Some(&part),
                    moment,
                    limit,
                    0,
                    &inside,
                    verdict,
                );
            }
        }
    }

    /// Judges the states of one cut; in some of them the power is cut again during recovery.
    #[allow(clippy::too_many_arguments, reason = "the parts of one cut")]
    fn judge_cut(
        &self,
        durability: &Durability<'_>,
        profile: Profile,
        part: Option<&Logged>,
        moment: Moment<'_>,
        limit: usize,
        depth: usize,
        cut: &dyn Fn() -> String,
        verdict: &mut Verdict,
    ) {
        let (base, ops, certain) = durability.pending();
        let mut window = Window {
            profile,
            base,
            ops: ops.iter().collect(),
            certain: certain.to_vec(),
        };
        if let Some(part) = part {
            window.ops.push(part);
            window.certain.push(match profile {
                Profile::Kill => crate::profile::Certain::ALL,
                _ => crate::profile::Certain::of_new(&part.op),
            });
        }
        let mut random = self.random((profile.to_string(), cut()));
        for choice in window.choices(&mut random, limit) {
            let image = window.image(&choice);
            verdict.states += 1;
            verdict.again += u64::from(depth > 0);
            let disk = SimDisk::from_now(image.clone());
            for problem in self.problems(&disk, moment) {
                verdict.violations.push(Violation {
                    workload: self.workload.clone(),
                    profile,
                    cut: cut(),
                    state: window.describe(&choice),
                    problem,
                });
            }
            if depth < self.effort.depth && random.chance(self.effort.again) {
                let cut = || format!("{}\n{}    then", cut(), window.describe(&choice));
                self.cut_recovery(&disk, &image, profile, moment, depth + 1, &cut, verdict);
            }
        }
    }

    /// The power goes again while the volume is opened.
    #[allow(clippy::too_many_arguments, reason = "the parts of one cut")]
    fn cut_recovery(
        &self,
        recovered: &SimDisk,
        base: &Image,
        profile: Profile,
        moment: Moment<'_>,
        depth: usize,
        before: &dyn Fn() -> String,
        verdict: &mut Verdict,
    ) {
        let log = recovered.log();
        let mut durability = Durability::new(profile, &log, base.clone());
        for at in 0..=log.len() {
            durability.advance(at);
            let cut = || {
                let op = log.get(at).map_or("the end".into(), |l| l.op.to_string());
                format!("{} in recovery before operation {at}: {op}", before())
            };
            let limit = self.effort.states_again;
            self.judge_cut(
                &durability,
                profile,
                None,
                moment,
                limit,
                depth,
                &cut,
                verdict,
            );
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
