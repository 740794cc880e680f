//! One pass over a data set: a program per block, its accumulators folded into f64 sums along the
//! canonical tree.

use std::ops::Range;
use std::sync::Mutex;

use rayon::prelude::*;

use crate::data::DataSet;
use crate::data::arena::AnyArena;
use crate::data::blocks::{BLOCK_TOKENS, Blocks, PACKED_BLOCK_TOKENS};
use crate::data::checkpoint::Checkpoints;
use crate::data::tree::{Join, Tree};
use crate::device::{DType, Device, IntBuffer, Program, View};
use crate::error::{Error, Result};
use crate::model::forward::Batch;
use crate::model::lm::forward::Inputs;
use crate::ops::{Launch, offload, scratch};
use crate::progress::Progress;

/// How a pass runs; none of it changes the result.
#[derive(Debug)]
pub struct Runner<'a> {
    pub device: &'a Device,
    pub progress: &'a Progress,
    /// Samples in flight, rounded up to whole blocks; without it, as many as keep the lanes busy and
    /// fit into memory.
    pub batch: Option<usize>,
    /// Bytes that a pass may use.
    pub memory: u64,
    /// Where the state of a pass is kept, if anywhere.
    pub checkpoints: Option<Checkpoints>,
}

/// A sum over blocks.
#[derive(Clone, Debug)]
pub enum Sum {
    /// Plain sum.
    Add(Vec<f64>),
    /// Count, mean and centred second moment (lower triangle), joined pairwise.
    Centred { n: f64, mean: Vec<f64>, m2: Vec<f64> },
}

impl Join for Vec<Sum> {
    fn join(mut self, later: Self) -> Self {
        for (a, b) in self.iter_mut().zip(later) {
            match (a, b) {
                (Sum::Add(a), Sum::Add(b)) => a.iter_mut().zip(b).for_each(|(a, b)| *a += b),
                (Sum::Centred { n, mean, m2 }, Sum::Centred { n: n_b, mean: mean_b, m2: m2_b }) => {
                    let total = *n + n_b;
                    let delta: Vec<f64> = mean_b.iter().zip(&*mean).map(|(b, a)| b - a).collect();
                    let (d, share) = (delta.len(), *n * n_b / total);
                    for i in 0..d {
                        for j in 0..=i {
                            m2[i * d + j] += m2_b[i * d + j] + share * (delta[i] * delta[j]);
                        }
                    }
                    mean.iter_mut().zip(&delta).for_each(|(m, delta)| *m += delta * (n_b / total));
                    *n = total;
                }
                _ => unreachable!("sums of one program have one layout"),
            }
        }
        self
    }
}

/// Which accumulators of a program make a [`Sum`].
#[derive(Clone, Copy, Debug)]
pub enum Read {
    Add(View),
    Centred { rows: usize, mean: View, m2: View },
}

/// A program for one block shape, where its input goes and what is read from it.
#[derive(Debug)]
pub struct Pass {
    pub program: Program<Launch>,
    pub input: Input,
    pub reads: Vec<Read>,
    /// Receives the labels of the block's samples: as many a sample as the data set has.
    pub labels: Option<IntBuffer>,
    /// Receives the index of the block's first sample, for seeded probes.
    pub first: Option<IntBuffer>,
}

/// Where a block's samples go.
#[derive(Clone, Copy, Debug)]
pub enum Input {
    Tokens(IntBuffer),
    /// Token sequences behind each other, each sample a sequence.
    Packed(Inputs),
    Values(View),
}

impl AsRef<Pass> for Pass {
    fn as_ref(&self) -> &Pass {
        self
    }
}

/// Runs one pass over all of `data`; `build` makes the program of a block shape.
pub fn run(runner: &Runner, name: &str, data: &DataSet, build: impl Fn(Batch) -> Result<Pass>) -> Result<Vec<Sum>> {
    let (mut writer, mut tree) = match runner.checkpoints.as_ref().map(|c| c.open(name)) {
        Some((writer, tree)) => (Some(writer), tree),
        None => (None, Tree::default()),
    };
    let sums = |pass: &Pass, arena: &mut AnyArena, _: Range<usize>| {
        arena.run(&pass.program)?;
        let sum = |r: &Read| {
            Ok(match r {
                Read::Add(v) => Sum::Add(arena.read(v)?),
                Read::Centred { rows, mean, m2 } => {
                    Sum::Centred { n: *rows as f64, mean: arena.read(mean)?, m2: arena.read(m2)? }
                }
            })
        };
        pass.reads.iter().map(sum).collect::<Result<Vec<_>>>()
    };
    let done = tree.done();
    let fold = |sums| {
        tree.push(sums);
        writer.iter_mut().try_for_each(|w| w.save(&tree))
    };
    each_block(runner, name, data, done, build, &mut Each { work: sums, fold })?;
    tree.finish().ok_or_else(|| Error::flag("--data", "an empty data set", "at least one sample"))
}

/// What is done with the blocks of a pass. Blocks of a wave run side by side; between waves the visitor may change.
pub(crate) trait Visitor<P>: Sync {
    /// What is found in a block.
    type Found: Send;

    /// Readies an arena for the blocks of a wave.
    fn ready(&self, _plan: &P, _arena: &mut AnyArena) -> Result<()> {
        Ok(())
    }
    /// Runs a block whose samples are loaded.
    fn work(&self, plan: &P, arena: &mut AnyArena, samples: Range<usize>) -> Result<Self::Found>;
    /// Takes what was found in a block, in the order of the blocks.
    fn fold(&mut self, found: Self::Found) -> Result<()>;
    /// Takes what an arena holds behind a wave, once its blocks are folded.
    fn drain(&mut self, _plan: &P, _arena: &mut AnyArena) -> Result<()> {
        Ok(())
    }
    /// Behind a wave that is folded and drained.
    fn rest(&mut self) -> Result<()> {
        Ok(())
    }
}

/// A visitor that looks at blocks one by one.
pub(super) struct Each<W, F> {
    pub work: W,
    pub fold: F,
}

impl<P, R: Send, W, F> Visitor<P> for Each<W, F>
where
    W: Fn(&P, &mut AnyArena, Range<usize>) -> Result<R> + Sync,
    F: FnMut(R) -> Result<()> + Sync,
{
    type Found = R;
    fn work(&self, plan: &P, arena: &mut AnyArena, samples: Range<usize>) -> Result<R> {
        (self.work)(plan, arena, samples)
    }
    fn fold(&mut self, found: R) -> Result<()> {
        (self.fold)(found)
    }
}

/// An arena that blocks take turns in, made when the first needs it.
struct Turn<'a, P> {
    plan: &'a P,
    arena: Mutex<Option<AnyArena>>,
}

impl<'a, P: AsRef<Pass>> Turn<'a, P> {
    fn new(plan: &'a P) -> Self {
        Self { plan, arena: Mutex::new(None) }
    }
    /// Runs a block.
    fn take<V: Visitor<P>>(&self, runner: &Runner, data: &DataSet, visitor: &V, samples: Range<usize>) -> Result<V::Found> {
        let mut slot = self.arena.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let arena = match &mut *slot {
            Some(arena) => arena,
            None => {
                let mut arena = AnyArena::new(runner.device, &self.plan.as_ref().program)?;
                visitor.ready(self.plan, &mut arena)?;
                slot.insert(arena)
            }
        };
        arena.load(self.plan.as_ref(), data, samples.clone())?;
        visitor.work(self.plan, arena, samples)
    }
    /// Does something with the arena, if there is one.
    fn with(&mut self, f: impl FnOnce(&P, &mut AnyArena) -> Result<()>) -> Result<()> {
        let slot = self.arena.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        slot.as_mut().map_or(Ok(()), |arena| f(self.plan, arena))
    }
}

/// Hands every block of `data` but the first `done` to `visitor`, its samples loaded into an arena.
pub(crate) fn each_block<P: AsRef<Pass> + Sync, V: Visitor<P>>(
    runner: &Runner,
    name: &str,
    data: &DataSet,
    done: usize,
    build: impl Fn(Batch) -> Result<P>,
    visitor: &mut V,
) -> Result<()> {
    if data.samples.count() == 0 {
        return Err(Error::flag("--data", "an empty data set", "at least one sample"));
    }
    let (blocks, full, ragged) = shapes(data, build)?;
    let passes = (full.as_ref(), ragged.as_ref().map(P::as_ref));
    note_host(runner, [Some(passes.0), passes.1].into_iter().flatten());
    let (wave, lanes) = wave(runner, name, passes, &blocks)?;
    // Each lane has an arena for the full shape; the one ragged block has its own.
    let mut turns: Vec<Turn<P>> = (0..lanes).map(|_| Turn::new(&full)).chain(ragged.as_ref().map(Turn::new)).collect();
    let stage = runner.progress.stage(name, blocks.count() as u64, "blocks");
    let mut next = done;
    stage.skip(next as u64);
    while next < blocks.count() {
        let until = (next + wave).min(blocks.count());
        let one = |block: usize| {
            let is_ragged = ragged.is_some() && block + 1 == blocks.count();
            let turn = if is_ragged { lanes } else { rayon::current_thread_index().unwrap_or(0) % lanes };
            let found = turns[turn].take(runner, data, visitor, blocks.range(block));
            stage.add(1);
            found
        };
        let results: Vec<_> = runner.device.host().install(|| (next..until).into_par_iter().map(one).collect());
        for result in results {
            visitor.fold(result?)?;
        }
        turns.iter_mut().try_for_each(|turn| turn.with(|plan, arena| visitor.drain(plan, arena)))?;
        visitor.rest()?;
        turns.iter_mut().try_for_each(|turn| turn.with(|plan, arena| visitor.ready(plan, arena)))?;
        next = until;
    }
    Ok(())
}

/// Bytes of one set of f64 sums.
fn sum_bytes(pass: &Pass) -> u64 {
    let len = |r: &Read| match r {
        Read::Add(v) => v.buffer.len,
        Read::Centred { mean, m2, .. } => mean.buffer.len.saturating_add(m2.buffer.len),
    };
    pass.reads.iter().map(len).fold(0, |sum: u64, len| sum.saturating_add(8u64.saturating_mul(len as u64)))
}

/// Refuses a pass over `data` that cannot fit into memory, without any work; see [`run`].
pub fn check(runner: &Runner, name: &str, data: &DataSet, build: impl Fn(Batch) -> Result<Pass>) -> Result<()> {
    let (blocks, full, ragged) = shapes(data, build)?;
    wave(runner, name, (&full, ragged.as_ref()), &blocks).map(drop)
}

/// Notes where the operations of passes run, also of a pass that was done before the run was killed: the manifest tells of
/// the whole run. Says which ones the device leaves to the host, when it is the first time.
fn note_host<'a>(runner: &Runner, passes: impl Iterator<Item = &'a Pass>) {
    let on_host = || runner.device.placed().map(|placed| placed.host).unwrap_or_default();
    let before = on_host();
    passes.for_each(|pass| offload::note(runner.device, &pass.program));
    let new: Vec<String> = on_host().difference(&before).cloned().collect();
    if !new.is_empty() {
        runner.progress.note(format!("{} leaves to the host: {}", runner.device.backend(), new.join(", ")));
    }
}

/// The blocks of a data set, the plan of a full one, and that of the last one where it is shorter.
fn shapes<P: AsRef<Pass>>(data: &DataSet, build: impl Fn(Batch) -> Result<P>) -> Result<(Blocks, P, Option<P>)> {
    let positions = data.samples.positions();
    let build = |samples| build(Batch { samples, positions });
    let blocks_of = |tokens| Blocks::new(data.samples.count(), positions, tokens);
    let mut blocks = blocks_of(BLOCK_TOKENS);
    let mut full = build(blocks.range(0).len())?;
    // What a plan reads tells its kind. The plans that are costly to make are of the other one.
    if matches!(full.as_ref().input, Input::Packed(_)) {
        blocks = blocks_of(PACKED_BLOCK_TOKENS);
        full = build(blocks.range(0).len())?;
    }
    let (first, last) = (blocks.range(0).len(), blocks.range(blocks.count().saturating_sub(1)).len());
    let ragged = if last == first { None } else { Some(build(last)?) };
    Ok((blocks, full, ragged))
}

/// The number of blocks in flight, and that of arenas in which they take turns. What they hold: an
/// arena a lane and one for a ragged block, what operations take beside it, the sums of every block, and
/// the subtrees that the canonical tree keeps. Refuses what does not fit, and says what would.
fn wave(runner: &Runner, name: &str, (pass, ragged): (&Pass, Option<&Pass>), blocks: &Blocks) -> Result<(usize, usize)> {
    let lanes = lanes(runner, name, pass, ragged)?;
    let levels = u64::from(usize::BITS - blocks.count().leading_zeros()) + 1;
    let arena = |pass: &Pass| pass.program.bytes().saturating_add(offload::staging_bytes(runner.device));
    let sums = sum_bytes(pass);
    let scratch = |pass: &Pass| scratch::bytes(&pass.program);
    let each_lane = arena(pass).saturating_add(scratch(pass).max(ragged.map_or(0, scratch)));
    let need = |wave: usize| {
        let arenas = each_lane.saturating_mul(lanes.min(wave) as u64).saturating_add(ragged.map_or(0, arena));
        arenas.saturating_add(sums.saturating_mul(wave as u64 + levels))
    };
    let wanted = runner.batch.map_or(8 * lanes, |b| b.div_ceil(blocks.per_block)).clamp(1, blocks.count());
    let fitting = (1..=wanted).rev().find(|&wave| need(wave) <= runner.memory);
    let (asked, hint) = match fitting {
        Some(wave) if wave == wanted || runner.batch.is_none() => {
            runner.progress.note_plan(need(wave));
            return Ok((wave, lanes.min(wave)));
        }
        Some(wave) => (need(wanted), format!("--batch {} would fit", wave * blocks.per_block)),
        None => {
            let precision = if pass.program.dtype == DType::F64 { " or --dtype f32" } else { "" };
            (need(1), format!("even with --batch 1; fewer layers{precision} need less"))
        }
    };
    Err(Error::Memory { asked, free: runner.memory, hint: format!(" for the pass '{name}' ({hint})") })
}

/// The number of arenas that the device has memory for, at most one a lane, beside the weights and the
/// arena of a ragged block.
fn lanes(runner: &Runner, name: &str, pass: &Pass, ragged: Option<&Pass>) -> Result<usize> {
    let (lanes, Some(free)) = (runner.device.lanes(), runner.device.free_device_memory()?) else {
        return Ok(runner.device.lanes());
    };
    let arena = |pass: &Pass| offload::device_bytes(runner.device, &pass.program);
    let beside = offload::weight_bytes(runner.device, &pass.program).saturating_add(ragged.map_or(0, arena));
    let asked = arena(pass).saturating_add(beside);
    if asked > free {
        return Err(Error::Memory { asked, free, hint: format!(" on {} for the pass '{name}'", runner.device.describe()) });
    }
    let gpus = runner.device.gpus() as u64;
    let fitting = (free - beside).checked_div(arena(pass)).map(|each| each.saturating_mul(gpus));
    Ok(fitting.map_or(lanes, |fitting| lanes.min(fitting as usize)))
}
