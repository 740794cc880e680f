//! Programs on a device that has kernels for some of the operations: those run there, the rest on the
//! host, and each buffer is copied across when the side that needs it lacks its newest content.

mod cuda;
mod storage;
mod wgpu;

pub(super) use cuda::Place;
pub use cuda::{cuda_bytes, cuda_calls};
pub(super) use storage::{Storage, together};
#[cfg(test)]
pub(super) use wgpu::on_bare_place;
pub(super) use wgpu::{Scratch, WgpuPlace};

use crate::device::cuda::Lane;
use crate::device::wgpu::Recorded;
use crate::device::{Arena, DType, Device, IntBuffer, Program, Real, View};
use crate::error::Result;

use super::operands::Operands;
use super::{Launch, launch};

/// A program bound to a device beside its arena on the host.
#[derive(Debug)]
pub struct Mirror {
    // Dropped first, which waits for the graphs of the steps that still run.
    gpu: Gpu,
    steps: Vec<Step>,
    sides: Sides,
}

/// The device's side of an arena.
#[derive(Debug)]
enum Gpu {
    Cuda(Box<cuda::Side>),
    Wgpu(wgpu::Side),
}

#[derive(Debug)]
enum Step {
    Host(Box<Launch>),
    Device(Segment),
    /// Counted by the host.
    Repeat {
        count: usize,
        index: IntBuffer,
        steps: Vec<Step>,
    },
    /// Counted on the device.
    Loop {
        count: usize,
        index: IntBuffer,
        segment: Segment,
    },
}

/// Launches that follow each other on the device.
#[derive(Debug)]
struct Segment {
    /// Slots that must be there before: those read, and those written in part.
    needs: Vec<usize>,
    writes: Vec<usize>,
    work: Work,
}

/// What a segment does.
#[derive(Debug)]
enum Work {
    Cuda(cuda::Batch),
    Wgpu(wgpu::Batch),
    /// A Gram matrix that the host folds: its results are newest on the host.
    WgpuGram(Box<wgpu::Gram>),
}

/// Where the newest content of each buffer is, by slot; on both sides where neither flag is set.
#[derive(Debug)]
struct Sides {
    host_newer: Vec<bool>,
    device_newer: Vec<bool>,
}

impl Mirror {
    /// Binds `program` to `device`: of several GPUs to that of the calling thread. `None` on the CPU.
    pub fn new(device: &Device, program: &Program<Launch>) -> Result<Option<Self>> {
        let mut gpu = match device {
            Device::Cpu(_) => return Ok(None),
            Device::Cuda { gpus, .. } => Gpu::Cuda(Box::new(cuda::Side::new(gpus.here(), program)?)),
            Device::Wgpu { wgpu, .. } => Gpu::Wgpu(wgpu::Side::new(wgpu, program)?),
        };
        let steps = gpu.bind(&program.launches, program.dtype)?;
        let slots = program.layout.slots().len();
        let sides = Sides { host_newer: vec![true; slots], device_newer: vec![false; slots] };
        Ok(Some(Self { gpu, steps, sides }))
    }
    /// Runs the program: as [`super::run_cpu`], with the operations that the device has kernels for
    /// done there. What was computed there stays there until it is fetched.
    pub fn run<T: Real>(&mut self, program: &Program<Launch>, host: &mut Arena<T>) -> Result<()> {
        let Self { gpu, steps, sides } = self;
        sides.note_host(host);
        for b in &program.zeroed {
            if gpu.zero(b.slot(), b.len * T::DTYPE.bytes())? {
                sides.note_device(b.slot());
            } else {
                host.real_mut(*b).fill(T::ZERO);
            }
        }
        run_steps(steps, sides, gpu, host)?;
        gpu.flush()
    }
    /// Brings the newest content of a slot to the host.
    pub fn fetch<T: Real>(&mut self, slot: usize, host: &mut Arena<T>) -> Result<()> {
        self.sides.note_host(host);
        self.sides.fetch(slot, &mut self.gpu, host)
    }
    /// The names of the kernels, each once, and whether the host takes part.
    pub fn kernels(&self) -> Vec<String> {
        let mut names = Vec::new();
        for step in &self.steps {
            match step {
                Step::Device(Segment { work: Work::Cuda(batch), .. }) => names.extend(batch.names()),
                Step::Device(Segment { work: Work::Wgpu(batch), .. }) => names.extend(wgpu::names(batch.recorded())),
                Step::Device(Segment { work: Work::WgpuGram(gram), .. }) => {
                    names.extend(wgpu::names(gram.recorded()));
                    names.push("fold on the host".into());
                }
                _ => names.push("host".into()),
            }
        }
        let mut seen = std::collections::HashSet::new();
        names.retain(|name| seen.insert(name.clone()));
        names
    }
    /// The launches of a program that a wgpu device runs alone, for those that time them.
    pub fn recorded(&self) -> Option<&[Recorded]> {
        match &self.steps[..] {
            [Step::Device(Segment { work: Work::Wgpu(batch), .. })] => Some(batch.recorded()),
            _ => None,
        }
    }
    /// Brings the newest content of every buffer to the host.
    pub fn bring_home<T: Real>(&mut self, host: &mut Arena<T>) -> Result<()> {
        self.sides.bring_home(&mut self.gpu, host)
    }
}

/// Notes which operations of `program` run on the device and which on the host.
pub fn note(device: &Device, program: &Program<Launch>) {
    each_launch(&program.launches, &mut |l| match device {
        Device::Cpu(_) => {}
        Device::Cuda { gpus, placement, .. } => placement.note(l.name(), cuda::has_kernel(l, gpus.first(), program)),
        Device::Wgpu { wgpu, placement, .. } => placement.note(l.name(), wgpu::has_kernel(l, wgpu, program)),
    });
}

/// Whether a device has kernels for all operations of `program`; the CPU needs none.
pub fn has_kernels(device: &Device, program: &Program<Launch>) -> bool {
    let mut all = true;
    each_launch(&program.launches, &mut |l| {
        all &= match device {
            Device::Cpu(_) => true,
            Device::Cuda { gpus, .. } => cuda::has_kernel(l, gpus.first(), program),
            Device::Wgpu { wgpu, .. } => wgpu::has_kernel(l, wgpu, program),
        };
    });
    all
}

/// Bytes of its own memory that a device takes for one arena of `program`.
pub fn device_bytes(device: &Device, program: &Program<Launch>) -> u64 {
    match device {
        Device::Cpu(_) => 0,
        Device::Cuda { gpus, .. } => cuda_bytes(gpus.first(), program),
        Device::Wgpu { wgpu, .. } => wgpu::bytes(wgpu, program),
    }
}

/// Bytes of its own memory that a device takes, each of several GPUs, however many arenas there are, for the weights of
/// `program` that it does not hold yet. Not told on wgpu.
pub fn weight_bytes(device: &Device, program: &Program<Launch>) -> u64 {
    match device {
        Device::Cpu(_) | Device::Wgpu { .. } => 0,
        Device::Cuda { gpus, .. } => gpus.iter().map(|cuda| cuda::missing_weights(cuda, program)).max().unwrap_or(0),
    }
}

/// Bytes of host memory that a device takes beside each arena.
pub fn staging_bytes(device: &Device) -> u64 {
    match device {
        Device::Cpu(_) | Device::Wgpu { .. } => 0,
        Device::Cuda { .. } => Lane::HOST_BYTES,
    }
}

fn each_launch(launches: &[Launch], f: &mut impl FnMut(&Launch)) {
    for l in launches {
        match l {
            Launch::Repeat { launches, .. } => each_launch(launches, f),
            l => f(l),
        }
    }
}

impl Gpu {
    fn bind(&mut self, launches: &[Launch], dtype: DType) -> Result<Vec<Step>> {
        let mut steps: Vec<Step> = Vec::new();
        for l in launches {
            if let Launch::Repeat { count, index, launches } = l {
                let inner = self.bind(launches, dtype)?;
                steps.push(self.repeat(*count, *index, inner)?);
                continue;
            }
            let segment = match self {
                Gpu::Cuda(side) => side.bind(l)?,
                Gpu::Wgpu(side) => side.bind(l, dtype)?,
            };
            match (steps.last_mut(), segment) {
                (Some(Step::Device(before)), Some(segment)) => {
                    if let Some(apart) = before.join(segment) {
                        steps.push(Step::Device(apart));
                    }
                }
                (_, Some(segment)) => steps.push(Step::Device(segment)),
                (_, None) => steps.push(Step::Host(Box::new(l.clone()))),
            }
        }
        Ok(steps)
    }
    /// Counts on the device where all of the steps are there.
    fn repeat(&self, count: usize, index: IntBuffer, mut steps: Vec<Step>) -> Result<Step> {
        let counted = match (self, &mut steps[..]) {
            (Gpu::Cuda(side), [Step::Device(Segment { work: Work::Cuda(batch), .. })]) => side.count(index, batch)?,
            (Gpu::Wgpu(side), [Step::Device(Segment { work: Work::Wgpu(batch), .. })]) => side.count(index, batch)?,
            _ => false,
        };
        Ok(match steps.pop() {
            Some(Step::Device(segment)) if counted => Step::Loop { count, index, segment },
            last => Step::Repeat { count, index, steps: steps.into_iter().chain(last).collect() },
        })
    }
    /// Zeroes a slot on the device; `false` where it has no place there.
    fn zero(&mut self, slot: usize, bytes: usize) -> Result<bool> {
        match self {
            Gpu::Cuda(side) => side.zero(slot, bytes),
            Gpu::Wgpu(side) => side.zero(slot, bytes),
        }
    }
    /// Hands over what the device has not been given yet.
    fn flush(&mut self) -> Result<()> {
        match self {
            Gpu::Cuda(_) => Ok(()),
            Gpu::Wgpu(side) => side.flush(),
        }
    }
    fn upload(&mut self, slot: usize, bytes: &[u8]) -> Result<()> {
        match self {
            Gpu::Cuda(side) => side.upload(slot, bytes),
            Gpu::Wgpu(side) => side.upload(slot, bytes),
        }
    }
    fn download(&mut self, slot: usize, bytes: &mut [u8]) -> Result<()> {
        match self {
            Gpu::Cuda(side) => side.download(slot, bytes),
            Gpu::Wgpu(side) => side.download(slot, bytes),
        }
    }
}

impl Segment {
    fn new(operands: &Operands, work: Work) -> Self {
        let covers = |v: &View| v.is_contiguous() && v.rows * v.cols == v.buffer.len;
        let views = operands.reads.iter().chain(operands.writes.iter().filter(|v| !covers(v)));
        let needed = views.map(|v| v.buffer.slot()).chain(operands.int_reads.iter().map(|b| b.slot()));
        let mut needs = Vec::new();
        for slot in needed {
            if !needs.contains(&slot) {
                needs.push(slot);
            }
        }
        let writes = operands.writes.iter().map(|v| v.buffer.slot());
        Self { needs, writes: writes.chain(operands.int_writes.iter().map(|b| b.slot())).collect(), work }
    }
    /// Takes what `later` does behind its own work; gives it back where the two cannot be one.
    fn join(&mut self, mut later: Self) -> Option<Self> {
        let joined = match (&mut self.work, &mut later.work) {
            (Work::Cuda(a), Work::Cuda(b)) => a.append(b),
            (Work::Wgpu(a), Work::Wgpu(b)) => a.append(b),
            _ => false,
        };
        if !joined {
            return Some(later);
        }
        let new = later.needs.iter().filter(|slot| !self.writes.contains(slot) && !self.needs.contains(slot));
        let new: Vec<usize> = new.copied().collect();
        self.needs.extend(new);
        self.writes.extend(later.writes);
        None
    }
    /// Brings what the work needs to the device.
    fn prepare<T: Real>(&self, sides: &mut Sides, gpu: &mut Gpu, host: &mut Arena<T>) -> Result<()> {
        sides.note_host(host);
        for &slot in &self.needs {
            if std::mem::take(&mut sides.host_newer[slot]) {
                gpu.upload(slot, host.bytes(slot))?;
            }
        }
        Ok(())
    }
    /// Does the work, once prepared.
    fn work<T: Real>(&mut self, sides: &mut Sides, gpu: &mut Gpu, host: &mut Arena<T>) -> Result<()> {
        match (&mut self.work, gpu) {
            (Work::Cuda(batch), Gpu::Cuda(side)) => side.run(batch)?,
            (Work::Wgpu(batch), Gpu::Wgpu(side)) => side.run(batch)?,
            (Work::WgpuGram(gram), Gpu::Wgpu(side)) => return side.gram(gram, host),
            _ => unreachable!("a segment is run by the side that bound it"),
        }
        self.writes.iter().for_each(|slot| sides.note_device(*slot));
        Ok(())
    }
}

fn run_steps<T: Real>(steps: &mut [Step], sides: &mut Sides, gpu: &mut Gpu, host: &mut Arena<T>) -> Result<()> {
    for step in steps {
        match step {
            Step::Host(l) => {
                sides.bring_home(gpu, host)?;
                launch(l, host);
            }
            Step::Device(segment) => {
                segment.prepare(sides, gpu, host)?;
                segment.work(sides, gpu, host)?;
            }
            Step::Loop { count, index, segment } => {
                sides.note_host(host);
                gpu.zero(index.slot(), size_of::<u32>())?;
                sides.note_device(index.slot());
                segment.prepare(sides, gpu, host)?;
                (0..*count).try_for_each(|_| segment.work(sides, gpu, host))?;
            }
            Step::Repeat { count, index, steps } => {
                for i in 0..*count {
                    host.int_mut(*index)[0] = i as u32;
                    run_steps(steps, sides, gpu, host)?;
                }
            }
        }
    }
    Ok(())
}

impl Sides {
    /// Learns what the host has written.
    fn note_host<T: Real>(&mut self, host: &mut Arena<T>) {
        for (slot, written) in host.written().iter_mut().enumerate() {
            if std::mem::take(written) {
                self.host_newer[slot] = true;
                self.device_newer[slot] = false;
            }
        }
    }
    /// Notes that the device has written.
    fn note_device(&mut self, slot: usize) {
        self.host_newer[slot] = false;
        self.device_newer[slot] = true;
    }
    fn fetch<T: Real>(&mut self, slot: usize, gpu: &mut Gpu, host: &mut Arena<T>) -> Result<()> {
        if self.device_newer[slot] {
            gpu.download(slot, host.bytes_mut(slot))?;
            self.device_newer[slot] = false;
        }
        Ok(())
    }
    /// Copies to the host what is newer on the device: an operation there may read any buffer.
    fn bring_home<T: Real>(&mut self, gpu: &mut Gpu, host: &mut Arena<T>) -> Result<()> {
        self.note_host(host);
        (0..self.device_newer.len()).try_for_each(|slot| self.fetch(slot, gpu, host))
    }
}
