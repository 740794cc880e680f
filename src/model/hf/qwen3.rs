//! Qwen3 (Yang et al. 2025; `Qwen3ForCausalLM`): Llama's shape with an RMSNorm on every head's queries and
//! keys.

use super::super::config::Keys;
use super::spec::{Bias, Names, Spec};
use super::{llama, qwen2};
use crate::error::Result;

const NAMES: Names = Names { qk_norms: Some(("self_attn.q_norm", "self_attn.k_norm")), ..llama::NAMES };

pub(super) fn read(keys: &Keys) -> Result<Spec> {
    let bias = keys.bool_or("attention_bias", false)?;
    let mut spec = Spec {
        family: "qwen3",
        names: NAMES,
        bias: Bias { qkv: bias, o: bias, ..Bias::NONE },
        ..llama::like(keys, 10_000.0, "hidden_act", "silu")?
    };
    qwen2::windows(keys, &mut spec)?;
    Ok(spec)
}
