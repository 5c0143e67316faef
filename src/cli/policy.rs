//! The policy of this machine, `/etc/wardfs/policy.toml`: rules for vaults, enforced by every verb that opens or changes
//! one. No option weakens it.

use std::path::Path;

use serde::Deserialize;

use super::etc;
use super::exit::Exit;
use super::failure::Failure;
use super::output::binary_size;
use super::size;
use crate::crypto::Cipher;
use crate::format::slot::{Kdf, Slot, SlotKind};
use crate::format::volume::VolumeHeader;
use crate::keys::header::now;

pub const PATH: &str = "/etc/wardfs/policy.toml";

const DAY: i64 = 86_400;

/// As written; what is missing is not restricted.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Policy {
    /// As in "64M".
    min_kdf_memory: Option<String>,
    min_kdf_time: Option<u32>,
    ciphers: Option<Vec<String>>,
    kinds: Option<Vec<String>>,
    /// Days since the secret of a slot was changed, as the one below.
    max_slot_age: Option<u32>,
    max_epoch_age: Option<u32>,
    #[serde(default)]
    require_recovery: bool,
}

/// A rule that something breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub rule: &'static str,
    pub what: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "rule {}: {}", self.rule, self.what)
    }
}

impl Policy {
    /// A policy that cannot be read or understood allows nothing.
    pub fn load() -> Result<Self, Failure> {
        let Some(text) = etc::read(Path::new(PATH))? else {
            return Ok(Self::default());
        };
        Self::parse(&text).map_err(|e| {
            Failure::new(Exit::Policy, format!("{PATH} is not understood: {e}"))
                .advise("wardfs.1 lists the rules, in the section MACHINE POLICY.")
        })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let policy: Self = toml::from_str(text).map_err(|e| e.message().to_owned())?;
        if let Some(memory) = &policy.min_kdf_memory {
            size::parse(memory).map_err(|e| format!("min-kdf-memory: {e}"))?;
        }
        for name in policy.ciphers.iter().flatten() {
            name.parse::<Cipher>()
                .map_err(|_| format!("ciphers: there is no {name:?}"))?;
        }
        for name in policy.kinds.iter().flatten() {
            if !KINDS.iter().any(|(_, known)| known == name) {
                return Err(format!("kinds: there is no {name:?}"));
            }
        }
        Ok(policy)
    }

    /// The rules that a slot of this kind and cost breaks.
    pub fn of_slot(&self, kind: SlotKind, kdf: &Kdf) -> Vec<Violation> {
        let mut broken = Vec::new();
        let mut breaks = |rule, what| broken.push(Violation { rule, what });
        if let Some(kinds) = &self.kinds
            && !KINDS
                .iter()
                .any(|(known, name)| *known == kind && kinds.iter().any(|k| k == name))
        {
            breaks("kinds", format!("a key slot of kind {kind} is not allowed"));
        }
        let Kdf::Argon2id(cost) = kdf else {
            return broken;
        };
        let memory = u64::from(cost.memory_kib) * 1024;
        let least = self.min_kdf_memory.as_deref().map(size::parse);
        if let Some(Ok(least)) = least
            && memory < least
        {
            let (has, needs) = (binary_size(memory), binary_size(least));
            breaks(
                "min-kdf-memory",
                format!("the key derivation takes {has} of memory and has to take {needs}"),
            );
        }
        if let Some(least) = self.min_kdf_time
            && cost.time < least
        {
            let has = cost.time;
            breaks(
                "min-kdf-time",
                format!("the key derivation has {has} passes and has to have {least}"),
            );
        }
        broken
    }

    /// The best one for this machine that is allowed.
    pub fn preferred_cipher(&self) -> Cipher {
        let best = Cipher::preferred();
        let mut all = std::iter::once(best).chain(Cipher::ALL);
        all.find(|c| self.of_cipher(*c).is_empty()).unwrap_or(best)
    }

    pub fn of_cipher(&self, cipher: Cipher) -> Vec<Violation> {
        let allowed = |names: &Vec<String>| names.iter().any(|n| n == cipher.name());
        if self.ciphers.as_ref().is_none_or(allowed) {
            return Vec::new();
        }
        vec![Violation {
            rule: "ciphers",
            what: format!("the cipher {cipher} is not allowed"),
        }]
    }

    /// That a slot is left with which people get in when all else is lost.
    pub fn of_recovery<'a>(&self, mut slots: impl Iterator<Item = &'a Slot>) -> Vec<Violation> {
        let recovers = |slot: &Slot| matches!(slot.kind, SlotKind::Recovery | SlotKind::Shares);
        if !self.require_recovery || slots.any(recovers) {
            return Vec::new();
        }
        vec![Violation {
            rule: "require-recovery",
            what: "there has to be a recovery key, or shares".to_owned(),
        }]
    }

    /// All rules that a vault breaks; `epoch_created` is when its newest content epoch began.
    pub fn of_vault(&self, header: &VolumeHeader, epoch_created: i64) -> Vec<Violation> {
        let mut broken = self.of_cipher(header.cipher);
        for slot in &header.slots {
            let id = slot.id;
            let mut of_slot = self.of_slot(slot.kind, &slot.kdf);
            of_slot.extend(too_old(
                "max-slot-age",
                "the secret",
                slot.changed,
                self.max_slot_age,
            ));
            broken.extend(of_slot.into_iter().map(|v| Violation {
                what: format!("key slot {id}: {}", v.what),
                ..v
            }));
        }
        broken.extend(too_old(
            "max-epoch-age",
            "the newest content epoch",
            epoch_created,
            self.max_epoch_age,
        ));
        broken.extend(self.of_recovery(header.slots.iter()));
        broken
    }
}

/// Refuses if any rule is broken, and names each.
pub fn enforce(broken: &[Violation]) -> Result<(), Failure> {
    if broken.is_empty() {
        return Ok(());
    }
    let rules: Vec<String> = broken.iter().map(ToString::to_string).collect();
    let message = format!(
        "the policy of this machine ({PATH}) forbids it: {}",
        rules.join("; ")
    );
    Err(Failure::new(Exit::Policy, message))
}

/// Names in the policy file.
const KINDS: [(SlotKind, &str); 7] = [
    (SlotKind::Passphrase, "passphrase"),
    (SlotKind::Keyfile, "keyfile"),
    (SlotKind::PassphraseAndKeyfile, "passphrase-and-keyfile"),
    (SlotKind::Credential, "credential"),
    (SlotKind::Command, "command"),
    (SlotKind::Recovery, "recovery"),
    (SlotKind::Shares, "shares"),
];

/// Whole days.
pub fn age_days(since: i64) -> i64 {
    now().saturating_sub(since).max(0) / DAY
}

fn too_old(rule: &'static str, what: &str, since: i64, most: Option<u32>) -> Option<Violation> {
    let (age, most) = (age_days(since), i64::from(most?));
    (age > most).then(|| Violation {
        rule,
        what: format!("{what} is {age} days old and may be {most}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::slot::Argon2Params;

    fn rules(policy: &str, kind: SlotKind, memory_kib: u32) -> Vec<&'static str> {
        let policy = Policy::parse(policy).expect("a policy");
        let kdf = Kdf::Argon2id(Argon2Params {
            memory_kib,
            time: 2,
            lanes: 1,
        });
        let broken = policy.of_slot(kind, &kdf);
        broken.into_iter().map(|v| v.rule).collect()
    }

    #[test]
    fn every_rule_is_named_when_it_is_broken() {
        let all = "min-kdf-memory = '64M'\nmin-kdf-time = 3\nkinds = ['recovery']\n";
        assert_eq!(
            rules(all, SlotKind::Keyfile, 8192),
            ["kinds", "min-kdf-memory", "min-kdf-time"]
        );
        assert_eq!(rules("", SlotKind::Keyfile, 8192), [""; 0]);
        let fine = "min-kdf-memory = '64M'\nkinds = ['keyfile']";
        assert_eq!(rules(fine, SlotKind::Keyfile, 65536), [""; 0]);
    }

    #[test]
    fn ciphers_ages_and_recovery() {
        let policy = Policy::parse("ciphers = ['xchacha20-poly1305']\nrequire-recovery = true");
        let policy = policy.expect("a policy");
        assert_eq!(policy.of_cipher(Cipher::Xaes256Gcm)[0].rule, "ciphers");
        assert!(policy.of_cipher(Cipher::XChaCha20Poly1305).is_empty());
        assert_eq!(
            policy.of_recovery([].into_iter())[0].rule,
            "require-recovery"
        );
        assert!(too_old("r", "it", now() - 10 * DAY, Some(10)).is_none());
        assert!(too_old("r", "it", now() - 11 * DAY, Some(10)).is_some());
        assert!(too_old("r", "it", 0, None).is_none());
    }

    #[test]
    fn what_is_not_understood_allows_nothing() {
        for bad in [
            "min-kdf-mem = '64M'",
            "min-kdf-memory = 'lots'",
            "kinds = ['password']",
            "ciphers = ['rot13']",
            "max-slot-age = -1",
            "[",
        ] {
            assert!(Policy::parse(bad).is_err(), "{bad}");
        }
    }
}
