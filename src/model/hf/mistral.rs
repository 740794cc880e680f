//! Mistral (Jiang et al. 2023; `MistralForCausalLM`): Llama's shape with a sliding window in every layer.

use super::super::config::Keys;
use super::llama::{self, Defaults};
use super::spec::Spec;
use crate::error::Result;

pub(super) fn read(keys: &Keys) -> Result<Spec> {
    let or = Defaults { kv_heads: Some(8), d_mlp: 14_336, n_ctx: 131_072, ..llama::DEFAULTS };
    let mut spec = Spec { family: "mistral", ..llama::like(keys, "hidden_act", or)? };
    let window = keys.maybe_size("sliding_window", Some(4096))?;
    keys.all_windowed(spec.layers.len(), window.is_some())?;
    spec.layers.iter_mut().for_each(|l| l.window = window);
    Ok(spec)
}
