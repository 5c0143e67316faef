//! Files of the administrator in `/etc/wardfs`: believed only if nobody else can have written them.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::exit::Exit;
use super::failure::Failure;

/// The text of a file that belongs to root and that only root can write; `None` if there is none.
///
/// What is there and cannot be believed is an error, never the same as nothing.
pub fn read(path: &Path) -> Result<Option<String>, Failure> {
    let shown = path.display();
    let unreadable = |e: io::Error| Failure::new(Exit::Policy, format!("cannot read {shown}: {e}"));
    let mut file = match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(unreadable)?,
    };
    let metadata = file.metadata().map_err(unreadable)?;
    if metadata.uid() != 0 || metadata.mode() & 0o022 != 0 {
        let message = format!("{shown} is not believed: others than root can write it");
        return Err(Failure::new(Exit::Policy, message)
            .advise(format!("chown root {shown} && chmod go-w {shown}")));
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(unreadable)?;
    Ok(Some(text))
}
