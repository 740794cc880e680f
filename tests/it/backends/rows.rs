//! Rows that are chosen, looked up or turned: gathers and their transposes, embeddings, rotary embeddings.

use mechgraph::device::{Builder, DType, Device, Real, Tensor, View};
use mechgraph::ops::packing::Heads;
use mechgraph::ops::{Launch, embed, gather, rope, token_embed};

use super::against_cpu::{Case, agrees, agrees_on, inside};
use super::planted::{all_caught, all_caught_on_wgpu, bug};
use super::{Backend, on_every_backend, rounded};

/// Rows there are, rows chosen, columns, probes.
const CHOICES: [(usize, usize, usize, usize); 5] = [(1, 1, 1, 1), (5, 4, 3, 2), (7, 70, 130, 3), (40, 9, 33, 1), (9, 300, 2, 2)];

/// Numbers below `n`.
fn below(n: usize, count: usize) -> Vec<u32> {
    (0..count).map(|i| ((i * i * 7 + 3 * i + 2) % n) as u32).collect()
}

fn table(dtype: DType, rows: usize, cols: usize, seed: u64) -> Tensor {
    Tensor::from_f64(dtype, rows, cols, rounded(DType::F32, rows * cols, seed))
}

/// `scatter`: the transpose.
fn chosen(dtype: DType, (n, m, d, probes): (usize, usize, usize, usize), scatter: bool) -> Case {
    let mut b = Builder::<Launch>::new(dtype);
    let (many, few) = (inside(&mut b, probes * n, d), inside(&mut b, probes * m, d));
    let rows = b.ints(m);
    let (x, y) = if scatter { (few, many) } else { (many, few) };
    if scatter {
        let args = gather::ScatterArgs { x, rows, y };
        args.check().unwrap();
        b.push(Launch::Scatter(args));
    } else {
        let args = gather::Args { x, rows, y };
        args.check().unwrap();
        b.push(Launch::Gather(args));
    }
    let inputs = vec![(x, rounded(DType::F32, x.rows * d, 1))];
    Case { program: b.finish(), inputs, ints: vec![(rows, below(n, m))], outputs: vec![y] }
}

/// Tokens of sequences of `seq` with the two parts beside the sum, if `parts`.
fn embedded(dtype: DType, (samples, seq, d): (usize, usize, usize), parts: bool) -> Case {
    let mut b = Builder::<Launch>::new(dtype);
    let (n, vocabulary) = (samples * seq, 11);
    let tokens = b.ints(n);
    let all: [View; 3] = std::array::from_fn(|_| inside(&mut b, n, d));
    let of = |view| parts.then_some(view);
    let (w_e, w_pos) = (table(dtype, vocabulary, d, 1), table(dtype, seq + 2, d, 2));
    let args = embed::Args { tokens, seq, w_e, w_pos, token_out: of(all[1]), pos_out: of(all[2]), y: all[0] };
    args.check().unwrap();
    b.push(Launch::Embed(args));
    let outputs = if parts { all.to_vec() } else { all[..1].to_vec() };
    Case { program: b.finish(), inputs: vec![], ints: vec![(tokens, below(vocabulary, n))], outputs }
}

/// Tokens at given positions, with the parts that the bits of `parts` name.
fn placed(dtype: DType, (n, d): (usize, usize), parts: usize) -> Case {
    let mut b = Builder::<Launch>::new(dtype);
    let (vocabulary, span) = (13, 9);
    let (tokens, positions, y) = (b.ints(n), b.ints(n), inside(&mut b, n, d));
    let has = |bit: usize| parts >> bit & 1 == 1;
    let args = token_embed::Args {
        tokens,
        positions,
        w_e: table(dtype, vocabulary, d, 1),
        scale: has(0).then_some(1.7),
        w_pos: has(1).then(|| table(dtype, span, d, 2)),
        row: has(2).then(|| table(dtype, 1, d, 3)),
        y,
    };
    args.check().unwrap();
    b.push(Launch::TokenEmbed(args));
    let at = below(span, n).into_iter().rev().collect();
    Case { program: b.finish(), inputs: vec![], ints: vec![(tokens, below(vocabulary, n)), (positions, at)], outputs: vec![y] }
}

/// What is rotated: rows, probes, heads, columns of a head, pairs, columns from head to head.
type Turn = (usize, usize, usize, usize, usize, usize);

const TURNS: [Turn; 4] = [(1, 1, 1, 2, 1, 2), (5, 2, 3, 10, 4, 10), (9, 3, 2, 64, 32, 64), (3, 1, 5, 80, 10, 80)];

fn turned(dtype: DType, (n, probes, heads, d_head, half, pitch): Turn, inverse: bool, in_place: bool) -> Case {
    let mut b = Builder::<Launch>::new(dtype);
    let positions = b.ints(n);
    let mut rows = || Heads::dense(inside(&mut b, probes * n, (heads - 1) * pitch + d_head), pitch);
    let x = rows();
    let y = if in_place { x } else { rows() };
    let angle = |i: usize| (i / half) as f64 * 0.3 / (1.0 + (i % half) as f64);
    let of = |f: fn(f64) -> f64| {
        let round = |x: f64| f64::from(x as f32);
        Tensor::from_f64(dtype, 11, half, (0..11 * half).map(|i| round(f(angle(i)))).collect())
    };
    let args = rope::Args { x, y, heads, d_head, cos: of(f64::cos), sin: of(f64::sin), positions, inverse };
    args.check().unwrap();
    b.push(Launch::Rope(args));
    let data = rounded(DType::F32, x.view.rows * x.view.cols, 4);
    Case { program: b.finish(), inputs: vec![(x.view, data)], ints: vec![(positions, below(11, n))], outputs: vec![y.view] }
}

/// The bar of what is rounded at most a few times.
fn tight(dtype: DType) -> f64 {
    if dtype == DType::F64 { 1e-15 } else { 1e-7 }
}

fn all_choices<T: Real>(backend: Backend) {
    for shape in CHOICES {
        agrees::<T>(backend, 0.0, |dtype| chosen(dtype, shape, false));
        agrees::<T>(backend, 3.0 * tight(T::DTYPE), |dtype| chosen(dtype, shape, true));
    }
}

fn all_embeddings<T: Real>(backend: Backend) {
    for (i, (samples, seq, d)) in [(1, 1, 1), (3, 5, 17), (2, 9, 260)].into_iter().enumerate() {
        [false, true].into_iter().for_each(|parts| {
            agrees::<T>(backend, tight(T::DTYPE), |dtype| embedded(dtype, (samples, seq, d), parts));
        });
        (i..8)
            .step_by(3)
            .for_each(|parts| agrees::<T>(backend, 2.0 * tight(T::DTYPE), |dtype| placed(dtype, (samples * seq, d), parts)));
    }
}

fn all_turns<T: Real>(backend: Backend) {
    for turn in TURNS {
        for (inverse, in_place) in [(false, false), (false, true), (true, true), (true, false)] {
            agrees::<T>(backend, 2.0 * tight(T::DTYPE), |dtype| turned(dtype, turn, inverse, in_place));
        }
    }
}

on_every_backend! {
    fn gathered_and_scattered_rows_in_f32(backend: Backend) { all_choices::<f32>(backend) }
    fn embeddings_in_f32(backend: Backend) { all_embeddings::<f32>(backend) }
    fn rotary_embeddings_in_f32(backend: Backend) { all_turns::<f32>(backend) }
}

on_every_backend! {
    f64:
    fn gathered_and_scattered_rows_in_f64(backend: Backend) { all_choices::<f64>(backend) }
    fn embeddings_in_f64(backend: Backend) { all_embeddings::<f64>(backend) }
    fn rotary_embeddings_in_f64(backend: Backend) { all_turns::<f64>(backend) }
}

/// What the planted bugs must make fail.
fn sound(device: &Device) -> Result<(), String> {
    for scatter in [false, true] {
        agrees_on::<f32>(device, 1e-6, |dtype| chosen(dtype, CHOICES[2], scatter))?;
        agrees_on::<f32>(device, 1e-6, |dtype| chosen(dtype, CHOICES[3], scatter))?;
        agrees_on::<f32>(device, 1e-6, |dtype| chosen(dtype, CHOICES[4], scatter))?;
    }
    agrees_on::<f32>(device, 1e-6, |dtype| embedded(dtype, (3, 5, 17), true))?;
    agrees_on::<f32>(device, 1e-6, |dtype| placed(dtype, (15, 17), 7))?;
    for inverse in [false, true] {
        agrees_on::<f32>(device, 1e-6, |dtype| turned(dtype, TURNS[1], inverse, true))?;
        agrees_on::<f32>(device, 1e-6, |dtype| turned(dtype, TURNS[3], inverse, false))?;
    }
    Ok(())
}

#[test]
fn cuda_interpreter_bugs_planted_in_rows_are_caught() {
    all_caught(
        &[
            bug("gather_sm80", "every probe is the first", "mad.lo.s64      %x_at, %wide, %x_probe, %x_at;", ""),
            bug("gather_sm80", "a row too many", "setp.gt.and.s32 %present", "setp.ge.and.s32 %present"),
            bug("gather_sm80", "the first row instead of the chosen", "@%present1 ld.global.u32 %choice1, [%offset];", ""),
            bug("scatter_sm80", "of 32 numbers only the first counts", "and.b32         %mask, %mask, %j;", "mov.b32 %mask, 0;"),
            bug(
                "scatter_sm80",
                "a number behind the last is looked at",
                "setp.lt.u32     %there, %j, %m;",
                "setp.le.u32 %there, %j, %m;",
            ),
            bug(
                "scatter_sm80",
                "only the first 32 are looked at",
                "setp.lt.u32     %more, %first, %m;",
                "setp.lt.u32 %more, %m, 0;",
            ),
            bug(
                "embed_sm80",
                "positions do not begin again",
                "rem.u32         %position1, %at_row, %seq;",
                "mov.u32 %position1, %at_row;",
            ),
            bug("embed_sm80", "no scale", "mul.rn.f32 %sum, %e1, %scale;", "mov.f32 %sum, %e1;"),
            bug("embed_sm80", "the parts' rows are those of the sum", "add.s64         %token_out, %token_out, %token_step;", ""),
            bug("rope_sm80", "the other direction", "mul.rn.f32 %s1, %s1, %sign;", ""),
            bug("rope_sm80", "positions of another row", "rem.u32         %position, %at_row, %n;", "mov.u32 %position, 0;"),
            bug("rope_sm80", "the right half is not turned", "add.rn.f32 %r1, %r1, %product;", ""),
            bug(
                "rope_sm80",
                "what is copied is turned",
                "setp.lt.u32     %pair, %within, %half;",
                "setp.le.u32 %pair, %within, %half;",
            ),
        ],
        sound,
    );
}

#[test]
fn wgpu_llvmpipe_bugs_planted_in_rows_are_caught() {
    all_caught_on_wgpu(
        &[
            bug("gather_f32", "every probe is the first", "row / p.m * p.n + min(", "min("),
            bug(
                "gather_f32",
                "the first row instead of the chosen",
                "chosen[p.chosen_offset + row % p.m]",
                "chosen[p.chosen_offset]",
            ),
            bug("scatter_f32", "of 32 numbers only the first counts", "rest &= rest - 1u", "rest = 0u"),
            bug(
                "scatter_f32",
                "the bits of another block",
                "if block + thread < p.m && chosen[p.chosen_offset + block + thread]",
                "if block + thread < p.m && chosen[p.chosen_offset + thread]",
            ),
            bug(
                "scatter_f32",
                "bits are not taken back",
                "atomicStore(&found[thread], 0u);",
                "if block == 0u { atomicStore(&found[thread], 0u); }",
            ),
            bug(
                "scatter_f32",
                "no barrier before the bits are read",
                "workgroupBarrier();\n        for (var word",
                "for (var word",
            ),
            bug("embed_f32", "positions do not begin again", "row % p.seq", "row"),
            bug("embed_f32", "no scale", "p.scale * w_e_element(", "w_e_element("),
            bug("rope_f32", "the other direction", "p.sign * sines", "sines"),
            bug("rope_f32", "positions of another row", "(p.first + row) % p.n", "p.first % p.n"),
            bug("rope_f32", "the right half is not turned", "fma(right, c, left * s)", "right"),
            bug("rope_f32", "what is copied is turned", "if j >= p.half {", "if j > p.half {"),
        ],
        sound,
    );
}
