//! What moves through the tree while somebody walks through it: a walk that has been where it goes to and not yet where
//! it comes from would never meet it.
//!
//! Whoever renames or links holds [`Moving`] from before until the new path is noted. So a walk that found nothing
//! noted, with nobody in between, has met everything that was there when it began.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

/// More paths than this are not remembered: the walk is done again.
const MOST: usize = 10_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Moves {
    /// Whether anybody walks. Shared by those who move something, for as long as that takes.
    followed: RwLock<bool>,
    /// A leaf lock.
    noted: Mutex<Noted>,
}

/// What has moved since it was asked for last.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Noted {
    /// Where to, in stored names.
    pub paths: BTreeSet<Vec<u8>>,
    /// Something has moved of which no path is known.
    pub lost: bool,
}

impl Noted {
    fn is_empty(&self) -> bool {
        self.paths.is_empty() && !self.lost
    }
}

/// Somebody moves something.
#[derive(Debug)]
pub(super) struct Moving<'a> {
    followed: RwLockReadGuard<'a, bool>,
    moves: &'a Moves,
}

/// Somebody walks; ends when it is dropped.
#[derive(Debug)]
pub(super) struct Following<'a>(&'a Moves);

impl Moves {
    /// To be held while something is moved.
    pub(super) fn begin(&self) -> Moving<'_> {
        // It protects a flag that is set in one step.
        let followed = self.followed.read().unwrap_or_else(PoisonError::into_inner);
        Moving {
            followed,
            moves: self,
        }
    }

    /// From now on what moves is noted. One walk at a time.
    pub(super) fn follow(&self) -> Following<'_> {
        self.set_followed(true);
        *self.noted() = Noted::default();
        Following(self)
    }

    fn set_followed(&self, followed: bool) {
        *self
            .followed
            .write()
            .unwrap_or_else(PoisonError::into_inner) = followed;
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Moving<'_> {
    /// Something lies at this path now; `None` if it has none that can be told.
    pub(super) fn note(&self, path: impl FnOnce() -> Option<Vec<u8>>) {
        if !*self.followed {
            return;
        }
        let path = path();
        let mut noted = self.moves.noted();
        match path {
            Some(path) if noted.paths.len() < MOST => {
                noted.paths.insert(path);
            }
            _ => noted.lost = true,
        }
    }
}

impl Following<'_> {
    pub(super) fn take(&self) -> Noted {
        std::mem::take(&mut *self.0.noted())
    }

    /// Whether nothing has moved that was not taken.
    pub(super) fn is_done(&self) -> bool {
        let _nobody = self.0.followed.write();
        self.0.noted().is_empty()
    }
}

impl Drop for Following<'_> {
    fn drop(&mut self) {
        self.0.set_followed(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(paths: &[&[u8]], lost: bool) -> Noted {
        let paths = paths.iter().map(|p| p.to_vec()).collect();
        Noted { paths, lost }
    }

    #[test]
    fn moves_are_noted_only_while_somebody_follows() {
        let moves = Moves::default();
        moves.begin().note(|| panic!("nobody wants to know"));
        {
            let following = moves.follow();
            assert!(following.is_done());
            moves.begin().note(|| Some(b"a/b".to_vec()));
            moves.begin().note(|| Some(b"a/b".to_vec()));
            assert!(!following.is_done());
            assert_eq!(following.take(), noted(&[b"a/b"], false));
            assert!(following.is_done());
            moves.begin().note(|| None);
            assert_eq!(following.take(), noted(&[], true));
            moves.begin().note(|| Some(b"c".to_vec()));
        }
        moves.begin().note(|| panic!("nobody wants to know"));
        assert!(moves.follow().is_done(), "a new walk begins with nothing");
    }

    #[test]
    fn too_many_moves_are_lost() {
        let moves = Moves::default();
        let following = moves.follow();
        for number in 0..=MOST {
            moves.begin().note(|| Some(number.to_string().into_bytes()));
        }
        let noted = following.take();
        assert_eq!((noted.paths.len(), noted.lost), (MOST, true));
    }

    #[test]
    fn who_asks_whether_all_is_done_waits_for_a_move_under_way() {
        let moves = Moves::default();
        let following = moves.follow();
        let moving = moves.begin();
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| following.is_done());
            moving.note(|| Some(b"x".to_vec()));
            drop(moving);
            assert!(!asked.join().expect("no panic"));
        });
    }
}
