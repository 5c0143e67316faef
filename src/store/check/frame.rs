//! What stands around the tree: the two copies of the volume header, the superblock, temporary files.

use std::io;

use crate::content::Buffer;
use crate::crypto::VolumeKeys;
use crate::format::superblock::{SUPERBLOCK_LEN, Superblock};
use crate::format::volume::VolumeHeader;
use crate::store::backing::{Backing, Kind, Listing, OpenFor, Target};
use crate::store::check::Vault;
use crate::store::check::finding::{Finding, State, Subject};
use crate::store::header;
use crate::store::layout::{
    HEADER, HEADER_BACKUP, HEADER_LOCK, JOURNAL_DIR, LAST_USED, LOCK, META_DIR, ROTATION,
    SUPERBLOCK, TARGETS_DIR, TMP_DIR,
};
use crate::store::recovery::SEGMENTS;
use crate::store::volume::Volume;

/// Looks at both header copies and both superblock slots. `verified` is the header that was unlocked.
pub fn inspect<B: Backing>(
    backing: &B,
    keys: &VolumeKeys,
    verified: &VolumeHeader,
    vault: Vault,
) -> io::Result<Vec<Finding>> {
    let meta = backing.open_dir(&backing.root()?, META_DIR.as_bytes())?;
    let mut found = Vec::new();
    inspect_header(backing, &meta, verified, &mut found);
    inspect_superblock(backing, &meta, keys, vault, &mut found);
    Ok(found)
}

fn inspect_header<B: Backing>(
    backing: &B,
    meta: &B::Dir,
    verified: &VolumeHeader,
    found: &mut Vec<Finding>,
) {
    let wanted = verified.encode();
    for (name, other) in [(HEADER, "second"), (HEADER_BACKUP, "first")] {
        let said = match header::read_bytes(backing, meta, name) {
            Ok(bytes) if bytes == wanted => continue,
            Ok(bytes) => match VolumeHeader::decode(&bytes) {
                Ok(_) => format!("is not the one that was unlocked; the {other} copy is"),
                Err(e) => format!("is damaged ({e}); the {other} copy is whole"),
            },
            Err(e) => format!("cannot be read ({e}); the {other} copy can"),
        };
        let stored = format!("{META_DIR}/{name}");
        let finding = Finding::of_vault(State::Damaged, Subject::Header, &stored, said);
        found.push(finding);
    }
}

fn inspect_superblock<B: Backing>(
    backing: &B,
    meta: &B::Dir,
    keys: &VolumeKeys,
    vault: Vault,
    found: &mut Vec<Finding>,
) {
    let stored = format!("{META_DIR}/{JOURNAL_DIR}/{SUPERBLOCK}");
    let damaged =
        |said: String| Finding::of_vault(State::Damaged, Subject::Superblock, &stored, said);
    let opened = backing
        .open_dir(meta, JOURNAL_DIR.as_bytes())
        .and_then(|journal| backing.open(&journal, SUPERBLOCK.as_bytes(), OpenFor::Read));
    let file = match opened {
        Ok(file) => file,
        Err(e) => return found.push(damaged(format!("cannot be opened: {e}"))),
    };
    let slots = [0, 1].map(|slot| {
        let mut bytes = [0; SUPERBLOCK_LEN];
        let read = backing.read_at(&file, &mut bytes, slot * SUPERBLOCK_LEN as u64);
        read.map(|_| Superblock::decode(&bytes, keys.journal_mac_key()))
    });
    // They are written in turn while the volume is in use, and a crash tears the one that is being written.
    let mut whole = slots.iter().flatten().flatten();
    let crashed = vault == Vault::Still && whole.any(|block| !block.clean);
    for (slot, read) in slots.iter().enumerate() {
        match read {
            Ok(Ok(_)) => {}
            Ok(Err(e)) => {
                let mut finding = damaged(format!("slot {slot} is damaged: {e}"));
                if crashed {
                    finding.crash_left();
                }
                found.push(finding);
            }
            Err(e) => found.push(damaged(format!("slot {slot} cannot be read: {e}"))),
        }
    }
}

/// What the journal says that no file shows.
pub fn recovery<B: Backing>(volume: &Volume<B>, tell: &dyn Fn(Finding)) {
    let report = volume.recovered();
    let journal = format!("{META_DIR}/{JOURNAL_DIR}");
    for orphan in &report.orphans {
        let path = volume.plain_path(orphan.as_bytes());
        tell(Finding {
            path: path.unwrap_or_else(|| orphan.clone().into_bytes()),
            ..Finding::of_vault(
                State::Leftover,
                Subject::Journal,
                orphan,
                "the journal has changes of this file, which is not in the vault",
            )
        });
    }
    if report.refused_images > 0 {
        let said = format!(
            "chunks in it that do not authenticate: {}",
            report.refused_images
        );
        tell(Finding::of_vault(
            State::Damaged,
            Subject::Journal,
            &journal,
            said,
        ));
    }
}

/// Reads the segments of the journal to their ends, and names what else is in its directory. Which groups of them count
/// is found out when the volume is opened; what follows those is of earlier times.
pub fn segments<B: Backing>(volume: &Volume<B>, tell: &dyn Fn(Finding)) -> io::Result<()> {
    let backing = volume.backing();
    let journal = backing.open_dir(volume.meta_dir(), JOURNAL_DIR.as_bytes())?;
    for name in names_in(backing, &journal)? {
        let stored = stored(&[META_DIR.as_bytes(), JOURNAL_DIR.as_bytes(), &name]);
        if name == SUPERBLOCK.as_bytes() {
            continue;
        }
        if !SEGMENTS.contains(&&name[..]) {
            tell(foreign(stored));
            continue;
        }
        if let Err(e) = read_through(backing, &journal, &name) {
            let said = format!("a segment cannot be read: {e}");
            tell(Finding {
                stored,
                ..Finding::of_vault(State::Unreadable, Subject::Journal, "", said)
            });
        }
    }
    Ok(())
}

fn read_through<B: Backing>(backing: &B, dir: &B::Dir, name: &[u8]) -> io::Result<()> {
    let file = backing.open(dir, name, OpenFor::Read)?;
    let mut piece = Buffer::of_len(1 << 20);
    let mut at = 0;
    loop {
        match backing.read_at(&file, &mut piece, at)? {
            0 => return Ok(()),
            got => at += got as u64,
        }
    }
}

/// Whether leftovers are removed or only named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leftovers {
    Name,
    Remove,
}

/// Names, or removes, what interrupted operations left in `~wardfs/tmp`, and names what nobody knows in `~wardfs`.
pub fn leftovers<B: Backing>(
    volume: &Volume<B>,
    how: Leftovers,
    tell: &dyn Fn(Finding),
) -> io::Result<()> {
    let backing = volume.backing();
    let meta = volume.meta_dir();
    let known = [
        HEADER,
        HEADER_BACKUP,
        JOURNAL_DIR,
        TMP_DIR,
        TARGETS_DIR,
        LOCK,
        HEADER_LOCK,
        LAST_USED,
        ROTATION,
    ];
    for name in names_in(backing, meta)? {
        if !known.iter().any(|k| k.as_bytes() == name) {
            let stored = stored(&[META_DIR.as_bytes(), &name]);
            tell(foreign(stored));
        }
    }
    let tmp = match backing.open_dir(meta, TMP_DIR.as_bytes()) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for name in names_in(backing, &tmp)? {
        let stored = stored(&[META_DIR.as_bytes(), TMP_DIR.as_bytes(), &name]);
        let is_file = backing
            .stat(Target::At(&tmp, &name))
            .is_ok_and(|a| a.kind() == Kind::File);
        let mut finding = Finding {
            stored,
            ..Finding::of_vault(
                State::Leftover,
                Subject::Temporary,
                "",
                "an interrupted operation left it; it is of no use",
            )
        };
        if how == Leftovers::Remove && is_file {
            backing.unlink(&tmp, &name)?;
            finding.state = State::Repaired;
            finding.detail = "an interrupted operation had left it; removed".to_owned();
        }
        tell(finding);
    }
    Ok(())
}

/// Names, or removes, stored link targets that no link of the tree refers to.
pub fn orphan_targets<B: Backing>(
    volume: &Volume<B>,
    used: &dyn Fn(&[u8]) -> bool,
    how: Leftovers,
    tell: &dyn Fn(Finding),
) -> io::Result<()> {
    let backing = volume.backing();
    let targets = match backing.open_dir(volume.meta_dir(), TARGETS_DIR.as_bytes()) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for name in names_in(backing, &targets)? {
        if used(&name) {
            continue;
        }
        let stored = stored(&[META_DIR.as_bytes(), TARGETS_DIR.as_bytes(), &name]);
        let ours = name.len() == 22
            && backing
                .stat(Target::At(&targets, &name))
                .is_ok_and(|a| a.kind() == Kind::File);
        if !ours {
            tell(foreign(stored));
            continue;
        }
        let said = "no symbolic link refers to it";
        let mut finding = Finding {
            stored,
            ..Finding::of_vault(State::Leftover, Subject::Target, "", said)
        };
        if how == Leftovers::Remove {
            backing.unlink(&targets, &name)?;
            finding.state = State::Repaired;
            finding.detail = "no symbolic link referred to it; removed".to_owned();
        }
        tell(finding);
    }
    Ok(())
}

fn foreign(stored: Vec<u8>) -> Finding {
    Finding {
        stored,
        ..Finding::of_vault(State::Foreign, Subject::File, "", "is nothing of wardfs")
    }
}

fn stored(parts: &[&[u8]]) -> Vec<u8> {
    parts.join(&b'/')
}

fn names_in<B: Backing>(backing: &B, dir: &B::Dir) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    backing.list(dir)?.read(&mut |entry| {
        if !matches!(entry.name, b"." | b"..") {
            names.push(entry.name.to_vec());
        }
        true
    })?;
    names.sort();
    Ok(names)
}
