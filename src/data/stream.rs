//! One pass over a data set: a program per block, its accumulators folded into f64 sums along the
//! canonical tree.

use std::sync::Mutex;

use rayon::prelude::*;

use crate::data::blocks::Blocks;
use crate::data::checkpoint::Checkpoints;
use crate::data::tree::{Join, Tree};
use crate::data::{DataSet, Samples};
use crate::device::{Arena, DType, Device, IntBuffer, Program, Real, View};
use crate::error::{Error, Result};
use crate::model::forward::Batch;
use crate::ops::{self, Launch};
use crate::progress::Progress;

/// How a pass runs; none of it changes the result.
#[derive(Debug)]
pub struct Runner<'a> {
    pub device: &'a Device,
    pub progress: &'a Progress,
    /// Samples in flight; rounded up to whole blocks.
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
    Values(View),
}

enum AnyArena {
    F32(Arena<f32>),
    F64(Arena<f64>),
}

impl AnyArena {
    fn new(program: &Program<Launch>) -> Self {
        match program.dtype {
            DType::F32 => AnyArena::F32(Arena::new(&program.layout)),
            DType::F64 => AnyArena::F64(Arena::new(&program.layout)),
        }
    }
}

fn run_block<T: Real>(pass: &Pass, arena: &mut Arena<T>, data: &DataSet, blocks: &Blocks, block: usize) -> Result<Vec<Sum>> {
    let range = blocks.range(block);
    match (&data.samples, pass.input) {
        (Samples::Tokens { ids, t, .. }, Input::Tokens(b)) => arena.int_mut(b).copy_from_slice(&ids[range.start * t..range.end * t]),
        (Samples::Inputs { x, width, .. }, Input::Values(v)) => {
            let x = &x[range.start * width..range.end * width];
            arena.real_mut(v.buffer).iter_mut().zip(x).for_each(|(y, x)| *y = T::of(*x));
        }
        _ => return Err(Error::shape("stream", "samples of another kind than the model's input", "tokens for a transformer, inputs for an MLP")),
    }
    if let (Some(b), Some(labels)) = (pass.labels, &data.labels) {
        let per_sample = labels.values.len() / blocks.samples;
        arena.int_mut(b).copy_from_slice(&labels.values[range.start * per_sample..range.end * per_sample]);
    }
    if let Some(b) = pass.first {
        arena.int_mut(b)[0] = range.start as u32;
    }
    ops::run_cpu(&pass.program, arena);
    let read = |v: &View| arena.real(v.buffer).iter().map(|x| x.to_f64()).collect::<Vec<_>>();
    let sums = pass.reads.iter().map(|r| match r {
        Read::Add(v) => Sum::Add(read(v)),
        Read::Centred { rows, mean, m2 } => Sum::Centred { n: *rows as f64, mean: read(mean), m2: read(m2) },
    });
    Ok(sums.collect())
}

/// Runs one pass over all of `data`; `build` makes the program of a block shape.
pub fn run(runner: &Runner, name: &str, data: &DataSet, build: impl Fn(Batch) -> Result<Pass>) -> Result<Vec<Sum>> {
    let (samples, positions) = (data.samples.count(), data.samples.positions());
    let blocks = Blocks::new(samples, positions);
    let lanes = runner.device.lanes();
    let wave = runner.batch.map_or(4 * lanes, |b| b.div_ceil(blocks.per_block)).clamp(1, blocks.count());
    let batch = |n: usize| Batch { samples: n, positions };
    let full = build(batch(blocks.range(0).len()))?;
    let last_len = blocks.range(blocks.count() - 1).len();
    let ragged = if last_len == blocks.range(0).len() { None } else { Some(build(batch(last_len))?) };
    check_memory(runner, name, &full, lanes.min(wave), wave, blocks.count())?;
    let arenas: Vec<Mutex<Option<AnyArena>>> = (0..lanes.min(wave)).map(|_| Mutex::new(None)).collect();
    let stage = runner.progress.stage(name, blocks.count() as u64, "blocks");
    let one = |block: usize| -> Result<Vec<Sum>> {
        let is_ragged = ragged.is_some() && block + 1 == blocks.count();
        let pass = ragged.as_ref().filter(|_| is_ragged).unwrap_or(&full);
        // Each lane has an arena for the full shape; the one ragged block makes its own.
        let mut own = is_ragged.then(|| AnyArena::new(&pass.program));
        let sums = if let Some(arena) = &mut own {
            run_any(pass, arena, data, &blocks, block)
        } else {
            let lane = rayon::current_thread_index().unwrap_or(0) % arenas.len();
            let mut slot = arenas[lane].lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            run_any(pass, slot.get_or_insert_with(|| AnyArena::new(&pass.program)), data, &blocks, block)
        };
        stage.add(1);
        sums
    };
    let Device::Cpu(cpu) = runner.device;
    let (mut writer, mut tree) = match runner.checkpoints.as_ref().map(|c| c.open(name)) {
        Some((writer, tree)) => (Some(writer), tree),
        None => (None, Tree::default()),
    };
    let mut next = tree.done();
    stage.add(next as u64);
    while next < blocks.count() {
        let until = (next + wave).min(blocks.count());
        let sums: Vec<_> = cpu.install(|| (next..until).into_par_iter().map(one).collect());
        for s in sums {
            tree.push(s?);
        }
        next = until;
        writer.iter_mut().try_for_each(|w| w.save(&tree))?;
    }
    tree.finish().ok_or_else(|| Error::flag("--data", "an empty data set", "at least one sample"))
}

fn run_any(pass: &Pass, arena: &mut AnyArena, data: &DataSet, blocks: &Blocks, block: usize) -> Result<Vec<Sum>> {
    match arena {
        AnyArena::F32(a) => run_block(pass, a, data, blocks, block),
        AnyArena::F64(a) => run_block(pass, a, data, blocks, block),
    }
}

/// Bytes of one set of f64 sums.
fn sum_bytes(pass: &Pass) -> u64 {
    let len = |r: &Read| match r {
        Read::Add(v) => v.buffer.len,
        Read::Centred { mean, m2, .. } => mean.buffer.len + m2.buffer.len,
    };
    8 * pass.reads.iter().map(len).sum::<usize>() as u64
}

/// Refuses a pass that cannot fit, before any work: an arena a lane, the sums of a wave, and the
/// subtrees that the canonical tree keeps.
fn check_memory(runner: &Runner, name: &str, pass: &Pass, lanes: usize, wave: usize, blocks: usize) -> Result<()> {
    let levels = u64::from(usize::BITS - blocks.leading_zeros()) + 1;
    let (arena, sums) = (pass.program.bytes(), sum_bytes(pass));
    let need = |lanes: usize, wave: usize| lanes as u64 * arena + (wave as u64 + levels) * sums;
    let asked = need(lanes, wave);
    runner.progress.note_plan(asked);
    if asked <= runner.memory {
        return Ok(());
    }
    let hint = if need(1, 1) <= runner.memory {
        "; --batch 1 would fit".to_string()
    } else {
        format!("; even --batch 1 needs {} bytes, so take fewer node layers or --dtype f32", need(1, 1))
    };
    Err(Error::Memory { asked, free: runner.memory, hint: format!(" for the pass '{name}'{hint}") })
}
