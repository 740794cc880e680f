//! The stages of a run, each of which goes on where it was killed: exemplars, neurons block by block, scores
//! on text.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::evaluate::Lookup;
use super::exemplars::{Ranking, Request, Roles};
use super::forest::{Origin, Tries};
use super::neuron::{Outcome, Scene, Subject, build, without};
use super::predict::Predictor;
use super::probe::Probe;
use super::record::{Status, TextScores};
use super::split::{duplicates, split};
use super::text::{self, Scored, Text};
use super::vocabulary::Vocabulary;
use super::windows::{self, Activations, gather, wanted};
use crate::data::checkpoint::replace;
use crate::data::stream::Runner;
use crate::data::{DataSet, Samples};
use crate::error::{Error, Result};
use crate::model::Lm;
use crate::model::site::Place;

/// Neurons that are done together, and lost together by a kill.
const BLOCK: usize = 128;

/// By layer and neuron of the selection, which exemplars train and which are held out.
pub fn roles(ranking: &Ranking, data: &DataSet, seed: u64) -> Vec<Vec<Roles>> {
    let Samples::Tokens { ids, t, .. } = &data.samples else { return Vec::new() };
    let of = |n: &super::exemplars::Neuron| {
        let window = |w: u32| &ids[w as usize * t..(w as usize + 1) * t];
        let found: Vec<_> = n.top.iter().map(|p| (window(p.window), p.position as usize)).collect();
        let (train, test) = split(n.top.len(), seed as u32);
        Roles { train, test, duplicate_of: duplicates(&found) }
    };
    ranking.iter().map(|neurons| neurons.iter().map(of).collect()).collect()
}

/// What the stage of neurons needs.
#[derive(Debug)]
pub struct Neurons<'a> {
    pub runner: &'a Runner<'a>,
    pub lm: &'a Lm,
    pub data: &'a DataSet,
    pub request: &'a Request,
    pub scene: &'a Scene<'a>,
    pub ranking: &'a Ranking,
    pub roles: &'a [Vec<Roles>],
    /// Where blocks that are done are kept.
    pub folder: &'a Path,
}

/// A block that is done.
#[derive(Debug, Serialize, Deserialize)]
pub struct Block {
    /// Tokens of forward passes over prompts.
    pub tokens: u64,
    pub outcomes: Vec<Outcome>,
}

impl Neurons<'_> {
    /// Does every block that is not there yet. They are then in files: see [`Neurons::blocks`].
    pub fn run(&self) -> Result<()> {
        let activations =
            gather(self.runner, self.lm, self.data, self.request, &wanted(self.ranking), &windows::path(self.folder))?;
        let total: usize = self.request.selection.iter().map(|s| s.neurons.len()).sum();
        let stage = self.runner.progress.stage("neurons", total as u64, "neurons");
        for (l, selection) in self.request.selection.iter().enumerate() {
            let probe = Probe::new(
                self.runner.device,
                self.lm,
                Place { layer: selection.layer, site: self.request.site },
                self.runner.memory,
            );
            for from in (0..selection.neurons.len()).step_by(BLOCK) {
                let to = (from + BLOCK).min(selection.neurons.len());
                let path = self.path(l, from);
                if path.exists() {
                    stage.skip((to - from) as u64);
                    continue;
                }
                let passes = || probe.tokens() + self.scene.augmenter.map_or(0, |a| a.tokens());
                let before = passes();
                let outcomes = self.block(&probe, &activations, l, from..to)?;
                write(&path, &Block { tokens: passes() - before, outcomes })?;
                stage.add((to - from) as u64);
            }
        }
        Ok(())
    }
    /// Every block, in order.
    pub fn blocks(&self) -> impl Iterator<Item = Result<Block>> + '_ {
        let blocks = self.request.selection.iter().enumerate();
        blocks.flat_map(move |(l, s)| (0..s.neurons.len()).step_by(BLOCK).map(move |from| read(&self.path(l, from))))
    }
    fn path(&self, layer: usize, from: usize) -> PathBuf {
        self.folder.join(format!("neurons-{layer}-{from}.json"))
    }
    fn block(&self, probe: &Probe, activations: &Activations, l: usize, range: std::ops::Range<usize>) -> Result<Vec<Outcome>> {
        let selection = &self.request.selection[l];
        // Activations of the exemplars; a neuron that has none that are finite says so.
        let mut acts: BTreeMap<usize, Result<Vec<Vec<f64>>>> = BTreeMap::new();
        let is_positive = |i: usize| self.ranking[l][i].maximum() > 0.0;
        for i in range.clone() {
            let found = &self.ranking[l][i];
            let act = match found.not_finite() {
                0 => activations.of(l, i, found.top.len()),
                n => Err(Error::numeric("its activations", format!("{n} that are not finite"), "finite numbers")),
            };
            acts.insert(i, act);
        }
        let none: Vec<Vec<f64>> = Vec::new();
        let subject = |i: usize| Subject {
            layer: selection.layer,
            neuron: selection.neurons[i],
            found: &self.ranking[l][i],
            roles: &self.roles[l][i],
            act: acts[&i].as_ref().unwrap_or(&none),
        };
        let ready: Vec<usize> = range.clone().filter(|i| is_positive(*i) && acts[i].is_ok()).collect();
        let subjects: Vec<Subject> = ready.iter().map(|&i| subject(i)).collect();
        let mut outcomes: BTreeMap<usize, Outcome> = BTreeMap::new();
        match build(self.scene, probe, &subjects) {
            Ok(all) => outcomes.extend(ready.into_iter().zip(all)),
            // One of them spoils the block: each on its own, and the one that fails again says why.
            Err(_) => {
                for (i, s) in ready.into_iter().zip(&subjects) {
                    let alone = build(self.scene, probe, std::slice::from_ref(s)).map(|mut one| one.remove(0));
                    outcomes.insert(i, alone.unwrap_or_else(|e| without(self.scene, s, Status::Failed(e.to_string()))));
                }
            }
        }
        for i in range {
            let status = match &acts[&i] {
                Err(e) => Status::Failed(e.to_string()),
                Ok(_) => Status::NotPositive,
            };
            outcomes.entry(i).or_insert_with(|| without(self.scene, &subject(i), status));
        }
        Ok(outcomes.into_values().collect())
    }
    /// The tries of all neurons, and their baselines.
    pub fn tries(&self, origin: Origin, vocabulary: Arc<Vocabulary>) -> Result<(Tries, Lookup)> {
        let (mut tries, mut baselines) = (Vec::new(), Vec::new());
        for block in self.blocks() {
            for Outcome { record, trie, baselines: own } in block?.outcomes {
                tries.push(((record.layer as u32, record.neuron as u32), trie));
                baselines.push(own);
            }
        }
        let lookup = Lookup::new(baselines.iter(), self.scene.exact);
        Ok((Tries::new(origin, self.scene.settings.choice(), vocabulary, tries)?, lookup))
    }
    /// Scores of [`Neurons::tries`] on `windows` of a text, by neuron in their order. With `is_own` the text
    /// is that of the exemplars, and what a neuron was trained on does not count.
    pub fn text(
        &self,
        (tries, lookup): (&Tries, &Lookup),
        text: &DataSet,
        windows: &[usize],
        is_own: bool,
    ) -> Result<Vec<TextScores>> {
        let trained: Vec<Vec<u32>> = self
            .ranking
            .iter()
            .zip(self.roles)
            .flat_map(|(neurons, roles)| {
                let of = |(n, r): (&super::exemplars::Neuron, &Roles)| {
                    if is_own { r.train.iter().map(|&rank| n.top[rank].window).collect() } else { Vec::new() }
                };
                neurons.iter().zip(roles).map(of).collect::<Vec<_>>()
            })
            .collect();
        let places = self.request.selection.iter().enumerate().flat_map(|(l, s)| (0..s.neurons.len()).map(move |i| (l, i)));
        let neurons: Vec<Scored> = places
            .zip(&trained)
            .map(|((layer, i), known)| {
                let neuron = self.request.selection[layer].neurons[i];
                // Without a positive maximum nothing fires, and the scores are not used.
                let a_max = Some(self.ranking[layer][i].maximum()).filter(|m| *m > 0.0).unwrap_or(f64::INFINITY);
                Scored { layer, neuron, a_max, known }
            })
            .collect();
        let predictor = Predictor::new(self.runner.device, tries)?;
        let settings = self.scene.settings;
        let what = Text {
            lm: self.lm,
            request: self.request,
            settings,
            exact: self.scene.exact,
            predictor: &predictor,
            lookup,
            neurons: &neurons,
        };
        text::score(self.runner, &what, text, windows)
    }
}

fn write(path: &Path, block: &Block) -> Result<()> {
    let json = serde_json::to_vec(block).map_err(|e| Error::file(path, e.to_string(), "numbers that JSON can hold"))?;
    replace(path, &json)
}

fn read(path: &Path) -> Result<Block> {
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, "reading", e))?;
    serde_json::from_slice(&bytes).map_err(|e| Error::file(path, format!("a damaged block ({e})"), "one that this run wrote"))
}
