//! Attention of packed sequences and of sequences of one length, with tangents and cotangents: against the
//! CPU in f64, the adjoint identity, and independence of what else is in the batch.

use std::sync::Arc;

use mechgraph::device::wgpu::Options;
use mechgraph::device::{Arena, Builder, Cpu, DType, Device, IntBuffer, Placement, Program, Real, View, Wgpu};
use mechgraph::ops::packing::{Heads, Packing};
use mechgraph::ops::{Launch, attention, offload, run_cpu, sdpa};

use super::planted::{Bug, all_caught, all_caught_on_wgpu, bug, run_on_with_ints};
use super::{Backend, adapter, fill, fill_ints, on_every_backend, rounded, run_with_ints};

/// Relative Frobenius errors that results may have.
fn bar(dtype: DType) -> f64 {
    if dtype == DType::F64 { 1e-13 } else { 5e-6 }
}

/// How far the two sides of the adjoint identity may be apart, relative to the norms of its vectors.
fn adjoint_bar(dtype: DType) -> f64 {
    if dtype == DType::F64 { 1e-12 } else { 1e-4 }
}

/// Packed sequences.
#[derive(Clone, Debug)]
pub struct Packed {
    pub lengths: Vec<usize>,
    /// Rows that ask, all if absent.
    pub queries: Option<Vec<u32>>,
    /// Rows hidden as keys.
    pub hidden: Vec<usize>,
    pub shape: sdpa::Shape,
    pub probes: usize,
    /// What lies before the first head, between heads and behind the last in the rows of q, k and v, and of their
    /// derivatives.
    pub around: [[usize; 3]; 3],
}

/// Heads side by side, and within rows that hold other things too.
pub const DENSE: [[usize; 3]; 3] = [[0; 3]; 3];
const WITHIN: [[usize; 3]; 3] = [[2, 3, 3]; 3];

/// What a program reads and writes: inputs per head, numbers, and the outputs by their names.
pub struct Case {
    pub program: Program<Launch>,
    pub inputs: Vec<(View, Vec<f64>)>,
    pub ints: Vec<(IntBuffer, Vec<u32>)>,
    pub outputs: Vec<(&'static str, Vec<View>)>,
    /// The views of dq, dk, dv and of dz as inputs, then as outputs.
    tangents: [Vec<View>; 2],
    cotangents: [Vec<View>; 2],
}

/// Hands out inputs with numbers of their own.
struct Numbers<T> {
    inputs: Vec<(View, Vec<f64>)>,
    seed: u64,
    dtype: std::marker::PhantomData<T>,
}

impl<T: Real> Numbers<T> {
    fn new() -> Self {
        Self { inputs: Vec::new(), seed: 0, dtype: std::marker::PhantomData }
    }
    /// Fills a view; rows whose numbers follow from `seed` and row, not from where they lie.
    fn fill(&mut self, view: View, scale: f64) {
        self.seed += 1;
        let data = rounded(T::DTYPE, view.rows * view.cols, self.seed);
        self.inputs.push((view, data.iter().map(|x| T::of(scale * x).to_f64()).collect()));
    }
    fn heads(&mut self, x: &[View], scale: f64) {
        x.iter().for_each(|view| self.fill(*view, scale));
    }
}

/// Heads of `rows` rows, and a view of each.
fn heads(b: &mut Builder<Launch>, rows: usize, count: usize, width: usize, around: [usize; 3]) -> (Heads, Vec<View>) {
    let [before, between, behind] = around;
    let pitch = width + between;
    let heads = Heads::within(b.matrix(rows, before + count * pitch + behind), before, pitch);
    (heads, (0..count).map(|h| heads.head(h, width)).collect())
}

/// Attention of packed sequences, with tangents and cotangents.
pub fn packed<T: Real>(p: &Packed) -> Case {
    let (s, n) = (&p.shape, p.lengths.iter().sum::<usize>());
    let m = p.queries.as_ref().map_or(n, |q| q.len());
    let mut b = Builder::<Launch>::new(T::DTYPE);
    let mut ints = Vec::new();
    let mut put = |b: &mut Builder<Launch>, data: Vec<u32>| {
        let buffer = b.ints(data.len());
        ints.push((buffer, data));
        buffer
    };
    let (first, end) = Packing::bounds(&p.lengths);
    let (first, end) = (put(&mut b, first), put(&mut b, end));
    let marks = (0..n).map(|row| u32::from(!p.hidden.contains(&row))).collect();
    let seen = (!p.hidden.is_empty()).then(|| put(&mut b, marks));
    let queries = p.queries.clone().map(|q| put(&mut b, q));
    let (q, q_views) = heads(&mut b, m, s.heads, s.d_head, p.around[0]);
    let (k, k_views) = heads(&mut b, n, s.kv_heads, s.d_head, p.around[1]);
    let (v, v_views) = heads(&mut b, n, s.kv_heads, s.d_v, p.around[2]);
    let primal = sdpa::Primal { shape: *s, packing: Packing { first, end, seen }, queries, q, k, v };
    let z = b.matrix(m, s.heads * s.d_v);
    let longest = p.lengths.iter().max().unwrap() + 1;
    let pattern = b.matrix(m * s.heads, longest + 2).columns(1, longest);
    let args = sdpa::Args { primal, z, pattern: Some(pattern) };
    args.check().unwrap();
    b.push(Launch::Sdpa(args));
    let mut both = || {
        let [q, k, v] = p.around;
        [(m, s.heads, s.d_head, q), (n, s.kv_heads, s.d_head, k), (n, s.kv_heads, s.d_v, v)]
            .map(|(rows, count, width, around)| heads(&mut b, p.probes * rows, count, width, around))
    };
    let ([(dq, dq_views), (dk, dk_views), (dv, dv_views)], [(cq, cq_views), (ck, ck_views), (cv, cv_views)]) = (both(), both());
    let (dz, cz) = (b.matrix(p.probes * m, s.heads * s.d_v), b.matrix(p.probes * m, s.heads * s.d_v));
    let tangent = sdpa::Tangent { primal, dq, dk, dv, dz };
    let cotangent = sdpa::Cotangent { primal, dz: cz, dq: cq, dk: ck, dv: cv };
    tangent.check().unwrap();
    cotangent.check().unwrap();
    b.push(Launch::SdpaTangent(tangent));
    b.push(Launch::SdpaCotangent(cotangent));
    let mut numbers = Numbers::<T>::new();
    [(&q_views, 2.0), (&k_views, 2.0), (&v_views, 1.0), (&dq_views, 1.0), (&dk_views, 1.0), (&dv_views, 1.0)]
        .into_iter()
        .for_each(|(views, scale)| numbers.heads(views, scale));
    numbers.fill(cz, 1.0);
    let tangents = [[dq_views, dk_views, dv_views].concat(), vec![dz]];
    let outputs = vec![
        ("z", vec![z]),
        ("pattern", vec![pattern]),
        ("dz", vec![dz]),
        ("dq", cq_views.clone()),
        ("dk", ck_views.clone()),
        ("dv", cv_views.clone()),
    ];
    let cotangents = [vec![cz], [cq_views, ck_views, cv_views].concat()];
    Case { program: b.finish(), inputs: numbers.inputs, ints, outputs, tangents, cotangents }
}

/// Sequences of one length, whose q, k and v lie side by side, and so their derivatives.
fn uniform<T: Real>(s: &attention::Shape, probes: usize) -> Case {
    let (rows, results) = (s.batch * s.seq, s.batch * s.queries());
    let (wq, wv) = (s.heads * s.d_head, s.heads * s.d_v);
    let mut b = Builder::<Launch>::new(T::DTYPE);
    let mut all = |rows: usize| {
        let x = b.matrix(rows, 2 * wq + wv + 2);
        [x.columns(1, wq), x.columns(1 + wq, wq), x.columns(1 + 2 * wq, wv)]
    };
    let ([q, k, v], [dq, dk, dv], [cq, ck, cv]) = (all(rows), all(probes * rows), all(probes * rows));
    let (p, z) = (b.matrix(s.batch * s.heads * s.queries(), s.seq + 1).columns(1, s.seq), b.matrix(results, wv));
    let (dz, cz) = (b.matrix(probes * results, wv), b.matrix(probes * results, wv));
    let args = attention::Args { shape: *s, q, k, v, p, z };
    let tangent = attention::Tangent { shape: *s, q, k, v, p, dq, dk, dv, dz };
    let cotangent = attention::Cotangent { shape: *s, q, k, v, p, dz: cz, dq: cq, dk: ck, dv: cv };
    args.check().unwrap();
    tangent.check().unwrap();
    cotangent.check().unwrap();
    b.push(Launch::Attention(args));
    b.push(Launch::AttentionTangent(tangent));
    b.push(Launch::AttentionCotangent(cotangent));
    let mut numbers = Numbers::<T>::new();
    [(q, 2.0), (k, 2.0), (v, 1.0), (dq, 1.0), (dk, 1.0), (dv, 1.0), (cz, 1.0)]
        .into_iter()
        .for_each(|(view, scale)| numbers.fill(view, scale));
    let outputs = vec![
        ("z", vec![z]),
        ("p", vec![p]),
        ("dz", vec![dz]),
        ("dq, dk, dv", vec![cq, ck, cv]),
        ("dq", vec![cq]),
        ("dk", vec![ck]),
    ];
    let (tangents, cotangents) = ([vec![dq, dk, dv], vec![dz]], [vec![cz], vec![cq, ck, cv]]);
    Case { program: b.finish(), inputs: numbers.inputs, ints: Vec::new(), outputs, tangents, cotangents }
}

/// The elements of views.
fn elements<T: Real>(arena: &Arena<T>, views: &[View]) -> Vec<f64> {
    let rows = views.iter().flat_map(|v| (0..v.rows).map(move |i| (v, i)));
    rows.flat_map(|(v, i)| arena.row(v, i).iter().map(|x| x.to_f64())).collect()
}

fn norm(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// Every output against the CPU in f64; nothing around the outputs may be written.
pub fn compare<T: Real>(what: &str, case: &Case, found: &Arena<T>) -> Result<(), String> {
    let mut expected = Arena::<f64>::new(&case.program.layout);
    fill(&mut expected, &case.inputs);
    fill_ints(&mut expected, &case.ints);
    run_cpu(&case.program, &mut expected);
    for (name, views) in &case.outputs {
        let (found, expected) = (elements(found, views), elements(&expected, views));
        let difference: Vec<f64> = found.iter().zip(&expected).map(|(x, y)| x - y).collect();
        let error = norm(&difference) / norm(&expected).max(f64::MIN_POSITIVE);
        if error.is_nan() || error > bar(T::DTYPE) {
            return Err(format!("{what}: {name}: {error:e}"));
        }
    }
    let written: Vec<View> = case.outputs.iter().flat_map(|(_, views)| views.clone()).collect();
    for buffer in written.iter().map(|v| v.buffer) {
        let mut inside = vec![false; buffer.len];
        written.iter().filter(|v| v.buffer == buffer).for_each(|v| (0..v.rows).for_each(|i| inside[v.range(i)].fill(true)));
        let around = found.real(buffer).iter().zip(&inside).filter(|(_, inside)| !**inside);
        if !around.map(|(x, _)| x.to_f64()).all(f64::is_nan) {
            return Err(format!("{what}: a write beside the outputs"));
        }
    }
    Ok(())
}

/// The operations of a program that a device leaves to the host.
pub fn on_host(device: &Device, program: &Program<Launch>) -> Vec<String> {
    offload::note(device, program);
    device.placed().map(|placed| placed.host.into_iter().collect()).unwrap_or_default()
}

fn hold<T: Real>(backend: Backend, what: &str, case: &Case) {
    let written: Vec<View> = case.outputs.iter().flat_map(|(_, views)| views.clone()).collect();
    let found = run_with_ints::<T>(backend, &case.program, &case.inputs, &case.ints, &written);
    compare(what, case, &found).unwrap_or_else(|e| panic!("{backend:?} {e}"));
    if backend == Backend::Llvmpipe {
        assert_eq!(on_host(&backend.open().unwrap(), &case.program), Vec::<String>::new(), "{backend:?} {what}");
    }
    let [dx, dz] = [&case.tangents[0], &case.tangents[1]].map(|v| elements(&found, v));
    let [cz, cx] = [&case.cotangents[0], &case.cotangents[1]].map(|v| elements(&found, v));
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
    let apart = (dot(&dz, &cz) - dot(&dx, &cx)).abs() / (norm(&dz) * norm(&cz)).max(f64::MIN_POSITIVE);
    assert!(apart <= adjoint_bar(T::DTYPE), "{backend:?} {what}: the adjoint identity is off by {apart:e}");
}

/// Causal attention without a window or a cap.
pub fn shape(heads: usize, kv_heads: usize, d_head: usize, d_v: usize) -> sdpa::Shape {
    sdpa::Shape { heads, kv_heads, d_head, d_v, scale: 0.7, softcap: None, causal: true, window: None }
}

fn cases() -> Vec<Packed> {
    let plain =
        Packed { lengths: vec![3, 1, 2], queries: None, hidden: vec![], shape: shape(2, 1, 5, 3), probes: 2, around: DENSE };
    vec![
        plain.clone(),
        // More than a tile of keys, more queries than a CTA has, sequences that begin within a tile.
        Packed { lengths: vec![1, 54, 5], shape: shape(2, 2, 17, 40), probes: 1, around: WITHIN, ..plain.clone() },
        // Whole sequences, hidden keys, capped scores; the middle sequence shows no key at all.
        Packed {
            lengths: vec![33, 2, 10],
            hidden: vec![0, 7, 33, 34, 44],
            shape: sdpa::Shape { causal: false, softcap: Some(1.5), scale: 1.1, ..shape(1, 1, 8, 6) },
            around: WITHIN,
            ..plain.clone()
        },
        // A window shorter than a tile, capped scores.
        Packed {
            lengths: vec![45, 3],
            shape: sdpa::Shape { window: Some(9), softcap: Some(0.8), ..shape(2, 1, 6, 4) },
            ..plain.clone()
        },
        // A few queries, of which one sequence has none, with a window over tiles.
        Packed {
            lengths: vec![40, 3, 37, 2],
            queries: Some(vec![0, 39, 43, 50, 79, 80]),
            hidden: vec![38, 60],
            shape: sdpa::Shape { window: Some(33), ..shape(4, 2, 4, 7) },
            ..plain.clone()
        },
    ]
}

/// Heads that take the wider configurations.
fn wide_cases() -> Vec<Packed> {
    let plain = cases()[0].clone();
    vec![
        Packed { lengths: vec![5, 2], shape: shape(2, 1, 100, 70), probes: 1, around: WITHIN, ..plain.clone() },
        Packed { lengths: vec![3], shape: sdpa::Shape { scale: 0.1, ..shape(1, 1, 130, 256) }, probes: 1, ..plain },
    ]
}

fn packed_sequences<T: Real>(backend: Backend, cases: &[Packed]) {
    for p in cases {
        hold::<T>(backend, &format!("{p:?}"), &packed::<T>(p));
    }
}

fn sequences_of_one_length<T: Real>(backend: Backend) {
    let sizes = [(1, 1, 1, 1, 1), (2, 5, 3, 4, 7), (1, 37, 2, 8, 3), (3, 17, 1, 5, 5)];
    for (case, (batch, seq, heads, d_head, d_v)) in sizes.into_iter().enumerate() {
        let (causal, last_only) = [(true, false), (true, true), (false, true), (false, false)][case];
        for last_only in [last_only, !last_only].into_iter().take(if seq < 20 { 2 } else { 1 }) {
            let s = attention::Shape { batch, seq, heads, d_head, d_v, scale: 0.6, last_only, causal };
            hold::<T>(backend, &format!("{s:?}"), &uniform::<T>(&s, 2));
        }
    }
}

on_every_backend! {
    fn attention_of_packed_sequences_in_f32(backend: Backend) { packed_sequences::<f32>(backend, &cases()) }
    fn attention_of_wide_heads_in_f32(backend: Backend) { packed_sequences::<f32>(backend, &wide_cases()) }
    fn attention_of_sequences_of_one_length_in_f32(backend: Backend) { sequences_of_one_length::<f32>(backend) }
}

on_every_backend! {
    f64:
    fn attention_of_packed_sequences_in_f64(backend: Backend) { packed_sequences::<f64>(backend, &cases()) }
    fn attention_of_wide_heads_in_f64(backend: Backend) { packed_sequences::<f64>(backend, &wide_cases()) }
    fn attention_of_sequences_of_one_length_in_f64(backend: Backend) { sequences_of_one_length::<f64>(backend) }
}

/// Bits of `z`, `dz`, `dq`, `dk` and `dv` of the rows of one sequence.
fn bits<T: Real>(arena: &Arena<T>, case: &Case, queries: std::ops::Range<usize>, rows: std::ops::Range<usize>) -> Vec<u64> {
    let of = |name: &str, view: &View| {
        let range = if ["dk", "dv"].contains(&name) { rows.clone() } else { queries.clone() };
        range.flat_map(|i| arena.row(view, i).iter().map(|x| x.to_f64().to_bits())).collect::<Vec<_>>()
    };
    let compared = case.outputs.iter().filter(|(name, _)| *name != "pattern");
    compared.flat_map(|(name, views)| views.iter().flat_map(|view| of(name, view)).collect::<Vec<_>>()).collect()
}

/// One sequence alone, then behind and before others: its results keep their bits.
fn independent<T: Real>(backend: Backend) {
    let s = sdpa::Shape { window: Some(50), softcap: Some(2.0), ..shape(2, 1, 6, 4) };
    let plain = Packed { lengths: vec![67], queries: None, hidden: vec![], shape: s, probes: 1, around: DENSE };
    let among = Packed { lengths: vec![13, 67, 40], ..plain.clone() };
    let (alone, among) = (packed::<T>(&plain), packed::<T>(&among));
    // The rows of the sequence hold the same numbers in both, the others some of their own.
    let mut inputs = among.inputs.clone();
    for ((_, whole), (view, part)) in inputs.iter_mut().zip(&alone.inputs) {
        whole[13 * view.cols..][..part.len()].copy_from_slice(part);
    }
    let among = Case { inputs, ..among };
    let run = |case: &Case| run_with_ints::<T>(backend, &case.program, &case.inputs, &case.ints, &[]);
    let expected = bits(&run(&alone), &alone, 0..67, 0..67);
    assert!(expected == bits(&run(&among), &among, 13..80, 13..80), "other sequences in the batch change the bits");
}

#[test]
fn a_sequence_has_the_same_bits_in_every_batch() {
    independent::<f32>(Backend::Interpreter);
    independent::<f64>(Backend::Interpreter);
    Backend::Llvmpipe.hold(independent::<f32>);
}

/// The tests' wgpu adapter with bindings of at most that many bytes, and few workgroups along an axis.
pub fn tight(bytes: u64) -> Device {
    let options = Options { largest_binding: Some(bytes), largest_grid: Some(5), ..Options::default() };
    let wgpu = Wgpu::open_with(Some(&adapter()), options).unwrap();
    Device::Wgpu { wgpu: Arc::new(wgpu), host: Cpu::new(1).unwrap(), placement: Placement::default() }
}

#[test]
fn probes_that_no_binding_holds_go_one_after_the_other_and_larger_operands_to_the_host() {
    Backend::Llvmpipe.hold(|_| {
        let plain = cases()[0].clone();
        let p = Packed { lengths: vec![20, 7], shape: shape(4, 2, 6, 5), probes: 5, ..plain };
        let s = attention::Shape { batch: 4, seq: 9, heads: 2, d_head: 4, d_v: 3, scale: 0.6, last_only: true, causal: true };
        let long = packed::<f32>(&Packed { lengths: vec![40, 20], probes: 1, ..p.clone() });
        let (packed, uniform) = (packed::<f32>(&p), uniform::<f32>(&s, 7));
        let none: [&str; 0] = [];
        let all = ["sdpa", "sdpa_cotangent", "sdpa_tangent"];
        // Three of five probes at a time, none at all because q is larger, and one of seven at a time.
        for (case, bytes, host) in [(&packed, 10240, &none[..]), (&long, 4608, &all), (&uniform, 4608, &none)] {
            let device = tight(bytes);
            assert_eq!(on_host(&device, &case.program), host, "bindings of {bytes} bytes");
            let found = run_on_with_ints::<f32>(&device, &case.program, &case.inputs, &case.ints).unwrap();
            compare(&format!("bindings of {bytes} bytes"), case, &found).unwrap();
        }
    });
}

/// Programs that between them reach every part of the kernels.
fn reaching() -> Vec<Case> {
    let [_, long, hidden, window, some] = cases().try_into().expect("five cases");
    let s = attention::Shape { batch: 2, seq: 5, heads: 3, d_head: 4, d_v: 7, scale: 0.6, last_only: true, causal: true };
    let packed = [long, hidden, window, some].map(|p| packed::<f32>(&Packed { probes: 2, ..p }));
    packed.into_iter().chain([uniform::<f32>(&s, 2)]).collect()
}

#[test]
fn bugs_planted_in_attention_are_caught() {
    let bugs = [
        bug(FORWARD, "no wait for the tile", "cp.async.wait_all;", ""),
        bug(FORWARD, "no barrier around the tile", "bar.sync        0;", ""),
        bug(FORWARD, "the weights are read before all lanes wrote them", "bar.warp.sync   0xffffffff;", ""),
        bug(FORWARD, "sums are not scaled when the largest score rises", "mul.rn.f32 %acc3, %acc3, %factor;", ""),
        bug(FORWARD, "the sum of the weights is not scaled", "mul.rn.f32 %total2, %total2, %factor;", ""),
        bug(FORWARD, "hidden keys are seen", "setp.ne.and.u32 %shown, %mark, 0, %shown;", ""),
        bug(
            FORWARD,
            "the window is one key too wide",
            "sub.u32         %past, %past, %window;",
            "sub.u32 %past, %past, %window;\nsub.u32 %past, %past, 1;",
        ),
        bug(
            FORWARD,
            "a query sees the key behind it",
            "selp.b32        %high, %past, %ends, %bounded;",
            "selp.b32 %high, %ends, %ends, %bounded;",
        ),
        bug(FORWARD, "tiles do not begin with their sequence", "sub.u32         %tile, %tile, %sequence;", ""),
        bug(
            FORWARD,
            "only the first sequence of a CTA is walked",
            "setp.gt.and.u32 %later, %begins, %sequence, %asks;",
            "setp.gt.and.u32 %later, 0, %sequence, %asks;",
        ),
        bug(FORWARD, "the group of a head", "div.u32         %kv_head, %head, %group;", "mov.u32 %kv_head, 0;"),
        bug(PATTERN, "queries before the sequence are not counted", "mad.lo.u32      %place, %heads, %before, %place;", ""),
        bug(PATTERN, "columns behind the sequence are not zeroed", "@%there st.global.f32 [%at], 0f00000000;", ""),
        bug(PATTERN, "a pattern is not divided by its sum", "mul.rn.f32 %weight, %weight, %inverse5;", ""),
        bug(
            TANGENT,
            "the tangent of the keys is forgotten",
            "add.u32         %tangent_at, %row_at,",
            "add.u32 %tangent_at, %row_at, 0; //",
        ),
        bug(TANGENT, "the mean is not taken off", "neg.f32    %shift, %shift;", "mov.f32 %shift, 0f00000000;"),
        bug(TANGENT, "the centre moves alone", "fma.rn.f32 %moment1, %shift, %total1, %moment1;", ""),
        bug(TANGENT, "probes share their tangents", "mul.lo.u32      %skip, %probe, %n;", "mov.u32 %skip, 0;"),
        bug(TANGENT, "values are copied over keys that are still read", "weighted:\n    bar.sync        0;", "weighted:"),
        bug(QUERIES, "no scale", "mul.rn.f32 %acc1, %acc1, %scale;", ""),
        bug(QUERIES, "the derivative of the cap is forgotten", "mul.rn.f32 %t0, %t0, %slope0;", ""),
        bug(
            QUERIES,
            "positions that do not ask are left as they were",
            "setp.eq.u32     %more, %blank, 0;",
            "setp.eq.u32 %more, %blank, %blank;",
        ),
        bug(QUERIES, "the statistics of all probes lie in one place", "mul.lo.u32      %index, %probe, 3;", "mov.u32 %index, 0;"),
        bug(
            KEYS,
            "a head of the group is left out",
            "setp.lt.u32     %more, %of_group, %group;",
            "setp.lt.u32 %more, %group, %of_group;",
        ),
        bug(KEYS, "hidden keys get cotangents", "selp.b32        %high, %low, %high, %hidden;", ""),
        bug(KEYS, "queries beyond the window add to a key", "selp.b32        %ends, %past, %ends, %bounded;", ""),
        bug(KEYS, "the mean of another query", "sub.rn.f32 %t1, %t1, %mean;", "sub.rn.f32 %t1, %t1, %top;"),
        bug(KEYS, "the last weights are read before they are written", "bar.warp.sync   0xffffffff;", ""),
        bug(
            KEYS,
            "the search stops one query early",
            "selp.b32        %from, %middle, %from, %earlier;",
            "sub.u32 %middle, %middle, 1;\nselp.b32 %from, %middle, %from, %earlier;\n@%earlier bra found;",
        ),
    ];
    let cases = reaching();
    all_caught(&bugs, |device| {
        cases.iter().try_for_each(|case| {
            let arena = run_on_with_ints::<f32>(device, &case.program, &case.inputs, &case.ints)?;
            compare("planted", case, &arena)
        })
    });
}

/// What is wrong, the sound text, the broken text, for each WGSL kernel.
const WGSL_BUGS: [Bug; 36] = [
    bug(
        WGSL_FORWARD,
        "no barrier before the weights are read",
        "weights[8u * (lane + 24u) + line] = w3;\n            workgroupBarrier();",
        "weights[8u * (lane + 24u) + line] = w3;",
    ),
    bug(WGSL_FORWARD, "sums are not scaled when the largest score rises", "acc0_0 *= factor[0];", ""),
    bug(
        WGSL_FORWARD,
        "the sum of the weights is not scaled",
        "total *= factor;\n            acc0_0 *= factor[0];",
        "acc0_0 *= factor[0];",
    ),
    bug(WGSL_FORWARD, "the last tile is left out", "tile < stop; tile += 32u", "tile + 32u < stop; tile += 32u"),
    bug(WGSL_FORWARD, "hidden keys are seen", "min(key0, p.n - 1u)] != 0u", "min(key0, p.n - 1u)] != 9u"),
    bug(WGSL_FORWARD, "a query sees the key behind it", "(vec4<u32>(key3) < high)", "(vec4<u32>(key3) <= high)"),
    bug(WGSL_FORWARD, "every lane has a largest score of its own", "peak = max(peak, best[8u * other + line]);", ""),
    bug(WGSL_FORWARD, "the group of a head", "let v_base = p.v_offset + head / p.group * p.v_head;", "let v_base = p.v_offset;"),
    bug(WGSL_FORWARD, "only the first sequence is walked", "at = next;", "at = end;"),
    bug(WGSL_PATTERN, "queries before the sequence are not counted", "let row = p.heads * before + head", "let row = head"),
    bug(WGSL_PATTERN, "rows of other sequences are written", "first + line + 8u >= at && ", ""),
    bug(WGSL_PATTERN, "a pattern is not divided by its sum", "(scored(s3) - top) * inverse", "(scored(s3) - top)"),
    bug(WGSL_PATTERN, "the keys of another sequence", "let tile = begin + column;", "let tile = column;"),
    bug(WGSL_TANGENT, "the tangent of the keys is forgotten", "copy_dk(thread, OTHER_TANGENTS", "copy_k(thread, OTHER_TANGENTS"),
    bug(WGSL_TANGENT, "the mean is not taken off", "fma(vec4<f32>(-mean[1]), base0_1, acc0_1)", "acc0_1"),
    bug(WGSL_TANGENT, "the centre moves alone", "fma(shift, total, moment) * factor", "moment * factor"),
    bug(
        WGSL_TANGENT,
        "probes share their tangents",
        "p.dq_offset + probe * p.m * p.dq_row + head * p.dq_head;\n    let dk_base",
        "p.dq_offset + head * p.dq_head;\n    let dk_base",
    ),
    bug(WGSL_TANGENT, "the derivative of the cap is forgotten", "t1 = p.scale * t1 * slopes(s1);", "t1 = p.scale * t1;"),
    bug(
        WGSL_TANGENT,
        "no barrier before the values are read",
        "dv_base, tile, stop, 32u * chunk + 0u, p.d_v);\n            workgroupBarrier();",
        "dv_base, tile, stop, 32u * chunk + 0u, p.d_v);",
    ),
    bug(WGSL_QUERIES, "no scale", "acc0_1 *= p.scale;", ""),
    bug(WGSL_QUERIES, "the derivative of the cap is forgotten", "= change0 * slope0;", "= change0;"),
    bug(
        WGSL_QUERIES,
        "the statistics of all probes lie in one place",
        "(probe * 3u * p.heads + head) * p.m + first + line;",
        "head * p.m + first + line;",
    ),
    bug(WGSL_QUERIES, "the mean without what it is about", "centre = select(centre + mean,", "centre = select(mean,"),
    bug(WGSL_QUERIES, "probes share their cotangents", "p.dq_offset + probe * p.m * p.dq_row", "p.dq_offset"),
    bug(
        WGSL_KEYS,
        "a head of the group is left out",
        "head < (kv_head + 1u) * p.group; head++",
        "head < kv_head * p.group + 1u; head++",
    ),
    bug(WGSL_KEYS, "hidden keys get cotangents", "if table[own + 2u * p.n] != 0u {", "if true {"),
    bug(WGSL_KEYS, "the mean of the changes is not taken off", "(t1 - mean) * slopes(s1)", "(t1 - 0.0 * mean) * slopes(s1)"),
    bug(
        WGSL_KEYS,
        "no barrier before the queries are read",
        "z_base, tile, stop, 32u * chunk + 0u, p.d_v);\n            workgroupBarrier();",
        "z_base, tile, stop, 32u * chunk + 0u, p.d_v);",
    ),
    bug(WGSL_KEYS, "nobody sees a key", "high[1] = table[own + p.n];", "high[1] = table[own];"),
    bug(WGSL_SPANS, "the window is one key too wide", "max(low, row + 1u - p.window)", "max(low, row - p.window)"),
    bug(WGSL_SPANS, "a query sees the key behind it", "high = row + 1u;", "high = min(row + 2u, bounds.y);"),
    bug(WGSL_SPANS, "queries beyond the window add to a key", "min(bounds.y, own + p.window)", "bounds.y"),
    bug(WGSL_SPANS, "the search stops one query late", "if row_of(middle) < row {", "if row_of(middle) <= row {"),
    bug(WGSL_SPANS, "all sequences begin with the batch", "vec2<u32>(begin, begin + p.seq)", "vec2<u32>(0u, begin + p.seq)"),
    bug(WGSL_SPANS, "hidden keys are shown", "select(0u, 1u, seen[", "select(1u, 1u, seen["),
    bug(WGSL_SPANS, "queries are the first rows", "row = asking[p.asking_offset + query];", "row = query;"),
];

#[test]
fn bugs_planted_in_attention_on_wgpu_are_caught() {
    let cases = &reaching()[1..];
    all_caught_on_wgpu(&WGSL_BUGS, |device| {
        cases.iter().try_for_each(|case| {
            let arena = run_on_with_ints::<f32>(device, &case.program, &case.inputs, &case.ints)?;
            compare("planted", case, &arena)
        })
    });
}

const FORWARD: &str = "attention_forward_sm80";
const PATTERN: &str = "attention_pattern_sm80";
const TANGENT: &str = "attention_tangent_sm80";
const QUERIES: &str = "attention_queries_sm80";
const KEYS: &str = "attention_keys_sm80";
const WGSL_FORWARD: &str = "attention_forward_f32";
const WGSL_PATTERN: &str = "attention_pattern_f32";
const WGSL_TANGENT: &str = "attention_tangent_f32";
const WGSL_QUERIES: &str = "attention_queries_f32";
const WGSL_KEYS: &str = "attention_keys_f32";
const WGSL_SPANS: &str = "attention_spans_u32";
