//! Work for several threads: a queue that makes the one who fills it wait, so that memory stays bounded.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Tasks that may wait.
const LIMIT: usize = 512;

/// See the module.
#[derive(Debug)]
pub struct Pool<T> {
    queue: Mutex<Queue<T>>,
    /// There is a task, or there will be none any more.
    changed: Condvar,
    /// There is room for another task.
    room: Condvar,
}

#[derive(Debug)]
struct Queue<T> {
    tasks: VecDeque<T>,
    busy: usize,
    closed: bool,
}

impl<T> Pool<T> {
    pub fn new() -> Self {
        Self {
            queue: Mutex::new(Queue {
                tasks: VecDeque::new(),
                busy: 0,
                closed: false,
            }),
            changed: Condvar::new(),
            room: Condvar::new(),
        }
    }

    // A panic in a task leaves the queue whole.
    fn queue(&self) -> MutexGuard<'_, Queue<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a task; waits while too many are waiting.
    pub fn push(&self, task: T) {
        let mut queue = self.queue();
        while queue.tasks.len() >= LIMIT {
            queue = self
                .room
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
        queue.tasks.push_back(task);
        drop(queue);
        self.changed.notify_one();
    }

    /// Adds parts of the task that is being worked on, before all others. Never waits.
    pub fn push_parts(&self, parts: impl Iterator<Item = T>) {
        let mut queue = self.queue();
        for part in parts {
            queue.tasks.push_front(part);
        }
        drop(queue);
        self.changed.notify_all();
    }

    /// No more tasks will come, but for parts.
    pub fn close(&self) {
        self.queue().closed = true;
        self.changed.notify_all();
    }

    /// Works until the pool is closed and everything is done.
    pub fn work(&self, each: impl Fn(T)) {
        while let Some(task) = self.take() {
            let _busy = Busy(self);
            each(task);
        }
    }

    fn take(&self) -> Option<T> {
        let mut queue = self.queue();
        loop {
            if let Some(task) = queue.tasks.pop_front() {
                queue.busy += 1;
                drop(queue);
                self.room.notify_one();
                return Some(task);
            }
            // Whoever is at work may still hand out parts.
            if queue.closed && queue.busy == 0 {
                return None;
            }
            queue = self
                .changed
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Counts a thread as busy until dropped, also by a panic.
struct Busy<'a, T>(&'a Pool<T>);

impl<T> Drop for Busy<'_, T> {
    fn drop(&mut self) {
        self.0.queue().busy -= 1;
        self.0.changed.notify_all();
    }
}

/// Closes a pool when dropped, so that its threads end however the one who fills it ends.
#[derive(Debug)]
pub struct Closing<'a, T>(pub &'a Pool<T>);

impl<T> Drop for Closing<'_, T> {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn every_task_and_every_part_is_done_once() {
        let pool = Pool::new();
        let sum = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    pool.work(|n: u64| {
                        sum.fetch_add(n, Ordering::Relaxed);
                        if n == 1000 {
                            pool.push_parts((0..100).map(|_| 7));
                        }
                    });
                });
            }
            let _closing = Closing(&pool);
            for _ in 0..2000 {
                pool.push(1);
            }
            pool.push(1000);
        });
        assert_eq!(sum.into_inner(), 2000 + 1000 + 700);
    }
}
