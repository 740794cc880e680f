//! The launches of one batch shape, resolved once, with the layout of the buffers they use.

use super::memory::{Buffer, IntBuffer, Layout, View};
use super::real::DType;

/// An immutable list of launches over one arena layout. `L` is the launch type of
/// [`crate::ops`]; the device layer does not look inside.
#[derive(Clone, Debug)]
pub struct Program<L> {
    pub dtype: DType,
    pub launches: Vec<L>,
    pub layout: Layout,
    /// Accumulators that are zeroed before the first launch.
    pub zeroed: Vec<Buffer>,
}

impl<L> Program<L> {
    /// Bytes of scratch memory that one run needs.
    pub fn bytes(&self) -> u64 {
        self.layout.bytes(self.dtype.bytes())
    }
}

/// Collects the launches and buffers of a [`Program`].
#[derive(Debug)]
pub struct Builder<L> {
    program: Program<L>,
}

impl<L> Builder<L> {
    pub fn new(dtype: DType) -> Self {
        Self { program: Program { dtype, launches: Vec::new(), layout: Layout::default(), zeroed: Vec::new() } }
    }
    pub fn dtype(&self) -> DType {
        self.program.dtype
    }
    /// A fresh contiguous matrix. One beyond the address space is as large as can be: no plan with it
    /// passes the check of its memory.
    pub fn matrix(&mut self, rows: usize, cols: usize) -> View {
        let buffer = self.program.layout.buffer(rows.saturating_mul(cols));
        View { buffer, offset: 0, rows, cols, stride: cols }
    }
    /// A matrix that is zero when the program starts.
    pub fn accumulator(&mut self, rows: usize, cols: usize) -> View {
        let v = self.matrix(rows, cols);
        self.program.zeroed.push(v.buffer);
        v
    }
    pub fn ints(&mut self, len: usize) -> IntBuffer {
        self.program.layout.ints(len)
    }
    pub fn push(&mut self, launch: L) {
        self.program.launches.push(launch);
    }
    /// Number of launches so far.
    pub fn len(&self) -> usize {
        self.program.launches.len()
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Takes the launches from `start` on out again, to nest them.
    pub fn split_off(&mut self, start: usize) -> Vec<L> {
        self.program.launches.split_off(start)
    }
    pub fn finish(self) -> Program<L> {
        self.program
    }
}
