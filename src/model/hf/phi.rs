//! Phi (Li et al. 2023; `PhiForCausalLM`): attention and MLP read one norm, a share of each head is
//! rotated, and every linear map has a bias.

use super::super::config::Keys;
use super::llama;
use super::rope::RopeKeys;
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

const ROPE: RopeKeys = RopeKeys { theta: "rope_theta", share: Some(("partial_rotary_factor", 0.5)) };

pub(super) fn read(keys: &Keys) -> Result<Spec> {
    keys.refuse("qk_layernorm", "queries and keys without norms")?;
    let d_model = keys.size_or("hidden_size", 2048)?;
    let heads = keys.layers_or("num_attention_heads", 32)?;
    let d_head = match keys.maybe_size("head_dim", None)? {
        Some(width) => width,
        None => head_width(keys, d_model, heads)?,
    };
    let n_ctx = keys.size_or("max_position_embeddings", 2048)?;
    let rotary = keys.rotary(ROPE, d_head, n_ctx)?;
    let layers = keys.layers_or("num_hidden_layers", 24)?;
    keys.all_windowed(layers, false)?;
    Ok(Spec {
        family: "phi",
        names: NAMES,
        d_model,
        n_ctx,
        d_vocab: keys.size_or("vocab_size", 51_200)?,
        n_types: 0,
        heads,
        kv_heads: keys.maybe_size("num_key_value_heads", None)?.unwrap_or(heads),
        d_head,
        d_mlp: keys.size_or("intermediate_size", 8192)?,
        act: keys.activation("hidden_act", "gelu_new")?,
        order: Order::SharedNorm,
        norm: NormSpec { kind: Kind::Layer, eps: keys.number_or("layer_norm_eps", 1e-5)?, plus_one: false, bias: true },
        layers: uniform(layers, d_head),
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
