//! The stages of an N2G run and the files that they leave.

use std::num::NonZeroUsize;
use std::sync::Arc;

use super::super::common::{metadata, typed};
use super::super::neuron_page;
use super::super::run_dir::RunDir;
use super::{Args, Until};
use crate::data::stream::Runner;
use crate::data::{DataSet, Samples};
use crate::error::{Error, Result};
use crate::manifest::Manifest;
use crate::model::{Lm, Loaded, Tokenizer};
use crate::n2g::augment::{Augmenter, Proposer};
use crate::n2g::exemplars::{self, Request};
use crate::n2g::forest::{self, Origin};
use crate::n2g::neuron::{Scene, Subject, without};
use crate::n2g::record::{self, Record, Status};
use crate::n2g::run::{Neurons, roles};
use crate::n2g::settings::Settings;
use crate::n2g::summary::{self, Collector, Summary};
use crate::n2g::text::choose;
use crate::n2g::vocabulary::{Fold, Vocabulary};

/// Windows of unselected text where nothing is said.
const TEXT_WINDOWS: usize = 200;

/// A run that has begun.
pub(super) struct Run<'a> {
    pub args: &'a Args,
    pub loaded: &'a Loaded,
    pub lm: &'a Lm,
    pub tokenizer: Tokenizer,
    pub data: &'a DataSet,
    pub held_out: Option<&'a DataSet>,
    pub proposer: Option<&'a Proposer>,
    pub request: Request,
    pub settings: Settings,
    pub runner: Runner<'a>,
}

impl Run<'_> {
    /// Computes the stages and writes the files of the run.
    pub fn compute(&self, dir: &RunDir, mut manifest: Manifest) -> Result<Option<Summary>> {
        let (args, progress) = (self.args, self.runner.progress);
        let ranking = exemplars::find(&self.runner, self.lm, self.data, &self.request)?;
        let roles = roles(&ranking, self.data, self.request.seed);
        let entries = metadata("n2g", self.loaded, self.data)?;
        exemplars::write(&dir.file(exemplars::FILE), self.lm.dtype, &entries, &self.request.selection, &ranking, &roles)?;
        for (name, bytes) in self.loaded.tokenizer_files()? {
            dir.write(name, &bytes)?;
        }
        // Readers of the run find there which ids are special.
        dir.write("config.json", format!("{:#}\n", self.loaded.config_json).as_bytes())?;
        let texts = self.tokenizer.token_texts()?;
        let exact = Vocabulary::new(texts.clone(), Fold::Exact);
        let vocabulary = Arc::new(Vocabulary::new(texts, self.settings.fold));
        let skip: Vec<u32> = [self.tokenizer.bos()?, self.tokenizer.eos()?].into_iter().flatten().collect();
        let Samples::Tokens { ids, t, .. } = &self.data.samples else {
            return Err(Error::flag("--data", &self.data.name, "token sequences"));
        };
        let model = (self.lm, &self.tokenizer, &exact);
        let augmenter = self.proposer.map(|p| Augmenter::new(self.runner.device, model, p, &self.settings, &skip));
        let scene = Scene {
            device: self.runner.device,
            ids,
            positions: *t,
            vocabulary: &vocabulary,
            exact: &exact,
            settings: &self.settings,
            augmenter: augmenter.as_ref(),
            skip: &skip,
            seed: self.request.seed,
        };
        let folder = dir.checkpoints().folder;
        let neurons = Neurons {
            runner: &self.runner,
            lm: self.lm,
            data: self.data,
            request: &self.request,
            scene: &scene,
            ranking: &ranking,
            roles: &roles,
            folder: &folder,
        };
        let mut collected = Collector::default();
        let mut summary = None;
        if args.until == Until::Exemplars {
            let places = self.request.selection.iter().zip(&ranking).zip(&roles);
            let records = places.flat_map(|((s, found), roles)| {
                let subject =
                    |i: usize| Subject { layer: s.layer, neuron: s.neurons[i], found: &found[i], roles: &roles[i], act: &[] };
                let status = |i: usize| if found[i].maximum() > 0.0 { Status::Done } else { Status::NotPositive };
                (0..found.len()).map(|i| Ok(without(&scene, &subject(i), status(i)).record)).collect::<Vec<_>>()
            });
            write_records(dir, records)?;
        } else {
            neurons.run()?;
            let origin = Origin {
                mode: typed(args.mode),
                model_sha256: self.loaded.sha256.clone(),
                tokenizer_sha256: self.tokenizer.sha256().into(),
            };
            let (tries, lookup) = neurons.tries(origin, vocabulary.clone())?;
            dir.write(forest::FILE, &tries.to_bytes()?)?;
            let (mut tokens, mut scores) = (self.passes(&neurons), Vec::new().into_iter());
            if args.until == Until::Scores {
                let text = self.held_out.unwrap_or(self.data);
                let windows =
                    choose(text.samples.count(), args.text_windows.map_or(TEXT_WINDOWS, NonZeroUsize::get), self.request.seed);
                tokens += (windows.len() * t) as u64;
                scores = neurons.text((&tries, &lookup), text, &windows, self.held_out.is_none())?.into_iter();
            }
            let records = neurons.blocks().flat_map(|block| {
                let block = block.inspect(|b| tokens += b.tokens);
                block.map_or_else(|e| vec![Err(e)], |b| b.outcomes.into_iter().map(|o| Ok(o.record)).collect())
            });
            let scored = records.map(|record: Result<Record>| {
                let mut record = record?;
                let text = scores.next();
                if let Some(own) = &mut record.scores {
                    own.text = text;
                }
                collected.add(&record);
                Ok(record)
            });
            let table = write_records(dir, scored)?;
            dir.write(summary::TABLE, table.as_bytes())?;
            let count: usize = ranking.iter().map(Vec::len).sum();
            let found = collected.finish(tokens as f64 / (count as f64).max(1.0), self.request.seed);
            let json = serde_json::to_vec_pretty(&found).map_err(|e| Error::numeric(summary::FILE, e.to_string(), "numbers"))?;
            dir.write(summary::FILE, &json)?;
            summary = Some(found);
        }
        manifest.plan_bytes = Some(progress.plan_bytes());
        manifest.operations = self.runner.device.placed();
        // The page shows the times.
        manifest.finish(progress.times());
        neuron_page::write(dir, &manifest, summary.as_ref())?;
        dir.finish(manifest, Vec::new())?;
        Ok(summary)
    }
    /// Tokens of the passes over windows: all of them, and those of exemplars once more.
    fn passes(&self, neurons: &Neurons) -> u64 {
        let windows = crate::n2g::windows::wanted(neurons.ranking);
        let again: std::collections::BTreeSet<u32> = windows.into_iter().flatten().flatten().collect();
        ((self.data.samples.count() + again.len()) * self.data.samples.positions()) as u64
    }
}

/// Writes the records, and returns the table of scores.
fn write_records(dir: &RunDir, records: impl Iterator<Item = Result<Record>>) -> Result<String> {
    let mut table = summary::head();
    let mut failed = None;
    dir.write_with(record::FILE, |w| {
        for record in records {
            let line = record.and_then(|r| {
                table += &summary::line(&r);
                serde_json::to_vec(&r).map_err(|e| Error::numeric(record::FILE, e.to_string(), "numbers that JSON can hold"))
            });
            match line {
                Ok(line) => w.write_all(&line).and_then(|()| w.write_all(b"\n"))?,
                Err(e) => {
                    failed = Some(e);
                    break;
                }
            }
        }
        Ok(())
    })?;
    failed.map_or(Ok(table), Err)
}
