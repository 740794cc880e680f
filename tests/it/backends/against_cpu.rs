//! Operations against their f64 selves on the CPU, which have tests of their own against plain loops.

use mechgraph::device::{Arena, Builder, DType, Device, IntBuffer, Program, Real, View};
use mechgraph::ops::{Launch, offload, run_cpu};

use super::planted::run_on_with_ints;
use super::{Backend, deviation, fill, fill_ints, run_with_ints};

/// A program with what goes in and what comes out.
pub struct Case {
    pub program: Program<Launch>,
    pub inputs: Vec<(View, Vec<f64>)>,
    pub ints: Vec<(IntBuffer, Vec<u32>)>,
    pub outputs: Vec<View>,
}

impl Case {
    /// The outputs of one run on the CPU.
    pub fn on_cpu<T: Real>(&self) -> Arena<T> {
        let mut arena = Arena::<T>::new(&self.program.layout);
        fill(&mut arena, &self.inputs);
        fill_ints(&mut arena, &self.ints);
        run_cpu(&self.program, &mut arena);
        arena
    }
    /// The outputs of one run on a device.
    pub fn run_on<T: Real>(&self, device: &Device) -> Result<Arena<T>, String> {
        run_on_with_ints(device, &self.program, &self.inputs, &self.ints)
    }
}

/// A view inside of a wider matrix, one row down and one column in, with a row below.
pub fn inside(b: &mut Builder<Launch>, rows: usize, cols: usize) -> View {
    b.matrix(rows + 2, cols + 3).columns(1, cols).slice_rows(1, rows)
}

/// Holds the outputs of a backend to those of the CPU in f64, on the same numbers, within a relative error of `bar` in the
/// Frobenius norm, and to the same bits in every run and order; nothing around an output may be written, and nothing left
/// to the host. `build` makes the program of a dtype.
pub fn agrees<T: Real>(backend: Backend, bar: f64, build: impl Fn(DType) -> Case) {
    agrees_named::<T>(backend, "", bar, build);
}

/// The same, with a name for the case where it fails.
pub fn agrees_named<T: Real>(backend: Backend, name: &str, bar: f64, build: impl Fn(DType) -> Case) {
    let case = build(T::DTYPE);
    let arena = run_with_ints(backend, &case.program, &case.inputs, &case.ints, &case.outputs);
    let device = backend.open().unwrap();
    offload::note(&device, &case.program);
    let on_host = device.placed().map(|placed| placed.host).unwrap_or_default();
    assert!(on_host.is_empty(), "{name}: {on_host:?} on the host");
    if let Some(what) = wrong::<T>(&arena, &case, &expected::<T>(&build), bar) {
        panic!("{backend:?} {} {name}: {what}", T::DTYPE.name());
    }
}

/// The same for one run on a device, as a result: what a planted bug must make fail.
pub fn agrees_on<T: Real>(device: &Device, bar: f64, build: impl Fn(DType) -> Case) -> Result<(), String> {
    let case = build(T::DTYPE);
    let arena = case.run_on::<T>(device)?;
    wrong(&arena, &case, &expected::<T>(&build), bar).map_or(Ok(()), Err)
}

/// The outputs in f64, from numbers as `T` rounds them.
fn expected<T: Real>(build: &impl Fn(DType) -> Case) -> Vec<Vec<f64>> {
    let mut case = build(DType::F64);
    for (_, data) in &mut case.inputs {
        data.iter_mut().for_each(|x| *x = T::of(*x).to_f64());
    }
    let arena = case.on_cpu::<f64>();
    case.outputs.iter().map(|v| (0..v.rows).flat_map(|i| arena.row(v, i)).copied().collect()).collect()
}

fn wrong<T: Real>(arena: &Arena<T>, case: &Case, expected: &[Vec<f64>], bar: f64) -> Option<String> {
    let mut outputs = case.outputs.iter().zip(expected).enumerate();
    outputs.find_map(|(i, (view, expected))| match deviation(arena, view, expected) {
        Ok(e) if e <= bar => None,
        Ok(e) => Some(format!("output {i} is off by {e:e}; expected at most {bar:e}")),
        Err(what) => Some(format!("output {i}: {what}")),
    })
}
