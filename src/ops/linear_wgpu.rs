//! The launcher of `linear` on a wgpu device: y = epilogue(x W + b) over views of its buffers.
//!
//! It cuts the work so that no binding exceeds the device's limit: rows of x and y, and of W its
//! rows, which are steps of k, or columns of y where W is used transposed. The cuts do not change the
//! bits of `Store` and `Tangent`; `Add` rounds once for each cut of k.

use super::linear::{self, Matrix};
use super::offload::{Scratch, WgpuPlace};
use crate::device::wgpu::{Binding, Launch, Recorded, View, Wgpu, WgpuBuffer};
use crate::device::{DType, Stored};
use crate::error::{Error, Result};
use crate::kernel::Params;
use crate::kernel::linear::{Elementwise, Epilogue, LinearShape, TANGENT_ROWS};
use crate::kernel::wgsl::linear::{BRAIN, HAS_BIAS, HAS_PRE, LINEAR, LinearParams, Loads, RESUMES, choose};
use crate::kernel::wgsl::{Limits, flags};

/// A linear map of f32 matrices on a device.
#[derive(Clone, Copy, Debug)]
pub struct LinearCall<'a> {
    /// `[n, k]`
    pub x: View<'a>,
    /// `[k, m]`, or `[m, k]` with `transpose`; f32, or bf16 or finite f16 where `x` and `w` lie in whole quads
    pub w: View<'a>,
    pub transpose: bool,
    /// `[1, m]`
    pub bias: Option<View<'a>>,
    pub epilogue: Epilogue,
    /// `[n, m]`, or `[n / 16, m]` with tangents: receives `x W + b` of the (primal) rows before the
    /// activation; not together with `Add`
    pub pre: Option<View<'a>>,
    /// `[n, m]`, in a buffer of its own
    pub y: View<'a>,
}

/// Scratch memory; `None` where there is no kernel.
pub(super) fn fits(a: &linear::Args, _: &Limits) -> Option<Scratch> {
    a.fits().then(Scratch::new)
}

/// The launches of an operation for which there is a kernel.
pub(super) fn bind(a: &linear::Args, at: &WgpuPlace) -> Result<Vec<Recorded>> {
    a.check()?;
    // Narrow weights are read in quads alone.
    let quads = at.view(&a.x).has_quads()
        && [a.w.row * a.w.tensor.cols + a.w.col, a.w.cols, a.w.tensor.cols].iter().all(|n| n.is_multiple_of(4));
    let (w, stored) = if quads { at.weight(&a.w.tensor)? } else { (at.tensor(&a.w.tensor)?, Stored::F32) };
    let bias = a.bias.as_ref().map(|matrix| at.tensor(&matrix.tensor)).transpose()?;
    let call = LinearCall {
        x: at.view(&a.x),
        w: View { stored, ..block(&w, &a.w) },
        transpose: a.transpose,
        bias: bias.as_ref().zip(a.bias.as_ref()).map(|(buffer, matrix)| block(buffer, matrix)),
        epilogue: a.epilogue(),
        pre: a.pre.as_ref().map(|p| at.view(p)),
        y: at.view(&a.y),
    };
    linear(at.device(), &call)
}

/// A block of a weight's buffer.
fn block<'a>(buffer: &'a WgpuBuffer, matrix: &Matrix) -> View<'a> {
    let Matrix { tensor, row, col, rows, cols } = matrix;
    View { buffer, offset: row * tensor.cols + col, rows: *rows, cols: *cols, stride: tensor.cols, stored: Stored::F32 }
}

/// Rows of the matrices that one launch binds together are cut to a multiple of this, and k too.
const STEP: usize = 16;

/// Records the launches; nothing runs yet.
pub fn linear(device: &Wgpu, call: &LinearCall) -> Result<Vec<Recorded>> {
    linear_with(device, call, None)
}

/// [`linear`] with a given tile of y, where there is one.
pub fn linear_with(device: &Wgpu, call: &LinearCall, tile: Option<(u32, u32)>) -> Result<Vec<Recorded>> {
    check(call)?;
    let (n, k, m) = (call.x.rows, call.x.cols, call.y.cols);
    let mut recorded = Vec::new();
    if n == 0 || m == 0 {
        return Ok(recorded);
    }
    let most = device.binding_elements();
    let primal = matches!(call.epilogue, Epilogue::Tangent(_));
    let pre_rows = call.pre.map_or(n, |p| p.rows_within(most) * if primal { TANGENT_ROWS as usize } else { 1 });
    let rows = cut(call.x.rows_within(most).min(call.y.rows_within(most)).min(pre_rows), n, "rows of x and y", device)?;
    let of_w = call.w.rows_within(most * 4 / call.w.stored.bytes());
    let (steps, columns) = match call.transpose {
        true => (k, cut(of_w, m, "rows of W", device)?),
        false => (cut(of_w, k, "rows of W", device)?, m),
    };
    for row in (0..n).step_by(rows) {
        for column in (0..m).step_by(columns) {
            let part = call.block(row, rows.min(n - row), column, columns.min(m - column), primal);
            let mut from = 0;
            // A sum over no k is zero, and is still stored.
            while from < k || from == 0 {
                let to = (from + steps.max(1)).min(k);
                recorded.push(record(device, &part.steps(from, to), tile, from > 0, to == k)?);
                from = to.max(1);
            }
        }
    }
    Ok(recorded)
}

/// The largest step up to `most` that cuts `total`; all of it where it fits.
fn cut(most: usize, total: usize, what: &str, device: &Wgpu) -> Result<usize> {
    match most {
        _ if most >= total => Ok(total.max(1)),
        _ if most >= STEP => Ok(most / STEP * STEP),
        _ => Err(Error::Shape {
            op: "linear",
            found: format!("{what} of which {most} fit into a binding"),
            expected: format!(
                "{STEP} of them within the {} elements that {} allows",
                device.binding_elements(),
                device.adapter().name
            ),
        }),
    }
}

impl LinearCall<'_> {
    fn block(&self, row: usize, rows: usize, column: usize, columns: usize, primal: bool) -> Self {
        let each = if primal { TANGENT_ROWS as usize } else { 1 };
        let w = if self.transpose { self.w.slice_rows(column, columns) } else { self.w.columns(column, columns) };
        Self {
            x: self.x.slice_rows(row, rows),
            w,
            bias: self.bias.map(|b| b.columns(column, columns)),
            pre: self.pre.map(|p| p.slice_rows(row / each, rows / each).columns(column, columns)),
            y: self.y.slice_rows(row, rows).columns(column, columns),
            ..*self
        }
    }
    fn steps(&self, from: usize, to: usize) -> Self {
        let w = if self.transpose { self.w.columns(from, to - from) } else { self.w.slice_rows(from, to - from) };
        Self { x: self.x.columns(from, to - from), w, ..*self }
    }
}

fn check(call: &LinearCall) -> Result<()> {
    let (x, w, y) = (&call.x, &call.w, &call.y);
    let (d_in, d_out) = if call.transpose { (w.cols, w.rows) } else { (w.rows, w.cols) };
    let tangent = matches!(call.epilogue, Epilogue::Tangent(_));
    let pre_rows = if tangent { y.rows / TANGENT_ROWS as usize } else { y.rows };
    let fits = x.cols == d_in
        && y.cols == d_out
        && x.rows == y.rows
        && call.bias.is_none_or(|b| (b.rows, b.cols) == (1, d_out))
        && call.pre.is_none_or(|p| (p.rows, p.cols) == (pre_rows, d_out));
    if !fits {
        let found = format!("x [{}, {}], y [{}, {}]", x.rows, x.cols, y.rows, y.cols);
        return Err(Error::shape("linear", found, format!("W [{d_in}, {d_out}], bias and pre to fit between them")));
    }
    if tangent && !x.rows.is_multiple_of(TANGENT_ROWS as usize) {
        return Err(Error::shape(
            "linear",
            format!("{} rows with tangents", x.rows),
            "a multiple of 16: a primal and 15 tangents",
        ));
    }
    if call.epilogue == Epilogue::Add && call.pre.is_some() {
        return Err(Error::shape("linear", "pre together with an addition to y", "one of them"));
    }
    let views = [("x", Some(x)), ("W", Some(w)), ("bias", call.bias.as_ref()), ("pre", call.pre.as_ref()), ("y", Some(y))];
    for (name, view) in views {
        view.map_or(Ok(()), |v| v.check("linear", name))?;
    }
    let inputs = [Some(x), Some(w), call.bias.as_ref()];
    if !matches!(w.stored, Stored::F32) && !(x.has_quads() && w.has_quads()) {
        let found = format!("W in {} and rows that are no whole quads", w.stored.name());
        return Err(Error::shape("linear", found, "f32, or rows of x and W that start at multiples of 4 elements"));
    }
    let shared = |out: &View| inputs.iter().flatten().any(|i| i.buffer.is(out.buffer));
    if shared(y) || call.pre.is_some_and(|p| shared(&p) || p.buffer.is(y.buffer)) {
        return Err(Error::shape("linear", "an output in the buffer of another argument", "outputs in buffers of their own"));
    }
    Ok(())
}

/// One launch: all of `call`, of which the sums over earlier k are in y where it `resumes`, and more
/// will follow unless it is the `last`.
fn record(device: &Wgpu, call: &LinearCall, tile: Option<(u32, u32)>, resumes: bool, last: bool) -> Result<Recorded> {
    let adds = call.epilogue == Epilogue::Add;
    let epilogue = if last || adds { call.epilogue } else { Epilogue::Store(Elementwise::Identity) };
    let (bias, pre) = if last { (call.bias, call.pre) } else { (None, None) };
    let size = |n: usize| {
        let most = || Error::shape("linear", format!("{n} rows, columns or elements of a stride"), "fewer than 2^32");
        u32::try_from(n).map_err(|_| most())
    };
    let shape = LinearShape {
        dtype: DType::F32,
        n: size(call.x.rows)?,
        k: size(call.x.cols)?,
        m: size(call.y.cols)?,
        transpose: call.transpose,
        epilogue,
        aligned: call.x.has_quads() && call.w.has_quads(),
    };
    let loads = match (shape.aligned, call.w.stored) {
        (true, Stored::F16 | Stored::BF16) => Loads::Halves,
        (true, _) => Loads::Quads,
        (false, _) => Loads::Elements,
    };
    let plan = choose(&shape, loads, &device.kernel_limits(), tile)?;
    let pipeline = device.pipeline(&LINEAR, plan.configuration())?;
    let (x, x_offset) = bind_or(device, Some(&call.x), device.spare_input())?;
    let (w, w_offset) = bind_or(device, Some(&call.w), device.spare_input())?;
    let (bias_bound, bias_offset) = bind_or(device, bias.as_ref(), device.spare_input())?;
    let (y, y_offset) = bind_or(device, Some(&call.y), device.spare())?;
    let (pre_bound, pre_offset) = bind_or(device, pre.as_ref(), device.spare())?;
    let flags = flags([
        (bias.is_some(), HAS_BIAS),
        (pre.is_some(), HAS_PRE),
        (resumes && !adds, RESUMES),
        (call.w.stored == Stored::BF16, BRAIN),
    ]);
    let tile_columns = shape.m.div_ceil(plan.tile.1);
    let tiles = u64::from(shape.n.div_ceil(plan.tile.0)) * u64::from(tile_columns);
    let params = LinearParams {
        tiles: size(tiles as usize)?,
        tile_columns,
        n: shape.n,
        k: shape.k,
        m: shape.m,
        x_offset,
        x_stride: size(call.x.stride)?,
        w_offset,
        w_stride: size(call.w.stride)?,
        bias_offset,
        y_offset,
        y_stride: size(call.y.stride)?,
        pre_offset,
        pre_stride: size(pre.map_or(0, |p| p.stride))?,
        flags,
    };
    let bindings = [x, w, bias_bound, y, pre_bound];
    device.record(&Launch {
        pipeline: &pipeline,
        params: &params.bytes(),
        transport: plan.transport,
        // The text that adds to y has no pre.
        bindings: if adds { &bindings[..4] } else { &bindings },
        grid: device.grid(tiles)?,
    })
}

/// The binding of a matrix and its offset; `spare` for one that is absent or without elements, at which
/// the kernel will not look.
fn bind_or(device: &Wgpu, view: Option<&View>, spare: Binding) -> Result<(Binding, u32)> {
    match view {
        Some(view) if !view.elements().is_empty() => device.bind_stored(view.buffer, view.elements(), view.stored),
        _ => Ok((spare, 0)),
    }
}
