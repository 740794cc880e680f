//! The CUDA side of an offloaded program: one allocation for the buffers that kernels touch, and
//! batches of launches that are captured as graphs.

use std::sync::Arc;

use super::{Segment, Work, each_launch};
use crate::device::cuda::{Call, Cuda, CudaArena, Held, Lane, Replay, Space};
use crate::device::{DType, IntBuffer, Program, Tensor, View};
use crate::error::Result;
use crate::kernel::count::{self, COUNT, CountParams};
use crate::kernel::tuning::Limits;
use crate::kernel::{Configuration, Kernel, Params};
use crate::ops::Launch;
use crate::ops::linear::Matrix;

macro_rules! kernels {
    ($($name:ident => $file:ident, $scratch:ident, $bind:ident;)*) => {
        /// Bytes of scratch memory of a launch; `None` where there is no kernel for it.
        fn scratch(l: &Launch, dtype: DType, limits: &Limits) -> Option<u64> {
            match l {
                $(Launch::$name(a) => crate::ops::$file::$scratch(a, dtype, limits),)*
                _ => None,
            }
        }

        /// The calls of a launch for which there are kernels.
        fn calls(l: &Launch, at: &mut Place) -> Result<Vec<Call>> {
            match l {
                $(Launch::$name(a) => crate::ops::$file::$bind(a, at),)*
                _ => Ok(Vec::new()),
            }
        }
    };
}

kernels! {
    Activation => activation_cuda, scratch, bind;
    ActivationTangent => activation_cuda, tangent_scratch, tangent_bind;
    Attention => attention_cuda, scratch, bind;
    AttentionCotangent => attention_cuda, cotangent_scratch, cotangent_bind;
    AttentionEdges => attention_edges_cuda, scratch, bind;
    AttentionMoments => attention_moments_cuda, scratch, bind;
    AttentionTangent => attention_cuda, tangent_scratch, tangent_bind;
    Basis => probes_cuda, basis_scratch, basis_bind;
    Chunk => probes_cuda, chunk_scratch, chunk_bind;
    Copy => copy_cuda, scratch, bind;
    Cross => product_cuda, cross_scratch, cross_bind;
    EdgeCotangents => edge_sums_cuda, cotangent_scratch, cotangent_bind;
    EdgeRankOne => edge_squares_cuda, rank_one_scratch, rank_one_bind;
    EdgeSquares => edge_squares_cuda, scratch, bind;
    EdgeTangents => edge_sums_cuda, tangent_scratch, tangent_bind;
    Embed => embed_cuda, scratch, bind;
    Features => probes_cuda, feature_scratch, feature_bind;
    Fill => copy_cuda, fill_scratch, fill_bind;
    Gated => gated_cuda, scratch, bind;
    GatedTangent => gated_cuda, tangent_scratch, tangent_bind;
    Gather => gather_cuda, scratch, bind;
    Gram => gram_cuda, scratch, bind;
    GramAdd => gram_cuda, add_scratch, add_bind;
    Linear => linear_cuda, scratch, bind;
    Loss => loss_cuda, scratch, bind;
    Mask => mask_cuda, scratch, bind;
    Moments => moments_cuda, scratch, bind;
    Norm => norm_cuda, scratch, bind;
    NormCotangent => norm_cuda, cotangent_scratch, slope_bind;
    NormMoments => norm_moments_cuda, scratch, bind;
    NormRows => norm_moments_cuda, rows_scratch, rows_bind;
    NormTangent => norm_cuda, tangent_scratch, slope_bind;
    Normalise => norm_cuda, normalise_scratch, half_bind;
    NormaliseCotangent => norm_cuda, normalise_cotangent_scratch, half_bind;
    NormaliseTangent => norm_cuda, normalise_tangent_scratch, half_bind;
    Peaks => peaks_cuda, scratch, bind;
    ProbeLoss => loss_cuda, probe_scratch, bind;
    Probes => probes_cuda, scratch, bind;
    Readout => mask_cuda, readout_scratch, readout_bind;
    Rope => rope_cuda, scratch, bind;
    Scale => copy_cuda, scale_scratch, scale_bind;
    Scatter => gather_cuda, scatter_scratch, scatter_bind;
    Sdpa => attention_cuda, sdpa_scratch, sdpa_bind;
    SdpaCotangent => attention_cuda, sdpa_cotangent_scratch, sdpa_cotangent_bind;
    SdpaTangent => attention_cuda, sdpa_tangent_scratch, sdpa_tangent_bind;
    Softcap => activation_cuda, softcap_scratch, softcap_bind;
    TokenEmbed => embed_cuda, token_scratch, token_bind;
    TrieMatch => trie_match_cuda, scratch, bind;
    Variance => norm_cuda, variance_scratch, half_bind;
    VarianceCotangent => norm_cuda, variance_cotangent_scratch, half_bind;
    VarianceTangent => norm_cuda, variance_tangent_scratch, half_bind;
}

/// Where the operands of a launch lie on the device.
pub(in crate::ops) struct Place<'a> {
    arena: &'a mut CudaArena,
    lane: &'a mut Lane,
    /// What the launch reads of the host's, so that it stays on the device.
    held: Vec<Held>,
}

impl Place<'_> {
    pub fn dtype(&self) -> DType {
        self.arena.dtype()
    }
    pub fn limits(&self) -> Limits {
        self.arena.cuda().limits()
    }
    /// The address of a view's first element.
    pub fn view(&self, v: &View) -> u64 {
        self.arena.view(v)
    }
    /// The address of a buffer of u32.
    pub fn ints(&self, b: IntBuffer) -> u64 {
        self.arena.ints(b)
    }
    /// The address of a weight, which is uploaded when it is first asked for.
    pub fn tensor(&mut self, tensor: &Tensor) -> Result<u64> {
        self.held.push(Held::Tensor(tensor.clone()));
        self.arena.cuda().clone().tensor(tensor, self.lane)
    }
    /// The address of the first element of a block of a weight.
    pub fn matrix(&mut self, m: &Matrix) -> Result<u64> {
        let offset = (m.row * m.tensor.cols + m.col) * self.dtype().bytes();
        Ok(self.tensor(&m.tensor)? + offset as u64)
    }
    /// The address of the launch's scratch memory, a multiple of 256.
    pub fn scratch(&self) -> u64 {
        self.arena.scratch()
    }
    /// The address of what `bytes` gives, put on the device when it is first asked for and kept there as long as somebody
    /// else holds `owner`.
    pub fn shared<T: Send + Sync + 'static>(&mut self, owner: &Arc<T>, bytes: impl FnOnce() -> Vec<u8>) -> Result<u64> {
        self.held.push(Held::Other(owner.clone()));
        self.arena.cuda().clone().shared(owner.clone(), bytes, self.lane)
    }
    /// Puts a small table on the device for as long as the program is bound to it, and gives its address.
    pub fn constants(&mut self, bytes: &[u8]) -> Result<u64> {
        self.arena.table(bytes, self.lane)
    }
    /// Resolves a launch of `kernel` with its parameter block.
    pub fn call(&self, kernel: &Kernel, configuration: &Configuration, grid: [u32; 3], params: &impl Params) -> Result<Call> {
        self.arena.cuda().call(kernel, configuration, grid, params)
    }
}

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
    /// Takes the calls of `later` behind its own.
    pub fn append(&mut self, later: &mut Self) -> bool {
        self.calls.append(&mut later.calls);
        true
    }
    /// The kernels of the calls, in order.
    pub fn names(&self) -> impl Iterator<Item = String> + '_ {
        self.calls.iter().map(|call| call.kernel.to_string())
    }
}

/// The launches of a program without the host beside them, in memory of their own, for those that
/// time them; `None` where an operation has no kernel.
pub fn cuda_calls(cuda: &Cuda, program: &Program<Launch>) -> Result<Option<(CudaArena, Vec<Call>)>> {
    let mut arena = CudaArena::new(cuda, space(cuda, program), program.dtype)?;
    let (mut lane, mut calls) = (Lane::new(cuda)?, Vec::new());
    for l in &program.launches {
        match bind(l, &mut arena, &mut lane)? {
            Some(bound) => calls.extend(bound),
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
fn bind(l: &Launch, arena: &mut CudaArena, lane: &mut Lane) -> Result<Option<Vec<Call>>> {
    if scratch(l, arena.dtype(), &arena.cuda().limits()).is_none() {
        return Ok(None);
    }
    let mut place = Place { arena, lane, held: Vec::new() };
    let mut calls = calls(l, &mut place)?;
    if let Some(first) = calls.first_mut() {
        first.held = place.held;
    }
    Ok(Some(calls))
}

/// Whether there is a kernel for a launch of `program`.
pub(super) fn has_kernel(l: &Launch, cuda: &Cuda, program: &Program<Launch>) -> bool {
    scratch(l, program.dtype, &cuda.limits()).is_some()
}

/// Bytes of the weights that kernels of `program` read and that are not on the device yet.
pub(super) fn missing_weights(cuda: &Cuda, program: &Program<Launch>) -> u64 {
    let mut weights = Vec::new();
    each_launch(&program.launches, &mut |l| {
        if has_kernel(l, cuda, program) {
            weights.extend(l.operands().tensors);
        }
    });
    cuda.missing_bytes(weights.iter())
}

/// What `program` takes: the buffers that kernels touch, and the most scratch memory that one of its
/// launches takes.
pub(super) fn space(cuda: &Cuda, program: &Program<Launch>) -> Space {
    let mut used = vec![false; program.layout.slots().len()];
    let mut most = 0;
    each_launch(&program.launches, &mut |l| {
        if let Some(bytes) = scratch(l, program.dtype, &cuda.limits()) {
            let o = l.operands();
            o.reads.iter().chain(&o.writes).for_each(|v| used[v.buffer.slot()] = true);
            o.int_reads.iter().chain(&o.int_writes).for_each(|b| used[b.slot()] = true);
            most = most.max(bytes);
        }
    });
    Space::new(&program.layout, program.dtype, &used, most)
}

impl Side {
    pub fn new(cuda: &Cuda, program: &Program<Launch>) -> Result<Self> {
        let arena = CudaArena::new(cuda, space(cuda, program), program.dtype)?;
        Ok(Self { lane: Lane::new(cuda)?, arena })
    }
    /// Resolves a launch; `None` where there is no kernel for it.
    pub fn bind(&mut self, l: &Launch) -> Result<Option<Segment>> {
        let calls = bind(l, &mut self.arena, &mut self.lane)?;
        Ok(calls.map(|calls| Segment::new(&l.operands(), Work::Cuda(Batch { calls, ..Batch::default() }))))
    }
    /// Adds the counting of `index` to launches that are to be repeated; `false` where it is not on the device.
    pub fn count(&self, index: IntBuffer, batch: &mut Batch) -> Result<bool> {
        if !self.arena.has(index.slot()) {
            return Ok(false);
        }
        let params = CountParams { number: self.arena.ints(index) };
        batch.calls.push(self.arena.cuda().call(&COUNT, &count::configuration(), [1, 1, 1], &params)?);
        Ok(true)
    }
    pub fn upload(&mut self, slot: usize, bytes: &[u8]) -> Result<()> {
        self.lane.upload(self.arena.slot(slot), bytes)
    }
    pub fn download(&mut self, slot: usize, bytes: &mut [u8]) -> Result<()> {
        self.lane.download(self.arena.slot(slot), bytes)
    }
    /// Zeroes a slot; `false` where it has no place here.
    pub fn zero(&mut self, slot: usize, bytes: usize) -> Result<bool> {
        let here = self.arena.has(slot);
        if here {
            self.lane.fill(self.arena.slot(slot), 0, bytes)?;
        }
        Ok(here)
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
