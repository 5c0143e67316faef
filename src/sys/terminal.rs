//! The controlling terminal, as a place to ask for a passphrase.
//!
//! The answer is read without echo, and the terminal is put right again however the question ends: answered,
//! interrupted, suspended or killed. Where the answer is kept is the caller's business; the buffers here are wiped.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;

use rustix::event::{PollFd, PollFlags};
use rustix::process::Signal;
use rustix::termios::{LocalModes, OptionalActions, Termios};
use zeroize::Zeroizing;

use super::signals;

/// Signals whose default action would leave the terminal without echo.
const DISTURBING: [Signal; 5] = [
    Signal::INT,
    Signal::TERM,
    Signal::HUP,
    Signal::QUIT,
    Signal::TSTP,
];

#[derive(Debug)]
pub struct Terminal(File);

/// How a question ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    Line,
    /// End of file (Ctrl-D) before a line was complete.
    Cancelled,
}

impl Terminal {
    /// Opens `/dev/tty`, whatever standard input is.
    pub fn open() -> io::Result<Self> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOCTTY)
            .open("/dev/tty")
            .map(Self)
    }

    pub fn say(&self, line: &str) -> io::Result<()> {
        writeln!(&self.0, "{line}")
    }

    /// Asks `question`, for an answer that is no secret; without its newline.
    pub fn ask(&self, question: &str) -> io::Result<String> {
        write!(&self.0, "{question}")?;
        let mut line = String::new();
        BufReader::new(&self.0).read_line(&mut line)?;
        Ok(line.trim_end_matches('\n').to_owned())
    }

    /// Asks `question` and hands the answer to `keep` piece by piece, without the newline.
    ///
    /// Ctrl-C and the other signals act as usual, after the terminal is back in order. When the process goes on
    /// after one (fg after Ctrl-Z), `restart` is called and the question is asked again.
    pub fn ask_hidden(
        &self,
        question: &str,
        mut keep: impl FnMut(&[u8]),
        mut restart: impl FnMut(),
    ) -> io::Result<Answer> {
        loop {
            match self.ask_once(question, &mut keep)? {
                Some(answer) => return Ok(answer),
                None => restart(),
            }
        }
    }

    fn ask_once(&self, question: &str, keep: &mut impl FnMut(&[u8])) -> io::Result<Option<Answer>> {
        // Dropped in reverse order: first the echo comes back, then a pending signal is delivered.
        let (_blocked, pending) = signals::block(&DISTURBING)?;
        let _silent = Silent::new(&self.0)?;
        write!(&self.0, "{question}")?;
        loop {
            let mut ready = [
                PollFd::new(&pending, PollFlags::IN),
                PollFd::new(&self.0, PollFlags::IN),
            ];
            rustix::io::retry_on_intr(|| rustix::event::poll(&mut ready, None))?;
            if !ready[0].revents().is_empty() {
                writeln!(&self.0)?;
                return Ok(None);
            }
            let mut piece = Zeroizing::new([0_u8; 256]);
            let n = rustix::io::retry_on_intr(|| rustix::io::read(&self.0, &mut piece[..]))?;
            if n == 0 {
                writeln!(&self.0)?;
                return Ok(Some(Answer::Cancelled));
            }
            match piece[..n].strip_suffix(b"\n") {
                Some(last) => {
                    keep(last);
                    return Ok(Some(Answer::Line));
                }
                None => keep(&piece[..n]),
            }
        }
    }
}

/// Echo is off while this lives; a newline is still shown.
struct Silent<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Silent<'a> {
    fn new(terminal: &'a File) -> io::Result<Self> {
        let before = rustix::termios::tcgetattr(terminal)?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        hidden
            .local_modes
            .insert(LocalModes::ECHONL | LocalModes::ICANON);
        rustix::termios::tcsetattr(terminal, OptionalActions::Flush, &hidden)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Silent<'_> {
    fn drop(&mut self) {
        // The terminal may be gone (hang-up); then there is nothing to put right.
        let _ = rustix::termios::tcsetattr(self.terminal, OptionalActions::Now, &self.before);
    }
}
