//! What happens element by element, and SoLU, whose softmax takes the row: activations, gates, copies, caps, and the
//! derivatives of those that have one.

use mechgraph::device::{Builder, DType, Device, Real, Tensor, View};
use mechgraph::ops::activation::{self, Activation};
use mechgraph::ops::{Launch, copy, gated, softcap};

use super::against_cpu::{Case, agrees, agrees_on, inside};
use super::planted::{all_caught, all_caught_on_wgpu, bug};
use super::{Backend, bar, on_every_backend, rounded};

/// Rows, columns and probes: single ones, a tile's edge, ragged ones.
const SHAPES: [(usize, usize, usize); 4] = [(1, 1, 1), (7, 3, 2), (5, 257, 3), (33, 64, 9)];

const ACTIVATIONS: [Activation; 8] = [
    Activation::Identity,
    Activation::Relu,
    Activation::Gelu,
    Activation::GeluNew,
    Activation::Silu,
    Activation::Tanh,
    Activation::Sigmoid,
    Activation::Solu,
];

/// A program under construction with what goes in and comes out; all views lie inside of wider rows.
struct Plan {
    b: Builder<Launch>,
    inputs: Vec<(View, Vec<f64>)>,
    outputs: Vec<View>,
}

impl Plan {
    fn new(dtype: DType) -> Self {
        Self { b: Builder::new(dtype), inputs: Vec::new(), outputs: Vec::new() }
    }
    fn input(&mut self, rows: usize, cols: usize) -> View {
        let view = inside(&mut self.b, rows, cols);
        let data = rounded(DType::F32, rows * cols, 1 + self.inputs.len() as u64);
        self.inputs.push((view, data.into_iter().map(|x| 4.0 * x).collect()));
        view
    }
    fn output(&mut self, rows: usize, cols: usize) -> View {
        let view = inside(&mut self.b, rows, cols);
        self.outputs.push(view);
        view
    }
    fn updated(&mut self, rows: usize, cols: usize) -> View {
        let view = self.input(rows, cols);
        self.outputs.push(view);
        view
    }
    fn row(&self, cols: usize, seed: u64) -> Tensor {
        Tensor::row(self.b.dtype(), rounded(DType::F32, cols, seed))
    }
    fn case(mut self, launch: Launch) -> Case {
        self.b.push(launch);
        Case { program: self.b.finish(), inputs: self.inputs, ints: vec![], outputs: self.outputs }
    }
}

pub fn activated(dtype: DType, act: Activation, (n, m, _): (usize, usize, usize)) -> Case {
    let mut p = Plan::new(dtype);
    let args = activation::Args { act, x: p.input(n, m), y: p.output(n, m) };
    args.check().unwrap();
    p.case(Launch::Activation(args))
}

pub fn derivative(dtype: DType, act: Activation, (n, m, r): (usize, usize, usize), transpose: bool) -> Case {
    let mut p = Plan::new(dtype);
    let args = activation::TangentArgs { act, x: p.input(n, m), dx: p.input(r * n, m), dy: p.output(r * n, m), transpose };
    args.check().unwrap();
    p.case(Launch::ActivationTangent(args))
}

fn gate(dtype: DType, act: Activation, (n, m, _): (usize, usize, usize)) -> Case {
    let mut p = Plan::new(dtype);
    let args = gated::Args { act, g: p.input(n, m), u: p.input(n, m), h: p.output(n, m) };
    p.case(Launch::Gated(args))
}

fn gate_derivative(dtype: DType, act: Activation, (n, m, r): (usize, usize, usize), transpose: bool) -> Case {
    let mut p = Plan::new(dtype);
    let (g, u) = (p.input(n, m), p.input(n, m));
    let [dg, du] = [(); 2].map(|()| if transpose { p.output(r * n, m) } else { p.input(r * n, m) });
    let dh = if transpose { p.input(r * n, m) } else { p.output(r * n, m) };
    p.case(Launch::GatedTangent(gated::TangentArgs { act, g, u, dg, du, dh, transpose }))
}

/// Copies, sums, fills and scaled rows, by number.
fn affine(dtype: DType, form: usize, (n, m, _): (usize, usize, usize)) -> Case {
    let mut p = Plan::new(dtype);
    let (x, accumulate) = (p.input(n, m), form % 2 == 1);
    let y = if accumulate { p.updated(n, m) } else { p.output(n, m) };
    let (w, bias) = (p.row(m, 8), (form >= 4).then(|| p.row(m, 9)));
    p.case(match form {
        0 => Launch::Copy(copy::Args { scale: 0.7, ..copy::Args::new(x, y) }),
        1 => Launch::Copy(copy::Args { scale: -1.3, ..copy::Args::add(x, y) }),
        2..=5 => Launch::Scale(copy::ScaleArgs { x, w, bias, y, accumulate }),
        _ => Launch::Fill(copy::FillArgs { y, value: 0.3 }),
    })
}

fn capped(dtype: DType, (n, m, _): (usize, usize, usize), in_place: bool) -> Case {
    let mut p = Plan::new(dtype);
    let (x, y) = if in_place { [p.updated(n, m); 2].into() } else { (p.input(n, m), p.output(n, m)) };
    let args = softcap::Args { x, y, cap: 2.5 };
    args.check().unwrap();
    p.case(Launch::Softcap(args))
}

fn all_activations<T: Real>(backend: Backend) {
    for (i, act) in ACTIVATIONS.into_iter().enumerate() {
        // Two shapes each, and all four in turn; SoLU is not like the others.
        let shapes = SHAPES.into_iter().skip(1).enumerate().filter(|(s, _)| act == Activation::Solu || *s != i % 3);
        for (_, shape) in shapes.chain([(0, SHAPES[0])]) {
            agrees::<T>(backend, bar(T::DTYPE), |dtype| activated(dtype, act, shape));
            for transpose in [false, true] {
                agrees::<T>(backend, bar(T::DTYPE), |dtype| derivative(dtype, act, shape, transpose));
            }
        }
    }
}

fn all_gates<T: Real>(backend: Backend) {
    for (i, act) in [Activation::Silu, Activation::Gelu, Activation::GeluNew, Activation::Relu].into_iter().enumerate() {
        agrees::<T>(backend, bar(T::DTYPE), |dtype| gate(dtype, act, SHAPES[i]));
        for transpose in [false, true] {
            agrees::<T>(backend, bar(T::DTYPE), |dtype| gate_derivative(dtype, act, SHAPES[(i + 1) % 4], transpose));
        }
    }
}

fn all_copies<T: Real>(backend: Backend) {
    for shape in SHAPES {
        (0..7).for_each(|form| agrees::<T>(backend, bar(T::DTYPE), |dtype| affine(dtype, form, shape)));
        for in_place in [false, true] {
            agrees::<T>(backend, bar(T::DTYPE), |dtype| capped(dtype, shape, in_place));
        }
    }
}

/// `<J dx, w> = <dx, J' w>` for SoLU and for a gate.
fn adjoints<T: Real>(backend: Backend, bound: f64) {
    let (n, m, r) = (5, 70, 3);
    for act in [Activation::Solu, Activation::Silu] {
        let mut p = Plan::new(T::DTYPE);
        let (x, dx, w) = (p.input(n, m), p.input(r * n, m), p.input(r * n, m));
        let (y, back) = (p.output(r * n, m), p.output(r * n, m));
        p.b.push(Launch::ActivationTangent(activation::TangentArgs { act, x, dx, dy: y, transpose: false }));
        let case = p.case(Launch::ActivationTangent(activation::TangentArgs { act, x, dx: w, dy: back, transpose: true }));
        for device in backend.devices() {
            let arena = if backend == Backend::Cpu { case.on_cpu::<T>() } else { case.run_on::<T>(&device).unwrap() };
            let dot = |a: &View, b: &View| -> f64 {
                let rows = (0..a.rows).flat_map(|i| arena.row(a, i).iter().zip(arena.row(b, i)));
                rows.map(|(a, b)| a.to_f64() * b.to_f64()).sum()
            };
            let (left, right) = (dot(&y, &w), dot(&dx, &back));
            assert!((left - right).abs() <= bound * left.abs().max(1.0), "{backend:?} {act:?}: {left} and {right}");
        }
    }
}

on_every_backend! {
    fn activations_and_their_derivatives_in_f32(backend: Backend) { all_activations::<f32>(backend) }
    fn gates_and_their_derivatives_in_f32(backend: Backend) { all_gates::<f32>(backend) }
    fn copies_fills_scales_and_caps_in_f32(backend: Backend) { all_copies::<f32>(backend) }
    fn derivatives_and_their_transposes_are_adjoint_in_f32(backend: Backend) { adjoints::<f32>(backend, 1e-4) }
}

on_every_backend! {
    f64:
    fn activations_and_their_derivatives_in_f64(backend: Backend) { all_activations::<f64>(backend) }
    fn gates_and_their_derivatives_in_f64(backend: Backend) { all_gates::<f64>(backend) }
    fn copies_fills_scales_and_caps_in_f64(backend: Backend) { all_copies::<f64>(backend) }
    fn derivatives_and_their_transposes_are_adjoint_in_f64(backend: Backend) { adjoints::<f64>(backend, 1e-12) }
}

/// What the planted bugs must make fail.
fn sound(device: &Device) -> Result<(), String> {
    let shapes = [(33, 40, 9), (3, 300, 1)];
    for shape in shapes {
        agrees_on::<f32>(device, 1e-6, |dtype| gate(dtype, Activation::Silu, shape))?;
        agrees_on::<f32>(device, 1e-6, |dtype| capped(dtype, shape, false))?;
        for transpose in [false, true] {
            agrees_on::<f32>(device, 1e-6, |dtype| gate_derivative(dtype, Activation::Silu, shape, transpose))?;
            agrees_on::<f32>(device, 1e-6, |dtype| derivative(dtype, Activation::Solu, shape, transpose))?;
        }
        agrees_on::<f32>(device, 1e-6, |dtype| activated(dtype, Activation::Solu, shape))?;
        for form in 0..7 {
            agrees_on::<f32>(device, 1e-6, |dtype| affine(dtype, form, shape))?;
        }
    }
    Ok(())
}

#[test]
fn cuda_interpreter_bugs_planted_in_elementwise_kernels_are_caught() {
    all_caught(
        &[
            bug("activation_sm80", "the last row is left out", "%left, 0, %inside;", "%left, 1, %inside;"),
            bug("activation_sm80", "the cap is not undone", "mul.rn.f32 %result, %result, %cap;", ""),
            bug("activation_sm80", "the gate's step is x's", "add.s64         %u, %u, %u_step;", "add.s64 %u, %u, 4;"),
            bug(
                "activation_sm80",
                "every tile of columns is the first",
                "shl.b32         %left, %left, %log_columns;",
                "mov.u32 %left, 0;",
            ),
            bug("activation_tangent_sm80", "the gate scales nothing", "mul.rn.f32 %of_x, %of_x, %factor;", ""),
            bug(
                "activation_tangent_sm80",
                "only the first probes of a tile",
                "setp.gt.s32     %more, %count, 0;",
                "setp.gt.s32 %more, %count, 4;",
            ),
            bug(
                "activation_tangent_sm80",
                "the probes of a tile are one too many",
                "min.u32         %count, %count, 8;",
                "min.u32 %count, %count, 9;",
            ),
            bug(
                "activation_tangent_sm80",
                "probes are a tile apart",
                "mul.wide.u32    %dx_step, %rows, %dx_stride;",
                "mul.wide.u32 %dx_step, %apart, %dx_stride;",
            ),
            bug("affine_sm80", "sums are written over", "@%adds add.rn.f32", "//"),
            bug("affine_sm80", "the bias of another column", "ld.global.f32 %b, [%base];", "ld.global.f32 %b, [%base+4];"),
            bug("affine_sm80", "one row behind the last", "setp.gt.and.s32 %present", "setp.ge.and.s32 %present"),
            bug("softmax_sm80", "no barrier before the parts are read", "bar.sync        0;\n    ld.shared.f32", "ld.shared.f32"),
            bug("softmax_sm80", "no barrier between maximum and sum", "    bar.sync        0;\n@%leads", "@%leads"),
            bug("softmax_sm80", "only the first elements are summed", "@%there bra         next_term;", ""),
            bug("solu_tangent_sm80", "the share is added", "neg.f32    %share, %share;", ""),
            bug(
                "solu_tangent_sm80",
                "each probe has a primal of its own",
                "rem.u32         %primal, %row, %rows;",
                "mov.u32 %primal, %row;",
            ),
            bug(
                "solu_tangent_sm80",
                "J is its own transpose",
                "selp.f32   %factor, 0f3F800000, %in, %transposed;",
                "mov.f32 %factor, %in;",
            ),
        ],
        sound,
    );
}

#[test]
fn wgpu_llvmpipe_bugs_planted_in_elementwise_kernels_are_caught() {
    all_caught_on_wgpu(
        &[
            bug("activation_f32", "the last row is left out", "if row >= p.rows {", "if row + 1u >= p.rows {"),
            bug("activation_f32", "a column too many", "if own.column >= p.cols {", "if own.column > p.cols {"),
            bug("activation_f32", "the cap is not undone", "p.cap * act(", "act("),
            bug("activation_f32", "the gate is open", "value *= u[p.u_offset", "value += 0.0 * u[p.u_offset"),
            bug(
                "activation_f32",
                "every tile of columns is the first",
                "let column = ((unit % p.column_tiles) << p.log_columns) +",
                "let column =",
            ),
            bug("activation_tangent_f32", "the gate scales nothing", "slope *= u[p.u_offset", "slope += 0.0 * u[p.u_offset"),
            bug(
                "activation_tangent_f32",
                "only the first probes of a tile",
                "probe < min(first + 8u,",
                "probe < min(first + 4u,",
            ),
            bug(
                "activation_tangent_f32",
                "the probes of every tile are the first",
                "let row = probe * p.rows",
                "let row = (probe - first) * p.rows",
            ),
            bug("affine_f32", "sums are written over", "value += y[at];", ""),
            bug("affine_f32", "the bias of another column", "shift = b[own.column];", "shift = b[0u];"),
            bug(
                "softmax_f32",
                "no barrier before the parts are read",
                "total_of_parts[thread] = value;\n    workgroupBarrier();",
                "total_of_parts[thread] = value;",
            ),
            bug(
                "softmax_f32",
                "only half of the parts are summed",
                "total_of_parts[thread + left]);",
                "0.0 * total_of_parts[thread + left]);",
            ),
            bug("solu_tangent_f32", "the share is added", "-left * share", "left * share"),
            bug(
                "solu_tangent_f32",
                "each probe has a primal of its own",
                "let primal = row % p.rows;",
                "let primal = min(row, p.rows - 1u);",
            ),
            bug("solu_tangent_f32", "J is its own transpose", "select(1.0, x[x_row + c], p.transpose != 0u)", "1.0"),
        ],
        sound,
    );
}
