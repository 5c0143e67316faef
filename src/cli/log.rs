//! Where messages of the running program go: standard error, and for a daemon a file or the system log.
//!
//! The records come from every layer through the `log` crate. The FUSE library prints plaintext names at debug
//! level, so nothing below `info` is ever taken from it, whatever is asked for.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use env_logger::fmt::Formatter;
use log::{Level, LevelFilter, Log, Metadata, Record};

const ENVIRONMENT: &str = "WARDFS_LOG";
const SYSTEM_LOG: &str = "/dev/log";
/// syslog(3): facility "daemon".
const FACILITY: u8 = 3 << 3;

/// Where records go now. Leaf lock: held for one write, never while taking another.
static SINK: Mutex<Sink> = Mutex::new(Sink::StandardError);

#[derive(Debug)]
enum Sink {
    StandardError,
    File(File),
    /// Addressed anew for each record, so that a restarted journal is found again.
    SystemLog(UnixDatagram),
    Nowhere,
}

/// What a daemon does with its messages.
#[derive(Debug)]
pub enum Destination {
    File(File),
    /// `/dev/log`, which the journal and every syslog daemon serve. Without it, messages are dropped.
    System,
}

/// Starts logging to standard error. `level` holds where `WARDFS_LOG` (syntax of `env_logger`) says nothing.
pub fn start(level: LevelFilter) {
    let told = std::env::var_os(ENVIRONMENT).is_some();
    let mut builder = env_logger::Builder::new();
    builder
        .format(write_record)
        .target(env_logger::Target::Pipe(Box::new(Output)));
    if told {
        builder.parse_env(ENVIRONMENT);
    } else {
        builder.filter_level(LevelFilter::Trace);
    }
    let logger = builder.build();
    let most = if told { logger.filter() } else { level };
    // A daemon's standard error is gone, and what a panic says may hold what must not be logged.
    std::panic::set_hook(Box::new(|panic| {
        let at = panic.location().map(ToString::to_string);
        log::error!("a defect in wardfs, at {}", at.unwrap_or_default());
    }));
    // A second start in one process keeps the first logger.
    if log::set_boxed_logger(Box::new(Capped(logger))).is_ok() {
        log::set_max_level(most);
    }
}

/// From here on records go where a daemon's records go.
pub fn switch_to(destination: Destination) {
    let sink = match destination {
        Destination::File(file) => Sink::File(file),
        Destination::System => UnixDatagram::unbound().map_or(Sink::Nowhere, Sink::SystemLog),
    };
    *SINK.lock().unwrap_or_else(PoisonError::into_inner) = sink;
}

/// Lets records of `level` through where `WARDFS_LOG` has not said what to log.
pub fn raise(level: LevelFilter) {
    if std::env::var_os(ENVIRONMENT).is_none() && level > log::max_level() {
        log::set_max_level(level);
    }
}

/// Opens a log file for appending; made with mode 0600.
pub fn open_file(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}

/// Keeps what may hold plaintext names out of every sink.
struct Capped(env_logger::Logger);

fn may_hold_names(metadata: &Metadata<'_>) -> bool {
    let from_fuser = metadata.target() == "fuser" || metadata.target().starts_with("fuser::");
    from_fuser && metadata.level() > Level::Info
}

impl Log for Capped {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        !may_hold_names(metadata) && self.0.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !may_hold_names(record.metadata()) {
            self.0.log(record);
        }
    }

    fn flush(&self) {
        self.0.flush();
    }
}

/// One record in the form of the current sink.
fn write_record(buffer: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    let pid = std::process::id();
    let word = match record.level() {
        Level::Error => "error",
        Level::Warn => "warning",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    };
    match *SINK.lock().unwrap_or_else(PoisonError::into_inner) {
        Sink::StandardError => writeln!(buffer, "wardfs: {word}: {}", record.args()),
        Sink::File(_) => {
            let time = buffer.timestamp_seconds();
            writeln!(buffer, "{time} wardfs[{pid}]: {word}: {}", record.args())
        }
        Sink::SystemLog(_) => {
            let severity = match record.level() {
                Level::Error => 3,
                Level::Warn => 4,
                Level::Info => 6,
                Level::Debug | Level::Trace => 7,
            };
            write!(
                buffer,
                "<{}>wardfs[{pid}]: {word}: {}",
                FACILITY | severity,
                record.args()
            )
        }
        Sink::Nowhere => Ok(()),
    }
}

/// Gets each formatted record in one call (env_logger buffers it).
struct Output;

impl Write for Output {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        // A full disk or a missing system log must not disturb the filesystem: the record is lost.
        let _ = match &mut *SINK.lock().unwrap_or_else(PoisonError::into_inner) {
            Sink::StandardError => io::stderr().write_all(record),
            Sink::File(file) => file.write_all(record),
            Sink::SystemLog(socket) => socket.send_to(record, SYSTEM_LOG).map(drop),
            Sink::Nowhere => Ok(()),
        };
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds_names(target: &str, level: Level) -> bool {
        may_hold_names(&Metadata::builder().target(target).level(level).build())
    }

    #[test]
    fn debug_lines_of_the_fuse_library_never_pass() {
        assert!(holds_names("fuser", Level::Debug));
        assert!(holds_names("fuser::request", Level::Trace));
        assert!(!holds_names("fuser::session", Level::Info));
        assert!(!holds_names("wardfs::fuse", Level::Debug));
        assert!(!holds_names("fusermount", Level::Debug));
    }
}
