//! Locked memory: slots of pages that are never swapped, dumped or inherited across a fork.
//!
//! Knows nothing of what lies in a slot, except that it is zeroed before anybody else gets it. A fork comes before the
//! first slot: the child would find its slots zeroed and their pages no longer locked.

// The types of `sys::secret` need memory that no safe allocator hands out.
#![allow(unsafe_code)]

use std::alloc::{Layout, handle_alloc_error};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, Ordering, compiler_fence};
use std::sync::{Mutex, PoisonError};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mlock, mmap_anonymous};
use zeroize::Zeroize;

/// Slots are powers of two from here on; the size is also the alignment, up to a page.
const MIN_SLOT: usize = 32;
/// Pages are mapped in pieces of this size, so that a few keys stay below a small RLIMIT_MEMLOCK.
const SLAB: usize = 16 * 1024;

/// Free slots by the binary logarithm of their size. Slabs are never unmapped: the free slots of one size are its
/// high-water mark. A leaf lock, held for a push or a pop, at worst for mapping a slab.
static FREE: Mutex<[Vec<FreeSlot>; usize::BITS as usize]> =
    Mutex::new([const { Vec::new() }; usize::BITS as usize]);

struct FreeSlot(NonNull<u8>);

// SAFETY: a free slot is plain memory that nothing points to; only the thread that takes it from the list uses it.
unsafe impl Send for FreeSlot {}

/// An exclusively owned piece of locked memory. Zero when taken, zeroed when dropped.
pub struct Slot {
    start: NonNull<u8>,
    capacity: usize,
    len: usize,
}

// SAFETY: a slot owns its memory like a `Box<[u8]>`; there is no shared state behind the pointer.
unsafe impl Send for Slot {}
// SAFETY: shared access goes through `&self` and only reads.
unsafe impl Sync for Slot {}

impl Slot {
    /// A zeroed slot of `len` bytes.
    pub fn new(len: usize) -> Self {
        let size = len.max(MIN_SLOT).next_power_of_two();
        let class = size.trailing_zeros() as usize;
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        let (start, locked) = match free[class].pop() {
            Some(slot) => (slot.0, true),
            None => {
                let (slab, bytes, locked) = map_slab(size);
                for off in (size..bytes).step_by(size).rev() {
                    // SAFETY: `off + size <= bytes`, so the slot lies inside the slab just mapped.
                    free[class].push(FreeSlot(unsafe { slab.add(off) }));
                }
                (slab, locked)
            }
        };
        drop(free);
        if !locked {
            warn_unlocked();
        }
        Self {
            start,
            capacity: size,
            len,
        }
    }

    /// The bytes that fit without another slot.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Changes the length within [`Slot::capacity`].
    pub fn set_len(&mut self, len: usize) {
        assert!(
            len <= self.capacity,
            "{len} bytes in a slot of {}",
            self.capacity
        );
        if len < self.len {
            self.bytes_mut()[len..].zeroize();
        }
        self.len = len;
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the slot owns `capacity >= len` initialised bytes; the lifetime is that of the borrow.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }

    fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // By words through the pointer: what a `Locked` leaves behind may have padding, which is no valid `[u8]`.
        for word in 0..self.len.div_ceil(size_of::<u64>()) {
            // SAFETY: the slot is aligned to 32 and its capacity a multiple of 32, so every word of `len` lies in it.
            unsafe { self.start.cast::<u64>().add(word).write_volatile(0) };
        }
        compiler_fence(Ordering::SeqCst);
        let class = self.capacity.trailing_zeros() as usize;
        FREE.lock().unwrap_or_else(PoisonError::into_inner)[class].push(FreeSlot(self.start));
    }
}

/// A value in locked memory. Its drop runs, then its memory is zeroed.
pub struct Locked<T> {
    slot: Slot,
    _owns: std::marker::PhantomData<T>,
}

// SAFETY: owning a `Locked<T>` is owning a `T`.
unsafe impl<T: Send> Send for Locked<T> {}
// SAFETY: sharing a `Locked<T>` is sharing a `T`.
unsafe impl<T: Sync> Sync for Locked<T> {}

impl<T> Locked<T> {
    /// Moves `value` into locked memory. The stack it comes from is not cleaned.
    pub fn new(value: T) -> Self {
        const {
            assert!(
                align_of::<T>() <= 4096,
                "a slot is aligned to a page at most"
            )
        };
        let slot = Slot::new(size_of::<T>().max(align_of::<T>()));
        // SAFETY: the slot is at least as large and as aligned as `T`, and nothing else points to it.
        unsafe { ptr::write(slot.as_ptr().cast::<T>(), value) };
        Self {
            slot,
            _owns: std::marker::PhantomData,
        }
    }
}

impl<T> std::ops::Deref for Locked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: `new` put a valid `T` there, and it stays until drop.
        unsafe { &*self.slot.as_ptr().cast::<T>() }
    }
}

impl<T> std::ops::DerefMut for Locked<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`, and the borrow is exclusive.
        unsafe { &mut *self.slot.as_ptr().cast::<T>() }
    }
}

impl<T> Drop for Locked<T> {
    fn drop(&mut self) {
        // SAFETY: the value is valid and nobody sees it again; the slot's own drop then zeroes the bytes.
        unsafe { ptr::drop_in_place(self.slot.as_ptr().cast::<T>()) };
    }
}

impl<T> std::fmt::Debug for Locked<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Locked(..)")
    }
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Slot({} bytes)", self.len)
    }
}

/// Maps at least one slot of `size`; answers the start, the length, and whether the pages are locked.
fn map_slab(size: usize) -> (NonNull<u8>, usize, bool) {
    let bytes = size.max(SLAB);
    // SAFETY: a fresh private mapping at an address of the kernel's choice overlaps nothing.
    let mapped = unsafe {
        mmap_anonymous(
            ptr::null_mut(),
            bytes,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE,
        )
    };
    let Ok(Some(start)) = mapped.map(|p| NonNull::new(p.cast::<u8>())) else {
        let layout = Layout::from_size_align(bytes, 4096).unwrap_or(Layout::new::<[u8; SLAB]>());
        handle_alloc_error(layout)
    };
    let address = start.as_ptr().cast();
    // SAFETY: the range is the mapping made above.
    let locked = unsafe { mlock(address, bytes) }.is_ok();
    for advice in [Advice::LinuxDontDump, Advice::LinuxWipeOnFork] {
        // SAFETY: as above; neither advice changes the content in this process.
        if let Err(e) = unsafe { madvise(address, bytes, advice) } {
            log::debug!("madvise {advice:?} on key memory: {e}");
        }
    }
    (start, bytes, locked)
}

fn warn_unlocked() {
    static WARNED: AtomicBool = AtomicBool::new(false);
    if !WARNED.swap(true, Ordering::Relaxed) {
        log::warn!(
            "key memory cannot be locked and may be swapped out: raise RLIMIT_MEMLOCK (ulimit -l)"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn a_slot_is_zero_when_taken_again() {
        for len in [1, 31, 32, 33, 4096, 8192, 20_000] {
            let mut slot = Slot::new(len);
            assert!(slot.bytes().iter().all(|b| *b == 0));
            slot.bytes_mut().fill(0xaa);
            drop(slot);
            assert!(Slot::new(len).bytes().iter().all(|b| *b == 0));
        }
    }

    #[test]
    fn shortening_zeroes_what_is_cut() {
        let mut slot = Slot::new(64);
        slot.bytes_mut().fill(1);
        slot.set_len(40);
        slot.set_len(64);
        assert!(slot.bytes()[40..].iter().all(|b| *b == 0));
    }

    #[test]
    fn slots_do_not_overlap() {
        let mut slots: Vec<Slot> = (0..1000).map(|_| Slot::new(48)).collect();
        for (i, slot) in slots.iter_mut().enumerate() {
            slot.bytes_mut().fill(i as u8);
        }
        for (i, slot) in slots.iter().enumerate() {
            assert!(slot.bytes().iter().all(|b| *b == i as u8));
        }
    }

    /// proc(5), VmFlags: dd is "do not include in core dump", wf "wipe on fork", lo "pages are locked".
    #[test]
    fn the_kernel_knows_the_pages_are_secret() {
        let slot = Slot::new(32);
        let address = slot.bytes().as_ptr() as usize;
        let smaps = std::fs::read_to_string("/proc/self/smaps").expect("proc is mounted");
        let holds = |line: &str| {
            let range = line.split(' ').next().and_then(|r| r.split_once('-'));
            let hex = |digits| usize::from_str_radix(digits, 16).ok();
            range.is_some_and(|(from, to)| {
                hex(from).is_some_and(|f| f <= address) && hex(to).is_some_and(|t| address < t)
            })
        };
        let flags = smaps
            .lines()
            .skip_while(|line| !holds(line))
            .find_map(|line| line.strip_prefix("VmFlags:"))
            .expect("the slot is mapped");
        for flag in ["dd", "wf"] {
            assert!(
                flags.split_whitespace().any(|f| f == flag),
                "{flag} in {flags}"
            );
        }
        let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
        if limit.is_none_or(|bytes| bytes >= 1 << 20) {
            assert!(flags.split_whitespace().any(|f| f == "lo"), "lo in {flags}");
        }
    }

    #[test]
    fn a_locked_value_is_aligned_and_dropped_once() {
        static DROPS: AtomicUsize = AtomicUsize::new(0);
        #[repr(align(128))]
        struct Value(u64);
        impl Drop for Value {
            fn drop(&mut self) {
                DROPS.fetch_add(1, Ordering::Relaxed);
            }
        }
        let mut value = Locked::new(Value(7));
        value.0 += 1;
        assert_eq!(value.0, 8);
        assert_eq!(&raw const *value as usize % 128, 0);
        drop(value);
        assert_eq!(DROPS.load(Ordering::Relaxed), 1);
    }
}
