//! What filesystems promise: which operations are certain to be on the disk once something was synced.

use std::fmt;

use wardfs::store::backing::Sync;

use crate::disk::{Image, Ino, Keep, Logged, Op, Unplaced};
use crate::oracle::Promise;
use crate::states::depends;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Profile {
    /// Metadata in order; new blocks before the length that covers them; overwritten sectors in any mixture.
    Ext4,
    /// Metadata in order; new blocks whole or zero; a length after the last block it covers.
    Xfs,
    /// Only what POSIX promises: names by directory, data by sector, each on its own.
    Weak,
    /// Nothing but the process dies: every call that returned is there.
    Kill,
}

pub const PROFILES: [Profile; 4] = [Profile::Ext4, Profile::Xfs, Profile::Weak, Profile::Kill];

impl Profile {
    pub fn promise(self) -> Promise {
        match self {
            Self::Ext4 | Self::Xfs => Promise::Ordered,
            Self::Weak => Promise::Weak,
            Self::Kill => Promise::Everything,
        }
    }

    pub fn is_ordered(self) -> bool {
        self.promise() == Promise::Ordered
    }

    pub fn unplaced(self) -> Unplaced {
        match self.is_ordered() {
            true => Unplaced::Lost,
            false => Unplaced::Kept,
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Weak => "posix-weak",
            Self::Kill => "kill",
        })
    }
}

/// What of an operation is certain to be on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Certain {
    pub meta: bool,
    pub size: bool,
    pub data: bool,
}

impl Certain {
    const ALL: Self = Self {
        meta: true,
        size: true,
        data: true,
    };

    /// As soon as the operation was called.
    pub fn at_first(profile: Profile, op: &Op) -> Self {
        if profile == Profile::Kill {
            return Self::ALL;
        }
        Self {
            meta: !op.has_meta(),
            size: !op.has_size(),
            data: op.sectors() == 0,
        }
    }
}

/// A log being written, and what of it is durable.
pub struct Durability<'l> {
    profile: Profile,
    log: &'l [Logged],
    certain: Vec<Certain>,
    /// Operations before this one are durable as a whole, and in the image.
    frontier: usize,
    image: Image,
}

impl<'l> Durability<'l> {
    pub fn new(profile: Profile, log: &'l [Logged], base: Image) -> Self {
        Self {
            profile,
            log,
            certain: Vec::new(),
            frontier: 0,
            image: base,
        }
    }

    /// The operations before `cut` have been called.
    pub fn advance(&mut self, cut: usize) {
        for i in self.certain.len()..cut {
            let op = &self.log[i].op;
            self.certain.push(Certain::at_first(self.profile, op));
            match op {
                Op::Sync { ino, what } => self.sync_file(*ino, *what),
                Op::SyncDir { ino } => self.sync_dir(*ino),
                Op::SyncAll => self.certain.fill(Certain::ALL),
                _ => {}
            }
        }
        while self.frontier < cut && self.certain[self.frontier] == Certain::ALL {
            let logged = &self.log[self.frontier];
            self.image
                .apply(logged, &Keep::ALL, self.profile.unplaced());
            self.frontier += 1;
        }
    }

    /// What is durable, the operations that may be there or not, and what of those is certain.
    pub fn pending(&self) -> (&Image, &'l [Logged], &[Certain]) {
        let end = self.certain.len();
        (
            &self.image,
            &self.log[self.frontier..end],
            &self.certain[self.frontier..],
        )
    }

    fn sync_file(&mut self, ino: Ino, what: Sync) {
        let ops = self.log.iter().map(|l| &l.op).zip(&mut self.certain);
        if self.profile == Profile::Weak {
            for (op, certain) in ops.filter(|(op, _)| op.content_of() == Some(ino)) {
                certain.data = true;
                certain.size = true;
                let attribute = matches!(op, Op::Attr { .. } | Op::Xattr { .. });
                certain.meta |= what == Sync::All || !attribute;
            }
            return;
        }
        // The filesystem's own journal is committed up to the last change that this sync needs.
        let mut needed = None;
        for (i, (op, certain)) in ops.enumerate().filter(|(_, (op, _))| op.touches(ino)) {
            let needs = what == Sync::All
                || matches!(op, Op::Make { .. } | Op::SetLen { .. } | Op::Punch { .. });
            if !certain.size {
                // Its blocks are found only now, by a change of this moment.
                needed = Some(usize::MAX);
            } else if needs {
                needed = needed.max(Some(i));
            }
            certain.data = true;
            certain.size = true;
        }
        self.commit(needed);
    }

    fn sync_dir(&mut self, ino: Ino) {
        let concerns = |op: &Op| op.touches(ino) || op.slots().iter().any(|(dir, _)| *dir == ino);
        let ops = self.log[..self.certain.len()].iter().map(|l| &l.op);
        let mut concerned = ops
            .enumerate()
            .filter(|(_, op)| concerns(op))
            .map(|(i, _)| i);
        if self.profile.is_ordered() {
            let last = concerned.next_back();
            self.commit(last);
        } else {
            let mut wanted: Vec<usize> = concerned.collect();
            // With what they could not be without.
            while let Some(j) = wanted.pop() {
                self.certain[j].meta = true;
                let op = &self.log[j].op;
                wanted.extend(
                    (0..j).filter(|i| !self.certain[*i].meta && depends(op, &self.log[*i].op)),
                );
            }
        }
    }

    /// Makes all metadata up to this operation durable.
    fn commit(&mut self, last: Option<usize>) {
        let Some(last) = last else { return };
        for certain in self.certain.iter_mut().take(last.saturating_add(1)) {
            certain.meta = true;
        }
    }
}
