//! Devices: element types, tensors, scratch memory, programs. Only this module and [`crate::ops`]
//! know which backends exist.

mod cpu;
pub mod memory;
pub mod program;
pub mod real;
pub mod tensor;
pub mod wgpu;

pub use cpu::Cpu;
pub use memory::{Arena, Buffer, IntBuffer, View};
pub use program::{Builder, Program};
pub use real::{DType, Real};
pub use tensor::Tensor;

use crate::error::{Error, Result};

/// The backend a run computes on. Matched exhaustively, so that a new backend is a compile error
/// wherever it still lacks something.
#[derive(Debug)]
pub enum Device {
    Cpu(Cpu),
}

/// What `--backend` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    Auto,
    Cuda,
    Wgpu,
    Cpu,
}

impl Device {
    /// Opens a device. `threads` counts CPU threads; 0 means as many as there are cores.
    pub fn open(choice: Choice, threads: usize) -> Result<Self> {
        match choice {
            Choice::Auto | Choice::Cpu => Ok(Device::Cpu(Cpu::new(threads)?)),
            Choice::Cuda => Err(absent("cuda")),
            Choice::Wgpu => Err(absent("wgpu")),
        }
    }
    /// The backend's name, as on the command line.
    pub fn backend(&self) -> &'static str {
        match self {
            Device::Cpu(_) => "cpu",
        }
    }
    /// One line for people: what the device is.
    pub fn describe(&self) -> String {
        match self {
            Device::Cpu(cpu) => cpu.describe(),
        }
    }
    /// Work items that run side by side.
    pub fn lanes(&self) -> usize {
        match self {
            Device::Cpu(cpu) => cpu.threads(),
        }
    }
    /// Bytes of memory that are free now.
    pub fn free_memory(&self) -> Result<u64> {
        match self {
            Device::Cpu(_) => cpu::free_memory(),
        }
    }
}

fn absent(backend: &'static str) -> Error {
    Error::Backend { backend, found: "a build without this backend".into(), expected: "--backend cpu or auto".into() }
}
