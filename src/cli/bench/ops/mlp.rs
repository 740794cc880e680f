//! Hidden layers of MLPs: gates, moments of derivatives, squared edges.

use super::super::case::Parts;
use super::super::work::{Shapes, Spec};
use super::{NODES, product};
use crate::ops::activation::Activation;
use crate::ops::{Launch, edge_squares, gated, moments};

pub const OPS: &[Spec] = &[
    Spec {
        name: "moments",
        letters: "NxM",
        slab: 1,
        least: 1,
        build: derivatives,
        recomputed: false,
        shapes: Shapes { cuda: &["32768x3072"], wgpu: &["8192x3072"], cpu: &["4096x768"], ragged: &["90x70"] },
    },
    Spec {
        name: "edges",
        letters: "NxMxK",
        slab: 1,
        least: 1,
        build: edges,
        recomputed: false,
        shapes: Shapes { cuda: &["512x3072x768"], wgpu: &["128x3072x768"], cpu: &["64x1024x256"], ragged: &["9x70x37"] },
    },
    Spec {
        name: "gated",
        letters: "NxM",
        slab: 1,
        least: 1,
        build: gate,
        recomputed: false,
        shapes: Shapes { cuda: &["65536x3072"], wgpu: &["8192x3072"], cpu: &["8192x1024"], ragged: &["70x130"] },
    },
];

/// h += sum of d, s += d'd, for d = sum w gelu'(alpha x). Counted are the products of d alone.
fn derivatives(p: &mut Parts, sizes: &[usize]) -> (Launch, f64) {
    let &[n, m] = sizes else { unreachable!("the letters of moments") };
    let (pre, h, s) = (p.input(n, m), p.sums(1, m), p.triangle(m));
    let args = moments::Args { act: Activation::Gelu, nodes: NODES.into(), pre, up: None, h, s };
    (Launch::Moments(args), product(&[n, m, m + 1]))
}

/// out += f^2 J^2, J = U diag(d) V + B, with as many features in as out.
fn edges(p: &mut Parts, sizes: &[usize]) -> (Launch, f64) {
    let &[n, m, k] = sizes else { unreachable!("the letters of edges") };
    let (pre, f_hat, out) = (p.input(n, m), p.input(n, k), p.sums(k, k));
    let scale = (3.0 / m as f64).sqrt();
    let (u_t, v, b) = (p.tensor(m, k, scale), p.tensor(m, k, scale), p.tensor(k, k, 1.0));
    let args = edge_squares::Args { act: Activation::Gelu, nodes: NODES.into(), pre, up: None, f_hat, u_t, v, b, out };
    (Launch::EdgeSquares(args), edge_flops(n, m, k))
}

/// The products over hidden units, and three operations to square, weigh and add an element; d and f^2 count as nothing.
fn edge_flops(n: usize, m: usize, k: usize) -> f64 {
    product(&[n, k, k]) * (2.0 * m as f64 + 3.0) + product(&[n, m, k])
}

/// h = silu(g) u; an activation counts as one operation.
fn gate(p: &mut Parts, sizes: &[usize]) -> (Launch, f64) {
    let &[n, m] = sizes else { unreachable!("the letters of gated") };
    let (g, u, h) = (p.scaled(n, m, 4.0, 0.0), p.input(n, m), p.output(n, m));
    (Launch::Gated(gated::Args { act: Activation::Silu, g, u, h }), 2.0 * product(&[n, m]))
}

#[cfg(test)]
mod tests {
    use super::super::count::{elements, flops};

    #[test]
    fn arithmetic_of_mlps_is_that_of_the_definitions() {
        let (n, m, k) = (4, 3, 5);
        let mut count = 0;
        for _ in 0..n {
            // d_h U_hj.
            (0..m * k).for_each(|_| count += 1);
            for _ in 0..k * k {
                (0..m).for_each(|_| count += 2);
                count += 3;
            }
        }
        assert_eq!(flops("edges", "4x3x5"), count);
        assert_eq!(elements("edges", "4x3x5"), (n * m + n * k + 2 * k * k + 2 * m * k + k * k) as f64);
        let lower = (0..m).map(|i| i + 1).sum::<usize>();
        assert_eq!(flops("moments", "4x3"), 2 * n * lower);
        assert_eq!(elements("moments", "4x3"), (n * m + 2 * m + 2 * lower) as f64);
        assert_eq!((flops("gated", "4x3"), elements("gated", "4x3")), (2 * n * m, (3 * n * m) as f64));
    }
}
