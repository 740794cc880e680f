//! mechgraph turns neural networks into graphs that researchers can read, search and test.
//!
//! Layers of the crate, each using only those to its right:
//! `cli -> basis, n2g, report -> model, data -> ops -> kernel, device`.

pub mod basis;
pub mod cli;
pub mod data;
pub mod demo;
pub mod device;
pub mod error;
pub mod files;
pub mod kernel;
pub mod manifest;
pub mod model;
pub mod n2g;
pub mod ops;
pub mod progress;
pub mod report;
pub mod text;

pub use error::{Error, Result};
