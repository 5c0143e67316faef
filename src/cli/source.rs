//! The places a passphrase or key file can be read from, each read into locked memory.
//!
//! Which place is used is decided in `secret`.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use zeroize::Zeroizing;

use super::exit::Exit;
use super::failure::{Failure, warn};
use crate::keys::secret::hash_keyfile;
use crate::sys::secret::{SecretBytes, SecretVec};
use crate::sys::terminal::{Answer, Terminal};

pub type Passphrase = SecretVec;

/// More than a person types and less than a key file; also what a terminal line holds.
const LONGEST: usize = 4095;

/// Where a passphrase comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Terminal,
    File(PathBuf),
    Fd(i32),
    /// A line for `sh -c`.
    Command(String),
    /// A file systemd has put there (`LoadCredential=`, systemd.exec(5)).
    Credential(PathBuf),
}

/// Where the options say the passphrase is. More than one is refused before (clap group).
#[derive(Debug)]
pub struct Told<'a> {
    pub file: Option<&'a Path>,
    pub fd: Option<i32>,
    pub command: Option<&'a str>,
    pub ask: bool,
}

impl Told<'_> {
    pub fn source(&self) -> Option<Source> {
        self.file
            .map(|path| Source::File(path.to_owned()))
            .or(self.fd.map(Source::Fd))
            .or(self.command.map(|line| Source::Command(line.to_owned())))
            .or(self.ask.then_some(Source::Terminal))
    }
}

/// The credential of this name, if the service manager has given one.
pub fn credential(name: &str) -> Option<Source> {
    let path = PathBuf::from(std::env::var_os("CREDENTIALS_DIRECTORY")?).join(name);
    path.is_file().then_some(Source::Credential(path))
}

impl Source {
    /// Reads to the end and takes one newline off it. [`Source::Terminal`] is asked with [`ask`] instead.
    pub fn read(&self) -> Result<Passphrase, Failure> {
        let read = match self {
            Self::Terminal => unreachable!("a terminal is asked, not read"),
            Self::File(path) => {
                warn_if_exposed(path);
                File::open(path).and_then(read_passphrase)
            }
            Self::Credential(path) => File::open(path).and_then(read_passphrase),
            Self::Fd(number) => crate::sys::fd::inherited(*number).and_then(read_passphrase),
            Self::Command(line) => read_from_command(line),
        };
        read.map_err(|e| {
            Failure::new(
                Exit::NoSecret,
                format!("cannot read the passphrase from {}: {e}", self.describe()),
            )
        })
    }

    fn describe(&self) -> String {
        match self {
            Self::Terminal => "the terminal".to_owned(),
            Self::File(path) => path.display().to_string(),
            Self::Credential(path) => format!("the credential {}", path.display()),
            Self::Fd(number) => format!("file descriptor {number}"),
            Self::Command(_) => "the passphrase command".to_owned(),
        }
    }
}

/// Asks on the terminal, without echo.
pub fn ask(terminal: &Terminal, question: &str) -> Result<Passphrase, Failure> {
    let typed = std::cell::RefCell::new(SecretVec::with_capacity(LONGEST));
    let answer = terminal
        .ask_hidden(
            question,
            |piece| typed.borrow_mut().extend_from_slice(piece),
            || typed.borrow_mut().clear(),
        )
        .map_err(|e| {
            Failure::new(
                Exit::NoSecret,
                format!("cannot read from the terminal: {e}"),
            )
        })?;
    let typed = typed.into_inner();
    match answer {
        Answer::Cancelled => Err(Failure::new(Exit::NoSecret, "no passphrase was typed")),
        Answer::Line if typed.is_empty() => {
            Err(Failure::new(Exit::NoSecret, "the passphrase is empty"))
        }
        Answer::Line => Ok(typed),
    }
}

/// What stands for a key file: the hash of all of it.
pub fn read_keyfile(path: &Path) -> Result<SecretBytes<32>, Failure> {
    warn_if_exposed(path);
    File::open(path)
        .and_then(|mut file| hash_keyfile(&mut file))
        .map_err(|e| {
            Failure::new(
                Exit::NoSecret,
                format!("cannot read key file {}: {e}", path.display()),
            )
        })
}

fn read_from_command(line: &str) -> io::Result<Passphrase> {
    let mut child = Command::new("/bin/sh")
        .arg("-c")
        .arg(line)
        .stdout(Stdio::piped())
        .spawn()?;
    let output = child.stdout.take().expect("stdout is piped");
    // Read to the end in any case, so that the command is not killed by a closed pipe and its status says the truth.
    let passphrase = read_passphrase(output);
    let status = child.wait()?;
    if !status.success() {
        return Err(io::Error::other(format!("it failed ({status})")));
    }
    passphrase
}

fn read_passphrase(mut from: impl Read) -> io::Result<Passphrase> {
    let mut passphrase = SecretVec::with_capacity(LONGEST + 2);
    let mut piece = Zeroizing::new([0_u8; 512]);
    loop {
        match from.read(&mut piece[..]) {
            Ok(0) => break,
            Ok(n) if passphrase.len() + n > LONGEST + 2 => return Err(too_long()),
            Ok(n) => passphrase.extend_from_slice(&piece[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    let bytes = passphrase.as_bytes();
    let without_newline = bytes
        .strip_suffix(b"\n")
        .map_or(bytes, |line| line.strip_suffix(b"\r").unwrap_or(line));
    let length = without_newline.len();
    passphrase.truncate(length);
    match length {
        0 => Err(io::Error::new(io::ErrorKind::InvalidData, "it is empty")),
        1..=LONGEST => Ok(passphrase),
        _ => Err(too_long()),
    }
}

fn too_long() -> io::Error {
    let words = format!("it is longer than {LONGEST} bytes; is it a key file? Then use --keyfile");
    io::Error::new(io::ErrorKind::InvalidData, words)
}

/// A secret in a file is as safe as the file's mode.
fn warn_if_exposed(path: &Path) {
    let Ok(metadata) = path.metadata() else {
        return;
    };
    let mode = metadata.permissions().mode() & 0o7777;
    if metadata.is_file() && mode & 0o077 != 0 {
        warn(format!(
            "{} is accessible to other users (mode {mode:04o}); chmod 600 would end that",
            path.display()
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<u8>, String> {
        read_passphrase(bytes)
            .map(|p| p.as_bytes().to_vec())
            .map_err(|e| e.to_string())
    }

    #[test]
    fn exactly_one_newline_is_taken_off() {
        for (file, passphrase) in [
            (&b"secret"[..], &b"secret"[..]),
            (b"secret\n", b"secret"),
            (b"secret\r\n", b"secret"),
            (b"secret\n\n", b"secret\n"),
            (b"secret\r", b"secret\r"),
            (b" two words \n", b" two words "),
            (b"a\nb", b"a\nb"),
            (b"\0\xff", b"\0\xff"),
        ] {
            assert_eq!(read(file).as_deref(), Ok(passphrase));
        }
    }

    #[test]
    fn an_empty_passphrase_is_refused() {
        for file in [&b""[..], b"\n", b"\r\n"] {
            assert_eq!(read(file), Err("it is empty".to_owned()));
        }
    }

    #[test]
    fn a_passphrase_may_be_4095_bytes_long_and_no_longer() {
        let mut file = vec![b'x'; LONGEST];
        file.extend(b"\r\n");
        assert_eq!(read(&file).map(|p| p.len()), Ok(LONGEST));
        file[LONGEST] = b'x';
        assert!(read(&file).is_err_and(|e| e.contains("--keyfile")));
        assert!(read(&vec![b'x'; 1 << 20]).is_err());
    }

    #[test]
    fn a_command_that_fails_gives_no_passphrase() {
        let said = |line| {
            read_from_command(line)
                .map(|p| p.as_bytes().to_vec())
                .map_err(|e| e.to_string())
        };
        assert_eq!(said("printf 'a b\\n'"), Ok(b"a b".to_vec()));
        assert!(
            said("echo secret; exit 3").is_err_and(|e| e.contains('3') && !e.contains("secret"))
        );
    }
}
