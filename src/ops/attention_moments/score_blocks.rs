//! The blocks of queries and keys, QQ, KK and QK: the ones that depend on P.
//!
//! Sequences no longer than a head is wide use the factors of R: with `W_t = omega_ht P_hh' omega_h't'`
//! (keys by keys), `QQ_hh' = lambda^2 K_h' (sum_t W_t) K_h'`, and KK and QK need entries of W_t only.
//! Longer ones form R, contract it with `R P`, and take the traces that KK needs from products of
//! patterns, `w_t = sum_s p_hts p_h'ts (v_hs - z_ht) P_hh' (v_h's - z_h't)'`. A quadrature has one such
//! product for each pair of nodes, so there KK is summed from omega itself.

use faer::{Accum, MatRef};

use super::Args;
use crate::device::{Arena, Real, View};
use crate::ops::Attention;
use crate::ops::attention_math::{Pattern, Tile, accumulate, add_scaled, dot, gemm, part, rows, rows_mut, scratch};

/// Which of the forms a layer uses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Factors,
    Covariances { pattern_products: bool },
}

impl Form {
    fn of(a: &Attention) -> Self {
        if a.seq <= a.d_head { Form::Factors } else { Form::Covariances { pattern_products: a.nodes == [(1.0, 1.0)] } }
    }
}

/// Scratch, sized for the largest tile.
pub(super) struct ScoreBlocks<T> {
    form: Form,
    /// `omega_h P_hh'`, `[sequence, key, query, d_v]`.
    omega_p: Vec<T>,
    /// w_t of KK, times q_h't: `[(sequence, query), d_head]`.
    weighted_q: Vec<T>,
    /// Entries of W of one sequence, `[key, key]` or `[key, query]`.
    entries: Vec<T>,
    /// Right factors of `K'`: for QQ, for QK, and for its block (h', h); `[(sequence, key), d_head]`.
    right: [Vec<T>; 3],
    /// R of all heads, `[head, d_head, (sequence, query), d_v]`.
    r: Vec<T>,
    /// `R_h P_hh'`, as one head of R.
    r_p: Vec<T>,
    /// `omega_htt`, and that times P, `[(sequence, query), d_v]`.
    own: [Vec<T>; 2],
    /// Centred z of all heads, `[head, (sequence, query), d_v]`.
    z: Vec<T>,
    /// `z_h P_hh'`, `[(sequence, query), d_v]`.
    z_p: Vec<T>,
    /// `v_h P_hh'`, `[(sequence, key), d_v]`.
    v_p: Vec<T>,
    /// `v_hs P_hh' v_h's'`, one sequence.
    norms: Vec<T>,
    /// Products of patterns, one sequence, `[query, key]`.
    products: Vec<T>,
    /// Those products times the values of h (after P) and of h', `[query, d_v]`.
    mixed: [Vec<T>; 2],
}

impl<T: Real> ScoreBlocks<T> {
    pub fn new(a: &Attention, tiles: &[Tile]) -> Self {
        let (d, dv, form) = (a.d_head, a.d_v, Form::of(a));
        let products = form == Form::Covariances { pattern_products: true };
        let factors = form == Form::Factors;
        let sized = |on: bool, size: &dyn Fn(&Tile) -> usize| scratch(tiles, |t| if on { size(t) } else { 0 });
        Self {
            form,
            omega_p: sized(!products, &|t| t.key_rows() * t.queries * dv),
            weighted_q: sized(true, &|t| t.query_rows() * d),
            entries: sized(factors, &|t| t.keys * t.keys.max(t.queries)),
            right: std::array::from_fn(|_| sized(true, &|t| t.key_rows().max(t.query_rows()) * d)),
            r: sized(!factors, &|t| a.heads * d * t.query_rows() * dv),
            r_p: sized(!factors, &|t| d * t.query_rows() * dv),
            own: std::array::from_fn(|_| sized(!factors, &|t| t.query_rows() * dv)),
            z: sized(products, &|t| a.heads * t.query_rows() * dv),
            z_p: sized(products, &|t| t.query_rows() * dv),
            v_p: sized(products, &|t| t.key_rows() * dv),
            norms: sized(products, &|t| t.keys),
            products: sized(products, &|t| t.queries * t.keys),
            mixed: std::array::from_fn(|_| sized(products, &|t| t.queries * dv)),
        }
    }
    /// Adds the tile to QQ and KK (blocks h <= h' only) and to QK.
    pub fn add(&mut self, a: &Args, m: &mut Arena<T>, t: &Tile, pattern: &Pattern<T>) {
        let at = &a.attention;
        if let Form::Covariances { pattern_products } = self.form {
            self.covariances(at, t, pattern);
            self.qk_by_covariances(a, m, t, pattern);
            if pattern_products {
                self.outputs(at, t, pattern);
            }
        }
        for h in 0..at.heads {
            for g in h..at.heads {
                if self.form == (Form::Covariances { pattern_products: true }) {
                    self.weights_by_products(a, t, pattern, h, g);
                } else {
                    let left = rows(pattern.omega(at, t, h), t.key_rows() * t.queries, at.d_v);
                    let dst = rows_mut(&mut self.omega_p, t.key_rows() * t.queries, at.d_v);
                    gemm(dst, Accum::Replace, left, p_block(a, h, g), T::ONE);
                    self.weights(at, t, pattern, g);
                }
                let (d, l) = (at.d_head, at.lambda::<T>());
                let right = rows(&self.weighted_q, t.query_rows(), d);
                accumulate(m, &part(&a.kk, (h * d, g * d), (d, d)), pattern.queries(at, t, h).transpose(), right, l * l);
                if self.form == Form::Factors {
                    self.by_factors(a, m, t, pattern, (h, g));
                } else {
                    self.qq_by_covariances(a, m, t, (h, g));
                }
            }
        }
    }
    /// `weighted_q_t = (sum_s omega_hts P omega_h'ts') q_h't` from `omega_p`; g stands for h'.
    fn weights(&mut self, a: &Attention, t: &Tile, pattern: &Pattern<T>, g: usize) {
        self.weighted_q[..t.query_rows() * a.d_head].fill(T::ZERO);
        let omega = pattern.omega(a, t, g).chunks_exact(a.d_v);
        for (at, (x, y)) in self.omega_p.chunks_exact(a.d_v).zip(omega).enumerate() {
            let i = at / (t.keys * t.queries) * t.queries + at % t.queries;
            add_scaled(&mut self.weighted_q[i * a.d_head..][..a.d_head], dot(x, y), pattern.query(a, g, i));
        }
    }
    /// QQ, QK and its block (h', h) from the factors of R.
    fn by_factors(&mut self, a: &Args, m: &mut Arena<T>, t: &Tile, pattern: &Pattern<T>, (h, g): (usize, usize)) {
        let at = &a.attention;
        let (d, n, keys) = (at.d_head, t.queries, t.keys);
        let size = keys * n * at.d_v;
        for b in 0..t.sequences {
            let (x, y) = (&self.omega_p[b * size..][..size], &pattern.omega(at, t, g)[b * size..][..size]);
            let [qq, qk, kq] = self.right.each_mut().map(|right| rows_mut(&mut right[b * keys * d..], keys, d));
            let (k, q) = (|h| pattern.keys(at, t, h).subrows(b * keys, keys), |h| pattern.queries(at, t, h).subrows(b * n, n));
            gram(x, y, keys, &mut self.entries);
            gemm(qq, Accum::Replace, rows(&self.entries, keys, keys), k(g), T::ONE);
            own_entries(x, y, t, at.d_v, &mut self.entries);
            gemm(qk, Accum::Replace, rows(&self.entries, keys, n), q(g), T::ONE);
            if g > h {
                own_entries(y, x, t, at.d_v, &mut self.entries);
                gemm(kq, Accum::Replace, rows(&self.entries, keys, n), q(h), T::ONE);
            }
        }
        let l = at.lambda::<T>();
        let mut add = |v: &View, h: usize, g: usize, right: &[T]| {
            let left = pattern.keys(at, t, h).transpose();
            accumulate(m, &part(v, (h * d, g * d), (d, d)), left, rows(right, t.key_rows(), d), l * l);
        };
        add(&a.qq, h, g, &self.right[0]);
        add(&a.qk, h, g, &self.right[1]);
        if g > h {
            add(&a.qk, g, h, &self.right[2]);
        }
    }
    /// `R_ht = lambda sum_s k_hs' omega_hts` of all heads.
    fn covariances(&mut self, a: &Attention, t: &Tile, pattern: &Pattern<T>) {
        let (d, width) = (a.d_head, t.queries * a.d_v);
        for (h, r) in self.r.chunks_exact_mut(d * t.sequences * width).take(a.heads).enumerate() {
            for b in 0..t.sequences {
                let k = pattern.keys(a, t, h).subrows(b * t.keys, t.keys);
                let omega = rows(&pattern.omega(a, t, h)[b * t.keys * width..], t.keys, width);
                let dst = rows_mut(r, d, t.sequences * width).subcols_mut(b * width, width);
                gemm(dst, Accum::Replace, k.transpose(), omega, a.lambda());
            }
        }
    }
    /// `QQ_hh' += sum_t R_ht P_hh' R_h't'`.
    fn qq_by_covariances(&mut self, a: &Args, m: &mut Arena<T>, t: &Tile, (h, g): (usize, usize)) {
        let at = &a.attention;
        let (d, width) = (at.d_head, t.query_rows() * at.d_v);
        let r = |h: usize| &self.r[h * d * width..][..d * width];
        gemm(
            rows_mut(&mut self.r_p, d * t.query_rows(), at.d_v),
            Accum::Replace,
            rows(r(h), d * t.query_rows(), at.d_v),
            p_block(a, h, g),
            T::ONE,
        );
        let left = rows(&self.r_p, d, width);
        accumulate(m, &part(&a.qq, (h * d, g * d), (d, d)), left, rows(r(g), d, width).transpose(), T::ONE);
    }
    /// `QK_hh' += lambda sum_t (R_ht P_hh' omega_h'tt') q_h't` for every pair of heads.
    fn qk_by_covariances(&mut self, a: &Args, m: &mut Arena<T>, t: &Tile, pattern: &Pattern<T>) {
        let at = &a.attention;
        let (n, d, dv) = (t.query_rows(), at.d_head, at.d_v);
        for g in 0..at.heads {
            for (i, own) in self.own[0].chunks_exact_mut(dv).take(n).enumerate() {
                own.copy_from_slice(own_omega(pattern.omega(at, t, g), t, dv, i));
            }
            for h in 0..at.heads {
                let [own, own_p] = &mut self.own;
                gemm(rows_mut(own_p, n, dv), Accum::Replace, rows(own, n, dv), p_block(a, g, h), T::ONE);
                let r = self.r[h * d * n * dv..][..d * n * dv].chunks_exact(dv);
                for (at, r) in r.enumerate() {
                    let (row, i) = (at / n, at % n);
                    self.right[0][i * d + row] = dot(r, &own_p[i * dv..][..dv]);
                }
                let left = rows(&self.right[0], n, d).transpose();
                accumulate(m, &part(&a.qk, (h * d, g * d), (d, d)), left, pattern.queries(at, t, g), at.lambda());
            }
        }
    }
    /// `z_ht = sum_s p_hts v_hs` of all heads, from the centred values.
    fn outputs(&mut self, a: &Attention, t: &Tile, pattern: &Pattern<T>) {
        let (n, keys, dv) = (t.queries, t.keys, a.d_v);
        for (at, z) in self.z.chunks_exact_mut(n * dv).take(a.heads * t.sequences).enumerate() {
            let (h, b) = (at / t.sequences, at % t.sequences);
            let p = rows(&pattern.p(t, h)[b * n * keys..], n, keys);
            gemm(rows_mut(z, n, dv), Accum::Replace, p, pattern.values(a, t, h).subrows(b * keys, keys), T::ONE);
        }
    }
    /// `weighted_q` from products of patterns, for the plain gradient.
    fn weights_by_products(&mut self, a: &Args, t: &Tile, pattern: &Pattern<T>, h: usize, g: usize) {
        let at = &a.attention;
        let (n, keys, d, dv, all) = (t.queries, t.keys, at.d_head, at.d_v, t.query_rows());
        let p = p_block(a, h, g);
        gemm(rows_mut(&mut self.v_p, t.key_rows(), dv), Accum::Replace, pattern.values(at, t, h), p, T::ONE);
        gemm(rows_mut(&mut self.z_p, all, dv), Accum::Replace, rows(&self.z[h * all * dv..], all, dv), p, T::ONE);
        for b in 0..t.sequences {
            let v_p = &self.v_p[b * keys * dv..][..keys * dv];
            for (s, (x, norm)) in v_p.chunks_exact(dv).zip(&mut self.norms).enumerate() {
                *norm = dot(x, pattern.value(at, g, b * keys + s));
            }
            let patterns = pattern.p(t, h)[b * n * keys..].iter().zip(&pattern.p(t, g)[b * n * keys..]);
            for (out, (&x, &y)) in self.products.iter_mut().zip(patterns).take(n * keys) {
                *out = x * y;
            }
            let products = rows(&self.products, n, keys);
            let [left, right] = &mut self.mixed;
            gemm(rows_mut(left, n, dv), Accum::Replace, products, rows(v_p, keys, dv), T::ONE);
            let v = pattern.values(at, t, g).subrows(b * keys, keys);
            gemm(rows_mut(right, n, dv), Accum::Replace, products, v, T::ONE);
            for i in 0..n {
                let row = b * n + i;
                let (z, z_p) = (&self.z[(g * all + row) * dv..][..dv], &self.z_p[row * dv..][..dv]);
                let products = &self.products[i * keys..][..keys];
                let total: T = products.iter().copied().sum();
                let w = dot(products, &self.norms[..keys]) - dot(&left[i * dv..][..dv], z) - dot(&right[i * dv..][..dv], z_p)
                    + total * dot(z_p, z);
                for (out, &q) in self.weighted_q[row * d..][..d].iter_mut().zip(pattern.query(at, g, row)) {
                    *out = w * q;
                }
            }
        }
    }
}

/// `sum_t x_st . y_s't` for all pairs of keys.
fn gram<T: Real>(x: &[T], y: &[T], keys: usize, out: &mut [T]) {
    let width = x.len() / keys;
    gemm(rows_mut(out, keys, keys), Accum::Replace, rows(x, keys, width), rows(y, keys, width).transpose(), T::ONE);
}

/// `x_st . y_tt` for every key s and query t of one sequence.
fn own_entries<T: Real>(x: &[T], y: &[T], t: &Tile, dv: usize, out: &mut [T]) {
    for ((i, x), out) in x.chunks_exact(dv).enumerate().zip(out) {
        *out = dot(x, own_omega(y, t, dv, i % t.queries));
    }
}

/// omega_htt of query `i` of the tile.
fn own_omega<'a, T>(omega: &'a [T], t: &Tile, dv: usize, i: usize) -> &'a [T] {
    let (b, query) = (i / t.queries, i % t.queries);
    &omega[((b * t.keys + t.start + query) * t.queries + query) * dv..][..dv]
}

/// P_hh'.
fn p_block<T: Real>(a: &Args, h: usize, g: usize) -> MatRef<'_, T> {
    let dv = a.attention.d_v;
    rows(a.p_mat.slice(), a.p_mat.rows, a.p_mat.cols).submatrix(h * dv, g * dv, dv, dv)
}
