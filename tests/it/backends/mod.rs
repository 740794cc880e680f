//! Promises that hold on every backend: one test body each, run on the CPU, on the PTX interpreter, on
//! an NVIDIA GPU and on Vulkan's software adapter. A backend that this machine lacks is printed as
//! skipped; with `MECHGRAPH_CUDA=1` a missing NVIDIA GPU is a failure instead, and with
//! `MECHGRAPH_ADAPTER=NAME` the tests of wgpu run on that adapter, whose absence is a failure too.

pub mod against_cpu;
mod attention;
mod attention_closed;
mod attention_quads;
mod chunks;
mod commands;
mod cut;
mod doctor;
mod driver;
mod elementwise;
mod gram;
mod lib;
mod linear;
mod loss;
mod models;
mod norm;
mod offload;
pub mod planted;
mod products;
mod rows;
mod seam;
mod sections;
mod subgroups;
mod whole;

use mechgraph::device::{Arena, Choice, Cpu, Cuda, DType, Device, IntBuffer, Placement, Program, Real, Request, View};
use mechgraph::ops::offload::Mirror;
use mechgraph::ops::{Launch, run_cpu};
use ptxvm::{Completion, Options, Rounding};

use crate::common::numbers;

/// Writes one test a backend for each body; with `f64:` for those backends alone that compute in f64.
macro_rules! on_every_backend {
    (f64: $($(#[$doc:meta])* fn $name:ident($backend:ident: Backend) $body:block)*) => {
        $($(#[$doc])* mod $name {
            #[allow(unused_imports)]
            use super::*;
            fn promise($backend: $crate::backends::Backend) $body
            $crate::backends::on_these_backends! { cpu Cpu, cuda_interpreter Interpreter, cuda_nvidia Nvidia }
        })*
    };
    ($($(#[$doc:meta])* fn $name:ident($backend:ident: Backend) $body:block)*) => {
        $($(#[$doc])* mod $name {
            #[allow(unused_imports)]
            use super::*;
            fn promise($backend: $crate::backends::Backend) $body
            $crate::backends::on_these_backends! { cpu Cpu, cuda_interpreter Interpreter, cuda_nvidia Nvidia, wgpu_llvmpipe Llvmpipe }
        })*
    };
}
macro_rules! on_these_backends {
    ($($test:ident $backend:ident),*) => {
        $(#[test]
        fn $test() {
            $crate::backends::Backend::$backend.hold(promise);
        })*
    };
}
pub(crate) use {on_every_backend, on_these_backends};

/// A backend that a promise is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Cpu,
    Interpreter,
    Nvidia,
    Llvmpipe,
}

impl Backend {
    /// Runs a promise, or says that this machine lacks the backend.
    pub fn hold(self, promise: fn(Backend)) {
        match (self, self.open()) {
            (_, Ok(_)) => promise(self),
            (Backend::Nvidia, Err(why)) if std::env::var_os("MECHGRAPH_CUDA").is_none() => {
                println!("skipped: cuda nvidia: {why}");
            }
            (Backend::Llvmpipe, Err(why)) if std::env::var_os("MECHGRAPH_ADAPTER").is_none() => {
                println!("skipped: wgpu llvmpipe: {why}");
            }
            (_, Err(why)) => panic!("{why}"),
        }
    }
    fn open(self) -> mechgraph::Result<Device> {
        let request = |choice| Request { choice, threads: 1, ..Request::default() };
        match self {
            Backend::Cpu => Ok(Device::Cpu(Cpu::new(1)?)),
            Backend::Interpreter => interpreter(Options::default()),
            Backend::Nvidia => Ok(Device::open(&request(Choice::Cuda))?.0),
            Backend::Llvmpipe => {
                let adapter = Some(adapter());
                Ok(Device::open(&Request { adapter, ..request(Choice::Wgpu) })?.0)
            }
        }
    }
    /// The devices to compare: on the interpreter several orders, early and late copies, both
    /// roundings of the matrix unit; one elsewhere.
    pub fn devices(self) -> Vec<Device> {
        if self != Backend::Interpreter {
            return vec![self.open().unwrap()];
        }
        let options = |seed, completion, mma| Options { seed, completion, mma, ..Options::default() };
        [
            options(0, Completion::Late, Rounding::Exact),
            options(1, Completion::Early, Rounding::Exact),
            options(2, Completion::Late, Rounding::TowardZero),
        ]
        .map(|o| interpreter(o).unwrap())
        .into()
    }
}

/// The wgpu adapter that the tests take: Mesa's software adapter, or what `MECHGRAPH_ADAPTER` names.
pub fn adapter() -> String {
    std::env::var("MECHGRAPH_ADAPTER").unwrap_or_else(|_| "llvmpipe".into())
}

/// A CUDA device played by the interpreter.
pub fn interpreter(options: Options) -> mechgraph::Result<Device> {
    Ok(Device::Cuda { gpus: Cuda::interpreter(options)?.into(), host: Cpu::new(1)?, placement: Placement::default() })
}

/// Runs `program` three times over fresh inputs on each device and gives the arena of the last run;
/// every run on every device must give the same bits in `outputs`.
pub fn run<T: Real>(backend: Backend, program: &Program<Launch>, inputs: &[(View, Vec<f64>)], outputs: &[View]) -> Arena<T> {
    run_with_ints(backend, program, inputs, &[], outputs)
}

/// [`run`] with numbers beside the inputs.
pub fn run_with_ints<T: Real>(
    backend: Backend,
    program: &Program<Launch>,
    inputs: &[(View, Vec<f64>)],
    ints: &[(IntBuffer, Vec<u32>)],
    outputs: &[View],
) -> Arena<T> {
    let mut found: Option<(Vec<Vec<u8>>, Arena<T>)> = None;
    for device in backend.devices() {
        let mut arena = Arena::<T>::new(&program.layout);
        let mut mirror = Mirror::new(&device, program).unwrap();
        for _ in 0..3 {
            fill(&mut arena, inputs);
            fill_ints(&mut arena, ints);
            match &mut mirror {
                None => run_cpu(program, &mut arena),
                Some(mirror) => {
                    mirror.run(program, &mut arena).unwrap();
                    mirror.bring_home(&mut arena).unwrap();
                }
            }
            let bits = outputs.iter().map(|v| bytemuck::cast_slice(arena.real(v.buffer)).to_vec()).collect();
            if let Some((first, _)) = &found {
                assert!(*first == bits, "{backend:?}: other bits in another run or order");
            } else {
                found = Some((bits, Arena::new(&program.layout)));
            }
        }
        found = found.map(|(bits, _)| (bits, arena));
    }
    found.unwrap().1
}

/// Rounds the inputs into their views.
pub fn fill<T: Real>(arena: &mut Arena<T>, inputs: &[(View, Vec<f64>)]) {
    for (view, data) in inputs {
        let buffer = arena.real_mut(view.buffer);
        for (i, row) in data.chunks(view.cols.max(1)).enumerate() {
            buffer[view.range(i)].iter_mut().zip(row).for_each(|(x, y)| *x = T::of(*y));
        }
    }
}

/// Writes numbers into their buffers.
pub fn fill_ints<T: Real>(arena: &mut Arena<T>, ints: &[(IntBuffer, Vec<u32>)]) {
    ints.iter().for_each(|(buffer, data)| arena.int_mut(*buffer).copy_from_slice(data));
}

/// `||found - expected|| / ||expected||` over the rows of a view, with everything around it NaN as it
/// was before.
pub fn error<T: Real>(arena: &Arena<T>, view: &View, expected: &[f64]) -> f64 {
    deviation(arena, view, expected).unwrap_or_else(|what| panic!("{what}"))
}

/// The same, where a write outside of the view is told.
pub fn deviation<T: Real>(arena: &Arena<T>, view: &View, expected: &[f64]) -> Result<f64, String> {
    let (mut difference, mut norm) = (0.0, 0.0);
    let mut inside = vec![false; view.buffer.len];
    for i in 0..view.rows {
        inside[view.range(i)].fill(true);
        for (found, expected) in arena.row(view, i).iter().zip(&expected[i * view.cols..]) {
            difference += (found.to_f64() - expected).powi(2);
            norm += expected.powi(2);
        }
    }
    let around = arena.real(view.buffer).iter().zip(&inside).filter(|(_, inside)| !**inside);
    if !around.map(|(x, _)| x.to_f64()).all(f64::is_nan) {
        return Err(format!("a write outside of {view:?}"));
    }
    // Nothing is off where all is 0, too.
    Ok(if difference == 0.0 { 0.0 } else { (difference / norm).sqrt() })
}

/// Random numbers as the dtype rounds them.
pub fn rounded(dtype: DType, n: usize, seed: u64) -> Vec<f64> {
    let x = numbers(n, seed);
    if dtype == DType::F64 { x } else { x.into_iter().map(|x| f64::from(x as f32)).collect() }
}

/// The bar of relative Frobenius errors.
pub fn bar(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => 1e-13,
        DType::F32 => 1e-6,
    }
}
