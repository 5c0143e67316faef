//! The contract for names: before or after, never lost once synced, readable once anything below was synced.

use std::collections::BTreeSet;

use crate::disk::Ino;
use crate::history::{History, Tree};
use crate::observe::Observed;
use crate::oracle::{Moment, Problem, Promise};

pub fn judge(moment: Moment<'_>, seen: &Observed, problems: &mut Vec<Problem>) {
    judge_readable(moment, seen, problems);
    match moment.promise {
        Promise::Weak => judge_slots(moment, seen, problems),
        Promise::Ordered | Promise::Everything => judge_tree(moment, seen, problems),
    }
}

/// Names whose directory or file was synced must be readable; the others may be there without being so.
fn judge_readable(moment: Moment<'_>, seen: &Observed, problems: &mut Vec<Problem>) {
    for (dir, why) in &seen.unreadable {
        if is_kept_dir(moment, *dir) {
            problems.push(Problem {
                class: "unreadable directory",
                text: format!("directory {dir}, in which names were synced: {why}"),
            });
        }
    }
    for ((dir, name), slot) in seen.slots.iter().filter(|(_, slot)| !slot.listed) {
        if moment.promise == Promise::Everything || slot_synced(moment, *dir, name, slot.ino) {
            problems.push(Problem {
                class: "unreadable name",
                text: format!("{} is found but not listed", text_of(*dir, name)),
            });
        }
    }
}

/// Whether names in the directory have to be readable.
pub fn is_kept_dir(moment: Moment<'_>, dir: Ino) -> bool {
    moment.promise == Promise::Everything || path_synced(moment, dir)
}

/// Whether a name of the object in this directory has to be readable, whichever it is.
pub fn is_kept_entry(moment: Moment<'_>, dir: Ino, ino: Ino) -> bool {
    let trees = moment.history.trees.iter();
    let named: BTreeSet<&[u8]> = trees
        .flat_map(|(_, tree)| tree.iter())
        .filter(|((d, _), i)| *d == dir && **i == ino)
        .map(|((_, name), _)| &name[..])
        .collect();
    let kept = |name: &[u8]| slot_synced(moment, dir, name, ino);
    moment.promise == Promise::Everything || named.into_iter().any(kept)
}

/// Whether anything in the directory, or below it, was synced.
fn path_synced(moment: Moment<'_>, dir: Ino) -> bool {
    let synced_dirs = moment
        .history
        .dir_syncs
        .iter()
        .filter(|(e, _)| moment.answered(*e));
    let mut synced: BTreeSet<Ino> = synced_dirs
        .filter(|(e, d)| has_entries(moment.history, *d, *e))
        .map(|(_, d)| *d)
        .collect();
    for (ino, file) in &moment.history.files {
        if file.syncs.iter().any(|(e, _)| moment.answered(*e)) {
            synced.extend(dirs_of(moment.history, *ino));
        }
    }
    let below = |d: Ino| ancestors(moment.history, d).contains(&dir);
    let entries_before = has_entries(moment.history, dir, moment.all_synced());
    entries_before || synced.into_iter().any(below)
}

fn has_entries(history: &History, dir: Ino, at: usize) -> bool {
    let tree = history.trees.iter().rfind(|(e, _)| *e < at.max(1));
    tree.is_some_and(|(_, tree)| tree.keys().any(|(d, _)| *d == dir))
}

fn dirs_of(history: &History, ino: Ino) -> Vec<Ino> {
    let (_, tree) = history.trees.last().expect("the prepared one");
    let named = tree.iter().filter(|(_, i)| **i == ino);
    named.map(|((dir, _), _)| *dir).collect()
}

fn ancestors(history: &History, dir: Ino) -> Vec<Ino> {
    let mut chain = vec![dir];
    for _ in 0..8 {
        chain.extend(dirs_of(history, *chain.last().expect("not empty")).first());
    }
    chain
}

fn slot_synced(moment: Moment<'_>, dir: Ino, name: &[u8], ino: Ino) -> bool {
    let key = (dir, name.to_vec());
    let mut entered = 0;
    let mut there = false;
    for (event, tree) in moment
        .history
        .trees
        .iter()
        .filter(|(e, _)| moment.begun(*e))
    {
        let now = tree.get(&key) == Some(&ino);
        if now && !there {
            entered = *event;
        }
        there = now;
    }
    let by_dir = moment.history.dir_syncs.iter();
    let by_dir = by_dir.filter(|(_, d)| *d == dir).map(|(e, _)| *e);
    let file = moment.history.files.get(&ino);
    let by_file = file.iter().flat_map(|f| f.syncs.iter().map(|(e, _)| *e));
    let mut syncs = by_dir.chain(by_file).chain([moment.all_synced()]);
    there && syncs.any(|e| moment.answered(e) && e.max(1) > entered)
}

/// The whole tree must be one that was there, none older than what was synced.
fn judge_tree(moment: Moment<'_>, seen: &Observed, problems: &mut Vec<Problem>) {
    let first = first_legal(moment);
    let visible = |(dir, _): &(Ino, Vec<u8>)| !seen.unreadable.contains_key(dir);
    let found: Tree = seen
        .slots
        .iter()
        .filter(|(key, _)| visible(key))
        .map(|(key, slot)| (key.clone(), slot.ino))
        .collect();
    let trees = moment.history.trees.iter();
    let mut legal = trees
        .skip(first)
        .filter(|(e, _)| moment.begun(*e))
        .map(|(_, tree)| tree);
    let same = |tree: &Tree| {
        let reachable = reachable(tree);
        let there = |key: &(Ino, Vec<u8>)| visible(key) && reachable.contains(&key.0);
        tree.iter().filter(|(key, _)| there(key)).eq(found.iter())
    };
    if legal.any(same) {
        return;
    }
    let (_, wanted) = &moment.history.trees[first];
    let differs = |(key, ino): &(&(Ino, Vec<u8>), &Ino)| found.get(*key) != Some(*ino);
    let missing: Vec<String> = wanted
        .iter()
        .filter(differs)
        .map(|(k, _)| text_of(k.0, &k.1))
        .collect();
    let added = found
        .iter()
        .filter(|(key, ino)| wanted.get(*key) != Some(*ino));
    let added: Vec<String> = added
        .map(|(k, i)| format!("{} = {i}", text_of(k.0, &k.1)))
        .collect();
    problems.push(Problem {
        class: "names",
        text: format!("no legal tree: missing {missing:?}, there instead {added:?}"),
    });
}

/// Directories that can be reached from the root.
fn reachable(tree: &Tree) -> BTreeSet<Ino> {
    let mut reached = BTreeSet::from([wardfs::fs::ROOT]);
    for _ in 0..4 {
        let more: Vec<Ino> = tree
            .iter()
            .filter(|((dir, _), _)| reached.contains(dir))
            .map(|(_, ino)| *ino)
            .collect();
        reached.extend(more);
    }
    reached
}

/// The index of the oldest tree that may be seen.
fn first_legal(moment: Moment<'_>) -> usize {
    let history = moment.history;
    let index_before = |event: usize| {
        let later = history.trees.partition_point(|(e, _)| *e < event.max(1));
        later.saturating_sub(1)
    };
    let mut first = index_before(moment.all_synced());
    for (event, dir) in history
        .dir_syncs
        .iter()
        .filter(|(e, _)| moment.answered(*e))
    {
        let changed = |i: &usize| changes(&history.trees[*i - 1].1, &history.trees[*i].1, *dir);
        let last = (1..=index_before(*event)).rev().find(changed);
        first = first.max(last.unwrap_or(0));
    }
    // A new file that was synced can be found.
    for file in history.files.values() {
        let synced = file.syncs.iter().any(|(e, _)| moment.answered(*e));
        if synced && file.made > 0 {
            first = first.max(index_before(file.made + 1));
        }
    }
    first
}

fn changes(before: &Tree, after: &Tree, dir: Ino) -> bool {
    let of = |tree: &Tree| -> Vec<(Vec<u8>, Ino)> {
        let entries = tree.iter().filter(|((d, _), _)| *d == dir);
        entries
            .map(|((_, name), ino)| (name.clone(), *ino))
            .collect()
    };
    of(before) != of(after)
}

/// Every name must be what it was at some moment since its directory was synced.
fn judge_slots(moment: Moment<'_>, seen: &Observed, problems: &mut Vec<Problem>) {
    let history = moment.history;
    let mut keys: BTreeSet<&(Ino, Vec<u8>)> = seen.slots.keys().collect();
    keys.extend(history.trees.iter().flat_map(|(_, tree)| tree.keys()));
    let known_dirs: BTreeSet<Ino> = seen
        .slots
        .values()
        .map(|slot| slot.ino)
        .chain([wardfs::fs::ROOT])
        .collect();
    for key in keys {
        if !known_dirs.contains(&key.0) || seen.unreadable.contains_key(&key.0) {
            continue;
        }
        let syncs = history.dir_syncs.iter().filter(|(_, d)| *d == key.0);
        let synced = syncs.map(|(e, _)| *e).filter(|e| moment.answered(*e)).max();
        let since = synced.unwrap_or(0).max(moment.all_synced()).max(1);
        let first = history
            .trees
            .partition_point(|(e, _)| *e < since)
            .saturating_sub(1);
        let trees = history.trees[first..]
            .iter()
            .filter(|(e, _)| moment.begun(*e));
        let found = seen.slots.get(key).map(|slot| slot.ino);
        let mut legal = trees.map(|(_, tree)| tree.get(key).copied());
        if !legal.any(|ino| ino == found) {
            problems.push(Problem {
                class: "names",
                text: format!("{} is {found:?}", text_of(key.0, &key.1)),
            });
        }
    }
}

fn text_of(dir: Ino, name: &[u8]) -> String {
    let name: String = String::from_utf8_lossy(name).chars().take(8).collect();
    format!("{dir}/{name}")
}
