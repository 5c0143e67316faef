//! The filesystem against models of it: an in-memory one without a mount, and a real directory beside a real mount; and
//! what each operation costs on the backing filesystem.

#[path = "../common/mod.rs"]
mod common;
#[path = "../mounted/fixture.rs"]
#[allow(dead_code, reason = "the mounted tests use all of it")]
mod fixture;

mod beside_ext4;
mod counts;
mod driver;
mod errors;
mod given;
mod in_memory;
mod journal;
mod lab;
mod random;
mod syncs;
mod threads;
#[allow(dead_code, reason = "the recovery tests use the rest")]
mod watched;
