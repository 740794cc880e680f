//! The CUDA launchers of [`super::edge_squares`]: derivative rows in scratch memory, sums of squares for each
//! slab of tokens, and their fold in f64.

use super::edge_squares::{Args, RankOneArgs, Side};
use super::extents::countable;
use super::gram_cuda::Rows;
use super::moments_cuda::column_sums;
use super::offload::Place;
use super::parts::Parts;
use crate::device::cuda::Call;
use crate::device::{DType, View};
use crate::error::Result;
use crate::kernel::edges::{EdgeParams, RankOneParams, Slabs, rank_one, squares};
use crate::kernel::tuning::{Launch, Limits};

/// The sums of the slabs, `[slabs][k_out, k_in]`, as rows without their address; `None` where they are too large.
fn partials(n: usize, out: &View, dtype: DType) -> Option<(Slabs, Rows)> {
    let edges = out.rows.saturating_mul(out.cols);
    let fits = out.is_contiguous() && countable([out]) && (1..1 << 30).contains(&n) && (1..1 << 30).contains(&edges);
    let slabs = fits.then(|| Slabs::of(n as u32, out.cols as u32, out.rows as u32))?;
    let rows = Rows { at: 0, rows: slabs.count as usize, cols: edges, stride: edges };
    (rows.bytes(dtype) < 1 << 40).then_some((slabs, rows))
}

/// A launch of squares with its scratch memory: addresses, or offsets with a start of 0.
struct Plan {
    launch: Launch,
    slabs: Slabs,
    derivatives: Rows,
    partials: Rows,
    bytes: u64,
}

fn plan(a: &Args, start: u64, dtype: DType, limits: &Limits) -> Option<Plan> {
    let (slabs, mut partials) = partials(a.pre.rows, &a.out, dtype)?;
    let mut derivatives = a.derivatives().scratch_rows(dtype)?;
    let gates = if a.up.is_some() { 2 } else { 1 };
    let launch = squares(dtype, gates, a.u_t.cols as u32, a.v.cols as u32, slabs, limits)?;
    let mut parts = Parts::new(start);
    for part in [&mut derivatives, &mut partials] {
        part.at = parts.take(part.bytes(dtype));
    }
    countable([&a.f_hat]).then(|| Plan { launch, slabs, derivatives, partials, bytes: parts.bytes() })
}

/// Bytes of scratch memory; `None` where there is no kernel.
pub(super) fn scratch(a: &Args, dtype: DType, limits: &Limits) -> Option<u64> {
    plan(a, 0, dtype, limits).map(|plan| plan.bytes)
}

/// The calls of a launch for which there are kernels.
pub(super) fn bind(a: &Args, at: &mut Place) -> Result<Vec<Call>> {
    let Some(plan) = plan(a, at.scratch(), at.dtype(), &at.limits()) else { return Ok(Vec::new()) };
    let Plan { launch, slabs, derivatives, partials, .. } = plan;
    let mut calls = a.derivatives().call(at, &derivatives)?;
    let params = EdgeParams {
        d: derivatives.at,
        f: at.view(&a.f_hat),
        u: at.tensor(&a.u_t)?,
        v: at.tensor(&a.v)?,
        b: at.tensor(&a.b)?,
        partials: partials.at,
        n: a.pre.rows as u32,
        hidden: a.pre.cols as u32,
        k_in: a.u_t.cols as u32,
        k_out: a.v.cols as u32,
        d_stride: derivatives.stride as u32,
        f_stride: a.f_hat.stride as u32,
        u_stride: a.u_t.cols as u32,
        v_stride: a.v.cols as u32,
        b_stride: a.b.cols as u32,
        slab_tokens: slabs.tokens,
    };
    calls.push(at.call(launch.kernel, &launch.configuration, launch.grid, &params)?);
    calls.push(column_sums(at, &partials, 0, at.view(&a.out))?);
    Ok(calls)
}

fn rank_one_plan(a: &RankOneArgs, dtype: DType, limits: &Limits) -> Option<(Launch, Slabs, Rows)> {
    let (slabs, partials) = partials(a.f_hat.rows, &a.out, dtype)?;
    let rows = [&a.l, &a.y].into_iter().filter_map(|side| if let Side::Rows(v) = side { Some(v) } else { None });
    let launch = rank_one(dtype, a.z1.rows as u32, a.z1.cols as u32, slabs, limits)?;
    countable([&a.f_hat, &a.s, &a.g].into_iter().chain(rows)).then_some((launch, slabs, partials))
}

/// Bytes of scratch memory of [`RankOneArgs`]; `None` where there is no kernel.
pub(super) fn rank_one_scratch(a: &RankOneArgs, dtype: DType, limits: &Limits) -> Option<u64> {
    rank_one_plan(a, dtype, limits).map(|(_, _, partials)| partials.bytes(dtype))
}

/// The calls of [`RankOneArgs`].
pub(super) fn rank_one_bind(a: &RankOneArgs, at: &mut Place) -> Result<Vec<Call>> {
    let Some((launch, slabs, mut partials)) = rank_one_plan(a, at.dtype(), &at.limits()) else { return Ok(Vec::new()) };
    partials.at = at.scratch();
    let mut side = |side: &Side| {
        Ok(match side {
            Side::Rows(v) => (at.view(v), v.stride as u32),
            Side::Constant(t) => (at.tensor(t)?, 0),
        })
    };
    let ((l, l_stride), (y, y_stride)) = (side(&a.l)?, side(&a.y)?);
    let params = RankOneParams {
        f: at.view(&a.f_hat),
        s: at.view(&a.s),
        g: at.view(&a.g),
        l,
        y,
        z1: at.tensor(&a.z1)?,
        z0: at.tensor(&a.z0)?,
        partials: partials.at,
        n: a.f_hat.rows as u32,
        k_in: a.z1.rows as u32,
        k_out: a.z1.cols as u32,
        f_stride: a.f_hat.stride as u32,
        s_stride: a.s.stride as u32,
        g_stride: a.g.stride as u32,
        l_stride,
        y_stride,
        z_stride: a.z1.cols as u32,
        slab_tokens: slabs.tokens,
    };
    Ok(vec![
        at.call(launch.kernel, &launch.configuration, launch.grid, &params)?,
        column_sums(at, &partials, 0, at.view(&a.out))?,
    ])
}
