//! The wgpu launchers of [`super::norm`]: whole norms and their halves, with tangents and cotangents.

use super::extents::rows_fit;
use super::norm::{
    Args, Cotangent, Kind, NormaliseArgs, NormaliseCotangent, NormaliseTangent, Tangent, VarianceArgs, VarianceCotangent,
    VarianceTangent,
};
use super::offload::{Scratch, WgpuPlace, together};
use super::pieces::{Piece, pieces};
use crate::device::wgpu::Recorded;
use crate::device::{Tensor, View};
use crate::error::Result;
use crate::kernel::wgsl::norm::{
    ADDS, HALF, HAS_B, HAS_W, Half, HalfParams, NORM, NormParams, PROBES, RMS, SLOPE, SlopeParams, TRANSPOSE, configuration,
    half_configuration, slope_configuration,
};
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
    rows_fit(rows.iter().chain(stacks).copied()) && cut(rows, stacks, limits).is_some()
}

/// The rows that launches can bind; `None` where one alone is too large.
fn cut(rows: &[&View], stacks: &[&View], limits: &Limits) -> Option<Vec<Piece>> {
    let n = rows[0].rows;
    let probes = stacks.first().map_or(1, |v| v.rows / n);
    pieces(n, probes, rows.iter().copied(), stacks.iter().copied(), limits.binding)
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
        at.record(&NORM, &configuration(), storage, &params, u64::from(piece.n()))
    };
    cut(&[&a.x, &a.y], &[], &at.limits()).unwrap_or_default().into_iter().map(each).collect()
}

/// Rows `given` through the Jacobian at `x`, or its transpose, into rows `taken`.
struct Slope<'a> {
    kind: Kind,
    x: &'a View,
    given: &'a View,
    taken: &'a View,
    w: Option<&'a Tensor>,
    eps: f64,
    transpose: bool,
    accumulate: bool,
}

impl Slope<'_> {
    fn bind(&self, at: &WgpuPlace) -> Result<Vec<Recorded>> {
        let all = cut(&[self.x], &[self.given, self.taken], &at.limits()).unwrap_or_default();
        all.iter().map(|piece| self.launch(at, piece)).collect()
    }
    fn launch(&self, at: &WgpuPlace, piece: &Piece) -> Result<Recorded> {
        let (x, dx, dy) = (piece.rows_of(self.x), piece.stack_of(self.given), piece.stack_of(self.taken));
        let probes = piece.probes.len() as u32;
        let set =
            [(self.kind == Kind::Rms, RMS), (self.w.is_some(), HAS_W), (self.transpose, TRANSPOSE), (self.accumulate, ADDS)];
        let mut storage = at.storage();
        let (x_offset, dx_offset) = (storage.read(&x)?, storage.read(&dx)?);
        storage.weight_if(self.w)?;
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
            eps: self.eps as f32,
            share: share(&x),
            flags: flags(set),
        };
        let groups = u64::from(piece.n()) * u64::from(probes.div_ceil(PROBES));
        at.record(&SLOPE, &slope_configuration(), storage, &params, groups)
    }
}

/// The launches of [`Tangent`].
pub(super) fn tangent_bind(a: &Tangent, at: &WgpuPlace) -> Result<Vec<Recorded>> {
    let Tangent { kind, x, dx, dy, eps, w } = a;
    let w = w.as_ref();
    Slope { kind: *kind, x, given: dx, taken: dy, w, eps: *eps, transpose: false, accumulate: false }.bind(at)
}

/// The launches of [`Cotangent`].
pub(super) fn cotangent_bind(a: &Cotangent, at: &WgpuPlace) -> Result<Vec<Recorded>> {
    let Cotangent { kind, x, dy, dx, eps, w, accumulate } = a;
    let w = w.as_ref();
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
    fn bind(&self, half: Half, x: &View, at: &WgpuPlace) -> Result<Vec<Recorded>> {
        let rows: Vec<&View> = [Some(x), self.v].into_iter().flatten().collect();
        let stacks: Vec<&View> = [self.dx, self.dv, self.out, self.out_v].into_iter().flatten().collect();
        let all = cut(&rows, &stacks, &at.limits()).unwrap_or_default();
        all.iter().map(|piece| self.launch(half, x, piece, at)).collect()
    }
    fn launch(&self, half: Half, x: &View, piece: &Piece, at: &WgpuPlace) -> Result<Recorded> {
        let (x, v) = (piece.rows_of(x), self.v.map(|v| piece.rows_of(v)));
        let [dx, dv, out, out_v] = [self.dx, self.dv, self.out, self.out_v].map(|v| v.map(|v| piece.stack_of(v)));
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
            pass_number: half as u32,
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
            eps: self.eps as f32,
            share: share(&x),
            accumulate: self.accumulate.into(),
        };
        at.record(&HALF, &half_configuration(joint), storage, &params, u64::from(piece.stacked()))
    }
}

/// The launches of [`VarianceArgs`].
pub(super) fn variance_bind(a: &VarianceArgs, at: &WgpuPlace) -> Result<Vec<Recorded>> {
    Operands { out_v: Some(&a.v), ..Operands::default() }.bind(Half::Variance, &a.x, at)
}

/// The launches of [`VarianceTangent`].
pub(super) fn variance_tangent_bind(a: &VarianceTangent, at: &WgpuPlace) -> Result<Vec<Recorded>> {
    Operands { dx: Some(&a.dx), out_v: Some(&a.dv), ..Operands::default() }.bind(Half::VarianceTangent, &a.x, at)
}

/// The launches of [`VarianceCotangent`].
pub(super) fn variance_cotangent_bind(a: &VarianceCotangent, at: &WgpuPlace) -> Result<Vec<Recorded>> {
    let operands = Operands { dv: Some(&a.dv), out: Some(&a.dx), accumulate: a.accumulate, ..Operands::default() };
    operands.bind(Half::VarianceCotangent, &a.x, at)
}

/// The launches of [`NormaliseArgs`].
pub(super) fn normalise_bind(a: &NormaliseArgs, at: &WgpuPlace) -> Result<Vec<Recorded>> {
    let operands = Operands { v: Some(&a.v), out: Some(&a.y), eps: a.eps, ..Operands::default() };
    operands.bind(Half::Normalise, &a.x, at)
}

/// The launches of [`NormaliseTangent`].
pub(super) fn normalise_tangent_bind(a: &NormaliseTangent, at: &WgpuPlace) -> Result<Vec<Recorded>> {
    let (v, dx, dv, out) = (Some(&a.v), Some(&a.dx), Some(&a.dv), Some(&a.dy));
    Operands { v, dx, dv, out, eps: a.eps, ..Operands::default() }.bind(Half::NormaliseTangent, &a.x, at)
}

/// The launches of [`NormaliseCotangent`].
pub(super) fn normalise_cotangent_bind(a: &NormaliseCotangent, at: &WgpuPlace) -> Result<Vec<Recorded>> {
    let (v, dx, out, out_v) = (Some(&a.v), Some(&a.dy), Some(&a.dx), Some(&a.dv));
    Operands { v, dx, out, out_v, eps: a.eps, ..Operands::default() }.bind(Half::NormaliseCotangent, &a.x, at)
}
