//! Llama (Touvron et al. 2023; `LlamaForCausalLM`), and what its descendants share with it.

use super::super::config::{Keys, MAX_LAYERS};
use super::spec::{Bias, Names, NormSpec, Qkv, Spec, head_width, uniform};
use crate::error::Result;
use crate::model::lm::Order;
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
    Ok(Spec {
        family: "llama",
        bias: Bias { qkv: bias, o: bias, mlp, unembed: false },
        ..like(keys, 10_000.0, "hidden_act", "silu")?
    })
}

/// A model of Llama's shape: RMSNorm, rotary embedding, grouped queries, gated MLP, no biases.
pub(super) fn like(keys: &Keys, theta: f64, act: &str, default_act: &str) -> Result<Spec> {
    let d_model = keys.size("hidden_size", super::super::config::MAX_SIZE)?;
    let heads = keys.size("num_attention_heads", MAX_LAYERS)?;
    let d_head = match keys.maybe_size("head_dim")? {
        Some(width) => width,
        None => head_width(keys, d_model, heads)?,
    };
    let layers = keys.size("num_hidden_layers", MAX_LAYERS)?;
    Ok(Spec {
        family: "llama",
        names: NAMES,
        d_model,
        n_ctx: keys.size("max_position_embeddings", super::super::config::MAX_SIZE)?,
        d_vocab: keys.size("vocab_size", super::super::config::MAX_SIZE)?,
        heads,
        kv_heads: keys.size_or("num_key_value_heads", heads)?,
        d_head,
        d_mlp: keys.size("intermediate_size", super::super::config::MAX_SIZE)?,
        act: keys.activation(act, default_act)?,
        order: Order::Sequential,
        norm: NormSpec { kind: Kind::Rms, eps: keys.number_or("rms_norm_eps", 1e-6)?, plus_one: false, bias: false },
        layers: uniform(layers, d_head),
        rotary: Some(keys.rotary("rope_theta", theta, d_head, None)?),
        attention_softcap: None,
        logit_softcap: None,
        embedding_scale: None,
        is_tied: keys.bool_or("tie_word_embeddings", false)?,
        is_conv1d: false,
        bias: Bias::NONE,
        is_causal: true,
    })
}
