//! How far a rotation of content is, and what it came to: of this process and of a daemon alike.

use serde_json::{Value, json};

use crate::cli::failure::{Failure, warn};
use crate::cli::output::print;
use crate::cli::progress;

/// How far a rotation is.
pub(super) struct Numbers {
    pub files: u64,
    /// Plaintext bytes.
    pub read: u64,
    /// Bytes of the vault.
    pub done: u64,
    pub total: Option<u64>,
    pub per_second: u64,
}

impl Numbers {
    pub fn json(&self) -> Value {
        let left = self.total.map(|total| total.saturating_sub(self.done));
        json!({ "progress": {
            "files": self.files,
            "bytes": self.read,
            "total": self.total,
            "bytes_per_second": self.per_second,
            "seconds_left": left.map(|left| left / self.per_second.max(1)),
        }})
    }
}

/// What a rotation came to.
pub(super) struct Summary {
    pub result: &'static str,
    pub stopped: bool,
    pub files: u64,
    pub passed_over: u64,
    pub resealed: u64,
    pub read: u64,
    pub wiped: usize,
    pub seconds: f64,
}

impl Summary {
    pub fn json(&self) -> Value {
        json!({
            "summary": self.result,
            "stopped": self.stopped,
            "files": self.files,
            "passed_over": self.passed_over,
            "reencrypted_bytes": self.resealed,
            "read_bytes": self.read,
            "old_keys_destroyed": self.wiped,
            "seconds": self.seconds,
        })
    }

    /// For people. `stopped` says what follows where it was stopped.
    pub fn tell(&self, shown: &str, stopped: &str) -> Result<(), Failure> {
        let done = format!(
            "{} of content in {} files encrypted anew, in {:.1} s",
            progress::size(self.resealed),
            self.files,
            self.seconds
        );
        print(&match (self.stopped, self.passed_over) {
            (true, _) => format!("Stopped: {done}; {stopped}.\n"),
            (false, 0) => format!("Rotated {shown}: {done}; the old content key is destroyed.\n"),
            (false, _) => {
                format!("{done}.\nThe old content key is kept, for what was passed over.\n")
            }
        })?;
        if !self.stopped && self.passed_over == 0 {
            warn(
                "backups of the header from before cannot read the content any more; make a new one: \
                 wardfs header backup",
            );
        } else if self.passed_over > 0 {
            warn(format!(
                "when 'wardfs check {shown}' finds nothing damaged any more, 'wardfs rotate {shown}' finishes the rotation"
            ));
        }
        Ok(())
    }
}
