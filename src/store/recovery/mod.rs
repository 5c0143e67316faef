//! Recovery.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::content::Geometry;
use crate::crypto::{VolumeKeys, WriteSeq};
use crate::format::superblock::Superblock;
use crate::store::backing::Backing;
use crate::store::error::Result;
use crate::store::volume::VolumeError;

/// What recovery works on.
pub struct Env<'a, B: Backing> {
    pub backing: &'a B,
    pub journal: &'a B::Dir,
    pub keys: &'a Arc<VolumeKeys>,
    pub geometry: Geometry,
    /// The superblock as it was on the disk.
    pub found: &'a Superblock,
    pub copy: bool,
    pub writable: bool,
    pub next_seq: &'a dyn Fn() -> Result<WriteSeq>,
    pub progress: &'a dyn Fn(Progress),
}

impl<B: Backing> std::fmt::Debug for Env<'_, B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Env")
            .field("found", &self.found)
            .field("copy", &self.copy)
            .field("writable", &self.writable)
            .finish_non_exhaustive()
    }
}

/// How far recovery has come.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    pub done: u64,
    pub total: u64,
}

/// What recovery found.
#[derive(Debug, Default)]
pub struct Recovery {
    pub report: Report,
    pub views: HashMap<u64, View>,
    pub last_turn: u64,
}

/// What must be laid over a file.
#[derive(Debug, Clone, Default)]
pub struct View {
    pub size: u64,
    pub chunks: BTreeMap<u64, Arc<[u8]>>,
}

/// What was done.
#[derive(Debug, Clone, Default)]
pub struct Report {}

/// Runs.
pub fn run<B: Backing>(env: &Env<'_, B>) -> std::result::Result<Recovery, VolumeError> {
    Ok(Recovery {
        last_turn: env.found.retired_turn,
        ..Recovery::default()
    })
}
