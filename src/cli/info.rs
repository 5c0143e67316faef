//! `wardfs info`: what a vault says about itself, without its secret.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::failure::{Failure, warn};
use super::output::{binary_size, iso_time, print, print_json, printable, rows};
use super::policy::{self, Policy, age_days};
use super::{kdf, place};
use crate::format::ids::VolumeId;
use crate::format::key_record::KeyRecord;
use crate::format::rotation_record::RotationRecord;
use crate::format::slot::{Kdf, Slot};
use crate::format::volume::VolumeHeader;
use crate::keys::kind;
use crate::store::last_used::LastUsed;
use crate::store::lock::{Holder, VaultLock};
use crate::store::rotation::{Note, State};
use crate::store::volume::Locked;

/// Show what a vault is, its key slots, and who has it mounted
///
/// Needs no passphrase. That also means nothing shown is verified: whether the header was tampered with is found out
/// when the vault is mounted. Times are in UTC.
///
/// If the vault breaks a rule of this machine's policy, that is said too, and the exit code is 19.
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
    epoch_created: String,
    epoch_age_days: i64,
    format_version: u16,
    minimum_reader: u16,
    incompatible_features: u64,
    compatible_features: u64,
    cipher: &'static str,
    chunk_size: u64,
    header_copy: &'static str,
    slots: Vec<SlotInfo>,
    /// Rules of this machine's policy that the vault breaks.
    broken_rules: Vec<String>,
    mounted: Option<MountedBy>,
    rotation: Option<RotationInfo>,
}

/// A rotation that is under way.
#[derive(Debug, Serialize)]
struct RotationInfo {
    since: String,
    paused: bool,
    /// The daemon of a mount goes on with it.
    background: bool,
    /// MiB each second.
    rate: Option<u32>,
    /// How far it was when it was last noted; `None` where no mount works on it.
    progress: Option<Note>,
}

#[derive(Debug, Serialize)]
pub struct SlotInfo {
    id: u32,
    kind: String,
    /// What the kind keeps: the name of a credential, a command, how many shares.
    detail: String,
    label: String,
    owner: String,
    created: String,
    changed: String,
    /// Days since the secret was changed, and with it the cost of the derivation.
    age_days: i64,
    last_used: Option<String>,
    expires: Option<String>,
    kdf: KdfInfo,
}

#[derive(Debug, Serialize)]
#[serde(tag = "algorithm", rename_all = "kebab-case")]
pub enum KdfInfo {
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
    let header = locked.header();
    let policy = Policy::load()?;
    let broken = policy.of_vault(header, epoch_created(header));
    let info = Info::of(
        &vault,
        header,
        locked.used_backup(),
        broken.iter().map(ToString::to_string).collect(),
        mounted_by(&vault)?,
    );
    if args.json {
        print_json(&info)?;
    } else {
        print(&text(&info, header))?;
    }
    policy::enforce(&broken)
}

/// When the newest content epoch began, by what the header says outside its sealed keyring.
pub fn epoch_created(header: &VolumeHeader) -> i64 {
    let record = KeyRecord::of(header).unwrap_or_default();
    record.newest_epoch.unwrap_or(header.created)
}

impl Info {
    fn of(
        vault: &Path,
        header: &VolumeHeader,
        from_backup: bool,
        broken_rules: Vec<String>,
        mounted: Option<MountedBy>,
    ) -> Self {
        let used = LastUsed::read(vault);
        let epoch_created = epoch_created(header);
        Self {
            vault: vault.to_owned(),
            uuid: uuid(&header.uuid),
            label: header.label.clone(),
            created: iso_time(header.created),
            epoch_created: iso_time(epoch_created),
            epoch_age_days: age_days(epoch_created),
            format_version: header.version,
            minimum_reader: header.min_reader,
            incompatible_features: header.incompatible,
            compatible_features: header.compatible,
            cipher: header.cipher.name(),
            chunk_size: 1 << header.log2_chunk,
            header_copy: if from_backup { "second" } else { "first" },
            slots: header
                .slots
                .iter()
                .map(|slot| SlotInfo::of(slot, &used))
                .collect(),
            broken_rules,
            rotation: RotationInfo::of(vault, header, mounted.is_some()),
            mounted,
        }
    }
}

impl RotationInfo {
    fn of(vault: &Path, header: &VolumeHeader, is_mounted: bool) -> Option<Self> {
        let record = RotationRecord::of(header).ok().flatten()?;
        Some(Self {
            since: iso_time(epoch_created(header)),
            paused: record.paused,
            background: record.background,
            rate: record.rate,
            progress: Note::read(vault).filter(|_| is_mounted && record.background),
        })
    }

    fn text(&self) -> String {
        let mut text = format!("under way since {}", self.since);
        match &self.progress {
            _ if self.paused => text += ", paused",
            Some(note) => text += &progress(note),
            None if self.background => text += ", goes on after the next mount",
            None => text += ", waits for 'wardfs rotate'",
        }
        text
    }
}

fn progress(note: &Note) -> String {
    let share = match note.total {
        Some(total) if total > 0 => format!(", {} %", note.done.min(total) * 100 / total),
        _ => String::new(),
    };
    match note.state {
        State::Running | State::Paused | State::Complete => share,
        State::Incomplete => format!(
            ", waits because {} files were passed over",
            note.passed_over
        ),
        State::Failing => format!("{share}, cannot go on"),
    }
}

impl SlotInfo {
    pub fn of(slot: &Slot, used: &LastUsed) -> Self {
        Self {
            id: slot.id,
            kind: slot.kind.to_string(),
            detail: kind::describe(slot),
            label: slot.label.clone(),
            owner: slot.owner.clone(),
            created: iso_time(slot.created),
            changed: iso_time(slot.changed),
            age_days: age_days(slot.changed),
            last_used: used.of(slot.id).map(iso_time),
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
    let mut lines = vec![
        ("uuid", info.uuid.clone()),
        ("label", label),
        ("created", info.created.clone()),
        (
            "epoch",
            format!("{} ({})", info.epoch_created, days(info.epoch_age_days)),
        ),
        ("format", info.format_version.to_string()),
        ("cipher", info.cipher.to_owned()),
        ("chunk size", binary_size(info.chunk_size)),
        ("mounted", mounted),
    ];
    if let Some(rotation) = &info.rotation {
        lines.push(("rotation", rotation.text()));
    }
    text += &rows(&lines);
    for (slot, shown) in header.slots.iter().zip(&info.slots) {
        text += &format!("key slot {}\n", slot.id);
        text += &slot_rows(slot, shown);
    }
    text
}

/// `1 day old`.
fn days(age: i64) -> String {
    format!("{age} {} old", if age == 1 { "day" } else { "days" })
}

pub fn slot_rows(slot: &Slot, shown: &SlotInfo) -> String {
    let derivation = match &slot.kdf {
        Kdf::Argon2id(cost) => kdf::describe(cost),
        Kdf::HkdfSha256 => "HKDF-SHA-256".to_owned(),
    };
    let kind = match shown.detail.as_str() {
        "" => shown.kind.clone(),
        detail => format!("{}: {}", shown.kind, printable(detail)),
    };
    let mut lines = vec![
        ("kind", kind),
        ("derivation", derivation),
        ("created", shown.created.clone()),
    ];
    lines.push((
        "changed",
        format!("{} ({})", shown.changed, days(shown.age_days)),
    ));
    if let Some(used) = &shown.last_used {
        lines.push(("last used", used.clone()));
    }
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
