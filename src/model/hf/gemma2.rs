//! Gemma 2 (Riviere et al. 2024; `Gemma2ForCausalLM`): norms on both sides of each half block, soft caps,
//! and a sliding window in every other layer.

use super::super::config::Keys;
use super::spec::{Layer, Names, Spec};
use super::{gemma, llama};
use crate::error::Result;

const NAMES: Names = Names {
    attention_norm: Some("post_attention_layernorm"),
    norm2: Some("pre_feedforward_layernorm"),
    mlp_norm: Some("post_feedforward_layernorm"),
    ..llama::NAMES
};

pub(super) fn read(keys: &Keys) -> Result<Spec> {
    let spec = gemma::like(keys, "gemma2")?;
    let scale = 1.0 / keys.number_or("query_pre_attn_scalar", 256.0)?.sqrt();
    let window = keys.size_or("sliding_window", 4096)?;
    let windowed = keys.windowed(spec.layers.len(), |l| l % 2 == 0)?;
    // A cap that is null is none; one that is not there has the library's default.
    let cap = |key: &str, default| match keys.map.contains_key(key) {
        true => keys.maybe_number(key),
        false => Ok(Some(default)),
    };
    Ok(Spec {
        names: NAMES,
        layers: windowed.into_iter().map(|w| Layer { scale, window: w.then_some(window) }).collect(),
        attention_softcap: cap("attn_logit_softcapping", 50.0)?,
        logit_softcap: cap("final_logit_softcapping", 30.0)?,
        ..spec
    })
}
