//! `wardfs init`: makes a vault and says what it chose.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use rustix::fs::Mode;
use serde::Serialize;

use super::args::Verbosity;
use super::exit::Exit;
use super::failure::{Failure, warn};
use super::kdf::{self, KdfArgs, Reason, Weak};
use super::output::{binary_size, print, print_json, rows};
use super::secret::{Role, SecretArgs};
use super::{info, size};
use crate::crypto::Cipher;
use crate::format::volume::VolumeHeader;
use crate::store::upkeep::JournalMode;
use crate::store::volume::{self, InitParams};
use crate::sys::secret::harden_process;

/// A derivation that was meant to take a second and takes so little is short of memory.
const CHEAP: Duration = Duration::from_millis(250);
const CHUNK_SIZES: [u64; 5] = [4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10];

/// Make a vault
///
/// Makes a vault in VAULT, a directory that is empty or does not exist yet, and asks for its passphrase twice.
///
/// There is no way to read a vault whose passphrase and key file are lost.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  wardfs init ~/vault
  wardfs init /srv/scans --label 'CT 2' --keyfile /root/scans.key
  wardfs init /srv/scans --passphrase-file /run/secrets/scans --json

A key file is best made from random bytes:
  (umask 077; head -c 64 /dev/urandom > scans.key)

If $CREDENTIALS_DIRECTORY holds a file 'wardfs.passphrase' (systemd: LoadCredential=), the
passphrase is taken from it unless an option says otherwise.")]
pub struct InitArgs {
    /// The vault's directory, empty or to be made
    vault: PathBuf,

    /// Cipher of the content: auto, xaes-256-gcm or xchacha20-poly1305
    ///
    /// auto takes xaes-256-gcm where the CPU has instructions for AES, else xchacha20-poly1305. Both are equally
    /// strong; 'wardfs bench' shows how fast each is here.
    #[arg(long, value_name = "CIPHER", default_value = "auto", value_parser = cipher, hide_possible_values = true)]
    cipher: CipherChoice,

    /// Bytes encrypted together: 4K, 8K, 16K, 32K or 64K
    ///
    /// Larger chunks save space and make large sequential reads faster; every small random write costs a whole chunk.
    #[arg(long, value_name = "SIZE", default_value = "4K", value_parser = chunk_size)]
    chunk_size: u32,

    /// Whether the volume has a redo journal, which keeps what was synced whole through a power cut
    #[arg(long, value_name = "full|off", default_value = "full", value_parser = journal_mode)]
    journal: JournalMode,

    /// A name for the vault, stored readable for everybody
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    label: String,

    /// Accept a key derivation with less than 64 MiB of memory
    #[arg(long)]
    force: bool,

    /// Print what was made as one JSON object
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    kdf: KdfArgs,

    #[command(flatten)]
    secret: SecretArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CipherChoice {
    Auto,
    Told(Cipher),
}

fn cipher(text: &str) -> Result<CipherChoice, String> {
    if text == "auto" {
        return Ok(CipherChoice::Auto);
    }
    text.parse().map(CipherChoice::Told).map_err(|_| {
        let [a, b] = Cipher::ALL;
        format!("use auto, {a} or {b}")
    })
}

pub(super) fn journal_mode(text: &str) -> Result<JournalMode, String> {
    let known = JournalMode::ALL.into_iter().find(|m| m.name() == text);
    known.ok_or_else(|| format!("there is no journal mode {text:?}: use full or off"))
}

fn chunk_size(text: &str) -> Result<u32, String> {
    let bytes = size::parse(text)?;
    u32::try_from(bytes)
        .ok()
        .filter(|_| CHUNK_SIZES.contains(&bytes))
        .ok_or_else(|| "use 4K, 8K, 16K, 32K or 64K".to_owned())
}

#[derive(Debug, Serialize)]
struct Made<'a> {
    vault: &'a Path,
    uuid: String,
    label: &'a str,
    cipher: &'static str,
    chunk_size: u32,
    journal: &'static str,
    slot: u32,
    slot_kind: String,
    kdf_memory_kib: u32,
    kdf_time: u32,
    kdf_lanes: u32,
    kdf_milliseconds: u128,
}

pub fn run(args: &InitArgs, verbosity: Verbosity) -> Result<(), Failure> {
    harden_process();
    refuse_used_directory(&args.vault)?;
    if args.label.len() > crate::format::slot::MAX_LABEL {
        return Err(Failure::new(
            Exit::Usage,
            "the label is longer than 255 bytes",
        ));
    }
    let weak = if args.force {
        Weak::Accept
    } else {
        Weak::Refuse
    };
    // What is out of bounds is refused before anybody types a passphrase twice.
    let chosen = args.kdf.choose(weak)?;
    let secret = args
        .secret
        .plan(Role::New)
        .collect(&args.vault.display().to_string())?;
    let params = InitParams {
        cipher: match args.cipher {
            CipherChoice::Auto => Cipher::preferred(),
            CipherChoice::Told(cipher) => cipher,
        },
        chunk_size: args.chunk_size,
        label: args.label.clone(),
        kdf: chosen.params,
        journal: args.journal,
    };
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    let begin = Instant::now();
    let header = volume::init(&args.vault, &params, &secret)
        .map_err(|e| Failure::volume(&args.vault, &e))?;
    // Nearly all of it is the key derivation.
    report(
        args,
        &params,
        chosen.reason,
        &header,
        begin.elapsed(),
        verbosity,
    )
}

/// Before any secret is asked for; `init` in the store checks again.
fn refuse_used_directory(vault: &Path) -> Result<(), Failure> {
    let shown = vault.display();
    match fs::read_dir(vault).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(()),
        Ok(false) if vault.join("~wardfs").exists() => Err(Failure::new(
            Exit::NotEmpty,
            format!("{shown} is a vault already"),
        )
        .advise(format!("To look at it: wardfs info {shown}"))),
        Ok(false) => Err(Failure::volume(vault, &volume::VolumeError::NotEmpty)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let parent = vault
                .parent()
                .filter(|p| !p.as_os_str().is_empty())
                .unwrap_or(Path::new("."));
            if parent.is_dir() {
                return Ok(());
            }
            let parent = parent.display();
            Err(Failure::new(
                Exit::Failed,
                format!("cannot make {shown}: {parent} does not exist"),
            )
            .advise(format!("To make it: mkdir -p {parent}")))
        }
        Err(e) => Err(Failure::io(format!("make a vault in {shown}"), &e)),
    }
}

fn report(
    args: &InitArgs,
    params: &InitParams,
    reason: Reason,
    header: &VolumeHeader,
    took: Duration,
    verbosity: Verbosity,
) -> Result<(), Failure> {
    let slot = header.slots.first().expect("a new vault has one key slot");
    if args.json {
        return print_json(&Made {
            vault: &args.vault,
            uuid: info::uuid(&header.uuid),
            label: &header.label,
            cipher: params.cipher.name(),
            chunk_size: params.chunk_size,
            journal: params.journal.name(),
            slot: slot.id,
            slot_kind: slot.kind.to_string(),
            kdf_memory_kib: params.kdf.memory_kib,
            kdf_time: params.kdf.time,
            kdf_lanes: params.kdf.lanes,
            kdf_milliseconds: took.as_millis(),
        });
    }
    if verbosity == Verbosity::Quiet {
        return Ok(());
    }
    let shown = args.vault.display();
    let mut table = vec![("uuid", info::uuid(&header.uuid))];
    if !header.label.is_empty() {
        table.push(("label", header.label.clone()));
    }
    table.push((
        "cipher",
        format!(
            "{} ({})",
            params.cipher,
            cipher_reason(args.cipher, params.cipher)
        ),
    ));
    table.push((
        "chunk size",
        format!(
            "{} ({})",
            binary_size(params.chunk_size.into()),
            chunk_reason(args)
        ),
    ));
    if params.journal == JournalMode::Off {
        table.push((
            "journal",
            "off: a power cut may tear what is being overwritten".into(),
        ));
    }
    table.push(("secret", slot.kind.to_string()));
    table.push((
        "derivation",
        format!(
            "{} ({})",
            kdf::describe(&params.kdf),
            kdf_reason(reason, took)
        ),
    ));
    print(&format!(
        "Made the vault {shown}\n{}To mount it: wardfs mount {shown} MOUNTPOINT\n",
        rows(&table)
    ))?;
    if reason == Reason::Measured && took < CHEAP {
        warn("memory is short here, so the key derivation is cheap; choose a long passphrase");
    }
    Ok(())
}

fn cipher_reason(choice: CipherChoice, cipher: Cipher) -> &'static str {
    match (choice, cipher) {
        (CipherChoice::Told(_), _) => "as told",
        (CipherChoice::Auto, Cipher::Xaes256Gcm) => "this CPU has instructions for AES",
        (CipherChoice::Auto, Cipher::XChaCha20Poly1305) => "this CPU has no instructions for AES",
    }
}

fn chunk_reason(args: &InitArgs) -> &'static str {
    if args.chunk_size == 4096 {
        "suits most uses"
    } else {
        "as told"
    }
}

fn kdf_reason(reason: Reason, took: Duration) -> String {
    let reason = match reason {
        Reason::Measured => "measured here",
        Reason::Told => "as told",
    };
    format!("{reason}: {:.1} s for each try", took.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_one_of_five_sizes() {
        assert_eq!(chunk_size("4K"), Ok(4096));
        assert_eq!(chunk_size("65536"), Ok(65536));
        for refused in ["0", "4097", "2K", "128K", "1G", "99G", "x"] {
            assert!(chunk_size(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn a_cipher_is_named_or_left_to_the_program() {
        assert_eq!(cipher("auto"), Ok(CipherChoice::Auto));
        assert_eq!(
            cipher("xaes-256-gcm"),
            Ok(CipherChoice::Told(Cipher::Xaes256Gcm))
        );
        assert_eq!(
            cipher("rot13"),
            Err("use auto, xaes-256-gcm or xchacha20-poly1305".to_owned())
        );
    }
}
