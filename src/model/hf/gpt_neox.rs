//! GPT-NeoX (Black et al. 2022; `GPTNeoXForCausalLM`) and with it Pythia: parallel or sequential halves, a
//! share of each head rotated, queries, keys and values in one matrix head by head.

use super::super::config::{Keys, MAX_LAYERS, MAX_SIZE};
use super::spec::{Bias, Names, NormSpec, Qkv, Spec, head_width, uniform};
use crate::error::Result;
use crate::model::lm::Order;
use crate::ops::norm::Kind;

const NAMES: Names = Names {
    prefixes: &["gpt_neox.", ""],
    tokens: "embed_in",
    positions: None,
    types: None,
    embedding_norm: None,
    block: "layers",
    norm1: "input_layernorm",
    attention: "attention",
    qkv: Qkv::FusedByHead("attention.query_key_value"),
    qk_norms: None,
    o: "attention.dense",
    attention_norm: None,
    norm2: Some("post_attention_layernorm"),
    mlp: "mlp",
    gate: None,
    up: "mlp.dense_h_to_4h",
    act: Some("mlp.act"),
    down: "mlp.dense_4h_to_h",
    mlp_norm: None,
    final_norm: Some("final_layer_norm"),
    unembed: "embed_out",
    masked: None,
    ignored: &["attention.bias", "attention.masked_bias", "rotary_emb.inv_freq"],
};

pub(super) fn read(keys: &Keys) -> Result<Spec> {
    let d_model = keys.size("hidden_size", MAX_SIZE)?;
    let heads = keys.size("num_attention_heads", MAX_LAYERS)?;
    let d_head = head_width(keys, d_model, heads)?;
    // Both keys name the same numbers; newer files have the second, and may leave out the first.
    let first = |a: &'static str, b: &'static str| if keys.given(a).is_some() { a } else { b };
    let share = if keys.given("rotary_pct").is_none() && keys.given("partial_rotary_factor").is_none() { 0.25 } else { 1.0 };
    let rotary = match keys.given("rope_parameters") {
        Some(_) => keys.rotary("rope_theta", 10_000.0, d_head, None)?,
        None if share < 1.0 => crate::model::lm::Rotary::new(
            keys.number_or(first("rotary_emb_base", "rope_theta"), 10_000.0)?,
            (d_head as f64 * share) as usize,
        ),
        None => keys.rotary(
            first("rotary_emb_base", "rope_theta"),
            10_000.0,
            d_head,
            Some(first("rotary_pct", "partial_rotary_factor")),
        )?,
    };
    let attention = keys.bool_or("attention_bias", true)?;
    Ok(Spec {
        family: "gpt_neox",
        names: NAMES,
        d_model,
        n_ctx: keys.size("max_position_embeddings", MAX_SIZE)?,
        d_vocab: keys.size("vocab_size", MAX_SIZE)?,
        heads,
        kv_heads: heads,
        d_head,
        d_mlp: keys.size("intermediate_size", MAX_SIZE)?,
        act: keys.activation("hidden_act", "gelu")?,
        order: if keys.bool_or("use_parallel_residual", true)? { Order::Parallel } else { Order::Sequential },
        norm: NormSpec { kind: Kind::Layer, eps: keys.number_or("layer_norm_eps", 1e-5)?, plus_one: false, bias: true },
        layers: uniform(keys.size("num_hidden_layers", MAX_LAYERS)?, d_head),
        rotary: Some(rotary),
        attention_softcap: None,
        logit_softcap: None,
        embedding_scale: None,
        is_tied: keys.bool_or("tie_word_embeddings", false)?,
        is_conv1d: false,
        bias: Bias { qkv: attention, o: attention, mlp: true, unembed: false },
        is_causal: true,
    })
}
