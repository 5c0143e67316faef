//! Changed bytes and moved chunks.

use std::fs;
use std::os::unix::fs::FileExt;

use crate::common::Vault;
use crate::lab::*;

/// Two whole chunks and a partial one.
const LEN: usize = 9000;
const STORED_LEN: usize = HEADER + 3 * 40 + LEN;

fn every_flipped_byte(cipher: &str) {
    let vault = Vault::with(&["--cipher", cipher]);
    let mount = vault.mount_with(&FORGETFUL);
    let (plain, other) = (content(1, LEN), content(2, LEN));
    fs::write(mount.join("file"), &plain).expect("written");
    fs::write(mount.join("other"), &other).expect("written");
    let stored = stored(&mount, "file");
    assert_eq!(
        fs::metadata(&stored).expect("stored").len(),
        STORED_LEN as u64
    );
    for at in 0..STORED_LEN {
        // Every bit of the header, of the first nonce and of the last tag; one bit of each other byte.
        let all_bits = !(HEADER + 24..STORED_LEN - 16).contains(&at);
        let bits = if all_bits { 0..8 } else { at % 8..at % 8 + 1 };
        for bit in bits {
            flip(&stored, at, 1 << bit);
            assert_refused(&mount.join("file"), (at, bit));
            flip(&stored, at, 1 << bit);
        }
        if at % 500 == 0 || at + 1 == STORED_LEN {
            assert_eq!(
                read(&mount.join("file")).as_ref(),
                Ok(&plain),
                "restored after {at}"
            );
            assert_eq!(read(&mount.join("other")).as_ref(), Ok(&other));
        }
    }
    mount.umount();
}

#[test]
fn every_flipped_byte_of_an_xaes_file_is_refused() {
    every_flipped_byte("xaes-256-gcm");
}

#[test]
fn every_flipped_byte_of_an_xchacha_file_is_refused() {
    every_flipped_byte("xchacha20-poly1305");
}

#[test]
fn a_damaged_chunk_is_refused_and_the_others_are_served() {
    let plain = content(1, LEN);
    let vault = prepared(&[], |mount| {
        fs::write(mount.join("file"), &plain).expect("written")
    });
    let mount = vault.mount();
    let stored = stored(&mount, "file");
    mount.umount();
    flip(&stored, chunk_at(1) + 100, 1);
    let mount = vault.mount();
    let file = fs::File::open(mount.join("file")).expect("opens");
    // Each read in its own page, so that readahead over the damage does not matter.
    let mut page = [0; CHUNK];
    file.read_exact_at(&mut page, 0)
        .expect("the first chunk is whole");
    assert_eq!(page[..], plain[..CHUNK]);
    let damaged = file.read_at(&mut page, CHUNK as u64).expect_err("damaged");
    assert_eq!(errno(&damaged), libc::EIO);
    let mut tail = [0; LEN - 2 * CHUNK];
    file.read_exact_at(&mut tail, 2 * CHUNK as u64)
        .expect("the last chunk is whole");
    assert_eq!(tail[..], plain[2 * CHUNK..]);
    drop(file);
    mount.umount();
}

#[test]
fn bytes_added_at_the_end_are_refused() {
    let vault = Vault::new();
    let mount = vault.mount_with(&FORGETFUL);
    for len in [0, 1, CHUNK, LEN] {
        let name = format!("{len}");
        fs::write(mount.join(&name), content(1, len)).expect("written");
        let stored = stored(&mount, &name);
        let whole = fs::read(&stored).expect("stored");
        for added in (1..=90).chain([
            4095,
            4096,
            STORED_CHUNK - 1,
            STORED_CHUNK,
            STORED_CHUNK + 41,
        ]) {
            let zeros = vec![0; added];
            let again: Vec<u8> = whole[HEADER..]
                .iter()
                .cycle()
                .take(added)
                .copied()
                .collect();
            for extension in [zeros, again] {
                fs::write(&stored, [&whole[..], &extension].concat()).expect("stored");
                assert_refused(&mount.join(&name), (len, added));
            }
        }
        fs::write(&stored, &whole).expect("stored");
        assert_eq!(read(&mount.join(&name)), Ok(content(1, len)));
    }
    mount.umount();
}

#[test]
fn chunks_moved_inside_a_file_or_to_another_are_refused() {
    let vault = prepared(&[], |mount| {
        for name in ["swapped", "repeated", "receiver", "donor", "header"] {
            fs::write(mount.join(name), content(1, LEN)).expect("written");
        }
        fs::write(mount.join("bystander"), content(3, LEN)).expect("written");
    });
    let mount = vault.mount();
    let [swapped, repeated, receiver, donor, header] =
        ["swapped", "repeated", "receiver", "donor", "header"].map(|name| stored(&mount, name));
    mount.umount();
    let [first, second] = [0, 1].map(|no| piece(&swapped, chunk_at(no), STORED_CHUNK));
    patch(&swapped, chunk_at(0), &second);
    patch(&swapped, chunk_at(1), &first);
    patch(
        &repeated,
        chunk_at(1),
        &piece(&repeated, chunk_at(0), STORED_CHUNK),
    );
    patch(
        &receiver,
        chunk_at(1),
        &piece(&donor, chunk_at(1), STORED_CHUNK),
    );
    patch(&header, 0, &piece(&donor, 0, HEADER));
    let mount = vault.mount();
    for name in ["swapped", "repeated", "receiver", "header"] {
        assert_refused(&mount.join(name), name);
    }
    assert_eq!(read(&mount.join("donor")), Ok(content(1, LEN)));
    assert_eq!(read(&mount.join("bystander")), Ok(content(3, LEN)));
    mount.umount();
}

/// The end of a file as it was when the file was shorter or longer.
#[test]
fn the_end_of_another_length_is_refused() {
    let vault = Vault::new();
    let steps = [2 * CHUNK - 100, 2 * CHUNK, LEN];
    let mut states = Vec::new();
    for len in steps {
        let mount = vault.mount();
        let file = fs::File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(mount.join("file"));
        let file = file.expect("opens");
        file.set_len(len as u64).expect("resized");
        file.write_all_at(&content(1, len), 0).expect("written");
        drop(file);
        let stored = stored(&mount, "file");
        mount.umount();
        states.push(fs::read(stored).expect("stored"));
    }
    let [short, whole, long] = &states[..] else {
        unreachable!("three steps")
    };
    let end = chunk_at(2);
    let attacks: [(&str, Vec<u8>); 5] = [
        (
            "a former last chunk in the middle",
            [&long[..chunk_at(1)], &whole[chunk_at(1)..end], &long[end..]].concat(),
        ),
        ("a former short last chunk in the middle", {
            let mut image = long.clone();
            image[chunk_at(1)..short.len()].copy_from_slice(&short[chunk_at(1)..]);
            image
        }),
        (
            "a former inner chunk at the end",
            [&whole[..chunk_at(1)], &long[chunk_at(1)..end]].concat(),
        ),
        ("cut after an inner chunk", long[..end].to_vec()),
        (
            "the end of another length",
            [&long[..end], &short[chunk_at(1)..]].concat(),
        ),
    ];
    let mount = vault.mount();
    let stored = stored(&mount, "file");
    mount.umount();
    for (attack, image) in attacks {
        fs::write(&stored, image).expect("stored");
        let mount = vault.mount();
        assert_refused(&mount.join("file"), attack);
        mount.umount();
    }
    fs::write(&stored, long).expect("stored");
    let mount = vault.mount();
    assert_eq!(read(&mount.join("file")), Ok(content(1, LEN)));
    mount.umount();
}

/// Content is bound to the file id, not to the name: only a manifest of the whole vault tells a swap.
#[test]
fn a_swapped_file_reads_as_the_other_one() {
    let vault = prepared(&[], |mount| {
        fs::write(mount.join("a"), content(1, LEN)).expect("written");
        fs::write(mount.join("b"), content(2, 100)).expect("written");
    });
    let mount = vault.mount();
    let [a, b] = ["a", "b"].map(|name| stored(&mount, name));
    mount.umount();
    let aside = vault.path().join("~wardfs/tmp/aside");
    fs::rename(&a, &aside).expect("moved");
    fs::rename(&b, &a).expect("moved");
    fs::rename(&aside, &b).expect("moved");
    let mount = vault.mount();
    assert_eq!(read(&mount.join("a")), Ok(content(2, 100)));
    assert_eq!(read(&mount.join("b")), Ok(content(1, LEN)));
    mount.umount();
}

#[test]
fn a_file_of_another_vault_is_refused() {
    let [ours, theirs] = [1, 2].map(|seed| {
        prepared(&[], |mount| {
            fs::write(mount.join("file"), content(seed, LEN)).expect("written")
        })
    });
    let mount = theirs.mount();
    let foreign = fs::read(stored(&mount, "file")).expect("stored");
    mount.umount();
    let mount = ours.mount();
    let stored = stored(&mount, "file");
    mount.umount();
    fs::write(stored, foreign).expect("stored");
    let mount = ours.mount();
    assert_refused(&mount.join("file"), "of another vault");
    mount.umount();
}

/// Sealing new bytes over damage would make it authentic.
#[test]
fn writing_into_a_damaged_chunk_is_refused_and_replacing_it_is_not() {
    let names = ["inner", "last", "whole"];
    let vault = prepared(&[], |mount| {
        for name in names {
            fs::write(mount.join(name), content(1, LEN)).expect("written");
        }
    });
    let mount = vault.mount_with(&FORGETFUL);
    let stored = names.map(|name| stored(&mount, name));
    flip(&stored[0], chunk_at(1) + 30, 4);
    flip(&stored[1], chunk_at(2) + 30, 4);
    flip(&stored[2], chunk_at(1) + 30, 4);
    let before = stored.clone().map(|path| fs::read(path).expect("stored"));
    let open = |name| {
        fs::File::options()
            .write(true)
            .open(mount.join(name))
            .expect("opens")
    };
    let e = open("inner")
        .write_at(b"patch", CHUNK as u64 + 7)
        .expect_err("damaged");
    assert_eq!(errno(&e), libc::EIO);
    let e = open("last")
        .write_at(b"patch", LEN as u64)
        .expect_err("damaged");
    assert_eq!(errno(&e), libc::EIO);
    let e = open("last").set_len(LEN as u64 + 1).expect_err("damaged");
    assert_eq!(errno(&e), libc::EIO);
    for (path, before) in stored.iter().zip(&before).take(2) {
        assert_eq!(&fs::read(path).expect("stored"), before);
    }
    open("whole")
        .write_all_at(&content(9, CHUNK), CHUNK as u64)
        .expect("the chunk is replaced");
    let mut expected = content(1, LEN);
    expected[CHUNK..2 * CHUNK].copy_from_slice(&content(9, CHUNK));
    assert_eq!(read(&mount.join("whole")), Ok(expected));
    mount.umount();
}

/// Whoever throws the content away does not need it: a file with a damaged or impossible end can be written anew.
#[test]
fn a_file_with_a_damaged_end_can_be_emptied_and_written_anew() {
    let names = ["flipped", "cut", "grown"];
    let vault = prepared(&[], |mount| {
        for name in names {
            fs::write(mount.join(name), content(1, LEN)).expect("written");
        }
    });
    let mount = vault.mount();
    let stored = names.map(|name| stored(&mount, name));
    mount.umount();
    flip(&stored[0], chunk_at(2) + 30, 4);
    cut(&stored[1], chunk_at(2));
    cut(&stored[2], chunk_at(3) + 7);
    let mount = vault.mount();
    for name in names {
        assert_refused(&mount.join(name), name);
        fs::write(mount.join(name), content(3, CHUNK + 1)).expect("emptied and written");
    }
    mount.umount();
    let mount = vault.mount();
    for name in names {
        assert_eq!(read(&mount.join(name)), Ok(content(3, CHUNK + 1)), "{name}");
    }
    mount.umount();
}

#[test]
fn the_log_names_inode_and_chunk_and_no_name() {
    use std::os::unix::fs::MetadataExt;
    let vault = prepared(&[], |mount| {
        fs::create_dir(mount.join("Ward-7")).expect("made");
        fs::write(mount.join("Ward-7/Jane-Doe"), content(1, LEN)).expect("written");
    });
    let log = vault.dir().join("log");
    let mount = vault.mount_with(&["--log-file", log.to_str().expect("ASCII")]);
    let stored = stored(&mount, "Ward-7/Jane-Doe");
    flip(&stored, chunk_at(2) + 1, 1);
    assert_refused(&mount.join("Ward-7/Jane-Doe"), "flipped");
    let ino = fs::metadata(&stored).expect("stored").ino();
    mount.umount();
    let log = fs::read_to_string(log).expect("written");
    assert!(
        log.contains(&format!(
            "inode {ino}: damaged: chunk 2: does not authenticate"
        )),
        "{log}"
    );
    assert!(!log.contains("Jane") && !log.contains("Ward-7"), "{log}");
}
