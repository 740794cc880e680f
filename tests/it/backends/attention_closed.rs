//! The closed forms of attention, moments and edges, against the CPU in f64.

use mechgraph::device::{Arena, Builder, DType, Program, Real, Tensor, View};
use mechgraph::ops::{Attention, Launch, attention_edges, attention_moments, run_cpu};

use super::attention::{on_host, tight};
use super::planted::{all_caught, all_caught_on_wgpu, bug, run_on};
use super::{Backend, against_cpu, error, fill, on_every_backend, run};

/// Relative Frobenius errors that results may have.
fn bar(dtype: DType) -> f64 {
    if dtype == DType::F64 { 1e-13 } else { 5e-6 }
}

#[derive(Clone, Debug)]
struct Case {
    batch: usize,
    seq: usize,
    heads: usize,
    d_head: usize,
    d_v: usize,
    last_only: bool,
    nodes: Vec<(f64, f64)>,
    /// Columns before q and behind all the rows hold.
    beside: usize,
    /// Of edges: whether values have a constant coordinate.
    constant: bool,
}

/// What a program reads and what it adds to, by name.
struct Run {
    program: Program<Launch>,
    inputs: Vec<(View, Vec<f64>)>,
    sums: Vec<(&'static str, View)>,
}

/// The dtype that numbers are rounded to, and that of the program over them.
#[derive(Clone, Copy)]
struct Dtypes {
    numbers: DType,
    program: DType,
}

impl Dtypes {
    /// Numbers moved by `offset`.
    fn numbers(self, n: usize, seed: u64, offset: f64) -> Vec<f64> {
        let round = |x: f64| if self.numbers == DType::F32 { f64::from(x as f32) } else { x };
        crate::common::numbers(n, seed).into_iter().map(|x| round(x + offset)).collect()
    }
    fn tensor(self, rows: usize, cols: usize, seed: u64) -> Tensor {
        Tensor::from_f64(self.program, rows, cols, self.numbers(rows * cols, seed, 0.0))
    }
}

fn layer(t: Dtypes, c: &Case, b: &mut Builder<Launch>, extra: usize, inputs: &mut Vec<(View, Vec<f64>)>) -> (Attention, View) {
    let (rows, dk, dv) = (c.batch * c.seq, c.heads * c.d_head, c.heads * c.d_v);
    let wide = b.matrix(rows, 2 * dk + dv + extra + 2 * c.beside);
    let rest = |from| wide.columns(c.beside + from, wide.cols - c.beside - from);
    let (q, k, v) = (rest(0).columns(0, dk), rest(dk).columns(0, dk), rest(2 * dk).columns(0, dv));
    // Keys and values far from centred.
    for (seed, (view, offset)) in [(q, 0.0), (k, 1.0), (v, -1.5)].into_iter().enumerate() {
        inputs.push((view, t.numbers(rows * view.cols, seed as u64 + 1, offset)));
    }
    let Case { batch, seq, heads, d_head, d_v, last_only, .. } = *c;
    let attention = Attention { batch, seq, heads, d_head, d_v, scale: 0.6, last_only, nodes: c.nodes.clone(), q, k, v };
    (attention, rest(2 * dk + dv).columns(0, extra))
}

/// A matrix to add to, inside of a larger one, and what it begins with.
fn sum(t: Dtypes, b: &mut Builder<Launch>, rows: usize, cols: usize, inputs: &mut Vec<(View, Vec<f64>)>) -> View {
    let view = b.matrix(rows + 1, cols + 2).slice_rows(1, rows).columns(1, cols);
    inputs.push((view, t.numbers(rows * cols, 50 + inputs.len() as u64, 0.0)));
    view
}

fn moments(t: Dtypes, c: &Case) -> Run {
    let (mut b, mut inputs) = (Builder::<Launch>::new(t.program), Vec::new());
    let (attention, _) = layer(t, c, &mut b, 0, &mut inputs);
    let (dk, dv) = (c.heads * c.d_head, c.heads * c.d_v);
    let x = t.numbers(dv * dv, 9, 0.0);
    let p = (0..dv * dv).map(|at| x[(at / dv).max(at % dv) * dv + (at / dv).min(at % dv)]).collect();
    let mut add = |rows, cols| sum(t, &mut b, rows, cols, &mut inputs);
    let (qq, kk, qk, qv, kv) = (add(dk, dk), add(dk, dk), add(dk, dk), add(dk, dv), add(dk, dv));
    let (vv, lq, lk, lv) = (add(c.heads, c.heads), add(dk, c.d_v), add(dk, c.d_v), add(1, c.heads));
    let sums = vec![("qq", qq), ("kk", kk), ("qk", qk), ("qv", qv), ("kv", kv), ("vv", vv), ("lq", lq), ("lk", lk), ("lv", lv)];
    // The CPU mirrors what it begins with, too: symmetric sums begin symmetric.
    for view in [qq, kk] {
        let (_, data) = inputs.iter_mut().find(|(v, _)| *v == view).unwrap();
        (0..dk * dk).for_each(|at| data[at] = data[(at / dk).max(at % dk) * dk + (at / dk).min(at % dk)]);
    }
    let p_mat = Tensor::from_f64(t.program, dv, dv, p);
    let args = attention_moments::Args { attention, p_mat, qq, kk, qk, qv, kv, vv, lq, lk, lv };
    args.check().unwrap();
    b.push(Launch::AttentionMoments(args));
    Run { program: b.finish(), inputs, sums }
}

fn edges(t: Dtypes, c: &Case, k_in: usize, k_out: usize) -> Run {
    let (mut b, mut inputs) = (Builder::<Launch>::new(t.program), Vec::new());
    let (attention, f_hat) = layer(t, c, &mut b, k_in, &mut inputs);
    inputs.push((f_hat, t.numbers(c.batch * c.seq * k_in, 4, 0.0)));
    let (dk, width) = (c.heads * c.d_head, c.heads * (c.d_v + usize::from(c.constant)));
    let out = sum(t, &mut b, k_out, k_in, &mut inputs);
    let args = attention_edges::Args {
        attention,
        f_hat,
        q_e: t.tensor(k_in, dk, 10),
        k_e: t.tensor(k_in, dk, 11),
        v_e: t.tensor(k_in, width, 12),
        o_e: t.tensor(width, k_out, 13),
        b_e: t.tensor(k_in, k_out, 14),
        out,
    };
    args.check().unwrap();
    b.push(Launch::AttentionEdges(args));
    Run { program: b.finish(), inputs, sums: vec![("edges", out)] }
}

/// Moments and edges of every case in f32.
pub fn in_f32() -> Vec<against_cpu::Case> {
    let t = Dtypes { numbers: DType::F32, program: DType::F32 };
    let runs = cases().into_iter().flat_map(|c| [moments(t, &c), edges(t, &c, 3, 2)]);
    let plain = |Run { program, inputs, sums }| {
        let outputs = sums.into_iter().map(|(_, view)| view).collect();
        against_cpu::Case { program, inputs, ints: vec![], outputs }
    };
    runs.map(plain).collect()
}

/// The sums of a program on the CPU in f64.
fn expected(run: &Run) -> Vec<Vec<f64>> {
    let mut arena = Arena::<f64>::new(&run.program.layout);
    fill(&mut arena, &run.inputs);
    run_cpu(&run.program, &mut arena);
    run.sums.iter().map(|(_, v)| (0..v.rows).flat_map(|i| arena.row(v, i).to_vec()).collect()).collect()
}

fn compare<T: Real>(what: &str, run: &Run, found: &Arena<T>, expected: &[Vec<f64>]) -> Result<(), String> {
    for ((name, view), expected) in run.sums.iter().zip(expected) {
        let e = error(found, view, expected);
        if e.is_nan() || e > bar(T::DTYPE) {
            return Err(format!("{what}: {name}: {e:e}"));
        }
    }
    Ok(())
}

/// Against the CPU, for a program made from the same numbers in two dtypes.
fn hold<T: Real>(backend: Backend, what: &str, of: impl Fn(Dtypes) -> Run) {
    let case = of(Dtypes { numbers: T::DTYPE, program: T::DTYPE });
    let outputs: Vec<View> = case.sums.iter().map(|(_, v)| *v).collect();
    let found = run::<T>(backend, &case.program, &case.inputs, &outputs);
    let exact = expected(&of(Dtypes { numbers: T::DTYPE, program: DType::F64 }));
    compare(what, &case, &found, &exact).unwrap_or_else(|e| panic!("{backend:?} {e}"));
    if backend == Backend::Llvmpipe {
        assert_eq!(on_host(&backend.open().unwrap(), &case.program), Vec::<String>::new(), "{backend:?} {what}");
    }
}

const NODES: [(f64, f64); 3] = [(0.2, 0.15), (0.5, 0.55), (0.3, 0.9)];

fn case(sizes: [usize; 5], last_only: bool, quadrature: bool) -> Case {
    let nodes = if quadrature { NODES.to_vec() } else { vec![(1.0, 1.0)] };
    let [batch, seq, heads, d_head, d_v] = sizes;
    Case { batch, seq, heads, d_head, d_v, last_only, nodes, beside: 1, constant: !last_only }
}

fn cases() -> Vec<Case> {
    vec![
        case([3, 6, 3, 4, 5], false, true),
        case([2, 7, 2, 3, 2], true, true),
        case([4, 3, 2, 5, 6], false, false),
        case([1, 1, 1, 2, 1], false, false),
        case([1, 35, 1, 3, 33], true, false),
        whole_quads(),
    ]
}

/// Rows of whole quads.
fn whole_quads() -> Case {
    Case { beside: 4, ..case([2, 9, 2, 8, 4], false, true) }
}

fn all_moments<T: Real>(backend: Backend) {
    cases().iter().for_each(|c| hold::<T>(backend, &format!("{c:?}"), |t| moments(t, c)));
}

fn all_edges<T: Real>(backend: Backend) {
    let directions = [(11, 9), (5, 3), (3, 40), (1, 1), (2, 4), (4, 8)];
    for (c, (k_in, k_out)) in cases().iter().zip(directions) {
        hold::<T>(backend, &format!("{c:?} {k_in} {k_out}"), |t| edges(t, c, k_in, k_out));
    }
}

on_every_backend! {
    fn attention_moments_in_f32(backend: Backend) { all_moments::<f32>(backend) }
    fn attention_edges_in_f32(backend: Backend) { all_edges::<f32>(backend) }
}

on_every_backend! {
    f64:
    fn attention_moments_in_f64(backend: Backend) { all_moments::<f64>(backend) }
    fn attention_edges_in_f64(backend: Backend) { all_edges::<f64>(backend) }
}

/// More sequences than a tile holds, and a sequence that takes several tiles.
fn tiled() -> [Case; 2] {
    [case([130, 2, 1, 2, 1], false, false), case([1, 67, 1, 2, 2], false, true)]
}

#[test]
fn tiles_add_up_on_the_interpreter() {
    let device = &Backend::Interpreter.devices()[0];
    let t = Dtypes { numbers: DType::F64, program: DType::F64 };
    for c in tiled() {
        for run in [moments(t, &c), edges(t, &c, 3, 2)] {
            let found = run_on::<f64>(device, &run.program, &run.inputs).unwrap();
            compare(&format!("{c:?}"), &run, &found, &expected(&run)).unwrap();
        }
    }
}

fn tiles_add_up_in_f32(backend: Backend) {
    for c in tiled() {
        hold::<f32>(backend, &format!("{c:?}"), |t| moments(t, &c));
        hold::<f32>(backend, &format!("{c:?}"), |t| edges(t, &c, 3, 2));
    }
}

#[test]
fn tiles_add_up_on_wgpu() {
    Backend::Llvmpipe.hold(tiles_add_up_in_f32);
}

#[test]
fn rows_of_whole_quads_give_the_bits_of_others() {
    Backend::Llvmpipe.hold(|backend| {
        let t = Dtypes { numbers: DType::F32, program: DType::F32 };
        let (whole, other) = (whole_quads(), Case { beside: 1, ..whole_quads() });
        let bits = |run: Run| {
            let outputs: Vec<View> = run.sums.iter().map(|(_, v)| *v).collect();
            let found = super::run::<f32>(backend, &run.program, &run.inputs, &outputs);
            let rows = outputs.iter().flat_map(|v| (0..v.rows).map(move |i| (v, i)));
            rows.flat_map(|(v, i)| found.row(v, i).iter().map(|x| x.to_bits())).collect::<Vec<u32>>()
        };
        assert!(bits(moments(t, &whole)) == bits(moments(t, &other)), "moments");
        assert!(bits(edges(t, &whole, 4, 8)) == bits(edges(t, &other, 4, 8)), "edges");
    });
}

#[test]
fn parts_that_no_binding_holds_are_left_to_the_host() {
    Backend::Llvmpipe.hold(|_| {
        let (device, t) = (tight(4096), Dtypes { numbers: DType::F32, program: DType::F32 });
        let exact = Dtypes { program: DType::F64, ..t };
        let c = case([2, 6, 2, 3, 40], false, true);
        for (run, exact, name) in [
            (moments(t, &c), moments(exact, &c), "attention_moments"),
            (edges(t, &c, 3, 2), edges(exact, &c, 3, 2), "attention_edges"),
        ] {
            assert!(on_host(&device, &run.program).contains(&name.to_string()), "{name}");
            let found = run_on::<f32>(&device, &run.program, &run.inputs).unwrap();
            compare(name, &run, &found, &expected(&exact)).unwrap();
        }
    });
}

#[test]
fn bugs_planted_in_closed_forms_are_caught() {
    let bugs = [
        bug(
            "attention_centre_sm80",
            "keys behind the sequence",
            "setp.gt.s32     %present2, %left, 2;",
            "setp.ge.s32 %present2, %left, 2;",
        ),
        bug(
            "attention_centre_sm80",
            "all sequences are the first",
            "mul.lo.s64      %from, %from, %sequence_stride;",
            "mov.u64 %from, 0;",
        ),
        bug(
            "attention_centre_sm80",
            "rows behind the keys are written",
            "@%present2 st.global.f32 [%y], %value2;",
            "st.global.f32 [%y], %value1;",
        ),
        bug(
            "attention_omega_sm80",
            "a query sees the key behind it",
            "add.u32         %visible, %position, 1;",
            "add.u32 %visible, %position, 2;\nmin.u32 %visible, %visible, %keys;",
        ),
        bug("attention_omega_sm80", "hidden keys keep what was there", "st.global.f32 [%at], 0f00000000;", ""),
        bug("attention_omega_sm80", "nodes do not add up", "@%first_node bra.uni fresh0;", "bra.uni fresh0;"),
        bug("attention_omega_sm80", "z is left out", "sub.rn.f32 %value0, %value0, %z0;", ""),
        bug(
            "attention_omega_sm80",
            "the second group of columns",
            "@%within1 ld.global.f32 %value1, [%value_at+128];",
            "@%within1 ld.global.f32 %value1, [%value_at];",
        ),
        bug(
            "attention_contract_sm80",
            "the tail is left out",
            "setp.gt.s32     %present0, %left, 0;",
            "setp.gt.s32 %present0, %left, 31;",
        ),
        bug("attention_contract_sm80", "one sum of four is lost", "add.rn.f32 %sum2, %sum2, %sum3;", "mov.f32 %sum2, %sum3;"),
        bug(
            "attention_directions_sm80",
            "all queries are the first of their sequence",
            "add.u32         %position, %position, %start;",
            "mov.u32 %position, %start;",
        ),
        bug("attention_directions_sm80", "keys of another head", "mad.lo.u32      %row, %head, %key_rows, %row;", ""),
        bug(
            "attention_values_sm80",
            "the constant coordinate is added to what was there",
            "setp.lt.u32     %adds, %column, %narrow;",
            "setp.lt.u32 %adds, %column, %wide;",
        ),
        bug("attention_values_sm80", "the weight of another head", "div.u32         %head, %column, %wide;", "mov.u32 %head, 0;"),
        bug(
            "attention_squares_sm80",
            "the last queries are left out",
            "setp.gt.s32     %more, %left, 0;",
            "setp.gt.s32 %more, %left, 4;",
        ),
        bug("attention_squares_sm80", "the linear part is left out", "fma.rn.f32 %x1, %y1, %slope, %x1;", ""),
        bug("attention_squares_sm80", "what was there is lost", "add.rn.f64      %sum, %wide, %sum;", ""),
    ];
    let t = Dtypes { numbers: DType::F32, program: DType::F32 };
    let exact = Dtypes { program: DType::F64, ..t };
    let cases = [case([2, 6, 2, 3, 40], false, true), case([2, 3, 2, 3, 2], false, false)];
    let of = |t| cases.iter().flat_map(|c| [moments(t, c), edges(t, c, 3, 2)]).collect::<Vec<Run>>();
    let runs: Vec<(Run, Vec<Vec<f64>>)> = of(t).into_iter().zip(of(exact).iter().map(expected)).collect();
    all_caught(&bugs, |device| {
        runs.iter().try_for_each(|(run, expected)| {
            let found = run_on::<f32>(device, &run.program, &run.inputs)?;
            compare("planted", run, &found, expected)
        })
    });
}

#[test]
fn bugs_planted_in_closed_forms_on_wgpu_are_caught() {
    let bugs = [
        bug("attention_centre_f32", "all sequences are the first", "let first = unit / p.across * p.keys;", "let first = 0u;"),
        bug("attention_centre_f32", "every key has a mean of its own", "+ column] - mean;", "+ column] - mean * f32(key);"),
        bug(
            "attention_centre_f32",
            "the last columns are left out",
            "let column = unit % p.across * 64u + thread;",
            "let column = thread;",
        ),
        bug("attention_centre_f32", "the row behind", "key * p.x_row + column] - mean", "(key + 1u) * p.x_row + column] - mean"),
        bug(
            "attention_omega_f32",
            "a query sees the key behind it",
            "let visible = position + 1u;",
            "let visible = min(position + 2u, p.keys);",
        ),
        bug("attention_omega_f32", "every quad of a key is the first", "return k[at / 4u];", "return k[(at - column) / 4u];"),
        bug("attention_omega_f32", "rows of queries are counted in quads", "return q[at / 4u];", "return q[at];"),
        bug("attention_omega_f32", "the last elements of a key are left out", "quad.y = k[at + 1u];", ""),
        bug("attention_omega_f32", "nodes do not add up", "sum = omega[at];", ""),
        bug("attention_omega_f32", "z is left out", "+ column] - z, sum)", "+ column], sum)"),
        bug(
            "attention_omega_f32",
            "weights are read before they are written",
            "weights[thread] = weight;\n                workgroupBarrier();",
            "weights[thread] = weight;",
        ),
        bug("attention_omega_f32", "the pattern of one node", "fma(w, weight, pattern[pairs + key])", "w * weight"),
        bug("attention_contract_f32", "the tail is left out", "if i + 64u < p.length {", "if i + 128u < p.length {"),
        bug("attention_contract_f32", "one sum of two is lost", "even + odd", "even"),
        bug("attention_contract_f32", "the query of another head", " + row / p.queries * p.d;", ";"),
        bug(
            "attention_contract_f32",
            "no barrier between the levels of the tree",
            "total_of_parts[thread + left]);\n        }\n        workgroupBarrier();",
            "total_of_parts[thread + left]);\n        }",
        ),
        bug(
            "attention_directions_f32",
            "all queries are the first of their sequence",
            "let position = sequence + query % p.each + p.start;",
            "let position = sequence + p.start;",
        ),
        bug("attention_directions_f32", "keys of another head", "(head * p.key_rows + sequence + key)", "(sequence + key)"),
        bug("attention_directions_f32", "keys of another sequence", "(sequence + key) * p.f_row", "key * p.f_row"),
        bug("attention_directions_f32", "the query does not move", "along_q, along_k)", "along_q, 0.0 * along_k)"),
        bug(
            "attention_values_f32",
            "the constant coordinate is added to what was there",
            "column % p.wide < p.narrow",
            "column % p.wide < p.wide",
        ),
        bug("attention_values_f32", "the weight of another head", "(column / p.wide * p.queries + query)", "query"),
        bug("attention_values_f32", "all rows are the first", "let row = own / p.width % p.rows;", "let row = 0u;"),
        bug("attention_values_f32", "what the scores move is lost", "sum = psi[own];", ""),
        bug(
            "attention_squares_f32",
            "the last query is left out",
            "query < p.queries; query++",
            "query + 1u < p.queries; query++",
        ),
        bug("attention_squares_f32", "the linear part is left out", "let slope = b[own];", "let slope = 0.0 * b[own];"),
        bug(
            "attention_squares_f32",
            "what was there is lost",
            "two_sum(out[at], total.high)",
            "two_sum(0.0 * out[at], total.high)",
        ),
        bug(
            "attention_squares_f32",
            "rows and columns are exchanged",
            "own % p.cols * p.out_row + row",
            "row * p.out_row + own % p.cols",
        ),
    ];
    let t = Dtypes { numbers: DType::F32, program: DType::F32 };
    let exact = Dtypes { program: DType::F64, ..t };
    let further = [case([130, 2, 1, 2, 1], false, false), case([1, 20, 1, 2, 3], false, true), whole_quads()];
    let cases = [&[case([2, 6, 2, 3, 40], false, true)], &further[..]].concat();
    let of = |t| cases.iter().flat_map(|c| [moments(t, c), edges(t, c, 3, 2)]).collect::<Vec<Run>>();
    let runs: Vec<(Run, Vec<Vec<f64>>)> = of(t).into_iter().zip(of(exact).iter().map(expected)).collect();
    all_caught_on_wgpu(&bugs, |device| {
        runs.iter().try_for_each(|(run, expected)| {
            let found = run_on::<f32>(device, &run.program, &run.inputs)?;
            compare("planted", run, &found, expected)
        })
    });
}
