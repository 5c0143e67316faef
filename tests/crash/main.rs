//! Power cuts, simulated on the seam to the backing filesystem: every point of a workload, every state of what was not
//! durable, under four kinds of filesystem. What is found after recovery is held against the contract.

#[path = "../common/mod.rs"]
mod common;

mod alike;
mod broken;
mod cases;
mod copies;
mod disk;
mod drive;
mod faults;
mod findings;
mod headers;
mod history;
mod lab;
mod long;
mod names;
mod observe;
mod oracle;
mod place;
mod profile;
mod random;
mod renames;
mod rotation;
mod runner;
mod states;
mod step;
mod sweep;
mod teeth;
mod verdict;
mod verdicts;
mod workload;
