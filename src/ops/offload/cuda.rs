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
}

/// Launches of a segment.
#[derive(Debug, Default)]
pub(super) struct Batch {
    calls: Vec<Call>,
    /// The captured launches, from the second run on.
    replay: Option<Replay>,
    warm: bool,
}

impl Batch {
    pub fn append(&mut self, later: &mut Self) {
        self.calls.append(&mut later.calls);
    }
}

/// The launches of a program without the host beside them, in memory of their own, for those that
/// time them; `None` where an operation has no kernel.
pub fn cuda_calls(cuda: &Cuda, program: &Program<Launch>) -> Result<Option<(CudaArena, Vec<Call>)>> {
    let arena = CudaArena::new(cuda, space(cuda, program), program.dtype)?;
    let mut calls = Vec::new();
    for l in &program.launches {
        match bind(l, &arena)? {
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

/// Resolves a launch; `None` where there is no kernel for it.
fn bind(l: &Launch, arena: &CudaArena) -> Result<Option<Bound<Call>>> {
    match l {
        Launch::Linear(a) => linear_cuda::bind(a, arena),
        Launch::Gram(a) => gram_cuda::bind(a, arena),
        Launch::GramAdd(a) => gram_cuda::add_bind(a, arena),
        _ => Ok(None),
    }
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
        Launch::Linear(a) => linear_cuda::footprint(a, program.dtype).map(|views| (views, 0)),
        Launch::Gram(a) => gram_cuda::footprint(a, cuda, program.dtype),
        Launch::GramAdd(a) => gram_cuda::add_footprint(a, cuda, program.dtype),
        _ => None,
    }
}

impl Side {
    pub fn new(cuda: &Cuda, program: &Program<Launch>) -> Result<Self> {
        let arena = CudaArena::new(cuda, space(cuda, program), program.dtype)?;
        Ok(Self { lane: Lane::new(cuda)?, arena })
    }
    /// Resolves a launch; `None` where there is no kernel for it.
    pub fn bind(&mut self, l: &Launch) -> Result<Option<Segment>> {
        let Some(bound) = bind(l, &self.arena)? else { return Ok(None) };
        for v in &bound.zeroed {
            self.lane.fill(self.arena.view(v), 0, v.rows * v.cols * self.arena.dtype().bytes())?;
        }
        Ok(Some(Segment::new(bound, |calls| Work::Cuda(Batch { calls, ..Batch::default() }))))
    }
    pub fn upload(&mut self, slot: usize, bytes: &[u8]) -> Result<()> {
        self.lane.upload(self.arena.slot(slot), bytes)
    }
    pub fn download(&mut self, slot: usize, bytes: &mut [u8]) -> Result<()> {
        self.lane.download(self.arena.slot(slot), bytes)
    }
    /// Launches; captures what was launched once and replays it from then on.
    pub fn run(&mut self, batch: &mut Batch) -> Result<()> {
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
