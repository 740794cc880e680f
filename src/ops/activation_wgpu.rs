//! The wgpu launchers of [`super::activation`] and [`super::softcap`]. SoLU takes a row at a time, what is elementwise a
//! tile of elements.

use super::activation::{Args, Products, TangentArgs};
use super::extents::fit;
use super::offload::{Scratch, WgpuPlace, together};
use super::pieces::{Piece, cut, pieces};
use super::softcap;
use crate::device::View;
use crate::device::wgpu::{Recorded, WgpuBuffer};
use crate::error::Result;
use crate::kernel::linear::Elementwise;
use crate::kernel::sheet::Sheet;
use crate::kernel::wgsl::activation::{
    self, ACTIVATION, ActivationParams, HAS_DU, HAS_DV, HAS_U, PROBES, TANGENT, TangentParams,
};
use crate::kernel::wgsl::reduce::row_threads;
use crate::kernel::wgsl::softmax::{self, SOFTMAX, SoftmaxParams, SoluTangentParams};
use crate::kernel::wgsl::{Limits, flags};

/// Scratch memory; `None` where there is no kernel.
pub(super) fn fits(a: &Args, limits: &Limits) -> Option<Scratch> {
    values_fit([&a.x, &a.y], limits).then(Scratch::new)
}

/// The launches of an operation for which there is a kernel.
pub(super) fn bind(a: &Args, at: &WgpuPlace) -> Result<Vec<Recorded>> {
    if let Some(act) = a.act.elementwise() {
        return values(at, act, 1.0, &a.x, None, &a.y);
    }
    let all = cut(&[&a.x, &a.y], &[], at.limits().binding).unwrap_or_default();
    let each = |piece: Piece| {
        let (x, y) = (piece.rows_of(&a.x), piece.rows_of(&a.y));
        let mut storage = at.storage();
        let params = SoftmaxParams {
            rows: piece.n(),
            cols: x.cols as u32,
            x_offset: storage.read(&x)?,
            x_stride: x.stride as u32,
            y_offset: storage.write(&y)?,
            y_stride: y.stride as u32,
            solu: 1,
        };
        at.record(&SOFTMAX, &softmax::configuration(row_threads(x.cols)), storage, &params, u64::from(piece.n()))
    };
    all.into_iter().map(each).collect()
}

/// Scratch memory: the softmax of x for SoLU. `None` where there is no kernel.
pub(super) fn tangent_fits(a: &TangentArgs, limits: &Limits) -> Option<Scratch> {
    let bytes = 4 * (a.x.rows * a.x.cols) as u64;
    let scratch = if a.act.is_elementwise() { Scratch::new() } else { vec![bytes] };
    derivatives_fit([&a.x], [&a.dx, &a.dy], limits).then_some(scratch)
}

/// The launches of an operation for which there are kernels.
pub(super) fn tangent_bind(a: &TangentArgs, at: &WgpuPlace) -> Result<Vec<Recorded>> {
    if let Some(act) = a.act.elementwise() {
        return derivatives(at, act, &a.products());
    }
    let mut recorded = Vec::new();
    for piece in cut(&[&a.x], &[&a.dx, &a.dy], at.limits().binding).unwrap_or_default() {
        recorded.extend(solu_derivatives(at, a, &piece)?);
    }
    Ok(recorded)
}

fn solu_derivatives(at: &WgpuPlace, a: &TangentArgs, piece: &Piece) -> Result<[Recorded; 2]> {
    let (x, dx, dy) = (piece.rows_of(&a.x), piece.stack_of(&a.dx), piece.stack_of(&a.dy));
    let s: &WgpuBuffer = at.scratch(0);
    let (rows, cols, x_stride) = (piece.n(), x.cols as u32, x.stride as u32);
    let mut storage = at.storage();
    let params = SoftmaxParams {
        rows,
        cols,
        x_offset: storage.read(&x)?,
        x_stride,
        y_offset: storage.write_buffer(s, 0..x.rows * x.cols)?,
        y_stride: cols,
        solu: 0,
    };
    let first = at.record(&SOFTMAX, &softmax::configuration(row_threads(x.cols)), storage, &params, u64::from(rows))?;
    let mut storage = at.storage();
    let x_offset = storage.read(&x)?;
    storage.read_buffer(s, 0..x.rows * x.cols)?;
    let params = SoluTangentParams {
        rows,
        cols,
        stacked: piece.stacked(),
        x_offset,
        x_stride,
        dx_offset: storage.read(&dx)?,
        dx_stride: dx.stride as u32,
        dy_offset: storage.write(&dy)?,
        dy_stride: dy.stride as u32,
        transpose: a.transpose.into(),
    };
    let second = at.record(
        &softmax::TANGENT,
        &softmax::tangent_configuration(row_threads(x.cols)),
        storage,
        &params,
        u64::from(piece.stacked()),
    )?;
    Ok([first, second])
}

/// Scratch memory; `None` where there is no kernel.
pub(super) fn softcap_fits(a: &softcap::Args, limits: &Limits) -> Option<Scratch> {
    values_fit([&a.x, &a.y], limits).then(Scratch::new)
}

/// The launches of an operation for which there is a kernel.
pub(super) fn softcap_bind(a: &softcap::Args, at: &WgpuPlace) -> Result<Vec<Recorded>> {
    values(at, Elementwise::Tanh, a.cap, &a.x, None, &a.y)
}

/// Whether the kernel serves views of one shape, and bindings their rows.
pub(super) fn values_fit<const N: usize>(views: [&View; N], limits: &Limits) -> bool {
    fit(views) && cut(&views, &[], limits.binding).is_some()
}

/// `y = cap act(x / cap) u`; y may be x itself for the soft cap.
pub(super) fn values(at: &WgpuPlace, act: Elementwise, cap: f64, x: &View, u: Option<&View>, y: &View) -> Result<Vec<Recorded>> {
    let all = pieces(x.rows, 1, [x, y].into_iter().chain(u), [], at.limits().binding).unwrap_or_default();
    let each = |piece: Piece| {
        let (x, u, y) = (piece.rows_of(x), u.map(|u| piece.rows_of(u)), piece.rows_of(y));
        let sheet = Sheet::new(piece.n(), x.cols as u32, activation::DEEP);
        let mut storage = at.storage();
        let [x_offset, y_offset] = storage.write_in_place(&x, &y)?;
        let params = ActivationParams {
            rows: piece.n(),
            cols: x.cols as u32,
            x_offset,
            x_stride: x.stride as u32,
            u_offset: storage.read_if(u.as_ref())?,
            u_stride: u.map_or(0, |u| u.stride) as u32,
            y_offset,
            y_stride: y.stride as u32,
            cap: cap as f32,
            inverse: (1.0 / cap) as f32,
            has_u: u.is_some().into(),
            log_columns: sheet.log_columns,
            column_tiles: sheet.tiles[1],
        };
        let configuration = activation::configuration(act, x.buffer == y.buffer);
        at.record(&ACTIVATION, &configuration, storage, &params, sheet.count())
    };
    all.into_iter().map(each).collect()
}

/// Whether there are kernels for the derivatives at rows of the activations of stacks of probes, and bindings for them.
pub(super) fn derivatives_fit<const N: usize, const R: usize>(rows: [&View; N], stacks: [&View; R], limits: &Limits) -> bool {
    fit(rows) && fit(stacks) && cut(&rows, &stacks, limits.binding).is_some()
}

pub(super) fn derivatives(at: &WgpuPlace, act: Elementwise, d: &Products) -> Result<Vec<Recorded>> {
    let rows: Vec<&View> = [Some(&d.x), d.u.as_ref()].into_iter().flatten().collect();
    let stacks: Vec<&View> = [Some(&d.dx), Some(&d.dy), d.du.as_ref(), d.dv.as_ref()].into_iter().flatten().collect();
    let all = cut(&rows, &stacks, at.limits().binding).unwrap_or_default();
    all.iter().map(|piece| derivatives_of(at, act, d, piece)).collect()
}

fn derivatives_of(at: &WgpuPlace, act: Elementwise, d: &Products, piece: &Piece) -> Result<Recorded> {
    let (x, u) = (piece.rows_of(&d.x), d.u.map(|u| piece.rows_of(&u)));
    let (dx, dy) = (piece.stack_of(&d.dx), piece.stack_of(&d.dy));
    let [du, dv] = [d.du, d.dv].map(|v| v.map(|v| piece.stack_of(&v)));
    let sheet = Sheet::new(piece.n(), x.cols as u32, 1);
    let probes = piece.stacked() / piece.n();
    let joint = dv.is_some_and(|dv| together([&dy, &dv]) == [0, 0]);
    let stride = |v: Option<View>| v.map_or(0, |v| v.stride) as u32;
    let mut storage = at.storage();
    let (x_offset, u_offset) = (storage.read(&x)?, storage.read_if(u.as_ref())?);
    let (dx_offset, du_offset) = (storage.read(&dx)?, storage.read_if(du.as_ref())?);
    let [dy_offset, dv_offset] = match &dv {
        Some(dv) => storage.write_all([&dy, dv])?,
        None => [storage.write(&dy)?, storage.write_if(None)?],
    };
    let params = TangentParams {
        rows: piece.n(),
        cols: x.cols as u32,
        probes,
        x_offset,
        x_stride: x.stride as u32,
        u_offset,
        u_stride: stride(u),
        dx_offset,
        dx_stride: dx.stride as u32,
        du_offset,
        du_stride: stride(du),
        dy_offset,
        dy_stride: dy.stride as u32,
        dv_offset,
        dv_stride: stride(dv),
        flags: flags([(u.is_some(), HAS_U), (du.is_some(), HAS_DU), (dv.is_some(), HAS_DV)]),
        log_columns: sheet.log_columns,
        column_tiles: sheet.tiles[1],
        tiles: sheet.count() as u32,
    };
    let groups = sheet.count() * u64::from(probes.div_ceil(PROBES));
    at.record(&TANGENT, &activation::tangent_configuration(act, joint), storage, &params, groups)
}
