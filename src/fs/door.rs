//! Keeps everybody but its first user away from a file for a moment.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// See the module. A leaf lock: who waits here holds no other.
#[derive(Debug, Default)]
pub struct Door {
    state: Mutex<State>,
    opened: Condvar,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    waiting: u32,
}

impl Door {
    pub fn closed() -> Self {
        let state = State {
            closed: true,
            waiting: 0,
        };
        Self {
            state: Mutex::new(state),
            ..Self::default()
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it is open.
    pub fn pass(&self) {
        let mut state = self.state();
        state.waiting += 1;
        while state.closed {
            let woken = self.opened.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting -= 1;
    }
}

/// Keeps a door closed until it is dropped.
#[derive(Debug)]
pub struct Alone(pub Arc<Door>);

impl Drop for Alone {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.closed = false;
        // Telling nobody would still be a system call.
        if state.waiting > 0 {
            self.0.opened.notify_all();
        }
    }
}
