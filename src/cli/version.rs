//! `wardfs version`: what this program is and which vaults it reads.

use clap::Args;
use serde::Serialize;

use super::failure::Failure;
use super::output::{print, print_json, rows};
use crate::crypto::Cipher;
use crate::format::volume::FORMAT_VERSION;

/// Print the version of the program and of the vault format
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  wardfs version
  wardfs version --json")]
pub struct VersionArgs {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Version {
    version: &'static str,
    format_version: u16,
    ciphers: Vec<&'static str>,
    default_cipher: &'static str,
    key_derivation: &'static str,
    target: String,
}

pub fn run(args: &VersionArgs) -> Result<(), Failure> {
    let version = Version {
        version: env!("CARGO_PKG_VERSION"),
        format_version: FORMAT_VERSION,
        ciphers: Cipher::ALL.iter().map(|cipher| cipher.name()).collect(),
        default_cipher: Cipher::preferred().name(),
        key_derivation: "argon2id",
        target: target(),
    };
    if args.json {
        return print_json(&version);
    }
    let table = rows(&[
        ("format", version.format_version.to_string()),
        ("ciphers", version.ciphers.join(", ")),
        (
            "default",
            format!("{} on this machine", version.default_cipher),
        ),
        ("keys", version.key_derivation.to_owned()),
        ("target", version.target),
    ]);
    print(&format!("wardfs {}\n{table}", version.version))
}

fn target() -> String {
    let libc = if cfg!(target_env = "musl") {
        "musl"
    } else {
        "gnu"
    };
    let profile = if cfg!(debug_assertions) {
        ", debug build"
    } else {
        ""
    };
    format!(
        "{}-{}-{libc}{profile}",
        std::env::consts::ARCH,
        std::env::consts::OS
    )
}
