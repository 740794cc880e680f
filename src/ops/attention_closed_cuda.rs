//! The CUDA launchers of [`super::attention_moments`] and [`super::attention_edges`], f32 and f64: patterns
//! and value deviations by kernels of their own, the rest by products of matrices over scratch memory.
//!
//! Both go over tiles of queries that follow from the shape alone, in order; each tile adds to what the
//! ones before it left. Element counts below are of one tile.

use super::attention_math::{Attention, Tile, part};
use super::offload::Place;
use super::product_cuda::{Operand, Product, fits};
use super::{attention_edges as edges, attention_moments as moments};
use crate::device::cuda::Call;
use crate::device::{DType, View};
use crate::error::Result;
use crate::kernel::attention_tiles::{
    CENTRE, CONTRACT, CentreParams, ContractParams, DIRECTIONS, DirectionsParams, OMEGA, OmegaParams, SQUARES, SquaresParams,
    THREADS, VALUES, ValuesParams, WARPS, configuration,
};
use crate::kernel::tuning::Limits;

/// Bytes of each of the about four large parts of the scratch memory, where one query takes no more.
const PART_BYTES: usize = 16 << 20;
/// Multiple of bytes at which each part begins.
const ALIGN: u64 = 256;
/// Queries of a tile at most.
const MOST_QUERIES: usize = 256;
/// Queries of a tile that is part of a sequence at most: a tile computes all pairs of its queries and of the
/// keys up to the last of them, seen or not.
const MOST_OF_SEQUENCE: usize = 64;
/// CTAs along the second and third dimension of a grid.
const MOST_PLANES: usize = 65_535;
/// One more than the largest index that the kernels compute in 32 bits with a sign.
const MOST: usize = 1 << 30;

/// Hands out parts of the scratch memory.
struct Scratch {
    next: u64,
    element: u64,
}

impl Scratch {
    fn new(start: u64, dtype: DType) -> Self {
        Self { next: start, element: dtype.bytes() as u64 }
    }
    /// The address of `n` elements.
    fn take(&mut self, n: usize) -> u64 {
        let at = self.next;
        self.next += (n as u64 * self.element).next_multiple_of(ALIGN);
        at
    }
}

/// The sizes of the largest tile.
#[derive(Clone, Copy)]
struct Most {
    /// Queries of all sequences.
    queries: usize,
    /// Keys of one sequence.
    keys: usize,
    /// Keys of all sequences.
    key_rows: usize,
    /// Pairs of a query and a key of its sequence.
    pairs: usize,
}

impl Most {
    fn of(tiles: &[Tile]) -> Self {
        let most = |size: &dyn Fn(&Tile) -> usize| tiles.iter().map(size).max().unwrap_or(0);
        Self {
            queries: most(&Tile::query_rows),
            keys: most(&|t| t.keys),
            key_rows: most(&Tile::key_rows),
            pairs: most(&|t| t.query_rows() * t.keys),
        }
    }
}

/// Tiles of which a query takes `each` elements of the largest part.
fn tiles(a: &Attention, dtype: DType, each: usize) -> Vec<Tile> {
    let fit = (PART_BYTES / dtype.bytes() / each.max(1)).clamp(1, MOST_QUERIES);
    let long = !a.last_only && a.seq > MOST_OF_SEQUENCE;
    a.cut(if long { fit.min(MOST_OF_SEQUENCE) } else { fit }, 1)
}

/// Whether the kernels serve a layer whose largest part has `largest` elements.
fn serves(a: &Attention, limits: &Limits, largest: usize) -> bool {
    let sizes = [a.batch * a.seq, a.q.stride, a.k.stride, a.v.stride];
    let rows = a.seq.saturating_mul(a.q.stride.max(a.k.stride).max(a.v.stride));
    limits.capability >= (8, 0)
        && a.batch * a.seq > 0
        && a.seq <= MOST_PLANES
        && a.heads <= MOST_PLANES
        && sizes.into_iter().chain([rows, largest]).all(|n| n < MOST)
}

/// A part of the scratch memory as rows of `stride` elements.
fn rows(at: u64, stride: usize) -> Operand {
    Operand::rows(at, stride)
}

/// What both operations compute of a tile first.
#[derive(Clone, Copy)]
struct Pattern {
    /// Centred, `[(sequence, key), heads d_head]`.
    k: u64,
    /// Centred, `[(sequence, key), heads d_v]`.
    v: u64,
    /// `[heads][queries][keys]`, as p.
    scores: u64,
    p: u64,
    /// `[heads][queries][keys][d_v]`.
    omega: u64,
    /// `[heads][queries]`: p of each query's own key.
    diagonal: u64,
    /// `[heads][queries][d_v]`: omega of each query's own key.
    own: u64,
}

impl Pattern {
    fn new(a: &Attention, most: &Most, s: &mut Scratch) -> Self {
        Self {
            k: s.take(most.key_rows * a.heads * a.d_head),
            v: s.take(most.key_rows * a.heads * a.d_v),
            scores: s.take(a.heads * most.pairs),
            p: s.take(a.heads * most.pairs),
            omega: s.take(a.heads * most.pairs * a.d_v),
            diagonal: s.take(a.heads * most.queries),
            own: s.take(a.heads * most.queries * a.d_v),
        }
    }
    /// The calls that compute it.
    fn calls(&self, a: &Attention, t: &Tile, nodes: u64, at: &Place, calls: &mut Vec<Call>) -> Result<()> {
        let configuration = configuration(at.dtype());
        for (x, y) in [(a.k, self.k), (a.v, self.v)] {
            let view = a.keys(x, t);
            let params = CentreParams {
                x: at.view(&view),
                y,
                sequence_stride: (t.keys * view.stride) as u64,
                stride: view.stride as u64,
                keys: t.keys as u32,
                cols: view.cols as u32,
            };
            let grid = [(view.cols as u32).div_ceil(THREADS), t.sequences as u32, 1];
            calls.push(at.call(&CENTRE, &configuration, grid, &params)?);
        }
        let q = a.queries(a.q, t);
        let params = OmegaParams {
            q: at.view(&q),
            k: self.k,
            v: self.v,
            nodes,
            scores: self.scores,
            p: self.p,
            omega: self.omega,
            diagonal: self.diagonal,
            own: self.own,
            scale: a.scale,
            queries: t.query_rows() as u32,
            each: t.queries as u32,
            keys: t.keys as u32,
            start: t.start as u32,
            node_count: a.nodes.len() as u32,
            d: a.d_head as u32,
            d_v: a.d_v as u32,
            q_row: q.stride as u32,
        };
        let grid = [(t.query_rows() as u32).div_ceil(WARPS), a.heads as u32, 1];
        calls.push(at.call(&OMEGA, &configuration, grid, &params)?);
        Ok(())
    }
}

/// The table of nodes that `attention_omega_sm80` reads.
fn nodes(a: &Attention, at: &mut Place) -> Result<u64> {
    let table: Vec<f64> = a.nodes.iter().flat_map(|&(w, alpha)| [alpha * alpha, w, w * alpha * alpha]).collect();
    at.constants(bytemuck::cast_slice(&table))
}

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
    /// Bytes behind the last part.
    end: u64,
}

impl Moments {
    fn new(a: &Attention, dtype: DType, start: u64) -> Self {
        let each = a.heads * a.d_v * a.seq.max(a.d_head);
        let tiles = tiles(a, dtype, each);
        let most = Most::of(&tiles);
        let whole = a.heads * most.queries * a.d_v * most.keys.max(a.d_head);
        let group = (PART_BYTES / dtype.bytes() / whole.max(1)).clamp(1, a.heads);
        let mut s = Scratch::new(start, dtype);
        let per_head = a.d_head * most.queries * a.d_v;
        Self {
            group,
            pattern: Pattern::new(a, &most, &mut s),
            r: s.take(a.heads * per_head),
            r_p: s.take(group * a.heads * per_head),
            omega_p: s.take(group * a.heads * most.pairs * a.d_v),
            right: s.take(group * a.heads * most.queries * a.d_head),
            mixed: s.take(a.heads * most.queries * a.heads * a.d_v),
            squares: s.take(most.queries * a.heads * a.heads),
            tiles,
            end: s.next,
        }
    }
    /// Everything but the products with P, which go by groups of heads.
    fn plain(&self, a: &moments::Args, t: &Tile, one: Operand, at: &Place) -> Result<Vec<Call>> {
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
    fn with_p(&self, a: &moments::Args, t: &Tile, first: usize, p_mat: Operand, at: &Place) -> Result<Vec<Call>> {
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
pub(super) fn moments_scratch(a: &moments::Args, dtype: DType, limits: &Limits) -> Option<u64> {
    let l = &a.attention;
    let m = Moments::new(l, dtype, 0);
    let most = Most::of(&m.tiles);
    let largest = m.group * l.heads * l.d_v * (most.queries * l.d_head).max(most.pairs);
    let products = [[most.pairs.max(most.queries * l.d_head), l.d_v, l.d_v], [l.d_head, l.d_head, most.queries * l.d_v]];
    let served = serves(l, limits, largest) && products.iter().all(|p| fits(dtype, *p, [m.group, l.heads, 1], limits));
    served.then_some(m.end)
}

/// The calls of a launch for which there are kernels.
pub(super) fn moments_bind(a: &moments::Args, at: &mut Place) -> Result<Vec<Call>> {
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
    end: u64,
}

impl Edges {
    fn new(e: &edges::Args, dtype: DType, start: u64) -> Self {
        let (l, k_in, k_out, width) = (&e.attention, e.b_e.rows, e.b_e.cols, e.v_e.cols);
        let each = [l.heads * l.d_v * l.seq, l.heads * l.seq * k_in, k_in * width, k_in * k_out].into_iter().max();
        let tiles = tiles(l, dtype, each.unwrap_or(1));
        let most = Most::of(&tiles);
        let mut s = Scratch::new(start, dtype);
        Self {
            pattern: Pattern::new(l, &most, &mut s),
            on_k: s.take(l.heads * most.queries * k_in),
            on_q: s.take(l.heads * most.key_rows * k_in),
            a: s.take(l.heads * most.queries * k_in),
            changes: s.take(l.heads * most.pairs * k_in),
            psi: s.take(most.queries * k_in * width),
            jacobian: s.take(most.queries * k_in * k_out),
            tiles,
            end: s.next,
        }
    }
    fn calls(&self, e: &edges::Args, t: &Tile, weights: &[Operand; 5], at: &Place) -> Result<Vec<Call>> {
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
pub(super) fn edges_scratch(e: &edges::Args, dtype: DType, limits: &Limits) -> Option<u64> {
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
    served.then_some(m.end)
}

/// The calls of a launch for which there are kernels.
pub(super) fn edges_bind(e: &edges::Args, at: &mut Place) -> Result<Vec<Call>> {
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
