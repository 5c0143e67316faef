//! Large journals: what recovery does grows with what is written back, not with the number of records.

use wardfs::crypto::ChunkNo;
use wardfs::format::journal::Record;
use wardfs::store::recovery::Origin;

use crate::lab::{C, FINAL, INNER, Lab, Stored, TURN};

const FILES: usize = 10;
/// Chunks of each file that are overwritten again and again.
const CHUNKS: u64 = 50;

/// The calls of one name in a list as a watched disk gives it.
fn count(calls: &str, name: &str) -> u64 {
    let of = |call: &str| call.strip_prefix(name)?.strip_prefix('*')?.parse().ok();
    calls.split(' ').find_map(of).unwrap_or(0)
}

/// Overwrites every chunk of every file `rounds` times, with `per_group` records in a group; answers the records.
fn fill(lab: &Lab, files: &[Stored], seq: u64, rounds: u64, per_group: u64) -> u64 {
    let mut segment = lab.segment(TURN);
    let mut seq = seq;
    let mut records = 0;
    for round in 0..rounds {
        for file in files {
            for first in (0..CHUNKS).step_by(per_group as usize) {
                let chunks = first..CHUNKS.min(first + per_group);
                let place = (round == 0 && first == 0).then(|| file.place());
                seq += 1;
                records += chunks.end - chunks.start;
                if round + 1 == rounds {
                    let new = [9; C];
                    let images: Vec<_> = chunks.map(|no| (no, &new[..], INNER)).collect();
                    segment = segment.group(file, seq, &images, place.into_iter().collect());
                    continue;
                }
                // What is not the newest of its chunk is never looked at: this is no chunk at all.
                let image = |no| Record::Image {
                    chunk: ChunkNo(no),
                    len: 8,
                };
                let data = vec![0; 8 * (chunks.end - chunks.start) as usize];
                let list = place.into_iter().chain(chunks.map(image)).collect();
                segment = segment.raw(Some(file.id), seq, list, data);
            }
        }
    }
    segment.write();
    records
}

#[test]
fn a_million_records_take_as_many_calls_as_there_are_chunks_to_write() {
    let per_group = std::env::var("WARDFS_TEST_PER_GROUP").ok();
    let per_group = per_group.and_then(|n| n.parse().ok()).unwrap_or(CHUNKS);
    let old = [vec![1; CHUNKS as usize * C], vec![1; 9]].concat();
    let names: Vec<String> = (0..FILES).map(|i| format!("file{i}")).collect();
    let contents: Vec<(&str, &[u8])> = names.iter().map(|n| (&n[..], &old[..])).collect();
    let lab = Lab::with(&contents);
    let files: Vec<Stored> = names.iter().map(|name| lab.find(name)).collect();
    let seq = lab.crash();
    let records = fill(
        &lab,
        &files,
        seq,
        1_000_000 / (FILES as u64 * CHUNKS),
        per_group,
    );
    assert_eq!(records, 1_000_000);
    files[0].put(CHUNKS, 1, &[1; 9], FINAL);
    let disk = lab.watched();
    let report = lab.recover_on(&disk, Origin::InPlace, true).report;
    let calls = disk.watch.take();
    eprintln!(
        "{records} records in {} groups: {} ms; {calls}",
        report.groups, report.milliseconds
    );
    assert_eq!(report.groups, records / per_group);
    assert_eq!(report.healed.len(), FILES);
    assert!(report.healed.iter().all(|file| file.chunks == CHUNKS));
    // Each file is opened once to be read and once to be written; the segments are two.
    assert_eq!(count(&calls, "open"), 2 * FILES as u64 + 2);
    assert_eq!(count(&calls, "write_at"), FILES as u64);
    let images = FILES as u64 * CHUNKS;
    let windows = (report.groups * 4096 + records * 24) / (4 << 20);
    assert!(
        count(&calls, "read_at") <= images + 4 * FILES as u64 + windows + 4,
        "{calls}"
    );
    for name in names {
        let content = lab.read(&name).expect("whole");
        assert!(
            content[..CHUNKS as usize * C].iter().all(|b| *b == 9),
            "{name}"
        );
    }
}
