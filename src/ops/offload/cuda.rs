//! The CUDA side of an offloaded program: one allocation for the buffers that kernels touch, and
//! batches of launches that are captured as graphs.

use super::{Bound, Segment, Work, each_launch};
use crate::device::cuda::{Call, Cuda, CudaArena, Lane, Replay, Space};
use crate::device::{Program, View};
use crate::error::Result;
use crate::ops::{Launch, gram_cuda, linear_cuda};

#[derive(Debug)]
pub(super) struct Side {
    lane: Lane,
    arena: CudaArena,
    /// Whether a buffer was zeroed and nothing but the lower triangle of a Gram matrix written since.
    is_zero: Vec<bool>,
}

/// Launches of a segment.
#[derive(Debug, Default)]
pub(super) struct Batch {
    calls: Vec<Call>,
    /// What the calls write, by slot.
    writes: Vec<usize>,
    /// Of that, the matrices that are zero where no call touches them.
    zeroed: Vec<View>,
    /// The captured launches, from the second run on.
    replay: Option<Replay>,
    warm: bool,
}

impl Batch {
    fn new(bound: &mut Bound<Call>) -> Self {
        let writes = bound.writes.iter().map(|v| v.buffer.slot()).collect();
        let (calls, zeroed) = (std::mem::take(&mut bound.calls), std::mem::take(&mut bound.zeroed));
        Self { calls, writes, zeroed, ..Self::default() }
    }
    fn zeroes(&self, slot: usize) -> bool {
        self.zeroed.iter().any(|v| v.buffer.slot() == slot)
    }
    /// Takes the calls of `later` behind its own, unless one side needs zeros where the other writes.
    pub fn append(&mut self, later: &mut Self) -> bool {
        let differ = |slot: &usize| self.writes.contains(slot) && self.zeroes(*slot) != later.zeroes(*slot);
        if later.writes.iter().any(differ) {
            return false;
        }
        self.calls.append(&mut later.calls);
        self.writes.append(&mut later.writes);
        self.zeroed.append(&mut later.zeroed);
        true
    }
}

/// The launches of a program without the host beside them, in memory of their own, for those that
/// time them; `None` where an operation has no kernel.
pub fn cuda_calls(cuda: &Cuda, program: &Program<Launch>) -> Result<Option<(CudaArena, Vec<Call>)>> {
    let arena = CudaArena::new(cuda, space(cuda, program), program.dtype)?;
    let (mut lane, mut calls) = (Lane::new(cuda)?, Vec::new());
    for l in &program.launches {
        match bind(l, &arena, &mut lane)? {
            Some(bound) => calls.extend(bound.calls),
            None => return Ok(None),
        }
    }
    Ok(Some((arena, calls)))
}

/// Bytes of the memory that [`cuda_calls`] allocates.
pub fn cuda_bytes(cuda: &Cuda, program: &Program<Launch>) -> u64 {
    space(cuda, program).bytes
}

/// Resolves a launch, its weights uploaded through `lane`; `None` where there is no kernel for it.
fn bind(l: &Launch, arena: &CudaArena, lane: &mut Lane) -> Result<Option<Bound<Call>>> {
    match l {
        Launch::Linear(a) => linear_cuda::bind(a, arena, lane),
        Launch::Gram(a) => gram_cuda::bind(a, arena),
        Launch::GramAdd(a) => gram_cuda::add_bind(a, arena),
        _ => Ok(None),
    }
}

/// Whether there is a kernel for a launch of `program`.
pub(super) fn has_kernel(l: &Launch, cuda: &Cuda, program: &Program<Launch>) -> bool {
    footprint(l, cuda, program).is_some()
}

/// Bytes of the weights that kernels of `program` read and that are not on the device yet.
pub(super) fn missing_weights(cuda: &Cuda, program: &Program<Launch>) -> u64 {
    let mut weights = Vec::new();
    each_launch(&program.launches, &mut |l| {
        if let (Launch::Linear(a), true) = (l, has_kernel(l, cuda, program)) {
            weights.extend([Some(&a.w), a.bias.as_ref()].into_iter().flatten().map(|matrix| matrix.tensor.clone()));
        }
    });
    cuda.missing_bytes(weights.iter())
}

/// What `program` takes: the buffers that kernels touch, and the most scratch memory that one of its
/// launches takes.
pub(super) fn space(cuda: &Cuda, program: &Program<Launch>) -> Space {
    let mut used = vec![false; program.layout.lens().len()];
    let mut scratch = 0;
    each_launch(&program.launches, &mut |l| {
        if let Some((views, bytes)) = footprint(l, cuda, program) {
            views.iter().for_each(|v| used[v.buffer.slot()] = true);
            scratch = scratch.max(bytes);
        }
    });
    Space::new(&program.layout, program.dtype, &used, scratch)
}

/// The views and the scratch bytes of a launch for which there are kernels; `None` for others.
fn footprint(l: &Launch, cuda: &Cuda, program: &Program<Launch>) -> Option<(Vec<View>, u64)> {
    match l {
        Launch::Linear(a) => a.kernel_views(program.dtype).map(|views| (views, 0)),
        Launch::Gram(a) => gram_cuda::footprint(a, &cuda.limits(), program.dtype),
        Launch::GramAdd(a) => gram_cuda::add_footprint(a, &cuda.limits(), program.dtype),
        _ => None,
    }
}

impl Side {
    pub fn new(cuda: &Cuda, program: &Program<Launch>) -> Result<Self> {
        let arena = CudaArena::new(cuda, space(cuda, program), program.dtype)?;
        Ok(Self { lane: Lane::new(cuda)?, arena, is_zero: vec![false; program.layout.lens().len()] })
    }
    /// Resolves a launch; `None` where there is no kernel for it.
    pub fn bind(&mut self, l: &Launch) -> Result<Option<Segment>> {
        let Some(mut bound) = bind(l, &self.arena, &mut self.lane)? else { return Ok(None) };
        let batch = Batch::new(&mut bound);
        Ok(Some(Segment::new(bound, |_| Work::Cuda(batch))))
    }
    pub fn upload(&mut self, slot: usize, bytes: &[u8]) -> Result<()> {
        self.is_zero[slot] = false;
        self.lane.upload(self.arena.slot(slot), bytes)
    }
    pub fn download(&mut self, slot: usize, bytes: &mut [u8]) -> Result<()> {
        self.lane.download(self.arena.slot(slot), bytes)
    }
    /// Launches; captures what was launched once and replays it from then on.
    pub fn run(&mut self, batch: &mut Batch) -> Result<()> {
        for v in &batch.zeroed {
            if !std::mem::replace(&mut self.is_zero[v.buffer.slot()], true) {
                self.lane.fill(self.arena.view(v), 0, v.rows * v.cols * self.arena.dtype().bytes())?;
            }
        }
        for slot in &batch.writes {
            self.is_zero[*slot] &= batch.zeroes(*slot);
        }
        if batch.warm && batch.replay.is_none() {
            batch.replay = Some(self.lane.capture(&batch.calls)?);
        }
        batch.warm = true;
        match &batch.replay {
            Some(replay) => self.lane.replay(replay),
            None => self.lane.issue(&batch.calls),
        }
    }
}
