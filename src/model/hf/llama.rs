//! Llama (Touvron et al. 2023; `LlamaForCausalLM`), and what its descendants share with it.

use super::super::config::Keys;
use super::rope;
use super::spec::{Bias, Names, NormSpec, Qkv, Sizes, Spec};
use crate::error::Result;
use crate::ops::norm::Kind;

pub(super) const NAMES: Names = Names {
    prefixes: &["model.", ""],
    tokens: "embed_tokens",
    positions: None,
    types: None,
    embedding_norm: None,
    block: "layers",
    norm1: "input_layernorm",
    attention: "self_attn",
    qkv: Qkv::Separate(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
    qk_norms: None,
    o: "self_attn.o_proj",
    attention_norm: None,
    norm2: Some("post_attention_layernorm"),
    mlp: "mlp",
    gate: Some("mlp.gate_proj"),
    up: "mlp.up_proj",
    act: None,
    down: "mlp.down_proj",
    mlp_norm: None,
    final_norm: Some("norm"),
    unembed: "lm_head",
    masked: None,
    ignored: &["rotary_emb.inv_freq"],
};

pub(super) fn read(keys: &Keys) -> Result<Spec> {
    keys.refuse("rope_interleaved", "rotated pairs of half-split coordinates")?;
    let bias = keys.bool_or("attention_bias", false)?;
    let mlp = keys.bool_or("mlp_bias", false)?;
    let spec = like(keys, "hidden_act", DEFAULTS)?;
    keys.all_windowed(spec.layers.len(), false)?;
    Ok(Spec { bias: Bias { qkv: bias, o: bias, mlp, unembed: false }, ..spec })
}

/// What a family takes for the keys that a file lacks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Defaults {
    pub d_model: usize,
    pub layers: usize,
    pub heads: usize,
    /// `None`: as many as heads of queries, which is also what null stands for.
    pub kv_heads: Option<usize>,
    /// `None`: the model's width over the number of heads.
    pub d_head: Option<usize>,
    pub d_mlp: usize,
    pub n_ctx: usize,
    pub d_vocab: usize,
    pub act: &'static str,
    pub is_tied: bool,
}

/// Those of Llama.
pub(super) const DEFAULTS: Defaults = Defaults {
    d_model: 4096,
    layers: 32,
    heads: 32,
    kv_heads: None,
    d_head: None,
    d_mlp: 11_008,
    n_ctx: 2048,
    d_vocab: 32_000,
    act: "silu",
    is_tied: false,
};

/// A model of Llama's shape: RMSNorm, rotary embedding, grouped queries, gated MLP, no biases. `act` is
/// the key of the activation function.
pub(super) fn like(keys: &Keys, act: &str, or: Defaults) -> Result<Spec> {
    let d_model = keys.size_or("hidden_size", or.d_model)?;
    let heads = keys.layers_or("num_attention_heads", or.heads)?;
    let sizes = Sizes {
        d_model,
        n_ctx: keys.size_or("max_position_embeddings", or.n_ctx)?,
        d_vocab: keys.size_or("vocab_size", or.d_vocab)?,
        heads,
        d_head: match or.d_head {
            Some(width) => keys.size_or("head_dim", width)?,
            None => keys.head_dim(d_model, heads)?,
        },
        d_mlp: keys.size_or("intermediate_size", or.d_mlp)?,
        layers: keys.layers_or("num_hidden_layers", or.layers)?,
    };
    let (act, eps) = (keys.activation(act, or.act)?, keys.number_or("rms_norm_eps", 1e-6)?);
    Ok(Spec {
        kv_heads: keys.maybe_size("num_key_value_heads", or.kv_heads)?.unwrap_or(heads),
        norm: NormSpec { kind: Kind::Rms, eps, plus_one: false, bias: false },
        rotary: Some(keys.rotary(rope::WHOLE, sizes.d_head, sizes.n_ctx)?),
        is_tied: keys.bool_or("tie_word_embeddings", or.is_tied)?,
        bias: Bias::NONE,
        ..Spec::plain("llama", NAMES, act, eps, sizes)
    })
}
