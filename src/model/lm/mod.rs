//! Language models of every family in one form: what a block computes, and with which weights.
//!
//! Row-vector convention: `y = x W + b`. Nothing here knows a checkpoint's layout (see
//! [`super::hf`]) or a data set; [`forward`] and [`derivative`] turn the form into launches.

pub mod derivative;
pub mod forward;
mod from_transformer;
pub mod rotary;
mod scratch;

use std::collections::BTreeMap;

use forward::Inputs;
pub use rotary::Rotary;

use super::forward::Batch;
use super::site::Site;
use crate::device::{Builder, DType, Tensor};
use crate::ops::Launch;
use crate::ops::activation::Activation;
use crate::ops::linear::Matrix;
use crate::ops::norm::Kind;

/// `y = x W + b`.
#[derive(Clone, Debug)]
pub struct Linear {
    /// `[d_in, d_out]`, or `[d_out, d_in]` where `transpose` is set.
    pub w: Matrix,
    pub transpose: bool,
    /// `[1, d_out]`
    pub bias: Option<Tensor>,
}

impl Linear {
    /// Width of `x`.
    pub fn d_in(&self) -> usize {
        if self.transpose { self.w.cols } else { self.w.rows }
    }
    /// Width of `y`.
    pub fn d_out(&self) -> usize {
        if self.transpose { self.w.rows } else { self.w.cols }
    }
}

/// LayerNorm or RMSNorm over the last axis.
#[derive(Clone, Debug)]
pub struct Norm {
    pub kind: Kind,
    /// Added to the variance or the mean square.
    pub eps: f64,
    /// Gain `[1, width]`; 1 where absent.
    pub w: Option<Tensor>,
    /// Bias `[1, width]`; 0 where absent.
    pub b: Option<Tensor>,
}

#[expect(clippy::large_enum_variant, reason = "a model holds one a layer")]
/// Where queries, keys and values come from.
#[derive(Clone, Debug)]
pub enum Projections {
    Separate {
        q: Linear,
        k: Linear,
        v: Linear,
        /// Norms of each head's queries and of its keys, in front of the rotation.
        norms: Option<(Norm, Norm)>,
    },
    /// One map makes all three. Head h's queries begin at column `h * pitch` of its output, its keys
    /// at `k + h * pitch`, its values at `v + h * pitch`.
    Fused { linear: Linear, k: usize, v: usize, pitch: usize },
}

/// Multi-head attention: `softmax(mask(cap(scale q k'))) v` and the output projection.
#[derive(Clone, Debug)]
pub struct Attention {
    pub projections: Projections,
    pub heads: usize,
    /// Heads of keys and values; each serves `heads / kv_heads` heads of queries.
    pub kv_heads: usize,
    pub d_head: usize,
    /// Factor of the scores.
    pub scale: f64,
    /// Scores s become `c tanh(s / c)`.
    pub softcap: Option<f64>,
    /// A query sees only the last `window` positions up to its own.
    pub window: Option<usize>,
    pub o: Linear,
}

/// `down(norm(act(up(x))))`, or with a gate `down(act(gate(x)) * up(x))`.
#[derive(Clone, Debug)]
pub struct Mlp {
    pub gate: Option<Linear>,
    pub up: Linear,
    pub act: Activation,
    /// Behind the activation: the LayerNorm of a SoLU layer.
    pub norm: Option<Norm>,
    pub down: Linear,
}

impl Mlp {
    /// Number of neurons.
    pub fn neurons(&self) -> usize {
        self.up.d_out()
    }
}

/// How norms, attention, MLP and residual stream follow each other in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// `m = x + attention(norm1 x)`, `y = m + mlp(norm2 m)`
    Sequential,
    /// `y = x + attention(norm1 x) + mlp(norm2 x)`
    Parallel,
    /// `y = x + attention(n) + mlp(n)` with `n = norm1 x`
    SharedNorm,
    /// `m = norm1(x + attention(x))`, `y = norm2(m + mlp(m))`
    PostNorm,
}

/// One block. A norm that is absent is the identity.
#[derive(Clone, Debug)]
pub struct Block {
    pub order: Order,
    pub norm1: Option<Norm>,
    pub attention: Attention,
    /// Of what attention adds to the residual stream.
    pub attention_norm: Option<Norm>,
    pub norm2: Option<Norm>,
    pub mlp: Mlp,
    /// Of what the MLP adds to the residual stream.
    pub mlp_norm: Option<Norm>,
}

/// `x = norm(scale W_E[token] + W_pos[position] + row)`.
#[derive(Clone, Debug)]
pub struct Embedding {
    /// `[d_vocab, d_model]`
    pub tokens: Tensor,
    pub scale: Option<f64>,
    /// `[n_ctx, d_model]`
    pub positions: Option<Tensor>,
    /// `[1, d_model]`: the embedding of token type 0.
    pub row: Option<Tensor>,
    pub norm: Option<Norm>,
}

/// From the residual stream behind the final norm to logits: `cap(unembed(norm(act(dense x))))`,
/// the first part in masked language models only.
#[derive(Clone, Debug)]
pub struct Head {
    pub dense: Option<(Linear, Activation, Norm)>,
    pub unembed: Linear,
    /// Logits y become `c tanh(y / c)`.
    pub softcap: Option<f64>,
}

/// A language model with its weights.
#[derive(Clone, Debug)]
pub struct Lm {
    /// `model_type` of its config.json, or `transformer_lens`.
    pub family: &'static str,
    /// Of activations and arithmetic; matrices may be stored in another one.
    pub dtype: DType,
    pub d_model: usize,
    /// Longest sequence.
    pub n_ctx: usize,
    pub d_vocab: usize,
    pub embedding: Embedding,
    pub rotary: Option<Rotary>,
    pub blocks: Vec<Block>,
    pub final_norm: Option<Norm>,
    /// `None` of a checkpoint without one.
    pub head: Option<Head>,
    /// A position sees only itself and those before it; encoders see the whole sequence.
    pub is_causal: bool,
    /// Only the last position is read out: what lies behind the last attention has no other.
    pub reads_last: bool,
    /// Module paths of the checkpoint's library whose outputs are sites, [`super::site::ANY_LAYER`] for the layer.
    pub paths: BTreeMap<String, Site>,
}

impl Lm {
    /// Buffers for a batch of sequences of one length; `masked` where tokens may be hidden.
    pub fn inputs(&self, b: &mut Builder<Launch>, batch: Batch, masked: bool) -> Inputs {
        let queries = self.reads_last.then(|| (self.blocks.len().saturating_sub(1), batch.samples));
        Inputs::new(b, batch.rows(), batch.positions, masked, queries)
    }
    /// Width of the logits; 0 without a head.
    pub fn d_vocab_out(&self) -> usize {
        self.head.as_ref().map_or(0, |h| h.unembed.d_out())
    }
}
