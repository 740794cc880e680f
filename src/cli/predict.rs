//! `mechgraph predict`: what the tries of a run say of new text. The model is not needed.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::common::{Common, print};
use super::neuron::{Neuron, Opened};
use crate::data::{Documents, TextKind, joined_tokens, load_tokens, text_of};
use crate::device::DType;
use crate::error::{Error, Result};
use crate::model::Tokenizer;
use crate::n2g::forest::{FILE, Tries};
use crate::n2g::predict::{Hit, Predictor};

/// Tokens in a window where neither the command nor the run says so.
const WINDOW: usize = 128;
/// Windows that are handed to the device at a time.
const AT_ONCE: usize = 1024;

/// Predict activations on new text by the tries of a run
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Folder of a finished n2g run
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// The text
    #[arg(long, value_name = "S", required_unless_present = "data", conflicts_with = "data")]
    pub text: Option<String>,
    /// FILE or FILE#NAME: .txt, .jsonl or safetensors tokens
    #[arg(long, value_name = "DATA")]
    pub data: Option<String>,
    /// Tokens in a window of DATA [default: as in the run]
    #[arg(long, value_name = "N")]
    pub window: Option<NonZeroUsize>,
    /// Only this neuron, and every token
    #[arg(long, value_name = "L:N")]
    pub neuron: Option<Neuron>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub common: Common,
}

impl Args {
    /// Refuses combinations of flags that contradict each other.
    pub fn check(&self) -> Result<()> {
        match (self.window, &self.text) {
            (Some(window), Some(_)) => {
                Err(Error::flag("--window", format!("{window} beside --text"), "--data: a text given as such is one window"))
            }
            _ => self.common.check(),
        }
    }
}

/// Runs `mechgraph predict`.
pub fn run(args: Args) -> Result<()> {
    args.check()?;
    let source = Source::new(&args.run)?;
    let number = args.neuron.map(|which| source.find(which)).transpose()?;
    let windows = source.windows(&args)?;
    let device = args.common.device(DType::F32, &args.common.progress())?;
    let predictor = Predictor::new(&device, &source.tries)?;
    let mut out = Output { source: &source, is_json: args.json, has_windows: args.data.is_some(), rows: 0 };
    out.begin()?;
    for (i, some) in windows.chunks(AT_ONCE).enumerate() {
        match number {
            Some(number) => out.every_token(number, some, i * AT_ONCE)?,
            None => out.hits(&predictor, some, i * AT_ONCE)?,
        }
    }
    out.end()
}

/// What a run left that predicts.
struct Source {
    run: Opened,
    tries: Tries,
    tokenizer: Tokenizer,
}

impl Source {
    /// Fails on a folder that is no finished n2g run, that lacks a part or has one of another run.
    fn new(path: &Path) -> Result<Self> {
        let run = Opened::new(path)?;
        let tries = run
            .tries()?
            .ok_or_else(|| Error::file(&run.dir.file(FILE), "no such file", "the tries of a run that went as far as tries"))?;
        let tokenizer = run.tokenizer()?;
        run.check_origin(&tries, &tokenizer)?;
        Ok(Self { run, tries, tokenizer })
    }
    /// The number of a neuron's trie.
    fn find(&self, which: Neuron) -> Result<usize> {
        let number = |which: Neuron| self.tries.find(which.layer.try_into().ok()?, which.neuron.try_into().ok()?);
        number(which).ok_or_else(|| {
            let neurons = &self.tries.neurons;
            let ends = [neurons.first(), neurons.last()].map(|n| n.map_or("none".into(), |n| format!("{}:{}", n.0, n.1)));
            let expected = format!("one of the {} that the run has, {} to {}", neurons.len(), ends[0], ends[1]);
            Error::flag("--neuron", which.to_string(), expected)
        })
    }
    /// The ids of the text, or of the windows of the file; each begins with the BOS token where those of the
    /// run did. What fills no window is dropped. Sequences of ids are taken as they are.
    fn windows(&self, args: &Args) -> Result<Vec<Vec<u32>>> {
        let text = self.run.manifest.fingerprint.data.as_ref().and_then(|data| data.text.as_ref());
        let bos = text.and_then(|text| text.bos);
        let window = |ids: &[u32]| bos.into_iter().chain(ids.iter().copied()).collect();
        let Some(data) = &args.data else {
            let ids = self.tokenizer.encode(args.text.as_deref().unwrap_or_default())?;
            return match ids.is_empty() {
                true => Err(Error::flag("--text", "a text without tokens", "one with a token at least")),
                false => Ok(vec![window(&ids)]),
            };
        };
        let Some((path, kind)) = text_of(data)? else {
            if args.window.is_some() {
                return Err(Error::flag("--window", format!("{data}, which is no text"), "a .txt or .jsonl file as the data"));
            }
            return load_tokens(data, self.tries.vocabulary.size());
        };
        let length = args.window.map_or(text.map_or(WINDOW, |text| text.window), NonZeroUsize::get);
        let Some(own) = length.checked_sub(usize::from(bos.is_some())).filter(|own| *own > 0) else {
            return Err(Error::flag("--window", length.to_string(), "at least 2: the run's windows begin with the BOS token"));
        };
        let documents = Documents::read(path, kind)?;
        let eos = if kind == TextKind::Jsonl { self.tokenizer.eos()? } else { None };
        let ids = joined_tokens(&documents.texts, &self.tokenizer, eos)?;
        if ids.len() < own {
            let found = format!("a text whose tokens number {}", ids.len());
            return Err(Error::file(path, found, format!("at least {own}, those of one window")));
        }
        Ok(ids.chunks_exact(own).map(window).collect())
    }
}

/// Prints predictions as they come: a table, or one JSON object with a prediction a line.
struct Output<'a> {
    source: &'a Source,
    is_json: bool,
    has_windows: bool,
    rows: usize,
}

impl Output<'_> {
    fn begin(&self) -> Result<()> {
        let (tries, window) = (&self.source.tries, if self.has_windows { "window  " } else { "" });
        match self.is_json {
            true => {
                let choice = tries.forest.choice.name();
                print(&format!(
                    "{{\"schema_version\":1,\"mode\":{},\"choice\":\"{choice}\",\"predictions\":[",
                    json!(tries.origin.mode)
                ))
            }
            false => print(&format!("{window}position  neuron         value  token\n")),
        }
    }
    fn end(&self) -> Result<()> {
        if self.is_json { print("\n]}\n") } else { Ok(()) }
    }
    /// All that is predicted, `first` being the number of the first window.
    fn hits(&mut self, predictor: &Predictor, windows: &[Vec<u32>], first: usize) -> Result<()> {
        predictor.each(windows, |hits| {
            let rows = hits.iter().map(|hit| self.row(hit, windows, first)).collect::<String>();
            print(&rows)
        })
    }
    /// What one neuron's trie says of every token, 0 where nothing.
    fn every_token(&mut self, number: usize, windows: &[Vec<u32>], first: usize) -> Result<()> {
        let (tries, trie) = (&self.source.tries, self.source.tries.trie(number));
        for (sequence, window) in windows.iter().enumerate() {
            let unknown =
                |id: &u32| Error::shape("trie match", format!("token id {id}"), format!("ids below {}", tries.vocabulary.size()));
            let key = |id: &u32| tries.vocabulary.key(*id).ok_or_else(|| unknown(id));
            let keys = window.iter().map(key).collect::<Result<Vec<u32>>>()?;
            let value = |position| trie.predict(&keys, position, tries.forest.choice).unwrap_or(0.0) as f32;
            let hit = |position| Hit { sequence, position, neuron: number, value: value(position) };
            print(&(0..keys.len()).map(|position| self.row(&hit(position), windows, first)).collect::<String>())?;
        }
        Ok(())
    }
    fn row(&mut self, hit: &Hit, windows: &[Vec<u32>], first: usize) -> String {
        let Hit { position, value, .. } = *hit;
        let (window, id) = (first + hit.sequence, windows[hit.sequence][position]);
        let (token, (layer, neuron)) = (self.source.tries.vocabulary.text(id), self.source.tries.neurons[hit.neuron]);
        self.rows += 1;
        if self.is_json {
            let comma = if self.rows > 1 { "," } else { "" };
            let window = if self.has_windows { format!("\"window\":{window},") } else { String::new() };
            let token = json!(token);
            return format!(
                "{comma}\n{{{window}\"position\":{position},\"id\":{id},\"token\":{token},\"layer\":{layer},\"neuron\":{neuron},\"value\":{value:?}}}"
            );
        }
        let window = if self.has_windows { format!("{window:>6}  ") } else { String::new() };
        format!("{window}{position:>8}  {:<10} {value:>9.4}  {token:?}\n", format!("{layer}:{neuron}"))
    }
}
