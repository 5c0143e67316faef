//! A data file in memory, and what is made of it.

use std::sync::Arc;

use crate::content::run::{Opened, Position, is_zero, open_chunk};
use crate::content::{Buffer, Geometry, seal_run};
use crate::crypto::{
    ChunkFlags, ChunkNo, Cipher, Epoch, FileKeys, VolumeKey, VolumeKeys, WriteSeq,
};
use crate::format::file::{CHUNK_OVERHEAD, HEADER_LEN};
use crate::format::keyring::{ContentRoot, Keyring};
use crate::store::error::Result;
use crate::store::recovery::view::{History, ImageAt, Limits, Outcome, Stored, View, build};
use crate::sys::secret::SecretBytes;

pub(super) const C: usize = 4096;

pub(super) fn geometry() -> Geometry {
    Geometry::new(12).expect("allowed")
}

pub(super) fn file_keys() -> FileKeys {
    let key = VolumeKey(SecretBytes::take(&mut [1; 32]));
    let keyring = Keyring {
        current: Epoch(0),
        roots: vec![ContentRoot {
            epoch: Epoch(0),
            created: 0,
            root: SecretBytes::take(&mut [2; 32]),
        }],
        tree: None,
    };
    let volume = Arc::new(VolumeKeys::new(&key, keyring));
    volume.new_file(Cipher::Xaes256Gcm, 12).1
}

pub(super) const INNER: ChunkFlags = ChunkFlags {
    is_final: false,
    sparse: false,
};
pub(super) const FINAL: ChunkFlags = ChunkFlags {
    is_final: true,
    sparse: false,
};
pub(super) const SPARSE: ChunkFlags = ChunkFlags {
    is_final: true,
    sparse: true,
};

pub(super) fn start(no: u64) -> usize {
    geometry().stored_start(ChunkNo(no)) as usize
}

/// A data file and its images, in memory.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory {
    pub(super) data: Vec<u8>,
    pub(super) images: Vec<Vec<u8>>,
}

impl Stored for Memory {
    fn stored_len(&self) -> u64 {
        self.data.len() as u64
    }

    fn slot(&mut self, no: u64, out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        let end = self.data.len().min(start(no + 1));
        out.extend_from_slice(self.data.get(start(no)..end).unwrap_or_default());
        Ok(())
    }

    fn next_data(&mut self, no: u64) -> Result<u64> {
        let mut no = no;
        while start(no) < self.data.len() {
            let end = self.data.len().min(start(no + 1));
            if !is_zero(&self.data[start(no)..end]) {
                return Ok(no);
            }
            no += 1;
        }
        Ok(u64::MAX)
    }

    fn image(&mut self, image: &ImageAt, out: &mut Vec<u8>) -> Result<()> {
        *out = self.images[image.at as usize].clone();
        Ok(())
    }
}

/// A change to the data file that is not yet on the disk.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Write(usize, Vec<u8>),
    Len(usize),
    Zero(usize, usize),
}

pub(super) fn write_sectors(
    data: &mut Vec<u8>,
    at: usize,
    bytes: &[u8],
    keep: &mut dyn FnMut() -> bool,
) {
    let mut from = at;
    while from < at + bytes.len() {
        let to = ((from / 512 + 1) * 512).min(at + bytes.len());
        if keep() {
            if data.len() < to {
                data.resize(to, 0);
            }
            data[from..to].copy_from_slice(&bytes[from - at..to - at]);
        }
        from = to;
    }
}

impl Change {
    pub(super) fn apply(&self, data: &mut Vec<u8>, keep: &mut dyn FnMut() -> bool) {
        match self {
            Self::Write(at, bytes) => write_sectors(data, *at, bytes, keep),
            Self::Len(len) => {
                if keep() {
                    data.resize(*len, 0);
                }
            }
            Self::Zero(at, end) => {
                let end = (*end).min(data.len());
                if *at < end {
                    write_sectors(data, *at, &vec![0; end - at], keep);
                }
            }
        }
    }
}

pub(super) fn changes(view: &View) -> Vec<Change> {
    let mut all = Vec::new();
    for (no, bytes) in &view.chunks {
        all.push(Change::Write(start(*no), bytes.to_vec()));
    }
    for (first, end) in &view.holes {
        all.push(Change::Zero(start(*first), start(*end)));
    }
    if let Some(size) = view.size {
        all.push(Change::Len(geometry().stored_size(size) as usize));
    }
    all
}

pub(super) fn apply(view: &View, data: &mut Vec<u8>) {
    for change in changes(view) {
        change.apply(data, &mut || true);
    }
}

/// Reads as a mount does: nothing that does not authenticate, and no hole where there may be none.
pub(super) fn read(keys: &FileKeys, data: &[u8]) -> std::result::Result<Vec<u8>, String> {
    let g = geometry();
    let size = g.plain_size(data.len() as u64).map_err(|e| e.to_string())?;
    let last = g.last_chunk(size).0;
    let mut content = Vec::new();
    let mut zero = None;
    let mut sparse = false;
    for no in 0..=last {
        let mut plain = vec![0; g.chunk_len(ChunkNo(no), size)];
        let position = match no == last {
            true => Position::Last,
            false => Position::Inner,
        };
        let stored = &data[start(no)..start(no) + plain.len() + CHUNK_OVERHEAD];
        match open_chunk(keys, ChunkNo(no), position, stored, &mut plain) {
            Ok(Opened::Zero) => zero = Some(no),
            Ok(Opened::Data { sparse: s }) => sparse = s,
            Err(e) => return Err(format!("chunk {no} of {last}: {e}")),
        }
        content.extend(plain);
    }
    match zero.filter(|_| !sparse) {
        Some(no) => Err(format!("chunk {no} is a hole")),
        None => Ok(content),
    }
}

pub(super) struct Lab {
    pub(super) keys: FileKeys,
    pub(super) stored: Memory,
    pub(super) history: History,
    pub(super) limits: Limits,
    seq: u64,
}

impl Lab {
    pub(super) fn new() -> Self {
        Self {
            keys: file_keys(),
            stored: Memory {
                data: vec![7; HEADER_LEN],
                images: Vec::new(),
            },
            history: History::default(),
            limits: Limits {
                durable: WriteSeq(100),
                may_be_ahead: false,
                has_keys: true,
                unused: WriteSeq(1 << 30),
            },
            seq: 1 << 20,
        }
    }

    pub(super) fn seal(&self, no: u64, seq: u64, plain: &[u8], flags: ChunkFlags) -> Vec<u8> {
        let mut out = Buffer::empty();
        let seq = WriteSeq(seq);
        seal_run(
            &self.keys,
            geometry(),
            ChunkNo(no),
            plain,
            seq,
            flags,
            &mut out,
        );
        out.to_vec()
    }

    pub(super) fn put(&mut self, no: u64, seq: u64, plain: &[u8], flags: ChunkFlags) {
        let sealed = self.seal(no, seq, plain, flags);
        write_sectors(&mut self.stored.data, start(no), &sealed, &mut || true);
    }

    pub(super) fn image(&mut self, no: u64, seq: u64, plain: &[u8], flags: ChunkFlags) {
        let sealed = self.seal(no, seq, plain, flags);
        self.history.image(
            no,
            ImageAt {
                seq: WriteSeq(seq),
                segment: 0,
                at: self.stored.images.len() as u64,
                len: sealed.len() as u32,
            },
        );
        self.stored.images.push(sealed);
    }

    pub(super) fn build(&mut self) -> Outcome {
        self.history.finish();
        let seq = &mut self.seq;
        build(
            &self.history,
            &self.keys,
            geometry(),
            self.limits,
            &mut self.stored,
            &mut || {
                *seq += 1;
                Ok(WriteSeq(*seq))
            },
        )
        .expect("memory can be read")
    }

    /// Gives each image the number of the chunk in place, and that chunk the number of the image.
    pub(super) fn swap_sequences(&mut self) {
        let images: Vec<(u64, ImageAt)> =
            self.history.images.iter().map(|(n, i)| (*n, *i)).collect();
        for (no, mut at) in images {
            let (begin, end) = (start(no), self.stored.data.len().min(start(no + 1)));
            let in_place = self.stored.data.get(begin..end).unwrap_or_default();
            let image = &self.stored.images[at.at as usize];
            let open = |sealed: &[u8]| {
                let mut plain = vec![0; sealed.len().checked_sub(CHUNK_OVERHEAD)?];
                let meta = self.keys.open(ChunkNo(no), sealed, &mut plain).ok()?;
                Some((meta, plain))
            };
            let (Some((old, old_plain)), Some((new, new_plain))) = (open(in_place), open(image))
            else {
                continue;
            };
            let image = self.seal(no, old.seq.0, &new_plain, new.flags);
            let sealed = self.seal(no, new.seq.0, &old_plain, old.flags);
            self.stored.data[begin..end].copy_from_slice(&sealed);
            self.stored.images[at.at as usize] = image;
            at.seq = old.seq;
            self.history.images.insert(no, at);
        }
    }

    /// What is read after recovery, which a second time must find nothing to do.
    #[track_caller]
    pub(super) fn recovered(&mut self) -> Vec<u8> {
        let outcome = self.build();
        assert!(!outcome.damaged, "{outcome:?}");
        if let Some(view) = &outcome.view {
            apply(view, &mut self.stored.data);
        }
        let again = self.build();
        assert!(again.view.is_none() && again.cut.is_none(), "{again:?}");
        read(&self.keys, &self.stored.data).expect("it can be read")
    }
}

pub(super) fn fill(byte: u8, len: usize) -> Vec<u8> {
    vec![byte; len]
}
