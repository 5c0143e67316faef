//! The states in which a power cut can leave what was not durable, as many as are worth judging.

use std::collections::HashSet;

use crate::disk::{Image, Ino, Keep, Logged, Mask, Op};
use crate::profile::{Certain, Profile};
use crate::random::Random;

/// The operations that are not durable as a whole, in order.
pub struct Window<'w> {
    pub profile: Profile,
    pub base: &'w Image,
    pub ops: Vec<&'w Logged>,
    pub certain: Vec<Certain>,
}

/// One thing that may be there or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Meta,
    Size,
    Data,
}

type Unit = (usize, Part);
pub type Choice = Vec<Keep>;

impl Window<'_> {
    /// At most `limit` different states; all and nothing are always among them.
    pub fn choices(&self, random: &mut Random, limit: usize) -> Vec<Choice> {
        let units = self.units();
        let mut wanted = vec![
            self.choice(|_| true, |_| Mask::All),
            self.choice(|_| false, |_| Mask::None),
        ];
        if self.profile == Profile::Kill {
            wanted.truncate(1);
            return wanted;
        }
        let mut more = Vec::new();
        for unit in &units {
            more.push(self.with(&|u| u != *unit));
            more.push(self.with(&|u| u == *unit));
            if unit.1 != Part::Data {
                // All changes of names and attributes up to here, and no data; and the other way round.
                more.push(self.with(&|u| u.1 != Part::Data && u.0 <= unit.0));
                more.push(self.with(&|u| u.1 == Part::Data || u.0 <= unit.0));
            }
            if unit.1 == Part::Meta {
                // Files under their new names, and still empty.
                more.push(self.with(&|u| u.1 == Part::Meta && u.0 <= unit.0));
            }
        }
        for (i, _) in units
            .iter()
            .filter(|(i, part)| *part == Part::Data && self.ops[*i].op.sectors() > 1)
        {
            for mask in torn(self.ops[*i].op.sectors()) {
                for rest in [true, false] {
                    let others = if rest { Mask::All } else { Mask::None };
                    let data = |j| {
                        if j == *i {
                            mask.clone()
                        } else {
                            others.clone()
                        }
                    };
                    more.push(self.choice(|(_, _)| rest, data));
                    more.push(self.choice(|(j, _)| rest || j == *i, data));
                }
            }
        }
        for _ in 0..limit.min(4 * units.len()) {
            more.push(self.random(random));
        }
        random.shuffle(&mut more);
        wanted.extend(more);
        let mut known = HashSet::new();
        wanted.retain_mut(|choice| {
            if known.len() >= limit {
                return false;
            }
            self.legalise(choice);
            known.insert(choice.clone())
        });
        wanted
    }

    /// The image that a choice leaves.
    pub fn image(&self, choice: &Choice) -> Image {
        let mut image = self.base.clone();
        let mut files = HashSet::new();
        for (logged, keep) in self.ops.iter().zip(choice) {
            image.apply(logged, keep, self.profile.unplaced());
            if let Op::Write { ino, .. } = &logged.op {
                files.insert(*ino);
            }
        }
        for ino in files {
            if let Some(file) = image.file_mut(ino) {
                file.trim();
            }
        }
        image
    }

    /// What of each operation is there, one line each.
    pub fn describe(&self, choice: &Choice) -> String {
        let mut text = String::new();
        for (logged, keep) in self.ops.iter().zip(choice) {
            let op = &logged.op;
            let mut parts = Vec::new();
            if op.has_meta() {
                parts.push(if keep.meta { "kept" } else { "lost" }.to_owned());
            }
            if op.has_size() {
                parts.push(
                    if keep.size {
                        "length kept"
                    } else {
                        "length lost"
                    }
                    .to_owned(),
                );
            }
            if op.sectors() > 0 {
                let kept: String = (0..op.sectors())
                    .map(|i| if keep.data.has(i) { '#' } else { '.' })
                    .collect();
                parts.push(format!("sectors {kept}"));
            }
            text += &format!("      {op}: {}\n", parts.join(", "));
        }
        text
    }

    fn units(&self) -> Vec<Unit> {
        let mut units = Vec::new();
        for (i, certain) in self.certain.iter().enumerate() {
            let parts = [
                (certain.meta, Part::Meta),
                (certain.size, Part::Size),
                (certain.data, Part::Data),
            ];
            units.extend(
                parts
                    .iter()
                    .filter(|(known, _)| !known)
                    .map(|(_, part)| (i, *part)),
            );
        }
        units
    }

    fn with(&self, wanted: &dyn Fn(Unit) -> bool) -> Choice {
        let data = |i| match wanted((i, Part::Data)) {
            true => Mask::All,
            false => Mask::None,
        };
        self.choice(wanted, data)
    }

    fn choice(&self, wanted: impl Fn(Unit) -> bool, data: impl Fn(usize) -> Mask) -> Choice {
        let keep = |(i, certain): (usize, &Certain)| Keep {
            meta: certain.meta || wanted((i, Part::Meta)),
            size: certain.size || wanted((i, Part::Size)),
            data: if certain.data { Mask::All } else { data(i) },
        };
        self.certain.iter().enumerate().map(keep).collect()
    }

    fn random(&self, random: &mut Random) -> Choice {
        let likely = [15, 50, 85][random.below(3)];
        let mut choice = self.with(&|_| false);
        for (i, keep) in choice.iter_mut().enumerate() {
            let certain = self.certain[i];
            keep.meta |= random.chance(likely);
            keep.size |= random.chance(likely);
            if !certain.data {
                let sectors = self.ops[i].op.sectors();
                keep.data = match random.below(4) {
                    0 => Mask::Some((0..sectors).map(|_| random.chance(50)).collect()),
                    _ if random.chance(likely) => Mask::All,
                    _ => Mask::None,
                };
            }
        }
        choice
    }

    /// Takes away what this filesystem never does.
    fn legalise(&self, choice: &mut Choice) {
        if self.profile.is_ordered() {
            self.order_metadata(choice);
            for i in 0..choice.len() {
                self.order_data(choice, i);
            }
        } else {
            self.order_names(choice);
        }
    }

    fn order_metadata(&self, choice: &mut Choice) {
        let mut broken = false;
        for (keep, certain) in choice.iter_mut().zip(&self.certain) {
            broken |= !keep.meta;
            keep.meta = certain.meta || keep.meta && !broken;
        }
    }

    /// New blocks appear whole, and after all earlier changes of their file; the length comes after them.
    fn order_data(&self, choice: &mut Choice, i: usize) {
        let op = &self.ops[i].op;
        let Op::Write { ino, fresh, .. } = op else {
            return;
        };
        let certain = self.certain[i];
        let earlier = self.ops[..i].iter().zip(&choice[..i]);
        let complete = earlier
            .filter(|(logged, _)| logged.op.content_of() == Some(*ino))
            .all(|(_, keep)| keep.meta);
        if !complete && !certain.size {
            choice[i].size = false;
        }
        if certain.data {
            return;
        }
        let n = op.sectors();
        let last = op.block_of(n - 1);
        let keep = &mut choice[i];
        let mut kept: Vec<bool> = (0..n).map(|s| keep.data.has(s)).collect();
        for block in op.block_of(0)..=last {
            let sectors = (0..n).filter(|s| op.block_of(*s) == block);
            let length_after = match self.profile {
                Profile::Xfs => block == last,
                _ => fresh.contains(&block),
            };
            let whole = if op.has_size() && keep.size && length_after {
                true
            } else if !fresh.contains(&block) {
                continue;
            } else {
                complete && sectors.clone().any(|s| kept[s])
            };
            sectors.for_each(|s| kept[s] = whole);
        }
        keep.data = match (kept.iter().all(|k| *k), kept.iter().any(|k| *k)) {
            (true, _) => Mask::All,
            (_, false) => Mask::None,
            _ => Mask::Some(kept),
        };
    }

    /// A change of a name needs the earlier changes of the same name; so does one of an inode's attributes. A directory
    /// goes after what was in it.
    fn order_names(&self, choice: &mut Choice) {
        for j in 0..choice.len() {
            if !choice[j].meta || self.certain[j].meta {
                continue;
            }
            let lost = (0..j).any(|i| !choice[i].meta && depends(&self.ops[j].op, &self.ops[i].op));
            choice[j].meta = !lost;
        }
    }
}

/// Whether a filesystem that promises no order among names still cannot have the one without the other.
pub fn depends(later: &Op, earlier: &Op) -> bool {
    let gone: Option<Ino> = match later {
        Op::Remove { ino, .. } => Some(*ino),
        Op::Rename { replaced, .. } => *replaced,
        _ => None,
    };
    let slots = earlier.slots();
    let same_name = later.slots().iter().any(|slot| slots.contains(slot));
    let inside = slots.iter().any(|(dir, _)| Some(*dir) == gone);
    let same_inode = later.content_of().is_some() && later.content_of() == earlier.content_of();
    same_name || inside || same_inode
}

/// Sectors of a write that reached the disk before the power went.
fn torn(sectors: usize) -> Vec<Mask> {
    let mask = |kept: &dyn Fn(usize) -> bool| Mask::Some((0..sectors).map(kept).collect());
    vec![
        mask(&|i| i == 0),
        mask(&|i| i + 1 == sectors),
        mask(&|i| i != 0),
        mask(&|i| i + 1 != sectors),
        mask(&|i| i < sectors / 2),
        mask(&|i| i >= sectors / 2),
        mask(&|i| i == sectors / 2),
        mask(&|i| i != sectors / 2),
    ]
}
