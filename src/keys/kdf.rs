//! From a slot's secret to its root: Argon2id with bounded cost, or HKDF, and what this machine can afford.

use std::time::{Duration, Instant};

use argon2::{Algorithm, Argon2, Params, Version};

use crate::crypto::hkdf;
use crate::crypto::schedule::SlotRoot;
use crate::format::FormatError;
use crate::format::slot::Kdf;
use crate::sys::secret::{SecretBytes, SecretVec};

pub use crate::format::slot::Argon2Params;

const HKDF_LABEL: &[u8] = b"wardfs v1 slot root";

/// Why a key cannot be derived here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KdfError {
    /// The cost is out of bounds.
    Cost(FormatError),
    /// The machine has less memory than the derivation needs.
    Memory { needs_mib: u64, free_mib: u64 },
    /// The memory was not granted, by a resource limit for example.
    Refused { needs_mib: u64 },
}

impl std::fmt::Display for KdfError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cost(e) => write!(f, "the cost of the key derivation is not acceptable: {e}"),
            Self::Memory {
                needs_mib,
                free_mib,
            } => write!(
                f,
                "deriving the key needs {needs_mib} MiB of memory and {free_mib} MiB are free"
            ),
            Self::Refused { needs_mib } => {
                write!(
                    f,
                    "deriving the key needs {needs_mib} MiB of memory, which was refused"
                )
            }
        }
    }
}

impl std::error::Error for KdfError {}

/// What `input` and `salt` become. Bounds and free memory are checked before anything is allocated.
///
/// # Errors
/// [`KdfError`].
pub fn derive(kdf: &Kdf, salt: &[u8; 32], input: &SecretVec) -> Result<SlotRoot, KdfError> {
    let root = match kdf {
        Kdf::Argon2id(cost) => argon2id(cost, salt, input.as_bytes())?,
        Kdf::HkdfSha256 => hkdf::derive(input.as_bytes(), salt, &[HKDF_LABEL]),
    };
    Ok(SlotRoot(root))
}

fn argon2id(cost: &Argon2Params, salt: &[u8], input: &[u8]) -> Result<SecretBytes<32>, KdfError> {
    cost.check().map_err(KdfError::Cost)?;
    let needs_mib = u64::from(cost.memory_kib) / 1024;
    if let Some(memory) = Memory::read()
        && memory.usable_kib() / 1024 < needs_mib
    {
        let free_mib = memory.usable_kib() / 1024;
        return Err(KdfError::Memory {
            needs_mib,
            free_mib,
        });
    }
    let params = Params::new(cost.memory_kib, cost.time, cost.lanes, Some(32))
        .expect("our bounds are narrower");
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let mut root = SecretBytes::zeroed();
    argon2
        .hash_password_into(input, salt, root.as_mut_bytes())
        .map_err(|_| KdfError::Refused { needs_mib })?;
    Ok(root)
}

/// Calibration never goes below it.
const FLOOR_KIB: u32 = 64 * 1024;
/// Nor above it, however much there is.
const CEILING_KIB: u32 = 1024 * 1024;
/// Passes are added beyond this number only when memory is short, and dropped only when time is: RFC 9106 §4 has 3.
const PASSES: u32 = 3;
const MAX_LANES: usize = 4;

impl Argon2Params {
    /// A cost that takes about `target` on this machine: as much memory as that allows, from 64 MiB up to 1 GiB and a
    /// quarter of what is free. Takes about as long as `target` itself.
    ///
    /// # Errors
    /// [`KdfError`] when not even 64 MiB are free.
    pub fn calibrate(target: Duration) -> Result<Self, KdfError> {
        let cap = Memory::read().map_or(FLOOR_KIB, |m| {
            u32::try_from(m.available_kib / 4).unwrap_or(u32::MAX)
        });
        let lanes = std::thread::available_parallelism().map_or(1, usize::from);
        let probe = Self {
            memory_kib: FLOOR_KIB,
            time: 1,
            lanes: lanes.min(MAX_LANES) as u32,
        };
        let first = probe.scaled(probe.measure()?, target, cap);
        // Large memory is slower than small memory, so measure again where it matters.
        Ok(first.scaled(first.measure()?, target, cap))
    }

    /// How long one derivation takes on this machine.
    ///
    /// # Errors
    /// [`KdfError`].
    pub fn measure(&self) -> Result<Duration, KdfError> {
        let begin = Instant::now();
        argon2id(self, &[0; 32], b"measurement")?;
        Ok(begin.elapsed())
    }

    /// The cost that takes `target` if this one took `elapsed`, with at most `cap_kib` of memory.
    fn scaled(self, elapsed: Duration, target: Duration, cap_kib: u32) -> Self {
        let work = f64::from(self.memory_kib) * f64::from(self.time);
        let speed = work / elapsed.as_secs_f64().max(1e-3);
        let wanted = speed * target.as_secs_f64();
        let memory_kib = ((wanted / f64::from(PASSES)) as u32)
            .clamp(FLOOR_KIB, cap_kib.clamp(FLOOR_KIB, CEILING_KIB));
        let memory_kib = memory_kib / 1024 * 1024;
        let most = (Self::MAX_WORK_KIB / u64::from(memory_kib)).min(Self::MAX_TIME.into()) as u32;
        let time = (wanted / f64::from(memory_kib)).round() as u32;
        Self {
            memory_kib,
            time: time.clamp(1, most),
            lanes: self.lanes,
        }
    }
}

/// What the kernel says about memory.
struct Memory {
    available_kib: u64,
    swap_free_kib: u64,
}

impl Memory {
    /// `None` where /proc is not mounted: then the allocation decides.
    fn read() -> Option<Self> {
        Self::parse(&std::fs::read_to_string("/proc/meminfo").ok()?)
    }

    fn parse(meminfo: &str) -> Option<Self> {
        let field = |name: &str| {
            let line = meminfo.lines().find_map(|l| l.strip_prefix(name))?;
            line.trim().strip_suffix("kB")?.trim().parse().ok()
        };
        Some(Self {
            available_kib: field("MemAvailable:")?,
            swap_free_kib: field("SwapFree:").unwrap_or(0),
        })
    }

    fn usable_kib(&self) -> u64 {
        self.available_kib.saturating_add(self.swap_free_kib)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn scaled(per_mib_pass: Duration, cap_mib: u32) -> Argon2Params {
        let probe = Argon2Params {
            memory_kib: FLOOR_KIB,
            time: 1,
            lanes: 2,
        };
        probe.scaled(per_mib_pass * 64, SECOND, cap_mib * 1024)
    }

    #[test]
    fn calibration_takes_memory_first_and_passes_when_memory_is_short() {
        let cost = |mib: u32, time| Argon2Params {
            memory_kib: mib * 1024,
            time,
            lanes: 2,
        };
        assert_eq!(scaled(Duration::from_millis(1), 4096), cost(333, 3));
        assert_eq!(scaled(Duration::from_micros(100), 4096), cost(1024, 10));
        assert_eq!(scaled(Duration::from_millis(1), 100), cost(100, 10));
        assert_eq!(scaled(Duration::from_millis(1), 1), cost(64, 16));
        assert_eq!(scaled(Duration::from_millis(10), 4096), cost(64, 2));
        assert_eq!(scaled(Duration::from_secs(9), 4096), cost(64, 1));
        assert_eq!(scaled(Duration::ZERO, 4096), cost(1024, 16));
    }

    #[test]
    fn calibration_stays_in_the_bounds_of_the_format() {
        for micros in [0, 1, 10, 100, 1000, 10_000, 1_000_000] {
            for cap in [0, 1, 64, 100, 1000, 4_000_000] {
                let cost = scaled(Duration::from_micros(micros), cap);
                assert_eq!(cost.check(), Ok(()), "{micros} µs, {cap} MiB: {cost:?}");
            }
        }
    }

    #[test]
    fn a_hostile_cost_is_refused_before_it_costs_anything() {
        let begin = Instant::now();
        for (memory_kib, time, lanes) in [
            (u32::MAX, 1, 1),
            (8192, u32::MAX, 1),
            (8192, 1, u32::MAX),
            (0, 0, 0),
        ] {
            let cost = Kdf::Argon2id(Argon2Params {
                memory_kib,
                time,
                lanes,
            });
            let refused = derive(&cost, &[0; 32], &SecretVec::from(&b"p"[..]));
            assert!(matches!(refused, Err(KdfError::Cost(_))));
        }
        assert!(begin.elapsed() < SECOND);
    }

    #[test]
    fn meminfo_is_understood_and_its_absence_too() {
        let text = "MemTotal:  8000 kB\nMemAvailable:    5000 kB\nSwapFree:  20 kB\n";
        assert_eq!(Memory::parse(text).expect("well formed").usable_kib(), 5020);
        let without_swap = Memory::parse("MemAvailable: 1 kB\n").expect("well formed");
        assert_eq!(without_swap.usable_kib(), 1);
        for bad in ["", "MemAvailable: x kB", "MemAvailable: 1"] {
            assert!(Memory::parse(bad).is_none(), "{bad}");
        }
    }
}
