//! `mechgraph n2g`: the flags of an N2G run, what they stand for, and the run.

mod stages;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::ValueEnum;

use super::augment::Augment;
use super::common::{Common, DataFlags, Layers, parse_count, parse_non_negative, print};
use super::run_dir::RunDir;
use crate::data::stream::Runner;
use crate::data::{self, DataSet};
use crate::device::{Builder, DType, Device};
use crate::error::{Error, Result};
use crate::manifest::{DeviceInfo, Fingerprint, Manifest, Proposals, Source};
use crate::model::lm::forward::{Inputs, forward};
use crate::model::site::{Place, Site};
use crate::model::{Lm, Loaded, Model, Tokenizer};
use crate::n2g::exemplars::{Request, Selection};
use crate::n2g::settings::{Lengths, Mode, Settings};

use stages::Run;

/// Strongest windows of a neuron where nothing is said.
const TOP: usize = 20;
/// The most of them: all of a neuron's are in memory.
const MAX_TOP: usize = 1000;

/// Turn every neuron of a language model into a graph of the token patterns that fire it
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Folder of the model, or demo:lm
    #[arg(value_name = "MODEL")]
    pub model: String,
    #[command(flatten)]
    pub data: DataFlags,
    /// Folder to write the run into
    #[arg(long, value_name = "RUN")]
    pub out: PathBuf,
    /// exemplars, tries or scores: where to stop
    #[arg(long, value_name = "STAGE", default_value = "scores", hide_possible_values = true)]
    pub until: Until,
    /// Site [default: mlp_mid of SoLU models, else mlp_act]
    #[arg(long, value_name = "SITE")]
    pub site: Option<String>,
    /// Layers, as in 0..6 (without 6) or 0,3 [default: all]
    #[arg(long, value_name = "LAYERS")]
    pub layers: Option<Layers>,
    /// Neurons of each layer, as in 0..64 or 3,17 [default: all]
    #[arg(long, value_name = "NEURONS")]
    pub neurons: Option<Layers>,
    /// Strongest windows of a neuron [default: 20]
    #[arg(long, value_name = "K", value_parser = parse_top)]
    pub top_k: Option<NonZeroUsize>,
    /// Other text for scores on unselected text
    #[arg(long, value_name = "TEXT")]
    pub held_out: Option<String>,
    /// Windows of unselected text to score on [default: 200]
    #[arg(long, value_name = "N")]
    pub text_windows: Option<NonZeroUsize>,
    /// default, reference, paper or openai
    #[arg(long, value_name = "MODE", default_value = "default", hide_possible_values = true)]
    pub mode: ModeName,
    /// none, mlm:DIR or embedding:DIR
    #[arg(long, value_name = "KIND", default_value = "none")]
    pub augment: Augment,
    /// Substitutes of a word
    #[arg(long, value_name = "N")]
    pub substitutes: Option<NonZeroUsize>,
    /// Words of this importance are replaced
    #[arg(long, value_name = "T", value_parser = parse_part)]
    pub substitute_threshold: Option<f64>,
    /// Least probability of a substitute of mlm
    #[arg(long, value_name = "P", value_parser = parse_part)]
    pub substitute_floor: Option<f64>,
    /// Id that masks a token [default: the tokenizer's]
    #[arg(long, value_name = "ID")]
    pub mask_token: Option<u32>,
    /// Pivots have this part of their window's maximum
    #[arg(long, value_name = "P", value_parser = parse_part)]
    pub pivot_share: Option<f64>,
    /// Pivots of a window
    #[arg(long, value_name = "N")]
    pub pivots: Option<NonZeroUsize>,
    /// Pruning tries every N-th length
    #[arg(long, value_name = "N")]
    pub prune_step: Option<NonZeroUsize>,
    /// Most tokens of a suffix; 0: no limit
    #[arg(long, value_name = "N")]
    pub prune_cutoff: Option<usize>,
    /// A suffix keeps this part of the activation
    #[arg(long, value_name = "P", value_parser = parse_part)]
    pub prune_ratio: Option<f64>,
    /// Tokens kept behind the pivot
    #[arg(long, value_name = "N")]
    pub post_context: Option<usize>,
    /// Tokens of a higher importance are part of a pattern
    #[arg(long, value_name = "T", value_parser = parse_part)]
    pub importance_threshold: Option<f64>,
    /// Tokens of a higher activation give a pattern
    #[arg(long, value_name = "T", value_parser = parse_part)]
    pub activation_threshold: Option<f64>,
    /// Tokens of this activation fire
    #[arg(long, value_name = "T", value_parser = parse_part)]
    pub fire_threshold: Option<f64>,
    #[command(flatten)]
    pub common: Common,
}

/// `--until`
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub enum Until {
    Exemplars,
    Tries,
    Scores,
}

/// `--mode`
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModeName {
    Default,
    Reference,
    Paper,
    #[value(name = "openai")]
    OpenAi,
}

impl ModeName {
    fn mode(self) -> Mode {
        match self {
            ModeName::Default => Mode::Default,
            ModeName::Reference => Mode::Reference,
            ModeName::Paper => Mode::Paper,
            ModeName::OpenAi => Mode::OpenAi,
        }
    }
}

impl Args {
    /// Refuses combinations of flags that contradict each other.
    pub fn check(&self) -> Result<()> {
        self.common.check()?;
        self.data.check(&self.model)?;
        if self.until == Until::Exemplars && self.augment != Augment::None {
            return Err(Error::flag("--augment", "--until exemplars beside it", "--until tries or scores, where it is used"));
        }
        match (&self.held_out, self.until) {
            (Some(text), Until::Exemplars | Until::Tries) => {
                Err(Error::flag("--held-out", text, "--until scores, where it is read"))
            }
            _ => Ok(()),
        }
    }
    /// The preset of the mode with what flags change.
    fn settings(&self, mask_token: u32, bos: Option<u32>) -> Settings {
        let mut s = Settings::of(self.mode.mode(), mask_token, bos);
        let set = |to: &mut f64, flag: Option<f64>| *to = flag.unwrap_or(*to);
        set(&mut s.pivot_share, self.pivot_share);
        set(&mut s.prune_ratio, self.prune_ratio);
        set(&mut s.importance_threshold, self.importance_threshold);
        set(&mut s.activation_threshold, self.activation_threshold);
        set(&mut s.fire_threshold, self.fire_threshold);
        set(&mut s.substitute_threshold, self.substitute_threshold);
        set(&mut s.substitute_floor, self.substitute_floor);
        s.substitutes = self.substitutes.map_or(s.substitutes, NonZeroUsize::get);
        s.pivots = self.pivots.map_or(s.pivots, NonZeroUsize::get);
        s.post_context = self.post_context.unwrap_or(s.post_context);
        s.lengths = self.prune_step.map_or(s.lengths, |n| Lengths::Step(n.get()));
        s.prune_cutoff = self.prune_cutoff.map_or(s.prune_cutoff, |n| Some(n).filter(|n| *n > 0));
        s
    }
    /// The site, and the neurons of it that the flags ask for.
    fn selection(&self, model: &Model, lm: &Lm) -> Result<(Site, Vec<Selection>)> {
        let count = model.layers();
        let layers = self.layers.as_ref().map_or_else(|| Ok((0..count).collect()), |l| l.resolve("--layers", count))?;
        let site = match &self.site {
            None => default_site(lm),
            Some(name) => {
                let places = model.places("--site", std::slice::from_ref(name), &layers[..1])?;
                let expected = "a site with one row a position, such as mlp_mid, mlp_act or resid_post";
                match places[..] {
                    [Place { site: Site::Logits | Site::Pattern, .. }] => return Err(Error::flag("--site", name, expected)),
                    [place] if place.layer == layers[0] => place.site,
                    _ => return Err(Error::flag("--site", name, format!("{expected}, without a layer: --layers names those"))),
                }
            }
        };
        let of = |&layer: &usize| {
            let width = width(lm, Place { layer, site })?;
            let all = || Ok((0..width).collect());
            let neurons = self.neurons.as_ref().map_or_else(all, |n| n.resolve_neurons("--neurons", width))?;
            Ok(Selection { layer, neurons })
        };
        Ok((site, layers.iter().map(of).collect::<Result<_>>()?))
    }
    /// The id that masks tokens.
    fn mask_token(&self, tokenizer: &Tokenizer) -> Result<u32> {
        match self.mask_token {
            None => tokenizer.mask_token(),
            Some(id) if (id as usize) < tokenizer.size() => Ok(id),
            Some(id) => {
                let expected = format!("ids below {}, those of the tokenizer", tokenizer.size());
                Err(Error::flag("--mask-token", id.to_string(), expected))
            }
        }
    }
    fn manifest(
        &self,
        loaded: &Loaded,
        data: (&str, &DataSet),
        held_out: Option<&DataSet>,
        augment: Option<&Proposals>,
        device: &Device,
    ) -> Manifest {
        let fingerprint = Fingerprint {
            command: "n2g".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            config: self.common.flags.clone(),
            model: Source::new(loaded.name.clone(), &self.model, loaded.sha256.clone()),
            data: Some(Source::of_data(data.1, data.0)),
            gram_data: None,
            held_out: self.held_out.as_deref().zip(held_out).map(|(spec, set)| Source::of_data(set, spec)),
            augment: augment.cloned(),
            seed: self.common.seed,
            dtype: loaded.model.dtype(),
            backend: device.backend().into(),
        };
        Manifest::new(fingerprint, DeviceInfo::of(device))
    }
}

/// What SoLU models are read at in the papers, and the input of the MLP's last projection elsewhere.
fn default_site(lm: &Lm) -> Site {
    match lm.blocks.first().is_some_and(|b| b.mlp.norm.is_some()) {
        true => Site::MlpMid,
        false => Site::MlpAct,
    }
}

/// The number of neurons at a place.
fn width(lm: &Lm, place: Place) -> Result<usize> {
    let mut b = Builder::new(lm.dtype);
    let inputs = Inputs::new(&mut b, 1, 1, false, None);
    let taps = forward(&mut b, lm, inputs, &[place])?;
    Ok(taps.get(&place).map_or(0, |tap| tap.view.cols))
}

/// The model as N2G reads it. Fails on models that do not read texts from left to right.
fn language_model(loaded: &Loaded) -> Result<std::borrow::Cow<'_, Lm>> {
    let refuse = |found: &str| {
        Err(Error::flag("MODEL", format!("{}, {found}", loaded.name), "a language model that reads from left to right"))
    };
    match loaded.model.lm() {
        None => refuse("a model that reads vectors"),
        Some(lm) if !lm.is_causal => refuse("an encoder"),
        Some(lm) if lm.reads_last => refuse("a model that reads out the last position only"),
        Some(lm) => Ok(lm),
    }
}

/// Runs `mechgraph n2g`.
pub fn run(args: Args) -> Result<()> {
    args.check()?;
    let progress = args.common.progress();
    let device = args.common.device(DType::F32, &progress)?;
    let loaded = Model::load(&args.model, args.common.numbers(&device, DType::F32)?)?;
    let lm = language_model(&loaded)?;
    let tokenizer = loaded.tokenizer()?;
    let (site, selection) = args.selection(&loaded.model, &lm)?;
    let spec = args.data.data.clone().unwrap_or_else(|| args.model.clone());
    let data = args.data.load(&spec, &loaded)?;
    let held_out = args.held_out.as_ref().map(|t| data::load_or_cut(t, &loaded, args.data.cut())).transpose()?;
    let (proposer, proposals) = args.augment.load()?.unzip();
    let bos = data.text.as_ref().and_then(|t| t.bos);
    let settings = args.settings(args.mask_token(&tokenizer)?, bos);
    let top = args.top_k.map_or(TOP, NonZeroUsize::get);
    if top > data.samples.count() {
        let n = data.samples.count();
        progress.note(format!("--top-k {top}, but the text has {n} windows: every neuron has {n} exemplars"));
    }
    let request =
        Request { site, selection, top: top.min(data.samples.count()), skip: usize::from(bos.is_some()), seed: args.common.seed };
    let mut manifest = args.manifest(&loaded, (&spec, &data), held_out.as_ref(), proposals.as_ref(), &device);
    manifest.settings = Some(settings_json(&settings, &request, &lm, proposals.as_ref()));
    let runner = args.common.runner(&device, &progress)?;
    let dir = RunDir::create(&args.out, args.common.force, &manifest)?;
    let runner = Runner { checkpoints: Some(dir.checkpoints()), ..runner };
    let run = Run {
        args: &args,
        loaded: &loaded,
        lm: &lm,
        tokenizer,
        data: &data,
        held_out: held_out.as_ref(),
        proposer: proposer.as_ref(),
        request,
        settings,
        runner,
    };
    let summary = run.compute(&dir, manifest).inspect_err(|_| dir.abandon())?;
    summary.map_or(Ok(()), |s| print(&s.table()))
}

/// All parameters, for the manifest.
fn settings_json(settings: &Settings, request: &Request, lm: &Lm, proposals: Option<&Proposals>) -> serde_json::Value {
    let mut json = serde_json::to_value(settings).unwrap_or_default();
    if let Some(map) = json.as_object_mut() {
        map.insert("site".into(), Place { layer: 0, site: request.site }.name().trim_end_matches(".0").into());
        map.insert("top_k".into(), request.top.into());
        map.insert("family".into(), lm.family.into());
        if let Some(Proposals { kind, model, .. }) = proposals {
            map.insert("augment".into(), serde_json::json!({"kind": kind, "name": model.name, "sha256": model.sha256}));
        }
    }
    json
}

fn parse_top(text: &str) -> std::result::Result<NonZeroUsize, String> {
    parse_count(text, MAX_TOP)
}

/// A number from 0 to 1.
fn parse_part(text: &str) -> std::result::Result<f64, String> {
    parse_non_negative(text).ok().filter(|p| *p <= 1.0).ok_or_else(|| "expected a number from 0 to 1".into())
}
