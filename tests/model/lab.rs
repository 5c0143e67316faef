//! A vault used through the library, without a mount.

use std::path::PathBuf;
use std::sync::Arc;

use wardfs::crypto::{Cipher, VolumeKeys};
use wardfs::format::volume::VolumeHeader;
use wardfs::fs::{Config, Fs};
use wardfs::keys::kdf::Argon2Params;
use wardfs::keys::secret::SlotSecret;
use wardfs::store::disk::{Atime, Disk};
use wardfs::store::upkeep::JournalMode;
use wardfs::store::volume::{Access, InitParams, Locked, Options, Volume, init};
use wardfs::sys::secret::SecretVec;

use crate::common::TempDir;
use crate::watched::{Watch, Watched};

pub struct Lab {
    dir: TempDir,
    keys: Arc<VolumeKeys>,
    header: VolumeHeader,
    pub watch: Arc<Watch>,
}

impl Lab {
    pub fn new(cipher: Cipher, chunk_size: u32) -> Self {
        Self::with(cipher, chunk_size, JournalMode::Full)
    }

    pub fn without_journal(cipher: Cipher, chunk_size: u32) -> Self {
        Self::with(cipher, chunk_size, JournalMode::Off)
    }

    fn with(cipher: Cipher, chunk_size: u32, journal: JournalMode) -> Self {
        let dir = TempDir::new();
        let mut passphrase = SecretVec::new();
        passphrase.extend_from_slice(b"test");
        let secret = SlotSecret::new(Some(passphrase), None).expect("a passphrase");
        let kdf = Argon2Params {
            memory_kib: 8 * 1024,
            time: 1,
            lanes: 1,
        };
        let params = InitParams {
            cipher,
            chunk_size,
            label: String::new(),
            kdf,
            journal,
        };
        init(&dir.join("vault"), &params, &secret).expect("free");
        let locked = Locked::open(&dir.join("vault")).expect("just made");
        let (_, keys) = locked.unlock(&secret).expect("just made");
        Self {
            header: locked.header().clone(),
            dir,
            keys,
            watch: Arc::default(),
        }
    }

    pub fn vault(&self) -> PathBuf {
        self.dir.join("vault")
    }

    pub fn open(&self) -> Fs<Watched> {
        let disk = Disk::open(&self.vault(), Atime::Backing).expect("there");
        let backing = Watched {
            disk,
            watch: self.watch.clone(),
        };
        let volume = Volume::on(
            backing,
            None,
            self.keys.clone(),
            &self.header,
            Access::ReadWrite,
            Options::default(),
        )
        .expect("whole");
        // Few directories, so that they leave the cache and come again.
        let config = Config {
            own_as_caller: false,
            acl: false,
            cached_dirs: 4,
        };
        Fs::new(volume, config).expect("readable")
    }
}
