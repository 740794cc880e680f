//! Gemma 2 (Riviere et al. 2024; `Gemma2ForCausalLM`): norms on both sides of each half block, soft caps,
//! and a sliding window in every other layer.

use super::super::config::Keys;
use super::gemma;
use super::llama::{self, Defaults};
use super::spec::{Layer, Names, Spec};
use crate::error::Result;

const NAMES: Names = Names {
    attention_norm: Some("post_attention_layernorm"),
    norm2: Some("pre_feedforward_layernorm"),
    mlp_norm: Some("post_feedforward_layernorm"),
    ..llama::NAMES
};

pub(super) fn read(keys: &Keys) -> Result<Spec> {
    let or = Defaults { d_model: 2304, layers: 26, heads: 8, kv_heads: Some(4), d_mlp: 9216, ..gemma::DEFAULTS };
    let spec = gemma::like(keys, "gemma2", "hidden_activation", or)?;
    let scale = 1.0 / keys.number_or("query_pre_attn_scalar", 256.0)?.sqrt();
    let window = keys.maybe_size("sliding_window", Some(4096))?;
    let windows = keys.windows(window, keys.windowed(spec.layers.len(), |l| l % 2 == 0)?)?;
    Ok(Spec {
        names: NAMES,
        layers: windows.into_iter().map(|window| Layer { scale, window }).collect(),
        attention_softcap: keys.maybe_number("attn_logit_softcapping", Some(50.0))?,
        logit_softcap: keys.maybe_number("final_logit_softcapping", Some(30.0))?,
        ..spec
    })
}
