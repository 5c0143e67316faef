//! The command line as a whole: the program, its verbs and the options common to all of them.
//!
//! Help and completions are made from these types. What a verb's options mean is decided in the verb's own file.

use clap::{ArgAction, Parser, Subcommand};
use log::LevelFilter;

use super::{
    bench, check, completions, erase, exit, header, info, init, key, mount, rotate, umount, version,
};

/// Encrypted directories
///
/// A vault is an ordinary directory that holds only ciphertext: one encrypted file per file. Mounted, it shows its
/// content as a folder in which every program works; unmounted, it can be copied, synchronised and backed up like
/// any directory.
#[derive(Debug, Parser)]
#[command(
    name = "wardfs",
    version,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "'wardfs help VERB' explains one verb, with examples.",
    after_long_help = after_long_help(),
)]
pub struct Cli {
    #[command(subcommand)]
    pub verb: Verb,

    /// Say more about what happens; twice for debugging
    ///
    /// What is logged can be told more finely by the environment variable WARDFS_LOG, for example
    /// WARDFS_LOG=wardfs::store=debug. Names and content of files are never logged.
    #[arg(short, long, action = ArgAction::Count, global = true, conflicts_with = "quiet")]
    verbose: u8,

    /// Print errors only
    #[arg(short, long, global = true)]
    quiet: bool,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    Init(init::InitArgs),
    Mount(mount::MountArgs),
    Umount(umount::UmountArgs),
    Info(info::InfoArgs),
    Passwd(key::change::ChangeArgs),
    Key(key::KeyArgs),
    Header(header::HeaderArgs),
    Erase(erase::EraseArgs),
    Check(check::CheckArgs),
    Rotate(rotate::RotateArgs),
    Bench(bench::BenchArgs),
    Version(version::VersionArgs),
    Completions(completions::CompletionsArgs),
}

/// How much is logged, unless `WARDFS_LOG` says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verbosity {
    Quiet,
    Normal,
    Verbose,
    Debug,
}

/// Who reads the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// The person at the terminal.
    Present,
    /// Somebody who was not there, and needs to be told more.
    Later,
}

impl Verbosity {
    pub fn level(self, reader: Reader) -> LevelFilter {
        match (self, reader) {
            (Self::Quiet, _) => LevelFilter::Error,
            (Self::Normal, Reader::Present) => LevelFilter::Warn,
            (Self::Normal, Reader::Later) | (Self::Verbose, _) => LevelFilter::Info,
            (Self::Debug, _) => LevelFilter::Debug,
        }
    }
}

impl Cli {
    pub fn verbosity(&self) -> Verbosity {
        match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (false, 0) => Verbosity::Normal,
            (false, 1) => Verbosity::Verbose,
            (false, _) => Verbosity::Debug,
        }
    }
}

fn after_long_help() -> String {
    format!(
        "\
Examples:
  wardfs init ~/vault               make a vault, with a passphrase
  wardfs mount ~/vault ~/private    open it as the folder ~/private
  wardfs umount ~/private           close it
  wardfs info ~/vault               what kind of vault it is, and who has it mounted
  wardfs check ~/vault              whether everything in it can be read

'wardfs help VERB' explains one verb, with examples.

{}",
        exit::table()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_teaches_with_examples() {
        for verb in Cli::command().get_subcommands() {
            let long = verb.clone().render_long_help().to_string();
            assert!(long.contains("Examples:"), "{}", verb.get_name());
            assert!(verb.get_about().is_some(), "{}", verb.get_name());
        }
    }

    #[test]
    fn examples_are_not_wrapped() {
        for verb in Cli::command().get_subcommands() {
            let examples = verb
                .get_after_long_help()
                .expect("tested above")
                .to_string();
            for line in examples.lines() {
                assert!(line.chars().count() <= 100, "{}: {line}", verb.get_name());
            }
        }
    }

    #[test]
    fn no_option_takes_a_secret_as_its_value() {
        for verb in Cli::command().get_subcommands() {
            for option in verb.get_arguments() {
                let name = option.get_id().as_str();
                assert!(
                    !matches!(name, "passphrase" | "password" | "new_passphrase" | "key"),
                    "{name}"
                );
            }
        }
    }
}
