//! The thread that looks after the journal of a mounted volume: what was written is committed within moments even if
//! nobody syncs it, applied to the files within seconds, and durable there every half minute, or when it has grown so
//! large that those who write ask for it.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::fs::Fs;
use crate::store::Disk;
use crate::store::journal::Journal;

/// Between two looks while there is work, and while there is none.
const BUSY: Duration = Duration::from_millis(100);
const IDLE: Duration = Duration::from_secs(1);
const APPLY: Duration = Duration::from_secs(2);
const CHECKPOINT: Duration = Duration::from_secs(30);

/// The running thread; it ends when this is dropped.
#[derive(Debug)]
pub struct Keeper {
    fs: Arc<Fs<Disk>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    pub fn start(fs: Arc<Fs<Disk>>) -> io::Result<Self> {
        let (bell, rung) = sync_channel(1);
        fs.attend(bell);
        let kept = fs.clone();
        let keep = move || {
            let mut wait = IDLE;
            let mut checkpoint = Instant::now();
            let mut applied = Instant::now();
            loop {
                match rung.recv_timeout(wait) {
                    Err(RecvTimeoutError::Disconnected) => break,
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(()) => fs.relieve(),
                }
                // A failure has latched the volume, and who syncs is told.
                let committed = fs.commit().unwrap_or(false);
                wait = if committed { BUSY } else { IDLE };
                let waits = |journal: &Journal<Disk>| journal.overlay_bytes() > 0;
                let done = if checkpoint.elapsed() >= CHECKPOINT {
                    checkpoint = Instant::now();
                    fs.checkpoint()
                } else if applied.elapsed() >= APPLY && fs.volume().journal().is_some_and(waits) {
                    applied = Instant::now();
                    fs.apply()
                } else {
                    Ok(())
                };
                if let Err(e) = done {
                    log::error!("the journal could not be applied, which will be tried again: {e}");
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("wardfs-journal".into())
            .spawn(keep)?;
        Ok(Self {
            fs: kept,
            thread: Some(thread),
        })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.fs.unattended();
        if let Some(thread) = self.thread.take() {
            // It panics only with a defect, which was logged.
            let _ = thread.join();
        }
    }
}
