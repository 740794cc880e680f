//! The CUDA launchers of [`super::norm`]: whole norms and their halves, with tangents and cotangents.

use super::extents::rows_fit;
use super::norm::{
    Args, Cotangent, Kind, NormaliseArgs, NormaliseCotangent, NormaliseTangent, Tangent, VarianceArgs, VarianceCotangent,
    VarianceTangent,
};
use super::norm_passes::{Pass, Slope};
use super::offload::Place;
use crate::device::cuda::Call;
use crate::device::{DType, Tensor, View};
use crate::error::Result;
use crate::kernel::norm::{
    HALF, HalfParams, NORM, NormParams, SLOPE, SlopeParams, grid, half_configuration, norm_configuration, slope_configuration,
};
use crate::kernel::tuning::Limits;

macro_rules! scratch {
    ($($name:ident($args:ty): $($view:ident),*;)*) => {
        $(
            /// Bytes of scratch memory; `None` where there is no kernel.
            pub(super) fn $name(a: &$args, _: DType, _: &Limits) -> Option<u64> {
                rows_fit([$(&a.$view),*]).then_some(0)
            }
        )*
    };
}

scratch! {
    scratch(Args): x, y;
    tangent_scratch(Tangent): x, dx, dy;
    cotangent_scratch(Cotangent): x, dy, dx;
    variance_scratch(VarianceArgs): x, v;
    variance_tangent_scratch(VarianceTangent): x, dx, dv;
    variance_cotangent_scratch(VarianceCotangent): x, dv, dx;
    normalise_scratch(NormaliseArgs): x, v, y;
    normalise_tangent_scratch(NormaliseTangent): x, v, dx, dv, dy;
    normalise_cotangent_scratch(NormaliseCotangent): x, v, dy, dx, dv;
}

/// The address of a gain or bias, 0 for none.
fn weight(w: Option<&Tensor>, at: &mut Place) -> Result<u64> {
    w.map_or(Ok(0), |w| at.tensor(w))
}

/// The call of [`Args`].
pub(super) fn bind(a: &Args, at: &mut Place) -> Result<Vec<Call>> {
    let rows = a.x.rows as u32;
    let params = NormParams {
        x: at.view(&a.x),
        y: at.view(&a.y),
        w: weight(a.w.as_ref(), at)?,
        b: weight(a.b.as_ref(), at)?,
        eps: a.eps,
        rows,
        cols: a.x.cols as u32,
        x_stride: a.x.stride as u32,
        y_stride: a.y.stride as u32,
    };
    Ok(vec![at.call(&NORM, &norm_configuration(at.dtype(), a.kind == Kind::Rms), grid(rows), &params)?])
}

/// The call of [`Tangent`] or [`Cotangent`].
pub(super) fn slope_bind<'a>(a: impl Into<Slope<'a>>, at: &mut Place) -> Result<Vec<Call>> {
    let a = a.into();
    let rows = a.given.rows as u32;
    let params = SlopeParams {
        x: at.view(a.x),
        dx: at.view(a.given),
        dy: at.view(a.taken),
        w: weight(a.w, at)?,
        eps: a.eps,
        rows,
        primal_rows: a.x.rows as u32,
        cols: a.x.cols as u32,
        x_stride: a.x.stride as u32,
        dx_stride: a.given.stride as u32,
        dy_stride: a.taken.stride as u32,
        accumulate: a.accumulate.into(),
    };
    let configuration = slope_configuration(at.dtype(), a.kind == Kind::Rms, a.transpose);
    Ok(vec![at.call(&SLOPE, &configuration, grid(rows), &params)?])
}

/// The call of a pass of a half.
pub(super) fn half_bind<'a>(a: impl Into<Pass<'a>>, at: &mut Place) -> Result<Vec<Call>> {
    let a = a.into();
    let place = |v: Option<&View>| v.map_or((0, 0), |v| (at.view(v), v.stride as u32));
    let [(v, v_stride), (dx, dx_stride), (dv, dv_stride), (out, out_stride), (out_v, out_v_stride)] =
        [a.v, a.dx, a.dv, a.out, a.out_v].map(place);
    let params = HalfParams {
        x: at.view(a.x),
        v,
        dx,
        dv,
        out,
        out_v,
        eps: a.eps,
        rows: a.rows as u32,
        primal_rows: a.x.rows as u32,
        cols: a.x.cols as u32,
        x_stride: a.x.stride as u32,
        v_stride,
        dx_stride,
        dv_stride,
        out_stride,
        out_v_stride,
        accumulate: a.accumulate.into(),
    };
    Ok(vec![at.call(&HALF, &half_configuration(at.dtype(), a.half), grid(a.rows as u32), &params)?])
}
