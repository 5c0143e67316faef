//! What recovery found and did, for people and as JSON. Paths are stored names joined by `/`.

use std::time::Duration;

use serde::Serialize;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Groups of the journal that were not done with.
    pub groups: u64,
    /// Files that the journal names, by their paths: those that were in use.
    pub in_use: Vec<String>,
    /// Files whose content was not what it should be and is now.
    pub healed: Vec<Healed>,
    /// Ends that were never synced and not whole, and were cut off.
    pub cut: Vec<Cut>,
    /// New files of which nothing was on the disk: they are empty now.
    pub emptied: Vec<String>,
    /// Files in which something is wrong that a crash does not explain. That is left as it is.
    pub damaged: Vec<String>,
    /// Files that could not be read or written.
    pub failed: Vec<Failed>,
    /// Files that were written with a content key that the header does not have: an older one was put back.
    pub without_key: Vec<String>,
    /// Files of the journal that are not in the vault any more: by their last paths.
    pub orphans: Vec<String>,
    /// Files of the journal that were deleted.
    pub gone: u64,
    /// Chunk images of the journal that do not authenticate.
    pub refused_images: u64,
    /// There is no superblock to tell which groups are done with: all count.
    pub no_superblock: bool,
    pub milliseconds: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Healed {
    pub path: String,
    pub chunks: u64,
}

/// Plaintext sizes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cut {
    pub path: String,
    pub from: u64,
    pub to: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failed {
    pub path: String,
    pub error: String,
}

impl Report {
    /// Whether there was anything to do or to say.
    pub fn is_empty(&self) -> bool {
        *self
            == Self {
                milliseconds: self.milliseconds,
                ..Self::default()
            }
    }

    pub(super) fn took(&mut self, time: Duration) {
        self.milliseconds = time.as_millis() as u64;
    }
}

/// A stored path as text; it is ASCII unless someone else made it.
pub(super) fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

impl std::fmt::Display for Report {
    /// One line for each kind of thing that happened.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing to recover");
        }
        write!(
            f,
            "{} of the journal replayed in {}.{:03} s",
            counted(self.groups, "group"),
            self.milliseconds / 1000,
            self.milliseconds % 1000
        )?;
        let chunks: u64 = self.healed.iter().map(|h| h.chunks).sum();
        let files = |n: usize| counted(n as u64, "file");
        let mut line = |n: usize, text: String| match n {
            0 => Ok(()),
            _ => write!(f, "\n{text}"),
        };
        line(
            self.healed.len(),
            format!(
                "{} brought up to date: {}",
                files(self.healed.len()),
                counted(chunks, "chunk")
            ),
        )?;
        line(
            self.cut.len(),
            format!(
                "{} cut where their unsynced end was lost",
                files(self.cut.len())
            ),
        )?;
        line(
            self.emptied.len(),
            format!(
                "{} new and never synced: empty now",
                files(self.emptied.len())
            ),
        )?;
        line(
            self.orphans.len(),
            format!("{} of the journal not found", files(self.orphans.len())),
        )?;
        line(
            self.damaged.len(),
            format!(
                "{} damaged by something else than a crash: restore them from a backup",
                files(self.damaged.len())
            ),
        )?;
        line(
            self.failed.len(),
            format!(
                "{} could not be read or written: mount again when the disk works",
                files(self.failed.len())
            ),
        )?;
        line(
            self.without_key.len(),
            format!(
                "{} written with a content key that the volume header does not have: an older header was put back. \
                 Put the newest one in its place: wardfs header restore",
                files(self.without_key.len())
            ),
        )?;
        line(
            self.refused_images as usize,
            format!(
                "{} in the journal changed by somebody without the key",
                counted(self.refused_images, "chunk")
            ),
        )?;
        line(
            usize::from(self.no_superblock),
            "the superblock is missing or damaged: every group of the journal was replayed"
                .to_owned(),
        )
    }
}

fn counted(n: u64, what: &str) -> String {
    match n {
        1 => format!("1 {what}"),
        _ => format!("{n} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_report_says_so_and_a_full_one_names_each_kind() {
        let nothing = Report {
            milliseconds: 3,
            ..Report::default()
        };
        assert_eq!(nothing.to_string(), "nothing to recover");
        let report = Report {
            groups: 1,
            healed: vec![Healed {
                path: "a".into(),
                chunks: 2,
            }],
            orphans: vec!["b".into(), "c".into()],
            milliseconds: 1234,
            ..Report::default()
        };
        assert_eq!(
            report.to_string(),
            "1 group of the journal replayed in 1.234 s\n\
             1 file brought up to date: 2 chunks\n\
             2 files of the journal not found"
        );
    }
}
