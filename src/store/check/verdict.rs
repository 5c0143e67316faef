//! What a file comes to when all of it was read: another look or a repair where something was found, and the report.

use std::time::Instant;

use crate::content::Buffer;
use crate::store::backing::Backing;
use crate::store::check::file::{FileTask, OpenFile};
use crate::store::check::finding::{ByteRange, Finding, State, Subject};
use crate::store::check::scan::{BLOCK, Found};
use crate::store::check::tally::Tally;
use crate::store::check::view::View;
use crate::store::check::{Check, Mode, PATIENCE, STEADY};

impl<B: Backing> Check<'_, B> {
    /// Everything was read: reports, after another look or repair where something was found.
    pub(super) fn finish(&self, file: &OpenFile<B>) {
        let mut found = std::mem::take(&mut *file.found());
        found.tidy();
        let mut state = State::Damaged;
        if self.is_live() && !found.is_nothing() {
            match self.look_again(file, found) {
                Some((settled, still)) => (state, found) = (settled, still),
                None => return,
            }
        }
        let size = file.view.data.size();
        if let Some(out) = &file.task.out {
            let gaps = found.gaps.iter().map(|g| g.end - g.start).sum();
            Tally::add(&self.tally.lost, gaps);
            out.salvage()
                .note(out.finish(&file.view.attr, &file.xattrs));
        }
        if let Some(reason) = found.reason {
            let mut finding = Finding {
                ranges: found.damaged,
                gaps: std::mem::take(&mut found.gaps),
                ..Finding::at(&file.task.place(), state, Subject::File, reason)
            };
            if self.plan.mode == Mode::Repair && state == State::Damaged {
                self.mend(&file.task, &mut finding, size);
            }
            self.tell(finding);
        }
        if let Some(refusal) = found.refusal {
            let state = match state {
                State::Damaged => State::Unreadable,
                other => other,
            };
            self.tell(Finding {
                ranges: found.unreadable,
                gaps: found.gaps,
                ..Finding::at(&file.task.place(), state, Subject::File, refusal)
            });
        }
    }

    pub(super) fn mend(&self, task: &FileTask<B>, finding: &mut Finding, size: u64) {
        match self.mend_end(task) {
            Ok(false) => {}
            Ok(true) if self.is_whole_now(task, &finding.ranges) => {
                finding.state = State::Repaired;
                let new = self.view(task).map_or(size, |v| v.data.size());
                finding.detail += &format!("; mended, it has {new} bytes");
            }
            Ok(true) => finding.detail += "; its end was mended, but not all of it",
            Err(e) => finding.detail += &format!("; it could not be mended: {e}"),
        }
    }

    /// Whether the end and these ranges, as far as they are still in the file, can be read.
    pub(super) fn is_whole_now(&self, task: &FileTask<B>, ranges: &[ByteRange]) -> bool {
        let Ok(view) = self.view(task) else {
            return false;
        };
        let (found, _) = self.look_at_frame(&view);
        found.is_nothing() && self.reads(&view, ranges.iter().copied())
    }

    pub(super) fn reads(&self, view: &View<B>, ranges: impl Iterator<Item = ByteRange>) -> bool {
        let mut plain = Buffer::of_len(BLOCK as usize);
        for range in ranges {
            let mut start = range.start;
            let stop = range.end.min(view.data.size());
            while start < stop {
                let len = (stop - start).min(BLOCK) as usize;
                match view.data.read(self.volume, start, &mut plain[..len]) {
                    Ok(got) if got == len => start += len as u64,
                    _ => return false,
                }
            }
        }
        true
    }

    /// What a running mount was writing at that moment is looked at again a little later.
    ///
    /// `None` if it has gone. Damage is what stays the same while nobody writes to the file.
    pub(super) fn look_again(
        &self,
        file: &OpenFile<B>,
        mut found: Found,
    ) -> Option<(State, Found)> {
        let mut attr = file.view.attr;
        let mut steady = 0;
        for _ in 0..PATIENCE {
            let since = Instant::now();
            self.wait();
            // What is not yet in its place may be in the journal by now.
            let fresh = self.fresh(since);
            let again = self.on(fresh.as_deref().unwrap_or(self.volume));
            let view = match again.view(&file.task) {
                Ok(view) => view,
                Err(e) if self.has_gone(&e) => return None,
                Err(_) => return Some((State::Damaged, found)),
            };
            let (frame, _) = again.look_at_frame(&view);
            if frame.is_nothing() && again.reads(&view, found.ranges()) {
                again.put_again(file, &view, &mut found);
                let gaps = found.gaps;
                let found = Found {
                    gaps,
                    ..Found::default()
                };
                return Some((State::Damaged, found));
            }
            let same = (attr.ino, attr.size, attr.mtime, attr.ctime)
                == (
                    view.attr.ino,
                    view.attr.size,
                    view.attr.mtime,
                    view.attr.ctime,
                );
            steady = if same { steady + 1 } else { 0 };
            if steady == STEADY {
                return Some((State::Damaged, found));
            }
            attr = view.attr;
        }
        Some((State::InUse, found))
    }

    /// Writes to the salvage directory what could be read at last.
    pub(super) fn put_again(&self, file: &OpenFile<B>, view: &View<B>, found: &mut Found) {
        if file.task.out.is_none() {
            return;
        }
        let mut still = Found::default();
        let mut plain = Buffer::of_len(BLOCK as usize);
        for gap in &found.gaps {
            let mut start = gap.start;
            let stop = gap.end.min(view.data.size());
            while start < stop {
                let end = stop.min(start + BLOCK);
                self.read(file, view, ByteRange { start, end }, &mut plain, &mut still);
                start = end;
            }
        }
        found.gaps = still.gaps;
    }
}
