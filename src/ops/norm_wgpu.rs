//! The wgpu launchers of [`super::norm`]: whole norms and their halves, with tangents and cotangents.

use super::extents::rows_fit;
use super::norm::{
    Args, Cotangent, Kind, NormaliseArgs, NormaliseCotangent, NormaliseTangent, Tangent, VarianceArgs, VarianceCotangent,
    VarianceTangent,
};
use super::norm_passes::{Pass, Slope};
use super::offload::{Scratch, WgpuPlace, together};
use super::pieces::{Piece, cut};
use crate::device::View;
use crate::device::wgpu::Recorded;
use crate::error::Result;
use crate::kernel::wgsl::norm::{
    ADDS, HALF, HAS_B, HAS_W, HalfParams, NORM, NormParams, PROBES, RMS, SLOPE, SlopeParams, TRANSPOSE, configuration,
    half_configuration, slope_configuration,
};
use crate::kernel::wgsl::reduce::row_threads;
use crate::kernel::wgsl::{Limits, flags};

macro_rules! fits {
    ($($name:ident($args:ty): $($row:ident),*; $($stack:ident),*;)*) => {
        $(
            /// Scratch memory; `None` where there is no kernel.
            pub(super) fn $name(a: &$args, limits: &Limits) -> Option<Scratch> {
                served(&[$(&a.$row),*], &[$(&a.$stack),*], limits).then(Scratch::new)
            }
        )*
    };
}
fits! {
    fits(Args): x, y;;
    tangent_fits(Tangent): x; dx, dy;
    cotangent_fits(Cotangent): x; dy, dx;
    variance_fits(VarianceArgs): x, v;;
    variance_tangent_fits(VarianceTangent): x; dx, dv;
    variance_cotangent_fits(VarianceCotangent): x; dv, dx;
    normalise_fits(NormaliseArgs): x, v, y;;
    normalise_tangent_fits(NormaliseTangent): x, v; dx, dv, dy;
    normalise_cotangent_fits(NormaliseCotangent): x, v; dy, dx, dv;
}

/// Whether kernels that take a row at a time serve views of the activations and stacks of probes, and bindings their rows.
fn served(rows: &[&View], stacks: &[&View], limits: &Limits) -> bool {
    rows_fit(rows.iter().chain(stacks).copied()) && cut(rows, stacks, limits.binding).is_some()
}

/// `1 / cols`.
fn share(x: &View) -> f32 {
    (1.0 / x.cols as f64) as f32
}

/// The launches of [`Args`].
pub(super) fn bind(a: &Args, at: &WgpuPlace) -> Result<Vec<Recorded>> {
    let each = |piece: Piece| {
        let (x, y) = (piece.rows_of(&a.x), piece.rows_of(&a.y));
        let mut storage = at.storage();
        let x_offset = storage.read(&x)?;
        storage.weight_if(a.w.as_ref())?;
        storage.weight_if(a.b.as_ref())?;
        let params = NormParams {
            rows: piece.n(),
            cols: x.cols as u32,
            x_offset,
            x_stride: x.stride as u32,
            y_offset: storage.write(&y)?,
            y_stride: y.stride as u32,
            eps: a.eps as f32,
            share: share(&x),
            flags: flags([(a.kind == Kind::Rms, RMS), (a.w.is_some(), HAS_W), (a.b.is_some(), HAS_B)]),
        };
        at.record(&NORM, &configuration(row_threads(x.cols)), storage, &params, u64::from(piece.n()))
    };
    cut(&[&a.x, &a.y], &[], at.limits().binding).unwrap_or_default().into_iter().map(each).collect()
}

/// The launches of [`Tangent`] or [`Cotangent`].
pub(super) fn slope_bind<'a>(a: impl Into<Slope<'a>>, at: &WgpuPlace) -> Result<Vec<Recorded>> {
    let a = a.into();
    let all = cut(&[a.x], &[a.given, a.taken], at.limits().binding).unwrap_or_default();
    all.iter().map(|piece| slope(&a, piece, at)).collect()
}

fn slope(a: &Slope, piece: &Piece, at: &WgpuPlace) -> Result<Recorded> {
    let (x, dx, dy) = (piece.rows_of(a.x), piece.stack_of(a.given), piece.stack_of(a.taken));
    let probes = piece.probes.len() as u32;
    let set = [(a.kind == Kind::Rms, RMS), (a.w.is_some(), HAS_W), (a.transpose, TRANSPOSE), (a.accumulate, ADDS)];
    let mut storage = at.storage();
    let (x_offset, dx_offset) = (storage.read(&x)?, storage.read(&dx)?);
    storage.weight_if(a.w)?;
    let params = SlopeParams {
        rows: piece.n(),
        cols: x.cols as u32,
        probes,
        x_offset,
        x_stride: x.stride as u32,
        dx_offset,
        dx_stride: dx.stride as u32,
        dy_offset: storage.write(&dy)?,
        dy_stride: dy.stride as u32,
        eps: a.eps as f32,
        share: share(&x),
        flags: flags(set),
    };
    let groups = u64::from(piece.n()) * u64::from(probes.div_ceil(PROBES));
    at.record(&SLOPE, &slope_configuration(row_threads(x.cols)), storage, &params, groups)
}

/// The launches of a pass of a half.
pub(super) fn half_bind<'a>(a: impl Into<Pass<'a>>, at: &WgpuPlace) -> Result<Vec<Recorded>> {
    let a = a.into();
    let rows: Vec<&View> = [Some(a.x), a.v].into_iter().flatten().collect();
    let stacks: Vec<&View> = [a.dx, a.dv, a.out, a.out_v].into_iter().flatten().collect();
    let all = cut(&rows, &stacks, at.limits().binding).unwrap_or_default();
    all.iter().map(|piece| half(&a, piece, at)).collect()
}

fn half(a: &Pass, piece: &Piece, at: &WgpuPlace) -> Result<Recorded> {
    let (x, v) = (piece.rows_of(a.x), a.v.map(|v| piece.rows_of(v)));
    let [dx, dv, out, out_v] = [a.dx, a.dv, a.out, a.out_v].map(|v| v.map(|v| piece.stack_of(v)));
    let stride = |v: Option<View>| v.map_or(0, |v| v.stride) as u32;
    let mut storage = at.storage();
    let (x_offset, v_offset) = (storage.read(&x)?, storage.read_if(v.as_ref())?);
    let (dx_offset, dv_offset) = (storage.read_if(dx.as_ref())?, storage.read_if(dv.as_ref())?);
    let (joint, [out_offset, out_v_offset]) = match (&out, &out_v) {
        (Some(out), Some(out_v)) => (together([out, out_v]) == [0, 0], storage.write_all([out, out_v])?),
        // Absent ones share what stands in for them.
        (out, out_v) => {
            let places = [storage.write_if(out.as_ref())?, storage.write_if(out_v.as_ref())?];
            (false, places)
        }
    };
    let params = HalfParams {
        rows: piece.n(),
        stacked: piece.stacked(),
        cols: x.cols as u32,
        pass_number: a.half as u32,
        x_offset,
        x_stride: x.stride as u32,
        v_offset,
        v_stride: stride(v),
        dx_offset,
        dx_stride: stride(dx),
        dv_offset,
        dv_stride: stride(dv),
        out_offset,
        out_stride: stride(out),
        out_v_offset,
        out_v_stride: stride(out_v),
        eps: a.eps as f32,
        share: share(&x),
        accumulate: a.accumulate.into(),
    };
    at.record(&HALF, &half_configuration(row_threads(x.cols), joint), storage, &params, u64::from(piece.stacked()))
}
