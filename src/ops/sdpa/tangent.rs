//! Tangents of attention.

use faer::Accum;

use super::tile::{Pattern, matrix, matrix_mut, product, tiles};
use super::{TILE, Tangent};
use crate::device::memory::mat_mut;
use crate::device::{Arena, Real};
use crate::ops::outputs::Outputs;

/// Runs [`Tangent`] on one CPU thread.
pub fn cpu_tangent<T: Real>(a: &Tangent, m: &mut Arena<T>) {
    let mut out = Outputs::take(m, [&a.dz]);
    let (primal, s) = (&a.primal, &a.primal.shape);
    let (n, queries) = (primal.rows(), primal.queries());
    let (tiles, most) = tiles(primal, m);
    let mut pattern = Pattern::<T>::new(primal, most, true);
    let mut scores = vec![T::ZERO; TILE * most];
    for t in &tiles {
        let (rows, keys) = (t.queries.len(), t.keys.len());
        for h in 0..s.heads {
            pattern.compute(primal, m, t, h);
            let g = s.group(h);
            let [q, k, v] = t.operands(primal, m, h);
            for r in 0..primal.probes(&a.dz) {
                let dq = m.mat(&t.of_queries(a.dq.head(h, s.d_head), r, queries));
                let dk = m.mat(&t.of_keys(a.dk.head(g, s.d_head), r, n));
                let dv = m.mat(&t.of_keys(a.dv.head(g, s.d_v), r, n));
                product(matrix_mut(&mut scores, rows, keys), Accum::Replace, dq, k.transpose(), s.scale);
                product(matrix_mut(&mut scores, rows, keys), Accum::Add, q, dk.transpose(), s.scale);
                pattern.apply_cap(t, &mut scores);
                pattern.apply_softmax(t, &mut scores);
                let dz = t.of_queries(a.dz.columns(h * s.d_v, s.d_v), r, queries);
                product(mat_mut(out.of(&dz), &dz), Accum::Replace, matrix(&scores, rows, keys), v, 1.0);
                product(mat_mut(out.of(&dz), &dz), Accum::Add, matrix(&pattern.p, rows, keys), dv, 1.0);
            }
        }
    }
    out.put(m);
}
