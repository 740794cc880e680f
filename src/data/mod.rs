//! Data sets: token sequences or input vectors, with their labels.

mod arena;
pub mod blocks;
pub mod checkpoint;
mod load;
pub mod scan;
pub mod stream;
mod targets;
pub mod tensor_file;
pub mod tree;

pub use load::load;
pub use targets::targets;

/// Samples checked against the model they are for.
#[derive(Clone, Debug)]
pub struct DataSet {
    pub samples: Samples,
    /// `None` if the file has none; a transformer that reads every position then predicts the next token.
    pub labels: Option<Labels>,
    /// `FILE` or `FILE#NAME` without its folder, or `demo:NAME#SPLIT`.
    pub name: String,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
}

/// The inputs of a model, row-major.
#[derive(Clone, Debug, PartialEq)]
pub enum Samples {
    /// Token ids `[n, t]`.
    Tokens { ids: Vec<u32>, n: usize, t: usize },
    /// Input vectors `[n, width]`.
    Inputs { x: Vec<f64>, n: usize, width: usize },
}

/// Classes to predict.
#[derive(Clone, Debug, PartialEq)]
pub struct Labels {
    /// `[n, t]` if `per_position`, else `[n]`: one per sample, for its output (transformers: at the last position).
    pub values: Vec<u32>,
    /// Only where the model reads every position.
    pub per_position: bool,
}

impl Samples {
    /// Number of samples.
    pub fn count(&self) -> usize {
        match self {
            Samples::Tokens { n, .. } | Samples::Inputs { n, .. } => *n,
        }
    }
    /// Positions of each sample: 1 for input vectors.
    pub fn positions(&self) -> usize {
        match self {
            Samples::Tokens { t, .. } => *t,
            Samples::Inputs { .. } => 1,
        }
    }
}
