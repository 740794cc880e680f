//! GPT-2 (Radford et al. 2019; `GPT2LMHeadModel`): learned positions, matrices stored as `[d_in, d_out]`.

use super::super::config::Keys;
use super::spec::{Names, Qkv, Sizes, Spec, head_width};
use crate::error::Result;

pub(super) const NAMES: Names = Names {
    prefixes: &["transformer.", ""],
    tokens: "wte",
    positions: Some("wpe"),
    types: None,
    embedding_norm: None,
    block: "h",
    norm1: "ln_1",
    attention: "attn",
    qkv: Qkv::Fused("attn.c_attn"),
    qk_norms: None,
    o: "attn.c_proj",
    attention_norm: None,
    norm2: Some("ln_2"),
    mlp: "mlp",
    gate: None,
    up: "mlp.c_fc",
    act: Some("mlp.act"),
    down: "mlp.c_proj",
    mlp_norm: None,
    final_norm: Some("ln_f"),
    unembed: "lm_head",
    masked: None,
    ignored: &["attn.bias", "attn.masked_bias"],
};

pub(super) const ALIASES: &[(&str, &str)] = &[
    ("hidden_size", "n_embd"),
    ("max_position_embeddings", "n_positions"),
    ("num_attention_heads", "n_head"),
    ("num_hidden_layers", "n_layer"),
];

pub(super) fn read(keys: &Keys) -> Result<Spec> {
    let d_model = keys.size_or("n_embd", 768)?;
    let heads = keys.layers_or("n_head", 12)?;
    let sizes = Sizes {
        d_model,
        n_ctx: keys.size_or("n_positions", 1024)?,
        d_vocab: keys.size_or("vocab_size", 50_257)?,
        heads,
        d_head: head_width(keys, d_model, heads)?,
        d_mlp: keys.maybe_size("n_inner", None)?.unwrap_or(4 * d_model),
        layers: keys.layers_or("n_layer", 12)?,
    };
    let scaled = keys.bool_or("scale_attn_weights", true)?;
    let by_layer = keys.bool_or("scale_attn_by_inverse_layer_idx", false)?;
    let (act, eps) = (keys.activation("activation_function", "gelu_new")?, keys.number_or("layer_norm_epsilon", 1e-5)?);
    let mut spec = Spec {
        is_tied: keys.bool_or("tie_word_embeddings", true)?,
        is_conv1d: true,
        ..Spec::plain("gpt2", NAMES, act, eps, sizes)
    };
    for (l, layer) in spec.layers.iter_mut().enumerate() {
        layer.scale = if scaled { layer.scale } else { 1.0 } / if by_layer { l as f64 + 1.0 } else { 1.0 };
    }
    Ok(spec)
}
