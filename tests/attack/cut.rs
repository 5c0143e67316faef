//! Files cut short, down to nothing.

use std::fs;
use std::time::{Duration, SystemTime};

use rustix::fs::{Advice, fadvise};

use crate::common::Vault;
use crate::lab::*;

#[test]
fn every_length_of_a_small_file_is_refused() {
    let vault = Vault::new();
    let mount = vault.mount_with(&FORGETFUL);
    for len in [0, 1, 4096, 4097, 5000] {
        let name = format!("{len}");
        let plain = content(1, len);
        fs::write(mount.join(&name), &plain).expect("written");
        let stored = stored(&mount, &name);
        let whole = fs::read(&stored).expect("stored");
        for kept in 0..whole.len() {
            cut(&stored, kept);
            assert_refused(&mount.join(&name), (len, kept));
            patch(&stored, kept, &whole[kept..]);
        }
        assert_eq!(read(&mount.join(&name)), Ok(plain), "restored");
    }
    mount.umount();
}

/// One file for each length, all cut while the vault is unmounted.
#[test]
fn every_length_is_refused_after_a_mount_whatever_its_time() {
    const LEN: usize = 150;
    const STORED: usize = HEADER + 40 + LEN;
    let hour = Duration::from_secs(3600);
    let times = [
        SystemTime::now() - hour,
        SystemTime::now(),
        SystemTime::now() + 1000 * hour,
    ];
    let vault = prepared(&[], |mount| {
        for time in 0..times.len() {
            for kept in 0..=STORED {
                fs::write(mount.join(format!("{time}-{kept}")), content(1, LEN)).expect("written");
            }
        }
    });
    let mount = vault.mount();
    let mut attacked = Vec::new();
    let mut by_ino = std::collections::HashMap::new();
    walk(&vault.path(), &mut |path, meta| {
        by_ino.insert(std::os::unix::fs::MetadataExt::ino(meta), path.to_owned());
    });
    for (i, time) in times.iter().enumerate() {
        for kept in 0..=STORED {
            let name = format!("{i}-{kept}");
            let meta = fs::metadata(mount.join(&name)).expect("it exists");
            let path = by_ino[&std::os::unix::fs::MetadataExt::ino(&meta)].clone();
            attacked.push((name, path, kept, *time));
        }
    }
    mount.umount();
    for (_, path, kept, time) in &attacked {
        cut(path, *kept);
        set_mtime(path, *time);
    }
    let check = |options: &[&str]| {
        let mount = vault.mount_with(options);
        for (name, _, kept, time) in &attacked {
            match kept {
                &STORED => assert_eq!(read(&mount.join(name)), Ok(content(1, LEN))),
                _ => assert_refused(&mount.join(name), (kept, time)),
            }
        }
        mount.umount();
    };
    check(&["-o", "ro"]);
    check(&[]);
}

/// The kernel knows the old size: it must not fill up with zeros what the daemon does not give.
#[test]
fn a_file_cut_while_the_kernel_knows_its_size_is_refused() {
    const LEN: usize = 9000;
    let vault = Vault::new();
    let names: Vec<String> = (0..4).map(|i| format!("{i}")).collect();
    let mount = vault.mount();
    for name in &names {
        fs::write(mount.join(name), content(1, LEN)).expect("written");
    }
    mount.umount();
    let mount = vault.mount();
    let lengths = [0, HEADER, chunk_at(1), chunk_at(2)];
    for (name, kept) in names.iter().zip(lengths) {
        let stored = stored(&mount, name);
        assert_eq!(
            fs::metadata(mount.join(name)).expect("it exists").len(),
            LEN as u64
        );
        cut(&stored, kept);
        assert_refused(&mount.join(name), kept);
    }
    mount.umount();
}

#[test]
fn a_file_cut_while_it_is_open_is_refused() {
    use std::os::unix::fs::FileExt;
    let vault = Vault::new();
    let mount = vault.mount();
    for kept in [0, HEADER, chunk_at(1), chunk_at(2), chunk_at(2) + 500] {
        let name = format!("{kept}");
        fs::write(mount.join(&name), content(1, 9000)).expect("written");
        let file = fs::File::open(mount.join(&name)).expect("opens");
        file.sync_all().expect("synced");
        cut(&stored(&mount, &name), kept);
        fadvise(&file, 0, None, Advice::DontNeed).expect("advice");
        let mut all = vec![0; 9000];
        let e = file.read_exact_at(&mut all, 0).expect_err("cut");
        assert_eq!(errno(&e), libc::EIO, "{kept}");
    }
    mount.umount();
}

/// Only what a crash can leave is healed; here was none.
#[test]
fn an_emptied_file_is_refused_in_a_vault_that_was_closed() {
    let vault = prepared(&[], |mount| {
        fs::write(mount.join("emptied"), content(1, 100)).expect("written");
        fs::write(mount.join("empty"), b"").expect("written");
    });
    let mount = vault.mount();
    let path = stored(&mount, "emptied");
    assert_eq!(read(&mount.join("empty")), Ok(vec![]));
    mount.umount();
    cut(&path, 0);
    for options in [&[][..], &["-o", "ro"], &FORGETFUL] {
        let mount = vault.mount_with(options);
        assert_refused(&mount.join("emptied"), options);
        assert_eq!(read(&mount.join("empty")), Ok(vec![]));
        let append = fs::File::options().append(true).open(mount.join("emptied"));
        if options.first() != Some(&"-o") {
            use std::io::Write;
            let e = append
                .and_then(|mut f| f.write_all(b"x"))
                .and_then(|()| sync(&mount.join("emptied")));
            assert_eq!(errno(&e.expect_err("damaged")), libc::EIO);
        }
        drop(mount);
    }
    assert_eq!(fs::metadata(path).expect("stored").len(), 0);
}

fn sync(path: &std::path::Path) -> std::io::Result<()> {
    fs::File::open(path)?.sync_all()
}
