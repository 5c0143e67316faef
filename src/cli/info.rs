//! `wardfs info`: what a vault says about itself, without its secret.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::failure::{Failure, warn};
use super::output::{binary_size, iso_time, print, print_json, printable, rows};
use super::{kdf, place};
use crate::format::ids::VolumeId;
use crate::format::slot::{Kdf, Slot};
use crate::format::volume::VolumeHeader;
use crate::store::lock::{Holder, VaultLock};
use crate::store::volume::Locked;

/// Show what a vault is, its key slots, and who has it mounted
///
/// Needs no passphrase. That also means nothing shown is verified: whether the header was tampered with is found out
/// when the vault is mounted. Times are in UTC.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  wardfs info ~/vault
  wardfs info ~/vault --json | jq -r .mounted.mountpoint")]
pub struct InfoArgs {
    /// The vault's directory
    vault: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Info {
    vault: PathBuf,
    uuid: String,
    label: String,
    created: String,
    format_version: u16,
    minimum_reader: u16,
    incompatible_features: u64,
    compatible_features: u64,
    cipher: &'static str,
    chunk_size: u64,
    header_copy: &'static str,
    slots: Vec<SlotInfo>,
    mounted: Option<MountedBy>,
}

#[derive(Debug, Serialize)]
struct SlotInfo {
    id: u32,
    kind: String,
    label: String,
    owner: String,
    created: String,
    changed: String,
    expires: Option<String>,
    kdf: KdfInfo,
}

#[derive(Debug, Serialize)]
#[serde(tag = "algorithm", rename_all = "kebab-case")]
enum KdfInfo {
    Argon2id {
        memory_kib: u32,
        time: u32,
        lanes: u32,
    },
    HkdfSha256,
}

/// What is known of the process that holds the vault's lock; a mount of another machine tells less.
#[derive(Debug, Serialize)]
struct MountedBy {
    pid: Option<u32>,
    host: Option<String>,
    mountpoint: Option<PathBuf>,
    since: Option<String>,
}

pub fn run(args: &InfoArgs) -> Result<(), Failure> {
    let vault = place::vault(&args.vault)?;
    let locked = Locked::open(&vault).map_err(|e| Failure::volume(&vault, &e))?;
    if locked.used_backup() {
        warn("the first copy of the volume header is damaged; this is the second one");
    }
    let info = Info::of(
        &vault,
        locked.header(),
        locked.used_backup(),
        mounted_by(&vault)?,
    );
    if args.json {
        print_json(&info)
    } else {
        print(&text(&info, locked.header()))
    }
}

impl Info {
    fn of(
        vault: &Path,
        header: &VolumeHeader,
        from_backup: bool,
        mounted: Option<MountedBy>,
    ) -> Self {
        Self {
            vault: vault.to_owned(),
            uuid: uuid(&header.uuid),
            label: header.label.clone(),
            created: iso_time(header.created),
            format_version: header.version,
            minimum_reader: header.min_reader,
            incompatible_features: header.incompatible,
            compatible_features: header.compatible,
            cipher: header.cipher.name(),
            chunk_size: 1 << header.log2_chunk,
            header_copy: if from_backup { "second" } else { "first" },
            slots: header.slots.iter().map(SlotInfo::of).collect(),
            mounted,
        }
    }
}

impl SlotInfo {
    fn of(slot: &Slot) -> Self {
        Self {
            id: slot.id,
            kind: slot.kind.to_string(),
            label: slot.label.clone(),
            owner: slot.owner.clone(),
            created: iso_time(slot.created),
            changed: iso_time(slot.changed),
            expires: slot.expires.map(iso_time),
            kdf: match slot.kdf {
                Kdf::Argon2id(cost) => KdfInfo::Argon2id {
                    memory_kib: cost.memory_kib,
                    time: cost.time,
                    lanes: cost.lanes,
                },
                Kdf::HkdfSha256 => KdfInfo::HkdfSha256,
            },
        }
    }
}

fn mounted_by(vault: &Path) -> Result<Option<MountedBy>, Failure> {
    let held = VaultLock::holder(vault)
        .map_err(|e| Failure::io(format!("see whether {} is mounted", vault.display()), &e))?;
    Ok(held.map(|note| MountedBy::of(place::holder(vault, note))))
}

impl MountedBy {
    fn of(holder: Option<Holder>) -> Self {
        let Some(holder) = holder else {
            return Self {
                pid: None,
                host: None,
                mountpoint: None,
                since: None,
            };
        };
        let since = i64::try_from(holder.since).ok().filter(|&since| since > 0);
        Self {
            pid: Some(holder.pid),
            host: Some(holder.host),
            mountpoint: holder.mountpoint,
            since: since.map(iso_time),
        }
    }

    fn text(&self) -> String {
        let Some(pid) = self.pid else {
            return "yes, by an unknown process".to_owned();
        };
        let place = match &self.mountpoint {
            Some(mountpoint) => format!("at {}", mountpoint.display()),
            None => "in use".to_owned(),
        };
        let host = self
            .host
            .as_deref()
            .map(|host| format!(" on {host}"))
            .unwrap_or_default();
        let since = self
            .since
            .as_deref()
            .map(|since| format!(", since {since}"))
            .unwrap_or_default();
        format!("{place}, by process {pid}{host}{since}")
    }
}

fn text(info: &Info, header: &VolumeHeader) -> String {
    let label = if info.label.is_empty() {
        "none".to_owned()
    } else {
        printable(&info.label)
    };
    let mounted = info
        .mounted
        .as_ref()
        .map_or_else(|| "no".to_owned(), MountedBy::text);
    let mut text = format!("{}\n", info.vault.display());
    text += &rows(&[
        ("uuid", info.uuid.clone()),
        ("label", label),
        ("created", info.created.clone()),
        ("format", info.format_version.to_string()),
        ("cipher", info.cipher.to_owned()),
        ("chunk size", binary_size(info.chunk_size)),
        ("mounted", mounted),
    ]);
    for (slot, shown) in header.slots.iter().zip(&info.slots) {
        text += &format!("key slot {}\n", slot.id);
        text += &slot_rows(slot, shown);
    }
    text
}

fn slot_rows(slot: &Slot, shown: &SlotInfo) -> String {
    let derivation = match &slot.kdf {
        Kdf::Argon2id(cost) => kdf::describe(cost),
        Kdf::HkdfSha256 => "HKDF-SHA-256".to_owned(),
    };
    let mut lines = vec![
        ("kind", shown.kind.clone()),
        ("derivation", derivation),
        ("created", shown.created.clone()),
    ];
    lines.push(("changed", shown.changed.clone()));
    if let Some(expires) = &shown.expires {
        lines.push(("expires", expires.clone()));
    }
    for (name, value) in [("label", &slot.label), ("owner", &slot.owner)] {
        if !value.is_empty() {
            lines.push((name, printable(value)));
        }
    }
    rows(&lines)
}

/// In the usual groups of 8-4-4-4-12 hexadecimal digits.
pub fn uuid(id: &VolumeId) -> String {
    let hex = data_encoding::HEXLOWER.encode(&id.0);
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_printed_in_the_usual_groups() {
        let id = VolumeId([
            0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54,
            0x32, 0x10,
        ]);
        assert_eq!(uuid(&id), "01234567-89ab-cdef-fedc-ba9876543210");
    }
}
