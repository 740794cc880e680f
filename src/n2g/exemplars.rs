//! The windows that fire every neuron most, with what else one pass over the text tells of a neuron:
//! activations and windows chosen at random, a histogram. Memory does not grow with the text.

mod file;
mod state;

pub use file::{FILE, Roles, write};

use rayon::prelude::*;

use crate::data::stream::{Input, Pass, Runner};
use crate::data::visit::{Block, visit};
use crate::data::{DataSet, Samples};
use crate::device::{Builder, IntBuffer, View};
use crate::error::{Error, Result};
use crate::model::Lm;
use crate::model::forward::Batch;
use crate::model::lm::forward::{Inputs, forward};
use crate::model::site::{Place, Site};
use crate::ops::Launch;
use crate::ops::peaks::{self, BINS, edge, pick};

/// Activations, and windows, that are chosen at random for each neuron.
pub const RANDOM: usize = 16;

/// Neurons of a layer, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    pub layer: usize,
    pub neurons: Vec<usize>,
}

/// An activation in the text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peak {
    pub value: f64,
    pub window: u32,
    /// Position in the window.
    pub position: u32,
}

/// What the pass keeps of a neuron.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Neuron {
    /// Its strongest windows with their maxima, strongest first, of equal ones the earlier first.
    pub top: Vec<Peak>,
    /// Positive activations, at most one a window, a random choice of all, in the order of [`pick`]'s keys.
    pub random: Vec<Peak>,
    /// Windows with their maxima, a random choice of all.
    pub windows: Vec<Peak>,
    /// `[BINS]`: how many activations fall into each bin.
    pub counts: Vec<u64>,
}

impl Neuron {
    /// The largest activation; 0 without windows.
    pub fn maximum(&self) -> f64 {
        self.top.first().map_or(0.0, |p| p.value)
    }
    /// The share of activations that are half the maximum or more, the bin in which that lies counted in
    /// proportion; 0 if the maximum is not positive.
    pub fn firing_rate(&self) -> f64 {
        let (half, all) = (self.maximum() / 2.0, self.counts.iter().sum::<u64>());
        if half <= 0.0 || all == 0 {
            return 0.0;
        }
        let bin = peaks::bin(half as f32);
        let above: u64 = self.counts[bin + 1..].iter().sum();
        let part = match bin + 1 < BINS - 1 {
            true => ((edge(bin + 1) - half) / (edge(bin + 1) - edge(bin))).clamp(0.0, 1.0),
            false => 1.0,
        };
        (above as f64 + part * self.counts[bin] as f64) / all as f64
    }
    /// Activations that are not finite.
    pub fn not_finite(&self) -> u64 {
        self.counts.get(BINS - 1).copied().unwrap_or(0)
    }
}

/// What is to be found.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub site: Site,
    pub selection: Vec<Selection>,
    /// Strongest windows of a neuron.
    pub top: usize,
    /// Positions at the start of each window that hold no text.
    pub skip: usize,
    pub seed: u64,
}

impl Request {
    /// The forward pass up to the last layer of the selection: its inputs, and the site of each layer,
    /// `[rows, width]`.
    pub(super) fn sites(&self, b: &mut Builder<Launch>, lm: &Lm, batch: Batch) -> Result<(Inputs, Vec<View>)> {
        let inputs = Inputs::new(b, batch.rows(), batch.positions, false, None);
        let places: Vec<Place> = self.selection.iter().map(|s| Place { layer: s.layer, site: self.site }).collect();
        let taps = forward(b, lm, inputs, &places)?;
        Ok((inputs, places.iter().map(|p| taps[p].view).collect()))
    }
    /// The seed of a layer's random choices.
    fn seed_of(&self, layer: usize) -> u32 {
        (self.seed ^ (self.seed >> 32)) as u32 ^ (layer as u32).wrapping_mul(0x9e37_79b1)
    }
}

/// By layer of the selection, by neuron of it.
pub type Ranking = Vec<Vec<Neuron>>;

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
}

/// The peaks of a block: `[samples, width]` of each layer.
struct Found {
    samples: std::ops::Range<usize>,
    layers: Vec<[Vec<f64>; 3]>,
    counts: Vec<Vec<u32>>,
}

/// Streams `data` through the model once. Results do not depend on threads or batch; a pass that was
/// killed goes on from its last checkpoint. Fails on data that are no token sequences.
pub fn find(runner: &Runner, lm: &Lm, data: &DataSet, request: &Request) -> Result<Ranking> {
    let (mut ranking, done) = state::open(runner, request, data);
    let mut saved = std::time::Instant::now();
    let mut blocks = done;
    let per_window = data.samples.positions().saturating_sub(request.skip);
    let look = |plan: &Plan, mut block: Block| {
        let (mut layers, mut counts) = (Vec::new(), Vec::new());
        for o in &plan.layers {
            layers.push([block.read(&o.max)?, block.read(&o.at)?, block.read(&o.picked)?]);
            counts.push(block.ints(o.counts)?.to_vec());
        }
        Ok(Found { layers, counts, samples: block.samples.clone() })
    };
    visit(
        runner,
        "exemplars",
        data,
        done,
        |batch| plan(lm, data, request, batch),
        look,
        |found| {
            runner.device.host().install(|| merge(&mut ranking, request, &found, per_window));
            blocks += 1;
            match &runner.checkpoints {
                Some(c) if saved.elapsed() >= c.every => {
                    saved = std::time::Instant::now();
                    state::save(c, request, data, &ranking, blocks)
                }
                _ => Ok(()),
            }
        },
    )?;
    Ok(ranking)
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
        let outputs = Outputs {
            max: b.matrix(samples, width),
            at: b.matrix(samples, width),
            picked: b.matrix(samples, width),
            counts: b.ints(width * BINS),
        };
        let Outputs { max, at, picked, counts } = outputs;
        let seed = request.seed_of(selection.layer);
        let args = peaks::Args { x, positions: batch.positions, skip: request.skip, max, at, picked, first, seed, counts };
        args.check()?;
        b.push(Launch::Peaks(args));
        layers.push(outputs);
    }
    let pass = Pass { program: b.finish(), input: Input::Packed(inputs), reads: Vec::new(), labels: None, first: Some(first) };
    Ok(Plan { pass, layers })
}

/// Adds a block, the one behind those that are in. Layers are done side by side.
fn merge(ranking: &mut Ranking, request: &Request, found: &Found, per_window: usize) {
    let layers = ranking.par_iter_mut().enumerate();
    layers.for_each(|(layer, neurons)| merge_layer(neurons, layer, request, found, per_window));
}

fn merge_layer(neurons: &mut [Neuron], layer: usize, request: &Request, found: &Found, per_window: usize) {
    let (selection, samples) = (&request.selection[layer], found.samples.clone());
    let ([max, at, picked], counts) = (&found.layers[layer], &found.counts[layer]);
    let seed = request.seed_of(selection.layer);
    let width = max.len() / samples.len().max(1);
    for (&j, neuron) in selection.neurons.iter().zip(neurons) {
        let picked_of = |window| pick(seed, j as u32, window, per_window);
        let mut random = Choosing::new(&mut neuron.random, |window| picked_of(window).1);
        let mut windows = Choosing::new(&mut neuron.windows, |window| pick(!seed, j as u32, window, per_window).1);
        for (s, window) in samples.clone().enumerate() {
            let (cell, window) = (s * width + j, window as u32);
            let peak = Peak { value: max[cell], window, position: at[cell] as u32 };
            keep_strongest(&mut neuron.top, peak, request.top);
            if picked[cell] > 0.0 {
                let position = |window| (request.skip + picked_of(window).0) as u32;
                random.offer(window, || Peak { value: picked[cell], window, position: position(window) });
            }
            windows.offer(window, || peak);
        }
        let counts = &counts[j * BINS..(j + 1) * BINS];
        neuron.counts.iter_mut().zip(counts).for_each(|(sum, n)| *sum += u64::from(*n));
    }
}

/// Windows come in their order: of equal ones the first stays in front.
fn keep_strongest(top: &mut Vec<Peak>, peak: Peak, most: usize) {
    if top.len() == most && top.last().is_none_or(|last| peak.value <= last.value) {
        return;
    }
    let at = top.partition_point(|p| p.value >= peak.value);
    top.insert(at, peak);
    top.truncate(most);
}

/// Some windows as they are chosen at random: those whose keys are smallest.
struct Choosing<'a, K> {
    chosen: &'a mut Vec<Peak>,
    key_of: K,
    /// What the key of one more window must be below.
    bound: u64,
}

impl<'a, K: Fn(u32) -> u32> Choosing<'a, K> {
    fn new(chosen: &'a mut Vec<Peak>, key_of: K) -> Self {
        let bound = Self::bound(chosen, &key_of);
        Self { chosen, key_of, bound }
    }
    fn bound(chosen: &[Peak], key_of: &K) -> u64 {
        chosen.get(RANDOM - 1).map_or(u64::MAX, |last| key_of(last.window).into())
    }
    /// Takes the peak of a window, behind those of equal keys, if it is among those to keep.
    fn offer(&mut self, window: u32, peak: impl FnOnce() -> Peak) {
        let key = (self.key_of)(window);
        if u64::from(key) >= self.bound {
            return;
        }
        let at = self.chosen.partition_point(|p| (self.key_of)(p.window) <= key);
        self.chosen.insert(at, peak());
        self.chosen.truncate(RANDOM);
        self.bound = Self::bound(self.chosen, &self.key_of);
    }
}
