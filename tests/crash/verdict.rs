//! What came of judging: how many states, and which of them break the contract.

use std::collections::BTreeMap;
use std::fmt;

use crate::oracle::Problem;
use crate::profile::Profile;

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
    pub checked: u64,
    pub classes: BTreeMap<(Profile, &'static str), Class>,
}

impl Verdict {
    pub fn add(&mut self, other: Verdict) {
        self.workloads += other.workloads;
        self.states += other.states;
        self.again += other.again;
        self.checked += other.checked;
        for (key, class) in other.classes {
            let kept = self.classes.entry(key).or_default();
            kept.states += class.states;
            class.examples.into_iter().for_each(|v| kept.keep(v));
        }
    }

    pub fn blame(&mut self, violation: Violation) {
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
