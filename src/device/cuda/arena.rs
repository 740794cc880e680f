//! The device side of a program's buffers: one allocation, laid out once.

use super::{Cuda, Lane, Memory};
use crate::device::memory::{Buffer, IntBuffer, Layout, View};
use crate::device::real::DType;
use crate::error::Result;

/// Buffers begin at multiples of this many bytes.
const ALIGNMENT: u64 = 256;

/// Device memory for those buffers of a layout that kernels touch, and scratch memory behind them.
#[derive(Debug)]
pub struct CudaArena {
    cuda: Cuda,
    memory: Memory,
    /// Bytes from the start to each buffer, by slot; `None` for one that only the host uses.
    offsets: Vec<Option<u64>>,
    scratch: u64,
    dtype: DType,
    /// Tables of its programs' launches.
    tables: Vec<Memory>,
}

/// The space that an arena would take.
#[derive(Clone, Debug)]
pub struct Space {
    offsets: Vec<Option<u64>>,
    scratch: u64,
    pub bytes: u64,
}

impl Space {
    /// Lays out the buffers that `used` marks, by slot, and `scratch` bytes behind them.
    pub fn new(layout: &Layout, dtype: DType, used: &[bool], scratch: u64) -> Self {
        // A buffer beyond the address space is as large as can be, and no memory holds the arena.
        let mut end: u64 = 0;
        let offsets = layout.slots().iter().zip(used).map(|(slot, used)| {
            used.then(|| {
                let at = end;
                end = end.saturating_add(slot.bytes(dtype.bytes())).checked_next_multiple_of(ALIGNMENT).unwrap_or(u64::MAX);
                at
            })
        });
        let offsets = offsets.collect();
        Self { offsets, scratch: end, bytes: end.saturating_add(scratch) }
    }
}

impl CudaArena {
    pub fn new(cuda: &Cuda, space: Space, dtype: DType) -> Result<Self> {
        let memory = cuda.alloc(space.bytes)?;
        Ok(Self { cuda: cuda.clone(), memory, offsets: space.offsets, scratch: space.scratch, dtype, tables: Vec::new() })
    }
    pub fn cuda(&self) -> &Cuda {
        &self.cuda
    }
    pub fn dtype(&self) -> DType {
        self.dtype
    }
    /// The address of a buffer that the layout placed.
    pub fn buffer(&self, b: Buffer) -> u64 {
        self.slot(b.slot())
    }
    /// The address of a buffer of u32 that the layout placed.
    pub fn ints(&self, b: IntBuffer) -> u64 {
        self.slot(b.slot())
    }
    /// Keeps a table on the device as long as the arena, and gives its address.
    pub fn table(&mut self, bytes: &[u8], lane: &mut Lane) -> Result<u64> {
        let memory = self.cuda.alloc(bytes.len() as u64)?;
        let address = memory.address;
        lane.upload(address, bytes)?;
        self.tables.push(memory);
        Ok(address)
    }
    /// Whether the layout placed a buffer.
    pub(crate) fn has(&self, slot: usize) -> bool {
        self.offsets[slot].is_some()
    }
    pub(crate) fn slot(&self, slot: usize) -> u64 {
        let offset = self.offsets[slot].unwrap_or_else(|| panic!("buffer {slot} has no place on the device"));
        self.memory.address + offset
    }
    /// The address of a view's first element.
    pub fn view(&self, v: &View) -> u64 {
        self.buffer(v.buffer) + (v.offset * self.dtype.bytes()) as u64
    }
    /// The address of the scratch memory, which holds nothing between two operations.
    pub fn scratch(&self) -> u64 {
        self.memory.address + self.scratch
    }
}
