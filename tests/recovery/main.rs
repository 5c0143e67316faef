//! Recovery of vaults whose journals and damage are made by hand, as a crash would leave them.

#[path = "../common/mod.rs"]
mod common;

mod copies;
mod fresh;
mod lab;
mod replay;
mod resolve;
mod size;
mod trouble;
#[path = "../model/watched.rs"]
#[allow(dead_code, reason = "the model tests use all of it")]
mod watched;
