//! Devices: element types, tensors, scratch memory, programs. Only this module and [`crate::ops`]
//! know which backends exist.

mod convert;
mod cpu;
pub mod cuda;
pub mod driver;
pub mod mapped;
pub mod memory;
pub mod placement;
pub mod program;
pub mod real;
pub mod tensor;
pub mod wgpu;

pub use cpu::Cpu;
pub use cuda::{Cuda, DriverChoice, Gpus, Selection};
pub use mapped::{Elements, MappedFile};
pub use memory::{Arena, Buffer, IntBuffer, View};
pub use placement::{Placed, Placement};
pub use program::{Builder, Program};
pub use real::{DType, Real, Stored};
pub use tensor::Tensor;
pub use wgpu::Wgpu;

use std::sync::Arc;

use crate::error::{Error, Result};

/// The backend a run computes on. Matched exhaustively, so that a new backend is a compile error
/// wherever it still lacks something. A GPU comes with the host that feeds it and runs what it has no
/// kernels for.
#[derive(Debug)]
pub enum Device {
    Cpu(Cpu),
    Cuda { gpus: Gpus, host: Cpu, placement: Placement },
    Wgpu { wgpu: Arc<Wgpu>, host: Cpu, placement: Placement },
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
    pub gpus: Selection,
    /// A part of the name of a wgpu adapter.
    pub adapter: Option<String>,
    /// Whether large linear maps run on a wgpu adapter's cooperative matrices.
    pub cooperative: bool,
    /// CPU threads; 0 means as many as there are cores.
    pub threads: usize,
    /// Whether the run computes in f64: `auto` then passes over backends without it.
    pub double: bool,
}

impl Device {
    /// Opens a device, and says for `auto` why each backend that comes before it was passed over.
    pub fn open(request: &Request) -> Result<(Self, Vec<String>)> {
        let host = || Cpu::new(request.threads);
        // A GPU works for a thread.
        let feeding = |gpus: &Gpus| {
            let host = host()?;
            if host.threads() < gpus.count() { Cpu::new(gpus.count()) } else { Ok(host) }
        };
        let placement = Placement::default;
        let cuda = || {
            let gpus = Gpus::open(request.driver, &request.gpus)?;
            Ok(Device::Cuda { host: feeding(&gpus)?, gpus, placement: placement() })
        };
        let open_wgpu = || {
            let cooperative = if request.cooperative { wgpu::Cooperative::Native } else { wgpu::Cooperative::Off };
            let options = wgpu::Options { cooperative, ..wgpu::Options::default() };
            let wgpu = Arc::new(Wgpu::open_with(request.adapter.as_deref(), options)?);
            Ok(Device::Wgpu { wgpu, host: host()?, placement: placement() })
        };
        match request.choice {
            Choice::Cpu => Ok((Device::Cpu(host()?), vec![])),
            Choice::Cuda => Ok((cuda()?, vec![])),
            Choice::Wgpu => Ok((open_wgpu()?, vec![])),
            Choice::Auto => {
                let mut passed_over = Vec::new();
                let mut note = |e: Error| {
                    passed_over.push(match e {
                        Error::Backend { backend, found, .. } => format!("no {backend}, {found}"),
                        e => e.to_string(),
                    });
                };
                if let Ok(device) = cuda().map_err(&mut note) {
                    return Ok((device, passed_over));
                }
                if request.double {
                    note(no_double());
                } else if !has_gpu_nodes() {
                    let found = "the system shows no GPU".into();
                    note(Error::Backend { backend: "wgpu", found, expected: "one, or --backend wgpu to look for it".into() });
                } else if let Ok(device) = open_wgpu().map_err(&mut note) {
                    return Ok((device, passed_over));
                }
                Ok((Device::Cpu(host()?), passed_over))
            }
        }
    }
    /// The backend's name, as on the command line.
    pub fn backend(&self) -> &'static str {
        match self {
            Device::Cpu(_) => "cpu",
            Device::Cuda { .. } => "cuda",
            Device::Wgpu { .. } => "wgpu",
        }
    }
    /// One line for people: what the device is.
    pub fn describe(&self) -> String {
        match self {
            Device::Cpu(cpu) => cpu.describe(),
            Device::Cuda { gpus, .. } => gpus.describe(),
            Device::Wgpu { wgpu, .. } => wgpu.describe(),
        }
    }
    /// The CPU, or the one beside a GPU.
    pub fn host(&self) -> &Cpu {
        match self {
            Device::Cpu(host) | Device::Cuda { host, .. } | Device::Wgpu { host, .. } => host,
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
    /// GPUs that share the work; 1 on the CPU.
    pub fn gpus(&self) -> usize {
        match self {
            Device::Cpu(_) | Device::Wgpu { .. } => 1,
            Device::Cuda { gpus, .. } => gpus.count(),
        }
    }
    /// Bytes of the device's own memory that are free now, on each of several GPUs; `None` where it is the host's, and on wgpu,
    /// which does not tell.
    pub fn free_device_memory(&self) -> Result<Option<u64>> {
        match self {
            Device::Cpu(_) | Device::Wgpu { .. } => Ok(None),
            Device::Cuda { gpus, .. } => gpus.free_memory().map(Some),
        }
    }
    /// Refuses a type that the device does not compute in.
    pub fn check_dtype(&self, dtype: DType) -> Result<()> {
        match (self, dtype) {
            (Device::Cpu(_) | Device::Cuda { .. }, DType::F32 | DType::F64) | (Device::Wgpu { .. }, DType::F32) => Ok(()),
            (Device::Wgpu { .. }, DType::F64) => Err(no_double()),
        }
    }
    /// Which operations ran on the device and which on the host so far; `None` on the CPU.
    pub fn placed(&self) -> Option<Placed> {
        match self {
            Device::Cpu(_) => None,
            Device::Cuda { placement, .. } | Device::Wgpu { placement, .. } => Some(placement.placed()),
        }
    }
}

/// Whether the system shows a GPU at all. Without one, loading the graphics drivers only to find their
/// software adapters costs time and, on a machine without a desktop, complaints of Mesa on stderr.
fn has_gpu_nodes() -> bool {
    // The kernel's device files: DRM, NVIDIA, WSL, Adreno, Mali.
    let nodes = ["/dev/dri", "/dev/nvidiactl", "/dev/dxg", "/dev/kgsl-3d0", "/dev/mali0"];
    cfg!(not(target_os = "linux")) || nodes.iter().any(|node| std::path::Path::new(node).exists())
}

fn no_double() -> Error {
    Error::Backend { backend: "wgpu", found: "WGSL has no f64".into(), expected: "--dtype f32, or --backend cpu or cuda".into() }
}
