//! A person at a terminal: starts the program on a pseudo-terminal, waits for its questions and types answers.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};

#[derive(Debug)]
pub struct Terminal {
    keyboard: File,
    /// Keeps the terminal open, and its modes readable, until the program is waited for.
    line: Option<File>,
    screen: Receiver<Vec<u8>>,
    /// All that was shown, and how much of it was waited for.
    shown: String,
    seen: usize,
    child: Child,
}

impl Terminal {
    /// Starts `command` with the terminal as its controlling one and as its standard streams.
    pub fn start(command: &Command) -> Self {
        let pty = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .expect("/dev/ptmx");
        grantpt(&pty).expect("ours");
        unlockpt(&pty).expect("ours");
        let name = ptsname(&pty, Vec::new()).expect("ours").into_bytes();
        let name = std::ffi::OsString::from_vec(name);
        let line = OpenOptions::new()
            .read(true)
            .write(true)
            .open(name)
            .expect("devpts is mounted");
        let stream = || line.try_clone().expect("a descriptor is free");
        // setsid(1) makes standard input the controlling terminal.
        let child = Command::new("setsid")
            .args(["--ctty", "--wait", "--"])
            // A background job of a shell ignores SIGINT, and so would all that it starts.
            .args(["env", "--default-signal=INT,QUIT,TERM,HUP", "--"])
            .arg(command.get_program())
            .args(command.get_args())
            .env_remove("CREDENTIALS_DIRECTORY")
            .stdin(stream())
            .stdout(stream())
            .stderr(stream())
            .spawn()
            .expect("setsid is part of every system");
        let keyboard = File::from(pty);
        let mut reader = keyboard.try_clone().expect("a descriptor is free");
        let (sender, screen) = channel();
        std::thread::spawn(move || {
            let mut piece = [0; 512];
            while let Ok(n @ 1..) = reader.read(&mut piece) {
                if sender.send(piece[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self {
            keyboard,
            line: Some(line),
            screen,
            shown: String::new(),
            seen: 0,
            child,
        }
    }

    /// Waits until `words` are shown, after what was waited for before.
    #[track_caller]
    pub fn expect(&mut self, words: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(at) = self.shown[self.seen..].find(words) {
                self.seen += at + words.len();
                return;
            }
            match self
                .screen
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(piece) => self.shown.push_str(&String::from_utf8_lossy(&piece)),
                Err(e) => panic!("no {words:?} on the terminal ({e}): {:?}", self.shown),
            }
        }
    }

    pub fn type_line(&mut self, text: &str) {
        self.type_keys(&format!("{text}\n"));
    }

    /// `\x03` is Ctrl-C, `\x04` Ctrl-D.
    pub fn type_keys(&mut self, keys: &str) {
        self.keyboard
            .write_all(keys.as_bytes())
            .expect("the terminal is open");
    }

    pub fn echoes(&self) -> bool {
        let line = self.line.as_ref().expect("it is closed only at the end");
        tcgetattr(line)
            .expect("the terminal is open")
            .local_modes
            .contains(LocalModes::ECHO)
    }

    /// Waits for the end of the program; gives its status and all that was shown.
    pub fn finish(mut self) -> (ExitStatus, String) {
        let status = self.child.wait().expect("it was started here");
        // The other side reports the end when the last one who had the terminal has closed it.
        self.line = None;
        while let Ok(piece) = self.screen.recv_timeout(Duration::from_secs(20)) {
            self.shown.push_str(&String::from_utf8_lossy(&piece));
        }
        (status, std::mem::take(&mut self.shown))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
