//! The wgpu side of an offloaded program: a device buffer for each that kernels touch, and launches
//! recorded once. Gram matrices come back as slabs that the host folds in f64.

use std::sync::Arc;

use super::{Segment, Work, each_launch};
use crate::device::wgpu::{self, Recorded, Wgpu, WgpuBuffer};
use crate::device::{Arena, DType, Program, Real, View};
use crate::error::Result;
use crate::ops::gram_wgpu::{self, GramPending};
use crate::ops::linear::Matrix;
use crate::ops::linear_wgpu::{self, LinearCall};
use crate::ops::operands::Operands;
use crate::ops::{Launch, gram, linear};

#[derive(Debug)]
pub(super) struct Side {
    device: Arc<Wgpu>,
    /// By slot; `None` for a buffer that only the host uses.
    buffers: Vec<Option<WgpuBuffer>>,
    dtype: DType,
}

/// Launches of a segment.
#[derive(Debug)]
pub(super) struct Batch(Vec<Recorded>);

impl Batch {
    pub fn recorded(&self) -> &[Recorded] {
        &self.0
    }
    pub fn append(&mut self, later: &mut Self) -> bool {
        self.0.append(&mut later.0);
        true
    }
}

/// A Gram matrix, recorded.
#[derive(Debug)]
pub(super) struct Gram {
    args: gram::Args,
    pending: GramPending,
}

impl Gram {
    pub fn recorded(&self) -> &[Recorded] {
        self.pending.recorded()
    }
}

/// The names of launches.
pub(super) fn names(recorded: &[Recorded]) -> impl Iterator<Item = String> {
    recorded.iter().filter_map(Recorded::name).map(String::from)
}

/// The views that kernels touch; `None` for a launch without one.
fn footprint(l: &Launch, dtype: DType) -> Option<Vec<View>> {
    match l {
        Launch::Linear(a) if dtype == DType::F32 && a.fits() => Some([a.x, a.y].into_iter().chain(a.pre).collect()),
        Launch::Gram(a) if dtype == DType::F32 && (1..=gram_wgpu::MOST_ROWS).contains(&a.x.rows) && a.x.cols > 0 => {
            Some(vec![a.x])
        }
        _ => None,
    }
}

fn used(program: &Program<Launch>) -> Vec<bool> {
    let mut used = vec![false; program.layout.slots().len()];
    each_launch(&program.launches, &mut |l| {
        footprint(l, program.dtype).into_iter().flatten().for_each(|v| used[v.buffer.slot()] = true);
    });
    used
}

/// Bytes of the buffers that kernels of `program` touch.
pub(super) fn bytes(program: &Program<Launch>) -> u64 {
    let slots = program.layout.slots().iter().zip(used(program));
    slots.filter(|(_, used)| *used).map(|(slot, _)| slot.bytes(program.dtype.bytes())).fold(0, u64::saturating_add)
}

/// Whether there is a kernel for a launch of `program`.
pub(super) fn has_kernel(l: &Launch, program: &Program<Launch>) -> bool {
    footprint(l, program.dtype).is_some()
}

impl Side {
    pub fn new(device: &Arc<Wgpu>, program: &Program<Launch>) -> Result<Self> {
        let slots = program.layout.slots().iter().zip(used(program));
        let made = slots.map(|(slot, used)| used.then(|| device.buffer(slot.bytes(program.dtype.bytes()))).transpose());
        let buffers = made.collect::<Result<_>>()?;
        Ok(Self { device: Arc::clone(device), buffers, dtype: program.dtype })
    }
    fn buffer(&self, slot: usize) -> &WgpuBuffer {
        self.buffers[slot].as_ref().unwrap_or_else(|| panic!("buffer {slot} has no place on the device"))
    }
    fn view(&self, v: &View) -> wgpu::View<'_> {
        let View { offset, rows, cols, stride, .. } = *v;
        wgpu::View { buffer: self.buffer(v.buffer.slot()), offset, rows, cols, stride }
    }
    /// Resolves a launch; `None` where there is no kernel for it.
    pub fn bind(&mut self, l: &Launch) -> Result<Option<Segment>> {
        if footprint(l, self.dtype).is_none() {
            return Ok(None);
        }
        Ok(match l {
            Launch::Linear(a) => Some(Segment::new(&l.operands(), Work::Wgpu(Batch(self.linear(a)?)))),
            Launch::Gram(a) => {
                let pending = gram_wgpu::gram(&self.device, self.view(&a.x))?;
                // The host writes the results.
                let operands = Operands { writes: Vec::new(), ..l.operands() };
                Some(Segment::new(&operands, Work::WgpuGram(Box::new(Gram { args: a.clone(), pending }))))
            }
            _ => None,
        })
    }
    fn linear(&self, a: &linear::Args) -> Result<Vec<Recorded>> {
        a.check()?;
        let held = |matrix: &Matrix| self.device.tensor(&matrix.tensor);
        let (w, bias) = (held(&a.w)?, a.bias.as_ref().map(held).transpose()?);
        let call = LinearCall {
            x: self.view(&a.x),
            w: block(&w, &a.w),
            transpose: a.transpose,
            bias: bias.as_ref().zip(a.bias.as_ref()).map(|(buffer, matrix)| block(buffer, matrix)),
            epilogue: a.epilogue(),
            pre: a.pre.as_ref().map(|p| self.view(p)),
            y: self.view(&a.y),
        };
        linear_wgpu::linear(&self.device, &call)
    }
    pub fn upload(&mut self, slot: usize, bytes: &[u8]) -> Result<()> {
        self.device.upload(self.buffer(slot), 0, bytes)
    }
    pub fn download(&mut self, slot: usize, bytes: &mut [u8]) -> Result<()> {
        bytes.copy_from_slice(&self.device.download(self.buffer(slot), 0..bytes.len() as u64)?);
        Ok(())
    }
    pub fn run(&mut self, batch: &Batch) -> Result<()> {
        self.device.submit(&batch.0)
    }
    /// Runs a Gram matrix and leaves its results on the host.
    pub fn gram<T: Real>(&mut self, gram: &Gram, host: &mut Arena<T>) -> Result<()> {
        self.device.submit(gram.pending.recorded())?;
        let found = gram.pending.finish(&self.device)?;
        for (view, numbers) in [(gram.args.mean, found.mean), (gram.args.m2, found.m2)] {
            let out = host.real_mut(view.buffer);
            for (i, row) in numbers.chunks(view.cols).enumerate() {
                out[view.range(i)].iter_mut().zip(row).for_each(|(x, y)| *x = T::of(*y));
            }
        }
        Ok(())
    }
}

/// A block of a weight's buffer.
fn block<'a>(buffer: &'a WgpuBuffer, matrix: &Matrix) -> wgpu::View<'a> {
    let Matrix { tensor, row, col, rows, cols } = matrix;
    wgpu::View { buffer, offset: row * tensor.cols + col, rows: *rows, cols: *cols, stride: tensor.cols }
}
