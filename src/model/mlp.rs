//! The weights of a multi-layer perceptron.

use super::Numbers;
use super::checkpoint::Checkpoint;
use super::config::MlpConfig;
use super::reader::{Reader, Source};
use crate::device::{DType, Tensor};
use crate::error::Result;

/// An MLP with its weights in the compute dtype.
#[derive(Clone, Debug)]
pub struct Mlp {
    pub config: MlpConfig,
    pub dtype: DType,
    /// Weight `[in, out]` and bias `[1, out]` of each layer, `y = x W + b`, input side first; the
    /// activation function follows every layer but the last.
    pub layers: Vec<(Tensor, Tensor)>,
}

impl Mlp {
    /// Loads `layers.I.W` and, where the configuration has biases, `layers.I.b`. Fails on a tensor that is
    /// missing, of another shape or dtype, not finite, or surplus.
    pub fn load(config: MlpConfig, file: &Checkpoint, numbers: Numbers) -> Result<Self> {
        let mut reader = Reader::new(file, numbers);
        let model = Self::build(config, numbers.dtype, &mut |name, shape| reader.tensor(name, shape))?;
        reader.finish(|_| false)?;
        Ok(model)
    }
    /// Assembles the model from tensors in the file layout.
    pub(super) fn build(config: MlpConfig, dtype: DType, source: &mut Source) -> Result<Self> {
        let mut layers = Vec::new();
        for (i, pair) in config.widths().windows(2).enumerate() {
            let (from, to) = (pair[0], pair[1]);
            let w = Tensor::from_f64(dtype, from, to, source(&format!("layers.{i}.W"), &[from, to])?);
            let b = if config.bias { source(&format!("layers.{i}.b"), &[to])? } else { vec![0.0; to] };
            layers.push((w, Tensor::row(dtype, b)));
        }
        Ok(Self { config, dtype, layers })
    }
    /// Name, shape and elements of every tensor in the file layout: what [`Mlp::build`] reads.
    pub(super) fn to_file(&self) -> Vec<(String, Vec<usize>, Vec<f64>)> {
        let mut out = Vec::new();
        for (i, (w, b)) in self.layers.iter().enumerate() {
            out.push((format!("layers.{i}.W"), vec![w.rows, w.cols], w.to_f64()));
            if self.config.bias {
                out.push((format!("layers.{i}.b"), vec![b.cols], b.to_f64()));
            }
        }
        out
    }
}
