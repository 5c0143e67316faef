//! The kernel's side: the only user of `fuser`. Each request is converted, answered by one call to [`crate::fs`], and
//! replied to.
//!
//! No POSIX rule and no error code is decided here.

mod agreement;
mod convert;
mod handlers;
mod keeper;
mod listing;
pub mod options;
mod rotator;
mod seeker;
pub mod session;
mod shell;
