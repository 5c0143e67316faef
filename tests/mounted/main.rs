//! What programs see of a mount, one file per kind of operation. Runs as root, with `/dev/fuse`.

#[path = "../common/mod.rs"]
mod common;

mod acls;
mod attributes;
mod content;
mod descriptors;
mod directories;
mod fixture;
mod limits;
mod links;
mod locks;
mod mapping;
mod names;
mod ordinary_user;
mod ownership;
mod privileges;
mod read_only;
mod rename;
mod requests;
mod sparse;
mod special;
mod times;
mod unlinked;
mod xattrs;
