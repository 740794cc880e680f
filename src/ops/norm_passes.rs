//! What the launchers of [`super::norm`] have in common: tangents and cotangents of whole norms, and the passes of halves, each
//! kind as one description. It launches nothing.

use super::norm::{
    Cotangent, Kind, NormaliseArgs, NormaliseCotangent, NormaliseTangent, Tangent, VarianceArgs, VarianceCotangent,
    VarianceTangent,
};
use crate::device::{Tensor, View};
use crate::kernel::norm::Half;

/// Rows `given` through the Jacobian at `x`, or its transpose, into rows `taken`.
pub(super) struct Slope<'a> {
    pub kind: Kind,
    pub x: &'a View,
    pub given: &'a View,
    pub taken: &'a View,
    pub w: Option<&'a Tensor>,
    pub eps: f64,
    pub transpose: bool,
    pub accumulate: bool,
}

impl<'a> From<&'a Tangent> for Slope<'a> {
    fn from(a: &'a Tangent) -> Self {
        let Tangent { kind, x, dx, dy, eps, w } = a;
        let w = w.as_ref();
        Self { kind: *kind, x, given: dx, taken: dy, w, eps: *eps, transpose: false, accumulate: false }
    }
}

impl<'a> From<&'a Cotangent> for Slope<'a> {
    fn from(a: &'a Cotangent) -> Self {
        let Cotangent { kind, x, dy, dx, eps, w, accumulate } = a;
        let w = w.as_ref();
        Self { kind: *kind, x, given: dy, taken: dx, w, eps: *eps, transpose: true, accumulate: *accumulate }
    }
}

/// A pass of a half; operands that it does not touch are absent.
pub(super) struct Pass<'a> {
    pub half: Half,
    pub x: &'a View,
    /// Rows that it goes over: those of x, or of stacks of probes.
    pub rows: usize,
    pub v: Option<&'a View>,
    pub dx: Option<&'a View>,
    pub dv: Option<&'a View>,
    pub out: Option<&'a View>,
    pub out_v: Option<&'a View>,
    pub eps: f64,
    pub accumulate: bool,
}

impl<'a> Pass<'a> {
    fn new(half: Half, x: &'a View, rows: usize) -> Self {
        Self { half, x, rows, v: None, dx: None, dv: None, out: None, out_v: None, eps: 0.0, accumulate: false }
    }
}

impl<'a> From<&'a VarianceArgs> for Pass<'a> {
    /// Its products are those of c with itself: dx is not there.
    fn from(a: &'a VarianceArgs) -> Self {
        Self { out_v: Some(&a.v), ..Self::new(Half::Variance, &a.x, a.x.rows) }
    }
}

impl<'a> From<&'a VarianceTangent> for Pass<'a> {
    fn from(a: &'a VarianceTangent) -> Self {
        Self { dx: Some(&a.dx), out_v: Some(&a.dv), ..Self::new(Half::VarianceTangent, &a.x, a.dx.rows) }
    }
}

impl<'a> From<&'a VarianceCotangent> for Pass<'a> {
    fn from(a: &'a VarianceCotangent) -> Self {
        let pass = Self::new(Half::VarianceCotangent, &a.x, a.dx.rows);
        Self { dv: Some(&a.dv), out: Some(&a.dx), accumulate: a.accumulate, ..pass }
    }
}

impl<'a> From<&'a NormaliseArgs> for Pass<'a> {
    fn from(a: &'a NormaliseArgs) -> Self {
        Self { v: Some(&a.v), out: Some(&a.y), eps: a.eps, ..Self::new(Half::Normalise, &a.x, a.x.rows) }
    }
}

impl<'a> From<&'a NormaliseTangent> for Pass<'a> {
    fn from(a: &'a NormaliseTangent) -> Self {
        let (v, dx, dv, out) = (Some(&a.v), Some(&a.dx), Some(&a.dv), Some(&a.dy));
        Self { v, dx, dv, out, eps: a.eps, ..Self::new(Half::NormaliseTangent, &a.x, a.dx.rows) }
    }
}

impl<'a> From<&'a NormaliseCotangent> for Pass<'a> {
    fn from(a: &'a NormaliseCotangent) -> Self {
        let (v, dx, out, out_v) = (Some(&a.v), Some(&a.dy), Some(&a.dx), Some(&a.dv));
        Self { v, dx, out, out_v, eps: a.eps, ..Self::new(Half::NormaliseCotangent, &a.x, a.dy.rows) }
    }
}
