//! Chunks of probes and of ablations: directions that Jacobians are read with, masks, and what is read behind them.

use super::super::case::Parts;
use super::super::work::{PROBES, Shapes, Spec};
use super::product;
use crate::ops::probes::{Args, Kind};
use crate::ops::{Launch, mask};

pub const OPS: &[Spec] = &[
    Spec {
        name: "probes",
        letters: "SxTxKxD",
        slab: 1,
        least: 1,
        build: |p, sizes| probes(p, sizes, true),
        recomputed: false,
        shapes: Shapes { cuda: &["8x128x768x768"], wgpu: &["2x128x768x768"], cpu: &["2x64x256x256"], ragged: &["2x5x37x45"] },
    },
    Spec {
        name: "probe-rows",
        letters: "SxTxKxD",
        slab: 1,
        least: 1,
        build: |p, sizes| probes(p, sizes, false),
        recomputed: false,
        shapes: Shapes { cuda: &["64x128x768x768"], wgpu: &["16x128x768x768"], cpu: &["32x128x768x768"], ragged: &["2x5x37x45"] },
    },
    Spec {
        name: "mask",
        letters: "NxK",
        slab: 1,
        least: 1,
        build: masked,
        recomputed: false,
        shapes: Shapes { cuda: &["16384x768"], wgpu: &["4096x768"], cpu: &["4096x768"], ragged: &["37x70"] },
    },
    Spec {
        name: "readout",
        letters: "NxDxK",
        slab: 1,
        least: 1,
        build: readout,
        recomputed: false,
        shapes: Shapes { cuda: &["8192x768x768"], wgpu: &["2048x768x768"], cpu: &["512x768x768"], ragged: &["41x70x9"] },
    },
];

/// Rows of C with signs: a sum over all features for each row of a probe, or the row of the feature it belongs to.
fn probes(p: &mut Parts, sizes: &[usize], sums: bool) -> (Launch, f64) {
    let &[samples, positions, k, d] = sizes else { unreachable!("the letters of probes") };
    let n = samples * positions;
    let kind = if sums { Kind::Signs { sources: PROBES } } else { Kind::PositionSigns { sources: PROBES } };
    let (first, index, y) = (p.ints(1, |_| 1000), p.ints(1, |_| 0), p.output(PROBES * n, d));
    let c_t = p.table(k, d, 1.0, 0.0);
    // Probe p is of feature p modulo K where it is of one.
    p.move_elements(product(&[if sums { k } else { k.min(PROBES) }, d]));
    let args = Args { kind, seed: 9, c_t: Some(c_t), positions, first, index, probes: PROBES, y };
    (Launch::Probes(args), product(&[PROBES, n, d, if sums { k } else { 1 }]))
}

fn masked(p: &mut Parts, sizes: &[usize]) -> (Launch, f64) {
    let &[n, k] = sizes else { unreachable!("the letters of mask") };
    let (f_hat, masks, index, y) = (p.input(n, k), p.tensor(PROBES, k, 1.0), p.ints(1, |_| 0), p.output(PROBES * n, k));
    (Launch::Mask(mask::Args { f_hat, masks, index, y }), product(&[PROBES, n, k]))
}

/// y += x . W_f, each feature in the run of its own mask; the rows of a run without features are not read.
fn readout(p: &mut Parts, sizes: &[usize]) -> (Launch, f64) {
    let &[n, d, k] = sizes else { unreachable!("the letters of readout") };
    let x = p.input(PROBES * n, d);
    p.move_elements(-product(&[PROBES - k.min(PROBES), n, d]));
    let (w_t, index, y) = (p.tensor(k, d, (3.0 / d as f64).sqrt()), p.ints(1, |_| 0), p.sums(n, k));
    let owners = (0..if p.is_plan() { 0 } else { k }).map(|f| f % PROBES).collect();
    (Launch::Readout(mask::ReadoutArgs { x, w_t, owners, index, y }), 2.0 * product(&[n, d, k]))
}

#[cfg(test)]
mod tests {
    use super::super::count::{elements, flops};
    use super::PROBES;

    #[test]
    fn arithmetic_of_probes_and_masks_is_that_of_the_loops() {
        let (n, k, d) = (2 * 3, 4, 5);
        let (mut sums, mut rows, mut masks, mut read) = (0, 0, 0, 0);
        for _ in 0..PROBES * n {
            (0..d).for_each(|_| sums += k);
            (0..d).for_each(|_| rows += 1);
            (0..k).for_each(|_| masks += 1);
        }
        (0..n * k).for_each(|_| (0..d).for_each(|_| read += 2));
        assert_eq!([flops("probes", "2x3x4x5"), flops("probe-rows", "2x3x4x5")], [sums, rows]);
        assert_eq!([flops("mask", "6x4"), flops("readout", "6x5x4")], [masks, read]);
        assert_eq!(elements("probes", "2x3x4x5"), (PROBES * n * d + k * d + 1) as f64);
        assert_eq!(elements("probe-rows", "2x3x20x5"), (PROBES * n * d + PROBES * d + 1) as f64);
        assert_eq!(elements("mask", "6x4"), (n * k + PROBES * k + PROBES * n * k) as f64 + 0.5);
        assert_eq!(elements("readout", "6x5x4"), (4 * n * d + k * d + 2 * n * k) as f64 + 0.5);
    }
}
