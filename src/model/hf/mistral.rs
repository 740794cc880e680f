//! Mistral (Jiang et al. 2023; `MistralForCausalLM`): Llama's shape with a sliding window in every layer.

use super::super::config::Keys;
use super::llama;
use super::spec::Spec;
use crate::error::Result;

pub(super) fn read(keys: &Keys) -> Result<Spec> {
    let mut spec = Spec { family: "mistral", ..llama::like(keys, 10_000.0, "hidden_act", "silu")? };
    let window = match keys.map.contains_key("sliding_window") {
        true => keys.maybe_size("sliding_window")?,
        // The library's default for a file that does not say.
        false => Some(4096),
    };
    spec.layers.iter_mut().for_each(|l| l.window = window);
    Ok(spec)
}
