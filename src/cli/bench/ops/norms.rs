//! LayerNorms as runs apply and differentiate them, with their moments and squared edges.

use super::super::case::Parts;
use super::super::work::{PROBES, Shapes, Spec};
use super::{NODES, product};
use crate::device::View;
use crate::ops::Launch;
use crate::ops::edge_squares::{RankOneArgs, Side};
use crate::ops::norm::{Args, Cotangent, Kind, Tangent};
use crate::ops::norm_moments;

const EPS: f64 = 1e-5;
/// What the numbers of a norm's rows are around, and how far: residual streams are not centred.
const AROUND: (f64, f64) = (3.0, 0.75);

const SLOPES: Shapes = Shapes { cuda: &["16384x768"], wgpu: &["4096x768"], cpu: &["2048x768"], ragged: &["37x130"] };

pub const OPS: &[Spec] = &[
    Spec {
        name: "norm",
        letters: "NxD",
        slab: 1,
        least: 1,
        build: norm,
        recomputed: false,
        shapes: Shapes { cuda: &["65536x768"], wgpu: &["16384x768"], cpu: &["16384x768"], ragged: &["70x130"] },
    },
    Spec { name: "norm-tangent", letters: "NxD", slab: 1, least: 8, build: tangent, recomputed: false, shapes: SLOPES },
    Spec { name: "norm-cotangent", letters: "NxD", slab: 1, least: 8, build: cotangent, recomputed: false, shapes: SLOPES },
    Spec {
        name: "norm-moments",
        letters: "NxD",
        slab: 1,
        least: 1,
        build: moments,
        recomputed: false,
        shapes: Shapes { cuda: &["32768x768"], wgpu: &["8192x768"], cpu: &["2048x512"], ragged: &["70x45"] },
    },
    Spec {
        name: "rank-one-edges",
        letters: "NxK",
        slab: 1,
        least: 1,
        build: rank_one,
        recomputed: false,
        shapes: Shapes { cuda: &["16384x768"], wgpu: &["1024x768"], cpu: &["1024x512"], ragged: &["90x45"] },
    },
];

fn rows(p: &mut Parts, n: usize, d: usize) -> View {
    p.scaled(n, d, AROUND.0, AROUND.1)
}

/// Of an element: the mean, what is left of it, the square and its sum, the scale, gain and bias.
fn norm(p: &mut Parts, sizes: &[usize]) -> (Launch, f64) {
    let &[n, d] = sizes else { unreachable!("the letters of norm") };
    let (x, y) = (rows(p, n, d), p.output(n, d));
    let (w, b) = (Some(p.tensor(1, d, 1.0)), Some(p.tensor(1, d, 1.0)));
    (Launch::Norm(Args { kind: Kind::Layer, x, y, eps: EPS, w, b }), 7.0 * product(&[n, d]))
}

/// The unit row takes five operations an element; each probe the mean, what is left, a dot product, its share taken off,
/// the scale and the gain.
fn slope_flops(n: usize, d: usize) -> f64 {
    product(&[n, d]) * (5.0 + 8.0 * PROBES as f64)
}

fn tangent(p: &mut Parts, sizes: &[usize]) -> (Launch, f64) {
    let &[n, d] = sizes else { unreachable!("the letters of norm-tangent") };
    let (x, dx, dy) = (rows(p, n, d), p.input(PROBES * n, d), p.output(PROBES * n, d));
    let w = Some(p.tensor(1, d, 1.0));
    (Launch::NormTangent(Tangent { kind: Kind::Layer, x, dx, dy, eps: EPS, w }), slope_flops(n, d))
}

fn cotangent(p: &mut Parts, sizes: &[usize]) -> (Launch, f64) {
    let &[n, d] = sizes else { unreachable!("the letters of norm-cotangent") };
    let (x, dy, dx) = (rows(p, n, d), p.input(PROBES * n, d), p.output(PROBES * n, d));
    let w = Some(p.tensor(1, d, 1.0));
    (Launch::NormCotangent(Cotangent { kind: Kind::Layer, x, dy, dx, eps: EPS, w, accumulate: false }), slope_flops(n, d))
}

/// Three weighted Gram matrices of centred rows, the lower triangles, and the quadratic form that weighs one of them;
/// centring and the other weights count as nothing.
fn moments(p: &mut Parts, sizes: &[usize]) -> (Launch, f64) {
    let &[n, d] = sizes else { unreachable!("the letters of norm-moments") };
    let x = rows(p, n, d);
    // Positive definite, as A is, so that no quadratic form is a difference of large numbers.
    let a_y = p.symmetric(d, 0.5 / d as f64, 1.0);
    let (scalars, vectors) = (p.sums(1, 2), p.sums(2, d));
    let grams = (0..3).map(|_| p.triangle(d)).collect();
    let kind = norm_moments::Kind::One { a_y, eps: EPS };
    let args = norm_moments::Args { kind, nodes: NODES.into(), x, scalars, vectors, grams };
    (Launch::NormMoments(args), (2.0 + 3.0) * product(&[n, d, d + 1]))
}

/// out += f^2 (s z1 + z0 + g l y)^2: of an element four operations and three to square, weigh and add it.
fn rank_one(p: &mut Parts, sizes: &[usize]) -> (Launch, f64) {
    let &[n, k] = sizes else { unreachable!("the letters of rank-one-edges") };
    let (f_hat, s, g) = (p.input(n, k), p.input(n, 1), p.input(n, 1));
    let (l, y) = (Side::Rows(p.input(n, k)), Side::Rows(p.input(n, k)));
    let (z1, z0, out) = (p.tensor(k, k, 1.0), p.tensor(k, k, 1.0), p.sums(k, k));
    (Launch::EdgeRankOne(RankOneArgs { f_hat, s, g, l, y, z1, z0, out }), 7.0 * product(&[n, k, k]))
}

#[cfg(test)]
mod tests {
    use super::super::count::{elements, flops};
    use super::PROBES;

    #[test]
    fn arithmetic_of_norms_is_that_of_the_loops() {
        let (n, d) = (3, 9);
        let (mut whole, mut slope) = (0, 0);
        for _ in 0..n * d {
            // + of the mean, - mean, * and + of the square, * inverse; * w, + b.
            let unit = 1 + 1 + 2 + 1;
            whole += unit + 2;
            slope += unit;
            // + of the mean, - mean, * and + of the product with n, * and - of its share, * inverse, * w.
            (0..PROBES).for_each(|_| slope += 1 + 1 + 2 + 2 + 1 + 1);
        }
        assert_eq!((flops("norm", "3x9"), elements("norm", "3x9")), (whole, (2 * n * d + 2 * d) as f64));
        for op in ["norm-tangent", "norm-cotangent"] {
            assert_eq!((flops(op, "3x9"), elements(op, "3x9")), (slope, ((1 + 2 * PROBES) * n * d + d) as f64));
        }
    }

    #[test]
    fn arithmetic_of_moments_and_edges_of_norms_is_that_of_the_loops() {
        let (n, d) = (3, 5);
        let mut count = 0;
        for _ in 0..n {
            // c A c', then three Gram matrices.
            (0..d).for_each(|_| (0..d).for_each(|_| count += 2));
            (0..d).for_each(|_| count += 2);
            (0..3).for_each(|_| (0..d).for_each(|i| (0..=i).for_each(|_| count += 2)));
        }
        assert_eq!(flops("norm-moments", "3x5"), count);
        let lower = d * (d + 1) / 2;
        assert_eq!(elements("norm-moments", "3x5"), (n * d + d * d + 2 * (2 + 2 * d) + 3 * 2 * lower) as f64);
        let mut count = 0;
        // * s, + z0, * (g l), + ; *, * f^2, +.
        (0..n * d * d).for_each(|_| count += 4 + 3);
        assert_eq!(flops("rank-one-edges", "3x5"), count);
        assert_eq!(elements("rank-one-edges", "3x5"), (3 * n * d + 2 * n + 2 * d * d + 2 * d * d) as f64);
    }
}
