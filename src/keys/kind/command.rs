//! A command: a program that writes the secret to its standard output. The slot keeps its arguments and its time limit.
//!
//! ```text
//! timeout u16, seconds | count u8 | count times: length u16 | bytes                             little-endian
//! ```
//!
//! There is no shell. An attacker who can write the header can write any command into it, so a stored command is run
//! only if it is one that the user, or the administrator of this machine, has named himself.

use std::io::{self, Read};
use std::process::{self, Child, Stdio};
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::{Created, Kind, KindError};
use crate::format::slot::{MAX_SLOT_DATA, SlotKind};
use crate::keys::secret::SlotSecret;
use crate::sys::secret::SecretBytes;

/// Enough for a key server on the other side of the world.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
pub const MAX_TIMEOUT: Duration = Duration::from_secs(3600);
/// A secret is no longer.
const MAX_OUTPUT: usize = 1 << 20;

/// What a slot keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCommand {
    pub argv: Vec<String>,
    /// Whole seconds.
    pub timeout: Duration,
}

/// Runs those that are `permitted`, and no other.
#[derive(Debug)]
pub struct Command {
    /// Of a new slot; it is always permitted.
    pub new: Option<StoredCommand>,
    pub permitted: Vec<Vec<String>>,
}

impl StoredCommand {
    /// # Errors
    /// [`KindError::Command`] with what is wrong.
    pub fn check(&self) -> Result<(), KindError> {
        let absolute = self.argv.first().is_some_and(|p| p.starts_with('/'));
        let seconds = self.timeout.as_secs();
        let why = if !absolute {
            "a key command begins with the absolute path of a program"
        } else if self.argv.iter().any(|word| word.contains(char::is_control)) {
            "a key command holds no control characters"
        } else if self.argv.len() > 255 || self.encode().len() > MAX_SLOT_DATA {
            "the key command is too long"
        } else if !(1..=MAX_TIMEOUT.as_secs()).contains(&seconds) || self.timeout.subsec_nanos() > 0
        {
            "the time limit of a key command is 1 to 3600 seconds"
        } else {
            return Ok(());
        };
        Err(KindError::Command(why.to_owned()))
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = (self.timeout.as_secs() as u16).to_le_bytes().to_vec();
        out.push(self.argv.len() as u8);
        for word in &self.argv {
            out.extend((word.len() as u16).to_le_bytes());
            out.extend(word.bytes());
        }
        out
    }

    /// # Errors
    /// [`KindError::Data`].
    pub fn decode(data: &[u8]) -> Result<Self, KindError> {
        Self::parse(data)
            .filter(|command| command.check().is_ok())
            .ok_or(KindError::Data)
    }

    fn parse(data: &[u8]) -> Option<Self> {
        let (&[lo, hi, count], mut rest) = data.split_first_chunk()?;
        let mut argv = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            let (length, after) = rest.split_first_chunk()?;
            let (word, after) = after.split_at_checked(u16::from_le_bytes(*length).into())?;
            argv.push(std::str::from_utf8(word).ok()?.to_owned());
            rest = after;
        }
        rest.is_empty().then_some(Self {
            argv,
            timeout: Duration::from_secs(u16::from_le_bytes([lo, hi]).into()),
        })
    }

    /// As it could be typed.
    pub fn shown(&self) -> String {
        shlex::try_join(self.argv.iter().map(String::as_str)).unwrap_or_default()
    }

    fn run(&self) -> Result<SlotSecret, KindError> {
        let failed = |source| KindError::Io {
            what: format!("get the secret from {}", self.shown()),
            source,
        };
        let mut child = process::Command::new(&self.argv[0])
            .args(&self.argv[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let hash = read_to_end(&mut child, Instant::now() + self.timeout);
        if hash.is_err() {
            // It may have ended by itself, and then there is nothing to kill.
            let _ = child.kill();
            let _ = child.wait();
        }
        let hash = hash.map_err(failed)?;
        Ok(SlotSecret::other(SlotKind::Command, hash))
    }
}

impl Kind for Command {
    fn kind(&self) -> SlotKind {
        SlotKind::Command
    }

    fn create(&self) -> Result<Created, KindError> {
        let missing = || KindError::Command("no key command was given".to_owned());
        let command = self.new.as_ref().ok_or_else(missing)?;
        command.check()?;
        Ok(Created::of(command.run()?, command.encode()))
    }

    fn open(&self, data: &[u8]) -> Result<SlotSecret, KindError> {
        let command = StoredCommand::decode(data)?;
        if self.permitted.contains(&command.argv) {
            return command.run();
        }
        let shown = command.shown();
        Err(KindError::Command(format!(
            "nobody on this machine has allowed the key command {shown}"
        )))
    }

    fn describe(data: &[u8]) -> Result<String, KindError> {
        StoredCommand::decode(data).map(|command| command.shown())
    }
}

/// The hash of all the output of a program that ends well before `deadline`.
fn read_to_end(child: &mut Child, deadline: Instant) -> io::Result<SecretBytes<32>> {
    let mut output = child.stdout.take().expect("stdout is piped");
    let mut context = digest::Context::new(&digest::SHA256);
    let mut buffer = SecretBytes::<4096>::zeroed();
    let mut length = 0;
    loop {
        wait_for(PollFd::new(&output, PollFlags::IN), deadline)?;
        match output.read(buffer.as_mut_bytes()) {
            Ok(0) => break,
            Ok(n) => {
                context.update(&buffer.as_bytes()[..n]);
                length += n;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
        if length > MAX_OUTPUT {
            return Err(io::Error::other("it wrote more than 1 MiB"));
        }
    }
    let pid = Pid::from_raw(child.id().cast_signed()).expect("a child has a positive pid");
    let ended = pidfd_open(pid, PidfdFlags::empty())?;
    wait_for(PollFd::new(&ended, PollFlags::IN), deadline)?;
    let status = child.wait()?;
    if !status.success() {
        return Err(io::Error::other(format!("it failed ({status})")));
    }
    if length == 0 {
        return Err(io::Error::other("it wrote nothing"));
    }
    let hash = context.finish();
    Ok(SecretBytes::filled_by(|own| {
        own.copy_from_slice(hash.as_ref());
    }))
}

fn wait_for(what: PollFd<'_>, deadline: Instant) -> io::Result<()> {
    let mut what = [what];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(|_| io::ErrorKind::InvalidInput)?;
        match poll(&mut what, Some(&left)) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::TimedOut, "it took too long")),
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(words: &[&str], seconds: u64) -> StoredCommand {
        StoredCommand {
            argv: words.iter().map(|w| (*w).to_owned()).collect(),
            timeout: Duration::from_secs(seconds),
        }
    }

    fn said(words: &[&str], seconds: u64) -> Result<(), String> {
        let command = command(words, seconds);
        command.run().map(drop).map_err(|e| e.to_string())
    }

    #[test]
    fn stored_arguments_are_read_as_they_were_written_and_nothing_else_is() {
        let stored = command(&["/bin/echo", "", "a b", "ü"], 7);
        let bytes = stored.encode();
        assert_eq!(StoredCommand::decode(&bytes).expect("our own"), stored);
        for len in 0..bytes.len() {
            assert!(StoredCommand::decode(&bytes[..len]).is_err(), "{len}");
        }
        for bad in [
            command(&[], 1),
            command(&["echo"], 1),
            command(&["/bin/echo", "\0"], 1),
            command(&["/bin/echo", "\u{1b}[2J"], 1),
            command(&["/bin/echo"], 0),
            command(&["/bin/echo"], 3601),
        ] {
            assert!(StoredCommand::decode(&bad.encode()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn only_what_was_permitted_is_run() {
        let stored = command(&["/bin/echo", "a b"], 5);
        let mut kind = Command {
            new: None,
            permitted: vec![vec!["/bin/echo".into(), "a".into(), "b".into()]],
        };
        let refused = kind.open(&stored.encode());
        assert!(matches!(refused, Err(KindError::Command(_))));
        kind.permitted.push(stored.argv.clone());
        assert!(kind.open(&stored.encode()).is_ok());
    }

    #[test]
    fn a_program_that_fails_says_nothing_or_hangs_gives_no_secret() {
        assert_eq!(said(&["/bin/echo", "x"], 5), Ok(()));
        assert!(said(&["/bin/true"], 5).is_err_and(|e| e.contains("wrote nothing")));
        let failed = said(&["/bin/sh", "-c", "echo secret; exit 3"], 5);
        assert!(failed.is_err_and(|e| e.contains('3') && e.contains("failed")));
        let begin = Instant::now();
        assert!(said(&["/bin/sleep", "60"], 1).is_err_and(|e| e.contains("too long")));
        assert!(begin.elapsed() < Duration::from_secs(30));
        assert!(said(&["/does/not/exist"], 5).is_err());
        let endless = said(&["/bin/cat", "/dev/zero"], 20);
        assert!(endless.is_err_and(|e| e.contains("more than 1 MiB")));
    }
}
