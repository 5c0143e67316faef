//! The command line: verbs, questions, messages, exit codes and going to the background.
//!
//! Only this module prints and ends the process. What a verb does to a vault is done in the layers below.

mod args;
mod bench;
mod check;
mod command;
mod completions;
mod daemons;
mod erase;
mod etc;
pub mod exit;
mod failure;
mod finding;
mod header;
mod info;
mod init;
mod kdf;
mod key;
mod log;
mod mount;
mod output;
mod place;
mod policy;
mod progress;
mod qr;
mod recovered;
mod rotate;
mod secret;
mod serve;
mod size;
mod source;
mod umount;
mod unlock;
mod version;

use clap::Parser;

use args::{Cli, Reader, Verb};
use exit::Exit;

/// Runs the command line of this process.
pub fn main() -> Exit {
    let cli = Cli::parse();
    let verbosity = cli.verbosity();
    log::start(verbosity.level(Reader::Present));
    let done = match &cli.verb {
        Verb::Init(args) => init::run(args, verbosity),
        Verb::Mount(args) => match mount::run(args, verbosity) {
            Ok(exit) => return exit,
            Err(failure) => Err(failure),
        },
        Verb::Umount(args) => umount::run(args, verbosity),
        Verb::Info(args) => info::run(args),
        Verb::Passwd(args) => key::change::run(args, verbosity),
        Verb::Key(args) => key::run(args, verbosity),
        Verb::Header(args) => header::run(args, verbosity),
        Verb::Erase(args) => erase::run(args, verbosity),
        Verb::Check(args) => match check::run(args, verbosity) {
            Ok(exit) => return exit,
            Err(failure) => Err(failure),
        },
        Verb::Rotate(args) => match rotate::run(args, verbosity) {
            Ok(exit) => return exit,
            Err(failure) => Err(failure),
        },
        Verb::Bench(args) => bench::run(args),
        Verb::Version(args) => version::run(args),
        Verb::Completions(args) => completions::run(args),
    };
    match done {
        Ok(()) => Exit::Success,
        Err(failure) => {
            failure.print();
            failure.exit
        }
    }
}
