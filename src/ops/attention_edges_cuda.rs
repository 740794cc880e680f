//! The CUDA launcher of [`super::attention_edges`], f32 and f64: the Jacobian of every query of a tile by
//! products of matrices over the patterns and value deviations, which are computed first, then its squares.
//! Tiles go in order, and each adds to what the ones before it left. Element counts are of one tile.

use super::attention_edges::Args;
use super::attention_math::Tile;
use super::attention_tiles::{Most, tiles};
use super::attention_tiles_cuda::{Pattern, nodes, rows, serves};
use super::extents::{MOST, MOST_PLANES};
use super::offload::Place;
use super::parts::Parts;
use super::product_cuda::{Operand, Product, fits};
use crate::device::DType;
use crate::device::cuda::Call;
use crate::error::Result;
use crate::kernel::attention_tiles::{
    DIRECTIONS, DirectionsParams, SQUARES, SquaresParams, THREADS, VALUES, ValuesParams, WARPS, configuration,
};
use crate::kernel::tuning::Limits;

/// The parts of the scratch memory of the edges.
struct Edges {
    tiles: Vec<Tile>,
    pattern: Pattern,
    /// `lambda q_ht . K_hj`, `[heads][queries][k_in]`.
    on_k: u64,
    /// `lambda k_hs . Q_hj`, `[heads][(sequence, key)][k_in]`.
    on_q: u64,
    /// `sum_s p_hts f_sj`, `[heads][queries][k_in]`.
    a: u64,
    /// Changes of the scores, `[heads][queries][keys][k_in]`.
    changes: u64,
    /// `[queries][k_in][heads, dv1]`.
    psi: u64,
    /// `[queries][k_in][k_out]`.
    jacobian: u64,
    /// Of all parts.
    bytes: u64,
}

impl Edges {
    fn new(e: &Args, dtype: DType, start: u64) -> Self {
        let (l, k_in, k_out, width) = (&e.attention, e.b_e.rows, e.b_e.cols, e.v_e.cols);
        let each = [l.heads * l.d_v * l.seq, l.heads * l.seq * k_in, k_in * width, k_in * k_out].into_iter().max();
        let tiles = tiles(l, dtype, each.unwrap_or(1));
        let most = Most::of(&tiles);
        let mut parts = Parts::new(start);
        let pattern = Pattern::new(l, &most, &mut parts, dtype);
        let mut take = |n| parts.take_numbers(n, dtype);
        Self {
            pattern,
            on_k: take(l.heads * most.queries * k_in),
            on_q: take(l.heads * most.key_rows * k_in),
            a: take(l.heads * most.queries * k_in),
            changes: take(l.heads * most.pairs * k_in),
            psi: take(most.queries * k_in * width),
            jacobian: take(most.queries * k_in * k_out),
            tiles,
            bytes: parts.bytes(),
        }
    }
    fn calls(&self, e: &Args, t: &Tile, weights: &[Operand; 5], at: &Place) -> Result<Vec<Call>> {
        let (l, k_in, k_out, width) = (&e.attention, e.b_e.rows, e.b_e.cols, e.v_e.cols);
        let (h, d, dv, dv1, n, keys) = (l.heads, l.d_head, l.d_v, width / l.heads, t.query_rows(), t.keys);
        let [q_e, k_e, v_e, o_e, b_e] = *weights;
        let configuration = configuration(at.dtype());
        let (q, f, own_f) = (l.queries(l.q, t), l.keys(e.f_hat, t), l.queries(e.f_hat, t));
        let columns = (k_in as u32).div_ceil(THREADS);
        let along = |left: Operand, count: usize, right: Operand, out: u64| {
            let (left, right) = (left.batched([d, 0, 0]), right.transposed().batched([d, 0, 0]));
            let out = rows(out, k_in).batched([count * k_in, 0, 0]);
            Product { batch: [h, 1, 1], alpha: l.scale, ..Product::new([count, k_in, d], left, right, out) }.call(at)
        };
        let mut calls = vec![along(Operand::view(at, &q), n, k_e, self.on_k)?];
        calls.push(along(rows(self.pattern.k, h * d), t.key_rows(), q_e, self.on_q)?);
        let p = rows(self.pattern.p, keys).batched([n * keys, t.queries * keys, 0]);
        let values = Operand::view(at, &f).batched([0, keys * f.stride, 0]);
        let a = rows(self.a, k_in).batched([n * k_in, t.queries * k_in, 0]);
        calls.push(Product { batch: [h, t.sequences, 1], ..Product::new([t.queries, k_in, keys], p, values, a) }.call(at)?);
        let params = DirectionsParams {
            f: at.view(&f),
            on_k: self.on_k,
            on_q: self.on_q,
            c: self.changes,
            sequence_stride: (keys * f.stride) as u64,
            each: t.queries as u32,
            keys: keys as u32,
            start: t.start as u32,
            key_rows: t.key_rows() as u32,
            cols: k_in as u32,
            stride: f.stride as u32,
        };
        calls.push(at.call(&DIRECTIONS, &configuration, [columns, n as u32, h as u32], &params)?);
        // psi, first without what the values move themselves.
        let changes = rows(self.changes, k_in).transposed().batched([n * keys * k_in, keys * k_in, 0]);
        let omega = rows(self.pattern.omega, dv).batched([n * keys * dv, keys * dv, 0]);
        let psi = rows(self.psi, width).batched([dv1, k_in * width, 0]);
        calls.push(Product { batch: [h, n, 1], ..Product::new([k_in, dv, keys], changes, omega, psi) }.call(at)?);
        let params = ValuesParams {
            a: self.a,
            v: v_e.at,
            psi: self.psi,
            width: width as u32,
            wide: dv1 as u32,
            narrow: dv as u32,
            queries: n as u32,
        };
        let grid = [(width as u32).div_ceil(THREADS), k_in as u32, n as u32];
        calls.push(at.call(&VALUES, &configuration, grid, &params)?);
        let jacobian = Product::new([n * k_in, k_out, width], rows(self.psi, width), o_e, rows(self.jacobian, k_out));
        calls.push(jacobian.call(at)?);
        let params = SquaresParams {
            j: self.jacobian,
            f: at.view(&own_f),
            b: b_e.at,
            out: at.view(&e.out),
            out_row: e.out.stride as u64,
            queries: n as u32,
            rows: k_in as u32,
            cols: k_out as u32,
            f_row: own_f.stride as u32,
        };
        calls.push(at.call(
            &SQUARES,
            &configuration,
            [(k_out as u32).div_ceil(32), (k_in as u32).div_ceil(WARPS), 1],
            &params,
        )?);
        Ok(calls)
    }
}

/// Bytes of scratch memory; `None` where there is no kernel.
pub(super) fn scratch(e: &Args, dtype: DType, limits: &Limits) -> Option<u64> {
    let (l, k_in, k_out, width) = (&e.attention, e.b_e.rows, e.b_e.cols, e.v_e.cols);
    let m = Edges::new(e, dtype, 0);
    let most = Most::of(&m.tiles);
    let largest = (most.queries * k_in * width.max(k_out)).max(l.heads * most.pairs * k_in.max(l.d_v));
    let served = serves(l, limits, largest)
        && k_in.min(k_out) > 0
        && k_in <= MOST_PLANES
        && e.f_hat.stride.max(e.out.stride).saturating_mul(l.seq) < MOST
        && fits(dtype, [most.queries * k_in, k_out, width], [1; 3], limits)
        && fits(dtype, [k_in, l.d_v, most.keys], [l.heads, most.queries, 1], limits);
    served.then_some(m.bytes)
}

/// The calls of a launch for which there are kernels.
pub(super) fn bind(e: &Args, at: &mut Place) -> Result<Vec<Call>> {
    let l = &e.attention;
    let m = Edges::new(e, at.dtype(), at.scratch());
    let nodes = nodes(l, at)?;
    let mut weights = Vec::new();
    for tensor in [&e.q_e, &e.k_e, &e.v_e, &e.o_e, &e.b_e] {
        weights.push(rows(at.tensor(tensor)?, tensor.cols));
    }
    let Ok(weights) = <[Operand; 5]>::try_from(weights) else { return Ok(Vec::new()) };
    let mut calls = Vec::new();
    for t in &m.tiles {
        m.pattern.calls(l, t, nodes, at, &mut calls)?;
        calls.extend(m.calls(e, t, &weights, at)?);
    }
    Ok(calls)
}
