//! Chunks of probes: masks, features, rows and directions that are taken a few at a time by a number that only the device
//! reads, the probes themselves, and the edges that are summed from them.

use std::sync::Arc;

use mechgraph::device::{Builder, DType, Device, IntBuffer, Real, Tensor, View};
use mechgraph::ops::edge_squares::{CotangentArgs, TangentArgs};
use mechgraph::ops::probes::{self, Kind};
use mechgraph::ops::{Launch, copy, mask};

use super::against_cpu::{Case, agrees, agrees_on, inside};
use super::planted::{all_caught, all_caught_on_wgpu, bug};
use super::{Backend, bar, on_every_backend, rounded};

fn table(dtype: DType, rows: usize, cols: usize, seed: u64) -> Tensor {
    Tensor::from_f64(dtype, rows, cols, rounded(DType::F32, rows * cols, seed))
}

/// A program with one number of a chunk.
struct Plan {
    b: Builder<Launch>,
    index: IntBuffer,
    inputs: Vec<(View, Vec<f64>)>,
    ints: Vec<(IntBuffer, Vec<u32>)>,
}

impl Plan {
    fn new(dtype: DType, chunk: u32) -> Self {
        let mut b = Builder::new(dtype);
        let index = b.ints(1);
        Self { b, index, inputs: Vec::new(), ints: vec![(index, vec![chunk])] }
    }
    fn input(&mut self, rows: usize, cols: usize) -> View {
        let view = inside(&mut self.b, rows, cols);
        self.inputs.push((view, rounded(DType::F32, rows * cols, 1 + self.inputs.len() as u64)));
        view
    }
    fn output(&mut self, rows: usize, cols: usize) -> View {
        inside(&mut self.b, rows, cols)
    }
    /// The program of a launch that reads the number.
    fn case(mut self, output: View, launch: impl FnOnce(IntBuffer) -> Launch) -> Case {
        self.b.push(launch(self.index));
        Case { program: self.b.finish(), inputs: self.inputs, ints: self.ints, outputs: vec![output] }
    }
}

/// Rows, probes of a chunk, columns, probes in all.
pub type Shape = (usize, usize, usize, usize);

pub const SHAPES: [Shape; 3] = [(1, 1, 1, 1), (3, 4, 5, 5), (7, 3, 260, 5)];

fn masked(dtype: DType, (n, probes, k, count): Shape, chunk: u32) -> Case {
    let mut p = Plan::new(dtype, chunk);
    let (f_hat, y) = (p.input(n, k), p.output(probes * n, k));
    let args = mask::Args { f_hat, masks: table(dtype, count, k, 8), index: p.index, y };
    args.check().unwrap();
    p.case(y, |_| Launch::Mask(args))
}

fn of_features(dtype: DType, (n, probes, d, count): Shape, chunk: u32) -> Case {
    let mut p = Plan::new(dtype, chunk);
    let (f_hat, y) = (p.input(n, count), p.output(probes * n, d));
    p.case(y, |index| Launch::Features(probes::FeatureArgs { f_hat, c_pinv: table(dtype, count, d, 8), index, probes, y }))
}

fn of_rows(dtype: DType, (n, _, d, count): Shape, chunk: u32) -> Case {
    let mut p = Plan::new(dtype, chunk);
    let (x, y) = (p.input(count, d), p.output(n, d));
    p.case(y, |index| Launch::Chunk(probes::ChunkArgs { x, index, y }))
}

fn of_directions(dtype: DType, (n, _, d, count): Shape, chunk: u32) -> Case {
    let mut p = Plan::new(dtype, chunk);
    let d = d.min(40);
    let y = p.output(d * n, d);
    p.case(y, |index| Launch::Basis(probes::BasisArgs { rows: count, index, y }))
}

pub fn read_out(dtype: DType, (n, probes, d, k): Shape, chunk: u32) -> Case {
    let mut p = Plan::new(dtype, chunk);
    let (x, y) = (p.input(probes * n, d), p.input(n, k));
    let owners: Arc<[usize]> = (0..k).map(|f| f * 5 % (2 * probes + 1)).collect();
    let args = mask::ReadoutArgs { x, w_t: table(dtype, k, d, 8), owners, index: p.index, y };
    args.check().unwrap();
    p.case(y, |_| Launch::Readout(args))
}

const KINDS: [Kind; 6] = [
    Kind::Feature,
    Kind::FeatureAt,
    Kind::PositionSigns { sources: 2 },
    Kind::FeatureSigns { sources: 2, all: false },
    Kind::FeatureSigns { sources: 2, all: true },
    Kind::Signs { sources: 5 },
];

/// Samples, positions, columns, features, probes of a chunk.
pub type Field = (usize, usize, usize, usize, usize);

const FIELDS: [Field; 3] = [(1, 1, 1, 1, 1), (2, 3, 7, 5, 3), (3, 5, 130, 37, 4)];

fn probed(dtype: DType, kind: Kind, (samples, positions, d, features, probes): Field, mapped: bool, chunk: u32) -> Case {
    let mut p = Plan::new(dtype, chunk);
    let first = p.b.ints(1);
    p.ints.push((first, vec![1000]));
    let y = p.output(probes * samples * positions, d);
    let c_t = mapped.then(|| table(dtype, features, d, 8));
    p.case(y, |index| Launch::Probes(probes::Args { kind, seed: 9, c_t, positions, first, index, probes, y }))
}

/// Samples, positions, probes of a chunk, inputs, outputs.
pub const EDGES: [Field; 4] = [(1, 1, 1, 1, 1), (3, 5, 3, 40, 2), (11, 4, 5, 9, 33), (2, 9, 4, 6, 3)];

pub fn tangents(dtype: DType, (samples, positions, probes, k_in, k_out): Field, chunk: u32) -> Case {
    let mut p = Plan::new(dtype, chunk);
    let (y, out) = (p.input(probes * samples * positions, k_out), p.input(k_out, k_in));
    p.case(out, |index| Launch::EdgeTangents(TangentArgs { y, index, probes, out }))
}

pub fn cotangents(dtype: DType, (samples, positions, probes, k_in, k_out): Field, squared: bool, chunk: u32) -> Case {
    let mut p = Plan::new(dtype, chunk);
    let n = samples * positions;
    let (g, f_hat, out) = (p.input(probes * n, k_in), p.input(n, k_in), p.input(k_out, k_in));
    let count = 2 * probes - probes / 2;
    p.case(out, |index| Launch::EdgeCotangents(CotangentArgs { g, f_hat, positions, count, squared, index, probes, out }))
}

/// The bar of what is rounded once.
fn rounding(dtype: DType) -> f64 {
    if dtype == DType::F64 { 1e-15 } else { 1e-7 }
}

fn all_chunks<T: Real>(backend: Backend) {
    let forms = [masked, of_features, of_rows, of_directions];
    for shape in SHAPES {
        for chunk in 0..2 {
            forms.into_iter().for_each(|form| agrees::<T>(backend, rounding(T::DTYPE), |dtype| form(dtype, shape, chunk)));
            agrees::<T>(backend, bar(T::DTYPE), |dtype| read_out(dtype, shape, chunk));
        }
    }
    agrees::<T>(backend, bar(T::DTYPE), |dtype| read_out(dtype, (41, 3, 70, 9), 0));
}

fn all_probes<T: Real>(backend: Backend) {
    for kind in KINDS {
        for (i, field) in FIELDS.into_iter().enumerate() {
            for mapped in [false, true] {
                agrees::<T>(backend, bar(T::DTYPE), |dtype| probed(dtype, kind, field, mapped, i as u32 % 2));
            }
        }
    }
}

fn all_edges<T: Real>(backend: Backend) {
    for (field, chunk) in EDGES.into_iter().flat_map(|field| [(field, 0), (field, 1)]) {
        agrees::<T>(backend, bar(T::DTYPE), |dtype| tangents(dtype, field, chunk));
        for squared in [false, true] {
            agrees::<T>(backend, bar(T::DTYPE), |dtype| cotangents(dtype, field, squared, chunk));
        }
    }
}

/// All masks in a loop over chunks, each added to the sum of all.
fn repeated(dtype: DType) -> Case {
    let (n, probes, k, count) = (3, 2, 5, 7);
    let mut p = Plan::new(dtype, 77);
    let (f_hat, y, sum) = (p.input(n, k), p.output(probes * n, k), p.input(probes * n, k));
    let launches = vec![
        Launch::Mask(mask::Args { f_hat, masks: table(dtype, count, k, 8), index: p.index, y }),
        Launch::Copy(copy::Args::add(y, sum)),
    ];
    p.case(sum, |index| Launch::Repeat { count: 4, index, launches })
}

on_every_backend! {
    fn chunks_of_masks_features_rows_and_directions_in_f32(backend: Backend) { all_chunks::<f32>(backend) }
    fn probes_of_every_kind_in_f32(backend: Backend) { all_probes::<f32>(backend) }
    fn edges_from_tangents_and_cotangents_in_f32(backend: Backend) { all_edges::<f32>(backend) }
    fn a_loop_over_chunks_reads_its_number_in_f32(backend: Backend) { agrees::<f32>(backend, 1e-6, repeated) }
}

on_every_backend! {
    f64:
    fn chunks_of_masks_features_rows_and_directions_in_f64(backend: Backend) { all_chunks::<f64>(backend) }
    fn probes_of_every_kind_in_f64(backend: Backend) { all_probes::<f64>(backend) }
    fn edges_from_tangents_and_cotangents_in_f64(backend: Backend) { all_edges::<f64>(backend) }
    fn a_loop_over_chunks_reads_its_number_in_f64(backend: Backend) { agrees::<f64>(backend, 1e-15, repeated) }
}

/// What the planted bugs must make fail.
fn sound(device: &Device) -> Result<(), String> {
    for chunk in 0..2 {
        for form in [masked, of_features, of_rows, of_directions] {
            agrees_on::<f32>(device, 1e-6, |dtype| form(dtype, SHAPES[1], chunk))?;
        }
        agrees_on::<f32>(device, 1e-6, |dtype| read_out(dtype, (41, 3, 70, 9), chunk))?;
    }
    for kind in KINDS {
        for mapped in [false, true] {
            agrees_on::<f32>(device, 1e-6, |dtype| probed(dtype, kind, FIELDS[2], mapped, 0))?;
        }
    }
    for squared in [false, true] {
        agrees_on::<f32>(device, 1e-6, |dtype| cotangents(dtype, EDGES[1], squared, 1))?;
        agrees_on::<f32>(device, 1e-6, |dtype| cotangents(dtype, EDGES[3], squared, 0))?;
    }
    agrees_on::<f32>(device, 1e-6, repeated)?;
    agrees_on::<f32>(device, 1e-6, |dtype| tangents(dtype, EDGES[2], 1))
}

#[test]
fn cuda_interpreter_bugs_planted_in_chunks_and_probes_are_caught() {
    all_caught(
        &[
            bug("chunk_sm80", "every chunk is the first", "ld.global.u32   %chunk, [%base];", "mov.u32 %chunk, 0;"),
            bug(
                "chunk_sm80",
                "one mask behind the last",
                "setp.lt.and.u32 %there, %p, %count,",
                "setp.le.and.u32 %there, %p, %count,",
            ),
            bug(
                "chunk_sm80",
                "rows behind the last have directions",
                "setp.eq.and.u32 %chosen, %column, %r, %there;",
                "setp.eq.u32 %chosen, %column, %r;",
            ),
            bug("readout_sm80", "masks of another chunk", "sub.u32         %owner, %owner, %chunk;", ""),
            bug(
                "readout_sm80",
                "y is written over",
                "@%present0 add.rn.f32 %before, %before, %sum0;",
                "@%present0 mov.f32 %before, %sum0;",
            ),
            bug(
                "readout_sm80",
                "the last row is left out",
                "setp.gt.s32     %present0, %left, 0;",
                "setp.gt.s32 %present0, %left, 1;",
            ),
            bug("probe_rows_sm80", "signs do not depend on the sample", "add.u32         %sample, %sample, %first_sample;", ""),
            bug("probe_rows_sm80", "a wrong shift", "shr.u64         %shifted, %key, 27;", "shr.u64 %shifted, %key, 26;"),
            bug("probe_rows_sm80", "no position is the feature's", "setp.eq.or.u32  %here, %source, %t, %here;", ""),
            bug(
                "probe_sums_sm80",
                "no barrier before the signs are read",
                "    bar.sync        0;\n\n    // ---- 4",
                "    // ---- 4",
            ),
            bug(
                "probe_sums_sm80",
                "no barrier before they are written again",
                "    bar.sync        0;\n    setp.gt.s32     %more, %left, 0;",
                "    setp.gt.s32 %more, %left, 0;",
            ),
            bug(
                "probe_sums_sm80",
                "rows without a probe have signs",
                "setp.lt.and.u32 %there, %feature, %features, %active;",
                "setp.lt.u32 %there, %feature, %features;",
            ),
            bug(
                "edge_tangents_sm80",
                "the features of the first chunk",
                "mad.lo.u32      %feature, %feature, %probes, %probe;",
                "mov.u32 %feature, %probe;",
            ),
            bug("edge_tangents_sm80", "a warp's sum is read too early", "bar.sync        0;", ""),
            bug(
                "edge_cotangents_sm80",
                "probes behind the last count",
                "min.s32         %last, %last, %probes;",
                "mov.s32 %last, %probes;",
            ),
            bug(
                "edge_cotangents_sm80",
                "only the first probe of a row",
                "setp.lt.s32     %more, %probe, %last;",
                "setp.gt.s32 %more, %probe, %last;",
            ),
            bug("edge_cotangents_sm80", "positions of the next sample", "setp.gt.and.s32 %present", "setp.ge.and.s32 %present"),
        ],
        sound,
    );
}

#[test]
fn wgpu_llvmpipe_bugs_planted_in_chunks_are_caught() {
    all_caught_on_wgpu(
        &[
            bug("count_u32", "every second chunk", "numbers[p.number] += 1u;", "numbers[p.number] += 2u;"),
            bug(
                "chunk_f32",
                "every chunk is the first",
                "let chunk = index[p.index_offset];",
                "let chunk = 0u * index[p.index_offset];",
            ),
            bug("chunk_f32", "rows behind the last have directions", "if there >= p.count {", "if there >= p.count + 9u {"),
            bug("chunk_f32", "the mask of another probe", "p.first_probe + row / p.n", "p.first_probe + row % p.n"),
            bug(
                "readout_f32",
                "masks of another chunk",
                "index[p.index_offset] * p.probes + p.first_probe",
                "index[p.index_offset] * 0u + p.first_probe",
            ),
            bug("readout_f32", "y is written over", "y[to] += total;", "y[to] = total;"),
            bug("readout_f32", "the last row is left out", "i < p.n;", "i + 1u < p.n;"),
            bug(
                "readout_f32",
                "half of the sums are lost",
                "totals_of_parts[thread + left]);",
                "0.0 * totals_of_parts[thread + left]);",
            ),
            bug("probe_rows_f32", "signs do not depend on the sample", "vec2<u32>(row / p.positions, 0u)", "vec2<u32>(0u, 0u)"),
            bug("probe_rows_f32", "a wrong shift", "shifted(z, 27u)", "shifted(z, 26u)"),
            bug("probe_rows_f32", "no carry", "select(0u, 1u, low < a.x)", "0u"),
            bug("probe_rows_f32", "no position is the feature's", "number / p.sources == t", "true"),
            bug(
                "probe_sums_f32",
                "no barrier before the signs are read",
                ");\n        workgroupBarrier();\n        if column",
                ");\n        if column",
            ),
            bug("probe_sums_f32", "the signs of the first features", "let feature = base + thread", "let feature = thread"),
            bug("probe_sums_f32", "rows without a probe have signs", "select(0u, 1u, field.there && row < p.rows)", "1u"),
        ],
        sound,
    );
}

#[test]
fn wgpu_bugs_planted_in_sums_of_tangents_and_cotangents_are_caught() {
    const TANGENTS: &str = "edge_tangents_f32";
    const COTANGENTS: &str = "edge_cotangents_f32";
    let check = |device: &Device| {
        for (field, chunk) in EDGES.into_iter().flat_map(|field| [(field, 0), (field, 1)]) {
            agrees_on::<f32>(device, 1e-6, |dtype| tangents(dtype, field, chunk))?;
            for squared in [false, true] {
                agrees_on::<f32>(device, 1e-6, |dtype| cotangents(dtype, field, squared, chunk))?;
            }
        }
        Ok(())
    };
    let bugs = [
        bug(
            TANGENTS,
            "every chunk is the first",
            "index[p.index_at] * p.of_chunk + p.first_probe + probe",
            "p.first_probe + probe",
        ),
        bug(TANGENTS, "the rows of the first probe", "(probe * p.n + t) * p.y_stride", "t * p.y_stride"),
        bug(TANGENTS, "no square", "fma(value, value, p.zero)", "value"),
        bug(COTANGENTS, "padding counts", "r < p.probes && first + r < p.count", "r < p.probes"),
        bug(COTANGENTS, "only one probe of an output", "r += p.k_out", "r += p.probes"),
        bug(COTANGENTS, "the square is never taken", "if p.squared != 0u {", "if p.squared > 1u {"),
        bug(COTANGENTS, "a position is left out", "s < (x + 1u) * p.positions; s++", "s + 1u < (x + 1u) * p.positions; s++"),
    ];
    all_caught_on_wgpu(&bugs, check);
}
