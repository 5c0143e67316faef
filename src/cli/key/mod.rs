//! `wardfs key`: the key slots of a vault.
//!
//! What its verbs have in common is in [`session`].

mod acknowledge;
mod add;
pub mod change;
mod label;
mod list;
mod new_secret;
mod remove;
pub mod session;
mod show;
mod test;
mod upgrade;

use clap::{Args, Subcommand};

use super::args::Verbosity;
use super::failure::Failure;

/// Look after the key slots of a vault
///
/// A vault has up to 64 key slots. Each holds the key of the vault, sealed under a secret of its own: a passphrase, key
/// files, a recovery key and so on. Any one of them opens the vault.
///
/// All of it may be done while the vault is mounted. A copy of the vault made earlier still opens with the secrets it
/// had then.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  wardfs key list ~/vault
  wardfs key add ~/vault --label laptop --owner 'A. Keeper'
  wardfs key add ~/vault --recovery
  wardfs key remove ~/vault 3

'wardfs help key VERB' explains one of them, with examples.")]
pub struct KeyArgs {
    #[command(subcommand)]
    verb: KeyVerb,
}

#[derive(Debug, Subcommand)]
enum KeyVerb {
    List(list::ListArgs),
    Add(add::AddArgs),
    Remove(remove::RemoveArgs),
    Change(change::ChangeArgs),
    Test(test::TestArgs),
    Label(label::LabelArgs),
    Upgrade(upgrade::UpgradeArgs),
    Acknowledge(acknowledge::AcknowledgeArgs),
}

pub fn run(args: &KeyArgs, verbosity: Verbosity) -> Result<(), Failure> {
    match &args.verb {
        KeyVerb::List(args) => list::run(args),
        KeyVerb::Add(args) => add::run(args, verbosity),
        KeyVerb::Remove(args) => remove::run(args, verbosity),
        KeyVerb::Change(args) => change::run(args, verbosity),
        KeyVerb::Test(args) => test::run(args, verbosity),
        KeyVerb::Label(args) => label::run(args, verbosity),
        KeyVerb::Upgrade(args) => upgrade::run(args, verbosity),
        KeyVerb::Acknowledge(args) => acknowledge::run(args, verbosity),
    }
}
