//! `--sample`: a share of the content, all of the names, and the same again with the same seed.

use std::fs;

use crate::common::run;
use crate::lab::*;
use crate::report::{check, command, plain};

#[test]
fn a_sample_reads_its_share_and_can_be_taken_again() {
    const FILES: usize = 400;
    let vault = prepared(&[], |mount| {
        for i in 0..FILES {
            fs::write(mount.join(format!("{i}")), content(i as u8, CHUNK)).expect("written");
        }
        fs::write(mount.join("large"), content(1, 20 << 20)).expect("written");
    });
    let all = (FILES * CHUNK + (20 << 20)) as u64;
    let bytes = |arguments: &[&str]| {
        let checked = check(&vault, arguments);
        checked.assert_clean();
        assert_eq!(checked.summary["files"], FILES + 1);
        checked.summary["verified_bytes"]
            .as_u64()
            .expect("a number")
    };
    assert_eq!(bytes(&["--sample", "100%"]), all);
    let tenth = |seed: u64| bytes(&["--sample", "10%", "--seed", &seed.to_string()]);
    assert_eq!(tenth(7), tenth(7));
    // One sample of so little may have hardly anything: the names of the vault are chance. Twenty do not.
    let tenths: Vec<u64> = (0..20).map(tenth).collect();
    let mean = tenths.iter().sum::<u64>() / 20;
    assert!((all / 20..all / 5).contains(&mean), "{tenths:?} of {all}");
    assert!(tenths.iter().any(|bytes| *bytes != tenths[0]));
}

#[test]
fn the_seed_is_told() {
    let vault = prepared(&[], |mount| {
        fs::write(mount.join("file"), content(1, 100)).expect("written");
    });
    let checked = check(&vault, &["--sample", "1%"]);
    let seed = checked.summary["seed"].as_u64().expect("a number");
    assert_eq!(checked.summary["sample"], 0.01);
    let said = plain(&vault, &["--sample", "1%", "--seed", &seed.to_string()]).ok();
    assert!(
        said.contains(&format!("a sample of 1% with seed {seed}")),
        "{said}"
    );
}

#[test]
fn a_sample_checks_all_names_and_finds_the_damage_it_looks_at() {
    let vault = prepared(&[], |mount| {
        fs::create_dir(mount.join("dir")).expect("made");
        fs::write(mount.join("dir/inside"), content(1, 1 << 20)).expect("written");
    });
    let mount = vault.mount();
    let [dir, inside] = ["dir", "dir/inside"].map(|n| stored(&mount, n));
    mount.umount();
    fs::remove_file(dir.join("~id")).expect("removed");
    flip(&inside, chunk_at(10), 1);
    let told = check(&vault, &["--sample", "0.001%", "--seed", "1"]).told();
    assert_eq!(told, ["damaged directory id dir"]);
    let told = check(&vault, &["--sample", "100%"]).told();
    let file = "damaged file dir/inside 40960..45056";
    assert_eq!(told, ["damaged directory id dir", file]);
}

#[test]
fn shares_and_combinations_that_make_no_sense_are_refused() {
    let vault = crate::common::Vault::new();
    for (arguments, words) in [
        (&["--sample", "1"][..], "as in 1%"),
        (&["--sample", "0%"], "as in 1%"),
        (&["--seed", "1"], "--sample"),
        (&["--sample", "1%", "--repair"], "cannot be used with"),
        (&["--threads", "0"], "1..=64"),
    ] {
        run(&mut command(&vault, arguments)).refused(2, &[words]);
    }
}
