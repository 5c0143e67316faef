//! New files without records.

use std::fs;

use wardfs::format::journal::Record;

use crate::lab::{C, FINAL, INNER, Lab, Stored, TURN, chunk_at};

/// A vault with an old file and a new one of ten chunks in the same directory, which is covered.
fn new_file() -> (Lab, Stored, u64) {
    let lab = Lab::with(&[("dir/old", &[8; 9000])]);
    let seq = lab.crash();
    lab.fill_new("dir/new", seq);
    let new = lab.find_new();
    let (path, ino) = lab.find_dir("dir");
    lab.segment(TURN)
        .dirs(seq, vec![Record::Cover { ino, path }])
        .write();
    (lab, new, seq)
}

impl Lab {
    /// Makes a file with a name that some file of the vault might have, of ten chunks written from `seq` on.
    fn fill_new(&self, dir: &str, seq: u64) {
        let (dir, _) = dir.split_once('/').expect("a directory");
        let (above, _) = self.find_dir(dir);
        let above = String::from_utf8(above).expect("base64url");
        let path = self.vault().join(above).join("N".repeat(43));
        let (header, _) = self.keys().new_file(wardfs::crypto::Cipher::Xaes256Gcm, 12);
        fs::write(&path, header.encode()).expect("room");
        let new = self.stored(&path);
        for no in 0..9 {
            new.put(no, seq + 1 + no, &[no as u8; C], INNER);
        }
        new.put(9, seq + 20, &[9; 50], FINAL);
    }

    fn find_new(&self) -> Stored {
        let found = crate::lab::walk(self.vault());
        let (path, _) = found
            .iter()
            .find(|(path, _)| path.ends_with("N".repeat(43)))
            .expect("just made");
        self.stored(path)
    }
}

fn len(file: &Stored) -> usize {
    fs::metadata(&file.path).expect("there").len() as usize
}

#[test]
fn a_whole_one_is_left_alone() {
    let (lab, ..) = new_file();
    let before = lab.snapshot();
    let recovery = lab.recover();
    assert_eq!(lab.snapshot(), before);
    assert!(recovery.report.healed.is_empty());
}

#[test]
fn its_end_is_cut_where_it_is_torn_or_missing() {
    for kept in [0, 1, 5, 8] {
        let (lab, new, _) = new_file();
        new.tear(kept);
        let report = lab.recover().report;
        assert_eq!(report.cut.len(), 1, "{report:?}");
        assert_eq!(report.cut[0].to, kept * C as u64);
        let expected = if kept == 0 { 64 + 40 } else { chunk_at(kept) };
        assert_eq!(len(&new), expected);
        assert!(lab.recover().report.healed.is_empty());
        // Zeros where data was never written, and an end in the middle of a chunk.
        let (lab, new, _) = new_file();
        new.write_at(chunk_at(kept), &[0; C + 40]);
        new.set_len(chunk_at(8) + 99);
        lab.recover();
        assert_eq!(len(&new), expected);
    }
}

#[test]
fn without_a_header_it_becomes_empty() {
    for cut in [None, Some(0), Some(40)] {
        let (lab, new, _) = new_file();
        match cut {
            None => new.write_at(0, &[0; 512]),
            Some(len) => new.set_len(len),
        }
        let report = lab.recover().report;
        assert_eq!((report.emptied.len(), report.damaged.len()), (1, 0));
        assert_eq!(len(&new), 64 + 40);
        // With a header of its own, so that it needs no tolerance when it is read.
        lab.stored(&new.path);
        let report = lab.recover().report;
        assert_eq!((report.emptied.len(), report.healed.len()), (0, 0));
    }
}

#[test]
fn an_old_file_that_is_damaged_is_not_taken_for_a_new_one() {
    for at in [10, chunk_at(0) + 8, chunk_at(0) + 99, chunk_at(1) + 99] {
        let (lab, ..) = new_file();
        let old = lab.find("dir/old");
        // Its change time is as young as that of a new one.
        let byte = fs::read(&old.path).expect("there")[at];
        old.write_at(at, &[!byte]);
        let before = lab.snapshot();
        let report = lab.recover().report;
        assert!(
            report.cut.is_empty() && report.emptied.is_empty(),
            "at {at}"
        );
        assert_eq!(lab.snapshot(), before, "at {at}");
    }
}

#[test]
fn only_files_in_covered_directories_that_are_young_are_looked_at() {
    let (lab, new, _) = new_file();
    new.tear(3);
    let before = lab.snapshot();
    // Changed long before the volume was opened.
    lab.change_superblock(|block| block.opened_at += 3_600_000_000_000);
    assert!(lab.recover().report.is_empty() || lab.snapshot() == before);
    lab.change_superblock(|block| block.opened_at -= 3_600_000_000_000);
    // The mount after the crash began and did not get through: it moved the time, and left a window.
    lab.change_superblock(|block| {
        let now = block.opened_at + 7_200_000_000_000;
        block.windows.push((block.opened_at - 1_000_000_000, now));
        block.opened_at = now;
    });
    assert_eq!(lab.recover().report.cut.len(), 1);

    let (lab, new, _) = new_file();
    new.tear(3);
    lab.write_segment(TURN, b"");
    let before = lab.snapshot();
    assert!(lab.recover().report.is_empty());
    assert_eq!(lab.snapshot(), before);
}

#[test]
fn a_covered_directory_is_found_by_its_inode_number_and_new_ones_below_it_count_too() {
    for cover in ["dir", ""] {
        let (lab, new, seq) = new_file();
        new.tear(2);
        let path = match cover {
            "" => Vec::new(),
            _ => b"M".repeat(43),
        };
        let ino = match cover {
            "" => std::os::unix::fs::MetadataExt::ino(&fs::metadata(lab.vault()).expect("there")),
            _ => lab.find_dir("dir").1,
        };
        lab.segment(TURN)
            .dirs(seq, vec![Record::Cover { ino, path }])
            .write();
        assert_eq!(lab.recover().report.cut.len(), 1, "{cover:?}");
    }
}

#[test]
fn a_new_file_that_the_journal_names_is_verified_too() {
    let (lab, new, seq) = new_file();
    let place = Record::Place {
        ino: new.ino,
        durable: false,
        path: new.rel.clone(),
    };
    lab.segment(TURN)
        .group(&new, seq + 30, &[(4, &[77; C], INNER)], vec![place])
        .write();
    new.tear(4);
    new.tear(7);
    let report = lab.recover().report;
    assert_eq!(report.cut[0].to, 7 * C as u64);
    let bytes = fs::read(&new.path).expect("there");
    let chunk = &bytes[chunk_at(4)..chunk_at(5)];
    let mut plain = vec![0; C];
    let opened = new.keys.open(wardfs::crypto::ChunkNo(4), chunk, &mut plain);
    assert!(opened.is_ok() && plain == [77; C]);
}
