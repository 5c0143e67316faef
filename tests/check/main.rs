//! `wardfs check` on real vaults, damaged on the disk as in the attack tests: every kind of damage is found where it is,
//! what can be mended is mended and nothing else is touched, and everything that authenticates is saved.

#[path = "../common/mod.rs"]
mod common;

#[path = "../attack/lab.rs"]
#[allow(dead_code, reason = "the attacks use more of it")]
mod lab;

mod damage;
mod ends;
mod hostile;
mod live;
mod manual;
mod refused;
mod repair;
mod report;
mod salvage;
mod sample;
