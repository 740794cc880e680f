//! The wgpu launchers of [`super::norm_moments`]: centred rows with their scales in scratch memory, then column sums, and
//! Gram matrices of the rows times the roots of their weights.

use super::extents::countable;
use super::moments_wgpu::{Rows, column_sums, in_scratch, largest, points, row_stride};
use super::norm_moments::{Args, Half, Kind, RowArgs};
use super::offload::{Scratch, WgpuPlace};
use super::pieces::{Piece, pieces};
use super::product_wgpu::{Operand, Product};
use crate::device::View;
use crate::device::wgpu::{Recorded, WgpuBuffer};
use crate::error::Result;
use crate::kernel::norm_terms::Root;
use crate::kernel::wgsl::Limits;
use crate::kernel::wgsl::norm_terms::{HAS_V, TERMS, TermParams, WEIGH, WeighParams, configuration};
use crate::kernel::wgsl::reduce::row_threads;

/// Numbers of the scratch buffers: c; c times a root; s1 and k3 of each row.
const C: usize = 0;
const WEIGHTED: usize = 1;
const S: usize = 2;
const K: usize = 3;

/// What `norm_terms_f32` is asked for.
#[derive(Clone, Copy)]
struct Terms<'a> {
    x: View,
    /// The variance of each row; that of x itself without it.
    v: Option<View>,
    /// Quadrature points (weight, alpha), and the power of alpha that scales the variance.
    nodes: &'a [(f64, f64)],
    power: i32,
    eps: f64,
    /// g = shift + scale k3.
    shift: f64,
    scale: f64,
}

/// Where rows of a result go: from element `at` of a buffer on.
#[derive(Clone, Copy)]
struct Target<'a> {
    buffer: &'a WgpuBuffer,
    at: usize,
    stride: usize,
}

impl<'a> Target<'a> {
    fn view(v: &View, at: &'a WgpuPlace) -> Self {
        Self { buffer: at.view(v).buffer, at: v.offset, stride: v.stride }
    }
}

impl<'a> Terms<'a> {
    fn table(&self, at: &WgpuPlace) -> Result<WgpuBuffer> {
        points(at, self.nodes.iter().map(|(w, alpha)| (*w, alpha.powi(self.power))))
    }
    fn call(&self, nodes: &WgpuBuffer, [c, s, g]: [Target; 3], at: &WgpuPlace) -> Result<Recorded> {
        let (rows, cols) = (self.x.rows, self.x.cols);
        let mut storage = at.storage();
        let (x_offset, v_offset) = (storage.read(&self.x)?, storage.read_if(self.v.as_ref())?);
        storage.read_buffer(nodes, 0..2 * self.nodes.len().max(1))?;
        let mut write = |t: Target, cols| storage.write_buffer(t.buffer, t.at..t.at + (rows - 1) * t.stride + cols);
        let (c_offset, s_offset, g_offset) = (write(c, cols)?, write(s, 1)?, write(g, 1)?);
        let params = TermParams {
            rows: rows as u32,
            cols: cols as u32,
            x_offset,
            x_stride: self.x.stride as u32,
            v_offset,
            v_stride: self.v.map_or(0, |v| v.stride) as u32,
            c_offset,
            c_stride: c.stride as u32,
            s_offset,
            s_stride: s.stride as u32,
            g_offset,
            g_stride: g.stride as u32,
            count: self.nodes.len() as u32,
            flags: if self.v.is_some() { HAS_V } else { 0 },
            width: cols as f32,
            eps: self.eps as f32,
            shift: self.shift as f32,
            scale: self.scale as f32,
        };
        at.record(&TERMS, &configuration(row_threads(cols)), storage, &params, rows as u64)
    }
    /// Those of a piece.
    fn of(&self, piece: &Piece) -> Self {
        Self { x: piece.rows_of(&self.x), v: self.v.map(|v| piece.rows_of(&v)), ..*self }
    }
}

fn terms(a: &Args) -> Terms<'_> {
    let (v, eps, power, nodes) = match &a.kind {
        Kind::First => (None, 0.0, 0, &[][..]),
        Kind::Second { v, eps } => (Some(*v), *eps, 1, &a.nodes[..]),
        Kind::One { eps, .. } => (None, *eps, 2, &a.nodes[..]),
    };
    Terms { x: a.x, v, nodes, power, eps, shift: 0.0, scale: 1.0 }
}

fn plan(a: &Args, limits: &Limits) -> Option<Vec<Piece>> {
    let (d, v) = (a.x.cols, terms(a).v);
    let wanted = if matches!(a.kind, Kind::One { .. }) { 3 } else { 1 };
    let fits = limits.exact_sums
        && a.x.rows > 0
        && d > 0
        && countable([&a.x, &a.scalars, &a.vectors].into_iter().chain(&v).chain(&a.grams))
        && a.grams.len() == wanted
        && a.grams.iter().all(|g| g.is_contiguous() && (g.rows, g.cols) == (d, d))
        && d.saturating_mul(d) <= limits.binding
        && (a.scalars.cols, a.vectors.rows, a.vectors.cols) == (2, 2, d)
        && v.is_none_or(|v| v.rows == a.x.rows);
    let scratch = in_scratch(&a.x, row_stride(d));
    fits.then(|| pieces(a.x.rows, 1, [&a.x, &scratch].into_iter().chain(&v), [], limits.binding)).flatten()
}

/// Scratch memory; `None` where there is no kernel.
pub(super) fn fits(a: &Args, limits: &Limits) -> Option<Scratch> {
    let stride = row_stride(a.x.cols);
    plan(a, limits).map(|pieces| [stride, stride, 1, 1].map(|width| largest(&pieces, width)).into())
}

/// The launches of an operation for which there are kernels.
pub(super) fn bind(a: &Args, at: &WgpuPlace) -> Result<Vec<Recorded>> {
    let Some(pieces) = plan(a, &at.limits()) else { return Ok(Vec::new()) };
    let (terms, stride) = (terms(a), row_stride(a.x.cols));
    let nodes = terms.table(at)?;
    let a_y = if let Kind::One { a_y, .. } = &a.kind { Some((at.tensor(a_y)?, a_y.cols)) } else { None };
    let mut calls = Vec::new();
    for piece in &pieces {
        let rows =
            |number: usize, cols: usize, stride: usize| Rows { buffer: at.scratch(number), rows: piece.rows.len(), cols, stride };
        let (c, weighted, s) = (rows(C, a.x.cols, stride), rows(WEIGHTED, a.x.cols, stride), rows(S, 1, 1));
        let target = |number: usize, stride: usize| Target { buffer: at.scratch(number), at: 0, stride };
        calls.push(terms.of(piece).call(&nodes, [target(C, stride), target(S, 1), target(K, 1)], at)?);
        let vector = |i: usize| a.vectors.slice_rows(i, 1);
        if !matches!(a.kind, Kind::First) {
            calls.push(column_sums(at, &s, None, &a.scalars.columns(0, 1))?);
            calls.push(column_sums(at, &s, Some(s.buffer), &a.scalars.columns(1, 1))?);
        }
        match &a.kind {
            Kind::First => {
                calls.push(column_sums(at, &c, None, &vector(0))?);
                c.add_to(&a.grams[0], at, &mut calls)?;
            }
            Kind::Second { .. } => {
                calls.push(column_sums(at, &c, Some(at.scratch(K)), &vector(0))?);
                calls.push(weigh(&c, Root::Slope, at)?);
                // Weights of quadrature points are positive, so that |k3| is k3.
                calls.push(column_sums(at, &weighted, Some(s.buffer), &vector(1))?);
                weighted.add_to(&a.grams[0], at, &mut calls)?;
            }
            Kind::One { .. } => {
                for (root, gram) in [Root::OfSlope, Root::OfBoth, Root::Quadratic].into_iter().zip(&a.grams) {
                    if let Some((a_y, cols)) = a_y.as_ref().filter(|_| root == Root::Quadratic) {
                        let [left, to] = [c, weighted].map(|rows| Operand::rows(rows.buffer, 0, rows.stride));
                        let right = Operand::rows(a_y, 0, *cols).transposed();
                        Product::new([c.rows, c.cols, c.cols], left, right, to).record(at, &mut calls)?;
                    }
                    calls.push(weigh(&c, root, at)?);
                    weighted.add_to(gram, at, &mut calls)?;
                }
            }
        }
    }
    Ok(calls)
}

/// The launch that weighs the rows c.
fn weigh(c: &Rows, root: Root, at: &WgpuPlace) -> Result<Recorded> {
    let mut storage = at.storage();
    let elements = (c.rows - 1) * c.stride + c.cols;
    storage.read_buffer(c.buffer, 0..elements)?;
    storage.read_buffer(at.scratch(S), 0..c.rows)?;
    storage.read_buffer(at.scratch(K), 0..c.rows)?;
    storage.write_buffer(at.scratch(WEIGHTED), 0..elements)?;
    let params = WeighParams { rows: c.rows as u32, cols: c.cols as u32, stride: c.stride as u32, mode: root as u32 };
    at.record(&WEIGH, &configuration(row_threads(c.cols)), storage, &params, c.rows as u64)
}

fn row_terms(a: &RowArgs) -> Terms<'_> {
    let width = a.x.cols as f64;
    let m1: f64 = a.nodes.iter().map(|(w, alpha)| w * alpha).sum();
    let none = Terms { x: a.x, v: None, nodes: &[], power: 0, eps: 0.0, shift: 0.0, scale: 0.0 };
    match a.half {
        Half::First => Terms { shift: 2.0 * m1 / width, ..none },
        Half::Second { v, eps } => Terms { v: Some(v), nodes: &a.nodes, power: 1, eps, scale: -0.5, ..none },
        Half::Both { eps } => Terms { nodes: &a.nodes, power: 2, eps, scale: -1.0 / width, ..none },
    }
}

fn row_pieces(a: &RowArgs, limits: &Limits) -> Option<Vec<Piece>> {
    let v = row_terms(a).v;
    let views = || [&a.x, &a.c, &a.s, &a.g].into_iter().chain(&v);
    let agrees = (a.c.cols, a.s.cols, a.g.cols) == (a.x.cols, 1, 1) && views().all(|v| v.rows == a.x.rows);
    let fits = agrees && countable(views()) && a.x.rows > 0 && a.x.cols > 0;
    fits.then(|| pieces(a.x.rows, 1, views(), [], limits.binding)).flatten()
}

/// Scratch memory of [`RowArgs`]; `None` where there is no kernel.
pub(super) fn rows_fits(a: &RowArgs, limits: &Limits) -> Option<Scratch> {
    row_pieces(a, limits).map(|_| Scratch::new())
}

/// The launches of [`RowArgs`].
pub(super) fn rows_bind(a: &RowArgs, at: &WgpuPlace) -> Result<Vec<Recorded>> {
    let terms = row_terms(a);
    let nodes = terms.table(at)?;
    let call = |piece: &Piece| {
        let to = [a.c, a.s, a.g].map(|v| Target::view(&piece.rows_of(&v), at));
        terms.of(piece).call(&nodes, to, at)
    };
    row_pieces(a, &at.limits()).unwrap_or_default().iter().map(call).collect()
}
