//! The CUDA launchers of [`super::norm`]: whole norms and their halves, with tangents and cotangents.

use super::extents::rows_fit;
use super::norm::{
    Args, Cotangent, Kind, NormaliseArgs, NormaliseCotangent, NormaliseTangent, Tangent, VarianceArgs, VarianceCotangent,
    VarianceTangent,
};
use super::offload::Place;
use crate::device::cuda::Call;
use crate::device::{DType, Tensor, View};
use crate::error::Result;
use crate::kernel::norm::{
    HALF, Half, HalfParams, NORM, NormParams, SLOPE, SlopeParams, grid, half_configuration, norm_configuration,
    slope_configuration,
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
fn weight(w: &Option<Tensor>, at: &mut Place) -> Result<u64> {
    w.as_ref().map_or(Ok(0), |w| at.tensor(w))
}

/// The call of [`Args`].
pub(super) fn bind(a: &Args, at: &mut Place) -> Result<Vec<Call>> {
    let rows = a.x.rows as u32;
    let params = NormParams {
        x: at.view(&a.x),
        y: at.view(&a.y),
        w: weight(&a.w, at)?,
        b: weight(&a.b, at)?,
        eps: a.eps,
        rows,
        cols: a.x.cols as u32,
        x_stride: a.x.stride as u32,
        y_stride: a.y.stride as u32,
    };
    Ok(vec![at.call(&NORM, &norm_configuration(at.dtype(), a.kind == Kind::Rms), grid(rows), &params)?])
}

/// Rows `given` through the Jacobian at `x`, or its transpose, into rows `taken`.
struct Slope<'a> {
    kind: Kind,
    x: &'a View,
    given: &'a View,
    taken: &'a View,
    w: &'a Option<Tensor>,
    eps: f64,
    transpose: bool,
    accumulate: bool,
}

impl Slope<'_> {
    fn bind(&self, at: &mut Place) -> Result<Vec<Call>> {
        let rows = self.given.rows as u32;
        let params = SlopeParams {
            x: at.view(self.x),
            dx: at.view(self.given),
            dy: at.view(self.taken),
            w: weight(self.w, at)?,
            eps: self.eps,
            rows,
            primal_rows: self.x.rows as u32,
            cols: self.x.cols as u32,
            x_stride: self.x.stride as u32,
            dx_stride: self.given.stride as u32,
            dy_stride: self.taken.stride as u32,
            accumulate: self.accumulate.into(),
        };
        let configuration = slope_configuration(at.dtype(), self.kind == Kind::Rms, self.transpose);
        Ok(vec![at.call(&SLOPE, &configuration, grid(rows), &params)?])
    }
}

/// The call of [`Tangent`].
pub(super) fn tangent_bind(a: &Tangent, at: &mut Place) -> Result<Vec<Call>> {
    let Tangent { kind, x, dx, dy, eps, w } = a;
    Slope { kind: *kind, x, given: dx, taken: dy, w, eps: *eps, transpose: false, accumulate: false }.bind(at)
}

/// The call of [`Cotangent`].
pub(super) fn cotangent_bind(a: &Cotangent, at: &mut Place) -> Result<Vec<Call>> {
    let Cotangent { kind, x, dy, dx, eps, w, accumulate } = a;
    Slope { kind: *kind, x, given: dy, taken: dx, w, eps: *eps, transpose: true, accumulate: *accumulate }.bind(at)
}

/// The operands of a half; those that its pass does not touch are absent.
#[derive(Default)]
struct Operands<'a> {
    v: Option<&'a View>,
    dx: Option<&'a View>,
    dv: Option<&'a View>,
    out: Option<&'a View>,
    out_v: Option<&'a View>,
    eps: f64,
    accumulate: bool,
}

impl Operands<'_> {
    fn bind(&self, half: Half, x: &View, rows: usize, at: &mut Place) -> Result<Vec<Call>> {
        let place = |v: Option<&View>| v.map_or((0, 0), |v| (at.view(v), v.stride as u32));
        let [(v, v_stride), (dx, dx_stride), (dv, dv_stride), (out, out_stride), (out_v, out_v_stride)] =
            [self.v, self.dx, self.dv, self.out, self.out_v].map(place);
        let params = HalfParams {
            x: at.view(x),
            v,
            dx,
            dv,
            out,
            out_v,
            eps: self.eps,
            rows: rows as u32,
            primal_rows: x.rows as u32,
            cols: x.cols as u32,
            x_stride: x.stride as u32,
            v_stride,
            dx_stride,
            dv_stride,
            out_stride,
            out_v_stride,
            accumulate: self.accumulate.into(),
        };
        Ok(vec![at.call(&HALF, &half_configuration(at.dtype(), half), grid(rows as u32), &params)?])
    }
}

/// The call of [`VarianceArgs`].
pub(super) fn variance_bind(a: &VarianceArgs, at: &mut Place) -> Result<Vec<Call>> {
    // Its products are those of c with itself: dx is not there.
    Operands { out_v: Some(&a.v), ..Operands::default() }.bind(Half::Variance, &a.x, a.x.rows, at)
}

/// The call of [`VarianceTangent`].
pub(super) fn variance_tangent_bind(a: &VarianceTangent, at: &mut Place) -> Result<Vec<Call>> {
    let operands = Operands { dx: Some(&a.dx), out_v: Some(&a.dv), ..Operands::default() };
    operands.bind(Half::VarianceTangent, &a.x, a.dx.rows, at)
}

/// The call of [`VarianceCotangent`].
pub(super) fn variance_cotangent_bind(a: &VarianceCotangent, at: &mut Place) -> Result<Vec<Call>> {
    let operands = Operands { dv: Some(&a.dv), out: Some(&a.dx), accumulate: a.accumulate, ..Operands::default() };
    operands.bind(Half::VarianceCotangent, &a.x, a.dx.rows, at)
}

/// The call of [`NormaliseArgs`].
pub(super) fn normalise_bind(a: &NormaliseArgs, at: &mut Place) -> Result<Vec<Call>> {
    let operands = Operands { v: Some(&a.v), out: Some(&a.y), eps: a.eps, ..Operands::default() };
    operands.bind(Half::Normalise, &a.x, a.x.rows, at)
}

/// The call of [`NormaliseTangent`].
pub(super) fn normalise_tangent_bind(a: &NormaliseTangent, at: &mut Place) -> Result<Vec<Call>> {
    let (v, dx, dv, out) = (Some(&a.v), Some(&a.dx), Some(&a.dv), Some(&a.dy));
    Operands { v, dx, dv, out, eps: a.eps, ..Operands::default() }.bind(Half::NormaliseTangent, &a.x, a.dx.rows, at)
}

/// The call of [`NormaliseCotangent`].
pub(super) fn normalise_cotangent_bind(a: &NormaliseCotangent, at: &mut Place) -> Result<Vec<Call>> {
    let (v, dx, out, out_v) = (Some(&a.v), Some(&a.dy), Some(&a.dx), Some(&a.dv));
    Operands { v, dx, out, out_v, eps: a.eps, ..Operands::default() }.bind(Half::NormaliseCotangent, &a.x, a.dy.rows, at)
}
