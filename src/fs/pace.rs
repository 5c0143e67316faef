//! How fast something goes, and how fast it may.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// Bytes since the beginning, held to a rate that may change.
#[derive(Debug)]
pub struct Pace {
    /// Bytes per second.
    rate: Cell<Option<u64>>,
    /// Since when the rate holds, and how many bytes had gone by then.
    since: Cell<(Instant, u64)>,
    total: Cell<u64>,
}

impl Pace {
    pub fn new(rate: Option<u64>) -> Self {
        Self {
            rate: Cell::new(rate),
            since: Cell::new((Instant::now(), 0)),
            total: Cell::new(0),
        }
    }

    pub fn set_rate(&self, rate: Option<u64>) {
        if self.rate.replace(rate) != rate {
            self.rested();
        }
    }

    /// What was not used of the rate is not caught up.
    pub fn rested(&self) {
        self.since.set((Instant::now(), self.total.get()));
    }

    pub fn advanced(&self, bytes: u64) {
        self.total.set(self.total.get() + bytes);
    }

    pub fn total(&self) -> u64 {
        self.total.get()
    }

    /// How long to wait before going on.
    pub fn early(&self) -> Duration {
        let Some(rate) = self.rate.get() else {
            return Duration::ZERO;
        };
        let (since, before) = self.since.get();
        let due = (self.total.get() - before) as f64 / rate as f64;
        Duration::from_secs_f64(due).saturating_sub(since.elapsed())
    }

    /// Bytes per second since the beginning, the last rest or the last change of the rate.
    pub fn per_second(&self) -> u64 {
        let (since, before) = self.since.get();
        let seconds = since.elapsed().as_secs_f64().max(0.001);
        ((self.total.get() - before) as f64 / seconds) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_asks_for_the_time_that_its_bytes_take() {
        let pace = Pace::new(Some(1000));
        assert_eq!(pace.early(), Duration::ZERO);
        pace.advanced(60_000);
        assert!(pace.early() > Duration::from_secs(50));
        pace.set_rate(None);
        assert_eq!(pace.early(), Duration::ZERO);
        pace.set_rate(Some(1));
        assert_eq!(pace.early(), Duration::ZERO, "a new rate begins anew");
        pace.advanced(30);
        assert!(pace.early() > Duration::from_secs(20));
        pace.rested();
        assert_eq!(pace.early(), Duration::ZERO);
        assert_eq!(pace.total(), 60_030);
    }
}
