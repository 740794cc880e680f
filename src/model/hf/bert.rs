//! BERT (Devlin et al. 2018; `BertForMaskedLM`, or the bare `BertModel`): an encoder with norms behind each
//! half block.

use serde_json::json;

use super::super::config::Keys;
use super::spec::{Masked, Names, Qkv, Sizes, Spec, head_width};
use crate::error::Result;
use crate::model::lm::Order;
use crate::ops::activation::Activation;

const NAMES: Names = Names {
    prefixes: &["bert.", ""],
    tokens: "embeddings.word_embeddings",
    positions: Some("embeddings.position_embeddings"),
    types: Some("embeddings.token_type_embeddings"),
    embedding_norm: Some("embeddings.LayerNorm"),
    block: "encoder.layer",
    norm1: "attention.output.LayerNorm",
    attention: "attention.output.dense",
    qkv: Qkv::Separate(["attention.self.query", "attention.self.key", "attention.self.value"]),
    qk_norms: None,
    o: "attention.output.dense",
    attention_norm: None,
    norm2: Some("output.LayerNorm"),
    mlp: "output.dense",
    gate: None,
    up: "intermediate.dense",
    act: Some("intermediate"),
    down: "output.dense",
    mlp_norm: None,
    final_norm: None,
    unembed: "cls.predictions.decoder",
    masked: Some(Masked {
        dense: "cls.predictions.transform.dense",
        norm: "cls.predictions.transform.LayerNorm",
        bias: "cls.predictions.bias",
    }),
    ignored: &[
        "embeddings.position_ids",
        "pooler.dense.weight",
        "pooler.dense.bias",
        "cls.seq_relationship.weight",
        "cls.seq_relationship.bias",
    ],
};

pub(super) fn read(keys: &Keys) -> Result<Spec> {
    keys.only_value("position_embedding_type", &json!("absolute"))?;
    keys.refuse("is_decoder", "an encoder")?;
    keys.refuse("pruned_heads", "a model with all its heads")?;
    let d_model = keys.size_or("hidden_size", 768)?;
    let heads = keys.layers_or("num_attention_heads", 12)?;
    let sizes = Sizes {
        d_model,
        n_ctx: keys.size_or("max_position_embeddings", 512)?,
        d_vocab: keys.size_or("vocab_size", 30_522)?,
        heads,
        d_head: head_width(keys, d_model, heads)?,
        d_mlp: keys.size_or("intermediate_size", 3072)?,
        layers: keys.layers_or("num_hidden_layers", 12)?,
    };
    let (act, eps) = (keys.activation("hidden_act", "gelu")?, keys.number_or("layer_norm_eps", 1e-12)?);
    Ok(Spec {
        n_types: keys.size_or("type_vocab_size", 2)?,
        is_tied: keys.bool_or("tie_word_embeddings", true)?,
        ..encoder("bert", NAMES, act, eps, sizes)
    })
}

/// An encoder: norms behind each half block, and every position sees the whole sequence.
pub(super) fn encoder(family: &'static str, names: Names, act: Activation, eps: f64, sizes: Sizes) -> Spec {
    Spec { order: Order::PostNorm, is_causal: false, ..Spec::plain(family, names, act, eps, sizes) }
}
