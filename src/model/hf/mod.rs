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
mod spec;
mod weights;

pub use spec::{Names, Spec};
pub use weights::build;

use super::config::Keys;
use crate::error::Result;

/// A family: its `model_type` and how its configuration is read.
pub struct Family {
    pub name: &'static str,
    read: fn(&Keys) -> Result<Spec>,
}

/// The families that this build reads.
pub const FAMILIES: [Family; 12] = [
    Family { name: "gpt2", read: gpt2::read },
    Family { name: "gpt_neo", read: gpt_neo::read },
    Family { name: "gpt_neox", read: gpt_neox::read },
    Family { name: "llama", read: llama::read },
    Family { name: "mistral", read: mistral::read },
    Family { name: "qwen2", read: qwen2::read },
    Family { name: "qwen3", read: qwen3::read },
    Family { name: "gemma", read: gemma::read },
    Family { name: "gemma2", read: gemma2::read },
    Family { name: "phi", read: phi::read },
    Family { name: "bert", read: bert::read },
    Family { name: "distilbert", read: distilbert::read },
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
        ("auto_map", "a model whose code is the library's own"),
        ("add_cross_attention", "a model without cross-attention"),
        ("is_encoder_decoder", "a model that is no encoder-decoder"),
    ] {
        keys.refuse(key, what)?;
    }
    let spec = (family.read)(keys)?;
    spec.check(keys)?;
    Ok(spec)
}
