//! The keys of a vault, through the program as its users run it: slots, kinds of secrets, paper, the care of the header,
//! the policy of a machine, and the runbooks of the manual.

#[path = "../common/mod.rs"]
mod common;

mod care;
mod crash;
mod kinds;
mod lab;
mod paper;
mod policy;
mod runbooks;
mod slots;
