//! Squared edge strengths of an attention layer: how much each input direction moves each output
//! direction, by the Jacobian along the field `f_sj` of direction j at all positions s at once.

use faer::Accum;

use super::Attention;
use super::attention_math::{Pattern, TILE_ELEMENTS, Tile, add_scaled, expect, gemm, rows, rows_mut, scratch, view_shape};
use crate::device::{Arena, Real, Tensor, View};
use crate::error::{Error, Result};

const OP: &str = "attention_edges";

/// With p, omega and R of [`Attention`] (lambda its scale) at the projected input, for query t, head h
/// and input direction j:
///
/// `psi_htj = a_htj V_hj + lambda (q_ht . K_hj) b_htj + f_tj Q_hj R_ht`, `a_htj = sum_s p_hts f_sj`,
/// `b_htj = sum_s f_sj omega_hts`, `J_tj = sum_h psi_htj O_h + f_tj B_j`, and `out_ij += J_tji^2`, summed
/// over all queries t of the batch without a normaliser.
///
/// Values may have a further, last coordinate per head that is constant: there omega is 0, so that
/// only `a V` reaches it. `dv1` is `d_v`, or `d_v + 1` with that coordinate.
#[derive(Clone, Debug)]
pub struct Args {
    /// q, k and v at the projected input; v without the constant coordinate.
    pub attention: Attention,
    /// f `[batch * seq, k_in]`.
    pub f_hat: View,
    /// `[k_in, heads * d_head]`, head-major like all that follow.
    pub q_e: Tensor,
    /// `[k_in, heads * d_head]`.
    pub k_e: Tensor,
    /// `[k_in, heads * dv1]`.
    pub v_e: Tensor,
    /// `[heads * dv1, k_out]`.
    pub o_e: Tensor,
    /// `[k_in, k_out]`, the linear part.
    pub b_e: Tensor,
    /// Accumulator `[k_out, k_in]`.
    pub out: View,
}

impl Args {
    /// Refuses inputs or an accumulator of other shapes than documented.
    pub fn check(&self) -> Result<()> {
        let a = &self.attention;
        a.check(OP)?;
        let (k_in, k_out, dk) = (self.f_hat.cols, self.b_e.cols, a.heads * a.d_head);
        let (plain, constant) = (a.heads * a.d_v, a.heads * (a.d_v + 1));
        let width = self.v_e.cols;
        if width != plain && width != constant {
            let expected = format!("{plain}, or {constant} with a constant coordinate per head");
            return Err(Error::shape(OP, format!("V with {width} columns"), expected));
        }
        view_shape(OP, "f", &self.f_hat, a.batch * a.seq, k_in)?;
        view_shape(OP, "out", &self.out, k_out, k_in)?;
        let tensors = [
            ("Q", &self.q_e, k_in, dk),
            ("K", &self.k_e, k_in, dk),
            ("V", &self.v_e, k_in, width),
            ("O", &self.o_e, width, k_out),
            ("B", &self.b_e, k_in, k_out),
        ];
        tensors.into_iter().try_for_each(|(name, x, rows, cols)| expect(OP, name, (x.rows, x.cols), (rows, cols)))
    }
}

/// Runs on one thread. `out` may not share a buffer with the inputs.
pub fn cpu<T: Real>(a: &Args, m: &mut Arena<T>) {
    tiled(a, m, TILE_ELEMENTS);
}

fn tiled<T: Real>(a: &Args, m: &mut Arena<T>, elements: usize) {
    let tiles = a.attention.tiles(elements);
    let mut pattern = Pattern::new(&a.attention, &tiles);
    let mut work = Scratch::new(a, &tiles);
    let mut out = m.take(a.out.buffer);
    for t in &tiles {
        pattern.compute(&a.attention, m, t);
        work.directions(a, t, &pattern);
        for i in 0..t.query_rows() {
            work.query(a, m, t, &pattern, i, &mut out);
        }
    }
    m.put(a.out.buffer, out);
}

/// Scratch, sized for the largest tile. The Jacobian of a query is one product of matrices,
/// `right left`, on top of terms that are fixed matrices with weighted rows.
///
/// b and R share their factor omega: `psi - a V = sum_s c_s omega_hts` with
/// `c_sj = lambda (q_ht . K_hj f_sj + f_tj Q_hj . k_hs)`. Usually the product is psi times O, and B the
/// only fixed term. Where the keys are few against the width of a head, it is c times `omega O`, over
/// heads and keys, and `V_h O_h` are fixed terms with weights a.
struct Scratch<T> {
    few_keys: bool,
    /// Transposes of B and, with few keys, of every `V_h O_h`, `[term, k_out, k_in]`.
    terms: Vec<T>,
    /// f_t, and a of the heads (of the last head done, unless there are few keys), `[term, k_in]`.
    weights: Vec<T>,
    /// `lambda q_ht . K_hj`, `[head, (sequence, query), k_in]`.
    query_on_k: Vec<T>,
    /// `lambda k_hs . Q_hj`, `[head, (sequence, key), k_in]`.
    key_on_q: Vec<T>,
    /// `omega O`, `[head, (sequence, key, query), k_out]`, with few keys.
    omega_o: Vec<T>,
    /// c of one query, `[key, k_in]`; with few keys `[(head, key), k_in]`.
    coefficients: Vec<T>,
    /// `omega O` of one query, `[(head, key), k_out]`.
    own_omega_o: Vec<T>,
    /// psi of one query, `[k_in, heads * dv1]`.
    psi: Vec<T>,
    /// Transpose of one query's Jacobian, `[k_out, k_in]`.
    jacobian: Vec<T>,
}

impl<T: Real> Scratch<T> {
    fn new(a: &Args, tiles: &[Tile]) -> Self {
        let (at, k_in, k_out, width) = (&a.attention, a.b_e.rows, a.b_e.cols, a.v_e.cols);
        let (heads, dv1) = (at.heads, width / at.heads);
        // A fixed term costs about as much as eight rows of a product.
        let few_keys = at.seq + 8 <= at.d_v;
        let (b, size) = (a.b_e.slice::<T>(), k_out * k_in);
        let mut terms: Vec<T> = (0..size).map(|at| b[at % k_in * k_out + at / k_in]).collect();
        if few_keys {
            terms.resize((1 + heads) * size, T::ZERO);
            let (v, o) = (rows(a.v_e.slice::<T>(), k_in, width), rows(a.o_e.slice::<T>(), width, k_out));
            for (h, term) in terms[size..].chunks_exact_mut(size).enumerate() {
                let (v, o) = (v.subcols(h * dv1, dv1), o.subrows(h * dv1, dv1));
                gemm(rows_mut(term, k_out, k_in), Accum::Replace, o.transpose(), v.transpose(), T::ONE);
            }
        }
        let if_few = |n: usize| if few_keys { n } else { 0 };
        Self {
            few_keys,
            terms,
            weights: vec![T::ZERO; (1 + heads) * k_in],
            query_on_k: scratch(tiles, |t| heads * t.query_rows() * k_in),
            key_on_q: scratch(tiles, |t| heads * t.key_rows() * k_in),
            omega_o: scratch(tiles, |t| if_few(heads * t.key_rows() * t.queries * k_out)),
            coefficients: vec![T::ZERO; at.seq * k_in * if few_keys { heads } else { 1 }],
            own_omega_o: vec![T::ZERO; if_few(heads * at.seq * k_out)],
            psi: vec![T::ZERO; k_in * width],
            jacobian: vec![T::ZERO; size],
        }
    }
    /// Products of the tile's queries, keys and omega with the directions.
    fn directions(&mut self, a: &Args, t: &Tile, pattern: &Pattern<T>) {
        let (at, k_in, k_out, d) = (&a.attention, a.b_e.rows, a.b_e.cols, a.attention.d_head);
        let (q_e, k_e) = (rows(a.q_e.slice::<T>(), k_in, a.q_e.cols), rows(a.k_e.slice::<T>(), k_in, a.k_e.cols));
        let (n, keys, pairs, dv1) = (t.query_rows(), t.key_rows(), t.key_rows() * t.queries, a.v_e.cols / at.heads);
        for h in 0..at.heads {
            let dst = rows_mut(&mut self.query_on_k[h * n * k_in..], n, k_in);
            gemm(dst, Accum::Replace, pattern.queries(at, t, h), k_e.subcols(h * d, d).transpose(), at.lambda());
            let dst = rows_mut(&mut self.key_on_q[h * keys * k_in..], keys, k_in);
            gemm(dst, Accum::Replace, pattern.keys(at, t, h), q_e.subcols(h * d, d).transpose(), at.lambda());
            if self.few_keys {
                let dst = rows_mut(&mut self.omega_o[h * pairs * k_out..], pairs, k_out);
                let o = rows(a.o_e.slice::<T>(), a.o_e.rows, k_out).subrows(h * dv1, at.d_v);
                gemm(dst, Accum::Replace, rows(pattern.omega(at, t, h), pairs, at.d_v), o, T::ONE);
            }
        }
    }
    /// `out_ij += J_ji^2` for query `i` of the tile.
    fn query(&mut self, a: &Args, m: &Arena<T>, t: &Tile, pattern: &Pattern<T>, i: usize, out: &mut [T]) {
        let (at, k_in, k_out, width) = (&a.attention, a.b_e.rows, a.b_e.cols, a.v_e.cols);
        let seen = t.start + i % t.queries + 1;
        self.weights[..k_in].copy_from_slice(m.row(&at.queries(a.f_hat, t), i));
        for h in 0..at.heads {
            self.head(a, m, t, pattern, i, h);
        }
        let terms = if self.few_keys { 1 + at.heads } else { 1 };
        for (r, row) in self.jacobian.chunks_exact_mut(k_in).enumerate() {
            row.fill(T::ZERO);
            for (term, weights) in self.terms.chunks_exact(k_out * k_in).zip(self.weights.chunks_exact(k_in)).take(terms) {
                for ((x, &y), &w) in row.iter_mut().zip(&term[r * k_in..]).zip(weights) {
                    *x += w * y;
                }
            }
        }
        let (left, right) = if self.few_keys {
            (rows(&self.own_omega_o, at.heads * seen, k_out).transpose(), rows(&self.coefficients, at.heads * seen, k_in))
        } else {
            (rows(a.o_e.slice(), width, k_out).transpose(), rows(&self.psi, k_in, width).transpose())
        };
        gemm(rows_mut(&mut self.jacobian, k_out, k_in), Accum::Add, left, right, T::ONE);
        for (r, row) in self.jacobian.chunks_exact(k_in).enumerate() {
            for (out, &x) in out[a.out.range(r)].iter_mut().zip(row) {
                *out += x * x;
            }
        }
    }
    /// One head's share of the factors and weights of query `i`.
    fn head(&mut self, a: &Args, m: &Arena<T>, t: &Tile, pattern: &Pattern<T>, i: usize, h: usize) {
        let (at, k_in, k_out, width) = (&a.attention, a.b_e.rows, a.b_e.cols, a.v_e.cols);
        let (b, query, n) = (i / t.queries, i % t.queries, t.queries);
        let (dv, dv1, seen) = (at.d_v, width / at.heads, t.start + query + 1);
        let f = at.keys(a.f_hat, t).slice_rows(b * t.keys, t.keys);
        let on_k = &self.query_on_k[(h * t.query_rows() + i) * k_in..][..k_in];
        let (own, weights) = self.weights.split_at_mut(k_in);
        let weights = &mut weights[if self.few_keys { h * k_in } else { 0 }..][..k_in];
        let coefficients = &mut self.coefficients[if self.few_keys { h * seen * k_in } else { 0 }..][..seen * k_in];
        weights.fill(T::ZERO);
        for (s, out) in coefficients.chunks_exact_mut(k_in).enumerate() {
            let on_q = &self.key_on_q[((h * t.sequences + b) * t.keys + s) * k_in..][..k_in];
            let f = m.row(&f, s);
            add_scaled(weights, pattern.p(t, h)[i * t.keys + s], f);
            for j in 0..k_in {
                out[j] = on_k[j] * f[j] + own[j] * on_q[j];
            }
        }
        if self.few_keys {
            for (s, out) in self.own_omega_o[h * seen * k_out..].chunks_exact_mut(k_out).take(seen).enumerate() {
                let pair = ((h * t.sequences + b) * t.keys + s) * n + query;
                out.copy_from_slice(&self.omega_o[pair * k_out..][..k_out]);
            }
            return;
        }
        // omega is [key, query, d_v]: one query's share is a strided matrix.
        let omega = rows(&pattern.omega(at, t, h)[b * t.keys * n * dv..], seen, n * dv).subcols(query * dv, dv);
        let dst = rows_mut(&mut self.psi, k_in, width).subcols_mut(h * dv1, dv);
        gemm(dst, Accum::Replace, rows(coefficients, seen, k_in).transpose(), omega, T::ONE);
        let v = a.v_e.slice::<T>().chunks_exact(width);
        for ((psi, v), &c) in self.psi.chunks_exact_mut(width).zip(v).zip(&*weights) {
            if dv1 > dv {
                psi[h * dv1 + dv] = T::ZERO;
            }
            add_scaled(&mut psi[h * dv1..][..dv1], c, &v[h * dv1..][..dv1]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Builder;
    use crate::ops::attention_reference::{Random, Sequence, error, sequences, store};

    const NODES: [(f64, f64); 3] = [(0.2, 0.15), (0.5, 0.55), (0.3, 0.9)];

    struct Case {
        batch: usize,
        seq: usize,
        d_v: usize,
        last_only: bool,
        constant: bool,
        nodes: Vec<(f64, f64)>,
    }

    /// Relative errors of one run, and of a second one with the smallest tiles on top of it.
    fn run<T: Real>(c: &Case) -> (f64, f64) {
        let (heads, d_head, d_v, k_in, k_out, scale) = (3, 4, c.d_v, 11, 9, 0.6);
        let (rows, dv1) = (c.batch * c.seq, d_v + usize::from(c.constant));
        let mut r = Random(7 + c.seq as u64);
        let mut b = Builder::<()>::new(T::DTYPE);
        let data = sequences(&mut r, c.batch, c.seq, heads, d_head, d_v, scale);
        let wide = b.matrix(rows, heads * (2 * d_head + d_v) + k_in + 2);
        let (dk, dv) = (heads * d_head, heads * d_v);
        let (q, k, v) = (wide.columns(1, dk), wide.columns(1 + dk, dk), wide.columns(1 + 2 * dk, dv));
        let f_hat = wide.columns(1 + 2 * dk + dv, k_in);
        let out = b.matrix(k_out + 1, k_in + 2);
        let f = r.fill(rows * k_in, 1.0);
        let [q_e, k_e] = [(); 2].map(|()| r.fill(k_in * dk, 1.0));
        let (v_e, o_e, b_e) = (r.fill(k_in * heads * dv1, 1.0), r.fill(heads * dv1 * k_out, 1.0), r.fill(k_in * k_out, 1.0));
        let tensor = |n: usize, data: &Vec<f64>| Tensor::from_f64(T::DTYPE, n, data.len() / n, data.clone());
        let args = Args {
            attention: Attention {
                batch: c.batch,
                seq: c.seq,
                heads,
                d_head,
                d_v,
                scale,
                last_only: c.last_only,
                nodes: c.nodes.clone(),
                q,
                k,
                v,
            },
            f_hat,
            q_e: tensor(k_in, &q_e),
            k_e: tensor(k_in, &k_e),
            v_e: tensor(k_in, &v_e),
            o_e: tensor(heads * dv1, &o_e),
            b_e: tensor(k_in, &b_e),
            out: out.slice_rows(1, k_out).columns(1, k_in),
        };
        args.check().unwrap();
        let mut m = Arena::<T>::new(&b.finish().layout);
        m.real_mut(wide.buffer).fill(T::of(f64::NAN));
        m.real_mut(out.buffer).fill(T::of(f64::NAN));
        for (view, part) in [(&q, 0), (&k, 1), (&v, 2)] {
            let all: Vec<f64> = data.iter().flat_map(|s| [&s.q, &s.k, &s.v][part].clone()).collect();
            store(&mut m, view, &all);
        }
        store(&mut m, &f_hat, &f);
        store(&mut m, &args.out, &vec![0.0; k_out * k_in]);

        let mut expected = vec![0.0; k_out * k_in];
        for (x, sequence) in data.iter().enumerate() {
            let f = &f[x * c.seq * k_in..][..c.seq * k_in];
            let mut extended = Sequence { d_v: dv1, ..sequence.clone() };
            extended.v = sequence.v.chunks(d_v).flat_map(|v| v.iter().copied().chain((dv1 > d_v).then_some(0.8))).collect();
            for j in 0..k_in {
                let field = |e: &[f64]| -> Vec<f64> {
                    let row = &e[j * e.len() / k_in..(j + 1) * e.len() / k_in];
                    (0..c.seq).flat_map(|s| row.iter().map(move |y| f[s * k_in + j] * y)).collect()
                };
                let dz = extended.averaged(&c.nodes, &field(&q_e), &field(&k_e), &field(&v_e));
                for t in if c.last_only { c.seq - 1 } else { 0 }..c.seq {
                    for i in 0..k_out {
                        let z = &dz[t * heads * dv1..][..heads * dv1];
                        let linear = f[t * k_in + j] * b_e[j * k_out + i];
                        let jacobian: f64 = z.iter().enumerate().map(|(r, z)| z * o_e[r * k_out + i]).sum::<f64>() + linear;
                        expected[i * k_in + j] += jacobian * jacobian;
                    }
                }
            }
        }
        let found =
            |m: &Arena<T>| -> Vec<f64> { (0..k_out).flat_map(|i| m.row(&args.out, i).iter().map(|x| x.to_f64())).collect() };
        cpu(&args, &mut m);
        let once = error(&found(&m), &expected);
        tiled(&args, &mut m, 1);
        expected.iter_mut().for_each(|x| *x *= 2.0);
        (once, error(&found(&m), &expected))
    }

    #[test]
    fn edges_agree_with_brute_force_jacobians() {
        // Values wide against the keys, and narrow ones.
        for (batch, seq, d_v) in [(5, 6, 5), (1, 1, 5), (3, 3, 5), (2, 19, 5), (5, 6, 14), (3, 1, 9), (4, 3, 13), (1, 11, 20)] {
            for last_only in [false, true] {
                for constant in [false, true] {
                    for nodes in [vec![(1.0, 1.0)], NODES.to_vec()] {
                        let c = Case { batch, seq, d_v, last_only, constant, nodes };
                        let (once, twice) = run::<f64>(&c);
                        assert!(once < 1e-13 && twice < 1e-13, "f64 {batch} {seq} {d_v} {last_only} {constant}: {once} {twice}");
                        let (once, twice) = run::<f32>(&c);
                        assert!(once < 1e-5 && twice < 1e-5, "f32 {batch} {seq} {d_v} {last_only} {constant}: {once} {twice}");
                    }
                }
            }
        }
    }
}
