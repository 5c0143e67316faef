//! Exit codes: the whole table. `wardfs.1` repeats it, and a test compares the two.
//!
//! A number keeps its meaning for ever; new ones are added at the end.

use std::fmt;
use std::process::{ExitCode, Termination};

macro_rules! exit_codes {
    ($($name:ident = $number:literal, $meaning:literal;)*) => {
        /// How a run of the program ended.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Exit {
            $(#[doc = $meaning] $name = $number,)*
        }

        impl Exit {
            /// All of them, by number.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// One sentence, the same as in the manual.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)* }
            }
        }
    };
}

exit_codes! {
    Success = 0, "Success.";
    Failed = 1, "A failure that has no number of its own; the message says what happened.";
    Usage = 2, "The command line is wrong.";
    NotAVault = 3, "The directory does not exist or holds no vault.";
    NotEmpty = 4, "A new vault was to be made in a directory that is not empty.";
    HeaderDamaged = 5, "Both copies of the volume header are damaged.";
    WrongSecret = 6, "The passphrase or key file is wrong.";
    NoSecret = 7, "A passphrase or key file is missing or could not be read.";
    BadMountpoint = 8, "The mount point is missing, not a directory, not empty, in use, or overlaps the vault.";
    StaleMount = 9, "A dead mount is in the way.";
    InUse = 10, "The vault is mounted already.";
    NoFuse = 11, "FUSE is missing or not permitted on this machine.";
    NotPermitted = 12, "The user may not do this.";
    Busy = 13, "The mount is in use.";
    NotMounted = 14, "There is no wardfs mount.";
    Unsupported = 15, "The vault needs another version of wardfs.";
    Tampered = 16, "The volume header was changed by someone who does not have the key.";
    Unfinished = 17, "It is unmounted, but the daemon is still at work on the vault.";
    KeyDerivation = 18, "The key cannot be derived on this machine, for lack of memory.";
    Policy = 19, "The policy of this machine forbids it, or could not be read.";
    Expired = 20, "The key slot has expired.";
    NoSuchSlot = 21, "There is no such key slot, or no free one.";
    LastSlot = 22, "The key slot is the last one, or the last that a person can open.";
    OtherVault = 23, "The header belongs to another vault.";
    NotConfirmed = 24, "It was not confirmed.";
    Repaired = 26, "The check found damage or leftovers, and has mended all of it.";
    Damaged = 27, "The check found damage that is still there.";
    Unreadable = 28, "The check found no damage, but parts of the vault could not be read.";
    Paused = 29, "The rotation was stopped before its end, or goes on without this command.";
    NamesUnderWay = 30, "The names of the vault are being encrypted anew; wardfs rotate --names finishes it.";
}

impl Exit {
    pub fn number(self) -> u8 {
        self as u8
    }

    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|exit| exit.number() == number)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number().fmt(f)
    }
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        ExitCode::from(self.number())
    }
}

/// The table for `wardfs --help`.
pub fn table() -> String {
    let rows = Exit::ALL
        .iter()
        .map(|exit| format!("  {exit:>3}  {}\n", exit.meaning()));
    format!("Exit codes:\n{}", rows.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_ascend_from_0_and_lead_back() {
        let numbers: Vec<u8> = Exit::ALL.iter().map(|exit| exit.number()).collect();
        assert_eq!(numbers[0], 0);
        assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
        for exit in Exit::ALL {
            assert_eq!(Exit::from_number(exit.number()), Some(*exit));
        }
        assert_eq!(Exit::from_number(255), None);
    }

    #[test]
    fn every_meaning_is_one_sentence() {
        for exit in Exit::ALL {
            assert!(
                exit.meaning().ends_with('.') && !exit.meaning().contains(". "),
                "{}",
                exit.name()
            );
        }
    }
}
