//! The pass over the text: each block gives the lists of what passes the bars, and where a list is too short, as in the
//! first wave, all that it found. Bars rise with every wave; they decide what is brought home, never what is kept.

use std::ops::Range;
use std::time::Instant;

use rayon::prelude::*;

use super::choice::Choice;
use super::{Neuron, Peak, Ranking, Request, state};
use crate::data::arena::AnyArena;
use crate::data::stream::{Input, Pass, Runner, Visitor, each_block};
use crate::data::{DataSet, Samples};
use crate::device::{Builder, IntBuffer, View};
use crate::error::{Error, Result};
use crate::model::Lm;
use crate::model::forward::Batch;
use crate::ops::Launch;
use crate::ops::peaks::{self, BINS, Bars, Passed, TILE, pick};

/// A list has room for this many of each sample, of [`TILE`] neurons.
const LISTED: usize = 4;

/// Streams `data` through the model once. Results do not depend on threads or batch; a pass that was
/// killed goes on from its last checkpoint. Fails on data that are no token sequences.
pub fn find(runner: &Runner, lm: &Lm, data: &DataSet, request: &Request) -> Result<Ranking> {
    let (ranking, done) = state::open(runner, request, data);
    let per_window = data.samples.positions().saturating_sub(request.skip);
    let mut search = Search { runner, data, request, per_window, ranking, blocks: done, saved: Instant::now() };
    each_block(runner, "exemplars", data, done, |batch| plan(lm, data, request, batch), &mut search)?;
    Ok(search.ranking)
}

/// A program, and where the peaks of each layer are.
struct Plan {
    pass: Pass,
    layers: Vec<Outputs>,
}

impl AsRef<Pass> for Plan {
    fn as_ref(&self) -> &Pass {
        &self.pass
    }
}

#[derive(Clone, Copy)]
struct Outputs {
    max: View,
    at: View,
    picked: View,
    counts: IntBuffer,
    bars: Bars,
    passed: Passed,
}

/// The forward pass up to the last layer of the selection, with the peaks of every layer.
fn plan(lm: &Lm, data: &DataSet, request: &Request, batch: Batch) -> Result<Plan> {
    let Samples::Tokens { .. } = data.samples else {
        return Err(Error::shape("exemplars", "input vectors", "token sequences"));
    };
    let mut b = Builder::new(lm.dtype);
    let (inputs, sites) = request.sites(&mut b, lm, batch)?;
    let first = b.ints(1);
    let mut layers = Vec::new();
    for (x, selection) in sites.into_iter().zip(&request.selection) {
        let (samples, width) = (batch.samples, x.cols);
        let capacity = LISTED * samples.max(LISTED);
        let outputs = Outputs {
            max: b.matrix(samples, width),
            at: b.matrix(samples, width),
            picked: b.matrix(samples, width),
            counts: b.ints(width * BINS),
            bars: Bars { least: b.matrix(1, width), most: b.ints(2 * width) },
            passed: Passed {
                cells: b.ints(Passed::cells_len(width, capacity)),
                values: b.matrix(Passed::lists(width), capacity),
            },
        };
        let Outputs { max, at, picked, counts, bars, passed } = outputs;
        let (positions, skip, seed) = (batch.positions, request.skip, request.seed_of(selection.layer));
        let args = peaks::Args { x, positions, skip, max, at, picked, first, seed, counts, bars, passed };
        args.check()?;
        b.push(Launch::Peaks(args));
        layers.push(outputs);
    }
    let pass = Pass { program: b.finish(), input: Input::Packed(inputs), reads: Vec::new(), labels: None, first: Some(first) };
    Ok(Plan { pass, layers })
}

/// The ranking as it grows.
struct Search<'a> {
    runner: &'a Runner<'a>,
    data: &'a DataSet,
    request: &'a Request,
    per_window: usize,
    ranking: Ranking,
    /// Those that are in the ranking.
    blocks: usize,
    saved: Instant,
}

/// What a block gives.
struct Found {
    samples: Range<usize>,
    layers: Vec<Peaks>,
}

enum Peaks {
    /// `[samples, width]` of maxima, positions and picked activations.
    Whole([Vec<f64>; 3]),
    /// What passed the bars with its neurons: largest activations, and picked ones. Those of a neuron are in the order of
    /// the windows.
    Listed([Vec<(usize, Peak)>; 2]),
}

impl Visitor<Plan> for Search<'_> {
    type Found = Found;

    /// Sets the bars by the ranking so far.
    fn ready(&self, plan: &Plan, arena: &mut AnyArena) -> Result<()> {
        for (layer, outputs) in plan.layers.iter().enumerate() {
            // Nothing of the neurons that nobody asked for passes.
            let width = outputs.max.cols;
            let (mut least, mut most) = (vec![f64::INFINITY; width], vec![0; 2 * width]);
            for (&j, neuron) in self.request.selection[layer].neurons.iter().zip(&self.ranking[layer]) {
                let choice = self.choice(layer, j);
                least[j] = choice.least(neuron);
                [most[j], most[width + j]] = choice.most(neuron);
            }
            arena.fill(&outputs.bars.least, &least);
            arena.put(outputs.bars.most, &most);
        }
        Ok(())
    }
    fn work(&self, plan: &Plan, arena: &mut AnyArena, samples: Range<usize>) -> Result<Found> {
        arena.run(&plan.pass.program)?;
        let mut peaks = |o: &Outputs| {
            let cells = arena.ints(o.passed.cells)?.to_vec();
            let lists: Option<Vec<&[u32]>> = (0..o.passed.values.rows).map(|list| o.passed.list(&cells, list)).collect();
            Ok(match lists {
                None => Peaks::Whole([arena.read_rows(&o.max)?, arena.read_rows(&o.at)?, arena.read_rows(&o.picked)?]),
                Some(lists) => Peaks::Listed(listed(&lists, &arena.read_rows(&o.passed.values)?, samples.start)),
            })
        };
        let layers = plan.layers.iter().map(&mut peaks).collect::<Result<_>>()?;
        Ok(Found { samples, layers })
    }
    fn fold(&mut self, found: Found) -> Result<()> {
        let mut ranking = std::mem::take(&mut self.ranking);
        self.runner.device.host().install(|| {
            let layers = ranking.par_iter_mut().zip(found.layers).enumerate();
            layers.for_each(|(layer, (neurons, peaks))| self.merge(neurons, layer, found.samples.clone(), peaks));
        });
        self.ranking = ranking;
        self.blocks += 1;
        Ok(())
    }
    /// Counts stay with the arena until its wave has ended.
    fn drain(&mut self, plan: &Plan, arena: &mut AnyArena) -> Result<()> {
        for (layer, outputs) in plan.layers.iter().enumerate() {
            let counts = arena.ints(outputs.counts)?;
            for (&j, neuron) in self.request.selection[layer].neurons.iter().zip(&mut self.ranking[layer]) {
                let counts = &counts[j * BINS..(j + 1) * BINS];
                neuron.counts.iter_mut().zip(counts).for_each(|(sum, n)| *sum += u64::from(*n));
            }
            arena.put(outputs.counts, &vec![0; outputs.counts.len]);
        }
        Ok(())
    }
    fn rest(&mut self) -> Result<()> {
        match &self.runner.checkpoints {
            Some(c) if self.saved.elapsed() >= c.every => {
                self.saved = Instant::now();
                state::save(c, self.request, self.data, &self.ranking, self.blocks)
            }
            _ => Ok(()),
        }
    }
}

impl Search<'_> {
    fn choice(&self, layer: usize, neuron: usize) -> Choice {
        let seed = self.request.seed_of(self.request.selection[layer].layer);
        Choice { top: self.request.top, seed, neuron: neuron as u32, per_window: self.per_window }
    }
    /// Adds what a block gave of a layer.
    fn merge(&self, neurons: &mut [Neuron], layer: usize, samples: Range<usize>, peaks: Peaks) {
        let selected = &self.request.selection[layer].neurons;
        match peaks {
            Peaks::Whole([max, at, picked]) => {
                let width = max.len() / samples.len().max(1);
                for (&j, neuron) in selected.iter().zip(neurons) {
                    let choice = self.choice(layer, j);
                    for (s, window) in samples.clone().enumerate() {
                        let (cell, window) = (s * width + j, window as u32);
                        choice.offer(neuron, Peak { value: max[cell], window, position: at[cell] as u32 });
                        let (position, _) = pick(choice.seed, j as u32, window, self.per_window);
                        let position = (self.request.skip + position) as u32;
                        choice.offer_picked(neuron, Peak { value: picked[cell], window, position });
                    }
                }
            }
            Peaks::Listed([largest, picked]) => {
                // A key of zero passes even where nobody asked for the neuron.
                let place = |neuron: usize| selected.binary_search(&neuron).ok();
                for (j, peak) in largest {
                    place(j).into_iter().for_each(|i| self.choice(layer, j).offer(&mut neurons[i], peak));
                }
                for (j, peak) in picked {
                    place(j).into_iter().for_each(|i| self.choice(layer, j).offer_picked(&mut neurons[i], peak));
                }
            }
        }
    }
}

/// The lists of a block, whose first window is `first`, with their activations `[lists, capacity]`.
fn listed(lists: &[&[u32]], values: &[f64], first: usize) -> [Vec<(usize, Peak)>; 2] {
    let mut listed = [Vec::new(), Vec::new()];
    let capacity = values.len() / lists.len().max(1);
    for (i, (cells, values)) in lists.iter().zip(values.chunks(capacity)).enumerate() {
        for (cell, &value) in cells.chunks_exact(2).zip(values) {
            let (sample, neuron) = (cell[0] as usize / TILE, i / 2 * TILE + cell[0] as usize % TILE);
            listed[i % 2].push((neuron, Peak { value, window: (first + sample) as u32, position: cell[1] }));
        }
    }
    listed
}
