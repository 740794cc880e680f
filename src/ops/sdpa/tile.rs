//! Tiles: queries of one sequence that follow each other, with the keys that any of them sees. The
//! pattern of a tile is computed here, for all three passes.

use std::ops::Range;

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

use super::{Primal, TILE};
use crate::device::{Arena, Real, View};
use crate::ops::packing::Sequence;
use crate::ops::rows;

/// At most [`TILE`] queries of a sequence and the keys that any of them sees.
pub(super) struct Tile {
    /// Counted over all sequences.
    pub queries: Range<usize>,
    /// Packed rows.
    pub keys: Range<usize>,
    /// Packed rows of the whole sequence.
    pub sequence: Range<usize>,
    /// Queries of the whole sequence.
    pub all: Range<usize>,
}

/// The tiles of all sequences in their order, and the most keys that one of them has.
pub(super) fn tiles<T: Real>(a: &Primal, m: &Arena<T>) -> (Vec<Tile>, usize) {
    let sequences = a.packing.sequences(m, a.queries);
    let tiles: Vec<Tile> = sequences.iter().flat_map(|s| s.queries.clone().step_by(TILE).map(|q| tile(a, m, s, q))).collect();
    let most = tiles.iter().map(|t| t.keys.len()).max().unwrap_or(0);
    (tiles, most)
}

fn tile<T: Real>(a: &Primal, m: &Arena<T>, s: &Sequence, from: usize) -> Tile {
    let queries = from..(from + TILE).min(s.queries.end);
    let (first, last) = (a.visible(m, &s.rows, queries.start), a.visible(m, &s.rows, queries.end - 1));
    Tile { queries, keys: first.start..last.end, sequence: s.rows.clone(), all: s.queries.clone() }
}

impl Primal {
    /// The packed rows of the keys that a query sees, but for those hidden from every query.
    fn visible<T: Real>(&self, m: &Arena<T>, sequence: &Range<usize>, query: usize) -> Range<usize> {
        let row = self.queries.map_or(query, |q| m.int(q)[query] as usize);
        let end = if self.shape.causal { row + 1 } else { sequence.end };
        let start = self.shape.window.map_or(sequence.start, |w| (row + 1).saturating_sub(w).max(sequence.start));
        start..end
    }
}

impl Tile {
    /// Rows of the queries `[tile, heads]` of a probe in a view of `R * m` rows.
    pub fn of_queries(&self, v: View, probe: usize, m: usize) -> View {
        v.slice_rows(probe * m + self.queries.start, self.queries.len())
    }
    /// Rows of the keys in a view of `R * n` rows.
    pub fn of_keys(&self, v: View, probe: usize, n: usize) -> View {
        v.slice_rows(probe * n + self.keys.start, self.keys.len())
    }
    /// Queries, keys and values that head `h` reads.
    pub fn operands<'m, T: Real>(&self, a: &Primal, m: &'m Arena<T>, h: usize) -> [MatRef<'m, T>; 3] {
        let (s, g) = (&a.shape, a.shape.group(h));
        [
            m.mat(&self.of_queries(a.q.head(h, s.d_head), 0, a.queries())),
            m.mat(&self.of_keys(a.k.head(g, s.d_head), 0, a.rows())),
            m.mat(&self.of_keys(a.v.head(g, s.d_v), 0, a.rows())),
        ]
    }
}

/// `dst = alpha lhs rhs`, or added to what `dst` holds.
pub(super) fn product<T: Real>(dst: MatMut<'_, T>, accum: Accum, lhs: MatRef<'_, T>, rhs: MatRef<'_, T>, alpha: f64) {
    matmul(dst, accum, lhs, rhs, T::of(alpha), Par::Seq);
}

/// The first `rows * cols` elements as a matrix.
pub(super) fn matrix<T>(data: &[T], rows: usize, cols: usize) -> MatRef<'_, T> {
    MatRef::from_row_major_slice(&data[..rows * cols], rows, cols)
}

/// The first `rows * cols` elements as a matrix.
pub(super) fn matrix_mut<T>(data: &mut [T], rows: usize, cols: usize) -> MatMut<'_, T> {
    MatMut::from_row_major_slice_mut(&mut data[..rows * cols], rows, cols)
}

/// Memory for the pattern of a tile, made once a call.
pub(super) struct Pattern<T> {
    /// `[queries, keys]` of the tile: `P`, 0 on keys that are not seen.
    pub p: Vec<T>,
    /// `[queries, keys]` of the tile: the derivative of the capped score, where it is asked for.
    pub slopes: Option<Vec<T>>,
}

impl<T: Real> Pattern<T> {
    /// For tiles of at most `keys` keys; with `slopes` where derivatives follow.
    pub fn new(a: &Primal, keys: usize, slopes: bool) -> Self {
        let zeros = || vec![T::ZERO; TILE * keys];
        Self { p: zeros(), slopes: (slopes && a.shape.softcap.is_some()).then(zeros) }
    }
    /// Computes the pattern of head `h`.
    pub fn compute(&mut self, a: &Primal, m: &Arena<T>, t: &Tile, h: usize) {
        let (s, keys) = (&a.shape, t.keys.len());
        let [q, k, _] = t.operands(a, m, h);
        product(matrix_mut(&mut self.p, t.queries.len(), keys), Accum::Replace, q, k.transpose(), s.scale);
        let hidden = a.packing.seen.map(|seen| &m.int(seen)[t.keys.clone()]);
        for (query, p) in t.queries.clone().zip(self.p.chunks_exact_mut(keys)) {
            let seen = a.visible(m, &t.sequence, query);
            let seen = seen.start - t.keys.start..seen.end - t.keys.start;
            p[..seen.start].fill(T::ZERO);
            p[seen.end..].fill(T::ZERO);
            if let Some(c) = s.softcap {
                rows::softcap(&mut p[seen.clone()], c);
            }
            if let Some(slopes) = &mut self.slopes {
                let c = T::of(1.0 / s.softcap.unwrap_or(f64::INFINITY));
                let row = (query - t.queries.start) * keys;
                rows::map(&p[seen.clone()], &mut slopes[row..][seen.clone()], |s| T::ONE - (s * c) * (s * c));
            }
            if let Some(hidden) = hidden {
                let hide = p[seen.clone()].iter_mut().zip(&hidden[seen.clone()]).filter(|(_, seen)| **seen == 0);
                hide.for_each(|(p, _)| *p = T::of(f64::NEG_INFINITY));
            }
            softmax(&mut p[seen]);
        }
    }
    /// Applies the Jacobian of softmax, which is symmetric, to every row of a tile `[queries, keys]`:
    /// `ds = p (ds - p . ds)`.
    pub fn apply_softmax(&self, t: &Tile, ds: &mut [T]) {
        let keys = t.keys.len();
        for (ds, p) in ds.chunks_exact_mut(keys).zip(self.p.chunks_exact(keys)).take(t.queries.len()) {
            let mean = rows::dot(p, ds);
            ds.iter_mut().zip(p).for_each(|(ds, &p)| *ds = p * (*ds - mean));
        }
    }
    /// Applies the Jacobian of the cap, which is diagonal, to a tile `[queries, keys]`.
    pub fn apply_cap(&self, t: &Tile, ds: &mut [T]) {
        if let Some(slopes) = &self.slopes {
            let ds = &mut ds[..t.queries.len() * t.keys.len()];
            ds.iter_mut().zip(slopes).for_each(|(ds, &slope)| *ds *= slope);
        }
    }
}

/// A softmax that is 0 where no key is seen.
fn softmax<T: Real>(p: &mut [T]) {
    if rows::max(p) == T::of(f64::NEG_INFINITY) {
        p.fill(T::ZERO);
    } else {
        rows::softmax(p);
    }
}
