//! `wardfs completions`: what a shell needs to complete the command line.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::args::Cli;
use super::failure::Failure;
use super::output::print;

/// Print the completion script of a shell
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  wardfs completions bash > ~/.local/share/bash-completion/completions/wardfs
  wardfs completions zsh > ~/.zfunc/_wardfs
  wardfs completions fish > ~/.config/fish/completions/wardfs.fish")]
pub struct CompletionsArgs {
    shell: Shell,
}

pub fn run(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "wardfs", &mut script);
    print(&String::from_utf8_lossy(&script))
}
