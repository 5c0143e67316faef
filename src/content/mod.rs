//! Plaintext ranges and sealed chunks: where a byte lies, and how a run of chunks is sealed and opened.
//!
//! Pure: no I/O, no file state, no names.

mod buffer;
pub mod geometry;
pub mod run;

pub use buffer::Buffer;
pub use geometry::{Geometry, SizeError};
pub use run::{Damage, seal_run};
