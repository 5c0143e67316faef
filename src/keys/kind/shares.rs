//! Break glass: a random key in N printed shares, any M of which give it back (Shamir, over GF(256)).
//!
//! ```text
//! slot data   set 4, random | M u8 | N u8
//! share       set 4 | M u8 | number u8, from 1 | 32 bytes
//! ```

use blahaj::Sharks;
use zeroize::Zeroizing;

use super::{Created, Kind, KindError};
use crate::crypto::rand;
use crate::format::slot::SlotKind;
use crate::keys::printed;
use crate::keys::secret::SlotSecret;
use crate::sys::secret::{SecretBytes, SecretVec};

const KEY: usize = 32;
const SHARE: usize = 4 + 1 + 1 + KEY;

/// What the slot keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShareSet {
    /// Tells shares of one set from those of another.
    pub set: [u8; 4],
    /// So many open the vault.
    pub need: u8,
    pub all: u8,
}

/// One share, as it was typed.
#[derive(Debug)]
pub struct Share(SecretVec);

/// The shares at hand, or how many there are to be.
#[derive(Debug, Default)]
pub struct Shares {
    pub new: Option<(u8, u8)>,
    pub given: Vec<Share>,
}

impl ShareSet {
    pub fn encode(&self) -> Vec<u8> {
        [&self.set[..], &[self.need, self.all]].concat()
    }

    /// # Errors
    /// [`KindError::Data`].
    pub fn decode(data: &[u8]) -> Result<Self, KindError> {
        match *data {
            [a, b, c, d, need, all] if need >= 2 && need <= all => Ok(Self {
                set: [a, b, c, d],
                need,
                all,
            }),
            _ => Err(KindError::Data),
        }
    }
}

impl Share {
    /// # Errors
    /// [`KindError::Printed`] with the group that is wrong.
    pub fn typed(text: &[u8]) -> Result<Self, KindError> {
        printed::decode(text, SHARE)
            .map(Self)
            .map_err(KindError::Printed)
    }

    pub fn set(&self) -> [u8; 4] {
        *self.0.as_bytes().first_chunk().expect("38 bytes")
    }

    /// So many open the vault, according to this share.
    pub fn need(&self) -> u8 {
        self.0.as_bytes()[4]
    }

    pub fn number(&self) -> u8 {
        self.0.as_bytes()[5]
    }
}

impl Shares {
    /// The given shares of this set, each number once.
    fn of_set(&self, set: &ShareSet) -> Vec<&Share> {
        let mut mine: Vec<&Share> = Vec::new();
        for share in &self.given {
            let known = mine.iter().any(|s| s.number() == share.number());
            if share.set() == set.set && share.need() == set.need && share.number() > 0 && !known {
                mine.push(share);
            }
        }
        mine
    }
}

impl Kind for Shares {
    fn kind(&self) -> SlotKind {
        SlotKind::Shares
    }

    fn create(&self) -> Result<Created, KindError> {
        let (need, all) = self.new.ok_or(KindError::Threshold)?;
        if need < 2 || need > all {
            return Err(KindError::Threshold);
        }
        let set = ShareSet {
            set: rand::array(),
            need,
            all,
        };
        let key = SecretBytes::<KEY>::filled_by(|bytes| rand::fill(bytes));
        let dealer = Sharks(need).dealer(key.as_bytes());
        let mut printed = Vec::with_capacity(usize::from(all));
        for dealt in dealer.take(usize::from(all)) {
            // Number and value, which the library clears; its copy is cleared here.
            let dealt = Zeroizing::new(Vec::from(&dealt));
            let mut share = SecretVec::with_capacity(SHARE);
            share.extend_from_slice(&set.set);
            share.push(need);
            share.extend_from_slice(&dealt);
            printed.push(printed::encode(share.as_bytes()));
        }
        Ok(Created {
            secret: SlotSecret::other(SlotKind::Shares, key),
            data: set.encode(),
            printed,
        })
    }

    fn open(&self, data: &[u8]) -> Result<SlotSecret, KindError> {
        let set = ShareSet::decode(data)?;
        let mine = self.of_set(&set);
        if mine.is_empty() && !self.given.is_empty() {
            return Err(KindError::OtherSet);
        }
        let need = usize::from(set.need);
        if mine.len() < need {
            let have = mine.len();
            return Err(KindError::Shares { have, need });
        }
        let points: Vec<blahaj::Share> = mine[..need]
            .iter()
            .filter_map(|share| blahaj::Share::try_from(&share.0.as_bytes()[5..]).ok())
            .collect();
        let sharks = Sharks(set.need);
        let recovered = sharks.recover(&points);
        let key = Zeroizing::new(recovered.map_err(|_| KindError::Data)?);
        if key.len() != KEY {
            return Err(KindError::Data);
        }
        let key = SecretBytes::filled_by(|own| own.copy_from_slice(&key));
        Ok(SlotSecret::other(SlotKind::Shares, key))
    }

    fn describe(data: &[u8]) -> Result<String, KindError> {
        ShareSet::decode(data).map(|set| format!("any {} of {}", set.need, set.all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(created: &Created, numbers: &[usize]) -> Result<bool, KindError> {
        let share = |n: &usize| Share::typed(created.printed[n - 1].as_bytes());
        let given = numbers.iter().map(share).collect::<Result<_, _>>()?;
        let secret = Shares { new: None, given }.open(&created.data)?;
        Ok(secret.canonical().as_bytes() == created.secret.canonical().as_bytes())
    }

    fn new(need: u8, all: u8) -> Result<Created, KindError> {
        let new = Some((need, all));
        Shares { new, given: vec![] }.create()
    }

    #[test]
    fn any_three_of_five_open_and_two_do_not() {
        let created = new(3, 5).expect("random");
        assert_eq!(created.printed.len(), 5);
        for a in 1..=5 {
            for b in (1..=5).filter(|b| *b != a) {
                let two = open(&created, &[a, b, a]);
                assert!(matches!(two, Err(KindError::Shares { have: 2, need: 3 })));
                for c in (1..=5).filter(|c| ![a, b].contains(c)) {
                    assert!(open(&created, &[a, b, c]).expect("enough"));
                }
            }
        }
        assert!(open(&created, &[1, 2, 3, 4, 5]).expect("enough"));
    }

    #[test]
    fn shares_of_another_set_do_not_count() {
        let (ours, theirs) = (new(2, 2).expect("random"), new(2, 2).expect("random"));
        let typed = |c: &Created, n: usize| Share::typed(c.printed[n].as_bytes()).expect("whole");
        let given = vec![typed(&theirs, 0), typed(&theirs, 1)];
        let other = Shares { new: None, given }.open(&ours.data);
        assert!(matches!(other, Err(KindError::OtherSet)));
        let given = vec![typed(&ours, 0), typed(&theirs, 1)];
        let mixed = Shares { new: None, given }.open(&ours.data);
        assert!(matches!(mixed, Err(KindError::Shares { have: 1, need: 2 })));
    }

    #[test]
    fn a_threshold_that_protects_nothing_is_refused() {
        for (need, all) in [(0, 0), (1, 5), (4, 3)] {
            assert!(new(need, all).is_err(), "{need}/{all}");
        }
        assert!(new(255, 255).is_ok());
        for data in [&[][..], &[0; 5], &[0, 0, 0, 0, 3, 2], &[0; 7]] {
            assert!(ShareSet::decode(data).is_err());
        }
    }

    /// The library was once biased (RUSTSEC-2024-0398): a coefficient was never zero, so that one share of two told what
    /// the key is not.
    #[test]
    fn one_share_says_nothing_about_a_byte_of_the_key() {
        let mut seen = [false; 256];
        for _ in 0..300 {
            for share in Sharks(2).dealer(&[7; 32]).take(1) {
                share.y.iter().for_each(|y| seen[usize::from(y.0)] = true);
            }
        }
        assert!(seen.iter().all(|seen| *seen));
    }
}
