//! What one file holds after a crash: its history in the journal against what is in its place. Pure: reads through
//! [`Stored`], writes nothing.
//!
//! Each chunk has candidates: its newest image, and what is in place if that authenticates. One that is older than an
//! event which ended the chunk's life (the file became shorter, the chunk was punched) is dead; of the living the newest
//! wins. Where none lives the chunk is a hole.
//!
//! Chunks that were written without records ("direct") lie behind the smallest `Extends`, or anywhere in a new file.
//! Only they may be torn or missing, and only they are verified. The file ends before the first of them that is bad: it
//! was never synced, for a sync makes all of them durable, and so nothing behind it was.

mod deaths;
mod history;
mod judge;
mod laid;

use std::sync::Arc;

use crate::content::{Buffer, Geometry, seal_run};
use crate::crypto::{ChunkFlags, ChunkNo, FileKeys, WriteSeq};
use crate::store::error::Result;

pub use history::{History, ImageAt};
pub use laid::{Laid, View};

use deaths::{Death, Deaths};
use judge::{Found, Judge};

/// The chunks of a file as they are stored, and the images in the journal.
pub trait Stored {
    /// Length of the data file in bytes.
    fn stored_len(&self) -> u64;
    /// The stored bytes of chunk `no`; short where the file ends, empty behind it.
    fn slot(&mut self, no: u64, out: &mut Vec<u8>) -> Result<()>;
    /// The first chunk from `no` on that may hold anything but zeros; `u64::MAX` if none does.
    fn next_data(&mut self, no: u64) -> Result<u64>;
    fn image(&mut self, image: &ImageAt, out: &mut Vec<u8>) -> Result<()>;
}

/// What came out.
#[derive(Debug, Default)]
pub struct Outcome {
    /// `None` if the data file holds what it should.
    pub view: Option<View>,
    /// Plaintext sizes before and after an end that could not be verified was cut off.
    pub cut: Option<(u64, u64)>,
    /// Something is wrong that a crash does not explain; the file is then left as it is.
    pub damaged: bool,
    /// Images that do not authenticate: someone changed the journal.
    pub refused: u64,
    /// A chunk in place was written since what is durable.
    pub met_new: bool,
    /// Chunks inside the file are torn: it was copied while they were written. They are left as they are.
    pub torn_inside: bool,
}

/// The limits of what a crash explains.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// What was written with a smaller number is durable.
    pub durable: WriteSeq,
    /// No number from it on was used.
    pub unused: WriteSeq,
    /// The data file may be of a later moment than the journal: in a copy.
    pub may_be_ahead: bool,
    /// What is recovered was written with content keys that the header has; one that it lacks is no damage, but means that
    /// an older header was put back.
    pub has_keys: bool,
}

/// See the module. `next_seq` numbers a last chunk that has to be sealed anew.
///
/// # Errors
/// Those of reading, and [`crate::content::Damage::NoKey`]; the file has not been judged then.
pub fn build<S: Stored>(
    history: &History,
    keys: &FileKeys,
    geometry: Geometry,
    limits: Limits,
    stored: &mut S,
    next_seq: &mut dyn FnMut() -> Result<WriteSeq>,
) -> Result<Outcome> {
    let mut attempt = |fresh| {
        let direct_from = history.direct_from(geometry, fresh);
        let mut builder = Builder {
            history,
            geometry,
            keys,
            fresh,
            direct_from,
            deaths: Deaths::new(history, geometry),
            judge: Judge::new(keys, geometry, limits, stored),
            view: View::default(),
            holes: Holes::default(),
            torn_inside: false,
        };
        let end = match (direct_from, history.ends.last()) {
            (u64::MAX, None) => Ending::Untouched,
            (_, Some(end)) if limits.may_be_ahead => {
                let ahead = builder.ahead_of(end.seq)?;
                match (direct_from, ahead) {
                    (u64::MAX, _) => Ending::Whole(ahead.unwrap_or(end.size)),
                    (_, None) => builder.walk()?,
                    (_, Some(size)) => {
                        let walked = builder.walk()?;
                        // What ends before it is the end of another moment.
                        builder.torn_inside |= !matches!(walked, Ending::Whole(s) if s == size);
                        Ending::Whole(size)
                    }
                }
            }
            (u64::MAX, Some(end)) => Ending::Whole(end.size),
            _ => builder.walk()?,
        };
        builder.complete(end, next_seq)
    };
    // In a copy any chunk may be torn.
    let all = history.fresh || limits.may_be_ahead;
    let outcome = attempt(all)?;
    if !outcome.damaged || !all || history.is_bare() {
        return Ok(outcome);
    }
    // It was there before after all. Only what the journal tells of can then be incomplete.
    Ok(Outcome {
        torn_inside: limits.may_be_ahead,
        ..attempt(false)?
    })
}

/// Where a file ends.
#[derive(Debug, Clone, Copy)]
enum Ending {
    /// Where its length says.
    Untouched,
    Whole(u64),
    /// What followed could not be verified.
    Cut(u64),
}

/// The first holes that were met among chunks that may be direct, without those that were punched: these stay holes
/// even where a last chunk from before the punch knows nothing of them.
#[derive(Debug, Default)]
struct Holes {
    /// Below the last size that the journal tells.
    low: Option<u64>,
    /// Behind it.
    high: Option<u64>,
    /// The first of all, punched or not, wherever.
    any: Option<u64>,
}

struct Builder<'a, S> {
    history: &'a History,
    geometry: Geometry,
    keys: &'a FileKeys,
    fresh: bool,
    direct_from: u64,
    deaths: Deaths,
    judge: Judge<'a, S>,
    view: View,
    holes: Holes,
    torn_inside: bool,
}

impl<S: Stored> Builder<'_, S> {
    /// Goes through the chunks that may be direct, to the end of the file.
    fn walk(&mut self) -> Result<Ending> {
        let size = self.geometry.chunk_size() as u64;
        let base = self.history.ends.last().map_or(0, |e| e.size);
        // The first chunk behind what the journal tells of. Of an empty file that is to grow it may tell chunk 0.
        let of_first = self.history.images.get(&0).map(|i| i.seq);
        let first_is_told = self
            .history
            .ends
            .last()
            .is_some_and(|e| Some(e.seq) == of_first);
        let beyond = base.div_ceil(size).max(first_is_told.into());
        let mut cut = None;
        // The first chunk that is not whole.
        let mut torn = None;
        // The chunk before is judged too: it may say that nothing follows, also since an earlier recovery.
        let mut no = self.direct_from.min(beyond).saturating_sub(1);
        let mut good_through = beyond;
        loop {
            if no >= beyond && self.nothing_from(no) {
                break;
            }
            let found = self.judge(no)?;
            if matches!(found, Found::Data { .. }) && self.judge.limits.may_be_ahead {
                // In a copy nothing tells that what lies behind a torn chunk was not synced when it was copied.
                self.torn_inside |= torn.take().is_some();
            }
            match found {
                Found::Data { flags, len, .. } if flags.is_final => {
                    let first = [self.holes.low, self.holes.high, torn]
                        .into_iter()
                        .flatten()
                        .min();
                    match first {
                        // The writer knew of no hole: what is missing was lost.
                        Some(lost) if !flags.sparse => cut = Some(lost),
                        _ => return Ok(Ending::Whole(no * size + len as u64)),
                    }
                    break;
                }
                Found::Data { len, .. } if (len as u64) < size => {
                    good_through = no;
                    if self.holes.high.is_none() && torn.is_none() {
                        return Ok(Ending::Cut(no * size + len as u64));
                    }
                    break;
                }
                Found::Data { .. } => {
                    good_through = good_through.max(no + 1);
                    no += 1;
                }
                // It was a hole before the write that tore it, or before an earlier recovery was interrupted.
                Found::Bad(Some(death)) if no < beyond || death.punched => {
                    self.note_hole(no, Some(death), beyond);
                    self.view.add_hole(no);
                    no += 1;
                }
                Found::Bad(_) if no < self.direct_from => no += 1,
                // A hole that was being filled, if a last chunk follows that knows of holes; else the end.
                Found::Bad(_) => {
                    torn.get_or_insert(no);
                    if !self.judge.limits.may_be_ahead {
                        self.holes.any.get_or_insert(no);
                        self.view.add_hole(no);
                    }
                    no += 1;
                }
                Found::Hole(death) => {
                    self.note_hole(no, death, beyond);
                    no = self.after_hole(no, beyond)?;
                }
            }
        }
        let cut = cut.unwrap_or(good_through);
        let lost = [self.holes.high, torn].into_iter().flatten().min();
        let cut = lost.map_or(cut, |lost| cut.min(lost));
        Ok(Ending::Cut(match cut == beyond {
            true => base,
            false => cut * size,
        }))
    }

    /// The plaintext size by the data file, if its end was written after `seq`.
    fn ahead_of(&mut self, seq: WriteSeq) -> Result<Option<u64>> {
        let Some(last) = self.judge.count().checked_sub(1) else {
            return Ok(None);
        };
        Ok(match self.judge.chunk(last, None, None)? {
            Found::Data {
                flags,
                len,
                seq: end,
                ..
            } if flags.is_final && end > seq => {
                Some(self.geometry.plain_start(ChunkNo(last)) + len as u64)
            }
            _ => None,
        })
    }

    fn note_hole(&mut self, no: u64, death: Option<Death>, beyond: u64) {
        self.holes.any.get_or_insert(no);
        if no < self.direct_from || death.is_some_and(|d| d.punched) {
            return;
        }
        let first = match no < beyond {
            true => &mut self.holes.low,
            false => &mut self.holes.high,
        };
        first.get_or_insert(no);
    }

    /// The next chunk to judge after the hole `no`.
    fn after_hole(&mut self, no: u64, beyond: u64) -> Result<u64> {
        let next_data = match no + 1 < self.judge.count() {
            true => self.judge.stored.next_data(no + 1)?,
            false => u64::MAX,
        };
        let next_image = self.history.images.range(no + 1..).next();
        let next = next_data.min(next_image.map_or(u64::MAX, |(image, _)| *image));
        // Behind both the file and the images nothing is left to judge.
        let end = match no < beyond {
            true => beyond,
            false => self.judge.count(),
        };
        Ok(next.min(end).max(no + 1))
    }

    /// Whether neither the file nor the journal has anything from chunk `no` on.
    fn nothing_from(&self, no: u64) -> bool {
        no >= self.judge.count() && self.history.images.range(no..).next().is_none()
    }

    /// Judges a chunk and notes what has to be laid over it.
    fn judge(&mut self, no: u64) -> Result<Found> {
        let death = self.deaths.of(no);
        let image = self.history.images.get(&no);
        let found = self.judge.chunk(no, image, death)?;
        match found {
            Found::Data {
                from_image: true, ..
            } => {
                self.view
                    .chunks
                    .insert(no, self.judge.image.as_slice().into());
            }
            Found::Hole(_) if self.judge.slot.iter().any(|b| *b != 0) => self.view.add_hole(no),
            _ => {}
        }
        Ok(found)
    }

    /// Images and holes below the chunks that may be direct.
    fn lay_stable(&mut self, end: u64) -> Result<()> {
        let end = end.min(self.direct_from);
        let images: Vec<u64> = self
            .history
            .images
            .range(..end)
            .map(|(no, _)| *no)
            .collect();
        for no in images {
            let laid = self.view.chunks.contains_key(&no);
            if !laid && matches!(self.judge(no)?, Found::Bad(Some(_))) {
                self.view.add_hole(no);
            }
        }
        for (first, last) in self.deaths.ranges(end) {
            let images = self.history.images.range(first..last);
            let living =
                images.filter(|(no, i)| self.deaths.of(**no).is_none_or(|d| i.seq >= d.seq));
            if !self.judge.limits.may_be_ahead && (living.count() as u64) < last - first {
                let any = self.holes.any.unwrap_or(first);
                self.holes.any = Some(any.min(first));
            }
            let last = last.min(self.judge.count());
            let mut no = first;
            while no < last {
                let image = self.history.images.get(&no);
                if image.is_none() && self.judge.limits.may_be_ahead {
                    // It may have been written since.
                    if let Found::Hole(_) = self.judge(no)? {
                        self.holes.any = Some(self.holes.any.map_or(no, |any| any.min(no)));
                    }
                } else if image.is_none() {
                    self.judge.read_slot(no)?;
                    if self.judge.slot.iter().any(|b| *b != 0) {
                        self.view.add_hole(no);
                    }
                }
                no = self.judge.stored.next_data(no + 1)?;
            }
        }
        Ok(())
    }

    fn complete(
        mut self,
        ending: Ending,
        next_seq: &mut dyn FnMut() -> Result<WriteSeq>,
    ) -> Result<Outcome> {
        let len = self.judge.stored.stored_len();
        let shown = self.geometry.plain_size_lossy(len);
        let (size, was_cut) = match ending {
            Ending::Untouched => (None, false),
            Ending::Whole(size) => (Some(size), false),
            Ending::Cut(size) => (Some(size), true),
        };
        let last = size.map(|s| self.geometry.last_chunk(s).0);
        // Without a word about the end, images can only be of chunks that the file has.
        let chunks = last.map_or(self.judge.count(), |l| l + 1);
        self.lay_stable(chunks)?;
        self.view.keep_through(chunks.saturating_sub(1));
        let mut damaged = false;
        if let (Some(size), Some(last)) = (size, last) {
            damaged = !self.finish_last(size, last, next_seq)?;
        }
        if was_cut && self.fresh && self.judge.met_old {
            // A file that was there before was not cut by this crash.
            return Ok(Outcome {
                damaged: true,
                ..Outcome::default()
            });
        }
        let mut outcome = Outcome {
            damaged,
            refused: self.judge.refused,
            met_new: self.judge.met_new,
            torn_inside: self.torn_inside,
            ..Outcome::default()
        };
        if damaged {
            // The end stays as it is; what the journal has of the rest is good all the same.
            self.view.keep_through(self.judge.count().saturating_sub(1));
        } else {
            self.view.size = size.filter(|s| self.geometry.stored_size(*s) != len);
            let shorter = size.filter(|s| was_cut && self.geometry.stored_size(*s) < len);
            outcome.cut = shorter.map(|size| (shown, size));
        }
        if !self.view.is_empty() {
            outcome.view = Some(self.view);
        }
        Ok(outcome)
    }

    /// Sees to it that the last chunk says that it is the last one. Answers whether that is possible.
    fn finish_last(
        &mut self,
        size: u64,
        last: u64,
        next_seq: &mut dyn FnMut() -> Result<WriteSeq>,
    ) -> Result<bool> {
        let wanted = self.geometry.chunk_len(ChunkNo(last), size);
        let met_hole = self.holes.any.is_some_and(|h| h < last);
        let (mut plain, mut sparse) = match self.judge(last)? {
            Found::Data { flags, len, .. } => {
                if flags.is_final && len == wanted && (flags.sparse || !met_hole) {
                    return Ok(true);
                }
                let kept = len.min(wanted);
                (self.judge.plain[..kept].to_vec(), flags.sparse)
            }
            Found::Bad(_) if wanted == 0 => (Vec::new(), false),
            // Its image is in the journal, but was changed there.
            Found::Hole(_) | Found::Bad(_) if self.judge.refused > 0 => return Ok(false),
            Found::Hole(_) | Found::Bad(Some(_)) => (Vec::new(), false),
            Found::Bad(None) => return Ok(false),
        };
        plain.resize(wanted, 0);
        sparse |= met_hole || (size > 0 && self.has_hole_below(last.min(self.direct_from))?);
        let flags = ChunkFlags {
            is_final: true,
            sparse,
        };
        let mut sealed = Buffer::empty();
        let no = ChunkNo(last);
        seal_run(
            self.keys,
            self.geometry,
            no,
            &plain,
            next_seq()?,
            flags,
            &mut sealed,
        );
        self.view.chunks.insert(last, Arc::from(&sealed[..]));
        self.view.keep_through(last);
        self.view.remove_last_hole(last);
        Ok(true)
    }

    /// Whether any chunk before `end` is a hole.
    fn has_hole_below(&mut self, end: u64) -> Result<bool> {
        if self.view.holes.range(..end).next().is_some() {
            return Ok(true);
        }
        let mut no = 0;
        while no < end {
            if !self.view.chunks.contains_key(&no) {
                if self.judge.stored.next_data(no)? != no {
                    return Ok(true);
                }
                self.judge.read_slot(no)?;
                if self.judge.slot.iter().all(|b| *b == 0) {
                    return Ok(true);
                }
            }
            no += 1;
        }
        Ok(false)
    }
}

/// How many chunks, whole or not, a data file of `len` bytes has.
fn chunk_count(geometry: Geometry, len: u64) -> u64 {
    let body = len.saturating_sub(geometry.stored_start(ChunkNo(0)));
    body.div_ceil(geometry.stored_chunk() as u64)
}

#[cfg(test)]
mod tests;
