//! Counts ahead of the check how much there is, so that the time left can be told.

use std::sync::atomic::Ordering;

use crate::names::{Stored, classify};
use crate::store::backing::{Backing, Kind, Listing, Target};
use crate::store::check::tally::Tally;

/// Adds the lengths of all files to the total. What cannot be read is left to the check to tell.
pub fn count<B: Backing>(backing: &B, tally: &Tally, stop: &dyn Fn() -> bool) {
    let Ok(root) = backing.root() else {
        return;
    };
    let Ok(listing) = backing.list(&root) else {
        return;
    };
    let mut open = vec![(root, listing)];
    while let Some((dir, listing)) = open.last_mut() {
        if stop() {
            return;
        }
        let mut deeper = None;
        let mut files = Vec::new();
        let read = listing.read(&mut |entry| {
            if deeper.is_some() || files.len() >= 1024 {
                return false;
            }
            if matches!(classify(entry.name), Stored::Short | Stored::Long) {
                match entry.kind {
                    Some(Kind::Dir) => deeper = Some(entry.name.to_vec()),
                    Some(Kind::File) | None => files.push(entry.name.to_vec()),
                    _ => {}
                }
            }
            true
        });
        for name in &files {
            if let Ok(attr) = backing.stat(Target::At(dir, name))
                && attr.kind() == Kind::File
            {
                Tally::add(&tally.total, attr.size);
            }
        }
        let next = deeper.and_then(|name| {
            let dir = backing.open_dir(dir, &name).ok()?;
            let listing = backing.list(&dir).ok()?;
            Some((dir, listing))
        });
        match next {
            Some(next) => open.push(next),
            None if files.is_empty() && (read.is_err() || at_end(listing)) => {
                open.pop();
            }
            None => {}
        }
    }
    tally.counted.store(true, Ordering::Release);
}

fn at_end<L: Listing>(listing: &mut L) -> bool {
    let mut more = false;
    let read = listing.read(&mut |_| {
        more = true;
        false
    });
    read.is_err() || !more
}
