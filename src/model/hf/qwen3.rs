//! Qwen3 (Yang et al. 2025; `Qwen3ForCausalLM`): Llama's shape with an RMSNorm on every head's queries and
//! keys.

use super::super::config::Keys;
use super::spec::{Bias, Names, Spec};
use super::{
    llama::{self, Defaults},
    qwen2,
};
use crate::error::Result;

const NAMES: Names = Names { qk_norms: Some(("self_attn.q_norm", "self_attn.k_norm")), ..llama::NAMES };

pub(super) fn read(keys: &Keys) -> Result<Spec> {
    let bias = keys.bool_or("attention_bias", false)?;
    let mut spec = Spec {
        family: "qwen3",
        names: NAMES,
        bias: Bias { qkv: bias, o: bias, ..Bias::NONE },
        ..llama::like(keys, "hidden_act", Defaults { d_head: Some(128), ..qwen2::DEFAULTS })?
    };
    qwen2::windows(keys, &mut spec)?;
    Ok(spec)
}
