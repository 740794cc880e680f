//! Programs on a device that has kernels for some of the operations: those run there, the rest on the
//! host, and each buffer is copied across when the side that needs it lacks its newest content.

use crate::device::cuda::{Call, Cuda, CudaArena, Lane, Replay, Space};
use crate::device::{Arena, Buffer, DType, Device, IntBuffer, Program, Real, View};
use crate::error::Result;

use super::{Launch, gram_cuda, launch, linear_cuda};

/// What a launch becomes on a device: its calls, the views they read and those they write.
#[derive(Debug)]
pub(super) struct Bound<C> {
    pub calls: Vec<C>,
    pub reads: Vec<View>,
    pub writes: Vec<View>,
}

/// A program bound to a device beside its arena on the host.
#[derive(Debug)]
pub struct Mirror {
    steps: Vec<Step>,
    sides: Sides,
    gpu: Gpu,
}

#[derive(Debug)]
enum Gpu {
    Cuda { lane: Lane, arena: CudaArena },
}

#[derive(Debug)]
enum Step {
    Host(Launch),
    Device(Segment),
    Repeat { count: usize, index: IntBuffer, steps: Vec<Step> },
}

/// Launches that follow each other on the device.
#[derive(Debug)]
struct Segment {
    /// Buffers that must be there before: those read, and those written in part.
    needs: Vec<Buffer>,
    writes: Vec<Buffer>,
    calls: Vec<Call>,
    /// The captured launches, from the second run on.
    replay: Option<Replay>,
    warm: bool,
}

/// Where the newest content of each buffer is, by slot; on both sides where neither flag is set.
#[derive(Debug)]
struct Sides {
    host_newer: Vec<bool>,
    device_newer: Vec<bool>,
}

impl Mirror {
    /// Binds `program` to `device` and notes which operations run where. `None` on the CPU.
    pub fn new(device: &Device, program: &Program<Launch>) -> Result<Option<Self>> {
        let Device::Cuda { cuda, placement, .. } = device else { return Ok(None) };
        let slots = program.layout.lens().len();
        let space = cuda_space(cuda, program);
        let (lane, arena) = (Lane::new(cuda)?, CudaArena::new(cuda, space, program.dtype)?);
        let mut note = |l: &Launch, on_device| placement.note(l.name(), on_device);
        let steps = bind(&program.launches, &arena, &mut note)?;
        let sides = Sides { host_newer: vec![true; slots], device_newer: vec![false; slots] };
        Ok(Some(Self { steps, sides, gpu: Gpu::Cuda { lane, arena } }))
    }
    /// Runs the program: as [`super::run_cpu`], with the operations that the device has kernels for
    /// done there. Afterwards the host's arena holds every result.
    pub fn run<T: Real>(&mut self, program: &Program<Launch>, host: &mut Arena<T>) -> Result<()> {
        for b in &program.zeroed {
            host.real_mut(*b).fill(T::ZERO);
        }
        let Self { steps, sides, gpu } = self;
        run_steps(steps, sides, gpu, host)?;
        sides.bring_home(gpu, host)
    }
}

/// Bytes of the memory that [`cuda_calls`] allocates.
pub fn cuda_bytes(cuda: &Cuda, program: &Program<Launch>) -> u64 {
    cuda_space(cuda, program).bytes
}

/// Bytes that [`Mirror::new`] takes on `device` for one arena of `program`.
pub fn device_bytes(device: &Device, program: &Program<Launch>) -> u64 {
    match device {
        Device::Cpu(_) => 0,
        Device::Cuda { cuda, .. } => cuda_bytes(cuda, program),
    }
}

/// The launches of a program without the host beside them, in memory of their own, for those that
/// time them; `None` where an operation has no kernel.
pub fn cuda_calls(cuda: &Cuda, program: &Program<Launch>) -> Result<Option<(CudaArena, Vec<Call>)>> {
    if program.launches.iter().any(|l| cuda_footprint(l, cuda, program.dtype).is_none()) {
        return Ok(None);
    }
    let arena = CudaArena::new(cuda, cuda_space(cuda, program), program.dtype)?;
    let mut calls = Vec::new();
    for l in &program.launches {
        calls.extend(cuda_bind(l, &arena)?.calls);
    }
    Ok(Some((arena, calls)))
}

/// The buffers that kernels touch, and the most scratch memory that one of them takes.
fn cuda_space(cuda: &Cuda, program: &Program<Launch>) -> Space {
    let mut used = vec![false; program.layout.lens().len()];
    let mut scratch = 0;
    each_launch(&program.launches, &mut |l| {
        if let Some((views, bytes)) = cuda_footprint(l, cuda, program.dtype) {
            views.iter().for_each(|v| used[v.buffer.slot()] = true);
            scratch = scratch.max(bytes);
        }
    });
    Space::new(&program.layout, program.dtype, &used, scratch)
}

fn each_launch(launches: &[Launch], f: &mut impl FnMut(&Launch)) {
    for l in launches {
        match l {
            Launch::Repeat { launches, .. } => each_launch(launches, f),
            l => f(l),
        }
    }
}

/// The views and the scratch bytes of a launch for which there are CUDA kernels; `None` for others.
fn cuda_footprint(l: &Launch, cuda: &Cuda, dtype: DType) -> Option<(Vec<View>, u64)> {
    match l {
        Launch::Linear(a) => linear_cuda::footprint(a, dtype).map(|views| (views, 0)),
        Launch::Gram(a) => gram_cuda::footprint(a, cuda, dtype),
        Launch::GramAdd(a) => gram_cuda::add_footprint(a, cuda, dtype),
        _ => None,
    }
}

fn cuda_bind(l: &Launch, m: &CudaArena) -> Result<Bound<Call>> {
    match l {
        Launch::Linear(a) => linear_cuda::bind(a, m),
        Launch::Gram(a) => gram_cuda::bind(a, m),
        Launch::GramAdd(a) => gram_cuda::add_bind(a, m),
        _ => unreachable!("a launch without a footprint stays on the host"),
    }
}

fn bind(launches: &[Launch], m: &CudaArena, note: &mut impl FnMut(&Launch, bool)) -> Result<Vec<Step>> {
    let mut steps: Vec<Step> = Vec::new();
    for l in launches {
        if let Launch::Repeat { count, index, launches } = l {
            steps.push(Step::Repeat { count: *count, index: *index, steps: bind(launches, m, note)? });
            continue;
        }
        let on_device = cuda_footprint(l, m.cuda(), m.dtype()).is_some();
        note(l, on_device);
        if !on_device {
            steps.push(Step::Host(l.clone()));
            continue;
        }
        let bound = cuda_bind(l, m)?;
        match steps.last_mut() {
            Some(Step::Device(segment)) => segment.append(bound),
            _ => {
                let mut segment = Segment { needs: vec![], writes: vec![], calls: vec![], replay: None, warm: false };
                segment.append(bound);
                steps.push(Step::Device(segment));
            }
        }
    }
    Ok(steps)
}

impl Segment {
    fn append(&mut self, bound: Bound<Call>) {
        let covers = |v: &View| v.is_contiguous() && v.rows * v.cols == v.buffer.len;
        let partial = bound.writes.iter().filter(|v| !covers(v));
        for v in bound.reads.iter().chain(partial) {
            if !self.writes.contains(&v.buffer) && !self.needs.contains(&v.buffer) {
                self.needs.push(v.buffer);
            }
        }
        self.writes.extend(bound.writes.iter().map(|v| v.buffer));
        self.calls.extend(bound.calls);
    }
    /// Launches; captures what was launched once and replays it from then on.
    fn run(&mut self, lane: &mut Lane) -> Result<()> {
        if self.warm && self.replay.is_none() {
            self.replay = Some(lane.capture(&self.calls)?);
        }
        self.warm = true;
        match &self.replay {
            Some(replay) => lane.replay(replay),
            None => lane.issue(&self.calls),
        }
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
                sides.note_host(host);
                let Gpu::Cuda { lane, arena } = gpu;
                for b in &segment.needs {
                    if std::mem::take(&mut sides.host_newer[b.slot()]) {
                        lane.upload(arena.buffer(*b), bytemuck::cast_slice(host.real(*b)))?;
                    }
                }
                segment.run(lane)?;
                for b in &segment.writes {
                    sides.host_newer[b.slot()] = false;
                    sides.device_newer[b.slot()] = true;
                }
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
    /// Copies to the host what is newer on the device: an operation there may read any buffer.
    fn bring_home<T: Real>(&mut self, gpu: &mut Gpu, host: &mut Arena<T>) -> Result<()> {
        self.note_host(host);
        let Gpu::Cuda { lane, arena } = gpu;
        for (slot, newer) in self.device_newer.iter_mut().enumerate() {
            if std::mem::take(newer) {
                lane.download(arena.slot(slot), bytemuck::cast_slice_mut(&mut host.slots()[slot]))?;
            }
        }
        Ok(())
    }
}
