//! `wardfs key list`: the key slots, without a secret.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::cli::failure::{Failure, warn};
use crate::cli::info::{SlotInfo, slot_rows};
use crate::cli::output::{iso_time, print, print_json};
use crate::cli::place;
use crate::format::key_record::KeyRecord;
use crate::store::last_used::LastUsed;
use crate::store::volume::Locked;

/// List the key slots of a vault
///
/// Needs no secret. That also means nothing shown is verified. Times are in UTC. When a slot was used last is a note
/// that anybody who can write the vault can change.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  wardfs key list ~/vault
  wardfs key list ~/vault --json | jq -r '.slots[] | select(.age_days > 365) | .id'")]
pub struct ListArgs {
    /// The vault's directory
    vault: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct List {
    vault: PathBuf,
    slots: Vec<SlotInfo>,
    /// Openings with shares that nobody has acknowledged.
    openings: Vec<Opened>,
}

#[derive(Debug, Serialize)]
struct Opened {
    slot: u32,
    at: String,
}

pub fn run(args: &ListArgs) -> Result<(), Failure> {
    let vault = place::vault(&args.vault)?;
    let locked = Locked::open(&vault).map_err(|e| Failure::volume(&vault, &e))?;
    if locked.used_backup() {
        warn("the first copy of the volume header is damaged; this is the second one");
    }
    let header = locked.header();
    let used = LastUsed::read(&vault);
    let openings = KeyRecord::of(header).map(|record| record.openings);
    let openings = openings.unwrap_or_default().into_iter().map(|o| Opened {
        slot: o.slot,
        at: iso_time(o.at),
    });
    let list = List {
        vault,
        slots: header
            .slots
            .iter()
            .map(|slot| SlotInfo::of(slot, &used))
            .collect(),
        openings: openings.collect(),
    };
    if args.json {
        return print_json(&list);
    }
    let mut text = String::new();
    for (slot, shown) in header.slots.iter().zip(&list.slots) {
        text += &format!("key slot {}\n{}", slot.id, slot_rows(slot, shown));
    }
    for opened in &list.openings {
        let Opened { slot, at } = opened;
        text += &format!("Opened with the shares of key slot {slot} at {at}, not acknowledged\n");
    }
    print(&text)
}
