//! Open directories of the vault: a bounded cache of descriptors and ids, and those that programs hold open.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::fs::Fs;
use crate::fs::error::{Error, Result};
use crate::fs::inodes::ROOT;
use crate::store::Dir;
use crate::store::backing::Backing;

/// See the module.
#[derive(Debug)]
pub struct Dirs<B: Backing> {
    root: Arc<Dir<B>>,
    cache: Mutex<Cache<B>>,
    capacity: usize,
    /// How many directories left the cache before their ids were durable, and of how many of those everything is by now.
    evicted_pending: AtomicU64,
    evicted_synced: Mutex<u64>,
}

#[derive(Debug)]
struct Cache<B: Backing> {
    dirs: HashMap<u64, Cached<B>>,
    clock: u64,
}

#[derive(Debug)]
struct Cached<B: Backing> {
    dir: Arc<Dir<B>>,
    used: u64,
    /// How many handles programs hold: such a directory stays, even when it was removed.
    handles: u32,
    /// Its name is gone: it leaves with the last handle.
    removed: bool,
}

impl<B: Backing> Dirs<B> {
    /// `capacity` is the number of descriptors kept beyond those that are in use.
    pub fn new(root: Dir<B>, capacity: usize) -> Self {
        Self {
            root: Arc::new(root),
            cache: Mutex::new(Cache {
                dirs: HashMap::new(),
                clock: 0,
            }),
            capacity,
            evicted_pending: AtomicU64::new(0),
            evicted_synced: Mutex::new(0),
        }
    }

    fn cache(&self) -> Result<MutexGuard<'_, Cache<B>>> {
        self.cache.lock().map_err(|_| Error::Poisoned)
    }

    /// The directory, if it is open already.
    pub fn cached(&self, ino: u64) -> Result<Option<Arc<Dir<B>>>> {
        if ino == ROOT {
            return Ok(Some(self.root.clone()));
        }
        let mut cache = self.cache()?;
        cache.clock += 1;
        let now = cache.clock;
        Ok(cache.dirs.get_mut(&ino).map(|cached| {
            cached.used = now;
            cached.dir.clone()
        }))
    }

    /// Adds a directory that was just opened; answers the one that is kept.
    fn insert(&self, ino: u64, dir: Dir<B>) -> Result<Arc<Dir<B>>> {
        let mut cache = self.cache()?;
        cache.clock += 1;
        let used = cache.clock;
        let dir = Arc::new(dir);
        let kept = cache
            .dirs
            .entry(ino)
            .or_insert_with(|| Cached {
                dir,
                used,
                handles: 0,
                removed: false,
            })
            .dir
            .clone();
        if cache.dirs.len() > self.capacity {
            self.evict(&mut cache);
        }
        Ok(kept)
    }

    /// Closes the half that was unused for longest, so that the cost of choosing is spread.
    fn evict(&self, cache: &mut Cache<B>) {
        let mut ages: Vec<u64> = cache.dirs.values().map(|c| c.used).collect();
        let middle = ages.len() / 2;
        let (_, median, _) = ages.select_nth_unstable(middle);
        let median = *median;
        cache.dirs.retain(|_, cached| {
            let keep =
                cached.handles > 0 || cached.used > median || Arc::strong_count(&cached.dir) > 1;
            if !keep && cached.dir.is_pending() {
                self.evicted_pending.fetch_add(1, Ordering::Release);
            }
            keep
        });
    }

    /// A program opened the directory.
    pub fn hold(&self, ino: u64) -> Result<()> {
        if let Some(cached) = self.cache()?.dirs.get_mut(&ino) {
            cached.handles += 1;
        }
        Ok(())
    }

    /// A program closed it.
    pub fn release(&self, ino: u64) -> Result<()> {
        let mut cache = self.cache()?;
        if let Some(cached) = cache.dirs.get_mut(&ino) {
            cached.handles = cached.handles.saturating_sub(1);
            if cached.removed && cached.handles == 0 {
                cache.dirs.remove(&ino);
            }
        }
        Ok(())
    }

    /// The directory was removed. Its number may be used again as soon as no descriptor holds it.
    pub fn removed(&self, ino: u64) -> Result<()> {
        let mut cache = self.cache()?;
        if let Some(cached) = cache.dirs.get_mut(&ino) {
            cached.removed = true;
            if cached.handles == 0 {
                cache.dirs.remove(&ino);
            }
        }
        Ok(())
    }
}

impl<B: Backing> Fs<B> {
    /// The directory `ino`, opened along its path if need be.
    pub(super) fn dir(&self, ino: u64) -> Result<Arc<Dir<B>>> {
        let mut below = Vec::new();
        let mut at = ino;
        let mut dir = loop {
            if let Some(dir) = self.dirs.cached(at)? {
                break dir;
            }
            let (place, _) = self.inodes.places(at)?;
            below.push((at, place.name));
            at = place.parent;
            if below.len() > 4096 {
                return Err(Error::Stale);
            }
        };
        while let Some((ino, name)) = below.pop() {
            let sealed = dir.seal(&self.volume, &name)?;
            let opened = self.volume.backing().open_dir(dir.handle(), &sealed.entry);
            let handle = opened.map_err(|e| match e.raw_os_error() {
                Some(libc::ENOENT | libc::ELOOP) => Error::Stale,
                _ => e.into(),
            })?;
            let opened = Dir::new(handle, ino);
            if opened.attr(&self.volume)?.ino != ino {
                return Err(Error::Stale);
            }
            dir = self.dirs.insert(ino, opened)?;
        }
        Ok(dir)
    }

    /// Opens a directory that was just made, for what will be made in it.
    pub(super) fn keep_new_dir(&self, parent: &Dir<B>, name: &[u8], ino: u64) -> Result<()> {
        let sealed = parent.seal(&self.volume, name)?;
        let handle = self
            .volume
            .backing()
            .open_dir(parent.handle(), &sealed.entry)?;
        let made = Dir::just_made(handle, ino);
        if made.attr(&self.volume)?.ino == ino {
            self.dirs.insert(ino, made)?;
        }
        Ok(())
    }

    /// Makes every name on the way to directory `ino` readable after a crash.
    pub(super) fn make_path_durable(&self, ino: u64) -> Result<()> {
        let mut at = ino;
        for _ in 0..4096 {
            if let Some(dir) = self.dirs.cached(at)? {
                dir.make_durable(&self.volume)?;
            }
            if at == ROOT {
                break;
            }
            // An inode whose directory is unknown was removed: its names need nothing.
            let Ok(parent) = self.inodes.parent(at) else {
                break;
            };
            at = parent;
        }
        // After the walk: a directory may leave the cache just before it is looked for.
        let evicted = self.dirs.evicted_pending.load(Ordering::Acquire);
        // Whoever comes while another one syncs waits for that.
        let mut synced = self
            .dirs
            .evicted_synced
            .lock()
            .map_err(|_| Error::Poisoned)?;
        if *synced < evicted {
            self.volume.backing().sync_all()?;
            *synced = evicted;
        }
        Ok(())
    }
}
