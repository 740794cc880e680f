//! Devices: element types, tensors, scratch memory, programs. Only this module and [`crate::ops`]
//! know which backends exist.

mod cpu;
pub mod cuda;
pub mod driver;
pub mod memory;
pub mod placement;
pub mod program;
pub mod real;
pub mod tensor;
pub mod wgpu;

pub use cpu::Cpu;
pub use cuda::{Cuda, DriverChoice};
pub use memory::{Arena, Buffer, IntBuffer, View};
pub use placement::{Placed, Placement};
pub use program::{Builder, Program};
pub use real::{DType, Real};
pub use tensor::Tensor;

use crate::error::{Error, Result};

/// The backend a run computes on. Matched exhaustively, so that a new backend is a compile error
/// wherever it still lacks something. A GPU comes with the host that feeds it and runs what it has no
/// kernels for.
#[derive(Debug)]
pub enum Device {
    Cpu(Cpu),
    Cuda { cuda: Cuda, host: Cpu, placement: Placement },
}

/// What `--backend` asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    #[default]
    Auto,
    Cuda,
    Wgpu,
    Cpu,
}

/// Which device to open.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub choice: Choice,
    pub driver: DriverChoice,
    /// A part of the name of a wgpu adapter.
    pub adapter: Option<String>,
    /// CPU threads; 0 means as many as there are cores.
    pub threads: usize,
    /// Whether the run computes in f64: `auto` then passes over backends without it.
    pub double: bool,
}

impl Device {
    /// Opens a device, and says for `auto` why each that comes before it was passed over.
    pub fn open(request: &Request) -> Result<(Self, Vec<String>)> {
        let host = || Cpu::new(request.threads);
        let cuda = || Ok(Device::Cuda { cuda: Cuda::open(request.driver)?, host: host()?, placement: Placement::default() });
        match request.choice {
            Choice::Cpu => Ok((Device::Cpu(host()?), vec![])),
            Choice::Cuda => Ok((cuda()?, vec![])),
            Choice::Wgpu => Err(absent("wgpu")),
            Choice::Auto => match cuda() {
                Ok(device) => Ok((device, vec![])),
                Err(e) => Ok((Device::Cpu(host()?), vec![e.to_string()])),
            },
        }
    }
    /// The backend's name, as on the command line.
    pub fn backend(&self) -> &'static str {
        match self {
            Device::Cpu(_) => "cpu",
            Device::Cuda { .. } => "cuda",
        }
    }
    /// One line for people: what the device is.
    pub fn describe(&self) -> String {
        match self {
            Device::Cpu(cpu) => cpu.describe(),
            Device::Cuda { cuda, .. } => cuda.describe(),
        }
    }
    /// The CPU, or the one beside a GPU.
    pub fn host(&self) -> &Cpu {
        match self {
            Device::Cpu(host) | Device::Cuda { host, .. } => host,
        }
    }
    /// Work items that run side by side.
    pub fn lanes(&self) -> usize {
        self.host().threads()
    }
    /// Bytes of host memory that are free now.
    pub fn free_memory(&self) -> Result<u64> {
        cpu::free_memory()
    }
    /// Bytes of the device's own memory that are free now; `None` where it is the host's.
    pub fn free_device_memory(&self) -> Result<Option<u64>> {
        match self {
            Device::Cpu(_) => Ok(None),
            Device::Cuda { cuda, .. } => cuda.free_memory().map(Some),
        }
    }
    /// Refuses a type that the device does not compute in.
    pub fn check_dtype(&self, dtype: DType) -> Result<()> {
        match (self, dtype) {
            (Device::Cpu(_) | Device::Cuda { .. }, DType::F32 | DType::F64) => Ok(()),
        }
    }
    /// Which operations ran on the device and which on the host so far; `None` on the CPU.
    pub fn placed(&self) -> Option<Placed> {
        match self {
            Device::Cpu(_) => None,
            Device::Cuda { placement, .. } => Some(placement.placed()),
        }
    }
}

fn absent(backend: &'static str) -> Error {
    Error::Backend { backend, found: "a build without this backend".into(), expected: "--backend cpu or auto".into() }
}
