//! Hugging Face checkpoints: `config.json` with a `model_type`, tensors under that library's names.
//!
//! One file a family says what its configuration means ([`Spec`]) and how its tensors are called
//! ([`Names`]); [`weights`] builds the model of any of them. For a known `model_type` every key that
//! changes what the library computes is either honoured or refused by name; other keys are notes that
//! the library ignores too.

mod bert;
mod distilbert;
mod gemma;
mod gemma2;
mod gpt2;
mod gpt_neo;
mod gpt_neox;
mod keys;
mod llama;
mod mistral;
mod phi;
mod qwen2;
mod qwen3;
mod rope;
mod spec;
#[cfg(test)]
mod tests;
mod weights;

pub use spec::{Names, Spec};
pub use weights::build;

use serde_json::{Map, Value};

use super::config::Keys;
use crate::error::Result;

/// A family: its `model_type` and how its configuration is read.
pub struct Family {
    pub name: &'static str,
    read: fn(&Keys) -> Result<Spec>,
    /// Keys that the library takes for one of the family's own, each with that one.
    aliases: &'static [(&'static str, &'static str)],
}

/// The families that this build reads.
pub const FAMILIES: [Family; 12] = [
    Family { name: "gpt2", read: gpt2::read, aliases: gpt2::ALIASES },
    Family { name: "gpt_neo", read: gpt_neo::read, aliases: gpt_neo::ALIASES },
    Family { name: "gpt_neox", read: gpt_neox::read, aliases: &[] },
    Family { name: "llama", read: llama::read, aliases: &[] },
    Family { name: "mistral", read: mistral::read, aliases: &[] },
    Family { name: "qwen2", read: qwen2::read, aliases: &[] },
    Family { name: "qwen3", read: qwen3::read, aliases: &[] },
    Family { name: "gemma", read: gemma::read, aliases: &[] },
    Family { name: "gemma2", read: gemma2::read, aliases: &[] },
    Family { name: "phi", read: phi::read, aliases: &[] },
    Family { name: "bert", read: bert::read, aliases: &[] },
    Family { name: "distilbert", read: distilbert::read, aliases: distilbert::ALIASES },
];

/// Reads a configuration that has a `model_type`.
pub(super) fn read(keys: &Keys) -> Result<Spec> {
    let kind = keys.get("model_type")?;
    let family = FAMILIES.iter().find(|f| kind.as_str() == Some(f.name)).ok_or_else(|| {
        let names: Vec<&str> = FAMILIES.iter().map(|f| f.name).collect();
        keys.error("model_type", kind, &format!("one of {}, the families that this build reads", names.join(", ")))
    })?;
    for (key, what) in [
        ("quantization_config", "unquantized weights"),
        ("compression_config", "unquantized weights"),
        ("per_layer_config", "one configuration for all layers"),
        ("auto_map", "a model whose code is the library's own"),
        ("add_cross_attention", "a model without cross-attention"),
        ("is_encoder_decoder", "a model that is no encoder-decoder"),
    ] {
        keys.refuse(key, what)?;
    }
    let map = own_names(keys, family)?;
    let spec = (family.read)(&Keys { path: keys.path, map: &map })?;
    spec.check(keys)?;
    Ok(spec)
}

/// The keys of the file under the family's own names. Fails where a key and its alias differ.
fn own_names(keys: &Keys, family: &Family) -> Result<Map<String, Value>> {
    let mut map = keys.map.clone();
    for (alias, own) in family.aliases {
        let Some(value) = map.remove(*alias) else { continue };
        match map.get(*own) {
            Some(other) if *other != value => {
                return Err(keys.error(alias, &value, &format!("the value of {own}, which is the same key")));
            }
            _ => map.insert((*own).into(), value),
        };
    }
    Ok(map)
}
