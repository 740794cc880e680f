//! Phi (Li et al. 2023; `PhiForCausalLM`): attention and MLP read one norm, a share of each head is
//! rotated, and every linear map has a bias.

use super::super::config::{Keys, MAX_LAYERS, MAX_SIZE};
use super::llama;
use super::spec::{Bias, Names, NormSpec, Spec, head_width, uniform};
use crate::error::Result;
use crate::model::lm::Order;
use crate::ops::norm::Kind;

const NAMES: Names = Names {
    o: "self_attn.dense",
    norm2: None,
    gate: None,
    up: "mlp.fc1",
    act: Some("mlp.activation_fn"),
    down: "mlp.fc2",
    final_norm: Some("final_layernorm"),
    ..llama::NAMES
};

pub(super) fn read(keys: &Keys) -> Result<Spec> {
    keys.refuse("qk_layernorm", "queries and keys without norms")?;
    let d_model = keys.size("hidden_size", MAX_SIZE)?;
    let heads = keys.size("num_attention_heads", MAX_LAYERS)?;
    let d_head = head_width(keys, d_model, heads)?;
    // The library rotates half of each head where a file says nothing.
    let is_silent = keys.given("partial_rotary_factor").is_none() && keys.given("rope_parameters").is_none();
    let rotary = match is_silent {
        true => crate::model::lm::Rotary::new(keys.number_or("rope_theta", 10_000.0)?, d_head / 2),
        false => keys.rotary("rope_theta", 10_000.0, d_head, Some("partial_rotary_factor"))?,
    };
    Ok(Spec {
        family: "phi",
        names: NAMES,
        d_model,
        n_ctx: keys.size("max_position_embeddings", MAX_SIZE)?,
        d_vocab: keys.size("vocab_size", MAX_SIZE)?,
        heads,
        kv_heads: keys.size_or("num_key_value_heads", heads)?,
        d_head,
        d_mlp: keys.size("intermediate_size", MAX_SIZE)?,
        act: keys.activation("hidden_act", "gelu_new")?,
        order: Order::SharedNorm,
        norm: NormSpec { kind: Kind::Layer, eps: keys.number_or("layer_norm_eps", 1e-5)?, plus_one: false, bias: true },
        layers: uniform(keys.size("num_hidden_layers", MAX_LAYERS)?, d_head),
        rotary: Some(rotary),
        attention_softcap: None,
        logit_softcap: None,
        embedding_scale: None,
        is_tied: keys.bool_or("tie_word_embeddings", false)?,
        is_conv1d: false,
        bias: Bias { qkv: true, o: true, mlp: true, unembed: true },
        is_causal: true,
    })
}
