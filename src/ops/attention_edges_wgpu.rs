//! The wgpu launcher of [`super::attention_edges`]: the Jacobian of every query of a tile by products of matrices over the
//! patterns and value deviations, which are computed first, then its squares. Tiles go in order, and each adds to what the
//! ones before it left. Element counts are of one tile.

use super::attention_edges::Args;
use super::attention_math::Tile;
use super::attention_tiles::{Most, tiles};
use super::attention_tiles_wgpu::{FURTHER, KEYS, OMEGA_PART, PATTERN, nodes, pattern, rows, scratch, serves};
use super::offload::{Scratch, WgpuPlace};
use super::product_wgpu::{Operand, Product};
use crate::device::wgpu::Recorded;
use crate::device::{DType, Tensor, View};
use crate::error::Result;
use crate::kernel::wgsl::Limits;
use crate::kernel::wgsl::attention_tiles::{
    DIRECTIONS, DirectionsParams, SQUARES, SquaresParams, THREADS, VALUES, ValuesParams, configuration,
};

/// `lambda q_ht . K_hj`, `[heads][queries][k_in]`.
const ON_K: usize = FURTHER;
/// `lambda k_hs . Q_hj`, `[heads][(sequence, key)][k_in]`.
const ON_Q: usize = FURTHER + 1;
/// `sum_s p_hts f_sj`, `[heads][queries][k_in]`.
const SEEN: usize = FURTHER + 2;
/// Changes of the scores, `[heads][queries][keys][k_in]`.
const CHANGES: usize = FURTHER + 3;
/// `[queries][k_in][heads, dv1]`.
const PSI: usize = FURTHER + 4;
/// `[queries][k_in][k_out]`.
const JACOBIAN: usize = FURTHER + 5;

/// Workgroups for `n` elements.
fn groups(n: usize) -> u64 {
    n.div_ceil(THREADS as usize) as u64
}

fn tiles_of(e: &Args) -> Vec<Tile> {
    let (l, k_in, k_out, width) = (&e.attention, e.b_e.rows, e.b_e.cols, e.v_e.cols);
    let each = [l.heads * l.d_v * l.seq, l.heads * l.seq * k_in, k_in * width, k_in * k_out].into_iter().max();
    tiles(l, DType::F32, each.unwrap_or(1))
}

/// The launches of a tile whose pattern is computed.
fn tile(e: &Args, t: &Tile, weights: [Operand; 3], at: &WgpuPlace, calls: &mut Vec<Recorded>) -> Result<()> {
    let (l, k_in, k_out, width) = (&e.attention, e.b_e.rows, e.b_e.cols, e.v_e.cols);
    let (h, d, dv, dv1, n, keys) = (l.heads, l.d_head, l.d_v, width / l.heads, t.query_rows(), t.keys);
    let [q_e, k_e, o_e] = weights;
    let (q, f) = (l.queries(l.q, t), l.keys(e.f_hat, t));
    for (left, count, right, out) in [(Operand::view(at, &q), n, k_e, ON_K), (rows(at, KEYS, h * d), t.key_rows(), q_e, ON_Q)] {
        let (left, right) = (left.batched([d, 0, 0]), right.transposed().batched([d, 0, 0]));
        let out = rows(at, out, k_in).batched([count * k_in, 0, 0]);
        Product { batch: [h, 1, 1], alpha: l.scale, ..Product::new([count, k_in, d], left, right, out) }.record(at, calls)?;
    }
    let p = rows(at, PATTERN, keys).batched([n * keys, t.queries * keys, 0]);
    let values = Operand::view(at, &f).batched([0, keys * f.stride, 0]);
    let seen = rows(at, SEEN, k_in).batched([n * k_in, t.queries * k_in, 0]);
    Product { batch: [h, t.sequences, 1], ..Product::new([t.queries, k_in, keys], p, values, seen) }.record(at, calls)?;
    calls.push(directions(e, t, &f, at)?);
    // psi, first without what the values move themselves.
    let changes = rows(at, CHANGES, k_in).transposed().batched([n * keys * k_in, keys * k_in, 0]);
    let omega = rows(at, OMEGA_PART, dv).batched([n * keys * dv, keys * dv, 0]);
    let psi = rows(at, PSI, width).batched([dv1, k_in * width, 0]);
    Product { batch: [h, n, 1], ..Product::new([k_in, dv, keys], changes, omega, psi) }.record(at, calls)?;
    calls.push(moved(e, n, at)?);
    let jacobian = rows(at, JACOBIAN, k_out);
    Product::new([n * k_in, k_out, width], rows(at, PSI, width), o_e, jacobian).record(at, calls)?;
    calls.push(squares(e, &l.queries(e.f_hat, t), at)?);
    Ok(())
}

/// The launch that computes how the scores change.
fn directions(e: &Args, t: &Tile, f: &View, at: &WgpuPlace) -> Result<Recorded> {
    let (h, k_in, n) = (e.attention.heads, e.b_e.rows, t.query_rows());
    let count = h * n * t.keys * k_in;
    let mut storage = at.storage();
    let params = DirectionsParams {
        count: count as u32,
        queries: n as u32,
        each: t.queries as u32,
        keys: t.keys as u32,
        start: t.start as u32,
        key_rows: t.key_rows() as u32,
        cols: k_in as u32,
        f_offset: storage.read(f)?,
        f_row: f.stride as u32,
    };
    storage.read_buffer(at.scratch(ON_K), 0..h * n * k_in)?;
    storage.read_buffer(at.scratch(ON_Q), 0..h * t.key_rows() * k_in)?;
    storage.write_buffer(at.scratch(CHANGES), 0..count)?;
    at.record(&DIRECTIONS, &configuration(), storage, &params, groups(count))
}

/// The launch that adds what the values move themselves to psi, for `n` queries.
fn moved(e: &Args, n: usize, at: &WgpuPlace) -> Result<Recorded> {
    let (l, k_in, width) = (&e.attention, e.b_e.rows, e.v_e.cols);
    let count = n * k_in * width;
    let mut storage = at.storage();
    storage.read_buffer(at.scratch(SEEN), 0..l.heads * n * k_in)?;
    storage.weight(&e.v_e)?;
    storage.write_buffer(at.scratch(PSI), 0..count)?;
    let params = ValuesParams {
        count: count as u32,
        rows: k_in as u32,
        width: width as u32,
        wide: (width / l.heads) as u32,
        narrow: l.d_v as u32,
        queries: n as u32,
    };
    at.record(&VALUES, &configuration(), storage, &params, groups(count))
}

/// The launch that adds the squares of the Jacobians of the queries with these rows of f.
fn squares(e: &Args, f: &View, at: &WgpuPlace) -> Result<Recorded> {
    let (k_in, k_out) = (e.b_e.rows, e.b_e.cols);
    let mut storage = at.storage();
    storage.read_buffer(at.scratch(JACOBIAN), 0..f.rows * k_in * k_out)?;
    let f_offset = storage.read(f)?;
    storage.weight(&e.b_e)?;
    let params = SquaresParams {
        queries: f.rows as u32,
        rows: k_in as u32,
        cols: k_out as u32,
        f_offset,
        f_row: f.stride as u32,
        out_offset: storage.write(&e.out)?,
        out_row: e.out.stride as u32,
        one: 1.0,
    };
    at.record(&SQUARES, &configuration(), storage, &params, groups(k_in * k_out))
}

/// Scratch memory; `None` where there is no kernel.
pub(super) fn fits(e: &Args, limits: &Limits) -> Option<Scratch> {
    let (l, k_in, k_out, width) = (&e.attention, e.b_e.rows, e.b_e.cols, e.v_e.cols);
    let tiles = tiles_of(e);
    let most = Most::of(&tiles);
    let weights: [&Tensor; 5] = [&e.q_e, &e.k_e, &e.v_e, &e.o_e, &e.b_e];
    let held = weights.iter().all(|w| w.rows.saturating_mul(w.cols) <= limits.binding)
        && e.out.rows.saturating_mul(e.out.stride) <= limits.binding;
    let further = [
        l.heads * most.queries * k_in,
        l.heads * most.key_rows * k_in,
        l.heads * most.queries * k_in,
        l.heads * most.pairs * k_in,
        most.queries * k_in * width,
        most.queries * k_in * k_out,
    ];
    let served = held && k_in.min(k_out) > 0 && serves(l, &most, &[&l.q, &l.k, &l.v, &e.f_hat], limits);
    served.then(|| scratch(l, &most, further, limits))?
}

/// The launches of an operation for which there is a kernel.
pub(super) fn bind(e: &Args, at: &WgpuPlace) -> Result<Vec<Recorded>> {
    let l = &e.attention;
    let nodes = nodes(l, at)?;
    let held = [at.tensor(&e.q_e)?, at.tensor(&e.k_e)?, at.tensor(&e.o_e)?];
    let [q_e, k_e, o_e] = &held;
    let weights = [Operand::rows(q_e, 0, e.q_e.cols), Operand::rows(k_e, 0, e.k_e.cols), Operand::rows(o_e, 0, e.o_e.cols)];
    let mut calls = Vec::new();
    for t in &tiles_of(e) {
        pattern(l, t, &nodes, at, &mut calls)?;
        tile(e, t, weights, at, &mut calls)?;
    }
    Ok(calls)
}
