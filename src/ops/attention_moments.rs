//! The blocks of the moment matrix of an attention layer, `sum_t sum_s G_ts P G_ts'`, where `G_ts` is
//! the Jacobian of all heads' outputs z_t by (q, k, v) at position s.

use faer::MatRef;

use super::Attention;
use super::attention_math::{Pattern, TILE_ELEMENTS, Tile, accumulate, add_scaled, expect, rows, scratch, view_shape};
use crate::device::{Arena, Real, Tensor, View};
use crate::error::Result;

mod score_blocks;

const OP: &str = "attention_moments";

/// Accumulators receive sums over all queries t of the batch, without a normaliser, on top of what they
/// hold. With `D_k = heads * d_head`, `D_v = heads * d_v` and head-major rows and columns, "block
/// (h, h')" starts at row `h * d_head`; p, omega and R are those of [`Attention`], lambda its scale.
///
/// The matrix over the coordinates (q, k, v) of all heads has the blocks
/// `[[qq, qk, Z P], [qk', kk, Y P], [(Z P)', (Y P)', vv P]]`, with the products by P taken block by
/// block: `Z_hh' P_hh'`, `Y_hh' P_hh'`, `vv_hh' P_hh'`.
#[derive(Clone, Debug)]
pub struct Args {
    pub attention: Attention,
    /// P `[D_v, D_v]`, symmetric, `P_hh' = O_h A O_h'^T` for the value coordinates.
    pub p_mat: Tensor,
    /// `[D_k, D_k]`, symmetric; block (h, h') at columns `h' * d_head`: `sum R_ht P_hh' R_h't'`.
    pub qq: View,
    /// `[D_k, D_k]`, symmetric: `lambda^2 sum sum_s (omega_hts P_hh' omega_h'ts') q_ht' q_h't`.
    pub kk: View,
    /// `[D_k, D_k]`, rows q of head h, columns k of head h': `lambda sum R_ht P_hh' omega_h'tt' q_h't`.
    pub qk: View,
    /// `[D_k, D_v]`; block (h, h') at columns `h' * d_v` is Z_hh' `= sum R_ht p_h'tt`.
    pub qv: View,
    /// `[D_k, D_v]`; block (h, h') is Y_hh' `= lambda sum sum_s q_ht' omega_hts p_h'ts`.
    pub kv: View,
    /// `[heads, heads]`: `sum sum_s p_hts p_h'ts`.
    pub vv: View,
    /// `[D_k, d_v]`: `sum R_ht`, that is dz_ht/dq_ht.
    pub lq: View,
    /// `[D_k, d_v]`: `lambda sum q_ht' omega_htt`, that is dz_ht/dk_ht.
    pub lk: View,
    /// `[1, heads]`: `sum p_htt`, dz_ht/dv_ht being `p_htt` times the identity.
    pub lv: View,
}

impl Args {
    /// Refuses inputs or accumulators of other shapes than documented.
    pub fn check(&self) -> Result<()> {
        let a = &self.attention;
        a.check(OP)?;
        let (dk, dv) = (a.heads * a.d_head, a.heads * a.d_v);
        expect(OP, "P", (self.p_mat.rows, self.p_mat.cols), (dv, dv))?;
        let views = [
            ("qq", &self.qq, dk, dk),
            ("kk", &self.kk, dk, dk),
            ("qk", &self.qk, dk, dk),
            ("qv", &self.qv, dk, dv),
            ("kv", &self.kv, dk, dv),
            ("vv", &self.vv, a.heads, a.heads),
            ("lq", &self.lq, dk, a.d_v),
            ("lk", &self.lk, dk, a.d_v),
            ("lv", &self.lv, 1, a.heads),
        ];
        views.into_iter().try_for_each(|(name, v, rows, cols)| view_shape(OP, name, v, rows, cols))
    }
}

/// Runs on one thread. Accumulators may share buffers with each other, not with q, k or v.
pub fn cpu<T: Real>(a: &Args, m: &mut Arena<T>) {
    tiled(a, m, TILE_ELEMENTS);
}

fn tiled<T: Real>(a: &Args, m: &mut Arena<T>, elements: usize) {
    let at = &a.attention;
    let tiles = at.tiles(elements);
    let mut pattern = Pattern::new(at, &tiles);
    let mut values = ValueBlocks::new(at, &tiles);
    let mut scores = score_blocks::ScoreBlocks::new(at, &tiles);
    for tile in &tiles {
        pattern.compute(at, m, tile);
        values.add(a, m, tile, &pattern);
        scores.add(a, m, tile, &pattern);
    }
    for v in [&a.qq, &a.kk] {
        mirror(m, v, at.d_head);
    }
}

/// Copies the blocks above the diagonal, which are the only ones accumulated, to below it.
fn mirror<T: Real>(m: &mut Arena<T>, v: &View, block: usize) {
    let data = m.real_mut(v.buffer);
    for i in 0..v.rows {
        for j in 0..i / block * block {
            data[v.offset + i * v.stride + j] = data[v.offset + j * v.stride + i];
        }
    }
}

/// Scratch of the blocks that do not depend on P: those of v, and the sums over s = t.
struct ValueBlocks<T> {
    /// p_htt, `[heads, (sequence, query)]`.
    diagonal: Vec<T>,
    /// Weighted sums of omega, `[key or query, (head h' or linear term, d_v)]`.
    mixed: Vec<T>,
}

impl<T: Real> ValueBlocks<T> {
    fn new(a: &Attention, tiles: &[Tile]) -> Self {
        Self {
            diagonal: scratch(tiles, |t| a.heads * t.query_rows()),
            mixed: scratch(tiles, |t| t.key_rows().max(t.query_rows()) * (a.heads + 1) * a.d_v),
        }
    }
    fn add(&mut self, a: &Args, m: &mut Arena<T>, t: &Tile, pattern: &Pattern<T>) {
        let (at, n) = (&a.attention, t.query_rows());
        let p = pattern.all_p(at, t);
        accumulate(m, &a.vv, p, p.transpose(), T::ONE);
        for h in 0..at.heads {
            let p = pattern.p(t, h);
            let diagonal = &mut self.diagonal[h * n..][..n];
            for (i, x) in diagonal.iter_mut().enumerate() {
                *x = p[i * t.keys + t.start + i % t.queries];
            }
            m.real_mut(a.lv.buffer)[a.lv.offset + h] += diagonal.iter().copied().sum::<T>();
        }
        for h in 0..at.heads {
            self.by_key(at, t, h, pattern);
            self.flush(a, m, h, pattern.keys(at, t, h), (&a.qv, &a.lq));
            self.by_query(at, t, h, pattern);
            self.flush(a, m, h, pattern.queries(at, t, h), (&a.kv, &a.lk));
        }
    }
    /// `mixed_s = [sum_t p_h'tt omega_hts for every h', sum_t omega_hts]`.
    fn by_key(&mut self, a: &Attention, t: &Tile, h: usize, pattern: &Pattern<T>) {
        let (n, dv) = (t.query_rows(), a.d_v);
        for (s, row) in self.mixed.chunks_exact_mut((a.heads + 1) * dv).take(t.key_rows()).enumerate() {
            row.fill(T::ZERO);
            let (linear, b) = (a.heads * dv, s / t.keys);
            let omega = &pattern.omega(a, t, h)[s * t.queries * dv..][..t.queries * dv];
            for (i, omega) in omega.chunks_exact(dv).enumerate().skip((s % t.keys).saturating_sub(t.start)) {
                for (g, out) in row[..linear].chunks_exact_mut(dv).enumerate() {
                    add_scaled(out, self.diagonal[g * n + b * t.queries + i], omega);
                }
                add_scaled(&mut row[linear..], T::ONE, omega);
            }
        }
    }
    /// `mixed_t = [sum_s p_h'ts omega_hts for every h', omega_htt]`.
    fn by_query(&mut self, a: &Attention, t: &Tile, h: usize, pattern: &Pattern<T>) {
        let dv = a.d_v;
        for (i, row) in self.mixed.chunks_exact_mut((a.heads + 1) * dv).take(t.query_rows()).enumerate() {
            let (b, query) = (i / t.queries, i % t.queries);
            let omega = |s: usize| &pattern.omega(a, t, h)[((b * t.keys + s) * t.queries + query) * dv..][..dv];
            for (g, out) in row[..a.heads * dv].chunks_exact_mut(dv).enumerate() {
                out.fill(T::ZERO);
                for (s, &p) in pattern.p(t, g)[i * t.keys..][..=t.start + query].iter().enumerate() {
                    add_scaled(out, p, omega(s));
                }
            }
            row[a.heads * dv..].copy_from_slice(omega(t.start + query));
        }
    }
    /// Adds `lambda left' mixed` to the rows of head `h`.
    fn flush(&self, a: &Args, m: &mut Arena<T>, h: usize, left: MatRef<'_, T>, (block, linear): (&View, &View)) {
        let at = &a.attention;
        let (d, dv, width) = (at.d_head, at.d_v, at.heads * at.d_v);
        let mixed = rows(&self.mixed, left.nrows(), width + dv);
        accumulate(m, &block.slice_rows(h * d, d), left.transpose(), mixed.subcols(0, width), at.lambda());
        accumulate(m, &linear.slice_rows(h * d, d), left.transpose(), mixed.subcols(width, dv), at.lambda());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Builder;
    use crate::ops::attention_reference::{Random, Sequence, error, sequences, store};

    const NODES: [(f64, f64); 3] = [(0.2, 0.15), (0.5, 0.55), (0.3, 0.9)];

    #[derive(Debug)]
    struct Case {
        batch: usize,
        seq: usize,
        heads: usize,
        d_head: usize,
        d_v: usize,
        last_only: bool,
        nodes: Vec<(f64, f64)>,
    }

    /// The moment matrix over (q, k, v), and the diagonal Jacobians `[D, D_v]` summed over queries.
    fn reference(c: &Case, data: &[Sequence], p: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let (dk, dv) = (c.heads * c.d_head, c.heads * c.d_v);
        let d = 2 * dk + dv;
        let (mut moments, mut linear) = (vec![0.0; d * d], vec![0.0; d * dv]);
        for x in data {
            for s in 0..c.seq {
                let jacobian: Vec<Vec<f64>> = (0..d)
                    .map(|at| {
                        let unit = |from: usize, width: usize| -> Vec<f64> {
                            (0..c.seq * width).map(|n| f64::from(n / width == s && n % width + from == at)).collect()
                        };
                        x.averaged(&c.nodes, &unit(0, dk), &unit(dk, dk), &unit(2 * dk, dv))
                    })
                    .collect();
                for t in if c.last_only { c.seq - 1 } else { 0 }..c.seq {
                    let g: Vec<&[f64]> = jacobian.iter().map(|j| &j[t * dv..][..dv]).collect();
                    for i in 0..d {
                        let gp: Vec<f64> = (0..dv).map(|n| (0..dv).map(|m| g[i][m] * p[m * dv + n]).sum()).collect();
                        for j in 0..d {
                            moments[i * d + j] += gp.iter().zip(g[j]).map(|(x, y)| x * y).sum::<f64>();
                        }
                        if s == t {
                            linear[i * dv..][..dv].iter_mut().zip(g[i]).for_each(|(x, y)| *x += y);
                        }
                    }
                }
            }
        }
        (moments, linear)
    }

    fn symmetric(r: &mut Random, n: usize) -> Vec<f64> {
        let x = r.fill(n * n, 1.0);
        (0..n * n).map(|at| x[at] + x[at % n * n + at / n]).collect()
    }

    /// The largest relative error of any block, after a run for each size of tiles onto zeroed accumulators.
    fn run<T: Real>(c: &Case, tile_elements: &[usize]) -> f64 {
        let (heads, d, d_v, rows) = (c.heads, c.d_head, c.d_v, c.batch * c.seq);
        let (dk, dv) = (heads * d, heads * d_v);
        let scale = 0.6;
        let mut r = Random(3 + c.seq as u64);
        let data = sequences(&mut r, c.batch, c.seq, heads, d, d_v, scale);
        let p = symmetric(&mut r, dv);
        let mut b = Builder::<()>::new(T::DTYPE);
        let wide = b.matrix(rows, 2 * dk + dv + 2);
        let (q, k, v) = (wide.columns(1, dk), wide.columns(1 + dk, dk), wide.columns(1 + 2 * dk, dv));
        let mut poisoned = vec![wide.buffer];
        let mut output = |rows: usize, cols: usize| {
            let v = b.matrix(rows + 1, cols + 2);
            poisoned.push(v.buffer);
            v.slice_rows(1, rows).columns(1, cols)
        };
        let args = Args {
            p_mat: Tensor::from_f64(T::DTYPE, dv, dv, p.clone()),
            qq: output(dk, dk),
            kk: output(dk, dk),
            qk: output(dk, dk),
            qv: output(dk, dv),
            kv: output(dk, dv),
            vv: output(heads, heads),
            lq: output(dk, d_v),
            lk: output(dk, d_v),
            lv: output(1, heads),
            attention: Attention {
                batch: c.batch,
                seq: c.seq,
                heads,
                d_head: d,
                d_v,
                scale,
                last_only: c.last_only,
                nodes: c.nodes.clone(),
                q,
                k,
                v,
            },
        };
        args.check().unwrap();
        let mut m = Arena::<T>::new(&b.finish().layout);
        for buffer in poisoned {
            m.real_mut(buffer).fill(T::of(f64::NAN));
        }
        for (view, part) in [(&q, 0), (&k, 1), (&v, 2)] {
            let all: Vec<f64> = data.iter().flat_map(|s| [&s.q, &s.k, &s.v][part].clone()).collect();
            store(&mut m, view, &all);
        }
        for v in [&args.qq, &args.kk, &args.qk, &args.qv, &args.kv, &args.vv, &args.lq, &args.lk, &args.lv] {
            store(&mut m, v, &vec![0.0; v.rows * v.cols]);
        }
        tile_elements.iter().for_each(|&n| tiled(&args, &mut m, n));

        let (moments, linear) = reference(c, &data, &p);
        let times = |x: &[f64]| x.iter().map(|x| tile_elements.len() as f64 * x).collect::<Vec<_>>();
        let (moments, linear) = (times(&moments), times(&linear));
        let get = |v: &View, i: usize, j: usize| m.row(v, i)[j].to_f64();
        let width = 2 * dk + dv;
        let matrix = |rows: usize, cols: usize, f: &dyn Fn(usize, usize) -> f64| -> Vec<f64> {
            (0..rows * cols).map(|at| f(at / cols, at % cols)).collect()
        };
        // Products by P, block by block.
        let by_p = |v: &View, i: usize, j: usize| -> f64 {
            let (h, g) = (i / d, j / d_v);
            (0..d_v).map(|e| get(v, i, g * d_v + e) * p[(h * d_v + e) * dv + j]).sum()
        };
        let own = |block: usize, i: usize, e: usize| linear[(block * dk + i) * dv + i / d * d_v + e];
        let blocks = [
            (matrix(dk, dk, &|i, j| get(&args.qq, i, j)), matrix(dk, dk, &|i, j| moments[i * width + j])),
            (matrix(dk, dk, &|i, j| get(&args.qk, i, j)), matrix(dk, dk, &|i, j| moments[i * width + dk + j])),
            (matrix(dk, dk, &|i, j| get(&args.kk, i, j)), matrix(dk, dk, &|i, j| moments[(dk + i) * width + dk + j])),
            (matrix(dk, dv, &|i, j| by_p(&args.qv, i, j)), matrix(dk, dv, &|i, j| moments[i * width + 2 * dk + j])),
            (matrix(dk, dv, &|i, j| by_p(&args.kv, i, j)), matrix(dk, dv, &|i, j| moments[(dk + i) * width + 2 * dk + j])),
            (
                matrix(dv, dv, &|i, j| get(&args.vv, i / d_v, j / d_v) * p[i * dv + j]),
                matrix(dv, dv, &|i, j| moments[(2 * dk + i) * width + 2 * dk + j]),
            ),
            (matrix(dk, d_v, &|i, e| get(&args.lq, i, e)), matrix(dk, d_v, &|i, e| own(0, i, e))),
            (matrix(dk, d_v, &|i, e| get(&args.lk, i, e)), matrix(dk, d_v, &|i, e| own(1, i, e))),
            (
                matrix(dv, dv, &|i, j| if i == j { get(&args.lv, 0, i / d_v) } else { 0.0 }),
                matrix(dv, dv, &|i, j| linear[(2 * dk + i) * dv + j]),
            ),
        ];
        // A NaN is larger than every error.
        blocks.iter().map(|(x, y)| error(x, y)).fold(0.0, |x, y| if y.is_nan() || y > x { y } else { x })
    }

    fn check(batch: usize, seq: usize, heads: usize, d_head: usize, d_v: usize) {
        for last_only in [false, true] {
            for nodes in [vec![(1.0, 1.0)], NODES.to_vec()] {
                let c = Case { batch, seq, heads, d_head, d_v, last_only, nodes };
                for tiles in [[TILE_ELEMENTS].as_slice(), &[1], &[400, TILE_ELEMENTS]] {
                    let e = run::<f64>(&c, tiles);
                    assert!(e < 1e-12, "f64 {tiles:?} {c:?}: {e}");
                }
                let e = run::<f32>(&c, &[TILE_ELEMENTS]);
                assert!(e < 1e-5, "f32 {c:?}: {e}");
            }
        }
    }

    #[test]
    fn long_sequences_agree_with_brute_force_jacobians() {
        check(5, 6, 3, 4, 5);
        check(2, 13, 2, 3, 2);
    }

    #[test]
    fn short_sequences_agree_with_brute_force_jacobians() {
        check(5, 6, 3, 7, 5);
        check(4, 3, 2, 3, 6);
        check(1, 11, 1, 12, 2);
    }

    #[test]
    fn tiles_cover_every_query_once() {
        let view = Builder::<()>::new(crate::device::DType::F64).matrix(1, 1);
        for (batch, seq, width, last_only) in
            [(170, 3, 32, true), (7, 200, 64, false), (3, 2000, 64, true), (1000, 3, 256, false)]
        {
            let (d_head, d_v) = (width, width);
            let a =
                Attention { batch, seq, heads: 12, d_head, d_v, scale: 1.0, last_only, nodes: vec![], q: view, k: view, v: view };
            let mut seen = vec![0; batch * seq];
            for t in a.tiles(TILE_ELEMENTS) {
                assert!(t.sequences == 1 || t.keys == seq);
                assert!(t.keys == t.start + t.queries);
                for b in 0..t.sequences {
                    (0..t.queries).for_each(|i| seen[(t.sequence + b) * seq + t.start + i] += 1);
                }
            }
            assert!((0..batch * seq).all(|row| seen[row] == usize::from(!last_only || row % seq == seq - 1)));
        }
    }
}
