//! The wgpu launchers of [`super::copy`].

use super::copy::{Args, FillArgs, ScaleArgs};
use super::extents::fit;
use super::offload::{Scratch, WgpuPlace};
use super::pieces::{Piece, cut, pieces};
use crate::device::wgpu::Recorded;
use crate::device::{Tensor, View};
use crate::error::Result;
use crate::kernel::sheet::Sheet;
use crate::kernel::wgsl::affine::{self, ADDS, AFFINE, AffineParams, HAS_B, HAS_W, HAS_X};
use crate::kernel::wgsl::{Limits, flags};

/// Scratch memory; `None` where there is no kernel.
pub(super) fn fits(a: &Args, limits: &Limits) -> Option<Scratch> {
    ((a.x.rows, a.x.cols) == (a.y.rows, a.y.cols) && served([&a.x, &a.y], limits)).then(Scratch::new)
}

/// The launches of an operation for which there is a kernel.
pub(super) fn bind(a: &Args, at: &WgpuPlace) -> Result<Vec<Recorded>> {
    affine(at, Some(&a.x), [None, None], a.scale, &a.y, a.accumulate)
}

/// Scratch memory; `None` where there is no kernel.
pub(super) fn fill_fits(a: &FillArgs, limits: &Limits) -> Option<Scratch> {
    served([&a.y], limits).then(Scratch::new)
}

/// The launches of an operation for which there is a kernel.
pub(super) fn fill_bind(a: &FillArgs, at: &WgpuPlace) -> Result<Vec<Recorded>> {
    affine(at, None, [None, None], a.value, &a.y, false)
}

/// Scratch memory; `None` where there is no kernel.
pub(super) fn scale_fits(a: &ScaleArgs, limits: &Limits) -> Option<Scratch> {
    let cols = [Some(&a.w), a.bias.as_ref()].into_iter().flatten().all(|t| t.cols == a.y.cols);
    (cols && (a.x.rows, a.x.cols) == (a.y.rows, a.y.cols) && served([&a.x, &a.y], limits)).then(Scratch::new)
}

/// The launches of an operation for which there is a kernel.
pub(super) fn scale_bind(a: &ScaleArgs, at: &WgpuPlace) -> Result<Vec<Recorded>> {
    affine(at, Some(&a.x), [Some(&a.w), a.bias.as_ref()], 1.0, &a.y, a.accumulate)
}

/// Whether the kernel serves views of one shape, and bindings their rows.
fn served<const N: usize>(views: [&View; N], limits: &Limits) -> bool {
    fit(views) && cut(&views, &[], limits.binding).is_some()
}

/// `y = scale x w + b`, or `y +=` it; what is absent leaves its part out, no x is one of ones.
fn affine(
    at: &WgpuPlace,
    x: Option<&View>,
    [w, b]: [Option<&Tensor>; 2],
    scale: f64,
    y: &View,
    accumulate: bool,
) -> Result<Vec<Recorded>> {
    let flags = flags([(x.is_some(), HAS_X), (w.is_some(), HAS_W), (b.is_some(), HAS_B), (accumulate, ADDS)]);
    let all = pieces(y.rows, 1, x.into_iter().chain([y]), [], at.limits().binding).unwrap_or_default();
    let record = |piece: Piece| {
        let (x, y) = (x.map(|x| piece.rows_of(x)), piece.rows_of(y));
        let quads = [x.as_ref(), Some(&y)].into_iter().flatten().all(|v| at.view(v).has_quads());
        let unit = if quads { 4 } else { 1 };
        let cols = (y.cols / unit) as u32;
        let sheet = Sheet::new(y.rows as u32, cols, affine::DEEP);
        let mut storage = at.storage();
        let x_offset = storage.read_if(x.as_ref())?;
        storage.weight_if(w)?;
        storage.weight_if(b)?;
        let params = AffineParams {
            rows: y.rows as u32,
            cols,
            x_offset: x_offset / unit as u32,
            x_stride: (x.map_or(0, |x| x.stride) / unit) as u32,
            y_offset: storage.write(&y)? / unit as u32,
            y_stride: (y.stride / unit) as u32,
            scale: scale as f32,
            flags,
            log_columns: sheet.log_columns,
            column_tiles: sheet.tiles[1],
        };
        at.record(&AFFINE, &affine::configuration(quads), storage, &params, sheet.count())
    };
    all.into_iter().map(record).collect()
}
