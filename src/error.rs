//! The one error type of the crate: every variant says what was found and what was expected.

use std::path::{Path, PathBuf};

/// Result with the crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong. `Display` gives one sentence that names the file, tensor, flag or
/// operation, what was found and what was expected; the command line prints it and exits with 1.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder that is missing, malformed or of another kind than needed.
    #[error("{}: {found}; expected {expected}", path.display())]
    File { path: PathBuf, found: String, expected: String },
    /// A tensor that is missing, surplus, or of the wrong dtype, shape or content.
    #[error("{}: tensor {tensor}: {found}; expected {expected}", path.display())]
    Tensor { path: PathBuf, tensor: String, found: String, expected: String },
    /// A command line flag or configuration key with a value that cannot be used.
    #[error("{flag}: found {found}; expected {expected}")]
    Flag { flag: String, found: String, expected: String },
    /// An operation handed shapes it cannot combine.
    #[error("operation {op}: found {found}; expected {expected}")]
    Shape { op: &'static str, found: String, expected: String },
    /// A plan that does not fit into memory, refused before any work.
    #[error("memory: the plan needs {asked} bytes{hint}; expected at most {free} bytes, what is free or --max-memory allows")]
    Memory { asked: u64, free: u64, hint: String },
    /// A backend that is absent or cannot do what was asked.
    #[error("backend {backend}: {found}; expected {expected}")]
    Backend { backend: &'static str, found: String, expected: String },
    /// A kernel file that does not expand.
    #[error("{file}, line {line}: found {found}; expected {expected}")]
    Template { file: String, line: usize, found: String, expected: String },
    /// A kernel or configuration that is not there or does not fit what it was asked for.
    #[error("kernel {name}: {found}; expected {expected}")]
    Kernel { name: String, found: String, expected: String },
    /// A kernel text that the driver refuses, with its log.
    #[error("kernel {kernel}: {device} refuses its text ({code}): {log}")]
    Jit { kernel: String, device: String, code: String, log: String },
    /// A launch that a device refuses or that faults.
    #[error("kernel {kernel}: launch of grid {grid:?}, block {block:?}, {shared} bytes of shared memory failed: {found}")]
    Launch { kernel: String, grid: [u32; 3], block: [u32; 3], shared: u32, found: String },
    /// A call of a device's driver that failed: a lost device, memory that ran out.
    #[error("device {device}: {action} failed: {found}")]
    Driver { device: String, action: String, found: String },
    /// A numerical result that breaks an invariant of the method.
    #[error("{place}: {found}; expected {expected}")]
    Numeric { place: String, found: String, expected: String },
    /// An operating system error on a path.
    #[error("{}: {action} failed: {source}", path.display())]
    Io { path: PathBuf, action: &'static str, source: std::io::Error },
}

impl Error {
    /// An [`Error::File`].
    pub fn file(path: &Path, found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self::File { path: path.into(), found: found.into(), expected: expected.into() }
    }
    /// An [`Error::Tensor`].
    pub fn tensor(path: &Path, tensor: &str, found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self::Tensor { path: path.into(), tensor: tensor.into(), found: found.into(), expected: expected.into() }
    }
    /// An [`Error::Flag`].
    pub fn flag(flag: &str, found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self::Flag { flag: flag.into(), found: found.into(), expected: expected.into() }
    }
    /// An [`Error::Shape`].
    pub fn shape(op: &'static str, found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self::Shape { op, found: found.into(), expected: expected.into() }
    }
    /// An [`Error::Numeric`].
    pub fn numeric(place: impl Into<String>, found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self::Numeric { place: place.into(), found: found.into(), expected: expected.into() }
    }
    /// An [`Error::Io`].
    pub fn io(path: &Path, action: &'static str, source: std::io::Error) -> Self {
        Self::Io { path: path.into(), action, source }
    }
}
