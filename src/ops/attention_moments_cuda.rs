//! The CUDA launcher of [`super::attention_moments`], f32 and f64: products of matrices over the patterns and
//! value deviations of tiles of queries, which are computed first. Tiles go in order, and each adds to what the
//! ones before it left. Element counts are of one tile.

use super::attention_math::{Attention, Tile, part};
use super::attention_moments::Args;
use super::attention_tiles::{Most, PART_BYTES, tiles};
use super::attention_tiles_cuda::{Pattern, nodes, rows, serves};
use super::offload::Place;
use super::parts::Parts;
use super::product_cuda::{Operand, Product, fits};
use crate::device::cuda::Call;
use crate::device::{DType, View};
use crate::error::Result;
use crate::kernel::attention_tiles::{CONTRACT, ContractParams, WARPS, configuration};
use crate::kernel::tuning::Limits;

/// A number 1 that stands for any matrix of ones.
fn ones(at: &mut Place) -> Result<Operand> {
    let one = match at.dtype() {
        DType::F32 => at.constants(bytemuck::bytes_of(&1f32)),
        DType::F64 => at.constants(bytemuck::bytes_of(&1f64)),
    };
    Ok(Operand { column: 0, ..Operand::rows(one?, 0) })
}

/// A product whose result is added to what is there.
fn add(p: Product) -> Product {
    Product { accumulate: true, ..p }
}

/// The parts of the scratch memory of the moments. `group` heads h are paired with all heads h' at a time.
struct Moments {
    tiles: Vec<Tile>,
    group: usize,
    pattern: Pattern,
    /// `R_ht`, `[heads][d_head][queries][d_v]`.
    r: u64,
    /// `R_ht P_hh'`, `[group][heads][d_head][queries][d_v]`.
    r_p: u64,
    /// `omega_hts P_hh'`, `[group][heads][queries][keys][d_v]`.
    omega_p: u64,
    /// `[group][heads][queries][d_head]`: factors of the queries of h'.
    right: u64,
    /// `sum_s p_h'ts omega_hts`, `[heads][queries][heads][d_v]`.
    mixed: u64,
    /// `sum_s p_hts p_h'ts`, `[queries][heads][heads]`.
    squares: u64,
    /// Of all parts.
    bytes: u64,
}

impl Moments {
    fn new(a: &Attention, dtype: DType, start: u64) -> Self {
        let each = a.heads * a.d_v * a.seq.max(a.d_head);
        let tiles = tiles(a, dtype, each);
        let most = Most::of(&tiles);
        let whole = a.heads * most.queries * a.d_v * most.keys.max(a.d_head);
        let group = (PART_BYTES / dtype.bytes() / whole.max(1)).clamp(1, a.heads);
        let mut parts = Parts::new(start);
        let per_head = a.d_head * most.queries * a.d_v;
        let pattern = Pattern::new(a, &most, &mut parts, dtype);
        let mut take = |n| parts.take_numbers(n, dtype);
        Self {
            group,
            pattern,
            r: take(a.heads * per_head),
            r_p: take(group * a.heads * per_head),
            omega_p: take(group * a.heads * most.pairs * a.d_v),
            right: take(group * a.heads * most.queries * a.d_head),
            mixed: take(a.heads * most.queries * a.heads * a.d_v),
            squares: take(most.queries * a.heads * a.heads),
            tiles,
            bytes: parts.bytes(),
        }
    }
    /// Everything but the products with P, which go by groups of heads.
    fn plain(&self, a: &Args, t: &Tile, one: Operand, at: &Place) -> Result<Vec<Call>> {
        let l = &a.attention;
        let (h, d, dv, n, keys) = (l.heads, l.d_head, l.d_v, t.query_rows(), t.keys);
        let pattern = &self.pattern;
        let [qv, kv, vv, lq, lk, lv] = [a.qv, a.kv, a.vv, a.lq, a.lk, a.lv].map(|v| Operand::view(at, &v));
        let q = Operand::view(at, &l.queries(l.q, t)).transposed();
        let p = |row| rows(pattern.p, row);
        let omega = rows(pattern.omega, dv).batched([n * keys * dv, keys * dv, 0]);
        let diagonal = rows(pattern.diagonal, n);
        let r = rows(self.r, dv).batched([d * n * dv, n * dv, 0]);
        let mut products = Vec::new();

        // R_ht = lambda sum_s k_hs' omega_hts, for every head, sequence and query.
        let k = rows(pattern.k, h * d).transposed().batched([d, keys * h * d, 0]);
        let each_omega = omega.batched([n * keys * dv, t.queries * keys * dv, keys * dv]);
        let each_r = rows(self.r, n * dv).batched([d * n * dv, t.queries * dv, dv]);
        let batch = [h, t.sequences, t.queries];
        products.push(Product { batch, alpha: l.scale, ..Product::new([d, dv, keys], k, each_omega, each_r) });
        // Z_hh' = sum R_ht p_h'tt, and the sums of R.
        let z = Operand { row: dv, ..qv }.batched([d * qv.row, qv.row, 0]);
        products.push(add(Product { batch: [h, d, 1], ..Product::new([h, dv, n], diagonal, r, z) }));
        let lq = lq.batched([d * lq.row, lq.row, 0]);
        products.push(add(Product { batch: [h, d, 1], ..Product::new([1, dv, n], one, r, lq) }));
        // Y_hh' = lambda sum q_ht' sum_s p_h'ts omega_hts, and the sums of q_ht' omega_htt.
        let mixed = rows(self.mixed, dv).batched([n * h * dv, h * dv, 0]);
        let all_p = p(n * keys).batched([0, keys, 0]);
        products.push(Product { batch: [h, n, 1], ..Product::new([h, dv, keys], all_p, omega, mixed) });
        let heads = q.batched([d, 0, 0]);
        let left = |width, right: Operand, out: Operand| {
            let out = out.batched([d * out.row, 0, 0]);
            add(Product { batch: [h, 1, 1], alpha: l.scale, ..Product::new([d, width, n], heads, right, out) })
        };
        products.push(left(h * dv, rows(self.mixed, h * dv).batched([n * h * dv, 0, 0]), kv));
        products.push(left(dv, rows(pattern.own, dv).batched([n * dv, 0, 0]), lk));
        // Sums of p_htt, and of products of patterns.
        products.push(add(Product::new([h, 1, n], diagonal, one, Operand { row: 1, column: 1, ..lv })));
        let by_query = p(n * keys).batched([keys, 0, 0]);
        let squares = rows(self.squares, h).batched([h * h, 0, 0]);
        products.push(Product { batch: [n, 1, 1], ..Product::new([h, h, keys], by_query, by_query.transposed(), squares) });
        let lines = rows(self.squares, h * h).batched([h, 0, 0]);
        products.push(add(Product { batch: [h, 1, 1], ..Product::new([1, h, n], one, lines, vv.batched([vv.row, 0, 0])) }));
        products.iter().map(|p| p.call(at)).collect()
    }
    /// QQ, KK and QK of the heads from `first` on with all heads.
    fn with_p(&self, a: &Args, t: &Tile, first: usize, p_mat: Operand, at: &Place) -> Result<Vec<Call>> {
        let l = &a.attention;
        let (h, d, dv, n, keys) = (l.heads, l.d_head, l.d_v, t.query_rows(), t.keys);
        let (group, bytes) = (self.group.min(h - first), at.dtype().bytes());
        let offset = |n: usize| (n * bytes) as u64;
        let blocks = |v: &View| {
            let v = Operand::view(at, &part(v, (first * d, 0), (group * d, h * d)));
            v.batched([d * v.row, d, 0])
        };
        let queries = l.queries(l.q, t);
        let q = Operand::view(at, &queries).batched([0, d, 0]);
        let own_q = Operand::view(at, &queries.columns(first * d, group * d)).transposed().batched([d, 0, 0]);
        let p = Operand { at: p_mat.at + offset(first * dv * p_mat.row), ..p_mat }.batched([dv * p_mat.row, dv, 0]);
        let batch = [group, h, 1];
        // R_ht P_hh' and omega_hts P_hh'.
        let by_p = |left: u64, each: usize, out: u64| {
            let left = rows(left + offset(first * each * dv), dv).batched([each * dv, 0, 0]);
            let out = rows(out, dv).batched([h * each * dv, each * dv, 0]);
            Product { batch, ..Product::new([each, dv, dv], left, p, out) }.call(at)
        };
        let mut calls = vec![by_p(self.r, d * n, self.r_p)?, by_p(self.pattern.omega, n * keys, self.omega_p)?];
        // QQ_hh' += sum R_ht P_hh' R_h't'.
        let r_p = rows(self.r_p, n * dv).batched([h * d * n * dv, d * n * dv, 0]);
        let r = rows(self.r, n * dv).transposed().batched([0, d * n * dv, 0]);
        calls.push(add(Product { batch, ..Product::new([d, d, n * dv], r_p, r, blocks(&a.qq)) }).call(at)?);
        // KK_hh' += lambda^2 sum q_ht' (sum_s omega_hts P_hh' omega_h'ts') q_h't.
        let params = ContractParams {
            a: self.omega_p,
            b: self.pattern.omega,
            q: at.view(&queries),
            out: self.right,
            queries: n as u32,
            length: (keys * dv) as u32,
            d: d as u32,
            q_row: queries.stride as u32,
        };
        let grid = [(n as u32).div_ceil(WARPS), h as u32, group as u32];
        calls.push(at.call(&CONTRACT, &configuration(at.dtype()), grid, &params)?);
        let right = rows(self.right, d).batched([h * n * d, n * d, 0]);
        let kk = Product { batch, alpha: l.scale * l.scale, ..Product::new([d, d, n], own_q, right, blocks(&a.kk)) };
        calls.push(add(kk).call(at)?);
        // QK_hh' += lambda sum R_ht P_hh' omega_h'tt' q_h't.
        let r_p = r_p.batched([h * d * n * dv, d * n * dv, dv]);
        let own = rows(self.pattern.own, 1).batched([0, n * dv, dv]);
        let out = rows(self.right, 1).batched([h * n * d, n * d, d]);
        calls.push(Product { batch: [group, h, n], ..Product::new([d, 1, dv], r_p, own, out) }.call(at)?);
        let qk = Product { batch, alpha: l.scale, ..Product::new([d, d, n], right.transposed(), q, blocks(&a.qk)) };
        calls.push(add(qk).call(at)?);
        Ok(calls)
    }
}

/// Bytes of scratch memory; `None` where there is no kernel.
pub(super) fn scratch(a: &Args, dtype: DType, limits: &Limits) -> Option<u64> {
    let l = &a.attention;
    let m = Moments::new(l, dtype, 0);
    let most = Most::of(&m.tiles);
    let largest = m.group * l.heads * l.d_v * (most.queries * l.d_head).max(most.pairs);
    let products = [[most.pairs.max(most.queries * l.d_head), l.d_v, l.d_v], [l.d_head, l.d_head, most.queries * l.d_v]];
    let served = serves(l, limits, largest) && products.iter().all(|p| fits(dtype, *p, [m.group, l.heads, 1], limits));
    served.then_some(m.bytes)
}

/// The calls of a launch for which there are kernels.
pub(super) fn bind(a: &Args, at: &mut Place) -> Result<Vec<Call>> {
    let l = &a.attention;
    let m = Moments::new(l, at.dtype(), at.scratch());
    let (nodes, one, p_mat) = (nodes(l, at)?, ones(at)?, rows(at.tensor(&a.p_mat)?, a.p_mat.cols));
    let mut calls = Vec::new();
    for t in &m.tiles {
        m.pattern.calls(l, t, nodes, at, &mut calls)?;
        calls.extend(m.plain(a, t, one, at)?);
        for first in (0..l.heads).step_by(m.group) {
            calls.extend(m.with_p(a, t, first, p_mat, at)?);
        }
    }
    Ok(calls)
}
