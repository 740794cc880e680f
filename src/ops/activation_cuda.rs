//! The CUDA launchers of [`super::activation`] and [`super::softcap`], f32 and f64. SoLU takes a row at a time, what
//! is elementwise a tile of elements.

use super::activation::{Args, Products, TangentArgs};
use super::extents::{fit, tiles_fit};
use super::offload::Place;
use super::softcap;
use crate::device::cuda::Call;
use crate::device::{DType, View};
use crate::error::Result;
use crate::kernel::activation::{self, ACTIVATION, ActivationParams, PROBES, TANGENT, TangentParams};
use crate::kernel::linear::Elementwise;
use crate::kernel::sheet::Sheet;
use crate::kernel::softmax::{self, SOFTMAX, SoftmaxParams, SoluTangentParams};
use crate::kernel::tuning::Limits;

/// Bytes of scratch memory; `None` where there is no kernel.
pub(super) fn scratch(a: &Args, _: DType, _: &Limits) -> Option<u64> {
    fit([&a.x, &a.y]).then_some(0)
}

/// The call of a launch for which there is a kernel.
pub(super) fn bind(a: &Args, at: &mut Place) -> Result<Vec<Call>> {
    let call = match a.act.elementwise() {
        Some(act) => values(at, act, 1.0, &a.x, None, &a.y)?,
        None => softmax(at, &a.x, (at.view(&a.y), a.y.stride), true)?,
    };
    Ok(vec![call])
}

/// Bytes of scratch memory: the softmax of `x` for SoLU. `None` where there is no kernel.
pub(super) fn tangent_scratch(a: &TangentArgs, dtype: DType, _: &Limits) -> Option<u64> {
    let bytes = if a.act.is_elementwise() { 0 } else { a.x.rows * a.x.cols * dtype.bytes() };
    derivative_fits(&a.x, [&a.dx, &a.dy]).then_some(bytes as u64)
}

/// The calls of a launch for which there are kernels.
pub(super) fn tangent_bind(a: &TangentArgs, at: &mut Place) -> Result<Vec<Call>> {
    if let Some(act) = a.act.elementwise() {
        return Ok(vec![derivatives(at, act, &a.products())?]);
    }
    let s = at.scratch();
    let params = SoluTangentParams {
        x: at.view(&a.x),
        s,
        dx: at.view(&a.dx),
        dy: at.view(&a.dy),
        rows: a.x.rows as u32,
        cols: a.x.cols as u32,
        x_stride: a.x.stride as u32,
        dx_stride: a.dx.stride as u32,
        dy_stride: a.dy.stride as u32,
        transpose: a.transpose.into(),
    };
    let first = softmax(at, &a.x, (s, a.x.cols), false)?;
    let configuration = softmax::configuration(at.dtype());
    Ok(vec![first, at.call(&softmax::TANGENT, &configuration, [a.dx.rows as u32, 1, 1], &params)?])
}

/// Bytes of scratch memory; `None` where there is no kernel.
pub(super) fn softcap_scratch(a: &softcap::Args, _: DType, _: &Limits) -> Option<u64> {
    fit([&a.x, &a.y]).then_some(0)
}

/// The call of a launch for which there is a kernel.
pub(super) fn softcap_bind(a: &softcap::Args, at: &mut Place) -> Result<Vec<Call>> {
    Ok(vec![values(at, Elementwise::Tanh, a.cap, &a.x, None, &a.y)?])
}

/// `y = cap act(x / cap) u`.
pub(super) fn values(at: &Place, act: Elementwise, cap: f64, x: &View, u: Option<&View>, y: &View) -> Result<Call> {
    let sheet = Sheet::new(x.rows as u32, x.cols as u32, activation::DEEP);
    let params = ActivationParams {
        x: at.view(x),
        u: u.map_or(0, |u| at.view(u)),
        y: at.view(y),
        cap,
        inverse: 1.0 / cap,
        rows: x.rows as u32,
        cols: x.cols as u32,
        x_stride: x.stride as u32,
        u_stride: u.map_or(0, |u| u.stride) as u32,
        y_stride: y.stride as u32,
        log_columns: sheet.log_columns,
    };
    at.call(&ACTIVATION, &activation::configuration(at.dtype(), act), sheet.grid(1), &params)
}

/// Whether there are kernels for the derivatives at `x` of the rows of probes.
pub(super) fn derivative_fits<'a>(x: &'a View, probes: impl IntoIterator<Item = &'a View>) -> bool {
    let mut probes = probes.into_iter();
    fit([x]) && probes.all(|v| fit([v]) && tiles_fit((v.rows / x.rows).div_ceil(PROBES as usize)))
}

pub(super) fn derivatives(at: &Place, act: Elementwise, d: &Products) -> Result<Call> {
    let sheet = Sheet::new(d.x.rows as u32, d.x.cols as u32, 1);
    let probes = (d.dx.rows / d.x.rows) as u32;
    let of = |v: Option<View>| v.map_or((0, 0), |v| (at.view(&v), v.stride as u32));
    let ((u, u_stride), (du, du_stride), (dv, dv_stride)) = (of(d.u), of(d.du), of(d.dv));
    let params = TangentParams {
        x: at.view(&d.x),
        u,
        dx: at.view(&d.dx),
        dy: at.view(&d.dy),
        du,
        dv,
        rows: d.x.rows as u32,
        cols: d.x.cols as u32,
        probes,
        x_stride: d.x.stride as u32,
        u_stride,
        dx_stride: d.dx.stride as u32,
        dy_stride: d.dy.stride as u32,
        du_stride,
        dv_stride,
        log_columns: sheet.log_columns,
    };
    let grid = sheet.grid(probes.div_ceil(PROBES));
    at.call(&TANGENT, &activation::configuration(at.dtype(), act), grid, &params)
}

/// `softmax(x)`, or `x softmax(x)`, to an address with its row stride.
fn softmax(at: &Place, x: &View, (y, y_stride): (u64, usize), solu: bool) -> Result<Call> {
    let params = SoftmaxParams {
        x: at.view(x),
        y,
        cols: x.cols as u32,
        x_stride: x.stride as u32,
        y_stride: y_stride as u32,
        solu: solu.into(),
    };
    at.call(&SOFTMAX, &softmax::configuration(at.dtype()), [x.rows as u32, 1, 1], &params)
}
