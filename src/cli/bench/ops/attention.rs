//! Attention of whole sequences, which see themselves and what is before: forward, tangents, cotangents.

use super::super::case::Parts;
use super::super::work::{PROBES, Shapes, Spec};
use super::{pairs, product};
use crate::device::View;
use crate::ops::attention::{Args, Cotangent, Shape, Tangent};
use crate::ops::packing::{Heads, Packing};
use crate::ops::{Launch, sdpa};

/// Sequences, tokens, heads, width of a head: 64 windows of a small GPT-2.
const CUDA: &[&str] = &["64x128x12x64"];
const WGPU: &[&str] = &["16x128x12x64"];
const RAGGED: &[&str] = &["2x19x2x6"];

const fn spec(name: &'static str, build: fn(&mut Parts, &[usize]) -> (Launch, f64), cpu: &'static [&'static str]) -> Spec {
    let shapes = Shapes { cuda: CUDA, wgpu: WGPU, cpu, ragged: RAGGED };
    Spec { name, letters: "SxTxHxD", slab: 1, least: 1, build, recomputed: false, shapes }
}

pub const OPS: &[Spec] = &[
    spec("attention", forward, &["16x128x12x64"]),
    spec("attention-tangent", tangent, &["4x128x12x64"]),
    spec("attention-cotangent", cotangent, &["4x128x12x64"]),
    spec("packed-attention", packed, &["16x128x12x64"]),
];

/// An attention layer and where its queries, keys and values lie.
struct Layer {
    shape: Shape,
    qkv: [View; 3],
}

fn layer(p: &mut Parts, sizes: &[usize]) -> Layer {
    let &[batch, seq, heads, d] = sizes else { unreachable!("the letters of attention") };
    let scale = 1.0 / (d as f64).sqrt();
    let shape = Shape { batch, seq, heads, d_head: d, d_v: d, scale, last_only: false, causal: true };
    Layer { shape, qkv: [(); 3].map(|()| p.input(batch * seq, heads * d)) }
}

/// Products of a query with a key, or of a weight with a value, for all that queries see, `times` over; a softmax counts as
/// nothing.
fn flops(s: &Shape, times: usize) -> f64 {
    2.0 * product(&[times, s.batch, s.heads, s.d_head]) * pairs(s.seq)
}

fn forward(p: &mut Parts, sizes: &[usize]) -> (Launch, f64) {
    let Layer { shape, qkv: [q, k, v] } = layer(p, sizes);
    let (pattern, z) = (p.output(shape.batch * shape.heads * shape.seq, shape.seq), p.output(q.rows, v.cols));
    (Launch::Attention(Args { shape, q, k, v, p: pattern, z }), flops(&shape, 2))
}

/// The pattern that derivatives start from, made beforehand.
fn pattern(p: &mut Parts, Layer { shape, qkv: [q, k, v] }: &Layer) -> View {
    let pattern = p.prepared(shape.batch * shape.heads * shape.seq, shape.seq);
    let z = p.spare(q.rows, v.cols);
    p.prepare(Launch::Attention(Args { shape: *shape, q: *q, k: *k, v: *v, p: pattern, z }));
    pattern
}

/// Of each probe dq k', q dk', dP v and P dv.
fn tangent(p: &mut Parts, sizes: &[usize]) -> (Launch, f64) {
    let layer = layer(p, sizes);
    let pattern = pattern(p, &layer);
    let Layer { shape, qkv: [q, k, v] } = layer;
    let [dq, dk, dv] = [(); 3].map(|()| p.input(PROBES * q.rows, q.cols));
    let dz = p.output(PROBES * q.rows, v.cols);
    (Launch::AttentionTangent(Tangent { shape, q, k, v, p: pattern, dq, dk, dv, dz }), flops(&shape, 4 * PROBES))
}

/// Of each probe dz v', dS k, dS' q and P' dz.
fn cotangent(p: &mut Parts, sizes: &[usize]) -> (Launch, f64) {
    let layer = layer(p, sizes);
    let pattern = pattern(p, &layer);
    let Layer { shape, qkv: [q, k, v] } = layer;
    let dz = p.input(PROBES * q.rows, v.cols);
    let [dq, dk, dv] = [(); 3].map(|()| p.output(PROBES * q.rows, q.cols));
    (Launch::AttentionCotangent(Cotangent { shape, q, k, v, p: pattern, dz, dq, dk, dv }), flops(&shape, 4 * PROBES))
}

/// The attention of language models, whose sequences are packed and whose patterns are not kept.
fn packed(p: &mut Parts, sizes: &[usize]) -> (Launch, f64) {
    let Layer { shape, qkv } = layer(p, sizes);
    let Shape { batch, seq, heads, d_head, d_v, scale, .. } = shape;
    let [q, k, v] = qkv.map(|x| Heads::dense(x, d_head));
    let first = p.ints(batch * seq, |row| (row - row % seq) as u32);
    let end = p.ints(batch * seq, |row| (row - row % seq + seq) as u32);
    let z = p.output(batch * seq, heads * d_v);
    let of = sdpa::Shape { heads, kv_heads: heads, d_head, d_v, scale, softcap: None, causal: true, window: None };
    let primal = sdpa::Primal { shape: of, packing: Packing { first, end, seen: None }, queries: None, q, k, v };
    (Launch::Sdpa(sdpa::Args { primal, z, pattern: None }), flops(&shape, 2))
}

#[cfg(test)]
mod tests {
    use super::super::count::{elements, flops};
    use super::PROBES;

    #[test]
    fn arithmetic_of_attention_is_that_of_what_queries_see() {
        let (batch, seq, heads, d) = (2, 5, 3, 4);
        let mut pair = 0;
        for _ in 0..batch * heads {
            (0..seq).for_each(|t| (0..=t).for_each(|_| (0..d).for_each(|_| pair += 2)));
        }
        // Scores and values; of each probe two products for dS and two behind it.
        assert_eq!([flops("attention", "2x5x3x4"), flops("packed-attention", "2x5x3x4")], [2 * pair; 2]);
        assert_eq!([flops("attention-tangent", "2x5x3x4"), flops("attention-cotangent", "2x5x3x4")], [4 * PROBES * pair; 2]);
        let (rows, pattern) = (batch * seq * heads * d, batch * heads * seq * seq);
        assert_eq!(elements("attention", "2x5x3x4"), (4 * rows + pattern) as f64);
        assert_eq!(elements("attention-tangent", "2x5x3x4"), (3 * rows + pattern + 4 * PROBES * rows) as f64);
        assert_eq!(elements("packed-attention", "2x5x3x4"), (4 * rows + batch * seq) as f64);
    }
}
