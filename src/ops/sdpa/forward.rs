//! The forward pass of attention.

use faer::Accum;

use super::Args;
use super::tile::{Pattern, matrix, product, tiles};
use crate::device::memory::mat_mut;
use crate::device::{Arena, Real, View};
use crate::ops::outputs::Outputs;

/// Runs [`Args`] on one CPU thread.
pub fn cpu<T: Real>(a: &Args, m: &mut Arena<T>) {
    let mut out = Outputs::take(m, [Some(&a.z), a.pattern.as_ref()].into_iter().flatten());
    let (primal, s) = (&a.primal, &a.primal.shape);
    let (tiles, keys) = tiles(primal, m);
    let mut pattern = Pattern::<T>::new(primal, keys, false);
    for t in &tiles {
        for h in 0..s.heads {
            pattern.compute(primal, m, t, h);
            let z = t.of_queries(a.z.columns(h * s.d_v, s.d_v), 0, primal.queries());
            let [.., v] = t.operands(primal, m, h);
            let p = matrix(&pattern.p, t.queries.len(), t.keys.len());
            product(mat_mut(out.of(&z), &z), Accum::Replace, p, v, 1.0);
            if let Some(view) = &a.pattern {
                let row = s.heads * t.all.start + h * t.all.len() + t.queries.start - t.all.start;
                let rows = view.slice_rows(row, t.queries.len());
                copy(out.of(view), &rows, &pattern.p, t.keys.len(), t.keys.start - t.sequence.start);
            }
        }
    }
    out.put(m);
}

/// Copies a tile `[rows, keys]` into the columns from `start` on, with zeros around it.
fn copy<T: Real>(out: &mut [T], rows: &View, p: &[T], keys: usize, start: usize) {
    for (i, p) in p.chunks_exact(keys).take(rows.rows).enumerate() {
        let row = &mut out[rows.range(i)];
        row.fill(T::ZERO);
        row.iter_mut().skip(start).zip(p).for_each(|(row, p)| *row = *p);
    }
}
