//! Gemma (Mesnard et al. 2024; `GemmaForCausalLM`): Llama's shape with scaled embeddings, gains counted
//! from 1, and a gate of tanh-GELU.

use super::super::config::Keys;
use super::llama::{self, Defaults};
use super::spec::{NormSpec, Spec};
use crate::error::Result;
use crate::ops::activation::Activation;

/// Those of Gemma.
pub(super) const DEFAULTS: Defaults = Defaults {
    d_model: 3072,
    layers: 28,
    heads: 16,
    kv_heads: Some(16),
    d_head: Some(256),
    d_mlp: 24_576,
    n_ctx: 8192,
    d_vocab: 256_000,
    act: "gelu_pytorch_tanh",
    is_tied: true,
};

pub(super) fn read(keys: &Keys) -> Result<Spec> {
    let mut spec = like(keys, "gemma", "hidden_act", DEFAULTS)?;
    // The first files say gelu and mean its tanh approximation.
    if keys.map.get("hidden_act").and_then(|v| v.as_str()) == Some("gelu") {
        spec.act = Activation::GeluNew;
    }
    // Versions of the library differ in which of the two keys they read.
    if let Some(other) = keys.given("hidden_activation")
        && keys.activation("hidden_activation", "")? != spec.act
    {
        return Err(keys.error("hidden_activation", other, "the activation of hidden_act, or none"));
    }
    keys.all_windowed(spec.layers.len(), false)?;
    Ok(spec)
}

/// What Gemma and Gemma 2 share. `act` is the key of the activation function.
pub(super) fn like(keys: &Keys, family: &'static str, act: &str, or: Defaults) -> Result<Spec> {
    keys.refuse("attention_bias", "attention without biases")?;
    keys.refuse("use_bidirectional_attention", "causal attention")?;
    let spec = llama::like(keys, act, or)?;
    Ok(Spec {
        family,
        norm: NormSpec { plus_one: true, ..spec.norm },
        embedding_scale: Some((spec.d_model as f64).sqrt()),
        ..spec
    })
}
