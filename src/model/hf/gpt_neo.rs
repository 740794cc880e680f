//! GPT-Neo (Black et al. 2021; `GPTNeoForCausalLM`): learned positions, scores that are not scaled, and
//! layers of local attention.

use serde_json::{Value, json};

use super::super::config::Keys;
use super::gpt2;
use super::spec::{Bias, Layer, Names, Qkv, Sizes, Spec, head_width};
use crate::error::Result;

const NAMES: Names = Names {
    qkv: Qkv::Separate(["attn.attention.q_proj", "attn.attention.k_proj", "attn.attention.v_proj"]),
    o: "attn.attention.out_proj",
    ignored: &["attn.attention.bias", "attn.attention.masked_bias"],
    ..gpt2::NAMES
};

pub(super) const ALIASES: &[(&str, &str)] = &[("num_attention_heads", "num_heads"), ("num_hidden_layers", "num_layers")];

pub(super) fn read(keys: &Keys) -> Result<Spec> {
    let d_model = keys.size_or("hidden_size", 2048)?;
    let heads = keys.layers_or("num_heads", 16)?;
    let sizes = Sizes {
        d_model,
        n_ctx: keys.size_or("max_position_embeddings", 2048)?,
        d_vocab: keys.size_or("vocab_size", 50_257)?,
        heads,
        d_head: head_width(keys, d_model, heads)?,
        d_mlp: keys.maybe_size("intermediate_size", None)?.unwrap_or(4 * d_model),
        layers: keys.layers_or("num_layers", 24)?,
    };
    let window = keys.size_or("window_size", 256)?;
    let local = local_layers(keys, sizes.layers)?;
    let (act, eps) = (keys.activation("activation_function", "gelu_new")?, keys.number_or("layer_norm_epsilon", 1e-5)?);
    let plain = Spec::plain("gpt_neo", NAMES, act, eps, sizes);
    Ok(Spec {
        layers: local.into_iter().map(|l| Layer { scale: 1.0, window: l.then_some(window) }).collect(),
        is_tied: keys.bool_or("tie_word_embeddings", true)?,
        bias: Bias { qkv: false, ..plain.bias },
        ..plain
    })
}

/// Of each layer, whether its attention is local: `attention_types` is a list of pairs, a pattern of
/// kinds and how often it comes, and `attention_layers` the same written out.
fn local_layers(keys: &Keys, layers: usize) -> Result<Vec<bool>> {
    let default = json!([[["global", "local"], 12]]);
    let (types, list) = (keys.given("attention_types"), keys.given("attention_layers"));
    let listed = list.map(|v| {
        let wrong = || keys.error("attention_layers", v, &format!("{layers} of global and local"));
        let kinds: Option<Vec<bool>> = v.as_array().and_then(|l| l.iter().map(is_local).collect());
        kinds.filter(|k| k.len() == layers).ok_or_else(wrong)
    });
    let listed = listed.transpose()?;
    match (types, listed) {
        (None, Some(listed)) => Ok(listed),
        (types, listed) => {
            let types = types.unwrap_or(&default);
            let expected = format!("pairs of a list of global and local and a count, for {layers} layers");
            let local = expand(types, layers).ok_or_else(|| keys.error("attention_types", types, &expected))?;
            match (listed, list) {
                (Some(listed), Some(list)) if listed != local => {
                    Err(keys.error("attention_layers", list, "the kinds of layers that attention_types gives"))
                }
                _ => Ok(local),
            }
        }
    }
}

/// The kinds of all layers; `None` where the value does not describe that many.
fn expand(types: &Value, layers: usize) -> Option<Vec<bool>> {
    let mut local = Vec::new();
    for pair in types.as_array()? {
        let [Value::Array(pattern), count] = pair.as_array()?.as_slice() else { return None };
        let pattern: Vec<bool> = pattern.iter().map(is_local).collect::<Option<_>>()?;
        let count = usize::try_from(count.as_u64()?).ok()?;
        if pattern.len().checked_mul(count)? > layers - local.len() {
            return None;
        }
        local.extend(pattern.repeat(count));
    }
    (local.len() == layers).then_some(local)
}

fn is_local(kind: &Value) -> Option<bool> {
    match kind.as_str()? {
        "global" => Some(false),
        "local" => Some(true),
        _ => None,
    }
}
