//! What a neuron keeps of the peaks that come by, in the order of their windows: the strongest, and random ones. It says
//! too which of those to come it can do without.

use super::{Neuron, Peak, RANDOM};
use crate::ops::peaks::pick;

/// How the peaks of one neuron are chosen.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    /// Strongest windows that are kept.
    pub top: usize,
    /// Of the layer's random choices.
    pub seed: u32,
    pub neuron: u32,
    /// Positions of a window that hold text.
    pub per_window: usize,
}

impl Choice {
    /// Takes the largest activation of a window into the strongest and the random windows, where it belongs there.
    pub fn offer(&self, neuron: &mut Neuron, peak: Peak) {
        self.offer_strong(neuron, peak);
        keep_random(&mut neuron.windows, peak, |window| self.key(!self.seed, window));
    }
    /// Takes the activation that was picked of a window into the random ones, if it belongs there.
    pub fn offer_picked(&self, neuron: &mut Neuron, peak: Peak) {
        if peak.value > 0.0 {
            keep_random(&mut neuron.random, peak, |window| self.key(self.seed, window));
        }
    }
    /// What the largest activation of a window must be above to become one of the strongest: minus infinity where any does.
    pub fn least(&self, neuron: &Neuron) -> f64 {
        neuron.top.get(self.top.saturating_sub(1)).map_or(f64::NEG_INFINITY, |p| p.value)
    }
    /// The largest key that a window may have to become one of the random windows, and that of a random activation.
    pub fn most(&self, neuron: &Neuron) -> [u32; 2] {
        let most = |chosen: &[Peak], seed| chosen.get(RANDOM - 1).map_or(u32::MAX, |last| self.key(seed, last.window));
        [most(&neuron.windows, !self.seed), most(&neuron.random, self.seed)]
    }
    /// Windows come in their order: of equal ones the first stays in front.
    fn offer_strong(&self, neuron: &mut Neuron, peak: Peak) {
        let top = &mut neuron.top;
        if top.len() == self.top && top.last().is_none_or(|last| peak.value <= last.value) {
            return;
        }
        let at = top.partition_point(|p| p.value >= peak.value);
        top.insert(at, peak);
        top.truncate(self.top);
    }
    fn key(&self, seed: u32, window: u32) -> u32 {
        pick(seed, self.neuron, window, self.per_window).1
    }
}

/// Keeps the peaks whose windows have the smallest keys, in the order of these: keys of one seed differ.
fn keep_random(chosen: &mut Vec<Peak>, peak: Peak, key_of: impl Fn(u32) -> u32) {
    let key = key_of(peak.window);
    if chosen.get(RANDOM - 1).is_some_and(|last| key >= key_of(last.window)) {
        return;
    }
    let at = chosen.partition_point(|p| key_of(p.window) <= key);
    chosen.insert(at, peak);
    chosen.truncate(RANDOM);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peaks_below_the_bars_change_nothing() {
        let choice = Choice { top: 4, seed: 9, neuron: 3, per_window: 8 };
        let peak = |window: u32| Peak { value: f64::from(window * 7919 % 83) - 9.0, window, position: window % 8 };
        let mut all = Neuron::default();
        let mut passed = Neuron::default();
        let (mut bars, mut dropped) = ((choice.least(&passed), choice.most(&passed)), 0);
        for window in 0..400 {
            // Bars may be as old as the last wave.
            if window % 50 == 0 {
                bars = (choice.least(&passed), choice.most(&passed));
            }
            choice.offer(&mut all, peak(window));
            choice.offer_picked(&mut all, peak(window));
            let (least, most) = bars;
            let key = |seed| pick(seed, 3, window, 8).1;
            if peak(window).value > least || least == f64::NEG_INFINITY || key(!9) <= most[0] {
                choice.offer(&mut passed, peak(window));
            } else {
                dropped += 1;
            }
            if key(9) <= most[1] {
                choice.offer_picked(&mut passed, peak(window));
            }
        }
        assert_eq!(all, passed);
        assert!(dropped > 200 && all.top.len() == 4 && all.windows.len() == RANDOM && all.random.len() == RANDOM);
    }
}
