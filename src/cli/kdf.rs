//! The cost of deriving a key from a passphrase: as typed, and what is used.

use std::time::Duration;

use clap::Args;

use super::exit::Exit;
use super::failure::Failure;
use super::size;
use crate::keys::kdf::{Argon2Params, KdfError};

/// Every guess costs an attacker as long as unlocking costs the owner.
const TARGET: Duration = Duration::from_secs(1);
/// Less than this is only worth having on very small machines.
const WEAK_KIB: u32 = 64 * 1024;
/// RFC 9106 §4, the recommendation for memory-constrained systems: 3 passes, 4 lanes.
const PASSES: u32 = 3;
const LANES: u32 = 4;

/// As typed.
#[derive(Debug, Clone, Copy, Default, Args)]
#[command(
    next_help_heading = "Key derivation (Argon2id; without these options measured for about one second)"
)]
pub struct KdfArgs {
    /// Memory for one derivation, as in 512M or 1G
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    kdf_memory: Option<u64>,
    /// Passes over the memory [default with another --kdf option: 3]
    #[arg(long, value_name = "PASSES")]
    kdf_time: Option<u32>,
    /// Lanes computed in parallel [default with another --kdf option: 4]
    #[arg(long, value_name = "LANES")]
    kdf_parallel: Option<u32>,
}

/// Where a cost comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    Told,
    Measured,
}

/// What was chosen, and why.
#[derive(Debug, Clone, Copy)]
pub struct Chosen {
    pub params: Argon2Params,
    pub reason: Reason,
}

/// Whether a cost that is easy to guess against is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weak {
    Refuse,
    Accept,
}

impl Weak {
    pub fn accepted(force: bool) -> Self {
        if force { Self::Accept } else { Self::Refuse }
    }
}

impl KdfArgs {
    pub fn choose(&self, weak: Weak) -> Result<Chosen, Failure> {
        if self.kdf_memory.is_none() && self.kdf_time.is_none() && self.kdf_parallel.is_none() {
            let params = Argon2Params::calibrate(TARGET).map_err(|e| unaffordable(&e))?;
            return Ok(Chosen {
                params,
                reason: Reason::Measured,
            });
        }
        let memory_kib = match self.kdf_memory {
            None => {
                Argon2Params::calibrate(TARGET)
                    .map_err(|e| unaffordable(&e))?
                    .memory_kib
            }
            Some(bytes) => u32::try_from(bytes / 1024).unwrap_or(u32::MAX),
        };
        let params = Argon2Params {
            memory_kib,
            time: self.kdf_time.unwrap_or(PASSES),
            lanes: self.kdf_parallel.unwrap_or(LANES),
        };
        if weak == Weak::Refuse && memory_kib < WEAK_KIB {
            return Err(Failure::new(
                Exit::Usage,
                "with less than 64 MiB of memory the key derivation is too cheap for whoever guesses passphrases",
            )
            .advise("Use --kdf-memory 64M or more; --force takes less."));
        }
        params.check().map_err(|e| {
            Failure::new(
                Exit::Usage,
                format!("this cost of the key derivation is out of bounds: {e}"),
            )
            .advise(
                "Memory 8M to 4G, passes 1 to 64, lanes 1 to 16, memory times passes at most 16G.",
            )
        })?;
        Ok(Chosen {
            params,
            reason: Reason::Told,
        })
    }
}

fn unaffordable(error: &KdfError) -> Failure {
    Failure::new(Exit::KeyDerivation, error.to_string())
        .advise("Close other programs, or choose a cost with --kdf-memory.")
}

/// `Argon2id, 512 MiB, 4 passes, 2 lanes`.
pub fn describe(params: &Argon2Params) -> String {
    let plural = |n: u32, one: &str, many: &str| format!("{n} {}", if n == 1 { one } else { many });
    format!(
        "Argon2id, {}, {}, {}",
        super::output::binary_size(u64::from(params.memory_kib) * 1024),
        plural(params.time, "pass", "passes"),
        plural(params.lanes, "lane", "lanes"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(memory: u64, weak: Weak) -> Result<Argon2Params, Exit> {
        KdfArgs {
            kdf_memory: Some(memory),
            ..KdfArgs::default()
        }
        .choose(weak)
        .map(|c| c.params)
        .map_err(|f| f.exit)
    }

    #[test]
    fn a_cheap_derivation_needs_force() {
        assert_eq!(told(32 << 20, Weak::Refuse), Err(Exit::Usage));
        assert_eq!(
            told(32 << 20, Weak::Accept),
            Ok(Argon2Params {
                memory_kib: 32 * 1024,
                time: 3,
                lanes: 4
            })
        );
        assert!(told(64 << 20, Weak::Refuse).is_ok());
    }

    #[test]
    fn what_the_format_does_not_take_is_refused_in_any_case() {
        for memory in [0, 1 << 20, 1 << 40, u64::MAX] {
            assert_eq!(told(memory, Weak::Accept), Err(Exit::Usage), "{memory}");
        }
    }

    #[test]
    fn the_description_counts_in_english() {
        let params = Argon2Params {
            memory_kib: 65536,
            time: 1,
            lanes: 2,
        };
        assert_eq!(describe(&params), "Argon2id, 64 MiB, 1 pass, 2 lanes");
    }
}
