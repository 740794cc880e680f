//! DistilBERT (Sanh et al. 2019; `DistilBertForMaskedLM`, or the bare `DistilBertModel`): BERT without token
//! types, its norms at a fixed epsilon.

use super::super::config::Keys;
use super::bert;
use super::spec::{Masked, Names, Qkv, Sizes, Spec, head_width};
use crate::error::Result;

const NAMES: Names = Names {
    prefixes: &["distilbert.", ""],
    tokens: "embeddings.word_embeddings",
    positions: Some("embeddings.position_embeddings"),
    types: None,
    embedding_norm: Some("embeddings.LayerNorm"),
    block: "transformer.layer",
    norm1: "sa_layer_norm",
    attention: "attention",
    qkv: Qkv::Separate(["attention.q_lin", "attention.k_lin", "attention.v_lin"]),
    qk_norms: None,
    o: "attention.out_lin",
    attention_norm: None,
    norm2: Some("output_layer_norm"),
    mlp: "ffn",
    gate: None,
    up: "ffn.lin1",
    act: Some("ffn.activation"),
    down: "ffn.lin2",
    mlp_norm: None,
    final_norm: None,
    unembed: "vocab_projector",
    masked: Some(Masked { dense: "vocab_transform", norm: "vocab_layer_norm", bias: "vocab_projector.bias" }),
    ignored: &["embeddings.position_ids"],
};

pub(super) const ALIASES: &[(&str, &str)] =
    &[("hidden_size", "dim"), ("num_attention_heads", "n_heads"), ("num_hidden_layers", "n_layers")];

pub(super) fn read(keys: &Keys) -> Result<Spec> {
    keys.refuse("pruned_heads", "a model with all its heads")?;
    let d_model = keys.size_or("dim", 768)?;
    let heads = keys.layers_or("n_heads", 12)?;
    let sizes = Sizes {
        d_model,
        n_ctx: keys.size_or("max_position_embeddings", 512)?,
        d_vocab: keys.size_or("vocab_size", 30_522)?,
        heads,
        d_head: head_width(keys, d_model, heads)?,
        d_mlp: keys.size_or("hidden_dim", 3072)?,
        layers: keys.layers_or("n_layers", 6)?,
    };
    let act = keys.activation("activation", "gelu")?;
    let is_tied = keys.bool_or("tie_word_embeddings", true)?;
    Ok(Spec { is_tied, ..bert::encoder("distilbert", NAMES, act, 1e-12, sizes) })
}
