//! What the wgpu launchers of [`super::attention_moments_wgpu`] and [`super::attention_edges_wgpu`] share: the patterns and
//! value deviations of a tile. Every part has a scratch buffer of its own. Element counts are of one tile.

use super::attention_math::{Attention, Tile};
use super::attention_tiles::Most;
use super::extents::MOST;
use super::offload::{Scratch, WgpuPlace};
use super::product_wgpu::Operand;
use crate::device::View;
use crate::device::wgpu::{Recorded, WgpuBuffer};
use crate::error::Result;
use crate::kernel::wgsl::Limits;
use crate::kernel::wgsl::attention_tiles::{CENTRE, CentreParams, OMEGA, OmegaParams, THREADS, configuration, omega};

/// Centred keys `[(sequence, key), heads d_head]`.
pub(super) const KEYS: usize = 0;
/// Centred values `[(sequence, key), heads d_v]`.
const VALUES: usize = 1;
/// `[heads][queries][keys]`.
const SCORES: usize = 2;
/// `p`, `[heads][queries][keys]`.
pub(super) const PATTERN: usize = 3;
/// `[heads][queries][keys][d_v]`.
pub(super) const OMEGA_PART: usize = 4;
/// `[heads][queries][d_v + 1]`: omega and, behind it, p of each query's own key.
pub(super) const OWN: usize = 5;
/// The number of the first scratch buffer behind these.
pub(super) const FURTHER: usize = 6;

/// Bytes of `n` numbers.
pub(super) fn bytes(n: usize) -> u64 {
    (n as u64).saturating_mul(4)
}

/// Bytes of these parts and of `further` ones, in the order of their numbers; `None` where a binding holds not all of one.
pub(super) fn scratch<const N: usize>(a: &Attention, most: &Most, further: [usize; N], limits: &Limits) -> Option<Scratch> {
    let product = |sizes: &[usize]| sizes.iter().fold(1usize, |all, n| all.saturating_mul(*n));
    let first = [
        product(&[most.key_rows, a.heads, a.d_head]),
        product(&[most.key_rows, a.heads, a.d_v]),
        product(&[a.heads, most.pairs]),
        product(&[a.heads, most.pairs]),
        product(&[a.heads, most.pairs, a.d_v]),
        product(&[a.heads, most.queries, a.d_v + 1]),
    ];
    let all = first.into_iter().chain(further);
    all.map(|n| (n <= limits.binding && n < MOST).then(|| bytes(n))).collect()
}

/// Whether bindings hold what a tile reads of the rows of all positions, in `views`.
pub(super) fn serves(a: &Attention, most: &Most, views: &[&View], limits: &Limits) -> bool {
    let rows = most.key_rows.max(a.seq);
    let spans = views.iter().map(|v| rows.saturating_mul(v.stride).saturating_add(v.cols));
    a.batch > 0 && a.seq > 0 && spans.into_iter().all(|n| n <= limits.binding && n < MOST)
}

/// A scratch buffer as rows of `stride` elements.
pub(super) fn rows<'a>(at: &'a WgpuPlace, number: usize, stride: usize) -> Operand<'a> {
    Operand::rows(at.scratch(number), 0, stride)
}

/// The table of nodes that `attention_omega_f32` reads.
pub(super) fn nodes(a: &Attention, at: &WgpuPlace) -> Result<WgpuBuffer> {
    let table: Vec<f32> =
        a.nodes.iter().flat_map(|&(w, alpha)| [alpha * alpha, w, w * alpha * alpha]).map(|x| x as f32).collect();
    at.constants(bytemuck::cast_slice(&table))
}

/// Adds the launches that compute the pattern of a tile.
pub(super) fn pattern(a: &Attention, t: &Tile, nodes: &WgpuBuffer, at: &WgpuPlace, calls: &mut Vec<Recorded>) -> Result<()> {
    for (x, number) in [(a.k, KEYS), (a.v, VALUES)] {
        let view = a.keys(x, t);
        let across = (view.cols as u32).div_ceil(THREADS);
        let units = across * t.sequences as u32;
        let mut storage = at.storage();
        let params = CentreParams {
            units,
            keys: t.keys as u32,
            cols: view.cols as u32,
            across,
            x_offset: storage.read(&view)?,
            x_row: view.stride as u32,
        };
        storage.write_buffer(at.scratch(number), 0..view.rows * view.cols)?;
        calls.push(at.record(&CENTRE, &configuration(), storage, &params, units.into())?);
    }
    let (q, n) = (a.queries(a.q, t), t.query_rows());
    let pairs = a.heads * n * t.keys;
    let mut storage = at.storage();
    let params = OmegaParams {
        heads: a.heads as u32,
        queries: n as u32,
        each: t.queries as u32,
        keys: t.keys as u32,
        start: t.start as u32,
        nodes: a.nodes.len() as u32,
        d: a.d_head as u32,
        d_v: a.d_v as u32,
        q_offset: storage.read(&q)?,
        q_row: q.stride as u32,
        scale: a.scale as f32,
    };
    storage.read_buffer(at.scratch(KEYS), 0..t.key_rows() * a.heads * a.d_head)?;
    storage.read_buffer(at.scratch(VALUES), 0..t.key_rows() * a.heads * a.d_v)?;
    storage.read_buffer(nodes, 0..3 * a.nodes.len())?;
    storage.write_buffer(at.scratch(SCORES), 0..pairs)?;
    storage.write_buffer(at.scratch(PATTERN), 0..pairs)?;
    storage.write_buffer(at.scratch(OMEGA_PART), 0..pairs * a.d_v)?;
    storage.write_buffer(at.scratch(OWN), 0..a.heads * n * (a.d_v + 1))?;
    calls.push(at.record(&OMEGA, &omega(), storage, &params, (a.heads * n) as u64)?);
    Ok(())
}
