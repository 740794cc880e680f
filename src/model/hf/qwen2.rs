//! Qwen2 (Yang et al. 2024; `Qwen2ForCausalLM`): Llama's shape with biases on queries, keys and values.

use super::super::config::Keys;
use super::llama::{self, Defaults};
use super::spec::{Bias, Spec};
use crate::error::Result;

/// What Qwen2 and Qwen3 share; a file without `num_key_value_heads` has 32.
pub(super) const DEFAULTS: Defaults =
    Defaults { kv_heads: Some(32), d_mlp: 22_016, n_ctx: 32_768, d_vocab: 151_936, ..llama::DEFAULTS };

pub(super) fn read(keys: &Keys) -> Result<Spec> {
    let bias = Bias { qkv: true, ..Bias::NONE };
    let mut spec = Spec { family: "qwen2", bias, ..llama::like(keys, "hidden_act", DEFAULTS)? };
    windows(keys, &mut spec)?;
    Ok(spec)
}

/// Where `use_sliding_window` is set, layers from `max_window_layers` on have a window, unless
/// `layer_types` says which.
pub(super) fn windows(keys: &Keys, spec: &mut Spec) -> Result<()> {
    let is_used = keys.bool_or("use_sliding_window", false)?;
    let window = keys.maybe_size("sliding_window", Some(4096))?.filter(|_| is_used);
    let full = keys.count_or("max_window_layers", 28)?;
    let windowed = keys.windowed(spec.layers.len(), |l| window.is_some() && l as u64 >= full)?;
    let windows = keys.windows(window, windowed)?;
    spec.layers.iter_mut().zip(windows).for_each(|(l, w)| l.window = w);
    Ok(())
}
