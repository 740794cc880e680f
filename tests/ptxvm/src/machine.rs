//! The machine as its user sees it: options, global memory and launches. It executes nothing itself.

use crate::fault::{Fault, MemoryError};
use crate::memory::GlobalMemory;
use crate::module::Kernel;
use crate::statistics::Statistics;

/// When the bytes of a `cp.async` arrive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Completion {
    /// At the wait that must have them.
    Late,
    /// When the copy is issued.
    Early,
}

/// How `mma.sync` accumulates in f32. Products are exact either way; f64 is always a chain of fused multiply-adds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rounding {
    /// The products and the accumulator summed in f64, rounded once.
    Exact,
    /// The accumulator cut towards zero after every eight products, as tensor cores do.
    TowardZero,
}

/// What a [`Machine`] is like.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// Decides the order of blocks, of warps and of the lanes of an atomic.
    pub seed: u64,
    pub completion: Completion,
    pub mma: Rounding,
    /// Bytes of global memory.
    pub memory: u64,
    /// Compute capability: major, minor.
    pub capability: (u32, u32),
    /// The most shared memory a block may have, static and dynamic, in bytes.
    pub shared_per_block: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 0,
            completion: Completion::Late,
            mma: Rounding::Exact,
            memory: 4 << 30,
            capability: (8, 0),
            shared_per_block: 166_912,
        }
    }
}

/// One launch of a kernel.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// Blocks along x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block along x, y and z.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub dynamic_shared: u32,
    /// The parameters, laid out as the `.param` list with natural alignment ([`Kernel::params`]).
    pub params: &'a [u8],
}

/// A device: global memory and options.
pub struct Machine {
    options: Options,
    memory: GlobalMemory,
}

impl Machine {
    /// A device with nothing allocated.
    pub fn new(options: Options) -> Self {
        let memory = GlobalMemory::new(options.memory);
        Self { options, memory }
    }

    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Changes the options from the next launch or allocation on.
    pub fn set_options(&mut self, options: Options) {
        self.memory.set_total(options.memory);
        self.options = options;
    }

    /// Allocates `bytes` of unwritten memory at a multiple of 256, with unmapped bytes around it.
    /// Addresses are never handed out twice. Zero bytes give an address that nothing may be done with but to free it.
    pub fn alloc(&mut self, bytes: u64) -> Result<u64, MemoryError> {
        self.memory.alloc(bytes)
    }

    /// Frees the allocation that begins at `address`.
    pub fn free(&mut self, address: u64) -> Result<(), MemoryError> {
        self.memory.free(address)
    }

    /// Writes `bytes` at `address`; the range must lie in one allocation.
    pub fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), MemoryError> {
        self.memory.host_write(address, bytes)
    }

    /// Reads into `bytes` from `address`. Bytes never written read as 0xFF, a NaN in every float format.
    pub fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), MemoryError> {
        self.memory.host_read(address, bytes)
    }

    /// Whether all of `len` bytes at `address` have been written; false for a range outside every allocation.
    pub fn is_written(&self, address: u64, len: u64) -> bool {
        self.memory.is_written(address, len)
    }

    /// Writes `len` times `byte` at `address`.
    pub fn fill(&mut self, address: u64, byte: u8, len: u64) -> Result<(), MemoryError> {
        self.memory.host_fill(address, byte, len)
    }

    /// Copies `len` bytes from `from` to `to`, which may overlap; bytes never written stay unwritten at their new place.
    pub fn copy(&mut self, to: u64, from: u64, len: u64) -> Result<(), MemoryError> {
        self.memory.host_copy(to, from, len)
    }

    /// Bytes of global memory free and in total.
    pub fn memory(&self) -> (u64, u64) {
        self.memory.free_and_total()
    }

    /// Runs a kernel to its end and returns what it did.
    ///
    /// # Errors
    /// The first defect found; global memory then holds whatever had been written by that time.
    pub fn launch(&mut self, kernel: &Kernel, launch: &Launch) -> Result<Statistics, Fault> {
        crate::schedule::launch(&mut self.memory, &self.options, kernel, launch)
    }
}
