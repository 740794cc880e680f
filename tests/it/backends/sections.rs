//! The sums over tokens that whole sections ask for, moments and squared edges: against the same operation in
//! f64 on the CPU.

use mechgraph::device::{Builder, DType, Real, Tensor, View};
use mechgraph::ops::activation::Activation;
use mechgraph::ops::edge_squares::{self, Side};
use mechgraph::ops::norm_moments::{self, Half, Kind};
use mechgraph::ops::{Launch, moments};

use super::against_cpu::Case;
use super::planted::{all_caught, all_caught_on_wgpu, bug};
use super::products::{agrees, content, view};
use super::{Backend, bar, on_every_backend, rounded};

/// Two quadrature points.
const NODES: [(f64, f64); 2] = [(0.375, 0.25), (0.625, 0.875)];

/// What a program is made of while it is built.
struct Parts {
    build: Builder<Launch>,
    numbers: DType,
    inputs: Vec<(View, Vec<f64>)>,
    outputs: Vec<View>,
    seed: u64,
}

impl Parts {
    fn new(dtype: DType, numbers: DType) -> Self {
        Self { build: Builder::new(dtype), numbers, inputs: Vec::new(), outputs: Vec::new(), seed: 0 }
    }
    fn draw(&mut self, n: usize) -> Vec<f64> {
        self.seed += 1;
        rounded(self.numbers, n, self.seed)
    }
    /// A matrix of numbers.
    fn input(&mut self, rows: usize, cols: usize, wide: bool) -> View {
        let v = view(&mut self.build, rows, cols, wide);
        let data = self.draw(rows * cols);
        self.inputs.push((v, data));
        v
    }
    /// A matrix without a negative number.
    fn sizes(&mut self, rows: usize, cols: usize) -> View {
        let v = self.input(rows, cols, true);
        self.inputs.last_mut().unwrap().1.iter_mut().for_each(|x| *x = x.abs());
        v
    }
    /// A matrix of numbers that is added to.
    fn sums(&mut self, rows: usize, cols: usize) -> View {
        let v = self.input(rows, cols, false);
        self.outputs.push(v);
        v
    }
    fn output(&mut self, rows: usize, cols: usize, wide: bool) -> View {
        let v = view(&mut self.build, rows, cols, wide);
        self.outputs.push(v);
        v
    }
    fn tensor(&mut self, rows: usize, cols: usize) -> Tensor {
        let data = self.draw(rows * cols);
        Tensor::from_f64(self.build.dtype(), rows, cols, data)
    }
    fn case(mut self, l: Launch) -> Case {
        self.build.push(l);
        Case { program: self.build.finish(), inputs: self.inputs, ints: vec![], outputs: self.outputs }
    }
}

pub fn mlp_moments(n: usize, m: usize, act: Activation, gated: bool, wide: bool) -> impl Fn(DType, DType) -> Case {
    move |dtype, numbers| {
        let mut p = Parts::new(dtype, numbers);
        let pre = p.input(n, m, wide);
        let up = gated.then(|| p.input(n, m, wide));
        let width = if gated { 2 * m } else { m };
        let (h, s) = (p.sums(1, width), p.sums(width, width));
        p.case(Launch::Moments(moments::Args { act, nodes: NODES.into(), pre, up, h, s }))
    }
}

#[derive(Clone, Copy, Debug)]
pub enum Norm {
    First,
    Second,
    Whole,
}
use Norm::{First, Second, Whole};

const EPS: f64 = 1e-2;

pub fn of_norm(norm: Norm, n: usize, d: usize, wide: bool) -> impl Fn(DType, DType) -> Case {
    move |dtype, numbers| {
        let mut p = Parts::new(dtype, numbers);
        let x = p.input(n, d, wide);
        let (kind, grams) = match norm {
            First => (Kind::First, 1),
            Second => (Kind::Second { v: p.sizes(n, 1), eps: EPS }, 1),
            Whole => (Kind::One { a_y: p.tensor(d, d), eps: EPS }, 3),
        };
        let (scalars, vectors) = (p.sums(1, 2), p.sums(2, d));
        let grams = (0..grams).map(|_| p.sums(d, d)).collect();
        p.case(Launch::NormMoments(norm_moments::Args { kind, nodes: NODES.into(), x, scalars, vectors, grams }))
    }
}

pub fn norm_rows(norm: Norm, n: usize, d: usize, wide: bool) -> impl Fn(DType, DType) -> Case {
    move |dtype, numbers| {
        let mut p = Parts::new(dtype, numbers);
        let x = p.input(n, d, wide);
        let half = match norm {
            First => Half::First,
            Second => Half::Second { v: p.sizes(n, 1), eps: EPS },
            Whole => Half::Both { eps: EPS },
        };
        let (c, s, g) = (p.output(n, d, wide), p.output(n, 1, false), p.output(n, 1, false));
        p.case(Launch::NormRows(norm_moments::RowArgs { half, nodes: NODES.into(), x, c, s, g }))
    }
}

/// Tokens, hidden units, inputs, outputs.
#[derive(Clone, Copy, Debug)]
pub struct Edges(pub [usize; 4]);

pub fn squares(Edges([n, m, k_in, k_out]): Edges, act: Activation, gated: bool, wide: bool) -> impl Fn(DType, DType) -> Case {
    move |dtype, numbers| {
        let mut p = Parts::new(dtype, numbers);
        let pre = p.input(n, m, wide);
        let up = gated.then(|| p.input(n, m, wide));
        let f_hat = p.input(n, k_in, wide);
        let u_t = p.tensor(if gated { 2 * m } else { m }, k_in);
        let (v, b) = (p.tensor(m, k_out), p.tensor(k_in, k_out));
        let out = p.sums(k_out, k_in);
        p.case(Launch::EdgeSquares(edge_squares::Args { act, nodes: NODES.into(), pre, up, f_hat, u_t, v, b, out }))
    }
}

pub fn rank_one(Edges([n, _, k_in, k_out]): Edges, constant: bool, wide: bool) -> impl Fn(DType, DType) -> Case {
    move |dtype, numbers| {
        let mut p = Parts::new(dtype, numbers);
        let (f_hat, s, g) = (p.input(n, k_in, wide), p.input(n, 1, wide), p.input(n, 1, false));
        let l = if constant { Side::Constant(p.tensor(1, k_in)) } else { Side::Rows(p.input(n, k_in, wide)) };
        let y = if constant { Side::Rows(p.input(n, k_out, wide)) } else { Side::Constant(p.tensor(1, k_out)) };
        let (z1, z0) = (p.tensor(k_in, k_out), p.tensor(k_in, k_out));
        let out = p.sums(k_out, k_in);
        p.case(Launch::EdgeRankOne(edge_squares::RankOneArgs { f_hat, s, g, l, y, z1, z0, out }))
    }
}

fn moments_agree<T: Real>(backend: Backend) {
    let acts = [Activation::Relu, Activation::Gelu, Activation::GeluNew, Activation::Silu, Activation::Tanh];
    for (i, (n, m)) in [(1, 1), (40, 7), (3, 33), (21, 40), (5, 2)].into_iter().enumerate() {
        for gated in [false, true] {
            let what = format!("{:?} [{n}, {m}] gated: {gated}", acts[i]);
            agrees::<T>(backend, &what, bar(T::DTYPE), &mlp_moments(n, m, acts[i], gated, i % 2 == 1));
        }
    }
}

/// The bar of what divides by the size of a row.
fn norm_bar(dtype: DType) -> f64 {
    if dtype == DType::F64 { 1e-13 } else { 5e-6 }
}

fn norms_agree<T: Real>(backend: Backend) {
    for norm in [First, Second, Whole] {
        for (n, d, wide) in [(1, 2, false), (9, 33, true), (50, 5, false), (17, 64, true)] {
            let what = format!("{norm:?} [{n}, {d}]");
            agrees::<T>(backend, &what, norm_bar(T::DTYPE), &of_norm(norm, n, d, wide));
            agrees::<T>(backend, &format!("rows of {what}"), norm_bar(T::DTYPE), &norm_rows(norm, n, d, wide));
        }
    }
}

fn squares_agree<T: Real>(backend: Backend) {
    for (i, edges) in [[1, 1, 1, 1], [9, 19, 34, 33], [34, 3, 2, 40], [5, 40, 40, 3]].into_iter().enumerate() {
        let act = [Activation::Gelu, Activation::Silu, Activation::Relu, Activation::Tanh][i];
        for gated in [false, true] {
            let what = format!("{edges:?} gated: {gated}");
            agrees::<T>(backend, &what, bar(T::DTYPE), &squares(Edges(edges), act, gated, i % 2 == 1));
        }
    }
}

fn rank_ones_agree<T: Real>(backend: Backend) {
    for edges in [[1, 0, 1, 1], [90, 0, 35, 33], [34, 0, 2, 70]] {
        for constant in [false, true] {
            let what = format!("{edges:?} constant: {constant}");
            agrees::<T>(backend, &what, bar(T::DTYPE), &rank_one(Edges(edges), constant, constant));
        }
    }
}

on_every_backend! {
    fn moments_of_mlps_in_f32(backend: Backend) { moments_agree::<f32>(backend) }
    fn moments_of_norms_in_f32(backend: Backend) { norms_agree::<f32>(backend) }
    fn squared_edges_of_mlps_in_f32(backend: Backend) { squares_agree::<f32>(backend) }
    fn squared_edges_of_norms_in_f32(backend: Backend) { rank_ones_agree::<f32>(backend) }
}

on_every_backend! {
    f64:
    fn moments_of_mlps_in_f64(backend: Backend) { moments_agree::<f64>(backend) }
    fn moments_of_norms_in_f64(backend: Backend) { norms_agree::<f64>(backend) }
    fn squared_edges_of_mlps_in_f64(backend: Backend) { squares_agree::<f64>(backend) }
    fn squared_edges_of_norms_in_f64(backend: Backend) { rank_ones_agree::<f64>(backend) }
}

#[test]
fn bugs_planted_in_moments_are_caught() {
    const DERIVATIVES: &str = "derivatives_sm80";
    const SUMS: &str = "column_sums_sm80";
    let bugs = [
        bug(DERIVATIVES, "the last point is left out", "setp.ne.u32     %more, %count, 0;", "setp.gt.u32 %more, %count, 1;"),
        bug(DERIVATIVES, "alpha is not applied", "mul.rn.f32 %at, %alpha, %x;", "mov.f32 %at, %x;"),
        bug(DERIVATIVES, "q comes to lie on p", "mad.wide.u32    %out_at, %second, 4, %out_at;", ""),
        bug(SUMS, "no barrier between the levels", "bar.sync        0;", ""),
        bug(SUMS, "every thread adds a row too many", "sub.s32         %left, %rows, %group;", "mov.s32 %left, %rows;"),
        bug(SUMS, "the last level is left out", "setp.ne.u32     %more, %half, 0;", "setp.gt.u32 %more, %half, 1;"),
        bug(SUMS, "what was there is lost", "add.rn.f64      %sum, %wide, %sum;", ""),
    ];
    all_caught(&bugs, |device| {
        content::<f32>(device, 1e-6, &mlp_moments(40, 7, Activation::Silu, true, true))?;
        content::<f32>(device, 1e-6, &mlp_moments(13, 40, Activation::Gelu, false, false))
    });
}

#[test]
fn bugs_planted_in_norm_moments_are_caught() {
    const TERMS: &str = "norm_terms_sm80";
    const WEIGH: &str = "norm_weigh_sm80";
    let bugs = [
        bug(TERMS, "the mean stays", "sub.rn.f32 %value, %value, %mean;", ""),
        bug(TERMS, "a column beside x is read", "setp.gt.s32     %more, %left, 0;", "setp.ge.s32 %more, %left, 0;"),
        bug(TERMS, "lanes are not added", "shfl.sync.bfly.b32 %high, %high, 4,", "shfl.sync.bfly.b32 %high, %high, 0,"),
        bug(TERMS, "a given variance is not taken", "selp.f64        %variance, %wide, %variance, %given;", ""),
        bug(
            TERMS,
            "eps is forgotten",
            "fma.rn.f64      %sigma, %power, %variance, %eps;",
            "mul.rn.f64 %sigma, %power, %variance;",
        ),
        bug(WEIGH, "no root", "sqrt.rn.f64     %sum, %wide;", "mov.f64 %sum, %wide;"),
        bug(WEIGH, "s1 is forgotten", "setp.eq.u32     %is, %mode, 2;", "setp.eq.u32 %is, %mode, 4;"),
        bug(WEIGH, "the quadratic form is forgotten", "mul.rn.f64      %size, %size, %sum;", ""),
        bug(WEIGH, "a column beside c is written", "setp.gt.s32     %more, %left, 0;", "setp.ge.s32 %more, %left, 0;"),
    ];
    all_caught(&bugs, |device| {
        content::<f32>(device, 5e-6, &of_norm(Second, 9, 33, true))?;
        content::<f32>(device, 5e-6, &of_norm(Whole, 11, 32, false))
    });
}

#[test]
fn bugs_planted_in_edges_are_caught() {
    const EDGES: &str = "edges_sm80";
    let bugs = [
        bug(EDGES, "no wait for the stage", "cp.async.wait_group 1;", ""),
        bug(EDGES, "one wait too few", "cp.async.wait_group 1;", "cp.async.wait_group 2;"),
        bug(EDGES, "no barrier before the stage is refilled", "bar.sync        0;", ""),
        bug(EDGES, "copies in flight at the end", "cp.async.wait_all;", ""),
        bug(
            EDGES,
            "the diagonals of the next tokens begin behind the last unit",
            "mov.u32         %copied, 0;",
            "mov.u32 %copied, 1;",
        ),
        bug(
            EDGES,
            "units behind the last are read",
            "setp.gt.s32     %there, %d_left1, 0;",
            "setp.ge.s32 %there, %d_left1, -99;",
        ),
        bug(
            EDGES,
            "tokens behind the slab are weighed",
            "setp.gt.s32     %row_within, %tokens_left, 3;",
            "setp.gt.s32 %row_within, %tokens_left, 2;",
        ),
        bug(EDGES, "a diagonal for another", "mul.rn.f32 %scaled, %ds1, %us0;", "mul.rn.f32 %scaled, %ds0, %us0;"),
        bug(EDGES, "the second diagonal is left out", "fma.rn.f32 %scaled, %ds5, %us5, %scaled;", ""),
        bug(EDGES, "a promotion is lost", "add.rn.f32 %total1, %total1, %sum1;", ""),
        bug(EDGES, "the slabs share their sums", "mul.wide.u32    %at, %slab, %k_out;", "mul.wide.u32 %at, %slab, 0;"),
    ];
    all_caught(&bugs, |device| content::<f32>(device, 1e-6, &squares(Edges([19, 20, 5, 33]), Activation::Gelu, true, true)));
}

#[test]
fn bugs_planted_in_rank_one_edges_are_caught() {
    const EDGES: &str = "edges_rank_one_sm80";
    let bugs = [
        bug(
            EDGES,
            "the scale of z1 is forgotten",
            "fma.rn.f32 %jacobian, %scale, %one5, %zero5;",
            "add.rn.f32 %jacobian, %one5, %zero5;",
        ),
        bug(
            EDGES,
            "the last slab is not cut",
            "min.s32         %tokens_left, %tokens_left, %slab_tokens;",
            "mov.s32 %tokens_left, %slab_tokens;",
        ),
        bug(EDGES, "a promotion is lost", "add.rn.f32 %total2, %total2, %sum2;", ""),
        bug(EDGES, "y stays at the first token", "add.s64         %y, %y, %y_step;", ""),
        bug(
            EDGES,
            "one output too many is written",
            "setp.gt.s32     %row_within, %i_left, 33;",
            "setp.ge.s32 %row_within, %i_left, 33;",
        ),
    ];
    all_caught(&bugs, |device| content::<f32>(device, 1e-6, &rank_one(Edges([90, 0, 35, 49]), true, true)));
}

#[test]
fn wgpu_bugs_planted_in_moments_are_caught() {
    const DERIVATIVES: &str = "derivatives_f32";
    const SUMS: &str = "column_sums_f32";
    let bugs = [
        bug(DERIVATIVES, "the last point is left out", "node < p.count; node++", "node + 1u < p.count; node++"),
        bug(DERIVATIVES, "alpha is not applied", "act_slope(point.y * x), slope)", "act_slope(x), slope)"),
        bug(DERIVATIVES, "q comes to lie on p", "out[at + p.cols] = value;", "out[at] = value;"),
        bug(
            SUMS,
            "no barrier between the levels",
            "fold_parts[thread + left]);\n        }\n        workgroupBarrier();",
            "fold_parts[thread + left]);\n        }",
        ),
        bug(SUMS, "low parts are lost", "Pair(b.x, b.y)", "Pair(b.x, 1e-3 * b.x)"),
        bug(SUMS, "what was there is lost", "out[p.out_offset + column] +=", "out[p.out_offset + column] ="),
    ];
    all_caught_on_wgpu(&bugs, |device| {
        content::<f32>(device, 1e-6, &mlp_moments(140, 7, Activation::Silu, true, true))?;
        content::<f32>(device, 1e-6, &mlp_moments(13, 40, Activation::Gelu, false, false))
    });
}

#[test]
fn wgpu_bugs_planted_in_norm_moments_are_caught() {
    const TERMS: &str = "norm_terms_f32";
    const WEIGH: &str = "norm_weigh_f32";
    let bugs = [
        bug(TERMS, "the mean is not corrected", "(x[first + i] - mean) - rest", "x[first + i] - 1.01 * mean"),
        bug(TERMS, "a given variance is not taken", "variance = v[p.v_offset + row * p.v_stride];", ""),
        bug(TERMS, "eps is forgotten", "max(variance, 0.0), p.eps)", "max(variance, 0.0), 0.0)"),
        bug(TERMS, "numbers lose weight at each level", "return a + b;", "return a + 0.9 * b;"),
        bug(WEIGH, "no root", "root = sqrt(k[row]);", "root = k[row];"),
        bug(WEIGH, "s1 is forgotten", "root = sqrt(k[row] * s[row]);", "root = sqrt(k[row]);"),
        bug(WEIGH, "the quadratic form is forgotten", "root *= sqrt(max(square, 0.0));", ""),
    ];
    all_caught_on_wgpu(&bugs, |device| {
        content::<f32>(device, 5e-6, &of_norm(Second, 9, 33, true))?;
        content::<f32>(device, 5e-6, &of_norm(Whole, 11, 32, false))
    });
}

#[test]
fn wgpu_bugs_planted_in_edges_are_caught() {
    const EDGES: &str = "edges_f32";
    const RANK_ONE: &str = "edges_rank_one_f32";
    let bugs = [
        bug(EDGES, "no barrier before the products", "unit, left, top);\n            workgroupBarrier();", "unit, left, top);"),
        bug(
            EDGES,
            "no barrier after the products",
            "            }\n            workgroupBarrier();\n        }",
            "            }\n        }",
        ),
        bug(EDGES, "the linear part is left out", "quad[j] = b[(row + j) * p.b_stride + column];", ""),
        bug(EDGES, "a diagonal for another", "var scaled_1 = diagonal_0[1] * left_0;", "var scaled_1 = diagonal_0[0] * left_0;"),
        bug(EDGES, "the second diagonal is left out", "fma(vec4<f32>(diagonal_1[2]), left_1, scaled_2)", "scaled_2"),
        bug(EDGES, "the features of another token", "features(token + 2u", "features(token + 1u"),
        bug(EDGES, "the slabs share their sums", "(slab * p.k_out + i + 1u)", "(i + 1u)"),
        bug(RANK_ONE, "the scale of z1 is forgotten", "fma(scale, one_1, zero_1)", "(one_1 + zero_1)"),
        bug(
            RANK_ONE,
            "the last slab is not cut",
            "let end = min(p.n, (slab + 1u) * p.slab_tokens);\n\n    // Columns",
            "let end = p.n;\n\n    // Columns",
        ),
        bug(RANK_ONE, "y stays at the first token", "let along = y_quad(t, i,", "let along = y_quad(0u, i,"),
        bug(RANK_ONE, "tokens of a group are counted twice", "first += 16u", "first += 15u"),
    ];
    all_caught_on_wgpu(&bugs, |device| {
        content::<f32>(device, 1e-6, &squares(Edges([19, 20, 5, 33]), Activation::Gelu, true, true))?;
        content::<f32>(device, 1e-6, &rank_one(Edges([90, 0, 35, 49]), true, true))
    });
}
