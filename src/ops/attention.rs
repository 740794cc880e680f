//! Multi-head attention of whole sequences, with tangents and cotangents.
//!
//! For one sequence and head, with queries `q [sq, d_head]`, keys `k [seq, d_head]` and values
//! `v [seq, d_v]`: `S = scale q k'`, `P = softmax(S)` row by row over the keys a query sees, and
//! `z = P v` (Vaswani et al. 2017).
//!
//! Row `b * seq + t` of `q`, `k` and `v` is position `t` of sequence `b`, and head `h` owns the
//! columns `h * d_head ..` (`h * d_v ..`). Row `b * sq + t` of `z` is query `t` of sequence `b`, and
//! row `(b * heads + h) * sq + t` of `p` is its pattern in head `h`.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

use super::{check, outputs::Outputs, rows};
use crate::device::memory::{mat, mat_mut};
use crate::device::{Arena, Real, View};
use crate::error::{Error, Result};

/// The sizes of an attention layer on a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// Sequences.
    pub batch: usize,
    /// Positions of a sequence.
    pub seq: usize,
    pub heads: usize,
    /// Width of a head's queries and keys.
    pub d_head: usize,
    /// Width of a head's values.
    pub d_v: usize,
    /// Factor of the scores, commonly `1 / sqrt(d_head)`.
    pub scale: f64,
    /// Only the last position of each sequence asks; of `q` only those rows are read.
    pub last_only: bool,
    /// A query sees its own position and those before it, instead of the whole sequence.
    pub causal: bool,
}

impl Shape {
    /// Queries of a sequence: `sq`.
    pub fn queries(&self) -> usize {
        if self.last_only { 1 } else { self.seq }
    }
    /// The number of keys that query `t` of `0..sq` sees; they are the first ones.
    fn visible(&self, t: usize) -> usize {
        if self.causal { self.seq - self.queries() + t + 1 } else { self.seq }
    }
    /// Rows of queries, keys and values of one probe.
    fn positions(&self) -> usize {
        self.batch * self.seq
    }
    /// Rows of `z` of one probe.
    fn results(&self) -> usize {
        self.batch * self.queries()
    }
    /// Every (probe, sequence, head).
    fn blocks(&self, probes: usize) -> impl Iterator<Item = Block> + use<> {
        let s = *self;
        (0..probes * s.batch).flat_map(move |sequence| (0..s.heads).map(move |head| Block { sequence, head, s }))
    }
    /// Checks the primal operands of `op`.
    fn check(&self, op: &'static str, q: &View, k: &View, v: &View, p: &View) -> Result<()> {
        if [self.seq, self.heads, self.d_head, self.d_v].contains(&0) {
            return Err(Error::shape(op, format!("{self:?}"), "seq, heads, d_head and d_v of at least 1"));
        }
        check::view(op, "q", q, self.positions(), self.heads * self.d_head)?;
        check::view(op, "k", k, self.positions(), self.heads * self.d_head)?;
        check::view(op, "v", v, self.positions(), self.heads * self.d_v)?;
        check::view(op, "p", p, self.batch * self.heads * self.queries(), self.seq)
    }
    /// Checks the tangents or cotangents of `op`.
    fn check_probes(&self, op: &'static str, dq: &View, dk: &View, dv: &View, dz: &View) -> Result<()> {
        let probes = check::probes(op, "dz", dz, self.results(), self.heads * self.d_v)?;
        check::view(op, "dq", dq, probes * self.positions(), self.heads * self.d_head)?;
        check::view(op, "dk", dk, probes * self.positions(), self.heads * self.d_head)?;
        check::view(op, "dv", dv, probes * self.positions(), self.heads * self.d_v)
    }
    /// Probes stacked in `dz`.
    fn probes(&self, dz: &View) -> usize {
        dz.rows / self.results().max(1)
    }
}

/// One head of one sequence. Sequences of probes are counted on: probe `r` of sequence `b` is
/// `r * batch + b`.
struct Block {
    sequence: usize,
    head: usize,
    s: Shape,
}

impl Block {
    /// The same head of the sequence that a probe belongs to.
    fn primal(&self) -> Block {
        Block { sequence: self.sequence % self.s.batch, ..*self }
    }
    /// The block's rows of queries `[sq, d_head]`.
    fn queries(&self, q: &View) -> View {
        let sq = self.s.queries();
        q.slice_rows((self.sequence + 1) * self.s.seq - sq, sq).columns(self.head * self.s.d_head, self.s.d_head)
    }
    /// The block's rows of keys or values `[seq, width]`.
    fn keys(&self, k: &View, width: usize) -> View {
        k.slice_rows(self.sequence * self.s.seq, self.s.seq).columns(self.head * width, width)
    }
    /// The block's rows of results `[sq, d_v]`.
    fn results(&self, z: &View) -> View {
        z.slice_rows(self.sequence * self.s.queries(), self.s.queries()).columns(self.head * self.s.d_v, self.s.d_v)
    }
    /// The block's pattern `[sq, seq]`.
    fn pattern(&self, p: &View) -> View {
        p.slice_rows((self.sequence * self.s.heads + self.head) * self.s.queries(), self.s.queries())
    }
}

/// `dst = alpha lhs rhs`, or added to what `dst` holds.
fn product<T: Real>(dst: MatMut<'_, T>, accum: Accum, lhs: MatRef<'_, T>, rhs: MatRef<'_, T>, alpha: f64) {
    matmul(dst, accum, lhs, rhs, T::of(alpha), Par::Seq);
}

/// Applies the Jacobian of softmax, which is symmetric, to every row of `ds [sq, seq]`:
/// `ds = p (ds - p . ds)` on the keys that are seen, 0 on the others.
fn softmax_jacobian<T: Real>(shape: &Shape, m: &Arena<T>, pattern: &View, ds: &mut [T]) {
    for (t, ds) in ds.chunks_exact_mut(shape.seq).enumerate() {
        let (seen, hidden) = ds.split_at_mut(shape.visible(t));
        let p = &m.row(pattern, t)[..seen.len()];
        let mean = rows::dot(p, seen);
        seen.iter_mut().zip(p).for_each(|(ds, &p)| *ds = p * (*ds - mean));
        hidden.fill(T::ZERO);
    }
}

/// Writes `p` and `z` from `q`, `k`, `v`.
#[derive(Clone, Debug)]
pub struct Args {
    pub shape: Shape,
    /// `[batch * seq, heads * d_head]`.
    pub q: View,
    /// `[batch * seq, heads * d_head]`.
    pub k: View,
    /// `[batch * seq, heads * d_v]`.
    pub v: View,
    /// Output `[batch * heads * sq, seq]`: the attention pattern, 0 on keys that are not seen.
    pub p: View,
    /// Output `[batch * sq, heads * d_v]`.
    pub z: View,
}

impl Args {
    /// Whether the shapes agree and the outputs have buffers of their own.
    pub fn check(&self) -> Result<()> {
        let op = "attention";
        self.shape.check(op, &self.q, &self.k, &self.v, &self.p)?;
        check::view(op, "z", &self.z, self.shape.results(), self.shape.heads * self.shape.d_v)?;
        check::apart(op, &[&self.p], &[&self.q, &self.k, &self.v])?;
        check::apart(op, &[&self.z], &[&self.q, &self.k, &self.v, &self.p])
    }
}

/// Runs [`Args`].
pub fn cpu<T: Real>(a: &Args, m: &mut Arena<T>) {
    let (mut p, mut z) = (m.take(a.p.buffer), m.take(a.z.buffer));
    for block in a.shape.blocks(1) {
        let pattern = block.pattern(&a.p);
        let (q, k) = (m.mat(&block.queries(&a.q)), m.mat(&block.keys(&a.k, a.shape.d_head)));
        product(mat_mut(&mut p, &pattern), Accum::Replace, q, k.transpose(), a.shape.scale);
        for t in 0..pattern.rows {
            let (seen, hidden) = p[pattern.range(t)].split_at_mut(a.shape.visible(t));
            rows::softmax(seen);
            hidden.fill(T::ZERO);
        }
        let v = m.mat(&block.keys(&a.v, a.shape.d_v));
        product(mat_mut(&mut z, &block.results(&a.z)), Accum::Replace, mat(&p, &pattern), v, 1.0);
    }
    m.put(a.p.buffer, p);
    m.put(a.z.buffer, z);
}

/// Tangent of [`Args`]: `dS = scale (dq k' + q dk')`, `dP = P (dS - rowsum(P dS))` element by element,
/// `dz = dP v + P dv`.
#[derive(Clone, Debug)]
pub struct Tangent {
    pub shape: Shape,
    /// `[batch * seq, heads * d_head]`.
    pub q: View,
    /// `[batch * seq, heads * d_head]`.
    pub k: View,
    /// `[batch * seq, heads * d_v]`.
    pub v: View,
    /// The pattern `[batch * heads * sq, seq]` that [`Args`] wrote.
    pub p: View,
    /// `[R * batch * seq, heads * d_head]`.
    pub dq: View,
    /// `[R * batch * seq, heads * d_head]`.
    pub dk: View,
    /// `[R * batch * seq, heads * d_v]`.
    pub dv: View,
    /// Output `[R * batch * sq, heads * d_v]`.
    pub dz: View,
}

impl Tangent {
    /// Whether the shapes agree and the output has a buffer of its own.
    pub fn check(&self) -> Result<()> {
        let op = "attention tangent";
        self.shape.check(op, &self.q, &self.k, &self.v, &self.p)?;
        self.shape.check_probes(op, &self.dq, &self.dk, &self.dv, &self.dz)?;
        check::apart(op, &[&self.dz], &[&self.q, &self.k, &self.v, &self.p, &self.dq, &self.dk, &self.dv])
    }
}

/// Runs [`Tangent`].
pub fn cpu_tangent<T: Real>(a: &Tangent, m: &mut Arena<T>) {
    let s = &a.shape;
    let mut out = Outputs::take(m, [&a.dz]);
    let mut ds = vec![T::ZERO; s.queries() * s.seq];
    for block in s.blocks(s.probes(&a.dz)) {
        let primal = block.primal();
        let (q, dq) = (m.mat(&primal.queries(&a.q)), m.mat(&block.queries(&a.dq)));
        let (k, dk) = (m.mat(&primal.keys(&a.k, s.d_head)), m.mat(&block.keys(&a.dk, s.d_head)));
        let (v, dv) = (m.mat(&primal.keys(&a.v, s.d_v)), m.mat(&block.keys(&a.dv, s.d_v)));
        let pattern = primal.pattern(&a.p);
        let mut scores = MatMut::from_row_major_slice_mut(&mut ds, s.queries(), s.seq);
        product(scores.as_mut(), Accum::Replace, dq, k.transpose(), s.scale);
        product(scores, Accum::Add, q, dk.transpose(), s.scale);
        softmax_jacobian(s, m, &pattern, &mut ds);
        let dp = MatRef::from_row_major_slice(&ds, s.queries(), s.seq);
        let results = block.results(&a.dz);
        product(mat_mut(out.of(&a.dz), &results), Accum::Replace, dp, v, 1.0);
        product(mat_mut(out.of(&a.dz), &results), Accum::Add, m.mat(&pattern), dv, 1.0);
    }
    out.put(m);
}

/// Cotangent of [`Args`]: `dP = dz v'`, `dS = P (dP - rowsum(P dP))` element by element, `dq = scale dS k`,
/// `dk = scale dS' q`, `dv = P' dz`.
#[derive(Clone, Debug)]
pub struct Cotangent {
    pub shape: Shape,
    /// `[batch * seq, heads * d_head]`.
    pub q: View,
    /// `[batch * seq, heads * d_head]`.
    pub k: View,
    /// `[batch * seq, heads * d_v]`.
    pub v: View,
    /// The pattern `[batch * heads * sq, seq]` that [`Args`] wrote.
    pub p: View,
    /// `[R * batch * sq, heads * d_v]`.
    pub dz: View,
    /// Output `[R * batch * seq, heads * d_head]`; 0 at positions that do not ask.
    pub dq: View,
    /// Output `[R * batch * seq, heads * d_head]`.
    pub dk: View,
    /// Output `[R * batch * seq, heads * d_v]`. The outputs may share a buffer.
    pub dv: View,
}

impl Cotangent {
    /// Whether the shapes agree and the outputs have buffers of their own.
    pub fn check(&self) -> Result<()> {
        let op = "attention cotangent";
        self.shape.check(op, &self.q, &self.k, &self.v, &self.p)?;
        self.shape.check_probes(op, &self.dq, &self.dk, &self.dv, &self.dz)?;
        check::apart(op, &[&self.dq, &self.dk, &self.dv], &[&self.q, &self.k, &self.v, &self.p, &self.dz])
    }
}

/// Runs [`Cotangent`].
pub fn cpu_cotangent<T: Real>(a: &Cotangent, m: &mut Arena<T>) {
    let s = &a.shape;
    let mut out = Outputs::take(m, [&a.dq, &a.dk, &a.dv]);
    let mut ds = vec![T::ZERO; s.queries() * s.seq];
    for block in s.blocks(s.probes(&a.dz)) {
        let primal = block.primal();
        let (q, dz) = (m.mat(&primal.queries(&a.q)), m.mat(&block.results(&a.dz)));
        let (k, v) = (m.mat(&primal.keys(&a.k, s.d_head)), m.mat(&primal.keys(&a.v, s.d_v)));
        let pattern = primal.pattern(&a.p);
        let values = block.keys(&a.dv, s.d_v);
        product(mat_mut(out.of(&a.dv), &values), Accum::Replace, m.mat(&pattern).transpose(), dz, 1.0);
        let scores = MatMut::from_row_major_slice_mut(&mut ds, s.queries(), s.seq);
        product(scores, Accum::Replace, dz, v.transpose(), 1.0);
        softmax_jacobian(s, m, &pattern, &mut ds);
        let ds = MatRef::from_row_major_slice(&ds, s.queries(), s.seq);
        let keys = block.keys(&a.dk, s.d_head);
        product(mat_mut(out.of(&a.dk), &keys), Accum::Replace, ds.transpose(), q, s.scale);
        product(mat_mut(out.of(&a.dq), &block.queries(&a.dq)), Accum::Replace, ds, k, s.scale);
        let positions = block.keys(&a.dq, s.d_head);
        for t in 0..s.seq - s.queries() {
            out.row(&positions, t).fill(T::ZERO);
        }
    }
    out.put(m);
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Fixture, assert_adjoint, assert_close, central, numbers, part, read};
    use super::*;

    const PROBES: usize = 3;

    /// Ragged sizes: every combination of causal and last_only, a single position, a length that no
    /// vector width divides.
    fn shapes() -> Vec<Shape> {
        let sizes = [(1, 1, 1, 1, 1), (2, 5, 3, 4, 7), (1, 37, 2, 8, 3), (3, 17, 1, 5, 5)];
        let mut all = Vec::new();
        for (batch, seq, heads, d_head, d_v) in sizes {
            for (causal, last_only) in [(true, false), (true, true), (false, false), (false, true)] {
                all.push(Shape { batch, seq, heads, d_head, d_v, scale: 0.6, last_only, causal });
            }
        }
        all
    }

    /// Widths of a row (q, k, v).
    fn widths(s: &Shape) -> (usize, usize, usize) {
        let (q, v) = (s.heads * s.d_head, s.heads * s.d_v);
        (q, v, 2 * q + v)
    }

    fn columns(s: &Shape, rows: &View) -> (View, View, View) {
        let (q, v, _) = widths(s);
        (rows.columns(0, q), rows.columns(q, q), rows.columns(2 * q, v))
    }

    /// `(p, z)` by the definition, from rows (q, k, v).
    fn reference(s: &Shape, x: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let (wq, wv, width) = widths(s);
        let sq = if s.last_only { 1 } else { s.seq };
        let (mut p, mut z) = (vec![0.0; s.batch * s.heads * sq * s.seq], vec![0.0; s.batch * sq * wv]);
        for b in 0..s.batch {
            for h in 0..s.heads {
                for i in 0..sq {
                    let t = if s.last_only { s.seq - 1 } else { i };
                    let keys = if s.causal { t + 1 } else { s.seq };
                    let at = |t: usize, column: usize| x[(b * s.seq + t) * width + column];
                    let score = |u: usize| {
                        let dot: f64 = (h * s.d_head..(h + 1) * s.d_head).map(|j| at(t, j) * at(u, wq + j)).sum();
                        (s.scale * dot).exp()
                    };
                    let total: f64 = (0..keys).map(score).sum();
                    for u in 0..keys {
                        let weight = score(u) / total;
                        p[((b * s.heads + h) * sq + i) * s.seq + u] = weight;
                        for j in h * s.d_v..(h + 1) * s.d_v {
                            z[(b * sq + i) * wv + j] += weight * at(u, 2 * wq + j);
                        }
                    }
                }
            }
        }
        (p, z)
    }

    /// Rows (q, k, v) of all sequences.
    fn inputs(s: &Shape, probes: usize, seed: u64) -> Vec<f64> {
        numbers(probes * s.positions() * widths(s).2, seed)
    }

    fn primal(f: &mut Fixture, s: &Shape, x: &[f64]) -> Args {
        let input = f.input(s.positions(), widths(s).2, x);
        let (q, k, v) = columns(s, &input);
        let p = f.output(s.batch * s.heads * s.queries(), s.seq);
        Args { shape: *s, q, k, v, p, z: f.output(s.results(), s.heads * s.d_v) }
    }

    fn values<T: Real>(s: &Shape, bound: f64) {
        let mut x = inputs(s, 1, 1);
        let (p, z) = reference(s, &x);
        if s.last_only {
            // Queries that do not ask are not read.
            let (wq, _, width) = widths(s);
            for (i, row) in x.chunks_mut(width).enumerate() {
                if i % s.seq != s.seq - 1 {
                    row[..wq].fill(f64::NAN);
                }
            }
        }
        let mut f = Fixture::default();
        let a = primal(&mut f, s, &x);
        a.check().unwrap();
        let mut m = f.arena::<T>();
        cpu(&a, &mut m);
        let got = read(&m, &a.p);
        assert_close(&got, &p, bound);
        assert!(got.iter().zip(&p).all(|(got, want)| (*got == 0.0) == (*want == 0.0)), "hidden keys of {s:?}");
        assert_close(&read(&m, &a.z), &z, bound);
    }

    #[test]
    fn values_agree_with_the_definition() {
        for s in shapes() {
            values::<f64>(&s, 1e-14);
            values::<f32>(&s, 2e-6);
        }
    }

    #[test]
    fn large_scores_do_not_overflow() {
        let s = Shape { batch: 1, seq: 2, heads: 1, d_head: 1, d_v: 1, scale: 1e3, last_only: false, causal: true };
        let mut f = Fixture::default();
        let a = primal(&mut f, &s, &[1.0, 1.0, 2.0, 1.0, 3.0, 5.0]);
        let mut m = f.arena::<f32>();
        cpu(&a, &mut m);
        assert_eq!(read(&m, &a.p), [1.0, 0.0, 0.0, 1.0]);
        assert_eq!(read(&m, &a.z), [2.0, 5.0]);
    }

    #[test]
    fn tangents_agree_with_differences_and_cotangents_are_adjoint() {
        for s in shapes() {
            let (x, dx) = (inputs(&s, 1, 1), inputs(&s, PROBES, 2));
            let w = numbers(PROBES * s.results() * s.heads * s.d_v, 3);
            let mut f = Fixture::default();
            let a = primal(&mut f, &s, &x);
            let (rows, width) = (PROBES * s.positions(), widths(&s).2);
            let (tangents, cotangents) = (f.input(rows, width, &dx), f.output(rows, width));
            let (dq, dk, dv) = columns(&s, &tangents);
            let dz = f.output(PROBES * s.results(), a.z.cols);
            let t = Tangent { shape: s, q: a.q, k: a.k, v: a.v, p: a.p, dq, dk, dv, dz };
            let (dq, dk, dv) = columns(&s, &cotangents);
            let dz = f.input(PROBES * s.results(), a.z.cols, &w);
            let c = Cotangent { shape: s, q: a.q, k: a.k, v: a.v, p: a.p, dz, dq, dk, dv };
            t.check().unwrap();
            c.check().unwrap();
            let mut m = f.arena::<f64>();
            cpu(&a, &mut m);
            cpu_tangent(&t, &mut m);
            cpu_cotangent(&c, &mut m);
            let (jv, jw) = (read(&m, &t.dz), read(&m, &cotangents));
            for (jv, dx) in jv.chunks(jv.len() / PROBES).zip(dx.chunks(x.len())) {
                assert_close(jv, &central(|x| reference(&s, x).1, &x, dx), 1e-6);
            }
            assert_adjoint(&jv, &w, &dx, &jw);
            let silent = |i: usize| s.last_only && i % s.seq != s.seq - 1;
            let rows = part(&m, &c.dq);
            assert!(rows.chunks(c.dq.cols).enumerate().all(|(i, row)| !silent(i) || row.iter().all(|&x| x == 0.0)));
        }
    }

    #[test]
    fn derivatives_in_single_precision() {
        let s = shapes()[4];
        let (x, dx) = (inputs(&s, 1, 1), inputs(&s, PROBES, 2));
        let run = |single: bool| {
            let mut f = Fixture::default();
            let a = primal(&mut f, &s, &x);
            let (rows, width) = (PROBES * s.positions(), widths(&s).2);
            let (input, output) = (f.input(rows, width, &dx), f.output(rows, width));
            let (dq, dk, dv) = columns(&s, &input);
            let dz = f.output(PROBES * s.results(), a.z.cols);
            let t = Tangent { shape: s, q: a.q, k: a.k, v: a.v, p: a.p, dq, dk, dv, dz };
            let (dq, dk, dv) = columns(&s, &output);
            let c = Cotangent { shape: s, q: a.q, k: a.k, v: a.v, p: a.p, dz, dq, dk, dv };
            fn both<T: Real>(f: &Fixture, a: &Args, t: &Tangent, c: &Cotangent, output: &View) -> Vec<f64> {
                let mut m = f.arena::<T>();
                cpu(a, &mut m);
                cpu_tangent(t, &mut m);
                cpu_cotangent(c, &mut m);
                [read(&m, &t.dz), read(&m, output)].concat()
            }
            if single { both::<f32>(&f, &a, &t, &c, &output) } else { both::<f64>(&f, &a, &t, &c, &output) }
        };
        assert_close(&run(true), &run(false), 3e-6);
    }

    #[test]
    fn wrong_shapes_are_refused() {
        let s = Shape { batch: 2, seq: 3, heads: 2, d_head: 4, d_v: 5, scale: 0.5, last_only: false, causal: true };
        let mut f = Fixture::default();
        let good = primal(&mut f, &s, &inputs(&s, 1, 1));
        assert!(good.check().is_ok());
        let error = Args { shape: Shape { last_only: true, ..s }, ..good.clone() }.check().unwrap_err();
        assert_eq!(error.to_string(), "operation attention: found p [12, 3]; expected p [4, 3]");
        assert!(Args { shape: Shape { seq: 0, ..s }, ..good.clone() }.check().is_err());
        assert!(Args { z: good.v, ..good.clone() }.check().is_err());
        assert!(Args { k: good.v, ..good.clone() }.check().is_err());
        let Args { q, k, v, p, z, .. } = good;
        let (dq, dk, dv) = (f.output(12, 8), f.output(12, 8), f.output(12, 10));
        let tangent = Tangent { shape: s, q, k, v, p, dq, dk, dv, dz: f.output(12, 10) };
        assert!(tangent.check().is_ok());
        assert!(Tangent { dz: f.output(7, 10), ..tangent.clone() }.check().is_err());
        assert!(Tangent { dk: dk.slice_rows(0, 6), ..tangent }.check().is_err());
        assert!(Cotangent { shape: s, q, k, v, p, dz: z, dq: q, dk: k, dv: v }.check().is_err());
    }
}
