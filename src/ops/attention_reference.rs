//! An independent, slow reference for the tests of the attention operations: forward-mode derivatives
//! of softmax attention, one tangent at a time, in f64.

use crate::device::{Arena, Real, View};

/// A pseudo-random number generator (splitmix64), so that the tests need no seed files.
pub struct Random(pub u64);

impl Random {
    /// Uniform in `[-1, 1)`.
    pub fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((x ^ (x >> 31)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
    pub fn fill(&mut self, n: usize, scale: f64) -> Vec<f64> {
        (0..n).map(|_| self.next() * scale).collect()
    }
}

/// One sequence: `q`, `k` are `[seq, heads * d_head]`, `v` is `[seq, heads * d_v]`.
#[derive(Clone)]
pub struct Sequence {
    pub seq: usize,
    pub heads: usize,
    pub d_head: usize,
    pub d_v: usize,
    pub scale: f64,
    pub q: Vec<f64>,
    pub k: Vec<f64>,
    pub v: Vec<f64>,
}

impl Sequence {
    fn score(&self, q: &[f64], k: &[f64], h: usize, t: usize, s: usize) -> f64 {
        let w = self.heads * self.d_head;
        (0..self.d_head).map(|d| self.scale * q[t * w + h * self.d_head + d] * k[s * w + h * self.d_head + d]).sum()
    }
    /// z `[seq, heads * d_v]`.
    pub fn forward(&self) -> Vec<f64> {
        self.tangent(&vec![0.0; self.q.len()], &vec![0.0; self.k.len()], &vec![0.0; self.v.len()]).0
    }
    /// z and its derivative along the tangent `(dq, dk, dv)`, both `[seq, heads * d_v]`.
    pub fn tangent(&self, dq: &[f64], dk: &[f64], dv: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let width = self.heads * self.d_v;
        let (mut z, mut dz) = (vec![0.0; self.seq * width], vec![0.0; self.seq * width]);
        for h in 0..self.heads {
            for t in 0..self.seq {
                let e: Vec<f64> = (0..=t).map(|s| self.score(&self.q, &self.k, h, t, s).exp()).collect();
                let total: f64 = e.iter().sum();
                let da: Vec<f64> = (0..=t).map(|s| self.score(dq, &self.k, h, t, s) + self.score(&self.q, dk, h, t, s)).collect();
                let mean: f64 = (0..=t).map(|s| e[s] / total * da[s]).sum();
                for s in 0..=t {
                    let p = e[s] / total;
                    for c in 0..self.d_v {
                        let (to, from) = (t * width + h * self.d_v + c, s * width + h * self.d_v + c);
                        z[to] += p * self.v[from];
                        dz[to] += p * (da[s] - mean) * self.v[from] + p * dv[from];
                    }
                }
            }
        }
        (z, dz)
    }
    /// The derivative averaged over nodes `(w, alpha)` that scale q, k and v.
    pub fn averaged(&self, nodes: &[(f64, f64)], dq: &[f64], dk: &[f64], dv: &[f64]) -> Vec<f64> {
        let mut sum = vec![0.0; self.v.len()];
        for &(w, alpha) in nodes {
            let times = |x: &[f64]| x.iter().map(|x| alpha * x).collect::<Vec<_>>();
            let scaled = Sequence { q: times(&self.q), k: times(&self.k), v: times(&self.v), ..self.clone() };
            sum.iter_mut().zip(scaled.tangent(dq, dk, dv).1).for_each(|(s, x)| *s += w * x);
        }
        sum
    }
}

/// Relative Frobenius error of `found`; NaN in either fails every comparison.
pub fn error(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let square = |x: f64| x * x;
    let wrong: f64 = found.iter().zip(expected).map(|(x, y)| square(x - y)).sum();
    (wrong / expected.iter().map(|&x| square(x)).sum::<f64>()).sqrt()
}

/// Random sequences whose keys and values are far from centred.
pub fn sequences(r: &mut Random, batch: usize, seq: usize, heads: usize, d_head: usize, d_v: usize, scale: f64) -> Vec<Sequence> {
    let mut offset = |n: usize, by: f64| r.fill(seq * heads * n, 1.5).into_iter().map(|x| x + by).collect::<Vec<_>>();
    (0..batch)
        .map(|_| Sequence {
            seq,
            heads,
            d_head,
            d_v,
            scale,
            q: offset(d_head, 0.0),
            k: offset(d_head, 2.0),
            v: offset(d_v, -3.0),
        })
        .collect()
}

/// Writes row-major `data` into a view.
pub fn store<T: Real>(m: &mut Arena<T>, v: &View, data: &[f64]) {
    for (i, row) in data.chunks_exact(v.cols).enumerate() {
        m.real_mut(v.buffer)[v.range(i)].iter_mut().zip(row).for_each(|(x, &y)| *x = T::of(y));
    }
}

#[test]
fn the_reference_agrees_with_central_differences() {
    let mut r = Random(1);
    let (seq, heads, d_head, d_v) = (4, 2, 3, 2);
    let base = Sequence {
        seq,
        heads,
        d_head,
        d_v,
        scale: 0.7,
        q: r.fill(seq * heads * d_head, 1.5),
        k: r.fill(seq * heads * d_head, 1.5),
        v: r.fill(seq * heads * d_v, 1.5),
    };
    let (dq, dk, dv) = (r.fill(base.q.len(), 1.0), r.fill(base.k.len(), 1.0), r.fill(base.v.len(), 1.0));
    let moved = |c: f64| {
        let step = |x: &[f64], d: &[f64]| x.iter().zip(d).map(|(x, d)| x + c * d).collect::<Vec<_>>();
        Sequence { q: step(&base.q, &dq), k: step(&base.k, &dk), v: step(&base.v, &dv), ..base.clone() }.forward()
    };
    let eps = 1e-5;
    let numeric: Vec<f64> = moved(eps).iter().zip(moved(-eps)).map(|(x, y)| (x - y) / (2.0 * eps)).collect();
    let e = error(&base.tangent(&dq, &dk, &dv).1, &numeric);
    assert!(e < 1e-8, "{e}");
}
