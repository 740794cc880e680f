//! Qwen2 (Yang et al. 2024; `Qwen2ForCausalLM`): Llama's shape with biases on queries, keys and values.

use super::super::config::Keys;
use super::llama;
use super::spec::{Bias, Spec};
use crate::error::Result;

pub(super) fn read(keys: &Keys) -> Result<Spec> {
    let bias = Bias { qkv: true, ..Bias::NONE };
    let mut spec = Spec { family: "qwen2", bias, ..llama::like(keys, 10_000.0, "hidden_act", "silu")? };
    windows(keys, &mut spec)?;
    Ok(spec)
}

/// Where `use_sliding_window` is set, layers from `max_window_layers` on have a window.
pub(super) fn windows(keys: &Keys, spec: &mut Spec) -> Result<()> {
    if !keys.bool_or("use_sliding_window", false)? {
        return Ok(());
    }
    let window = if keys.map.contains_key("sliding_window") { keys.maybe_size("sliding_window")? } else { Some(4096) };
    let full = match keys.given("max_window_layers").and_then(|v| v.as_u64()) {
        Some(n) => n as usize,
        None => 28,
    };
    let windowed = keys.windowed(spec.layers.len(), |l| l >= full)?;
    spec.layers.iter_mut().zip(windowed).filter(|(_, w)| *w).for_each(|(l, _)| l.window = window);
    Ok(())
}
