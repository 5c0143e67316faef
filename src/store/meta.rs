//! `~wardfs` by descriptor: what is in it may have been put there by somebody who wants this program to write elsewhere,
//! so no link is followed and nothing but a file is opened.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, open, openat};

use crate::store::layout;

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// `~wardfs` of a vault.
pub fn dir(vault: &Path) -> io::Result<OwnedFd> {
    Ok(open(layout::meta(vault), DIRECTORY, Mode::empty())?)
}

/// A directory below.
pub fn dir_in(dir: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    Ok(openat(dir, name, DIRECTORY, Mode::empty())?)
}

/// A file in it; `flags` say what for.
pub fn file(dir: &OwnedFd, name: &str, flags: OFlags, mode: u16) -> io::Result<File> {
    let safe = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(mode.into());
    let file = File::from(openat(dir, name, flags | safe, mode)?);
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other(format!("{name} is not a file")))
    }
}

/// The text of a note for people; at most so many bytes of it.
pub fn note(vault: &Path, name: &str, longest: u64) -> io::Result<String> {
    let meta = dir(vault)?;
    // To look is no access; only the owner may say so.
    let quietly = OFlags::RDONLY | OFlags::NOATIME;
    let file = match file(&meta, name, quietly, 0) {
        Err(e) if e.raw_os_error() == Some(libc::EPERM) => file(&meta, name, OFlags::RDONLY, 0),
        other => other,
    }?;
    let mut text = String::new();
    file.take(longest).read_to_string(&mut text)?;
    Ok(text)
}
