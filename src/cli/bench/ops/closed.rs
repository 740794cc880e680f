//! The closed forms of attention: moments of its Jacobian, and squared edges.

use super::super::case::{Output, Parts};
use super::super::work::{Shapes, Spec};
use super::{NODES, pairs};
use crate::ops::{Attention, Launch, attention_edges, attention_moments};

pub const OPS: &[Spec] = &[
    Spec {
        name: "attention-moments",
        letters: "SxTxHxD",
        slab: 1,
        least: 1,
        build: moments,
        recomputed: false,
        shapes: Shapes { cuda: &["8x128x12x64"], wgpu: &["1x128x12x64"], cpu: &["4x64x4x32"], ragged: &["2x9x2x5"] },
    },
    Spec {
        name: "attention-edges",
        letters: "SxTxHxDxK",
        slab: 1,
        least: 1,
        build: edges,
        recomputed: false,
        shapes: Shapes { cuda: &["1x64x12x64x768"], wgpu: &["1x32x12x64x768"], cpu: &["1x32x4x32x128"], ragged: &["2x7x2x5x9"] },
    },
];

fn layer(p: &mut Parts, &[batch, seq, heads, d]: &[usize; 4]) -> Attention {
    let [q, k, v] = [(); 3].map(|()| p.input(batch * seq, heads * d));
    let scale = 1.0 / (d as f64).sqrt();
    Attention { batch, seq, heads, d_head: d, d_v: d, scale, last_only: false, nodes: NODES.into(), q, k, v }
}

fn moments(p: &mut Parts, sizes: &[usize]) -> (Launch, f64) {
    let &[batch, seq, heads, d] = sizes else { unreachable!("the letters of attention-moments") };
    let attention = layer(p, &[batch, seq, heads, d]);
    let width = heads * d;
    let p_mat = p.symmetric(width, (3.0 / width as f64).sqrt(), 0.0);
    // Symmetric sums begin symmetric.
    let [qq, kk] = [(); 2].map(|()| {
        let view = p.zeros(width, width);
        p.compare(Output::Whole(view));
        view
    });
    let mut sums = |rows, cols| p.sums(rows, cols);
    let args = attention_moments::Args {
        attention,
        p_mat,
        qq,
        kk,
        qk: sums(width, width),
        qv: sums(width, width),
        kv: sums(width, width),
        vv: sums(heads, heads),
        lq: sums(width, d),
        lk: sums(width, d),
        lv: sums(1, heads),
    };
    (Launch::AttentionMoments(args), batch as f64 * moments_of_a_sequence(seq, heads, d))
}

/// The sums of [`attention_moments::Args`] term by term, with R of every query: what is symmetric once, a softmax as nothing.
fn moments_of_a_sequence(seq: usize, heads: usize, d: usize) -> f64 {
    let (queries, pairs, heads, d) = (seq as f64, pairs(seq), heads as f64, d as f64);
    // Scores, z, omega; omega'k. The linear terms.
    let of_a_head = pairs * (2.0 * d + 2.0 * d + 2.0 * d + 2.0 * d * d) + queries * (3.0 * d * d + 1.0);
    // R P; (R P) omega_tt and its product with q; R p_tt; the sum of omega p and its product with q.
    let of_two = queries * (2.0 * d * d * d + 4.0 * d * d + 2.0 * d * d + 2.0 * d * d) + pairs * 2.0 * d;
    // (R P) R'; omega P omega' and the product of queries it weighs; p p.
    let of_a_pair = queries * (2.0 * d * d * d + 2.0 * d * d) + pairs * (2.0 * d * d + 2.0 * d + 2.0);
    heads * of_a_head + heads * heads * of_two + heads * (heads + 1.0) / 2.0 * of_a_pair
}

fn edges(p: &mut Parts, sizes: &[usize]) -> (Launch, f64) {
    let &[batch, seq, heads, d, k] = sizes else { unreachable!("the letters of attention-edges") };
    let attention = layer(p, &[batch, seq, heads, d]);
    let (width, f_hat, out) = (heads * d, p.input(batch * seq, k), p.sums(k, k));
    let scale = (3.0 / width as f64).sqrt();
    let mut tensor = |rows, cols| p.tensor(rows, cols, scale);
    let args = attention_edges::Args {
        attention,
        f_hat,
        q_e: tensor(k, width),
        k_e: tensor(k, width),
        v_e: tensor(k, width),
        o_e: tensor(width, k),
        b_e: tensor(k, k),
        out,
    };
    (Launch::AttentionEdges(args), batch as f64 * edges_of_a_sequence(seq, heads, d, k))
}

/// The sums of [`attention_edges::Args`] term by term; a softmax counts as nothing.
fn edges_of_a_sequence(seq: usize, heads: usize, d: usize, k: usize) -> f64 {
    let (queries, pairs, heads, d, k) = (seq as f64, pairs(seq), heads as f64, d as f64, k as f64);
    // Scores, z, omega, R; of each direction a and b.
    let of_a_pair = 2.0 * d + 2.0 * d + 2.0 * d + 2.0 * d * d + k * (2.0 + 2.0 * d);
    // a V, q K and its product with b, Q R, their sum.
    let psi = k * (2.0 * d + 2.0 * d + 2.0 * d + 2.0 * d * d + d);
    // psi O and f B; the square, added.
    let jacobian = k * k * (2.0 * heads * d + 2.0 + 2.0);
    heads * (pairs * of_a_pair + queries * psi) + queries * jacobian
}

#[cfg(test)]
mod tests {
    use super::super::count::{elements, flops};

    /// Counts multiplications and additions of a product of `rows`, `inner` and `cols`.
    fn gemm(count: &mut usize, rows: usize, inner: usize, cols: usize) {
        (0..rows * cols).for_each(|_| (0..inner).for_each(|_| *count += 2));
    }

    #[test]
    fn arithmetic_of_moments_is_that_of_the_loops() {
        let (batch, seq, heads, d) = (2, 4, 3, 5);
        let mut count = 0;
        for t in (0..batch).flat_map(|_| 0..seq) {
            for h in 0..heads {
                for _ in 0..=t {
                    gemm(&mut count, 1, d, 1);
                    gemm(&mut count, 1, 1, d);
                    (0..d).for_each(|_| count += 2);
                    gemm(&mut count, d, 1, d);
                }
                // lq, lk, lv.
                count += d * d + 2 * d * d + 1;
                for other in 0..heads {
                    gemm(&mut count, d, d, d);
                    gemm(&mut count, d, d, 1);
                    gemm(&mut count, d, 1, d);
                    gemm(&mut count, d, 1, d);
                    (0..=t).for_each(|_| gemm(&mut count, 1, 1, d));
                    gemm(&mut count, d, 1, d);
                    if other < h {
                        continue;
                    }
                    gemm(&mut count, d, d, d);
                    gemm(&mut count, d, 1, d);
                    for _ in 0..=t {
                        gemm(&mut count, 1, d, d);
                        gemm(&mut count, 1, d, 1);
                        count += 2;
                    }
                }
            }
        }
        assert_eq!(flops("attention-moments", "2x4x3x5"), count);
        let (rows, width) = (batch * seq * heads * d, heads * d);
        let sums = 5 * width * width + heads * heads + 2 * width * d + heads;
        assert_eq!(elements("attention-moments", "2x4x3x5"), (3 * rows + width * width + 2 * sums) as f64);
    }

    #[test]
    fn arithmetic_of_edges_is_that_of_the_loops() {
        let (batch, seq, heads, d, k) = (2, 4, 3, 5, 6);
        let mut count = 0;
        for t in (0..batch).flat_map(|_| 0..seq) {
            for _ in 0..heads {
                for _ in 0..=t {
                    gemm(&mut count, 1, d, 1);
                    gemm(&mut count, 1, 1, d);
                    (0..d).for_each(|_| count += 2);
                    gemm(&mut count, d, 1, d);
                    (0..k).for_each(|_| count += 2 + 2 * d);
                }
                for _ in 0..k {
                    // V scaled by a, b by q K, added; f Q times R, added.
                    gemm(&mut count, 1, 1, d);
                    gemm(&mut count, 1, d, 1);
                    gemm(&mut count, 1, 1, d);
                    gemm(&mut count, 1, d, d);
                    count += d;
                }
            }
            gemm(&mut count, k, heads * d, k);
            gemm(&mut count, k, 1, k);
            (0..k * k).for_each(|_| count += 2);
        }
        assert_eq!(flops("attention-edges", "2x4x3x5x6"), count);
        let (rows, width) = (batch * seq, heads * d);
        let expected = 3 * rows * width + rows * k + 2 * k * k + 4 * k * width + k * k;
        assert_eq!(elements("attention-edges", "2x4x3x5x6"), expected as f64);
    }
}
