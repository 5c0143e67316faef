//! Rotations that are killed or stopped, and go on.

use std::fs;
use std::process::Child;
use std::time::Duration;

use crate::common::{Vault, wait_until};
use crate::lab::{
    Times, epochs_in_use, interrupt, is_clean, keyring, kill, large, rotated, seen, start,
    start_with,
};

/// Waits until the rotation has its epoch in the keyring.
fn wait_until_begun(vault: &Vault, child: &mut Child) {
    wait_until("the epoch is added", || {
        keyring(vault).0.len() == 2 || child.try_wait().expect("a child").is_some()
    });
}

#[test]
fn killed_again_and_again_it_ends_whole() {
    let vault = large();
    let before = seen(&vault, Times::Ignore);
    let mut killed = 0;
    for pause in [0, 100, 300, 600, 1000, 1500, 2000] {
        let mut child = start(&vault, "3");
        wait_until_begun(&vault, &mut child);
        std::thread::sleep(Duration::from_millis(pause));
        killed += i32::from(kill(child));
        // Both epochs are there as long as it is not through.
        assert_eq!(keyring(&vault).0, [0, 1], "after {pause} ms");
        if pause == 600 {
            assert_eq!(seen(&vault, Times::Ignore), before);
        }
    }
    assert!(killed >= 5, "{killed}");
    let said = rotated(&vault).stdout;
    assert!(said.contains("A rotation is under way since"), "{said}");
    assert_eq!(epochs_in_use(&vault), [1].into());
    assert_eq!(keyring(&vault).0, [1]);
    is_clean(&vault);
    assert_eq!(seen(&vault, Times::Ignore), before);
}

#[test]
fn stopped_by_a_signal_it_says_so_and_goes_on() {
    let vault = large();
    let mut child = start_with(&vault, &["--rate", "1"]);
    wait_until_begun(&vault, &mut child);
    // Signals are held back from here on.
    let pid = child.id();
    wait_until("signals are held back", || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let blocked = status.lines().find_map(|l| l.strip_prefix("SigBlk:\t"));
        blocked.is_some_and(|mask| u64::from_str_radix(mask, 16).is_ok_and(|m| m & 2 != 0))
    });
    interrupt(&child);
    let output = child.wait_with_output().expect("a child");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(29), "{said}");
    assert!(
        said.starts_with("Stopped: ") && said.lines().count() == 1,
        "{said}"
    );
    assert_eq!(keyring(&vault).0, [0, 1]);
    is_clean(&vault);
    rotated(&vault);
    assert_eq!(epochs_in_use(&vault), [1].into());
}
