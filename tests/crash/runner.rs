//! Cuts the power at every point of a workload and judges every state that may be left.

use std::hash::{DefaultHasher, Hash, Hasher};

use wardfs::fs::Fs;
use wardfs::store::check::Mode;
use wardfs::store::check::finding::Subject;

use crate::disk::{Image, Logged, Plan, SimDisk};
use crate::drive::{self, Run};
use crate::findings;
use crate::history::History;
use crate::lab::Lab;
use crate::observe::{Observed, observe};
use crate::oracle::{Moment, Problem, Promise, judge};
use crate::profile::{Certain, Durability, PROFILES, Profile};
use crate::random::Random;
use crate::states::Window;
use crate::step::Workload;
use crate::verdict::{Verdict, Violation};
use crate::workload::Sequences;

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
    /// Percentage of states after which the volume is used on, and the power cut once more.
    pub sequel: usize,
    /// Of how many states one is checked as well, as `wardfs check` does; 0: none.
    pub checked: u64,
    pub seed: u64,
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
    let mut run = drive::run(lab, workload, plan)?;
    let log = run.disk.log();
    let live = run.fs.take();
    let text = workload.to_string();
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
    case.judge_use(live.as_ref(), &mut verdict);
    let base = lab.disk().image();
    for profile in PROFILES {
        case.cut_everywhere(profile, &log, &base, &mut verdict);
    }
    Some(verdict)
}

/// Judges the states that a workload may leave from the answer of the call `from` on, as `judge` opens them.
pub fn examine_from(
    lab: &Lab,
    judge: &Lab,
    workload: &Workload,
    effort: Effort,
    from: &str,
) -> Option<Verdict> {
    let mut run = drive::run(lab, workload, None)?;
    assert_eq!(run.failed, None, "{workload}");
    let log = run.disk.log();
    let events = &run.history.events;
    run.begin = events.iter().find(|e| e.text == from)?.acked_at;
    let case = Case {
        lab: judge,
        names: all_names(&run.history),
        run: &run,
        workload: workload.to_string(),
        effort,
    };
    let mut verdict = Verdict {
        workloads: 1,
        ..Verdict::default()
    };
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
            let (seen, mut problems) = self.recover(&disk, cut.moment);
            if cut
                .seed
                .wrapping_add(to.states)
                .checked_rem(self.effort.checked)
                == Some(0)
            {
                to.checked += 1;
                problems.extend(self.check(&image, &disk, &seen, cut.moment));
            }
            let sound = problems.is_empty();
            for problem in problems {
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
                self.cut_recovery(cut, &disk, image.clone(), random.next(), &before, to);
            }
            if sound && cut.depth == 0 && random.chance(self.effort.sequel) {
                let before = format!("{}\n{}    then ", (cut.text)(), window.describe(&choice));
                self.use_on(cut.profile, image, &seen, &mut random, &before, to);
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

    /// The recovered volume is used on, and the power cut again.
    fn use_on(
        &self,
        profile: Profile,
        image: Image,
        seen: &Observed,
        random: &mut Random,
        before: &str,
        to: &mut Verdict,
    ) {
        let Some(history) = seen.as_prepared() else {
            return;
        };
        let steps = 1 + random.below(2);
        let runs = Sequences::new(steps, random.next()).take(8).find_map(|w| {
            let disk = SimDisk::from_now(image.clone());
            Some((drive::run_on(self.lab, disk, &history, &w, None)?, w))
        });
        let Some((mut run, workload)) = runs else {
            return;
        };
        let log = run.disk.log();
        let live = run.fs.take();
        let sequel = Case {
            lab: self.lab,
            names: all_names(&run.history),
            run: &run,
            workload: format!("{}\n    {before}\n    sequel: {workload}", self.workload),
            effort: Effort {
                states: self.effort.states_again,
                again: 0,
                sequel: 0,
                ..self.effort
            },
        };
        sequel.judge_use(live.as_ref(), to);
        sequel.cut_everywhere(profile, &log, &image, to);
    }

    /// What the volume shows while it is in use, after the last step.
    fn judge_use(&self, live: Option<&Fs<SimDisk>>, to: &mut Verdict) {
        let moment = Moment {
            history: &self.run.history,
            done: self.run.history.done_at(self.run.disk.log_len()),
            promise: Promise::Everything,
        };
        let failed = self.run.failed.iter().map(|why| Problem {
            class: "failed call",
            text: why.clone(),
        });
        let seen = live.map(|fs| judge(moment, &observe(fs, &self.names)));
        for problem in failed.chain(seen.unwrap_or_default()) {
            to.blame(Violation {
                workload: self.workload.clone(),
                profile: Profile::Kill,
                cut: "none: this is seen while the volume is in use".into(),
                state: String::new(),
                problem,
            });
        }
    }

    /// Opens what was left and looks at all of it.
    fn recover(&self, disk: &SimDisk, moment: Moment<'_>) -> (Observed, Vec<Problem>) {
        match self.lab.open(disk) {
            Ok(fs) => {
                let seen = observe(&fs, &self.names);
                let problems = judge(moment, &seen);
                (seen, problems)
            }
            Err(text) => {
                let class = "no mount";
                (Observed::default(), vec![Problem { class, text }])
            }
        }
    }

    /// What checks say of the volume as it was left, as the mount that showed `seen` left it, and after a repair.
    fn check(
        &self,
        image: &Image,
        recovered: &SimDisk,
        seen: &Observed,
        moment: Moment<'_>,
    ) -> Vec<Problem> {
        let left = SimDisk::from_now(image.clone());
        self.try_check(&left, recovered, seen, moment)
            .unwrap_or_else(|text| {
                let class = "no check";
                vec![Problem { class, text }]
            })
    }

    fn try_check(
        &self,
        left: &SimDisk,
        recovered: &SimDisk,
        seen: &Observed,
        moment: Moment<'_>,
    ) -> Result<Vec<Problem>, String> {
        let mut problems = Vec::new();
        let mut found = self.lab.check(left, Mode::Look)?;
        // Torn while the volume was opened or closed, a slot does not tell whether it was a crash.
        found.retain(|f| f.subject != Subject::Superblock);
        problems.extend(findings::judge(moment, &left.image(), &found));
        problems.extend(findings::judge_silence(&left.image(), &found, seen));
        let found = self.lab.check(recovered, Mode::Look)?;
        problems.extend(findings::judge(moment, &recovered.image(), &found));
        problems.extend(findings::judge_silence(&recovered.image(), &found, seen));
        self.lab.check(left, Mode::Repair)?;
        let found = self.lab.check(left, Mode::Look)?;
        problems.extend(findings::judge_repaired(moment, &left.image(), &found));
        let (_, harmed) = self.recover(left, moment);
        problems.extend(harmed);
        Ok(problems)
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
