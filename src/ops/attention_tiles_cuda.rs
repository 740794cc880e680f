//! What the CUDA launchers of [`super::attention_moments_cuda`] and [`super::attention_edges_cuda`] share: the
//! patterns and value deviations of a tile. Element counts are of one tile.

use super::attention_math::{Attention, Tile};
use super::attention_tiles::Most;
use super::extents::{MOST, MOST_PLANES};
use super::offload::Place;
use super::parts::Parts;
use super::product_cuda::Operand;
use crate::device::DType;
use crate::device::cuda::Call;
use crate::error::Result;
use crate::kernel::attention_tiles::{CENTRE, CentreParams, OMEGA, OmegaParams, THREADS, WARPS, configuration};
use crate::kernel::tuning::Limits;

/// Whether the kernels serve a layer whose largest part has `largest` elements.
pub(super) fn serves(a: &Attention, limits: &Limits, largest: usize) -> bool {
    let sizes = [a.batch * a.seq, a.q.stride, a.k.stride, a.v.stride];
    let rows = a.seq.saturating_mul(a.q.stride.max(a.k.stride).max(a.v.stride));
    limits.capability >= (8, 0)
        && a.batch * a.seq > 0
        && a.seq <= MOST_PLANES
        && a.heads <= MOST_PLANES
        && sizes.into_iter().chain([rows, largest]).all(|n| n < MOST)
}

/// A part of the scratch memory as rows of `stride` elements.
pub(super) fn rows(at: u64, stride: usize) -> Operand {
    Operand::rows(at, stride)
}

/// What both operations compute of a tile first.
#[derive(Clone, Copy)]
pub(super) struct Pattern {
    /// Centred, `[(sequence, key), heads d_head]`.
    pub k: u64,
    /// Centred, `[(sequence, key), heads d_v]`.
    v: u64,
    /// `[heads][queries][keys]`, as p.
    scores: u64,
    pub p: u64,
    /// `[heads][queries][keys][d_v]`.
    pub omega: u64,
    /// `[heads][queries]`: p of each query's own key.
    pub diagonal: u64,
    /// `[heads][queries][d_v]`: omega of each query's own key.
    pub own: u64,
}

impl Pattern {
    pub fn new(a: &Attention, most: &Most, parts: &mut Parts, dtype: DType) -> Self {
        let mut take = |n| parts.take_numbers(n, dtype);
        Self {
            k: take(most.key_rows * a.heads * a.d_head),
            v: take(most.key_rows * a.heads * a.d_v),
            scores: take(a.heads * most.pairs),
            p: take(a.heads * most.pairs),
            omega: take(a.heads * most.pairs * a.d_v),
            diagonal: take(a.heads * most.queries),
            own: take(a.heads * most.queries * a.d_v),
        }
    }
    /// The calls that compute it.
    pub fn calls(&self, a: &Attention, t: &Tile, nodes: u64, at: &Place, calls: &mut Vec<Call>) -> Result<()> {
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
pub(super) fn nodes(a: &Attention, at: &mut Place) -> Result<u64> {
    let table: Vec<f64> = a.nodes.iter().flat_map(|&(w, alpha)| [alpha * alpha, w, w * alpha * alpha]).collect();
    at.constants(bytemuck::cast_slice(&table))
}
