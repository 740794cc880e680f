//! Data sets: token sequences or input vectors, with their labels.

pub(crate) mod arena;
pub mod blocks;
pub mod buckets;
pub mod checkpoint;
mod load;
pub mod packed;
pub mod scan;
pub mod session;
pub mod stream;
mod targets;
pub mod tensor_file;
mod text;
pub mod tree;
pub mod visit;
mod windows;

pub use load::{load, load_or_cut, load_tokens};
pub use targets::targets;
pub use text::{Documents, TextKind, text_of};
pub use windows::{Cut, TextInfo, joined_tokens};

use crate::error::{Error, Result};

/// Samples checked against the model they are for.
#[derive(Clone, Debug)]
pub struct DataSet {
    pub samples: Samples,
    /// `None` if the file has none; a transformer that reads every position then predicts the next token.
    pub labels: Option<Labels>,
    /// `[n, t]`, 0 where a token is hidden from the others and 1 elsewhere; only for encoders.
    pub mask: Option<Vec<u32>>,
    /// Where the samples were cut from, if that is text.
    pub text: Option<TextInfo>,
    /// `FILE` or `FILE#NAME` without its folder, `demo:NAME#SPLIT`, or `demo:NAME` for its text.
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
    /// [`SKIPPED`](crate::ops::loss::SKIPPED) where there is nothing to predict.
    pub values: Vec<u32>,
    /// Only where the model reads every position.
    pub per_position: bool,
}

impl DataSet {
    /// The sequences of these numbers alone, as a data set of their own: without labels, mask or history.
    /// Fails on input vectors.
    pub fn sequences(&self, numbers: &[usize]) -> Result<Self> {
        let Samples::Tokens { ids, t, .. } = &self.samples else {
            return Err(Error::shape("sequences", "input vectors", "token sequences"));
        };
        let ids = numbers.iter().flat_map(|i| &ids[i * t..(i + 1) * t]).copied().collect();
        let samples = Samples::Tokens { ids, n: numbers.len(), t: *t };
        Ok(Self { samples, labels: None, mask: None, text: None, name: self.name.clone(), sha256: String::new() })
    }
    /// The first `n` samples, of as many at least, with their labels.
    pub fn first(mut self, n: usize) -> Self {
        let count = self.samples.count();
        if let Some(labels) = &mut self.labels {
            labels.values.truncate(labels.values.len() / count.max(1) * n);
        }
        if let Some(mask) = &mut self.mask {
            mask.truncate(n * self.samples.positions());
        }
        match &mut self.samples {
            Samples::Tokens { ids, n: count, t } => {
                ids.truncate(n * *t);
                *count = n;
            }
            Samples::Inputs { x, n: count, width } => {
                x.truncate(n * *width);
                *count = n;
            }
        }
        self
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_samples_keep_their_labels() {
        let labels = Some(Labels { values: vec![1, 2, 3, 4, 5, 6], per_position: true });
        let samples = Samples::Tokens { ids: vec![7, 8, 9, 10, 11, 12], n: 3, t: 2 };
        let mask = Some(vec![1, 1, 1, 0, 1, 0]);
        let set = DataSet { samples, labels, mask, text: None, name: "d".into(), sha256: String::new() }.first(2);
        assert_eq!(set.samples, Samples::Tokens { ids: vec![7, 8, 9, 10], n: 2, t: 2 });
        assert_eq!(set.labels.as_ref().map(|l| &l.values), Some(&vec![1, 2, 3, 4]));
        assert_eq!(set.mask, Some(vec![1, 1, 1, 0]));
        let some = set.sequences(&[1, 0, 1]).unwrap();
        assert_eq!(some.samples, Samples::Tokens { ids: vec![9, 10, 7, 8, 9, 10], n: 3, t: 2 });
        assert_eq!((some.labels, some.mask), (None, None));
        let samples = Samples::Inputs { x: vec![1.0, 2.0, 3.0], n: 3, width: 1 };
        let set = DataSet { samples, labels: None, mask: None, text: None, name: "d".into(), sha256: String::new() }.first(1);
        assert_eq!(set.samples, Samples::Inputs { x: vec![1.0], n: 1, width: 1 });
        assert!(set.sequences(&[0]).is_err());
    }
}
