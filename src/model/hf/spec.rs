//! What a configuration says of a model, in terms that all families share.

use super::super::config::{Keys, MAX_SIZE};
use crate::error::{Error, Result};
use crate::model::lm::{Order, Rotary};
use crate::ops::activation::Activation;
use crate::ops::norm::Kind;

/// The sizes and switches of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    pub family: &'static str,
    pub names: Names,
    pub d_model: usize,
    pub n_ctx: usize,
    pub d_vocab: usize,
    /// Token types of an encoder.
    pub n_types: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub d_head: usize,
    pub d_mlp: usize,
    pub act: Activation,
    pub order: Order,
    pub norm: NormSpec,
    pub layers: Vec<Layer>,
    pub rotary: Option<Rotary>,
    /// Scores s become `c tanh(s / c)`, and so do logits.
    pub attention_softcap: Option<f64>,
    pub logit_softcap: Option<f64>,
    pub embedding_scale: Option<f64>,
    /// The unembedding is the embedding's matrix.
    pub is_tied: bool,
    /// Matrices lie in the file as `[d_in, d_out]`.
    pub is_conv1d: bool,
    pub bias: Bias,
    pub is_causal: bool,
}

/// What differs from layer to layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Layer {
    /// Factor of the attention scores.
    pub scale: f64,
    pub window: Option<usize>,
}

/// The norms of a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormSpec {
    pub kind: Kind,
    pub eps: f64,
    /// The gain is 1 plus the tensor.
    pub plus_one: bool,
    pub bias: bool,
}

/// Which linear maps have biases.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bias {
    pub qkv: bool,
    pub o: bool,
    pub mlp: bool,
    pub unembed: bool,
}

impl Bias {
    pub const NONE: Bias = Bias { qkv: false, o: false, mlp: false, unembed: false };
}

/// How a family calls its tensors. Names of a block follow `PREFIX` + `block` + `.LAYER.`, those of the
/// model `PREFIX`; the head has no prefix.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Names {
    /// What may stand in front of all names but the head's; the first that fits the file is taken.
    pub prefixes: &'static [&'static str],
    pub tokens: &'static str,
    pub positions: Option<&'static str>,
    pub types: Option<&'static str>,
    pub embedding_norm: Option<&'static str>,
    pub block: &'static str,
    pub norm1: &'static str,
    pub attention: &'static str,
    pub qkv: Qkv,
    pub qk_norms: Option<(&'static str, &'static str)>,
    pub o: &'static str,
    pub attention_norm: Option<&'static str>,
    /// `None` where attention and MLP share one norm.
    pub norm2: Option<&'static str>,
    pub mlp: &'static str,
    pub gate: Option<&'static str>,
    pub up: &'static str,
    /// The module of the activation function whose output is the input of `down`.
    pub act: Option<&'static str>,
    pub down: &'static str,
    pub mlp_norm: Option<&'static str>,
    pub final_norm: Option<&'static str>,
    pub unembed: &'static str,
    pub masked: Option<Masked>,
    /// Ends of the names of tensors that hold no weights: masks, position numbers, rotary frequencies;
    /// and beginnings of heads that are not read.
    pub ignored: &'static [&'static str],
}

/// The tensors of queries, keys and values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Qkv {
    Separate([&'static str; 3]),
    /// One matrix: all queries, then all keys, then all values.
    Fused(&'static str),
    /// One matrix: head by head, its queries, keys and values.
    FusedByHead(&'static str),
}

/// The head of a masked language model; its last matrix is `unembed`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Masked {
    pub dense: &'static str,
    pub norm: &'static str,
    /// The bias of the unembedding.
    pub bias: &'static str,
}

/// The sizes that every family has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub d_model: usize,
    pub n_ctx: usize,
    pub d_vocab: usize,
    pub heads: usize,
    pub d_head: usize,
    pub d_mlp: usize,
    pub layers: usize,
}

impl Spec {
    /// A model of these sizes with LayerNorm in its plainest form: causal, one half of a block behind the
    /// other, as many heads of keys as of queries, a bias in every map of a block; nothing is rotated,
    /// windowed, capped, scaled or tied.
    pub(super) fn plain(family: &'static str, names: Names, act: Activation, eps: f64, s: Sizes) -> Self {
        Self {
            family,
            names,
            d_model: s.d_model,
            n_ctx: s.n_ctx,
            d_vocab: s.d_vocab,
            n_types: 0,
            heads: s.heads,
            kv_heads: s.heads,
            d_head: s.d_head,
            d_mlp: s.d_mlp,
            act,
            order: Order::Sequential,
            norm: NormSpec { kind: Kind::Layer, eps, plus_one: false, bias: true },
            layers: vec![Layer { scale: 1.0 / (s.d_head as f64).sqrt(), window: None }; s.layers],
            rotary: None,
            attention_softcap: None,
            logit_softcap: None,
            embedding_scale: None,
            is_tied: false,
            is_conv1d: false,
            bias: Bias { qkv: true, o: true, mlp: true, unembed: false },
            is_causal: true,
        }
    }
    /// Checks what holds for every family.
    pub(super) fn check(&self, keys: &Keys) -> Result<()> {
        if !self.heads.is_multiple_of(self.kv_heads) {
            let found = format!("{} heads of queries and {} of keys", self.heads, self.kv_heads);
            return Err(Error::file(keys.path, found, "a multiple"));
        }
        if self.heads * self.d_head > MAX_SIZE {
            let found = format!("{} heads of width {}", self.heads, self.d_head);
            return Err(Error::file(keys.path, found, format!("a product of at most {MAX_SIZE}")));
        }
        Ok(())
    }
}

/// The width of a head where the heads divide the model's width.
pub(super) fn head_width(keys: &Keys, d_model: usize, heads: usize) -> Result<usize> {
    if d_model.is_multiple_of(heads) {
        return Ok(d_model / heads);
    }
    Err(Error::file(keys.path, format!("{heads} heads at width {d_model}"), "a number of heads that divides the width"))
}
