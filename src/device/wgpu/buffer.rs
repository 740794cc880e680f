//! Buffers of a device, the views that operations take of them, and transfers.
//!
//! Transfers go by whole 4-byte words, the unit that WebGPU copies in; every element type that
//! kernels use is a multiple of it.

use std::ops::Range;

use ::wgpu::{BufferDescriptor, BufferUsages, MapMode};

use super::Wgpu;
use crate::device::Stored;
use crate::error::{Error, Result};

/// Bytes of the buffer that stands in for an output nobody asked for.
pub(super) const SPARE_BYTES: u64 = 256;

/// Bytes that one read-back stages at a time.
const STAGED: u64 = 64 << 20;

/// Memory of a device: storage that kernels bind and transfers reach. Cloning copies the handle.
#[derive(Clone, Debug)]
pub struct WgpuBuffer {
    pub(super) raw: ::wgpu::Buffer,
    bytes: u64,
}

impl WgpuBuffer {
    /// Its size in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
    /// Whether both handles are of the same memory.
    pub fn is(&self, other: &Self) -> bool {
        self.raw == other.raw
    }
}

/// A row-major matrix `[rows, cols]` inside a buffer: row `i` starts at element `offset + i * stride`.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    pub buffer: &'a WgpuBuffer,
    pub offset: usize,
    pub rows: usize,
    pub cols: usize,
    pub stride: usize,
    /// What its elements are: f32 but for weights that are narrower ([`Wgpu::weight`]). Offsets and strides count them.
    pub stored: Stored,
}

impl<'a> View<'a> {
    /// The contiguous matrix of f32 at the start of a buffer.
    pub fn new(buffer: &'a WgpuBuffer, rows: usize, cols: usize) -> Self {
        Self { buffer, offset: 0, rows, cols, stride: cols, stored: Stored::F32 }
    }
    /// The rows `from .. from + rows`.
    pub fn slice_rows(self, from: usize, rows: usize) -> Self {
        Self { offset: self.offset + from * self.stride, rows, ..self }
    }
    /// The columns `from .. from + cols`.
    pub fn columns(self, from: usize, cols: usize) -> Self {
        Self { offset: self.offset + from, cols, ..self }
    }
    /// The elements from its first to its last, gaps between rows counted in.
    pub fn elements(&self) -> Range<usize> {
        let len = if self.rows == 0 || self.cols == 0 { 0 } else { (self.rows - 1) * self.stride + self.cols };
        self.offset..self.offset + len
    }
    /// How many of its rows span at most `elements` elements.
    pub fn rows_within(&self, elements: usize) -> usize {
        match elements.checked_sub(self.cols) {
            Some(rest) => (rest.checked_div(self.stride).unwrap_or(usize::MAX).saturating_add(1)).min(self.rows),
            None => 0,
        }
    }
    /// Whether every row starts at a multiple of 4 elements and has whole quads of them.
    pub fn has_quads(&self) -> bool {
        [self.offset, self.stride, self.cols].iter().all(|n| n.is_multiple_of(4))
    }
    /// That it lies inside its buffer and its rows do not overlap.
    pub fn check(&self, op: &'static str, name: &str) -> Result<()> {
        let held = usize::try_from(self.buffer.bytes / self.stored.bytes() as u64).unwrap_or(usize::MAX);
        if self.elements().end > held || (self.stride < self.cols && self.rows > 1) {
            let found = format!("{name} [{}, {}] at {} with stride {}", self.rows, self.cols, self.offset, self.stride);
            return Err(Error::shape(op, found, format!("rows that do not overlap within {held} elements")));
        }
        Ok(())
    }
}

impl Wgpu {
    /// Memory of `bytes` bytes, rounded up to whole words, zero at first.
    pub fn buffer(&self, bytes: u64) -> Result<WgpuBuffer> {
        let size = bytes.max(4).next_multiple_of(4);
        let action = format!("allocating a buffer of {bytes} bytes");
        if size > self.limits.max_buffer_size {
            let found = format!("the adapter allows {} bytes a buffer", self.limits.max_buffer_size);
            return Err(self.driver_error(action, found));
        }
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        let raw = self.raw_buffer("buffer", size, usage, &action)?;
        Ok(WgpuBuffer { raw, bytes: size })
    }

    pub(super) fn raw_buffer(&self, label: &str, size: u64, usage: BufferUsages, action: &str) -> Result<::wgpu::Buffer> {
        let descriptor = BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false };
        self.scoped(|| self.device.create_buffer(&descriptor), |found| self.driver_error(action, found))
    }

    /// A buffer that holds `data`.
    pub fn buffer_of(&self, data: &[u8]) -> Result<WgpuBuffer> {
        let buffer = self.buffer(data.len() as u64)?;
        self.upload(&buffer, 0, data)?;
        Ok(buffer)
    }

    /// Writes `data` at byte `offset`, before whatever is submitted next.
    pub fn upload(&self, buffer: &WgpuBuffer, offset: u64, data: &[u8]) -> Result<()> {
        let action = format!("an upload of {} bytes", data.len());
        self.check_range(buffer, &(offset..offset + data.len() as u64), &action)?;
        self.scoped(|| self.queue.write_buffer(&buffer.raw, offset, data), |found| self.driver_error(&*action, found))
    }

    /// Reads bytes back, after whatever was submitted.
    pub fn download(&self, buffer: &WgpuBuffer, range: Range<u64>) -> Result<Vec<u8>> {
        let action = format!("a read-back of {} bytes", range.end.saturating_sub(range.start));
        self.check_range(buffer, &range, &action)?;
        let mut data = Vec::with_capacity((range.end - range.start) as usize);
        let usage = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
        let staging = self.raw_buffer("read-back", (range.end - range.start).clamp(4, STAGED), usage, &action)?;
        for from in range.clone().step_by(STAGED as usize) {
            let bytes = STAGED.min(range.end - from);
            self.scoped(
                || {
                    let mut encoder = self.device.create_command_encoder(&Default::default());
                    encoder.copy_buffer_to_buffer(&buffer.raw, from, &staging, 0, bytes);
                    self.queue.submit([encoder.finish()]);
                },
                |found| self.driver_error(&*action, found),
            )?;
            let slice = staging.slice(..bytes);
            slice.map_async(MapMode::Read, |_| {});
            self.poll(&action)?;
            // A mapping that failed gives no range.
            let mapped = slice.get_mapped_range().map_err(|e| self.driver_error(&*action, e.to_string()))?;
            data.extend_from_slice(&mapped);
            drop(mapped);
            staging.unmap();
        }
        Ok(data)
    }

    /// Reads f32 values back: the elements `range` of a buffer.
    pub fn download_f32(&self, buffer: &WgpuBuffer, range: Range<usize>) -> Result<Vec<f32>> {
        let bytes = self.download(buffer, 4 * range.start as u64..4 * range.end as u64)?;
        Ok(bytemuck::pod_collect_to_vec(&bytes))
    }

    fn check_range(&self, buffer: &WgpuBuffer, range: &Range<u64>, action: &str) -> Result<()> {
        if range.start <= range.end && range.end <= buffer.bytes && [range.start, range.end].iter().all(|n| n.is_multiple_of(4)) {
            return Ok(());
        }
        let found = format!("bytes {}..{} of a buffer of {} are no whole words inside it", range.start, range.end, buffer.bytes);
        Err(self.driver_error(action, found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_within_a_binding_count_the_gaps_between_them() {
        let Ok(device) = Wgpu::open(Some("llvmpipe")) else {
            println!("skipped: wgpu llvmpipe is absent");
            return;
        };
        let buffer = device.buffer(400).unwrap();
        let view = View { buffer: &buffer, offset: 3, rows: 10, cols: 4, stride: 9, stored: Stored::F32 };
        assert_eq!(view.elements(), 3..88);
        for (elements, rows) in [(3, 0), (4, 1), (12, 1), (13, 2), (84, 9), (85, 10), (1000, 10)] {
            assert_eq!(view.rows_within(elements), rows, "{elements}");
        }
        assert!(view.check("t", "x").is_ok() && !view.has_quads());
        let text = View { offset: 20, ..view }.check("t", "x").unwrap_err().to_string();
        assert_eq!(
            text,
            "operation t: found x [10, 4] at 20 with stride 9; expected rows that do not overlap within 100 elements"
        );
        assert!(View { stride: 3, ..view }.check("t", "x").is_err());
        assert!(View { offset: 4, stride: 8, ..view }.has_quads());
        let halves = View { offset: 116, stored: Stored::BF16, ..view };
        assert!(halves.check("t", "x").is_err() && View { offset: 115, ..halves }.check("t", "x").is_ok());
    }
}
