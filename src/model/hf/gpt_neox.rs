//! GPT-NeoX (Black et al. 2022; `GPTNeoXForCausalLM`) and with it Pythia: parallel or sequential halves, a
//! share of each head rotated, queries, keys and values in one matrix head by head.

use super::super::config::Keys;
use super::rope::RopeKeys;
use super::spec::{Bias, Names, Qkv, Sizes, Spec, head_width};
use crate::error::Result;
use crate::model::lm::Order;

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

/// The newer names of the two keys are not read at the top level, as the library does not.
const ROPE: RopeKeys = RopeKeys { theta: "rotary_emb_base", share: Some(("rotary_pct", 0.25)) };

pub(super) fn read(keys: &Keys) -> Result<Spec> {
    let d_model = keys.size_or("hidden_size", 6144)?;
    let heads = keys.layers_or("num_attention_heads", 64)?;
    let sizes = Sizes {
        d_model,
        n_ctx: keys.size_or("max_position_embeddings", 2048)?,
        d_vocab: keys.size_or("vocab_size", 50_432)?,
        heads,
        d_head: head_width(keys, d_model, heads)?,
        d_mlp: keys.size_or("intermediate_size", 24_576)?,
        layers: keys.layers_or("num_hidden_layers", 44)?,
    };
    let (act, eps) = (keys.activation("hidden_act", "gelu")?, keys.number_or("layer_norm_eps", 1e-5)?);
    let attention = keys.bool_or("attention_bias", true)?;
    let plain = Spec::plain("gpt_neox", NAMES, act, eps, sizes);
    Ok(Spec {
        order: if keys.bool_or("use_parallel_residual", true)? { Order::Parallel } else { Order::Sequential },
        rotary: Some(keys.rotary(ROPE, sizes.d_head, sizes.n_ctx)?),
        is_tied: keys.bool_or("tie_word_embeddings", false)?,
        bias: Bias { qkv: attention, o: attention, ..plain.bias },
        ..plain
    })
}
