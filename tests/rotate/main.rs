//! `wardfs rotate`, through the program as its users run it: what it changes and what it leaves, that it survives being
//! killed, what it does with damage, what it refuses, and all of that under a mount.

#[path = "../common/mod.rs"]
mod common;

mod damage;
mod killed;
mod lab;
mod moves;
mod names;
mod online;
mod put_back;
mod refused;
mod trouble;
mod volume_key;
mod whole;
