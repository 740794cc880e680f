//! What the attention operations share: the description of a causal attention layer, the tiling of
//! its tokens, and the averaged pattern p and the value deviations omega of one tile.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

use crate::device::memory::mat_mut;
use crate::device::{Arena, Real, View};
use crate::error::{Error, Result};

/// Causal softmax attention `z_ht = sum_{s <= t} p_hts v_hs`, `p = softmax_s(scale * q_ht . k_hs)`,
/// averaged over the quadrature nodes `(w, alpha)` that scale q, k and v by `alpha` before
/// differentiating:
///
/// - `p_hts = sum_a w_a p^a_hts`, `p^a = softmax_s(alpha_a^2 scale q_ht . k_hs)`,
/// - `omega_hts = sum_a w_a alpha_a^2 p^a_hts (v_hs - z^a_ht)`, `z^a_ht = sum_s p^a_hts v_hs`.
///
/// With them `dz_ht/dv_hs = p_hts I`, `dz_ht/dk_hs = scale q_ht' omega_hts` and
/// `dz_ht/dq_ht = R_ht = scale sum_s k_hs' omega_hts`. Sums over t run over the query positions: all
/// of them, or the last of each sequence.
#[derive(Clone, Debug)]
pub struct Attention {
    /// Number of sequences.
    pub batch: usize,
    /// Positions per sequence; row `b * seq + s` of every view is position s of sequence b.
    pub seq: usize,
    pub heads: usize,
    /// Width of a head's queries and keys.
    pub d_head: usize,
    /// Width of a head's values.
    pub d_v: usize,
    /// Factor of the scores, usually `d_head^-1/2`.
    pub scale: f64,
    /// Only the last position of each sequence is a query.
    pub last_only: bool,
    /// Quadrature nodes `(w, alpha)`; the plain gradient is `[(1, 1)]`.
    pub nodes: Vec<(f64, f64)>,
    /// `[batch * seq, heads * d_head]`, head-major.
    pub q: View,
    /// `[batch * seq, heads * d_head]`, head-major.
    pub k: View,
    /// `[batch * seq, heads * d_v]`, head-major.
    pub v: View,
}

/// A piece of work: some whole sequences, or a range of the queries of one sequence.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tile {
    pub sequence: usize,
    pub sequences: usize,
    /// Position of the first query in its sequence.
    pub start: usize,
    /// Queries of each sequence.
    pub queries: usize,
    /// Keys of each sequence that some query sees; all of them if there are several sequences.
    pub keys: usize,
}

impl Tile {
    /// Queries of all sequences.
    pub fn query_rows(&self) -> usize {
        self.sequences * self.queries
    }
    /// Keys of all sequences.
    pub fn key_rows(&self) -> usize {
        self.sequences * self.keys
    }
}

/// Elements of the largest scratch block of a tile: about the size of a core's outer cache.
pub(super) const TILE_ELEMENTS: usize = 1 << 19;
/// Fewest queries of one sequence in a tile, so that matrix products keep a useful width.
const TILE_QUERIES: usize = 8;

impl Attention {
    /// Refuses empty dimensions and views that do not have the shapes documented on the fields.
    pub fn check(&self, op: &'static str) -> Result<()> {
        for (name, n) in
            [("batch", self.batch), ("seq", self.seq), ("heads", self.heads), ("d_head", self.d_head), ("d_v", self.d_v)]
        {
            if n == 0 {
                return Err(Error::shape(op, format!("{name} = 0"), "at least 1"));
            }
        }
        if self.nodes.is_empty() {
            return Err(Error::shape(op, "no quadrature node", "at least one"));
        }
        let rows = self.batch * self.seq;
        view_shape(op, "q", &self.q, rows, self.heads * self.d_head)?;
        view_shape(op, "k", &self.k, rows, self.heads * self.d_head)?;
        view_shape(op, "v", &self.v, rows, self.heads * self.d_v)
    }
    /// The scale in the element type.
    pub(super) fn lambda<T: Real>(&self) -> T {
        T::of(self.scale)
    }
    /// Pieces that cover every query once, with scratch blocks of at most `elements` where that allows
    /// tiles of one sequence and [`TILE_QUERIES`].
    pub(super) fn tiles(&self, elements: usize) -> Vec<Tile> {
        self.cut(elements / (self.heads * self.d_v * self.seq.max(self.d_head)), TILE_QUERIES)
    }
    /// Pieces that cover every query once: of `fit` queries where that is a sequence or more, and else, unless
    /// sequences have no more than `least` queries, of as many but at least `least` queries of one sequence.
    pub(super) fn cut(&self, fit: usize, least: usize) -> Vec<Tile> {
        let (first, queries) = if self.last_only { (self.seq - 1, 1) } else { (0, self.seq) };
        if fit >= queries || queries <= least {
            let step = (fit / queries).clamp(1, self.batch);
            let tile =
                |b: usize| Tile { sequence: b, sequences: step.min(self.batch - b), start: first, queries, keys: self.seq };
            return (0..self.batch).step_by(step).map(tile).collect();
        }
        let step = fit.max(least);
        let tile = |b: usize, start: usize| {
            let queries = step.min(self.seq - start);
            Tile { sequence: b, sequences: 1, start, queries, keys: start + queries }
        };
        (0..self.batch).flat_map(|b| (0..self.seq).step_by(step).map(move |t| tile(b, t))).collect()
    }
    /// The rows of the tile's queries, in the order (sequence, query).
    pub(super) fn queries(&self, v: View, t: &Tile) -> View {
        if t.queries == 1 {
            v.slice_rows(t.sequence * self.seq, t.sequences * self.seq).every(t.start, self.seq)
        } else {
            v.slice_rows(t.sequence * self.seq + t.start, t.query_rows())
        }
    }
    /// The rows of the tile's keys, in the order (sequence, key).
    pub(super) fn keys(&self, v: View, t: &Tile) -> View {
        v.slice_rows(t.sequence * self.seq, t.key_rows())
    }
}

/// Scratch for the largest of the tiles, each of which needs `size` elements.
pub(super) fn scratch<T: Real>(tiles: &[Tile], size: impl Fn(&Tile) -> usize) -> Vec<T> {
    vec![T::ZERO; tiles.iter().map(size).max().unwrap_or(0)]
}

/// p and omega of all heads of one tile, and its centred keys. Sized for the largest tile, reused for all.
pub(super) struct Pattern<T> {
    /// Queries, `[(sequence, query), heads * d_head]`.
    q: Vec<T>,
    /// Keys less their mean over the sequence, `[(sequence, key), heads * d_head]`. Scores change by a
    /// constant of the query, and sums over s against omega not at all, since `sum_s omega_hts = 0`; but
    /// large offsets no longer cost digits.
    k: Vec<T>,
    /// Values less their mean over the sequence, `[(sequence, key), heads * d_v]`.
    v: Vec<T>,
    p: Vec<T>,
    omega: Vec<T>,
    scores: Vec<T>,
    weights: Vec<T>,
    z: Vec<T>,
}

impl<T: Real> Pattern<T> {
    pub fn new(a: &Attention, tiles: &[Tile]) -> Self {
        Self {
            q: scratch(tiles, |t| t.query_rows() * a.heads * a.d_head),
            k: scratch(tiles, |t| t.key_rows() * a.heads * a.d_head),
            v: scratch(tiles, |t| t.key_rows() * a.heads * a.d_v),
            p: scratch(tiles, |t| a.heads * t.query_rows() * t.keys),
            omega: scratch(tiles, |t| a.heads * t.query_rows() * t.keys * a.d_v),
            scores: scratch(tiles, |t| t.queries * t.keys),
            weights: scratch(tiles, |t| t.keys),
            z: vec![T::ZERO; a.d_v],
        }
    }
    /// p of all heads, `[heads, (sequence, query, key)]`.
    pub fn all_p(&self, a: &Attention, t: &Tile) -> MatRef<'_, T> {
        rows(&self.p, a.heads, t.query_rows() * t.keys)
    }
    /// p of head `h`, `[sequence, query, key]`; 0 where the key is masked.
    pub fn p(&self, t: &Tile, h: usize) -> &[T] {
        let n = t.query_rows() * t.keys;
        &self.p[h * n..][..n]
    }
    /// omega of head `h`, `[sequence, key, query, d_v]`; 0 where the key is masked.
    pub fn omega(&self, a: &Attention, t: &Tile, h: usize) -> &[T] {
        let n = t.query_rows() * t.keys * a.d_v;
        &self.omega[h * n..][..n]
    }
    /// Queries of head `h`, `[(sequence, query), d_head]`.
    pub fn queries(&self, a: &Attention, t: &Tile, h: usize) -> MatRef<'_, T> {
        rows(&self.q, t.query_rows(), a.heads * a.d_head).subcols(h * a.d_head, a.d_head)
    }
    /// Query `i` of head `h`.
    pub fn query(&self, a: &Attention, h: usize, i: usize) -> &[T] {
        &self.q[(i * a.heads + h) * a.d_head..][..a.d_head]
    }
    /// Centred value `s` of head `h`.
    pub fn value(&self, a: &Attention, h: usize, s: usize) -> &[T] {
        &self.v[(s * a.heads + h) * a.d_v..][..a.d_v]
    }
    /// Centred keys of head `h`, `[(sequence, key), d_head]`.
    pub fn keys(&self, a: &Attention, t: &Tile, h: usize) -> MatRef<'_, T> {
        rows(&self.k, t.key_rows(), a.heads * a.d_head).subcols(h * a.d_head, a.d_head)
    }
    /// Centred values of head `h`, `[(sequence, key), d_v]`.
    pub fn values(&self, a: &Attention, t: &Tile, h: usize) -> MatRef<'_, T> {
        rows(&self.v, t.key_rows(), a.heads * a.d_v).subcols(h * a.d_v, a.d_v)
    }
    /// Computes the tile.
    pub fn compute(&mut self, a: &Attention, m: &Arena<T>, t: &Tile) {
        let q = a.queries(a.q, t);
        for (i, row) in self.q[..q.rows * q.cols].chunks_exact_mut(q.cols).enumerate() {
            row.copy_from_slice(m.row(&q, i));
        }
        centre(m, &a.keys(a.k, t), t.keys, &mut self.k);
        centre(m, &a.keys(a.v, t), t.keys, &mut self.v);
        for h in 0..a.heads {
            for b in 0..t.sequences {
                self.sequence(a, t, h, b);
            }
        }
    }
    fn sequence(&mut self, a: &Attention, t: &Tile, h: usize, b: usize) {
        let (n, keys, dv) = (t.queries, t.keys, a.d_v);
        let q = rows(&self.q, t.query_rows(), a.heads * a.d_head).submatrix(b * n, h * a.d_head, n, a.d_head);
        let k = rows(&self.k, t.key_rows(), a.heads * a.d_head).submatrix(b * keys, h * a.d_head, keys, a.d_head);
        gemm(rows_mut(&mut self.scores, n, keys), Accum::Replace, q, k.transpose(), a.lambda());
        let value = |s: usize| &self.v[((b * keys + s) * a.heads + h) * dv..][..dv];
        let at = h * t.sequences + b;
        let p = &mut self.p[at * n * keys..][..n * keys];
        let omega = &mut self.omega[at * n * keys * dv..][..n * keys * dv];
        p.fill(T::ZERO);
        omega.fill(T::ZERO);
        for (i, scores) in self.scores[..n * keys].chunks_exact(keys).enumerate() {
            let seen = t.start + i + 1;
            for &(w, alpha) in &a.nodes {
                let weights = &mut self.weights[..seen];
                softmax(&scores[..seen], T::of(alpha * alpha), weights);
                self.z.fill(T::ZERO);
                for (s, &x) in weights.iter().enumerate() {
                    add_scaled(&mut self.z, x, value(s));
                }
                let (w, g) = (T::of(w), T::of(w * alpha * alpha));
                for (s, &x) in weights.iter().enumerate() {
                    p[i * keys + s] += w * x;
                    let row = &mut omega[(s * n + i) * dv..][..dv];
                    for ((o, &v), &z) in row.iter_mut().zip(value(s)).zip(&self.z) {
                        *o += g * x * (v - z);
                    }
                }
            }
        }
    }
}

/// Copies a view, less each sequence's mean row.
fn centre<T: Real>(m: &Arena<T>, v: &View, keys: usize, out: &mut [T]) {
    let inverse = T::ONE / T::of(keys as f64);
    for (b, block) in out[..v.rows * v.cols].chunks_exact_mut(keys * v.cols).enumerate() {
        let mut mean = vec![T::ZERO; v.cols];
        for s in 0..keys {
            add_scaled(&mut mean, inverse, m.row(v, b * keys + s));
        }
        for (s, row) in block.chunks_exact_mut(v.cols).enumerate() {
            for ((o, &x), &y) in row.iter_mut().zip(m.row(v, b * keys + s)).zip(&mean) {
                *o = x - y;
            }
        }
    }
}

/// `out = softmax(factor * scores)`.
fn softmax<T: Real>(scores: &[T], factor: T, out: &mut [T]) {
    let top = scores.iter().fold(factor * scores[0], |x, &y| Real::max(x, factor * y));
    let mut sum = T::ZERO;
    for (o, &x) in out.iter_mut().zip(scores) {
        *o = Real::exp(factor * x - top);
        sum += *o;
    }
    for o in out {
        *o /= sum;
    }
}

/// `x . y`, summed in eight lanes so that it vectorises.
pub(super) fn dot<T: Real>(x: &[T], y: &[T]) -> T {
    let mut lanes = [T::ZERO; 8];
    let (mut xs, mut ys) = (x.chunks_exact(8), y.chunks_exact(8));
    for (x, y) in xs.by_ref().zip(ys.by_ref()) {
        for i in 0..8 {
            lanes[i] += x[i] * y[i];
        }
    }
    let tail: T = xs.remainder().iter().zip(ys.remainder()).map(|(&x, &y)| x * y).sum();
    tail + lanes.into_iter().sum::<T>()
}

/// `y += c x`.
pub(super) fn add_scaled<T: Real>(y: &mut [T], c: T, x: &[T]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y += c * x;
    }
}

/// A sequential matrix product, `dst (+)= c * left * right`.
pub(super) fn gemm<T: Real>(dst: MatMut<'_, T>, accum: Accum, left: MatRef<'_, T>, right: MatRef<'_, T>, c: T) {
    matmul(dst, accum, left, right, c, Par::Seq);
}

/// The first `n * cols` elements as a row-major matrix.
pub(super) fn rows<T>(data: &[T], n: usize, cols: usize) -> MatRef<'_, T> {
    MatRef::from_row_major_slice(&data[..n * cols], n, cols)
}

/// The first `n * cols` elements as a row-major matrix.
pub(super) fn rows_mut<T>(data: &mut [T], n: usize, cols: usize) -> MatMut<'_, T> {
    MatMut::from_row_major_slice_mut(&mut data[..n * cols], n, cols)
}

/// The part of a view that starts at (row, column) and has the given shape.
pub(super) fn part(v: &View, (row, column): (usize, usize), (height, width): (usize, usize)) -> View {
    v.slice_rows(row, height).columns(column, width)
}

/// `view += c * left * right`.
pub(super) fn accumulate<T: Real>(m: &mut Arena<T>, view: &View, left: MatRef<'_, T>, right: MatRef<'_, T>, c: T) {
    gemm(mat_mut(m.real_mut(view.buffer), view), Accum::Add, left, right, c);
}

/// Refuses a view that is not `[rows, cols]`.
pub(super) fn view_shape(op: &'static str, name: &str, v: &View, rows: usize, cols: usize) -> Result<()> {
    expect(op, name, (v.rows, v.cols), (rows, cols))
}

/// Refuses a matrix called `name` whose shape is not the expected one.
pub(super) fn expect(op: &'static str, name: &str, found: (usize, usize), expected: (usize, usize)) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    let text = |(r, c): (usize, usize)| format!("{name} of shape [{r}, {c}]");
    Err(Error::shape(op, text(found), text(expected)))
}
