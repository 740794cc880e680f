//! Gemma (Mesnard et al. 2024; `GemmaForCausalLM`): Llama's shape with scaled embeddings, gains counted
//! from 1, and a gate of tanh-GELU.

use super::super::config::Keys;
use super::llama;
use super::spec::{NormSpec, Spec};
use crate::error::Result;

pub(super) fn read(keys: &Keys) -> Result<Spec> {
    like(keys, "gemma")
}

/// What Gemma and Gemma 2 share. The activation is that of `hidden_activation`; the older key `hidden_act`
/// is not read, as the library does not.
pub(super) fn like(keys: &Keys, family: &'static str) -> Result<Spec> {
    keys.refuse("attention_bias", "attention without biases")?;
    let spec = llama::like(keys, 10_000.0, "hidden_activation", "gelu_pytorch_tanh")?;
    Ok(Spec {
        family,
        norm: NormSpec { plus_one: true, ..spec.norm },
        embedding_scale: Some((spec.d_model as f64).sqrt()),
        is_tied: keys.bool_or("tie_word_embeddings", true)?,
        ..spec
    })
}
