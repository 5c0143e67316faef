//! A file under a writer that keeps the rules of the journal, and under power cuts.

use super::*;
use crate::content::run::{Opened, Position, is_zero, open_chunk};
use crate::crypto::{Cipher, Epoch, VolumeKey, VolumeKeys};
use crate::format::file::HEADER_LEN;
use crate::format::keyring::{ContentRoot, Keyring};
use crate::sys::secret::SecretBytes;

const C: usize = 4096;

fn geometry() -> Geometry {
    Geometry::new(12).expect("allowed")
}

fn file_keys() -> FileKeys {
    let key = VolumeKey(SecretBytes::take(&mut [1; 32]));
    let keyring = Keyring {
        current: Epoch(0),
        roots: vec![ContentRoot {
            epoch: Epoch(0),
            created: 0,
            root: SecretBytes::take(&mut [2; 32]),
        }],
    };
    let volume = Arc::new(VolumeKeys::new(&key, keyring));
    volume.new_file(Cipher::Xaes256Gcm, 12).1
}

const INNER: ChunkFlags = ChunkFlags {
    is_final: false,
    sparse: false,
};
const FINAL: ChunkFlags = ChunkFlags {
    is_final: true,
    sparse: false,
};
const SPARSE: ChunkFlags = ChunkFlags {
    is_final: true,
    sparse: true,
};

fn start(no: u64) -> usize {
    geometry().stored_start(ChunkNo(no)) as usize
}

/// A data file and its images, in memory.
#[derive(Debug, Clone, Default)]
struct Memory {
    data: Vec<u8>,
    images: Vec<Vec<u8>>,
}

impl Stored for Memory {
    fn len(&self) -> u64 {
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
enum Change {
    Write(usize, Vec<u8>),
    Len(usize),
    Zero(usize, usize),
}

fn write_sectors(data: &mut Vec<u8>, at: usize, bytes: &[u8], keep: &mut dyn FnMut() -> bool) {
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
    fn apply(&self, data: &mut Vec<u8>, keep: &mut dyn FnMut() -> bool) {
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

fn changes(view: &View) -> Vec<Change> {
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

fn apply(view: &View, data: &mut Vec<u8>) {
    for change in changes(view) {
        change.apply(data, &mut || true);
    }
}

/// Reads as a mount does: nothing that does not authenticate, and no hole where there may be none.
fn read(keys: &FileKeys, data: &[u8]) -> std::result::Result<Vec<u8>, String> {
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

struct Lab {
    keys: FileKeys,
    stored: Memory,
    history: History,
    limits: Limits,
    seq: u64,
}

impl Lab {
    fn new() -> Self {
        Self {
            keys: file_keys(),
            stored: Memory {
                data: vec![7; HEADER_LEN],
                images: Vec::new(),
            },
            history: History::default(),
            limits: Limits {
                durable: WriteSeq(100),
                unused: WriteSeq(1 << 30),
            },
            seq: 1 << 20,
        }
    }

    fn seal(&self, no: u64, seq: u64, plain: &[u8], flags: ChunkFlags) -> Vec<u8> {
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

    fn put(&mut self, no: u64, seq: u64, plain: &[u8], flags: ChunkFlags) {
        let sealed = self.seal(no, seq, plain, flags);
        write_sectors(&mut self.stored.data, start(no), &sealed, &mut || true);
    }

    fn image(&mut self, no: u64, seq: u64, plain: &[u8], flags: ChunkFlags) {
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

    fn build(&mut self) -> Outcome {
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

    /// What is read after recovery, which a second time must find nothing to do.
    #[track_caller]
    fn recovered(&mut self) -> Vec<u8> {
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

fn fill(byte: u8, len: usize) -> Vec<u8> {
    vec![byte; len]
}

#[test]
fn an_image_replaces_a_torn_chunk_and_an_older_one_but_not_a_newer_one() {
    let mut lab = Lab::new();
    for no in 0..3 {
        lab.put(no, 10, &fill(1, C), INNER);
    }
    lab.put(3, 10, &fill(1, 9), FINAL);
    lab.image(0, 120, &fill(2, C), INNER);
    lab.stored.data[start(0) + 50] ^= 1;
    lab.image(1, 121, &fill(3, C), INNER);
    lab.image(2, 122, &fill(4, C), INNER);
    lab.put(2, 130, &fill(5, C), INNER);
    let expected = [fill(2, C), fill(3, C), fill(5, C), fill(1, 9)].concat();
    assert_eq!(lab.recovered(), expected);
}

#[test]
fn of_several_images_the_newest_counts_whatever_their_order() {
    let mut lab = Lab::new();
    lab.put(0, 10, b"old", FINAL);
    lab.image(0, 122, b"new", FINAL);
    lab.image(0, 121, b"mid", FINAL);
    assert_eq!(lab.recovered(), b"new");
}

#[test]
fn a_broken_end_of_which_the_journal_says_nothing_is_left_alone() {
    let mut lab = Lab::new();
    lab.put(0, 10, &fill(1, C), INNER);
    lab.put(1, 10, &fill(1, 80), FINAL);
    lab.stored.data.truncate(start(1) + 60);
    lab.image(0, 120, &fill(2, C), INNER);
    let outcome = lab.build();
    let view = outcome.view.expect("the image");
    assert_eq!(view.size, None);
    assert_eq!(view.chunks.keys().collect::<Vec<_>>(), [&0]);
    assert_eq!(outcome.cut, None);
}

#[test]
fn growth_in_the_journal_needs_nothing_in_place() {
    let mut lab = Lab::new();
    lab.put(0, 10, &fill(1, 100), FINAL);
    lab.image(0, 120, &[fill(1, 100), fill(2, C - 100)].concat(), INNER);
    lab.image(1, 120, &fill(2, 50), FINAL);
    lab.history.resized(WriteSeq(120), C as u64 + 50);
    assert_eq!(lab.recovered(), [fill(1, 100), fill(2, C - 50)].concat());
}

#[test]
fn a_shrink_ends_the_life_of_what_was_behind_it_even_if_the_file_grew_again() {
    let mut lab = Lab::new();
    for no in 0..5 {
        lab.put(no, 10, &fill(1, C), INNER);
    }
    lab.put(5, 10, &fill(1, 5), FINAL);
    lab.image(3, 119, &fill(9, C), INNER);
    lab.image(1, 120, &fill(1, 10), FINAL);
    lab.history.resized(WriteSeq(120), C as u64 + 10);
    lab.image(1, 121, &[fill(1, 10), fill(0, C - 10)].concat(), INNER);
    lab.image(4, 121, &fill(0, 7), SPARSE);
    lab.history.resized(WriteSeq(121), 4 * C as u64 + 7);
    let expected = [fill(1, C + 10), fill(0, 3 * C - 3)].concat();
    assert_eq!(lab.recovered(), expected);
}

#[test]
fn punched_chunks_are_holes_unless_they_were_written_since() {
    let mut lab = Lab::new();
    for no in 0..4 {
        lab.put(no, 10, &fill(1, C), INNER);
    }
    lab.put(4, 10, &fill(1, 5), FINAL);
    lab.image(1, 119, &fill(9, C), INNER);
    lab.image(4, 120, &fill(1, 5), SPARSE);
    lab.history.punched(WriteSeq(120), 1, 4);
    lab.image(2, 121, &fill(3, C), INNER);
    let expected = [fill(1, C), fill(0, C), fill(3, C), fill(0, C), fill(1, 5)].concat();
    assert_eq!(lab.recovered(), expected);
}

#[test]
fn an_extension_of_which_nothing_arrived_is_cut_back_to_the_byte() {
    let mut lab = Lab::new();
    lab.put(0, 10, &fill(1, C), INNER);
    lab.put(1, 10, &fill(1, 100), FINAL);
    lab.image(1, 120, &[fill(1, 100), fill(2, C - 100)].concat(), INNER);
    lab.history.extends(WriteSeq(120), C as u64 + 100);
    assert_eq!(lab.recovered(), fill(1, C + 100));
}

#[test]
fn an_extension_is_kept_up_to_the_first_chunk_that_is_bad() {
    for (bad, kept) in [(2, 1), (3, 2), (4, 3), (9, 5)] {
        let mut lab = Lab::new();
        lab.put(0, 10, &fill(1, C), FINAL);
        lab.image(0, 120, &fill(1, C), INNER);
        lab.history.extends(WriteSeq(120), C as u64);
        for no in 1..4 {
            lab.put(no, 121, &fill(2, C), INNER);
        }
        lab.put(4, 121, &fill(2, C), FINAL);
        // A torn last chunk claims to be the last one; a missing one is zero.
        match bad {
            2 => lab.stored.data[start(1)..start(2)].fill(0),
            9 => {}
            _ => lab.stored.data[start(bad - 1) + 600] ^= 1,
        }
        let expected = [fill(1, C), fill(2, (kept - 1) * C)].concat();
        assert_eq!(lab.recovered(), expected, "bad {bad}");
    }
}

#[test]
fn an_empty_file_that_was_to_grow_is_empty_again() {
    for told in [false, true] {
        let mut lab = Lab::new();
        lab.put(0, 10, b"", FINAL);
        if told {
            lab.image(0, 120, &fill(1, C), INNER);
        }
        lab.history.extends(WriteSeq(120), 0);
        assert_eq!(lab.recovered(), b"", "told {told}");
    }
}

#[test]
fn a_kill_between_the_old_last_chunk_and_the_next_ones_loses_nothing() {
    let mut lab = Lab::new();
    lab.history.fresh = true;
    lab.put(0, 120, &fill(1, C), INNER);
    lab.put(1, 121, &fill(2, C), INNER);
    assert_eq!(lab.recovered(), [fill(1, C), fill(2, C)].concat());
}

#[test]
fn a_kill_between_a_new_end_and_the_cut_loses_nothing() {
    let mut lab = Lab::new();
    lab.history.fresh = true;
    for no in 0..3 {
        lab.put(no, 120, &fill(1, C), INNER);
    }
    lab.put(3, 120, &fill(1, 500), FINAL);
    lab.put(1, 121, &fill(1, 700), FINAL);
    assert_eq!(lab.recovered(), fill(1, C + 700));
}

#[test]
fn a_new_file_of_which_only_the_header_arrived_is_empty() {
    let mut lab = Lab::new();
    lab.history.fresh = true;
    assert_eq!(lab.recovered(), b"");
    lab.stored.data.truncate(HEADER_LEN);
    lab.stored.data.resize(start(2), 0);
    assert_eq!(lab.recovered(), b"");
}

#[test]
fn holes_of_a_new_file_are_kept_if_its_last_chunk_knows_of_them() {
    for (flags, len) in [(SPARSE, 3 * C + 9), (FINAL, C)] {
        let mut lab = Lab::new();
        lab.history.fresh = true;
        lab.put(0, 120, &fill(1, C), INNER);
        lab.put(3, 120, &fill(1, 9), flags);
        let content = lab.recovered();
        assert_eq!(content.len(), len);
        assert!(content[..C].iter().all(|b| *b == 1));
    }
}

#[test]
fn an_old_file_is_not_cut_as_a_new_one() {
    let mut lab = Lab::new();
    lab.history.fresh = true;
    lab.put(0, 10, &fill(1, C), INNER);
    lab.put(1, 10, &fill(1, C), FINAL);
    assert!(lab.build().view.is_none());
    lab.stored.data[start(1) + 77] ^= 4;
    let outcome = lab.build();
    assert!(outcome.damaged && outcome.view.is_none() && outcome.cut.is_none());
    // Also where only its first nonce is left to tell.
    lab.stored.data[start(0) + 77] ^= 4;
    assert!(lab.build().damaged);
}

#[test]
fn holes_that_were_there_before_an_extension_are_not_taken_for_lost_data() {
    let mut lab = Lab::new();
    lab.history.fresh = true;
    // Written and synced as a new file with holes; then it grew, and the growth was torn.
    lab.put(0, 120, &fill(1, C), INNER);
    lab.put(3, 121, &fill(2, 50), SPARSE);
    lab.image(3, 130, &[fill(2, 50), fill(3, C - 50)].concat(), INNER);
    lab.history.extends(WriteSeq(130), 3 * C as u64 + 50);
    lab.put(4, 131, &fill(3, C), FINAL);
    lab.stored.data[start(4) + 2000] ^= 1;
    let expected = [fill(1, C), fill(0, 2 * C), fill(2, 50)].concat();
    assert_eq!(lab.recovered(), expected);
}

#[test]
fn a_cut_file_with_older_holes_still_says_that_it_has_some() {
    let mut lab = Lab::new();
    lab.put(0, 10, &fill(1, C), INNER);
    lab.put(2, 10, &fill(1, 5), SPARSE);
    lab.image(2, 120, &[fill(1, 5), fill(2, C - 5)].concat(), INNER);
    lab.history.extends(WriteSeq(120), 2 * C as u64 + 5);
    let expected = [fill(1, C), fill(0, C), fill(1, 5)].concat();
    assert_eq!(lab.recovered(), expected);
}

#[test]
fn stale_chunks_do_not_come_back_when_a_cut_was_lost() {
    let mut lab = Lab::new();
    for no in 0..6 {
        lab.put(no, 10, &fill(9, C), INNER);
    }
    lab.put(6, 10, &fill(9, C), FINAL);
    lab.image(1, 120, &fill(1, 10), FINAL);
    lab.history.resized(WriteSeq(120), C as u64 + 10);
    lab.image(1, 130, &[fill(1, 10), fill(2, C - 10)].concat(), INNER);
    lab.history.extends(WriteSeq(130), C as u64 + 10);
    lab.put(2, 131, &fill(2, C), INNER);
    let expected = [fill(9, C), fill(1, 10), fill(2, 2 * C - 10)].concat();
    assert_eq!(lab.recovered(), expected);
}

#[test]
fn images_that_are_not_what_was_written_are_refused() {
    let mut lab = Lab::new();
    lab.put(0, 10, &fill(1, C), INNER);
    lab.put(1, 10, &fill(1, 9), FINAL);
    lab.image(0, 120, &fill(2, C), INNER);
    lab.image(1, 120, &fill(2, 9), FINAL);
    // One was changed; the other is one that was written at another time.
    lab.stored.images[0][99] ^= 1;
    lab.stored.images[1] = lab.seal(1, 119, &fill(3, 9), FINAL);
    let outcome = lab.build();
    assert_eq!(outcome.refused, 2);
    assert!(outcome.view.is_none());
}

#[test]
fn a_view_of_a_huge_hole_is_small() {
    let mut lab = Lab::new();
    let size = 1u64 << 50;
    lab.put(0, 10, &fill(1, 3), FINAL);
    lab.image(0, 120, &[fill(1, 3), fill(0, C - 3)].concat(), INNER);
    let last = geometry().last_chunk(size).0;
    lab.image(last, 120, &fill(0, C), SPARSE);
    lab.history.resized(WriteSeq(120), size);
    lab.history.extends(WriteSeq(90), 3);
    let view = lab.build().view.expect("it has to grow");
    assert_eq!(view.size, Some(size));
    assert_eq!((view.chunks.len(), view.holes.len()), (2, 0));
}

#[test]
fn a_view_answers_chunk_by_chunk() {
    let mut view = View::default();
    view.chunks.insert(2, Arc::from(&[1u8, 2][..]));
    for no in [4, 5, 6, 9] {
        view.add_hole(no);
    }
    assert_eq!(view.holes, BTreeMap::from([(4, 7), (9, 10)]));
    assert_eq!(view.chunk(ChunkNo(2)), Laid::Stored(&[1, 2]));
    assert_eq!(view.chunk(ChunkNo(6)), Laid::Hole);
    assert_eq!(view.chunk(ChunkNo(7)), Laid::InPlace);
    view.keep_through(5);
    assert_eq!(view.holes, BTreeMap::from([(4, 6)]));
    remove_hole(&mut view.holes, 5);
    remove_hole(&mut view.holes, 4);
    assert!(view.holes.is_empty());
}

mod power_cuts;
