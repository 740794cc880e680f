//! Norms, whole and in halves, with tangents and cotangents.

use mechgraph::device::{Builder, DType, Device, Real, Tensor, View};
use mechgraph::ops::Launch;
use mechgraph::ops::norm::{
    Args, Cotangent, Kind, NormaliseArgs, NormaliseCotangent, NormaliseTangent, Tangent, VarianceArgs, VarianceCotangent,
    VarianceTangent,
};

use super::against_cpu::{Case, agrees, agrees_on, inside};
use super::planted::{all_caught, all_caught_on_wgpu, bug};
use super::{Backend, on_every_backend, rounded};

/// Rows, columns, probes.
const SHAPES: [(usize, usize, usize); 6] = [(1, 1, 1), (3, 5, 2), (5, 32, 1), (6, 129, 3), (2, 768, 2), (9, 31, 1)];

/// What a norm is applied to: numbers that are far from 0, as residual streams are.
fn far(n: usize, seed: u64) -> Vec<f64> {
    rounded(DType::F32, n, seed).into_iter().map(|x| 3.0 * x + 0.75).collect()
}

/// A program with its inputs, under construction.
struct Building {
    b: Builder<Launch>,
    inputs: Vec<(View, Vec<f64>)>,
}

impl Building {
    fn new(dtype: DType) -> Self {
        Self { b: Builder::new(dtype), inputs: Vec::new() }
    }
    fn input(&mut self, rows: usize, cols: usize, data: Vec<f64>) -> View {
        let view = inside(&mut self.b, rows, cols);
        self.inputs.push((view, data));
        view
    }
    fn done(mut self, launch: Launch, outputs: &[View]) -> Case {
        self.b.push(launch);
        Case { program: self.b.finish(), inputs: self.inputs, ints: vec![], outputs: outputs.to_vec() }
    }
}

fn weights(dtype: DType, cols: usize, seed: u64) -> Option<Tensor> {
    Some(Tensor::row(dtype, rounded(DType::F32, cols, seed)))
}

pub fn whole(dtype: DType, kind: Kind, (rows, cols, _): (usize, usize, usize), affine: bool) -> Case {
    let mut c = Building::new(dtype);
    let (x, y) = (c.input(rows, cols, far(rows * cols, 1)), inside(&mut c.b, rows, cols));
    let (w, b) = if affine { (weights(dtype, cols, 2), weights(dtype, cols, 3)) } else { (None, None) };
    c.done(Launch::Norm(Args { kind, x, y, eps: 1e-3, w, b }), &[y])
}

pub fn slope(dtype: DType, kind: Kind, (rows, cols, probes): (usize, usize, usize), transpose: bool, plain: bool) -> Case {
    let mut c = Building::new(dtype);
    let x = c.input(rows, cols, far(rows * cols, 1));
    let dx = c.input(probes * rows, cols, rounded(DType::F32, probes * rows * cols, 4));
    let w = if plain { None } else { weights(dtype, cols, 2) };
    let accumulate = transpose && !plain;
    let n = probes * rows;
    let dy = if accumulate { c.input(n, cols, rounded(DType::F32, n * cols, 5)) } else { inside(&mut c.b, n, cols) };
    let launch = match transpose {
        false => Launch::NormTangent(Tangent { kind, x, dx, dy, eps: 1e-3, w }),
        true => Launch::NormCotangent(Cotangent { kind, x, dy: dx, dx: dy, eps: 1e-3, w, accumulate }),
    };
    c.done(launch, &[dy])
}

/// One of the six passes of the halves.
pub fn half(dtype: DType, pass: usize, (rows, cols, probes): (usize, usize, usize)) -> Case {
    let mut c = Building::new(dtype);
    let n = probes * rows;
    let (x, eps) = (c.input(rows, cols, far(rows * cols, 1)), 1e-3);
    // Every third variance is negative, as one of a basis may be.
    let v: Vec<f64> =
        rounded(DType::F32, rows, 6).iter().enumerate().map(|(i, v)| if i % 3 == 1 { -v.abs() } else { v.abs() }).collect();
    let v = c.input(rows, 1, v);
    let dx = c.input(n, cols, rounded(DType::F32, n * cols, 4));
    let dv = c.input(n, 1, rounded(DType::F32, n, 7));
    let (out, out_v) = (inside(&mut c.b, n, cols), inside(&mut c.b, n, 1));
    match pass {
        0 => {
            let v = inside(&mut c.b, rows, 1);
            c.done(Launch::Variance(VarianceArgs { x, v }), &[v])
        }
        1 => c.done(Launch::VarianceTangent(VarianceTangent { x, dx, dv: out_v }), &[out_v]),
        2 => c.done(Launch::VarianceCotangent(VarianceCotangent { x, dv, dx: out, accumulate: false }), &[out]),
        3 => c.done(Launch::VarianceCotangent(VarianceCotangent { x, dv, dx, accumulate: true }), &[dx]),
        4 => {
            let y = inside(&mut c.b, rows, cols);
            c.done(Launch::Normalise(NormaliseArgs { x, v, y, eps }), &[y])
        }
        5 => c.done(Launch::NormaliseTangent(NormaliseTangent { x, v, dx, dv, dy: out, eps }), &[out]),
        _ => c.done(Launch::NormaliseCotangent(NormaliseCotangent { x, v, dy: dx, dx: out, dv: out_v, eps }), &[out, out_v]),
    }
}
pub const PASSES: usize = 7;

fn bar<T: Real>() -> f64 {
    if T::DTYPE == DType::F64 { 1e-13 } else { 5e-6 }
}

/// Derivatives at a row of one or two numbers are differences of equal ones: they are left to the wider rows.
fn wide(shapes: &[(usize, usize, usize)]) -> impl Iterator<Item = (usize, usize, usize)> {
    shapes.iter().copied().filter(|(_, cols, _)| *cols > 4)
}

fn all_norms<T: Real>(backend: Backend) {
    for kind in [Kind::Layer, Kind::Rms] {
        SHAPES.into_iter().filter(|shape| shape.1 > 1 || kind == Kind::Rms).for_each(|shape| {
            agrees::<T>(backend, bar::<T>(), |dtype| whole(dtype, kind, shape, shape.0 % 2 == 1));
        });
        for shape in wide(&SHAPES) {
            for (transpose, plain) in [(false, false), (true, false), (false, true), (true, true)] {
                agrees::<T>(backend, bar::<T>(), |dtype| slope(dtype, kind, shape, transpose, plain));
            }
        }
    }
}

fn all_halves<T: Real>(backend: Backend) {
    for shape in wide(&SHAPES) {
        (0..PASSES).for_each(|pass| agrees::<T>(backend, bar::<T>(), |dtype| half(dtype, pass, shape)));
    }
}

on_every_backend! {
    fn whole_norms_with_their_derivatives_in_f32(backend: Backend) { all_norms::<f32>(backend) }
    fn halves_of_a_layer_norm_with_their_derivatives_in_f32(backend: Backend) { all_halves::<f32>(backend) }
}

on_every_backend! {
    f64:
    fn whole_norms_with_their_derivatives_in_f64(backend: Backend) { all_norms::<f64>(backend) }
    fn halves_of_a_layer_norm_with_their_derivatives_in_f64(backend: Backend) { all_halves::<f64>(backend) }
}

/// What the planted bugs must make fail.
fn sound(device: &Device) -> Result<(), String> {
    let shape = (5, 129, 2);
    for kind in [Kind::Layer, Kind::Rms] {
        agrees_on::<f32>(device, 5e-6, |dtype| whole(dtype, kind, shape, true))?;
        for transpose in [false, true] {
            agrees_on::<f32>(device, 5e-6, |dtype| slope(dtype, kind, shape, transpose, false))?;
        }
    }
    (0..PASSES).try_for_each(|pass| agrees_on::<f32>(device, 5e-6, |dtype| half(dtype, pass, shape)))
}

#[test]
fn cuda_interpreter_bugs_planted_in_norms_are_caught() {
    all_caught(
        &[
            bug("norm_sm80", "a row too many", "setp.ge.u32     %more, %row, %rows;", "setp.gt.u32 %more, %row, %rows;"),
            bug("norm_sm80", "a column too many", "setp.lt.u32     %in0, %column0, %cols;", "setp.le.u32 %in0, %column0, %cols;"),
            bug("norm_sm80", "eps is left out", "add.rn.f32 %inverse, %inverse, %eps;", ""),
            bug(
                "norm_sm80",
                "half of the lanes are summed",
                "shfl.sync.bfly.b32 %other, %mean, 16,",
                "shfl.sync.bfly.b32 %other, %mean, 8,",
            ),
            bug(
                "norm_slope_sm80",
                "the primal row of another probe",
                "rem.u32         %first_column, %row, %primal_rows;",
                "min.u32 %first_column, %row, 4;",
            ),
            bug("norm_slope_sm80", "the product with n is added", "neg.f32    %share, %share;", ""),
            bug(
                "norm_slope_sm80",
                "what is there is not added to",
                "setp.ne.u32     %adds, %accumulate, 0;",
                "setp.eq.u32 %adds, %accumulate, 2;",
            ),
            bug(
                "norm_slope_sm80",
                "columns behind the first 128 are left out",
                "add.u32         %first_column, %first_column, 128;",
                "add.u32 %first_column, %first_column, 256;",
            ),
            bug("norm_half_sm80", "a negative variance has a slope", "selp.f32   %slope, 0f00000000, %slope, %more;", ""),
            bug(
                "norm_half_sm80",
                "every lane writes dv",
                "setp.eq.u32     %first_lane, %lane, 0;",
                "setp.eq.u32 %first_lane, %lane, 33;",
            ),
            bug("norm_half_sm80", "half of the slope is forgotten", "mul.rn.f32 %slope, %slope, 0f3F000000;", ""),
        ],
        sound,
    );
}

#[test]
fn wgpu_llvmpipe_bugs_planted_in_norms_are_caught() {
    all_caught_on_wgpu(
        &[
            bug("norm_f32", "eps is left out", "p.share, p.eps));", "p.share, 0.0));"),
            bug(
                "norm_f32",
                "the second half of the parts is lost",
                "total_of_parts[thread + left]);",
                "0.0 * total_of_parts[thread + left]);",
            ),
            bug("norm_f32", "the last column is left out", "c < p.cols; c += 128u", "c + 1u < p.cols; c += 128u"),
            bug(
                "norm_slope_f32",
                "the primal row of another probe",
                "let primal = unit % p.rows;",
                "let primal = min(unit + 1u, p.rows - 1u);",
            ),
            bug("norm_slope_f32", "the product with n is added", "fma(-along,", "fma(along,"),
            bug("norm_slope_f32", "what is there is not added to", "value += dy[to + c];", ""),
            bug("norm_slope_f32", "the gain on the other side", "before == (", "before != ("),
            bug(
                "norm_slope_f32",
                "columns behind the first 128 are left out",
                "c < p.cols; c += 128u",
                "c < min(p.cols, 128u); c += 128u",
            ),
            bug("norm_half_f32", "a negative variance has a slope", "0.0, variance < 0.0)", "0.0, variance < -100.0)"),
            bug("norm_half_f32", "half of the slope is forgotten", "-0.5 * inverse * inverse", "-inverse * inverse"),
            bug("norm_half_f32", "dx is not centred", "dx[of_dx + c] - sums.x * p.share", "dx[of_dx + c]"),
            bug("norm_half_f32", "the row of another probe", "row % p.rows * p.x_stride", "min(row, p.rows - 1u) * p.x_stride"),
        ],
        sound,
    );
}
