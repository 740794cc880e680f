//! Mean and Gram matrices.

use mechgraph::device::{Builder, DType, Device, Real, View};
use mechgraph::ops::{Launch, copy, gram};

use super::against_cpu::{Case, agrees_on};
use super::planted::{all_caught_on_wgpu, bug};
use super::{Backend, bar, error, on_every_backend, rounded, run};

/// Rows and columns: single ones, tile edges, ragged ones.
const SHAPES: [(usize, usize); 8] = [(1, 1), (2, 3), (31, 33), (64, 64), (129, 65), (300, 7), (257, 130), (513, 40)];

fn shapes() -> impl Iterator<Item = (usize, usize, bool)> {
    SHAPES.into_iter().flat_map(|(n, d)| [(n, d, false), (n, d, true)])
}

/// A matrix of `[n, d]`, inside of wider rows if `wide`.
fn view(b: &mut Builder<Launch>, n: usize, d: usize, wide: bool) -> View {
    if wide { b.matrix(n, d + 5).columns(3, d) } else { b.matrix(n, d) }
}

fn lower(d: usize, full: impl Fn(usize, usize) -> f64) -> Vec<f64> {
    (0..d * d).map(|e| if e % d <= e / d { full(e / d, e % d) } else { 0.0 }).collect()
}

fn centred<T: Real>(backend: Backend) {
    for (case, (n, d, wide)) in shapes().enumerate() {
        let mut b = Builder::<Launch>::new(T::DTYPE);
        let (x, mean, m2) = (view(&mut b, n, d, wide), b.matrix(1, d), b.matrix(d, d));
        b.push(Launch::Gram(gram::Args { x, mean, m2 }));
        let program = b.finish();
        // Means far from zero: what a raw second moment would lose.
        let data: Vec<f64> = rounded(T::DTYPE, n * d, case as u64).iter().map(|x| T::of(x + 4.0).to_f64()).collect();
        let arena = run::<T>(backend, &program, &[(x, data.clone())], &[mean, m2]);
        let means: Vec<f64> = (0..d).map(|j| (0..n).map(|i| data[i * d + j]).sum::<f64>() / n as f64).collect();
        let found = error(&arena, &mean, &means);
        assert!(found <= bar(T::DTYPE), "{backend:?} mean of [{n}, {d}]: {found:e}");
        // Centring is exact about the mean as it was rounded; the difference to the true one is of its square.
        let at = |i: usize, j: usize| data[i * d + j] - means[j];
        let expected = lower(d, |i, j| (0..n).map(|r| at(r, i) * at(r, j)).sum());
        let is_upper = |e: &usize| e % d > e / d;
        assert!((0..d * d).filter(is_upper).all(|e| arena.real(m2.buffer)[e] == T::ZERO), "{backend:?}: above the diagonal");
        if n > 1 {
            let found = error(&arena, &m2, &expected);
            assert!(found <= bar(T::DTYPE), "{backend:?} Gram of [{n}, {d}]: {found:e}");
        } else {
            assert!(arena.real(m2.buffer).iter().all(|x| *x == T::ZERO), "{backend:?}: one row has no variance");
        }
    }
}

fn added<T: Real>(backend: Backend) {
    for (case, (n, d, _)) in shapes().enumerate() {
        let mut b = Builder::<Launch>::new(T::DTYPE);
        let (x, out) = (b.matrix(n, d), b.matrix(d, d));
        b.push(Launch::GramAdd(gram::AddArgs { x, out, transpose: false }));
        let program = b.finish();
        let (data, start) = (rounded(T::DTYPE, n * d, case as u64), rounded(T::DTYPE, d * d, 99));
        let mut arena = run::<T>(backend, &program, &[(x, data.clone()), (out, start.clone())], &[out]);
        let sum = |i: usize, j: usize| (0..n).map(|r| data[r * d + i] * data[r * d + j]).sum::<f64>();
        let expected = lower(d, |i, j| start[i * d + j] + sum(i, j));
        let upper = arena.real_mut(out.buffer);
        for e in (0..d * d).filter(|e| e % d > e / d) {
            assert_eq!(upper[e].to_f64(), start[e], "{backend:?}: a write above the diagonal");
            upper[e] = T::ZERO;
        }
        let found = error(&arena, &out, &expected);
        assert!(found <= bar(T::DTYPE), "{backend:?} [{n}, {d}]: {found:e}");
    }
}

on_every_backend! {
    fn centred_gram_matrices_of_ragged_shapes_in_f32(backend: Backend) { centred::<f32>(backend) }
    fn gram_matrices_add_to_what_is_there_in_f32(backend: Backend) { added::<f32>(backend) }
    fn a_column_that_never_changes_has_no_variance(backend: Backend) {
        let mut b = Builder::<Launch>::new(DType::F32);
        let (x, mean, m2) = (b.matrix(77, 3), b.matrix(1, 3), b.matrix(3, 3));
        b.push(Launch::Gram(gram::Args { x, mean, m2 }));
        let program = b.finish();
        let data = (0..77 * 3).map(|e| if e % 3 == 1 { f64::from(0.1f32) } else { e as f64 }).collect();
        let arena = run::<f32>(backend, &program, &[(x, data)], &[mean, m2]);
        assert_eq!(arena.real(mean.buffer)[1], 0.1);
        let m2 = arena.real(m2.buffer);
        assert!([m2[3], m2[4], m2[7]].iter().all(|x| *x == 0.0), "{m2:?}");
    }
}

on_every_backend! {
    f64:
    fn centred_gram_matrices_of_ragged_shapes_in_f64(backend: Backend) { centred::<f64>(backend) }
    fn gram_matrices_add_to_what_is_there_in_f64(backend: Backend) { added::<f64>(backend) }
}

/// What the planted bugs must make fail: several slabs, several tiles.
fn sound(device: &Device) -> Result<(), String> {
    [(513, 40), (257, 130)].into_iter().try_for_each(|(n, d)| {
        agrees_on::<f32>(device, 1e-6, |dtype| {
            let mut b = Builder::<Launch>::new(dtype);
            let (x, mean, m2) = (view(&mut b, n, d, true), b.matrix(1, d), b.matrix(d, d));
            // In the place of other numbers, above the diagonal too.
            b.push(Launch::Fill(copy::FillArgs { y: m2, value: 7.0 }));
            b.push(Launch::Gram(gram::Args { x, mean, m2 }));
            let inputs = vec![(x, rounded(DType::F32, n * d, 5))];
            Case { program: b.finish(), inputs, ints: vec![], outputs: vec![mean, m2] }
        })
    })
}

#[test]
fn wgpu_llvmpipe_bugs_planted_in_the_folding_of_slabs_are_caught() {
    all_caught_on_wgpu(
        &[
            bug("gram_fold_f32", "the last slab is left out", "slab < p.slabs;", "slab + 1u < p.slabs;"),
            bug("gram_fold_f32", "what lies above the diagonal stays", "m2[p.m2_offset + column * p.m2_stride + row] = 0.0;", ""),
            bug("gram_fold_f32", "slabs are a tile apart", "(slab * p.tiles + t) * 2u", "(slab + t) * 2u"),
            bug(
                "gram_fold_f32",
                "every tile is on the diagonal",
                "let tj = p.first_tile + t - ti * (ti + 1u) / 2u;",
                "let tj = ti;",
            ),
        ],
        sound,
    );
}
