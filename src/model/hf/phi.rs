//! Phi (Li et al. 2023; `PhiForCausalLM`): attention and MLP read one norm, a share of each head is
//! rotated, and every linear map has a bias.

use super::super::config::Keys;
use super::llama;
use super::rope::RopeKeys;
use super::spec::{Bias, Names, Sizes, Spec};
use crate::error::Result;
use crate::model::lm::Order;

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
    let sizes = Sizes {
        d_model,
        n_ctx: keys.size_or("max_position_embeddings", 2048)?,
        d_vocab: keys.size_or("vocab_size", 51_200)?,
        heads,
        d_head: keys.head_dim(d_model, heads)?,
        d_mlp: keys.size_or("intermediate_size", 8192)?,
        layers: keys.layers_or("num_hidden_layers", 24)?,
    };
    keys.all_windowed(sizes.layers, false)?;
    let (act, eps) = (keys.activation("hidden_act", "gelu_new")?, keys.number_or("layer_norm_eps", 1e-5)?);
    let plain = Spec::plain("phi", NAMES, act, eps, sizes);
    Ok(Spec {
        kv_heads: keys.maybe_size("num_key_value_heads", None)?.unwrap_or(heads),
        order: Order::SharedNorm,
        rotary: Some(keys.rotary(ROPE, sizes.d_head, sizes.n_ctx)?),
        is_tied: keys.bool_or("tie_word_embeddings", false)?,
        bias: Bias { unembed: true, ..plain.bias },
        ..plain
    })
}
