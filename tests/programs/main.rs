//! Real programs on a mounted vault: what hospitals run, at a small scale, from `wardfs init` to the last compare.
//!
//! A test that needs a program which is not installed says so and passes; `scripts/test` installs them all.

#[path = "../common/mod.rs"]
mod common;

mod backup;
mod dicom;
mod fio;
mod full_disk;
mod git;
mod killed;
mod many_files;
mod mistakes;
mod postgres;
mod samba;
mod snapshot;
mod sqlite;
mod support;
mod tree;
mod users;
