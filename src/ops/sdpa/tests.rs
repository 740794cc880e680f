//! Attention against a plain loop in f64, its derivatives against differences of that loop and against
//! each other.

use super::*;
use crate::device::{Arena, Real};
use crate::ops::fixture::{Fixture, assert_adjoint, assert_close, central, numbers, part, read};

/// A shape with what it is applied to.
struct Case {
    shape: Shape,
    lengths: Vec<usize>,
    seen: Option<Vec<u32>>,
    queries: Option<Vec<u32>>,
}

const PLAIN: Shape = Shape { heads: 4, kv_heads: 2, d_head: 5, d_v: 3, scale: 0.7, softcap: None, causal: true, window: None };

/// Sequences shorter and longer than a tile, every mask, few queries, and a sequence that nobody sees.
fn cases() -> Vec<Case> {
    let lengths = vec![1, 7, 2 * TILE + 6, 3];
    let n: usize = lengths.iter().sum();
    let last = |count: usize| (0..n as u32).filter(|i| i % count as u32 == 1).collect::<Vec<_>>();
    let padded = (0..n).map(|i| u32::from(i % 5 != 2 && !(1..8).contains(&i))).collect::<Vec<_>>();
    let case = |shape, seen, queries| Case { shape, lengths: lengths.clone(), seen, queries };
    let both_ways = Shape { causal: false, kv_heads: 4, ..PLAIN };
    let capped = Shape { softcap: Some(1.5), window: Some(20), ..PLAIN };
    vec![
        case(PLAIN, None, None),
        case(both_ways, None, None),
        case(both_ways, Some(padded.clone()), None),
        case(capped, None, None),
        case(Shape { kv_heads: 1, ..capped }, Some(padded), Some(last(3))),
        case(Shape { window: None, causal: false, ..capped }, None, Some(last(11))),
    ]
}

/// Queries, keys and values, or their tangents, `[rows, heads * width]` each.
type Inputs = [Vec<f64>; 3];

impl Case {
    fn n(&self) -> usize {
        self.lengths.iter().sum()
    }
    fn rows(&self) -> Vec<u32> {
        self.queries.clone().unwrap_or((0..self.n() as u32).collect())
    }
    /// Rows, heads and width of queries, keys and values.
    fn sizes(&self) -> [(usize, usize, usize); 3] {
        let s = &self.shape;
        [(self.rows().len(), s.heads, s.d_head), (self.n(), s.kv_heads, s.d_head), (self.n(), s.kv_heads, s.d_v)]
    }
    fn inputs(&self, probes: usize, seed: u64) -> Inputs {
        let mut seed = seed..;
        self.sizes().map(|(rows, heads, width)| numbers(probes * rows * heads * width, seed.next().unwrap()))
    }
    /// What probe `r` holds.
    fn probe(&self, x: &Inputs, r: usize) -> Inputs {
        let sizes = self.sizes().map(|(rows, heads, width)| rows * heads * width);
        [0, 1, 2].map(|i| x[i][r * sizes[i]..(r + 1) * sizes[i]].to_vec())
    }
    fn packing(&self, f: &mut Fixture) -> (Packing, Option<IntBuffer>) {
        let (first, end) = Packing::bounds(&self.lengths);
        let seen = self.seen.as_ref().map(|seen| f.ints(seen));
        (Packing { first: f.ints(&first), end: f.ints(&end), seen }, self.queries.as_ref().map(|q| f.ints(q)))
    }
    /// Heads with gaps between them, in one buffer where queries are as many as keys; keys and values
    /// alternate.
    fn heads(&self, f: &mut Fixture, probes: usize) -> [Heads; 3] {
        let (s, n) = (&self.shape, probes * self.n());
        let (q_pitch, pitch) = (s.d_head + 1, s.d_head + s.d_v + 2);
        let (q_cols, cols) = (s.heads * q_pitch, s.kv_heads * pitch);
        let (q, kv) = if self.queries.is_none() {
            let all = f.output(n, q_cols + cols);
            (all.columns(0, q_cols), all.columns(q_cols, cols))
        } else {
            (f.output(probes * self.rows().len(), q_cols), f.output(n, cols))
        };
        let v = kv.columns(s.d_head, cols - s.d_head);
        [Heads { view: q, pitch: q_pitch }, Heads { view: kv, pitch }, Heads { view: v, pitch }]
    }
    fn fill(&self, f: &mut Fixture, heads: [Heads; 3], data: &Inputs) {
        for ((x, data), (_, count, width)) in heads.iter().zip(data).zip(self.sizes()) {
            for h in 0..count {
                let columns = data.chunks(count * width).flat_map(|row| row[h * width..(h + 1) * width].to_vec());
                f.set(x.head(h, width), &columns.collect::<Vec<_>>());
            }
        }
    }
    /// The contents of heads; nothing else in their rows may have been written.
    fn read<T: Real>(&self, m: &Arena<T>, heads: [Heads; 3]) -> Inputs {
        let mut found = heads.iter().zip(self.sizes()).map(|(x, (_, count, width))| {
            let parts: Vec<Vec<f64>> = (0..count).map(|h| part(m, &x.head(h, width))).collect();
            (0..x.view.rows).flat_map(|i| parts.iter().flat_map(move |p| p[i * width..(i + 1) * width].to_vec())).collect()
        });
        let found: Inputs = std::array::from_fn(|_| found.next().unwrap());
        let buffers: std::collections::HashMap<usize, _> = heads.iter().map(|x| (x.view.buffer.slot(), x.view.buffer)).collect();
        let finite = |b: &crate::device::Buffer| m.real(*b).iter().filter(|x| !x.to_f64().is_nan()).count();
        assert_eq!(buffers.values().map(finite).sum::<usize>(), found.iter().map(Vec::len).sum::<usize>());
        found
    }
    fn args(&self, f: &mut Fixture, x: &Inputs) -> Args {
        let ((packing, queries), [q, k, v]) = (self.packing(f), self.heads(f, 1));
        self.fill(f, [q, k, v], x);
        let (rows, longest) = (self.rows().len(), self.lengths.iter().max().unwrap());
        let z = f.output(rows, self.shape.heads * self.shape.d_v);
        let pattern = Some(f.output(rows * self.shape.heads, longest + 2));
        Args { primal: Primal { shape: self.shape, packing, queries, q, k, v }, z, pattern }
    }
    /// `z` and the pattern, by the definition.
    fn reference(&self, [q, k, v]: &Inputs) -> (Vec<f64>, Vec<f64>) {
        let (s, rows) = (&self.shape, self.rows());
        let columns = self.lengths.iter().max().unwrap() + 2;
        let mut z = vec![0.0; rows.len() * s.heads * s.d_v];
        let mut pattern = vec![0.0; rows.len() * s.heads * columns];
        let (mut start, mut before) = (0, 0);
        for &length in &self.lengths {
            let here: Vec<usize> = (0..rows.len()).filter(|&i| (start..start + length).contains(&(rows[i] as usize))).collect();
            for (t, &i) in here.iter().enumerate() {
                for h in 0..s.heads {
                    let (g, position) = (h * s.kv_heads / s.heads, rows[i] as usize - start);
                    let sees = |j: usize| {
                        let near = s.window.is_none_or(|w| j + w > position);
                        (!s.causal || j <= position) && near && self.seen.as_ref().is_none_or(|seen| seen[start + j] != 0)
                    };
                    let score = |j: usize| {
                        let q = &q[(i * s.heads + h) * s.d_head..][..s.d_head];
                        let k = &k[((start + j) * s.kv_heads + g) * s.d_head..][..s.d_head];
                        let x = s.scale * q.iter().zip(k).map(|(q, k)| q * k).sum::<f64>();
                        s.softcap.map_or(x, |c| c * (x / c).tanh()).exp()
                    };
                    let keys: Vec<usize> = (0..length).filter(|&j| sees(j)).collect();
                    let total: f64 = keys.iter().map(|&j| score(j)).sum();
                    for j in keys {
                        let p = score(j) / total;
                        pattern[(s.heads * before + h * here.len() + t) * columns + j] = p;
                        for c in 0..s.d_v {
                            z[(i * s.heads + h) * s.d_v + c] += p * v[((start + j) * s.kv_heads + g) * s.d_v + c];
                        }
                    }
                }
            }
            (start, before) = (start + length, before + here.len());
        }
        (z, pattern)
    }
    fn tangent<T: Real>(&self, x: &Inputs, dx: &Inputs, probes: usize) -> Vec<f64> {
        let mut f = Fixture::default();
        let Args { primal, z, .. } = self.args(&mut f, x);
        let [dq, dk, dv] = self.heads(&mut f, probes);
        self.fill(&mut f, [dq, dk, dv], dx);
        let a = Tangent { primal, dq, dk, dv, dz: f.output(probes * z.rows, z.cols) };
        a.check().unwrap();
        let mut m = f.arena::<T>();
        cpu_tangent(&a, &mut m);
        read(&m, &a.dz)
    }
    fn cotangent<T: Real>(&self, x: &Inputs, w: &[f64], probes: usize) -> Inputs {
        let mut f = Fixture::default();
        let Args { primal, z, .. } = self.args(&mut f, x);
        let [dq, dk, dv] = self.heads(&mut f, probes);
        let dz = f.input(probes * z.rows, z.cols, w);
        let a = Cotangent { primal, dz, dq, dk, dv };
        a.check().unwrap();
        let mut m = f.arena::<T>();
        cpu_cotangent(&a, &mut m);
        self.read(&m, [dq, dk, dv])
    }
}

fn forward<T: Real>(case: &Case, x: &Inputs) -> (Vec<f64>, Vec<f64>) {
    let mut f = Fixture::default();
    let a = case.args(&mut f, x);
    a.check().unwrap();
    let mut m = f.arena::<T>();
    cpu(&a, &mut m);
    let found = (read(&m, &a.z), read(&m, a.pattern.as_ref().unwrap()));
    cpu(&Args { pattern: None, ..a.clone() }, &mut m);
    assert_eq!(read(&m, &a.z), found.0);
    found
}

#[test]
fn values_and_patterns_agree_with_the_definition() {
    for case in cases() {
        let x = case.inputs(1, 1);
        let (z, pattern) = case.reference(&x);
        for (found, bound) in [(forward::<f64>(&case, &x), 1e-13), (forward::<f32>(&case, &x), 2e-6)] {
            assert_close(&found.0, &z, bound);
            assert_close(&found.1, &pattern, bound);
            let zeros = |p: &[f64]| p.iter().map(|p| *p == 0.0).collect::<Vec<_>>();
            assert_eq!(zeros(&found.1), zeros(&pattern));
        }
    }
}

#[test]
fn tangents_agree_with_differences() {
    for case in cases() {
        let (x, dx) = (case.inputs(1, 4), case.inputs(2, 7));
        let (double, single) = (case.tangent::<f64>(&x, &dx, 2), case.tangent::<f32>(&x, &dx, 2));
        let lengths = [x[0].len(), x[0].len() + x[1].len()];
        let whole = |x: &[f64]| {
            let parts = [&x[..lengths[0]], &x[lengths[0]..lengths[1]], &x[lengths[1]..]];
            case.reference(&parts.map(<[f64]>::to_vec)).0
        };
        let size = double.len() / 2;
        for r in 0..2 {
            let want = central(whole, &x.concat(), &case.probe(&dx, r).concat());
            assert_close(&double[r * size..(r + 1) * size], &want, 1e-8);
        }
        assert_close(&single, &double, 5e-6);
    }
}

#[test]
fn cotangents_are_adjoint_and_touch_their_heads_alone() {
    for case in cases() {
        let (x, dx) = (case.inputs(1, 4), case.inputs(2, 7));
        let jv = case.tangent::<f64>(&x, &dx, 2);
        let w = numbers(jv.len(), 11);
        let (double, single) = (case.cotangent::<f64>(&x, &w, 2), case.cotangent::<f32>(&x, &w, 2));
        assert_adjoint(&jv, &w, &dx.concat(), &double.concat());
        for r in 0..2 {
            let size = jv.len() / 2;
            let part = r * size..(r + 1) * size;
            assert_adjoint(&jv[part.clone()], &w[part], &case.probe(&dx, r).concat(), &case.probe(&double, r).concat());
        }
        single.iter().zip(&double).for_each(|(single, double)| assert_close(single, double, 5e-6));
    }
}

#[test]
fn a_sequence_that_nobody_sees_gives_zeros() {
    let case = Case { shape: PLAIN, lengths: vec![2, 3], seen: Some(vec![0, 0, 1, 0, 1]), queries: None };
    let x = case.inputs(1, 1);
    let hidden = 2 * PLAIN.heads * PLAIN.d_v;
    let zeros = |x: &[f64]| x.iter().all(|x| *x == 0.0);
    let z = forward::<f32>(&case, &x).0;
    assert!(zeros(&z[..hidden]) && !zeros(&z[hidden..]));
    assert!(zeros(&case.tangent::<f32>(&x, &case.inputs(1, 4), 1)[..hidden]));
    let [dq, dk, dv] = case.cotangent::<f32>(&x, &numbers(z.len(), 7), 1);
    assert!(zeros(&dq[..2 * PLAIN.heads * PLAIN.d_head]) && zeros(&dk[..2 * PLAIN.kv_heads * PLAIN.d_head]));
    assert!(zeros(&dv[..2 * PLAIN.kv_heads * PLAIN.d_v]));
}

#[test]
fn a_sequence_gives_the_same_bits_alone_and_among_others() {
    let case = |lengths: &[usize]| Case { shape: PLAIN, lengths: lengths.to_vec(), seen: None, queries: None };
    let (among, alone) = (case(&[4, TILE + 9, 2]), case(&[TILE + 9]));
    let x = among.inputs(1, 1);
    let mut sizes = among.sizes().into_iter();
    let middle = x.clone().map(|x| {
        let (_, heads, width) = sizes.next().unwrap();
        x[4 * heads * width..(4 + TILE + 9) * heads * width].to_vec()
    });
    let columns = PLAIN.heads * PLAIN.d_v;
    assert_eq!(forward::<f32>(&among, &x).0[4 * columns..(4 + TILE + 9) * columns], forward::<f32>(&alone, &middle).0);
}

#[test]
fn nothing_to_ask_and_nothing_to_read_are_no_errors() {
    for (lengths, queries) in [(vec![], None), (vec![3], Some(vec![]))] {
        let case = Case { shape: PLAIN, lengths, seen: None, queries };
        let mut f = Fixture::default();
        let ((packing, queries), [q, k, v]) = (case.packing(&mut f), case.heads(&mut f, 1));
        let a = Args { primal: Primal { shape: PLAIN, packing, queries, q, k, v }, z: f.output(0, 12), pattern: None };
        a.check().unwrap();
        cpu(&a, &mut f.arena::<f32>());
    }
}

#[test]
fn wrong_shapes_are_refused() {
    let case = Case { shape: PLAIN, lengths: vec![2, 3], seen: None, queries: None };
    let mut f = Fixture::default();
    let good = case.args(&mut f, &case.inputs(1, 1));
    assert!(good.check().is_ok());
    let refused = |a: Args| assert!(a.check().is_err(), "{a:?}");
    refused(Args { primal: Primal { shape: Shape { kv_heads: 3, ..PLAIN }, ..good.primal }, ..good.clone() });
    refused(Args { primal: Primal { shape: Shape { causal: false, window: Some(2), ..PLAIN }, ..good.primal }, ..good.clone() });
    refused(Args { primal: Primal { shape: Shape { softcap: Some(0.0), ..PLAIN }, ..good.primal }, ..good.clone() });
    refused(Args { primal: Primal { shape: Shape { heads: 8, ..PLAIN }, ..good.primal }, ..good.clone() });
    refused(Args { primal: Primal { queries: Some(f.ints(&[1])), ..good.primal }, ..good.clone() });
    refused(Args { z: f.output(4, 12), ..good.clone() });
    refused(Args { z: good.primal.q.view.columns(0, 12), ..good.clone() });
    refused(Args { pattern: Some(f.output(5, 3)), ..good.clone() });
    let packing = Packing { first: f.ints(&[0]), ..good.primal.packing };
    refused(Args { primal: Primal { packing, ..good.primal }, ..good.clone() });
    let primal = good.primal;
    let Primal { q, .. } = primal;
    let ([dq, dk, dv], dz) = (case.heads(&mut f, 2), f.output(10, 12));
    let tangent = Tangent { primal, dq, dk, dv, dz };
    assert!(tangent.check().is_ok());
    assert!(Tangent { dz: f.output(15, 12), ..tangent.clone() }.check().is_err());
    let cotangent = Cotangent { primal, dz, dq, dk, dv };
    assert!(cotangent.check().is_ok());
    let error = Cotangent { dz: f.output(9, 12), ..cotangent.clone() }.check().unwrap_err().to_string();
    assert_eq!(error, "operation sdpa cotangent: found dz of 9 rows; expected a multiple of 5 rows");
    assert!(Cotangent { dq: q, ..cotangent }.check().is_err());
}
