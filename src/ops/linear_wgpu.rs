//! The launcher of `linear` on a wgpu device: y = epilogue(x W + b) over views of its buffers.
//!
//! It cuts the work so that no binding exceeds the device's limit: rows of x and y, and of W its
//! rows, which are steps of k, or columns of y where W is used transposed. With `linear_f32` the cuts do not change the
//! bits of `Store` and `Tangent`, and `Add` rounds once for each cut of k; with `linear_coop_f32` each part has its own scales.

use super::linear::{self, Matrix};
use super::offload::{Scratch, WgpuPlace};
use crate::device::wgpu::{Binding, Launch, Recorded, View, Wgpu, WgpuBuffer};
use crate::device::{DType, Stored};
use crate::error::{Error, Result};
use crate::kernel::linear::{Elementwise, Epilogue, LinearShape, TANGENT_ROWS};
use crate::kernel::wgsl::linear::{BRAIN, HAS_BIAS, HAS_PRE, LINEAR, LinearParams, Loads, RESUMES, choose};
use crate::kernel::wgsl::linear_coop::{self, MagnitudeParams};
use crate::kernel::wgsl::{Limits, Transport, flags};
use crate::kernel::{Configuration, Kernel, Params};

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
    // Narrow weights are read in quads alone, and not by cooperative matrices.
    let quads = at.device().matrix_unit().is_none()
        && at.view(&a.x).has_quads()
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

/// Which kernel computes a linear map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Road {
    /// On a device that was opened with cooperative matrices `linear_coop_f32` for what is worth it
    /// ([`linear_coop::is_worth_it`]), `linear_f32` for all else.
    Chosen,
    /// `linear_f32` with that tile of y.
    Tile(u32, u32),
    /// `linear_coop_f32`, whatever the shape.
    Cooperative,
}

/// Records the launches; nothing runs yet.
pub fn linear(device: &Wgpu, call: &LinearCall) -> Result<Vec<Recorded>> {
    linear_by(device, call, Road::Chosen)
}

/// [`linear`] by a given kernel.
pub fn linear_by(device: &Wgpu, call: &LinearCall, road: Road) -> Result<Vec<Recorded>> {
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
                recorded.extend(record(device, &part.steps(from, to), road, from > 0, to == k)?);
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
    let quads = x.has_quads() && w.has_quads();
    if w.stored != Stored::F32 && !quads {
        let found = format!("W in {} and rows that are no whole quads", w.stored.name());
        return Err(Error::shape("linear", found, "f32, or rows of x and W that start at multiples of 4 elements"));
    }
    let shared = |out: &View| inputs.iter().flatten().any(|i| i.buffer.is(out.buffer));
    if shared(y) || call.pre.is_some_and(|p| shared(&p) || p.buffer.is(y.buffer)) {
        return Err(Error::shape("linear", "an output in the buffer of another argument", "outputs in buffers of their own"));
    }
    Ok(())
}

/// One part: all of `call`, of which the sums over earlier k are in y where it `resumes`, and more
/// will follow unless it is the `last`.
fn record(device: &Wgpu, call: &LinearCall, road: Road, resumes: bool, last: bool) -> Result<Vec<Recorded>> {
    let adds = call.epilogue == Epilogue::Add;
    let epilogue = if last || adds { call.epilogue } else { Epilogue::Store(Elementwise::Identity) };
    let (bias, pre) = if last { (call.bias, call.pre) } else { (None, None) };
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
    let mut recorded = Vec::new();
    let text = Text::choose(device, &shape, loads, road)?;
    let (x, x_offset) = bind_or(device, Some(&call.x), device.spare_input())?;
    let (w, w_offset) = bind_or(device, Some(&call.w), device.spare_input())?;
    let (bias_bound, bias_offset) = bind_or(device, bias.as_ref(), device.spare_input())?;
    let (y, y_offset) = bind_or(device, Some(&call.y), device.spare())?;
    let (pre_bound, pre_offset) = bind_or(device, pre.as_ref(), device.spare())?;
    let mut bindings = vec![x, w, bias_bound, y];
    if text.scales {
        let (magnitudes, steps) = magnitudes(device, &call.x, &call.w)?;
        bindings.push(magnitudes);
        recorded = steps;
    }
    // The texts that add to y have no pre.
    bindings.extend((!adds).then_some(pre_bound));
    let flags = flags([
        (bias.is_some(), HAS_BIAS),
        (pre.is_some(), HAS_PRE),
        (resumes && !adds, RESUMES),
        (call.w.stored == Stored::BF16, BRAIN),
    ]);
    let tile_columns = shape.m.div_ceil(text.tile.1);
    let tiles = u64::from(shape.n.div_ceil(text.tile.0)) * u64::from(tile_columns);
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
    recorded.push(device.record(&Launch {
        pipeline: &device.pipeline(text.kernel, &text.configuration)?,
        params: &params.bytes(),
        transport: Transport::of(&text.configuration),
        bindings: &bindings,
        grid: device.grid(tiles)?,
    })?);
    Ok(recorded)
}

fn size(n: usize) -> Result<u32> {
    let most = || Error::shape("linear", format!("{n} rows, columns or elements of a stride"), "fewer than 2^32");
    u32::try_from(n).map_err(|_| most())
}

/// The kernel of a part.
struct Text {
    kernel: &'static Kernel,
    configuration: Configuration,
    /// Rows and columns of y of a workgroup.
    tile: (u32, u32),
    /// Whether it scales x and W by their largest magnitudes.
    scales: bool,
}

impl Text {
    fn choose(device: &Wgpu, shape: &LinearShape, loads: Loads, road: Road) -> Result<Self> {
        let unit = match road {
            Road::Chosen => device.matrix_unit().filter(|_| linear_coop::is_worth_it(shape)),
            Road::Tile(..) => None,
            Road::Cooperative => Some(device.matrix_unit().ok_or_else(|| Error::Kernel {
                name: linear_coop::LINEAR_COOP.name.into(),
                found: format!("{}, opened without its cooperative matrices", device.adapter().name),
                expected: "a device opened with them".into(),
            })?),
        };
        if let Some(unit) = unit {
            let (configuration, tile) = (linear_coop::configuration(unit, shape), (linear_coop::TILE, linear_coop::TILE));
            return Ok(Self { kernel: &linear_coop::LINEAR_COOP, configuration, tile, scales: true });
        }
        let tile = if let Road::Tile(rows, columns) = road { Some((rows, columns)) } else { None };
        let plan = choose(shape, loads, &device.kernel_limits(), tile)?;
        Ok(Self { kernel: &LINEAR, configuration: plan.configuration().clone(), tile: plan.tile, scales: false })
    }
}

/// Finds the largest finite magnitudes of x and W whenever the steps run: where they will be, and the steps.
fn magnitudes(device: &Wgpu, x: &View, w: &View) -> Result<(Binding, Vec<Recorded>)> {
    let words = device.buffer(8)?;
    let (binding, _) = device.bind(&words, 0..2)?;
    let configuration = linear_coop::magnitude_configuration();
    let pipeline = device.pipeline(&linear_coop::MAGNITUDE, &configuration)?;
    let mut recorded = vec![Recorded::clear(&words, 0..8)];
    for (at, matrix) in (0..).zip([x, w]).filter(|(_, matrix)| !matrix.elements().is_empty()) {
        let (bound, x_offset) = device.bind(matrix.buffer, matrix.elements())?;
        let units = linear_coop::magnitude_units(size(matrix.rows * matrix.cols)?);
        let params = MagnitudeParams {
            units,
            rows: size(matrix.rows)?,
            cols: size(matrix.cols)?,
            x_offset,
            x_stride: size(matrix.stride)?,
            at,
        };
        recorded.push(device.record(&Launch {
            pipeline: &pipeline,
            params: &params.bytes(),
            transport: Transport::of(&configuration),
            bindings: &[bound, binding.clone()],
            grid: device.grid(units.into())?,
        })?);
    }
    Ok((binding, recorded))
}

/// The binding of a matrix and its offset; `spare` for one that is absent or without elements, at which
/// the kernel will not look.
fn bind_or(device: &Wgpu, view: Option<&View>, spare: Binding) -> Result<(Binding, u32)> {
    match view {
        Some(view) if !view.elements().is_empty() => device.bind_stored(view.buffer, view.elements(), view.stored),
        _ => Ok((spare, 0)),
    }
}
