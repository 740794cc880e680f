//! The activations of neurons on windows of their own: a second pass over those windows alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::exemplars::{Ranking, Request};
use crate::data::DataSet;
use crate::data::stream::{Input, Pass, Runner};
use crate::data::tensor_file::{Entry, TensorFile};
use crate::data::visit::{Block, visit};
use crate::device::{Builder, View};
use crate::error::{Error, Result};
use crate::model::forward::Batch;
use crate::model::{Checkpoint, Lm};

/// The windows of each neuron, by layer and neuron: its exemplars, strongest first.
pub type Wanted = Vec<Vec<Vec<u32>>>;

/// The windows that a ranking names.
pub fn wanted(ranking: &Ranking) -> Wanted {
    let of = |n: &super::exemplars::Neuron| n.top.iter().map(|p| p.window).collect();
    ranking.iter().map(|neurons| neurons.iter().map(of).collect()).collect()
}

/// Activations of neurons on their windows, in a file.
#[derive(Debug)]
pub struct Activations {
    file: Checkpoint,
    /// By layer of the selection.
    names: Vec<String>,
    slots: usize,
    positions: usize,
}

impl Activations {
    /// Those of a neuron, by the places of layer and neuron in the selection: `[its windows, positions]`.
    pub fn of(&self, layer: usize, neuron: usize, windows: usize) -> Result<Vec<Vec<f64>>> {
        let start = neuron * self.slots * self.positions;
        let values = self.file.part_f64(&self.names[layer], start..start + windows * self.positions)?;
        Ok(values.chunks_exact(self.positions).map(<[f64]>::to_vec).collect())
    }
}

/// The forward pass up to the last layer of a selection.
#[derive(Debug)]
pub(super) struct Plan {
    pub pass: Pass,
    /// By layer of the selection: the site, `[rows, width]`.
    pub layers: Vec<View>,
}

impl AsRef<Pass> for Plan {
    fn as_ref(&self) -> &Pass {
        &self.pass
    }
}

/// Runs the model on every window that a neuron wants and keeps that neuron's activations in `path`, which
/// is left as it is where it is there already: only complete files have that name.
pub fn gather(runner: &Runner, lm: &Lm, data: &DataSet, request: &Request, wanted: &Wanted, path: &Path) -> Result<Activations> {
    let positions = data.samples.positions();
    let slots = wanted.iter().flatten().map(Vec::len).max().unwrap_or(0);
    let names: Vec<String> = request.selection.iter().map(|s| format!("activation.{}", s.layer)).collect();
    if !path.exists() {
        // By window: layer, column, and row of the file.
        let mut readers: BTreeMap<u32, Vec<(usize, usize, usize)>> = BTreeMap::new();
        for (l, (selection, neurons)) in request.selection.iter().zip(wanted).enumerate() {
            for (i, windows) in neurons.iter().enumerate() {
                for (slot, window) in windows.iter().enumerate() {
                    readers.entry(*window).or_default().push((l, selection.neurons[i], i * slots + slot));
                }
            }
        }
        let windows: Vec<usize> = readers.keys().map(|w| *w as usize).collect();
        let subset = data.sequences(&windows)?;
        let entry =
            |(name, neurons): (&String, &Vec<Vec<u32>>)| Entry::real(name.clone(), vec![neurons.len() * slots, positions]);
        let entries: Vec<Entry> = names.iter().zip(wanted).map(entry).collect();
        let readers: Vec<_> = readers.into_values().collect();
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, "creating the folder", e))?;
        }
        let file = TensorFile::create(path, lm.dtype, &BTreeMap::new(), &entries)?;
        let look = |plan: &Plan, mut block: Block| {
            for (s, window) in block.samples.clone().enumerate() {
                for &(layer, column, row) in &readers[window] {
                    let values = block.column(&plan.layers[layer], s * positions..(s + 1) * positions, column)?;
                    file.write_real(layer, row, &values)?;
                }
            }
            Ok(())
        };
        visit(runner, "windows", &subset, 0, |batch| plan(lm, request, batch), look, Ok)?;
        file.finish()?;
    }
    Ok(Activations { file: Checkpoint::open(path)?, names, slots, positions })
}

/// Where the file of a RUN lies while the run lasts.
pub fn path(folder: &Path) -> PathBuf {
    folder.join("activations.safetensors")
}

/// The plan of a batch of windows.
pub(super) fn plan(lm: &Lm, request: &Request, batch: Batch) -> Result<Plan> {
    let mut b = Builder::new(lm.dtype);
    let (inputs, layers) = request.sites(&mut b, lm, batch)?;
    let pass = Pass { program: b.finish(), input: Input::Packed(inputs), reads: Vec::new(), labels: None, first: None };
    Ok(Plan { pass, layers })
}
