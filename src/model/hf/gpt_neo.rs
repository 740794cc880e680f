//! GPT-Neo (Black et al. 2021; `GPTNeoForCausalLM`): learned positions, scores that are not scaled, and
//! layers of local attention.

use serde_json::Value;

use super::super::config::{Keys, MAX_LAYERS, MAX_SIZE};
use super::gpt2;
use super::spec::{Bias, Layer, Names, NormSpec, Qkv, Spec, head_width};
use crate::error::Result;
use crate::model::lm::Order;
use crate::ops::norm::Kind;

const NAMES: Names = Names {
    qkv: Qkv::Separate(["attn.attention.q_proj", "attn.attention.k_proj", "attn.attention.v_proj"]),
    o: "attn.attention.out_proj",
    ignored: &["attn.attention.bias", "attn.attention.masked_bias"],
    ..gpt2::NAMES
};

pub(super) fn read(keys: &Keys) -> Result<Spec> {
    let d_model = keys.size("hidden_size", MAX_SIZE)?;
    let heads = keys.size("num_heads", MAX_LAYERS)?;
    let layers = keys.size("num_layers", MAX_LAYERS)?;
    let window = keys.size_or("window_size", 256)?;
    let local = local_layers(keys, layers)?;
    Ok(Spec {
        family: "gpt_neo",
        names: NAMES,
        d_model,
        n_ctx: keys.size("max_position_embeddings", MAX_SIZE)?,
        d_vocab: keys.size("vocab_size", MAX_SIZE)?,
        heads,
        kv_heads: heads,
        d_head: head_width(keys, d_model, heads)?,
        d_mlp: keys.size_or("intermediate_size", 4 * d_model)?,
        act: keys.activation("activation_function", "gelu_new")?,
        order: Order::Sequential,
        norm: NormSpec { kind: Kind::Layer, eps: keys.number_or("layer_norm_epsilon", 1e-5)?, plus_one: false, bias: true },
        layers: local.into_iter().map(|l| Layer { scale: 1.0, window: l.then_some(window) }).collect(),
        rotary: None,
        attention_softcap: None,
        logit_softcap: None,
        embedding_scale: None,
        is_tied: keys.bool_or("tie_word_embeddings", true)?,
        is_conv1d: false,
        bias: Bias { qkv: false, o: true, mlp: true, unembed: false },
        is_causal: true,
    })
}

/// Of each layer, whether its attention is local. `attention_types` is a list of pairs: a pattern of
/// kinds, and how often it comes.
fn local_layers(keys: &Keys, layers: usize) -> Result<Vec<bool>> {
    let key = "attention_types";
    let types = keys.get(key)?;
    let wrong = || keys.error(key, types, &format!("pairs of a list of global and local and a count, for {layers} layers"));
    let mut local = Vec::new();
    for pair in types.as_array().ok_or_else(wrong)? {
        let (pattern, count) = match pair.as_array().map(Vec::as_slice) {
            Some([Value::Array(p), Value::Number(n)]) => (p, n.as_u64().filter(|n| *n <= layers as u64).ok_or_else(wrong)?),
            _ => return Err(wrong()),
        };
        for _ in 0..count {
            for kind in pattern {
                local.push(match kind.as_str() {
                    Some("global") => false,
                    Some("local") => true,
                    _ => return Err(wrong()),
                });
            }
        }
    }
    if local.len() == layers { Ok(local) } else { Err(wrong()) }
}
