//! Products of matrices: Gram matrices, linear maps, cross products.

use super::super::case::Parts;
use super::super::work::{Shapes, Spec};
use super::product;
use crate::ops::activation::Activation;
use crate::ops::{Launch, gram, linear};

/// The activation behind the linear maps.
pub const ACTIVATION: Activation = Activation::Gelu;
/// Rows of a token of the tangent epilogue: one primal and 15 tangents.
pub const SLAB: usize = linear::TANGENT_ROWS;

pub const OPS: &[Spec] = &[
    Spec {
        name: "gram",
        letters: "NxD",
        slab: 1,
        least: 1,
        build: gram,
        recomputed: true,
        // Activations of 2^20 tokens of a small GPT-2 and of its neurons.
        shapes: Shapes {
            cuda: &["1048576x769", "1048576x768", "131072x3073"],
            wgpu: &["65536x769"],
            cpu: &["16384x257", "4096x769"],
            ragged: &["300x130"],
        },
    },
    Spec {
        name: "linear",
        letters: "NxDxM",
        slab: 1,
        least: 1,
        build: |p, sizes| map(p, sizes, false),
        recomputed: true,
        shapes: Shapes {
            cuda: &["4096x768x3072", "65536x768x3072", "65536x3072x768"],
            wgpu: &["4096x768x3072", "16384x768x3072"],
            cpu: &["4096x768x768", "2048x768x3072"],
            ragged: &["130x70x150"],
        },
    },
    Spec {
        name: "tangent",
        letters: "NxDxM",
        slab: SLAB,
        least: 1,
        build: |p, sizes| map(p, sizes, true),
        recomputed: true,
        // One slab of tangents for 8,192 tokens.
        shapes: Shapes { cuda: &["131072x768x3072"], wgpu: &["16384x768x3072"], cpu: &["4096x768x768"], ragged: &["144x70x150"] },
    },
    Spec {
        name: "product",
        letters: "NxDxM",
        slab: 1,
        least: 1,
        build: cross,
        recomputed: false,
        shapes: Shapes { cuda: &["65536x768x768"], wgpu: &["16384x768x768"], cpu: &["4096x512x512"], ragged: &["90x70x45"] },
    },
];

/// The lower triangle of (x - mean)'(x - mean), for `x` `[n, d]` and its column means, which count as nothing.
fn gram(p: &mut Parts, sizes: &[usize]) -> (Launch, f64) {
    let &[n, d] = sizes else { unreachable!("the letters of gram") };
    let (x, m2, mean) = (p.input(n, d), p.fresh_triangle(d), p.output(1, d));
    (Launch::Gram(gram::Args { x, mean, m2 }), product(&[n, d, d + 1]))
}

/// y = gelu(x W + b), or the same on slabs of one primal row and 15 tangents, which get gelu'(z_0) z_r and no bias.
fn map(p: &mut Parts, sizes: &[usize], tangent: bool) -> (Launch, f64) {
    let &[n, k, m] = sizes else { unreachable!("the letters of linear") };
    let (x, y) = (p.input(n, k), p.output(n, m));
    // Results are of the size of x.
    let (w, bias) = (p.weights(k, m, (3.0 / k as f64).sqrt()), p.weights(1, m, 1.0));
    let args = linear::Args { bias: Some(bias), act: Some(ACTIVATION), tangent, ..linear::Args::new(x, w, y) };
    (Launch::Linear(args), 2.0 * product(&[n, k, m]))
}

/// out += a'b.
fn cross(p: &mut Parts, sizes: &[usize]) -> (Launch, f64) {
    let &[n, d, e] = sizes else { unreachable!("the letters of product") };
    let (a, b, out) = (p.input(n, d), p.input(n, e), p.sums(d, e));
    (Launch::Cross(gram::CrossArgs { a, b, out }), 2.0 * product(&[n, d, e]))
}

#[cfg(test)]
mod tests {
    use super::super::count::{elements, flops};

    #[test]
    fn arithmetic_and_bytes_of_products_are_those_of_the_definitions() {
        // A multiplication and an addition for each row and each pair i >= j.
        let lower = (0..5).map(|i| i + 1).sum::<usize>();
        assert_eq!(flops("gram", "7x5"), 2 * 7 * lower);
        assert_eq!(elements("gram", "7x5"), (7 * 5 + lower + 5) as f64);
        let mut count = 0;
        (0..7).for_each(|_| (0..5).for_each(|_| (0..3).for_each(|_| count += 2)));
        assert_eq!([flops("linear", "7x5x3"), flops("product", "7x5x3")], [count; 2]);
        assert_eq!(flops("tangent", "16x5x3"), 2 * 16 * 5 * 3);
        assert_eq!(elements("linear", "7x5x3"), (7 * 5 + 5 * 3 + 3 + 7 * 3) as f64);
        assert_eq!(elements("product", "7x5x3"), (7 * 5 + 7 * 3 + 2 * 5 * 3) as f64);
    }
}
