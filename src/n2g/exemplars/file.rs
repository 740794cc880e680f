//! `exemplars.safetensors` of a RUN. For every layer L of the selection, with its n neurons in rising order:
//!
//! | tensor | shape | what |
//! | --- | --- | --- |
//! | `neuron.L` | `[n]` | their numbers |
//! | `exemplar.value.L`, `.window.L`, `.position.L` | `[n, K]` | maxima of their strongest windows, strongest first, ties by lower window: raw, over all windows |
//! | `exemplar.train.L` | `[n, K]` | the place of the exemplar in the order of training, -1 if it is held out |
//! | `exemplar.test.L` | `[n, K]` | its place among those held out, -1 if it trains |
//! | `exemplar.duplicate.L` | `[n, K]` | the stronger exemplar that it nearly repeats, -1 if it repeats none |
//! | `random.value.L`, `.window.L`, `.position.L` | `[n, 16]` | positive activations chosen at random, -1 where there are fewer |
//! | `sample.value.L`, `.window.L`, `.position.L` | `[n, 16]` | windows chosen at random with their maxima: those below half of `maximum` do not fire |
//! | `maximum.L`, `firing_rate.L` | `[n]` | over all windows |
//! | `histogram.L` | `[n, 128]` | activations a bin; bin 0 is what is not positive, bin i from 2 on begins at `(4 + (i - 2) % 4) / 4 * 2^((i - 2) / 4 - 16)`, the last but one has no end, the last is what is not finite |
//!
//! Values have the dtype of the run, everything else is i64. A neuron has no padding but in `random` and `sample`.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Neuron, Peak, RANDOM, Ranking, Selection};
use crate::data::tensor_file::{Entry, TensorFile};
use crate::device::DType;
use crate::error::Result;
use crate::ops::peaks::BINS;

/// The file's name inside a RUN.
pub const FILE: &str = "exemplars.safetensors";

/// What is known of a neuron's exemplars beside their values: ranks of training and of testing in order,
/// and duplicates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    pub train: Vec<usize>,
    pub test: Vec<usize>,
    pub duplicate_of: Vec<Option<usize>>,
}

/// Writes the file; `roles` are by layer and neuron, as `ranking`.
pub fn write(
    path: &Path,
    dtype: DType,
    metadata: &BTreeMap<String, String>,
    selection: &[Selection],
    ranking: &Ranking,
    roles: &[Vec<Roles>],
) -> Result<()> {
    let top = ranking.iter().flatten().map(|n| n.top.len()).max().unwrap_or(0);
    let mut entries = Vec::new();
    let mut pieces: Vec<Piece> = Vec::new();
    for ((s, neurons), roles) in selection.iter().zip(ranking).zip(roles) {
        let (n, layer) = (neurons.len(), s.layer);
        let mut real = |name: &str, shape: Vec<usize>, values: Vec<f64>| {
            entries.push(Entry::real(format!("{name}.{layer}"), shape));
            pieces.push(Piece::Real(values));
        };
        let values = |of: fn(&Neuron) -> &Vec<Peak>, width| padded(neurons, of, width, |p| p.value, -1.0);
        real("exemplar.value", vec![n, top], values(|n| &n.top, top));
        real("random.value", vec![n, RANDOM], values(|n| &n.random, RANDOM));
        real("sample.value", vec![n, RANDOM], values(|n| &n.windows, RANDOM));
        real("maximum", vec![n], neurons.iter().map(Neuron::maximum).collect());
        real("firing_rate", vec![n], neurons.iter().map(Neuron::firing_rate).collect());
        let mut integer = |name: &str, shape: Vec<usize>, values: Vec<i64>| {
            entries.push(Entry::integer(format!("{name}.{layer}"), shape));
            pieces.push(Piece::Integer(values));
        };
        integer("neuron", vec![n], s.neurons.iter().map(|&j| j as i64).collect());
        for (name, of, width) in [
            ("exemplar", (|n| &n.top) as fn(&Neuron) -> &Vec<Peak>, top),
            ("random", |n| &n.random, RANDOM),
            ("sample", |n| &n.windows, RANDOM),
        ] {
            integer(&format!("{name}.window"), vec![n, width], padded(neurons, of, width, |p| p.window.into(), -1));
            integer(&format!("{name}.position"), vec![n, width], padded(neurons, of, width, |p| p.position.into(), -1));
        }
        let place = |list: fn(&Roles) -> &Vec<usize>| -> Vec<i64> {
            let of = |r: &Roles, rank| list(r).iter().position(|x| *x == rank).map_or(-1, |i| i as i64);
            roles.iter().flat_map(|r| (0..top).map(move |rank| of(r, rank))).collect()
        };
        integer("exemplar.train", vec![n, top], place(|r| &r.train));
        integer("exemplar.test", vec![n, top], place(|r| &r.test));
        let duplicate = |r: &Roles, rank: usize| r.duplicate_of.get(rank).copied().flatten().map_or(-1, |i| i as i64);
        integer("exemplar.duplicate", vec![n, top], roles.iter().flat_map(|r| (0..top).map(move |k| duplicate(r, k))).collect());
        integer("histogram", vec![n, BINS], neurons.iter().flat_map(|n| n.counts.iter().map(|c| *c as i64)).collect());
    }
    let file = TensorFile::create(path, dtype, metadata, &entries)?;
    for (i, piece) in pieces.iter().enumerate() {
        match piece {
            Piece::Integer(values) => file.write(i, 0, bytemuck::cast_slice(values))?,
            Piece::Real(values) => file.write_real(i, 0, values)?,
        }
    }
    file.finish()
}

enum Piece {
    Real(Vec<f64>),
    Integer(Vec<i64>),
}

/// A number of each peak, `[neurons, width]`, and `missing` where a neuron has fewer.
fn padded<X: Copy>(
    neurons: &[Neuron],
    of: fn(&Neuron) -> &Vec<Peak>,
    width: usize,
    number: fn(&Peak) -> X,
    missing: X,
) -> Vec<X> {
    let row = |n| of(n).iter().map(number).chain(std::iter::repeat(missing)).take(width);
    neurons.iter().flat_map(row).collect()
}
