//! When each key slot opened the vault last: a note in `~wardfs/used`, for people.
//!
//! It is outside the authenticated header, so that a vault can be opened where nothing can be written. It is not
//! authenticated, nothing depends on it, and no failure to read or write it matters.
//!
//! ```text
//! a line for each slot: id, blank, seconds since 1970; in ascending order of ids
//! ```

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use rustix::fs::{AtFlags, OFlags, renameat, unlinkat};

use crate::crypto::rand;
use crate::format::slot::MAX_SLOTS;
use crate::store::layout::{LAST_USED, TMP_DIR};
use crate::store::meta;

/// No valid note is longer: an id has 10 digits and a time 20.
const LONGEST: u64 = 4096;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LastUsed(BTreeMap<u32, i64>);

impl LastUsed {
    /// What is known; nothing if there is no note or somebody else wrote it.
    pub fn read(vault: &Path) -> Self {
        let text = meta::note(vault, LAST_USED, LONGEST).unwrap_or_default();
        Self::parse(&text).unwrap_or_default()
    }

    pub fn parse(text: &str) -> Option<Self> {
        let mut times = BTreeMap::new();
        for line in text.lines() {
            let (id, at) = line.split_once(' ')?;
            times.insert(id.parse().ok()?, at.parse().ok()?);
        }
        let parsed = Self(times);
        // Only what is written is read, so also no slot twice.
        (parsed.0.len() <= MAX_SLOTS && parsed.text() == text).then_some(parsed)
    }

    pub fn text(&self) -> String {
        self.0
            .iter()
            .map(|(id, at)| format!("{id} {at}\n"))
            .collect()
    }

    pub fn of(&self, slot: u32) -> Option<i64> {
        self.0.get(&slot).copied()
    }

    /// Notes that `slot` opened the vault, and forgets slots that are not among `existing`.
    pub fn note(vault: &Path, slot: u32, at: i64, existing: &[u32]) {
        let mut used = Self::read(vault);
        used.0.retain(|id, _| existing.contains(id));
        used.0.insert(slot, at);
        if let Err(e) = used.write(vault) {
            log::debug!("when key slot {slot} was used is not noted: {e}");
        }
    }

    fn write(&self, vault: &Path) -> io::Result<()> {
        let meta = meta::dir(vault)?;
        let tmp = meta::dir_in(&meta, TMP_DIR)?;
        let number = u64::from_le_bytes(rand::array());
        let temporary = format!("{LAST_USED}.{number:016x}");
        let create = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let written = meta::file(&tmp, &temporary, create, 0o600)
            .and_then(|mut file| file.write_all(self.text().as_bytes()))
            .and_then(|()| Ok(renameat(&tmp, &temporary, &meta, LAST_USED)?));
        if written.is_err() {
            let _ = unlinkat(&tmp, &temporary, AtFlags::empty());
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_written_is_read() {
        let used = LastUsed(BTreeMap::from([(0, 5), (7, -1), (u32::MAX, i64::MIN)]));
        assert_eq!(LastUsed::parse(&used.text()), Some(used.clone()));
        assert_eq!((used.of(7), used.of(8)), (Some(-1), None));
        for bad in [
            "x",
            "1",
            "1 2",
            "1  2\n",
            "2 1\n1 1\n",
            "1 1\n1 1\n",
            "+1 2\n",
            "-1 2\n",
        ] {
            assert_eq!(LastUsed::parse(bad), None, "{bad:?}");
        }
    }
}
