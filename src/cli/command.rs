//! Key commands as they are typed and as the administrator lists them: words as a shell would split them, and nothing
//! else that a shell does.

use std::path::Path;

use super::etc;
use super::exit::Exit;
use super::failure::Failure;

/// The commands that may be run for any vault on this machine, one on a line.
pub const TRUSTED: &str = "/etc/wardfs/commands";

/// The words of a command line.
pub fn words(line: &str) -> Result<Vec<String>, String> {
    match shlex::split(line) {
        Some(words) if !words.is_empty() => Ok(words),
        Some(_) => Err("the command is empty".to_owned()),
        None => Err("a quotation mark is not closed".to_owned()),
    }
}

/// What the administrator allows.
pub fn trusted() -> Result<Vec<Vec<String>>, Failure> {
    let Some(text) = etc::read(Path::new(TRUSTED))? else {
        return Ok(Vec::new());
    };
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let wrong = |e| Failure::new(Exit::Policy, format!("{TRUSTED}: {line:?}: {e}"));
            words(line).map_err(wrong)
        })
        .collect()
}
