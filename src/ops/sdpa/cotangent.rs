//! Cotangents of attention.

use faer::Accum;

use super::tile::{Pattern, matrix, matrix_mut, product, tiles};
use super::{Cotangent, TILE};
use crate::device::memory::mat_mut;
use crate::device::{Arena, Real};
use crate::ops::outputs::Outputs;
use crate::ops::packing::Heads;

/// Runs [`Cotangent`] on one CPU thread.
pub fn cpu_cotangent<T: Real>(a: &Cotangent, m: &mut Arena<T>) {
    let mut out = Outputs::take(m, [&a.dq.view, &a.dk.view, &a.dv.view]);
    let (primal, s) = (&a.primal, &a.primal.shape);
    let (n, queries) = (primal.rows(), primal.queries());
    let (tiles, most) = tiles(primal, m);
    // Keys get a share from every tile and head that sees them, and none may see a key.
    clear(&mut out, &a.dk, s.kv_heads, s.d_head);
    clear(&mut out, &a.dv, s.kv_heads, s.d_v);
    let mut pattern = Pattern::<T>::new(primal, most, true);
    let mut scores = vec![T::ZERO; TILE * most];
    for t in &tiles {
        let (rows, keys) = (t.queries.len(), t.keys.len());
        for h in 0..s.heads {
            pattern.compute(primal, m, t, h);
            let g = s.group(h);
            let [q, k, v] = t.operands(primal, m, h);
            for r in 0..primal.probes(&a.dz) {
                let dz = m.mat(&t.of_queries(a.dz.columns(h * s.d_v, s.d_v), r, queries));
                product(matrix_mut(&mut scores, rows, keys), Accum::Replace, dz, v.transpose(), 1.0);
                pattern.apply_softmax(t, &mut scores);
                pattern.apply_cap(t, &mut scores);
                let ds = matrix(&scores, rows, keys);
                let dq = t.of_queries(a.dq.head(h, s.d_head), r, queries);
                product(mat_mut(out.of(&dq), &dq), Accum::Replace, ds, k, s.scale);
                let dk = t.of_keys(a.dk.head(g, s.d_head), r, n);
                product(mat_mut(out.of(&dk), &dk), Accum::Add, ds.transpose(), q, s.scale);
                let dv = t.of_keys(a.dv.head(g, s.d_v), r, n);
                product(mat_mut(out.of(&dv), &dv), Accum::Add, matrix(&pattern.p, rows, keys).transpose(), dz, 1.0);
            }
        }
    }
    out.put(m);
}

/// Zeroes the columns of all heads.
fn clear<T: Real>(out: &mut Outputs<T>, x: &Heads, heads: usize, width: usize) {
    for h in 0..heads {
        let view = x.head(h, width);
        (0..view.rows).for_each(|i| out.row(&view, i).fill(T::ZERO));
    }
}
