//! Attacks on the vault, each made on real stored bytes under a real mount: what was changed is refused, no wrong byte is
//! served, the daemon goes on and other files are unaffected.
//!
//! Most are made cold: the vault is changed while it is unmounted. Those that try every byte or every length are made
//! below a mount that remembers nothing ([`lab::FORGETFUL`]).

#[path = "../common/mod.rs"]
mod common;

mod content;
mod cut;
mod header;
mod hole;
mod kind;
mod lab;
mod name;
mod sealed;
mod slots;
mod superblock;
