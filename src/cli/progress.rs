//! The line at the bottom of the terminal that tells how far a check or a rotation is.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::Ordering;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::store::check::tally::Tally;

const EVERY: Duration = Duration::from_millis(200);
/// How much of the rate shown comes from the last interval.
const WEIGHT: f64 = 0.1;
const WIDTH: usize = 20;

/// A line on standard error, if that is a terminal.
#[derive(Debug)]
pub struct Progress {
    /// Whether the line is on the screen; held while anything is printed.
    shown: Mutex<bool>,
    ended: Mutex<bool>,
    end: Condvar,
    /// What is done before the check itself.
    before: Mutex<Option<String>>,
    terminal: bool,
}

impl Progress {
    /// `wanted` says whether there may be one at all.
    pub fn new(wanted: bool) -> Self {
        Self {
            shown: Mutex::new(false),
            ended: Mutex::new(false),
            end: Condvar::new(),
            before: Mutex::new(None),
            terminal: wanted && io::stderr().is_terminal(),
        }
    }

    /// Shows this instead, as long as no file is checked.
    pub fn tell_before(&self, text: String) {
        *self.before.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    }

    pub fn is_shown(&self) -> bool {
        self.terminal
    }

    /// Runs `print` with the line taken away.
    pub fn above<R>(&self, print: impl FnOnce() -> R) -> R {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut *shown) {
            let _ = io::stderr().write_all(b"\r\x1b[K");
        }
        print()
    }

    /// Draws the line again and again until [`Progress::end`].
    pub fn run(&self, tally: &Tally) {
        if !self.terminal {
            return;
        }
        let (mut rate, mut last, mut at) = (None, 0, Instant::now());
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let (done, now) = (tally.done.load(Ordering::Relaxed), Instant::now());
            let seconds = (now - at).as_secs_f64().max(0.001);
            let latest = done.saturating_sub(last) as f64 / seconds;
            let smooth = rate.map_or(latest, |r| r + WEIGHT * (latest - r));
            (rate, last, at) = (Some(smooth), done, now);
            let total = tally
                .counted
                .load(Ordering::Acquire)
                .then(|| tally.total.load(Ordering::Relaxed));
            let files = tally.files.load(Ordering::Relaxed);
            let before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
            match before.as_ref().filter(|_| files == 0) {
                Some(text) => self.draw(text),
                None => self.draw(&line(done, total, smooth, files)),
            }
            drop(before);
            if *ended {
                return;
            }
            (ended, _) = self
                .end
                .wait_timeout(ended, EVERY)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn draw(&self, line: &str) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = io::stderr().write_all(format!("\r{line}\x1b[K").as_bytes());
        *shown = true;
    }

    /// Takes the line away for good.
    pub fn end(&self) {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.end.notify_all();
    }
}

/// `total` is missing as long as it is not counted.
fn line(done: u64, total: Option<u64>, rate: f64, files: u64) -> String {
    let so_far = format!("{files} files, {}", size(done));
    let speed = format!("{}/s", size(rate as u64));
    let Some(total) = total.filter(|t| *t > 0) else {
        return format!("{so_far}, {speed}");
    };
    let done = done.min(total);
    let filled = (done as f64 / total as f64 * WIDTH as f64) as usize;
    let percent = (done as f64 / total as f64 * 100.0) as u64;
    let left = match rate {
        r if r < 1.0 => String::new(),
        r => format!(", {} left", time(((total - done) as f64 / r) as u64)),
    };
    format!(
        "[{}{}] {percent:3} %  {so_far} of {}, {speed}{left}",
        "#".repeat(filled),
        ".".repeat(WIDTH - filled),
        size(total)
    )
}

/// Bytes in a unit that leaves at most four digits.
pub fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["bytes", "KiB", "MiB", "GiB"] {
        if value < 1000.0 {
            return match unit {
                "bytes" => format!("{bytes} bytes"),
                _ => format!("{value:.1} {unit}"),
            };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

fn time(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, m, s) => format!("{m}:{s:02}"),
        (h, m, s) => format!("{h}:{m:02}:{s:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_tells_share_rate_and_time_left() {
        let half = line(1 << 29, Some(1 << 30), (64 << 20) as f64, 17);
        assert_eq!(
            half,
            "[##########..........]  50 %  17 files, 512.0 MiB of 1.0 GiB, 64.0 MiB/s, 0:08 left"
        );
        assert_eq!(line(5, None, 2.0, 1), "1 files, 5 bytes, 2 bytes/s");
        assert!(!line(5, Some(10), 0.0, 1).contains("left"));
        assert_eq!(time(3 * 3600 + 65), "3:01:05");
    }
}
