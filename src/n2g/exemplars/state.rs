//! The state of the pass on disk, so that a killed run goes on from where it was.

use std::path::PathBuf;

use super::{Neuron, Peak, Ranking, Request};
use crate::data::DataSet;
use crate::data::checkpoint::{Checkpoints, replace};
use crate::data::stream::Runner;
use crate::error::Result;
use crate::ops::peaks::BINS;

/// Numbers of a peak on disk.
const PEAK: usize = 3;

fn path(checkpoints: &Checkpoints) -> PathBuf {
    checkpoints.folder.join("exemplars.state")
}

/// What the state is for: the sizes that decide its layout.
fn head(request: &Request, data: &DataSet, blocks: usize) -> Vec<u64> {
    let neurons: usize = request.selection.iter().map(|s| s.neurons.len()).sum();
    [request.selection.len(), neurons, request.top, data.samples.count(), data.samples.positions(), blocks]
        .map(|n| n as u64)
        .to_vec()
}

/// The ranking to go on from and the number of blocks in it; an empty one without a state that fits.
pub fn open(runner: &Runner, request: &Request, data: &DataSet) -> (Ranking, usize) {
    let empty = || {
        let neuron = Neuron { counts: vec![0; BINS], ..Neuron::default() };
        request.selection.iter().map(|s| vec![neuron.clone(); s.neurons.len()]).collect()
    };
    // A damaged state costs time, not correctness: the pass starts anew.
    let read = |c: &Checkpoints| decode(&std::fs::read(path(c)).ok()?, request, data, empty());
    runner.checkpoints.as_ref().and_then(read).unwrap_or_else(|| (empty(), 0))
}

/// Writes the state, in the place of the one before.
pub fn save(checkpoints: &Checkpoints, request: &Request, data: &DataSet, ranking: &Ranking, blocks: usize) -> Result<()> {
    let mut words = head(request, data, blocks);
    for neuron in ranking.iter().flatten() {
        for peaks in [&neuron.top, &neuron.random, &neuron.windows] {
            words.push(peaks.len() as u64);
            words.extend(peaks.iter().flat_map(|p| [p.value.to_bits(), p.window.into(), p.position.into()]));
        }
        words.extend(&neuron.counts);
    }
    let bytes: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
    replace(&path(checkpoints), &bytes)
}

fn decode(bytes: &[u8], request: &Request, data: &DataSet, mut ranking: Ranking) -> Option<(Ranking, usize)> {
    let mut words = bytes.chunks_exact(8).map(|w| u64::from_le_bytes(w.try_into().unwrap_or_default()));
    let mut take = |n: usize| -> Option<Vec<u64>> { Some(words.by_ref().take(n).collect()).filter(|w: &Vec<u64>| w.len() == n) };
    let found = take(head(request, data, 0).len())?;
    let blocks = usize::try_from(*found.last()?).ok()?;
    if found != head(request, data, blocks) || !bytes.len().is_multiple_of(8) {
        return None;
    }
    for neuron in ranking.iter_mut().flatten() {
        for peaks in [&mut neuron.top, &mut neuron.random, &mut neuron.windows] {
            let count = usize::try_from(take(1)?[0]).ok().filter(|n| *n <= bytes.len())?;
            for p in take(PEAK * count)?.chunks_exact(PEAK) {
                peaks.push(Peak { value: f64::from_bits(p[0]), window: p[1].try_into().ok()?, position: p[2].try_into().ok()? });
            }
        }
        neuron.counts = take(BINS)?;
    }
    words.next().is_none().then_some((ranking, blocks))
}
