//! GPT-2 (Radford et al. 2019; `GPT2LMHeadModel`): learned positions, matrices stored as `[d_in, d_out]`.

use super::super::config::Keys;
use super::spec::{Bias, Layer, Names, NormSpec, Qkv, Spec, head_width};
use crate::error::Result;
use crate::model::lm::Order;
use crate::ops::norm::Kind;

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
    let d_head = head_width(keys, d_model, heads)?;
    let layers = keys.layers_or("n_layer", 12)?;
    let scaled = keys.bool_or("scale_attn_weights", true)?;
    let by_layer = keys.bool_or("scale_attn_by_inverse_layer_idx", false)?;
    let layer = |l: usize| Layer {
        scale: if scaled { 1.0 / (d_head as f64).sqrt() } else { 1.0 } / if by_layer { l as f64 + 1.0 } else { 1.0 },
        window: None,
    };
    Ok(Spec {
        family: "gpt2",
        names: NAMES,
        d_model,
        n_ctx: keys.size_or("n_positions", 1024)?,
        d_vocab: keys.size_or("vocab_size", 50_257)?,
        n_types: 0,
        heads,
        kv_heads: heads,
        d_head,
        d_mlp: keys.maybe_size("n_inner", None)?.unwrap_or(4 * d_model),
        act: keys.activation("activation_function", "gelu_new")?,
        order: Order::Sequential,
        norm: NormSpec { kind: Kind::Layer, eps: keys.number_or("layer_norm_epsilon", 1e-5)?, plus_one: false, bias: true },
        layers: (0..layers).map(layer).collect(),
        rotary: None,
        attention_softcap: None,
        logit_softcap: None,
        embedding_scale: None,
        is_tied: keys.bool_or("tie_word_embeddings", true)?,
        is_conv1d: true,
        bias: Bias { qkv: true, o: true, mlp: true, unembed: false },
        is_causal: true,
    })
}
