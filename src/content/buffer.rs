//! Reusable byte buffers, one small stack per thread, so that a request allocates and clears nothing.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

/// Buffers kept by an idle thread.
const KEPT: usize = 4;

thread_local! {
    static IDLE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Bytes in memory that was used before; it goes back to its thread when dropped.
///
/// What [`Buffer::of_len`] and [`Buffer::grow`] add has no particular content: the caller fills all of it.
#[derive(Debug)]
pub struct Buffer {
    memory: Vec<u8>,
    len: usize,
}

impl Buffer {
    pub fn empty() -> Self {
        let memory = IDLE.with_borrow_mut(Vec::pop).unwrap_or_default();
        Self { memory, len: 0 }
    }

    pub fn of_len(len: usize) -> Self {
        let mut buffer = Self::empty();
        buffer.grow(len);
        buffer
    }

    /// Adds `more` bytes at the end; answers them.
    pub fn grow(&mut self, more: usize) -> &mut [u8] {
        let begin = self.len;
        self.len += more;
        if self.memory.len() < self.len {
            self.memory.resize(self.len, 0);
        }
        &mut self.memory[begin..self.len]
    }

    pub fn append(&mut self, bytes: &[u8]) {
        self.grow(bytes.len()).copy_from_slice(bytes);
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        IDLE.with_borrow_mut(|idle| {
            if idle.len() < KEPT {
                idle.push(memory);
            }
        });
    }
}

impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.memory[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[..self.len]
    }
}
