//! The windows that fire every neuron most, with what else one pass over the text tells of a neuron:
//! activations and windows chosen at random, a histogram. Memory does not grow with the text.

mod choice;
mod file;
mod pass;
mod state;

pub use file::{FILE, Roles, write};
pub use pass::find;

use crate::device::{Builder, View};
use crate::error::Result;
use crate::model::Lm;
use crate::model::forward::Batch;
use crate::model::lm::forward::{Inputs, forward};
use crate::model::site::{Place, Site};
use crate::ops::Launch;
use crate::ops::peaks::{self, BINS, edge};

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
