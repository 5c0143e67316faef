//! Reusable byte buffers, one small stack per thread, so that a request allocates nothing.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

/// Buffers kept by an idle thread.
const KEPT: usize = 4;

thread_local! {
    static IDLE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer with the capacity of earlier uses; goes back to its thread when dropped.
#[derive(Debug)]
pub struct Buffer(Vec<u8>);

impl Buffer {
    pub fn empty() -> Self {
        let mut buffer = IDLE.with_borrow_mut(Vec::pop).unwrap_or_default();
        buffer.clear();
        Self(buffer)
    }

    /// A buffer of `len` bytes of no particular content.
    pub fn of_len(len: usize) -> Self {
        let mut buffer = Self(IDLE.with_borrow_mut(Vec::pop).unwrap_or_default());
        buffer.0.resize(len, 0);
        buffer
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.0);
        IDLE.with_borrow_mut(|idle| {
            if idle.len() < KEPT {
                idle.push(buffer);
            }
        });
    }
}

impl Deref for Buffer {
    type Target = Vec<u8>;
    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}
