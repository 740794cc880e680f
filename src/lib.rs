//! mechgraph turns neural networks into graphs that researchers can read, search and test.
//!
//! Layers of the crate, each using only those to its right:
//! `cli -> basis, report -> model, data -> ops -> device`.

pub mod device;
pub mod error;
pub mod report;

pub use error::{Error, Result};
