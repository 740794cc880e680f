//! The form of a TransformerLens checkpoint. Weights are shared, not copied.

use std::collections::BTreeMap;

use super::{Attention, Block, Embedding, Head, Linear, Lm, Mlp, Norm, Order, Projections};
use crate::device::Tensor;
use crate::model::config::{self, ActFn};
use crate::model::network::activation;
use crate::model::{Affine, Transformer};
use crate::ops::linear::Matrix;
use crate::ops::norm::Kind;

fn linear(w: &Tensor, b: &Tensor) -> Linear {
    Linear { w: Matrix::whole(w), transpose: false, bias: Some(b.clone()) }
}

impl From<&Transformer> for Lm {
    fn from(t: &Transformer) -> Self {
        let c = &t.config;
        let norm = |affine: &Option<Affine>| {
            let part = |f: fn(&Affine) -> &Tensor| affine.as_ref().map(|a| f(a).clone());
            let norm = Norm { kind: Kind::Layer, eps: c.eps, w: part(|a| &a.w), b: part(|a| &a.b) };
            (c.norm != config::Norm::None).then_some(norm)
        };
        let blocks = t.blocks.iter().map(|b| Block {
            order: if c.parallel { Order::Parallel } else { Order::Sequential },
            norm1: norm(&b.ln1),
            attention: Attention {
                projections: Projections::Separate {
                    q: linear(&b.w_q, &b.b_q),
                    k: linear(&b.w_k, &b.b_k),
                    v: linear(&b.w_v, &b.b_v),
                    norms: None,
                },
                heads: c.n_heads,
                kv_heads: c.n_heads,
                d_head: c.d_head,
                scale: if c.attn_scale { 1.0 / (c.d_head as f64).sqrt() } else { 1.0 },
                softcap: None,
                window: None,
                o: linear(&b.w_o, &b.b_o),
            },
            attention_norm: None,
            norm2: norm(&b.ln2),
            mlp: Mlp {
                gate: None,
                up: linear(&b.w_in, &b.b_in),
                act: activation(c.act),
                // It is there whether or not the other norms are.
                norm: (c.act == ActFn::SoluLn).then(|| Norm {
                    kind: Kind::Layer,
                    eps: c.eps,
                    w: b.mid_ln.as_ref().map(|a| a.w.clone()),
                    b: b.mid_ln.as_ref().map(|a| a.b.clone()),
                }),
                down: linear(&b.w_out, &b.b_out),
            },
            mlp_norm: None,
        });
        Self {
            family: "transformer_lens",
            dtype: t.dtype,
            d_model: c.d_model,
            n_ctx: c.n_ctx,
            d_vocab: c.d_vocab,
            embedding: Embedding { tokens: t.w_e.clone(), scale: None, positions: Some(t.w_pos.clone()), row: None, norm: None },
            rotary: None,
            blocks: blocks.collect(),
            final_norm: norm(&t.ln_final),
            head: Some(Head { dense: None, unembed: linear(&t.w_u, &t.b_u), softcap: None }),
            is_causal: true,
            reads_last: c.read_last,
            paths: BTreeMap::new(),
        }
    }
}
