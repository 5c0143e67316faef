//! What `wardfs check` must say of a volume after a crash, and what it must not: nothing that was synced is named as
//! damaged, and whatever a mount does not show is named.

use std::collections::BTreeSet;

use wardfs::fs::ROOT;
use wardfs::store::check::finding::{Finding, State, Subject};

use crate::disk::{Image, Ino, ROOT_INO};
use crate::names;
use crate::observe::Observed;
use crate::oracle::{Moment, Problem};

/// What was found, in one line.
pub fn text_of(finding: &Finding) -> String {
    format!(
        "{} {} {} ({}): {}",
        finding.state.name(),
        finding.subject.name(),
        String::from_utf8_lossy(&finding.path),
        String::from_utf8_lossy(&finding.stored),
        finding.detail
    )
}

/// Whether something is lost by what was found, or may be.
pub fn is_loss(finding: &Finding) -> bool {
    match finding.state {
        State::Damaged | State::Unreadable | State::InUse => true,
        // Of a crash, and yet a name that nobody reads any more.
        State::Leftover => finding.subject == Subject::NameFile && has_lost_name(finding),
        State::Repaired | State::Foreign => false,
    }
}

fn has_lost_name(finding: &Finding) -> bool {
    let last = finding.path.rsplit(|b| *b == b'/').next();
    last.is_some_and(|name| name.starts_with(b"name-lost."))
}

/// The object at a path of the vault, and the directory it is in, by the numbers that a mount gives them.
fn resolve(image: &Image, stored: &[u8]) -> Option<(Ino, Ino)> {
    let (mut dir, mut at) = (ROOT_INO, ROOT_INO);
    for part in stored.split(|b| *b == b'/').filter(|part| *part != b".") {
        (dir, at) = (at, image.entry(at, part)?);
    }
    let number = |ino| if ino == ROOT_INO { ROOT } else { ino };
    Some((number(dir), number(at)))
}

/// Whether what was found concerns something that has to be there.
fn concerns_synced(moment: Moment<'_>, image: &Image, finding: &Finding) -> bool {
    let Some((dir, ino)) = resolve(image, &finding.stored) else {
        return true;
    };
    match finding.subject {
        Subject::Directory | Subject::DirectoryId => names::is_kept_dir(moment, ino),
        Subject::Name | Subject::NameFile => names::is_kept_entry(moment, dir, ino),
        Subject::Attribute => moment.has_synced_xattr(ino),
        _ => true,
    }
}

/// What a check says that it must not, of the volume in this image.
pub fn judge(moment: Moment<'_>, image: &Image, found: &[Finding]) -> Vec<Problem> {
    found
        .iter()
        .filter(|f| is_loss(f) && concerns_synced(moment, image, f))
        .map(|f| Problem {
            class: "found by a check",
            text: text_of(f),
        })
        .collect()
}

/// What a check still finds after a repair although it could be mended.
pub fn judge_repaired(moment: Moment<'_>, image: &Image, found: &[Finding]) -> Vec<Problem> {
    found
        .iter()
        .filter(|f| !is_loss(f) || concerns_synced(moment, image, f))
        .map(|f| Problem {
            class: "found after a repair",
            text: text_of(f),
        })
        .collect()
}

/// What a mount of this volume does not show and no check names.
pub fn judge_silence(image: &Image, found: &[Finding], seen: &Observed) -> Vec<Problem> {
    let named: BTreeSet<Ino> = found
        .iter()
        .filter_map(|f| Some(resolve(image, &f.stored)?.1))
        .collect();
    let dirs = seen.unreadable.keys();
    let files = seen.files.iter().filter(|(_, c)| c.is_err());
    let unlisted = seen.slots.values().filter(|slot| !slot.listed);
    let lost = dirs
        .chain(files.map(|(ino, _)| ino))
        .chain(unlisted.map(|slot| &slot.ino));
    lost.filter(|ino| !named.contains(ino))
        .map(|ino| Problem {
            class: "not found by a check",
            text: format!("inode {ino} is not whole in a mount, and nothing is said of it"),
        })
        .collect()
}
