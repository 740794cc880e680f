//! The wgpu side of an offloaded program: a device buffer for each that kernels touch, launches
//! recorded once, and the submits of a run. Gram matrices come back as slabs that the host folds in f64 where the device
//! cannot fold them as pairs of f32.
//!
//! WGSL has no f64: of a program in f64 nothing runs here.

use std::sync::Arc;

use super::storage::Storage;
use super::{Segment, Work, each_launch};
use crate::device::wgpu::{self, Launch as Dispatch, Recorded, Wgpu, WgpuBuffer};
use crate::device::{Arena, DType, IntBuffer, Program, Real, Stored, Tensor, View};
use crate::error::Result;
use crate::kernel::wgsl::count::{self, COUNT, CountParams};
use crate::kernel::wgsl::{Limits, Transport, reduce};
use crate::kernel::{Configuration, Kernel, Params};
use crate::ops::gram_fold_wgpu;
use crate::ops::gram_wgpu::{self, GramPending};
use crate::ops::operands::Operands;
use crate::ops::{Launch, gram};

/// Bytes of each scratch buffer of a launch, in the order of [`WgpuPlace::scratch`]'s numbers. Launches share them.
pub(in crate::ops) type Scratch = Vec<u64>;

/// Steps that are handed to the device at a time: enough that a submit's own cost does not show, few enough that the
/// device begins early and no submit runs for seconds.
const SUBMITTED: usize = 256;

macro_rules! kernels {
    ($($name:ident => $file:ident, $fits:ident, $bind:ident;)*) => {
        /// Scratch memory of a launch in f32; `None` where there is no kernel for it.
        fn fits(l: &Launch, limits: &Limits) -> Option<Scratch> {
            match l {
                $(Launch::$name(a) => crate::ops::$file::$fits(a, limits),)*
                Launch::Gram(a) => gram_wgpu::fits(a).then(Scratch::new),
                _ => None,
            }
        }

        /// The steps of a launch for which there are kernels.
        fn recorded(l: &Launch, at: &WgpuPlace) -> Result<Vec<Recorded>> {
            match l {
                $(Launch::$name(a) => crate::ops::$file::$bind(a, at),)*
                _ => Ok(Vec::new()),
            }
        }
    };
}

kernels! {
    Activation => activation_wgpu, fits, bind;
    ActivationTangent => activation_wgpu, tangent_fits, tangent_bind;
    Attention => attention_wgpu, fits, bind;
    AttentionCotangent => attention_wgpu, cotangent_fits, cotangent_bind;
    AttentionEdges => attention_edges_wgpu, fits, bind;
    AttentionMoments => attention_moments_wgpu, fits, bind;
    AttentionTangent => attention_wgpu, tangent_fits, tangent_bind;
    Basis => probes_wgpu, basis_fits, basis_bind;
    Chunk => probes_wgpu, chunk_fits, chunk_bind;
    Copy => copy_wgpu, fits, bind;
    Cross => product_wgpu, cross_fits, cross_bind;
    EdgeCotangents => edge_sums_wgpu, cotangent_fits, cotangent_bind;
    EdgeRankOne => edge_squares_wgpu, rank_one_fits, rank_one_bind;
    EdgeSquares => edge_squares_wgpu, fits, bind;
    EdgeTangents => edge_sums_wgpu, tangent_fits, tangent_bind;
    Embed => embed_wgpu, fits, bind;
    Features => probes_wgpu, feature_fits, feature_bind;
    Fill => copy_wgpu, fill_fits, fill_bind;
    Gated => gated_wgpu, fits, bind;
    GatedTangent => gated_wgpu, tangent_fits, tangent_bind;
    Gather => gather_wgpu, fits, bind;
    GramAdd => product_wgpu, add_fits, add_bind;
    Linear => linear_wgpu, fits, bind;
    Loss => loss_wgpu, fits, bind;
    Mask => mask_wgpu, fits, bind;
    Moments => moments_wgpu, fits, bind;
    Norm => norm_wgpu, fits, bind;
    NormCotangent => norm_wgpu, cotangent_fits, slope_bind;
    NormMoments => norm_moments_wgpu, fits, bind;
    NormRows => norm_moments_wgpu, rows_fits, rows_bind;
    NormTangent => norm_wgpu, tangent_fits, slope_bind;
    Normalise => norm_wgpu, normalise_fits, half_bind;
    NormaliseCotangent => norm_wgpu, normalise_cotangent_fits, half_bind;
    NormaliseTangent => norm_wgpu, normalise_tangent_fits, half_bind;
    Peaks => peaks_wgpu, fits, bind;
    ProbeLoss => loss_wgpu, fits, bind;
    Probes => probes_wgpu, fits, bind;
    Readout => mask_wgpu, readout_fits, readout_bind;
    Rope => rope_wgpu, fits, bind;
    Scale => copy_wgpu, scale_fits, scale_bind;
    Scatter => gather_wgpu, scatter_fits, scatter_bind;
    Sdpa => attention_wgpu, sdpa_fits, sdpa_bind;
    SdpaCotangent => attention_wgpu, sdpa_cotangent_fits, sdpa_cotangent_bind;
    SdpaTangent => attention_wgpu, sdpa_tangent_fits, sdpa_tangent_bind;
    Softcap => activation_wgpu, softcap_fits, softcap_bind;
    TokenEmbed => embed_wgpu, token_fits, token_bind;
    TrieMatch => trie_match_wgpu, fits, bind;
    Variance => norm_wgpu, variance_fits, half_bind;
    VarianceCotangent => norm_wgpu, variance_cotangent_fits, half_bind;
    VarianceTangent => norm_wgpu, variance_tangent_fits, half_bind;
}

/// Where the operands of a launch lie on the device.
#[derive(Debug)]
pub(in crate::ops) struct WgpuPlace<'a>(&'a Side);

impl WgpuPlace<'_> {
    pub fn device(&self) -> &Wgpu {
        &self.0.device
    }
    pub fn limits(&self) -> Limits {
        self.0.device.kernel_limits()
    }
    /// A view as the device's own launchers take it.
    pub fn view(&self, v: &View) -> wgpu::View<'_> {
        let View { offset, rows, cols, stride, .. } = *v;
        wgpu::View { buffer: self.buffer(v.buffer.slot()), offset, rows, cols, stride, stored: Stored::F32 }
    }
    /// A buffer of u32.
    pub fn ints(&self, b: IntBuffer) -> &WgpuBuffer {
        self.buffer(b.slot())
    }
    fn buffer(&self, slot: usize) -> &WgpuBuffer {
        self.0.buffer(slot)
    }
    /// A weight, which is uploaded when it is first asked for.
    pub fn tensor(&self, tensor: &Tensor) -> Result<WgpuBuffer> {
        self.0.device.tensor(tensor)
    }
    /// A weight for a kernel that reads narrow ones, and what its elements are.
    pub fn weight(&self, tensor: &Tensor) -> Result<(WgpuBuffer, Stored)> {
        self.0.device.weight(tensor)
    }
    /// One of the launch's scratch buffers, at least as large as the launch said. What is in it at first is left from
    /// other launches.
    pub fn scratch(&self, number: usize) -> &WgpuBuffer {
        &self.0.scratch[number]
    }
    /// The buffer of what `bytes` gives, which stays as long as anybody holds its owner.
    pub fn shared<T: Send + Sync + 'static>(&self, owner: &Arc<T>, bytes: impl FnOnce() -> Vec<u8>) -> Result<WgpuBuffer> {
        self.0.device.shared(owner.clone(), bytes)
    }
    /// Puts a small table on the device for as long as something is recorded with it.
    pub fn constants(&self, bytes: &[u8]) -> Result<WgpuBuffer> {
        self.0.device.buffer_of(bytes)
    }
    /// What a launch binds, at first nothing.
    pub fn storage(&self) -> Storage<'_> {
        Storage::new(self)
    }
    /// Prepares a launch of `groups` workgroups, which the kernel numbers as `shaders/frag/unit.wgsl` does; by subgroups where
    /// the kernel can and the adapter has them.
    pub fn record(
        &self,
        kernel: &Kernel,
        configuration: &Configuration,
        storage: Storage,
        params: &impl Params,
        groups: u64,
    ) -> Result<Recorded> {
        let device = &self.0.device;
        let configuration = &reduce::of(configuration, &self.limits());
        let pipeline = device.pipeline(kernel, configuration)?;
        let bindings = storage.finish(kernel.name)?;
        device.record(&Dispatch {
            pipeline: &pipeline,
            params: &params.bytes(),
            transport: Transport::of(configuration),
            bindings: &bindings,
            grid: device.grid(groups)?,
        })
    }
}

/// Hands over the place of a program of which nothing is on the device, for tests of launchers over buffers of their own.
#[cfg(test)]
pub(in crate::ops) fn on_bare_place<R>(device: &Arc<Wgpu>, f: impl FnOnce(&WgpuPlace) -> R) -> R {
    let program = crate::device::Builder::<Launch>::new(DType::F32).finish();
    let side = Side::new(device, &program).unwrap_or_else(|e| panic!("{e}"));
    f(&WgpuPlace(&side))
}

#[derive(Debug)]
pub(super) struct Side {
    device: Arc<Wgpu>,
    /// By slot; `None` for a buffer that only the host uses.
    buffers: Vec<Option<WgpuBuffer>>,
    scratch: Vec<WgpuBuffer>,
    /// Steps that wait for the next submit.
    pending: Vec<Recorded>,
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

/// What `program` takes on a device.
struct Space {
    /// Whether kernels touch the buffer, by slot.
    used: Vec<bool>,
    scratch: Scratch,
}

fn space(device: &Wgpu, program: &Program<Launch>) -> Space {
    let mut all = Space { used: vec![false; program.layout.slots().len()], scratch: Scratch::new() };
    each_launch(&program.launches, &mut |l| {
        let Some(scratch) = scratch(l, device, program.dtype) else { return };
        let o = on_device(l, device);
        o.reads.iter().chain(&o.writes).for_each(|v| all.used[v.buffer.slot()] = true);
        o.int_reads.iter().chain(&o.int_writes).for_each(|b| all.used[b.slot()] = true);
        all.scratch.resize(all.scratch.len().max(scratch.len()), 0);
        all.scratch.iter_mut().zip(scratch).for_each(|(most, bytes)| *most = bytes.max(*most));
    });
    all
}

/// Scratch memory of a launch; `None` where there is no kernel for it.
fn scratch(l: &Launch, device: &Wgpu, dtype: DType) -> Option<Scratch> {
    if dtype == DType::F32 { fits(l, &device.kernel_limits()) } else { None }
}

/// What of a launch the device touches: where the host folds a Gram matrix it writes the results.
fn on_device(l: &Launch, device: &Wgpu) -> Operands {
    let all = l.operands();
    match l {
        Launch::Gram(a) if !gram_fold_wgpu::serves(a, device) => Operands { writes: Vec::new(), ..all },
        _ => all,
    }
}

/// Bytes of the buffers that kernels of `program` touch, and of its scratch buffers.
pub(super) fn bytes(device: &Wgpu, program: &Program<Launch>) -> u64 {
    let Space { used, scratch } = space(device, program);
    let slots = program.layout.slots().iter().zip(used).filter(|(_, used)| *used);
    slots.map(|(slot, _)| slot.bytes(program.dtype.bytes())).chain(scratch).fold(0, u64::saturating_add)
}

/// Whether there is a kernel for a launch of `program`.
pub(super) fn has_kernel(l: &Launch, device: &Wgpu, program: &Program<Launch>) -> bool {
    scratch(l, device, program.dtype).is_some()
}

impl Side {
    pub fn new(device: &Arc<Wgpu>, program: &Program<Launch>) -> Result<Self> {
        let Space { used, scratch } = space(device, program);
        let slots = program.layout.slots().iter().zip(used);
        let made = slots.map(|(slot, used)| used.then(|| device.buffer(slot.bytes(program.dtype.bytes()))).transpose());
        let buffers = made.collect::<Result<_>>()?;
        let scratch = scratch.into_iter().map(|bytes| device.buffer(bytes)).collect::<Result<_>>()?;
        Ok(Self { device: Arc::clone(device), buffers, scratch, pending: Vec::new() })
    }
    fn buffer(&self, slot: usize) -> &WgpuBuffer {
        self.buffers[slot].as_ref().unwrap_or_else(|| panic!("buffer {slot} has no place on the device"))
    }
    /// Resolves a launch of a program in `dtype`; `None` where there is no kernel for it.
    pub fn bind(&mut self, l: &Launch, dtype: DType) -> Result<Option<Segment>> {
        if scratch(l, &self.device, dtype).is_none() {
            return Ok(None);
        }
        let place = WgpuPlace(self);
        let work = match l {
            Launch::Gram(a) if gram_fold_wgpu::serves(a, &self.device) => Work::Wgpu(Batch(gram_fold_wgpu::bind(a, &place)?)),
            Launch::Gram(a) => {
                let pending = gram_wgpu::gram(&self.device, place.view(&a.x))?;
                Work::WgpuGram(Box::new(Gram { args: a.clone(), pending }))
            }
            l => Work::Wgpu(Batch(recorded(l, &place)?)),
        };
        Ok(Some(Segment::new(&on_device(l, &self.device), work)))
    }
    /// Adds the counting of `index` to launches that are to be repeated; `false` where it is not on the device.
    pub fn count(&self, index: IntBuffer, batch: &mut Batch) -> Result<bool> {
        if self.buffers[index.slot()].is_none() {
            return Ok(false);
        }
        let place = WgpuPlace(self);
        let mut storage = place.storage();
        let params = CountParams { number: storage.write_ints(index)? };
        batch.0.push(place.record(&COUNT, &count::configuration(), storage, &params, 1)?);
        Ok(true)
    }
    pub fn upload(&mut self, slot: usize, bytes: &[u8]) -> Result<()> {
        // An upload comes before whatever is not submitted yet.
        self.flush()?;
        self.device.upload(self.buffer(slot), 0, bytes)
    }
    pub fn download(&mut self, slot: usize, bytes: &mut [u8]) -> Result<()> {
        self.flush()?;
        bytes.copy_from_slice(&self.device.download(self.buffer(slot), 0..bytes.len() as u64)?);
        Ok(())
    }
    /// Zeroes a slot; `false` where it has no place here.
    pub fn zero(&mut self, slot: usize, bytes: usize) -> Result<bool> {
        let Some(buffer) = &self.buffers[slot] else { return Ok(false) };
        if bytes > 0 {
            let clear = Recorded::clear(buffer, 0..bytes as u64);
            self.issue(&[clear])?;
        }
        Ok(true)
    }
    pub fn run(&mut self, batch: &Batch) -> Result<()> {
        self.issue(&batch.0)
    }
    fn issue(&mut self, recorded: &[Recorded]) -> Result<()> {
        self.pending.extend_from_slice(recorded);
        if self.pending.len() >= SUBMITTED { self.flush() } else { Ok(()) }
    }
    /// Hands over what waits.
    pub fn flush(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let submitted = self.device.submit(&self.pending);
        self.pending.clear();
        submitted
    }
    /// Runs a Gram matrix and leaves its results on the host.
    pub fn gram<T: Real>(&mut self, gram: &Gram, host: &mut Arena<T>) -> Result<()> {
        self.issue(gram.pending.recorded())?;
        self.flush()?;
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
