//! Launches: a compiled kernel with its bindings and parameters, recorded once and submitted as often
//! as wanted. WebGPU has no command buffer that can be submitted twice, so a submit encodes what was
//! recorded again; nothing is created for it.

use std::ops::Range;
use std::sync::Arc;

use ::wgpu::{
    BindGroup, BindGroupDescriptor, BindGroupEntry, BufferBinding, BufferUsages, CommandEncoder, ComputePassDescriptor,
    ComputePassTimestampWrites, Features, QuerySet, QuerySetDescriptor, QueryType,
};

use super::buffer::SPARE_BYTES;
use super::{Pipeline, Wgpu, WgpuBuffer};
use crate::device::Stored;
use crate::error::{Error, Result};
use crate::kernel::wgsl::Transport;

/// What a kernel sees of a buffer: whole words from an aligned start. Cloning copies the handle.
#[derive(Clone, Debug)]
pub struct Binding {
    buffer: ::wgpu::Buffer,
    offset: u64,
    bytes: u64,
}

impl Binding {
    /// Whether it shows a part of the buffer.
    pub fn is_of(&self, buffer: &WgpuBuffer) -> bool {
        self.buffer == buffer.raw
    }
}

/// One launch of a kernel.
#[derive(Debug)]
pub struct Launch<'a> {
    pub pipeline: &'a Arc<Pipeline>,
    /// The parameter block.
    pub params: &'a [u8],
    /// How the text takes it: as immediates, or from a uniform at binding 0.
    pub transport: Transport,
    /// The storage of bindings 1, 2, ..
    pub bindings: &'a [Binding],
    /// Workgroups; see [`Wgpu::grid`].
    pub grid: [u32; 3],
}

/// Something that [`Wgpu::submit`] runs. It holds on to the buffers it uses. Cloning copies the handle.
#[derive(Clone, Debug)]
pub struct Recorded(Arc<Step>);

#[derive(Debug)]
enum Step {
    Dispatch { pipeline: Arc<Pipeline>, group: BindGroup, immediates: Vec<u8>, grid: [u32; 3] },
    Copy { from: WgpuBuffer, from_byte: u64, to: WgpuBuffer, to_byte: u64, bytes: u64 },
    Clear { buffer: WgpuBuffer, range: Range<u64> },
}

/// `total` workgroups as a grid with at most `largest` along an axis. It may hold more than `total`;
/// kernels number their workgroups `x + y * grid.x` and leave when theirs is not below the total.
pub fn grid(total: u64, largest: u32) -> Option<[u32; 3]> {
    let rows = total.div_ceil(u64::from(largest)).max(1);
    let columns = total.div_ceil(rows);
    Some([columns.try_into().ok()?, u32::try_from(rows).ok().filter(|&y| y <= largest)?, 1])
}

impl Wgpu {
    /// The most elements that a binding holds, wherever they start in their buffer.
    pub fn binding_elements(&self) -> usize {
        let bytes = self.limits.max_storage_buffer_binding_size.min(u64::from(u32::MAX)).saturating_sub(self.alignment());
        usize::try_from(bytes / 4).unwrap_or(usize::MAX)
    }

    fn alignment(&self) -> u64 {
        u64::from(self.limits.min_storage_buffer_offset_alignment)
    }

    /// Binds 4-byte elements of a buffer; returns also the place of the first inside the binding.
    pub fn bind(&self, buffer: &WgpuBuffer, elements: Range<usize>) -> Result<(Binding, u32)> {
        let (start, end) = (4 * elements.start as u64, 4 * elements.end as u64);
        let offset = start - start % self.alignment();
        if end <= start || end > buffer.bytes() || end - offset > self.limits.max_storage_buffer_binding_size {
            let (held, most) = (buffer.bytes(), self.limits.max_storage_buffer_binding_size);
            let found = format!("bytes {start}..{end} of a buffer of {held}, where a binding has 4 to {most} bytes");
            return Err(self.driver_error("binding storage", found));
        }
        Ok((Binding { buffer: buffer.raw.clone(), offset, bytes: end - offset }, ((start - offset) / 4) as u32))
    }

    /// [`Wgpu::bind`] of elements of another type, of which a word of 4 bytes holds one or two.
    pub fn bind_stored(&self, buffer: &WgpuBuffer, elements: Range<usize>, stored: Stored) -> Result<(Binding, u32)> {
        let held = 4 / stored.bytes();
        let (binding, word) = self.bind(buffer, elements.start / held..elements.end.div_ceil(held))?;
        Ok((binding, word * held as u32 + (elements.start % held) as u32))
    }

    /// Stands in for an output that a launch does not ask for.
    pub fn spare(&self) -> Binding {
        Binding { buffer: self.spare.clone(), offset: 0, bytes: SPARE_BYTES }
    }

    /// Stands in for an input that a launch does not have. A buffer may not be both in one launch.
    pub fn spare_input(&self) -> Binding {
        Binding { buffer: self.spare_input.clone(), offset: 0, bytes: SPARE_BYTES }
    }

    /// [`grid`] within this device's limit.
    pub fn grid(&self, total: u64) -> Result<[u32; 3]> {
        let largest = self.options.largest_grid.unwrap_or(u32::MAX).min(self.limits.max_compute_workgroups_per_dimension);
        let error = || self.driver_error("a launch", format!("{total} workgroups are more than {largest} x {largest}"));
        grid(total, largest).ok_or_else(error)
    }

    /// Prepares a launch.
    pub fn record(&self, launch: &Launch) -> Result<Recorded> {
        let refused = |found: String| Error::Launch {
            kernel: launch.pipeline.name.clone(),
            grid: launch.grid,
            block: [launch.pipeline.threads, 1, 1],
            shared: launch.pipeline.shared,
            found: super::report::one_line(&found),
        };
        let uniform = match launch.transport {
            Transport::Immediates => None,
            Transport::Uniform => {
                let usage = BufferUsages::UNIFORM | BufferUsages::COPY_DST;
                let size = (launch.params.len() as u64).next_multiple_of(16);
                let buffer = self.raw_buffer("parameters", size, usage, "allocating a parameter block")?;
                self.scoped(|| self.queue.write_buffer(&buffer, 0, launch.params), refused)?;
                Some(buffer)
            }
        };
        let params = uniform.as_ref().map(|u| BindGroupEntry { binding: 0, resource: u.as_entire_binding() });
        let storage = (1..).zip(launch.bindings).map(|(binding, b)| {
            let resource = BufferBinding { buffer: &b.buffer, offset: b.offset, size: std::num::NonZeroU64::new(b.bytes) };
            BindGroupEntry { binding, resource: ::wgpu::BindingResource::Buffer(resource) }
        });
        let entries: Vec<BindGroupEntry> = params.into_iter().chain(storage).collect();
        let descriptor =
            BindGroupDescriptor { label: Some(&launch.pipeline.name), layout: &launch.pipeline.layout, entries: &entries };
        let group = self.scoped(|| self.device.create_bind_group(&descriptor), refused)?;
        let immediates = if uniform.is_none() { launch.params.to_vec() } else { Vec::new() };
        let pipeline = Arc::clone(launch.pipeline);
        Ok(Recorded(Arc::new(Step::Dispatch { pipeline, group, immediates, grid: launch.grid })))
    }

    /// Runs what was recorded, in order, as one command buffer. Returns once it is queued.
    pub fn submit(&self, recorded: &[Recorded]) -> Result<()> {
        self.encode(recorded, None, |_| ())
    }

    /// [`Wgpu::submit`], then waits; returns the seconds that the launches took on the device, or
    /// `None` where the adapter has no timestamps.
    pub fn time(&self, recorded: &[Recorded]) -> Result<Option<f64>> {
        if !self.device.features().contains(Features::TIMESTAMP_QUERY) {
            self.submit(recorded)?;
            self.wait()?;
            return Ok(None);
        }
        let count = 2 * passes(recorded);
        let bytes = 8 * u64::from(count).max(1);
        let usage = BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC;
        let resolved = self.raw_buffer("timestamps", bytes, usage, "allocating timestamps")?;
        let read = self.buffer(bytes)?;
        let descriptor = QuerySetDescriptor { label: Some("timestamps"), ty: QueryType::Timestamp, count: count.max(1) };
        let make = || self.device.create_query_set(&descriptor);
        let queries = self.scoped(make, |found| self.driver_error("making timestamp queries", found))?;
        self.encode(recorded, Some(&queries), |encoder| {
            encoder.resolve_query_set(&queries, 0..count, &resolved, 0);
            encoder.copy_buffer_to_buffer(&resolved, 0, &read.raw, 0, bytes);
        })?;
        let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&self.download(&read, 0..bytes)?);
        let sum: u64 = ticks.chunks_exact(2).map(|t| t[1].saturating_sub(t[0])).sum();
        Ok(Some(sum as f64 * f64::from(self.queue.get_timestamp_period()) * 1e-9))
    }

    fn encode(&self, recorded: &[Recorded], queries: Option<&QuerySet>, last: impl FnOnce(&mut CommandEncoder)) -> Result<()> {
        let run = || {
            let mut encoder = self.device.create_command_encoder(&Default::default());
            let mut query = 0;
            for steps in recorded.chunk_by(|a, b| a.is_dispatch() && b.is_dispatch()) {
                match &*steps[0].0 {
                    Step::Copy { from, from_byte, to, to_byte, bytes } => {
                        encoder.copy_buffer_to_buffer(&from.raw, *from_byte, &to.raw, *to_byte, *bytes);
                    }
                    Step::Clear { buffer, range } => {
                        encoder.clear_buffer(&buffer.raw, range.start, Some(range.end - range.start));
                    }
                    Step::Dispatch { .. } => {
                        let timestamp_writes = queries.map(|query_set| ComputePassTimestampWrites {
                            query_set,
                            beginning_of_pass_write_index: Some(query),
                            end_of_pass_write_index: Some(query + 1),
                        });
                        query += 2;
                        dispatch(&mut encoder, steps, timestamp_writes);
                    }
                }
            }
            last(&mut encoder);
            self.queue.submit([encoder.finish()]);
        };
        let names = || recorded.iter().filter_map(Recorded::name).next().map_or("copies", |n| n).to_string();
        self.scoped(run, |found| self.driver_error(format!("running {} steps, the first {}", recorded.len(), names()), found))
    }
}

/// Compute passes that [`Wgpu::encode`] makes.
fn passes(recorded: &[Recorded]) -> u32 {
    recorded.chunk_by(|a, b| a.is_dispatch() && b.is_dispatch()).filter(|s| s[0].is_dispatch()).count() as u32
}

fn dispatch(encoder: &mut CommandEncoder, steps: &[Recorded], timestamp_writes: Option<ComputePassTimestampWrites>) {
    let mut pass = encoder.begin_compute_pass(&ComputePassDescriptor { label: None, timestamp_writes });
    for step in steps {
        if let Step::Dispatch { pipeline, group, immediates, grid } = &*step.0 {
            pass.set_pipeline(&pipeline.raw);
            pass.set_bind_group(0, group, &[]);
            if !immediates.is_empty() {
                pass.set_immediates(0, immediates);
            }
            pass.dispatch_workgroups(grid[0], grid[1], grid[2]);
        }
    }
}

impl Recorded {
    /// A copy of bytes between two buffers, or two places of one that do not overlap.
    pub fn copy(from: &WgpuBuffer, from_byte: u64, to: &WgpuBuffer, to_byte: u64, bytes: u64) -> Self {
        Self(Arc::new(Step::Copy { from: from.clone(), from_byte, to: to.clone(), to_byte, bytes }))
    }
    /// Sets bytes of a buffer to zero.
    pub fn clear(buffer: &WgpuBuffer, range: Range<u64>) -> Self {
        Self(Arc::new(Step::Clear { buffer: buffer.clone(), range }))
    }
    fn is_dispatch(&self) -> bool {
        matches!(*self.0, Step::Dispatch { .. })
    }
    /// `kernel@configuration` of a launch.
    pub fn name(&self) -> Option<&str> {
        match &*self.0 {
            Step::Dispatch { pipeline, .. } => Some(&pipeline.name),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_holds_every_workgroup_within_the_limit() {
        assert_eq!(grid(1, 65_535), Some([1, 1, 1]));
        assert_eq!(grid(65_535, 65_535), Some([65_535, 1, 1]));
        assert_eq!(grid(65_536, 65_535), Some([32_768, 2, 1]));
        for total in 1..40u64 {
            let found = grid(total, 6);
            if total > 36 {
                assert_eq!(found, None);
                continue;
            }
            let [x, y, _] = found.unwrap();
            assert!(x <= 6 && y <= 6 && u64::from(x * y) >= total && u64::from(x * (y - 1)) < total, "{total}: {x} x {y}");
        }
    }
}
