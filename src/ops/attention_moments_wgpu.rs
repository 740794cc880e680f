//! The wgpu launcher of [`super::attention_moments`]: products of matrices over the patterns and value deviations of tiles
//! of queries, which are computed first. Tiles go in order, and each adds to what the ones before it left. Element counts
//! are of one tile.

use super::attention_math::{Attention, Tile, part};
use super::attention_moments::Args;
use super::attention_tiles::{Most, PART_BYTES, tiles};
use super::attention_tiles_wgpu::{FURTHER, KEYS, OMEGA_PART, OWN, PATTERN, nodes, pattern, rows, scratch, serves};
use super::offload::{Scratch, WgpuPlace};
use super::product_wgpu::{Operand, Product};
use crate::device::wgpu::Recorded;
use crate::device::{DType, View};
use crate::error::Result;
use crate::kernel::wgsl::Limits;
use crate::kernel::wgsl::attention_tiles::{CONTRACT, ContractParams, contract as contraction};

/// `R_ht`, `[heads][d_head][queries][d_v]`.
const R: usize = FURTHER;
/// `R_ht P_hh'`, `[group][heads][d_head][queries][d_v]`.
const R_P: usize = FURTHER + 1;
/// `omega_hts P_hh'`, `[group][heads][queries][keys][d_v]`.
const OMEGA_P: usize = FURTHER + 2;
/// `[group][heads][queries][d_head]`: factors of the queries of h'.
const RIGHT: usize = FURTHER + 3;
/// `sum_s p_h'ts omega_hts`, `[heads][queries][heads][d_v]`.
const MIXED: usize = FURTHER + 4;
/// `sum_s p_hts p_h'ts`, `[queries][heads][heads]`.
const SQUARES: usize = FURTHER + 5;

/// A product whose result is added to what is there.
fn add(p: Product) -> Product {
    Product { accumulate: true, ..p }
}

/// The tiles of the moments. `group` heads h are paired with all heads h' at a time.
struct Moments {
    tiles: Vec<Tile>,
    group: usize,
}

impl Moments {
    fn new(a: &Attention) -> Self {
        let bytes = DType::F32.bytes();
        let tiles = tiles(a, DType::F32, a.heads * a.d_v * a.seq.max(a.d_head));
        let most = Most::of(&tiles);
        let whole = a.heads * most.queries * a.d_v * most.keys.max(a.d_head);
        let group = (PART_BYTES / bytes / whole.max(1)).clamp(1, a.heads);
        Self { tiles, group }
    }
    fn scratch(&self, a: &Attention, limits: &Limits) -> Option<Scratch> {
        let most = Most::of(&self.tiles);
        let (h, per_head, group) = (a.heads, a.d_head * most.queries * a.d_v, self.group);
        let further = [
            h * per_head,
            group * h * per_head,
            group * h * most.pairs * a.d_v,
            group * h * most.queries * a.d_head,
            h * most.queries * h * a.d_v,
            most.queries * h * h,
        ];
        scratch(a, &most, further, limits)
    }
    /// Everything but the products with P, which go by groups of heads.
    fn plain<'p>(&self, a: &Args, t: &Tile, one: Operand<'p>, at: &'p WgpuPlace, calls: &mut Vec<Recorded>) -> Result<()> {
        let l = &a.attention;
        let (h, d, dv, n, keys) = (l.heads, l.d_head, l.d_v, t.query_rows(), t.keys);
        let [qv, kv, vv, lq, lk, lv] = [a.qv, a.kv, a.vv, a.lq, a.lk, a.lv].map(|v| Operand::view(at, &v));
        let q = Operand::view(at, &l.queries(l.q, t)).transposed();
        let p = |row| rows(at, PATTERN, row);
        let omega = rows(at, OMEGA_PART, dv).batched([n * keys * dv, keys * dv, 0]);
        // p of each query's own key lies behind its omega.
        let diagonal = Operand { at: dv, row: n * (dv + 1), column: dv + 1, ..rows(at, OWN, 0) };
        let own = rows(at, OWN, dv + 1).batched([n * (dv + 1), 0, 0]);
        let r = rows(at, R, dv).batched([d * n * dv, n * dv, 0]);
        let mut products = Vec::new();

        // R_ht = lambda sum_s k_hs' omega_hts, for every head, sequence and query.
        let k = rows(at, KEYS, h * d).transposed().batched([d, keys * h * d, 0]);
        let each_omega = omega.batched([n * keys * dv, t.queries * keys * dv, keys * dv]);
        let each_r = rows(at, R, n * dv).batched([d * n * dv, t.queries * dv, dv]);
        let batch = [h, t.sequences, t.queries];
        products.push(Product { batch, alpha: l.scale, ..Product::new([d, dv, keys], k, each_omega, each_r) });
        // Z_hh' = sum R_ht p_h'tt, and the sums of R.
        let z = Operand { row: dv, ..qv }.batched([d * qv.row, qv.row, 0]);
        products.push(add(Product { batch: [h, d, 1], ..Product::new([h, dv, n], diagonal, r, z) }));
        let lq = lq.batched([d * lq.row, lq.row, 0]);
        products.push(add(Product { batch: [h, d, 1], ..Product::new([1, dv, n], one, r, lq) }));
        // Y_hh' = lambda sum q_ht' sum_s p_h'ts omega_hts, and the sums of q_ht' omega_htt.
        let mixed = rows(at, MIXED, dv).batched([n * h * dv, h * dv, 0]);
        let all_p = p(n * keys).batched([0, keys, 0]);
        products.push(Product { batch: [h, n, 1], ..Product::new([h, dv, keys], all_p, omega, mixed) });
        let heads = q.batched([d, 0, 0]);
        let left = |width, right, out: Operand<'p>| {
            let out = out.batched([d * out.row, 0, 0]);
            add(Product { batch: [h, 1, 1], alpha: l.scale, ..Product::new([d, width, n], heads, right, out) })
        };
        products.push(left(h * dv, rows(at, MIXED, h * dv).batched([n * h * dv, 0, 0]), kv));
        products.push(left(dv, own, lk));
        // Sums of p_htt, and of products of patterns.
        products.push(add(Product::new([h, 1, n], diagonal, one, Operand { row: 1, column: 1, ..lv })));
        let by_query = p(n * keys).batched([keys, 0, 0]);
        let squares = rows(at, SQUARES, h).batched([h * h, 0, 0]);
        products.push(Product { batch: [n, 1, 1], ..Product::new([h, h, keys], by_query, by_query.transposed(), squares) });
        let lines = rows(at, SQUARES, h * h).batched([h, 0, 0]);
        products.push(add(Product { batch: [h, 1, 1], ..Product::new([1, h, n], one, lines, vv.batched([vv.row, 0, 0])) }));
        products.iter().try_for_each(|p| p.record(at, calls))
    }
    /// QQ, KK and QK of the heads from `first` on with all heads.
    fn with_p(&self, a: &Args, t: &Tile, first: usize, p_mat: Operand, at: &WgpuPlace, calls: &mut Vec<Recorded>) -> Result<()> {
        let l = &a.attention;
        let (h, d, dv, n, keys) = (l.heads, l.d_head, l.d_v, t.query_rows(), t.keys);
        let group = self.group.min(h - first);
        let blocks = |v: &View| {
            let v = Operand::view(at, &part(v, (first * d, 0), (group * d, h * d)));
            v.batched([d * v.row, d, 0])
        };
        let queries = l.queries(l.q, t);
        let q = Operand::view(at, &queries).batched([0, d, 0]);
        let own_q = Operand::view(at, &queries.columns(first * d, group * d)).transposed().batched([d, 0, 0]);
        let p = Operand { at: first * dv * p_mat.row, ..p_mat }.batched([dv * p_mat.row, dv, 0]);
        let batch = [group, h, 1];
        // R_ht P_hh' and omega_hts P_hh'.
        for (left, each, out) in [(R, d * n, R_P), (OMEGA_PART, n * keys, OMEGA_P)] {
            let left = Operand { at: first * each * dv, ..rows(at, left, dv) }.batched([each * dv, 0, 0]);
            let out = rows(at, out, dv).batched([h * each * dv, each * dv, 0]);
            Product { batch, ..Product::new([each, dv, dv], left, p, out) }.record(at, calls)?;
        }
        // QQ_hh' += sum R_ht P_hh' R_h't'.
        let r_p = rows(at, R_P, n * dv).batched([h * d * n * dv, d * n * dv, 0]);
        let r = rows(at, R, n * dv).transposed().batched([0, d * n * dv, 0]);
        add(Product { batch, ..Product::new([d, d, n * dv], r_p, r, blocks(&a.qq)) }).record(at, calls)?;
        // KK_hh' += lambda^2 sum q_ht' (sum_s omega_hts P_hh' omega_h'ts') q_h't.
        calls.push(contract(a, t, &queries, group, at)?);
        let right = rows(at, RIGHT, d).batched([h * n * d, n * d, 0]);
        let kk = Product { batch, alpha: l.scale * l.scale, ..Product::new([d, d, n], own_q, right, blocks(&a.kk)) };
        add(kk).record(at, calls)?;
        // QK_hh' += lambda sum R_ht P_hh' omega_h'tt' q_h't.
        let r_p = r_p.batched([h * d * n * dv, d * n * dv, dv]);
        let own = rows(at, OWN, 1).batched([0, n * (dv + 1), dv + 1]);
        let out = rows(at, RIGHT, 1).batched([h * n * d, n * d, d]);
        Product { batch: [group, h, n], ..Product::new([d, 1, dv], r_p, own, out) }.record(at, calls)?;
        let qk = Product { batch, alpha: l.scale, ..Product::new([d, d, n], right.transposed(), q, blocks(&a.qk)) };
        add(qk).record(at, calls)
    }
}

/// The launch that multiplies the queries with `omega_hts P_hh' omega_h'ts'`, summed over the keys, of `group` heads h.
fn contract(a: &Args, t: &Tile, queries: &View, group: usize, at: &WgpuPlace) -> Result<Recorded> {
    let l = &a.attention;
    let (h, d, n, length) = (l.heads, l.d_head, t.query_rows(), t.keys * l.d_v);
    let units = group * h * n;
    let mut storage = at.storage();
    storage.read_buffer(at.scratch(OMEGA_P), 0..units * length)?;
    storage.read_buffer(at.scratch(OMEGA_PART), 0..h * n * length)?;
    let params = ContractParams {
        units: units as u32,
        heads: h as u32,
        queries: n as u32,
        length: length as u32,
        d: d as u32,
        q_offset: storage.read(queries)?,
        q_row: queries.stride as u32,
    };
    storage.write_buffer(at.scratch(RIGHT), 0..units * d)?;
    at.record(&CONTRACT, &contraction(), storage, &params, units as u64)
}

/// Scratch memory; `None` where there is no kernel.
pub(super) fn fits(a: &Args, limits: &Limits) -> Option<Scratch> {
    let l = &a.attention;
    let m = Moments::new(l);
    serves(l, &Most::of(&m.tiles), &[&l.q, &l.k, &l.v], limits).then(|| m.scratch(l, limits))?
}

/// The launches of an operation for which there is a kernel.
pub(super) fn bind(a: &Args, at: &WgpuPlace) -> Result<Vec<Recorded>> {
    let l = &a.attention;
    let m = Moments::new(l);
    let (nodes, one, p_mat) = (nodes(l, at)?, at.constants(bytemuck::bytes_of(&1f32))?, at.tensor(&a.p_mat)?);
    // The number 1 stands for any matrix of ones.
    let one = Operand { column: 0, ..Operand::rows(&one, 0, 0) };
    let p_mat = Operand::rows(&p_mat, 0, a.p_mat.cols);
    let mut calls = Vec::new();
    for t in &m.tiles {
        pattern(l, t, &nodes, at, &mut calls)?;
        m.plain(a, t, one, at, &mut calls)?;
        for first in (0..l.heads).step_by(m.group) {
            m.with_p(a, t, first, p_mat, at, &mut calls)?;
        }
    }
    Ok(calls)
}
