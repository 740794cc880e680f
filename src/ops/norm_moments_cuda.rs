//! The CUDA launchers of [`super::norm_moments`]: centred rows with their scales in scratch memory, then
//! column sums, and Gram matrices of the rows times the roots of their weights.

use super::extents::countable;
use super::gram_cuda::Rows;
use super::linear::Matrix;
use super::moments_cuda::{column_sums, points};
use super::norm_moments::{Args, Half, Kind, RowArgs};
use super::offload::Place;
use super::parts::Parts;
use super::product_cuda::{self, Operand, Product};
use crate::device::cuda::Call;
use crate::device::{DType, View};
use crate::error::Result;
use crate::kernel::norm_terms::{Root, TermParams, WeighParams, terms, weigh};
use crate::kernel::tuning::Limits;

/// What `norm_terms_sm80` is asked for.
struct Terms<'a> {
    x: View,
    /// The variance of each row; that of x itself without it.
    v: Option<View>,
    /// Quadrature points (weight, alpha), and the power of alpha that scales the variance.
    nodes: &'a [(f64, f64)],
    power: i32,
    eps: f64,
    /// g = offset + scale k3.
    offset: f64,
    scale: f64,
}

/// Where its results go: addresses and strides.
struct Results {
    c: (u64, usize),
    s: (u64, usize),
    g: (u64, usize),
}

impl Terms<'_> {
    fn call(&self, at: &mut Place, to: &Results) -> Result<Call> {
        let nodes = points(at, self.nodes.iter().map(|(w, alpha)| (*w, alpha.powi(self.power))))?;
        let launch = terms(at.dtype(), self.x.rows as u32);
        let params = TermParams {
            x: at.view(&self.x),
            v: self.v.map_or(0, |v| at.view(&v)),
            nodes,
            c: to.c.0,
            s: to.s.0,
            g: to.g.0,
            eps: self.eps,
            offset: self.offset,
            scale: self.scale,
            rows: self.x.rows as u32,
            cols: self.x.cols as u32,
            x_stride: self.x.stride as u32,
            v_stride: self.v.map_or(0, |v| v.stride as u32),
            c_stride: to.c.1 as u32,
            s_stride: to.s.1 as u32,
            g_stride: to.g.1 as u32,
            count: self.nodes.len() as u32,
        };
        at.call(launch.kernel, &launch.configuration, launch.grid, &params)
    }
}

/// The scratch memory of a launch: addresses, or offsets with a start of 0.
struct Scratch {
    /// c, and c times a root.
    c: Rows,
    weighted: Rows,
    /// s1 and k3 of each row.
    s: Rows,
    k: Rows,
    partials: u64,
    bytes: u64,
}

impl Scratch {
    fn new(start: u64, x: &View, dtype: DType, limits: &Limits) -> Option<Self> {
        let rows = |cols| Rows::in_scratch(x.rows, cols, dtype);
        let [mut c, mut weighted] = [rows(x.cols); 2];
        let [mut s, mut k] = [Rows { stride: 1, ..rows(1) }; 2];
        let mut parts = Parts::new(start);
        for part in [&mut c, &mut weighted, &mut s, &mut k] {
            part.at = parts.take(part.bytes(dtype));
        }
        let partials = parts.take(c.gram_bytes(dtype, limits)?);
        Some(Self { c, weighted, s, k, partials, bytes: parts.bytes() })
    }
}

fn plan(a: &Args, start: u64, dtype: DType, limits: &Limits) -> Option<Scratch> {
    let given = if let Kind::Second { v, .. } = &a.kind { Some(v) } else { None };
    let d = a.x.cols;
    let product = !matches!(a.kind, Kind::One { .. }) || product_cuda::fits(dtype, [a.x.rows, d, d], [1; 3], limits);
    let fits = countable([&a.x, &a.scalars, &a.vectors].into_iter().chain(given).chain(&a.grams))
        && a.grams.iter().all(View::is_contiguous)
        && a.x.rows > 0
        && d > 0;
    if fits && product { Scratch::new(start, &a.x, dtype, limits) } else { None }
}

/// Bytes of scratch memory; `None` where there is no kernel.
pub(super) fn scratch(a: &Args, dtype: DType, limits: &Limits) -> Option<u64> {
    plan(a, 0, dtype, limits).map(|s| s.bytes)
}

/// The calls of a launch for which there are kernels.
pub(super) fn bind(a: &Args, at: &mut Place) -> Result<Vec<Call>> {
    let Some(scratch) = plan(a, at.scratch(), at.dtype(), &at.limits()) else { return Ok(Vec::new()) };
    let Scratch { c, weighted, s, k, partials, .. } = scratch;
    let (v, eps, power, nodes) = match &a.kind {
        Kind::First => (None, 0.0, 0, &[][..]),
        Kind::Second { v, eps } => (Some(*v), *eps, 1, &a.nodes[..]),
        Kind::One { eps, .. } => (None, *eps, 2, &a.nodes[..]),
    };
    let terms = Terms { x: a.x, v, nodes, power, eps, offset: 0.0, scale: 1.0 };
    let to = Results { c: (c.at, c.stride), s: (s.at, s.stride), g: (k.at, k.stride) };
    let mut calls = vec![terms.call(at, &to)?];
    let scalar = |i: usize| at_element(at, &a.scalars, 0, i);
    let vector = |i: usize| at_element(at, &a.vectors, i, 0);
    if !matches!(a.kind, Kind::First) {
        calls.push(column_sums(at, &s, 0, scalar(0))?);
        calls.push(column_sums(at, &s, s.at, scalar(1))?);
    }
    match &a.kind {
        Kind::First => {
            calls.push(column_sums(at, &c, 0, vector(0))?);
            calls.extend(c.add_to(at, partials, &a.grams[0])?);
        }
        Kind::Second { .. } => {
            calls.push(column_sums(at, &c, k.at, vector(0))?);
            calls.push(weigh_call(at, &scratch, Root::Slope)?);
            calls.push(column_sums(at, &weighted, s.at, vector(1))?);
            calls.extend(weighted.add_to(at, partials, &a.grams[0])?);
        }
        Kind::One { a_y, .. } => {
            for (root, gram) in [Root::OfSlope, Root::OfBoth, Root::Quadratic].into_iter().zip(&a.grams) {
                if root == Root::Quadratic {
                    let (d, a_y) = (c.cols, Operand::rows(at.matrix(&Matrix::whole(a_y))?, a_y.cols));
                    let [from, to] = [c, weighted].map(|rows| Operand::rows(rows.at, rows.stride));
                    calls.push(Product::new([c.rows, d, d], from, a_y.transposed(), to).call(at)?);
                }
                calls.push(weigh_call(at, &scratch, root)?);
                calls.extend(weighted.add_to(at, partials, gram)?);
            }
        }
    }
    Ok(calls)
}

/// The address of an element of a view.
fn at_element(at: &Place, v: &View, i: usize, j: usize) -> u64 {
    at.view(v) + ((i * v.stride + j) * at.dtype().bytes()) as u64
}

fn weigh_call(at: &Place, scratch: &Scratch, root: Root) -> Result<Call> {
    let Scratch { c, weighted, s, k, .. } = scratch;
    let launch = weigh(at.dtype(), c.rows as u32);
    let params = WeighParams {
        c: c.at,
        y: weighted.at,
        s: s.at,
        k: k.at,
        out: weighted.at,
        rows: c.rows as u32,
        cols: c.cols as u32,
        c_stride: c.stride as u32,
        y_stride: weighted.stride as u32,
        out_stride: weighted.stride as u32,
        mode: root as u32,
    };
    at.call(launch.kernel, &launch.configuration, launch.grid, &params)
}

/// Bytes of scratch memory of [`RowArgs`]; `None` where there is no kernel.
pub(super) fn rows_scratch(a: &RowArgs, _: DType, _: &Limits) -> Option<u64> {
    let given = if let Half::Second { v, .. } = &a.half { Some(v) } else { None };
    let fits = countable([&a.x, &a.c, &a.s, &a.g].into_iter().chain(given)) && a.x.rows > 0 && a.x.cols > 0;
    fits.then_some(0)
}

/// The call of [`RowArgs`].
pub(super) fn rows_bind(a: &RowArgs, at: &mut Place) -> Result<Vec<Call>> {
    let width = a.x.cols as f64;
    let m1: f64 = a.nodes.iter().map(|(w, alpha)| w * alpha).sum();
    let none = Terms { x: a.x, v: None, nodes: &[], power: 0, eps: 0.0, offset: 0.0, scale: 0.0 };
    let terms = match a.half {
        Half::First => Terms { offset: 2.0 * m1 / width, ..none },
        Half::Second { v, eps } => Terms { v: Some(v), nodes: &a.nodes, power: 1, eps, scale: -0.5, ..none },
        Half::Both { eps } => Terms { nodes: &a.nodes, power: 2, eps, scale: -1.0 / width, ..none },
    };
    let [c, s, g] = [a.c, a.s, a.g].map(|v| (at.view(&v), v.stride));
    Ok(vec![terms.call(at, &Results { c, s, g })?])
}
