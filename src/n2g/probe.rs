//! Single neurons on many short prompts: forward passes packed across neurons and prompts, which stop at
//! the neurons' layer and read out no more than what is asked for.
//!
//! Variants of a prompt share the rows in front of the first token that differs, so that masking each
//! position of a prompt of L tokens costs L (L + 1) / 2 rows instead of L squared. Nothing here knows
//! what prompts are for.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use crate::data::packed::Packed;
use crate::data::session::Session;
use crate::device::{Builder, Device, Program, View};
use crate::error::{Error, Result};
use crate::model::Lm;
use crate::model::lm::forward::{Inputs, forward};
use crate::model::site::Place;
use crate::ops::{Launch, scratch};

/// Rows of a full batch.
const ROWS: usize = 1024;
/// The fewest rows of a batch: smaller ones are filled up.
const FEWEST_ROWS: usize = 128;

/// A prompt and variants of it, for one neuron.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Family {
    /// Column of the site.
    pub neuron: usize,
    /// Token ids of the prompt: at least one.
    pub base: Vec<u32>,
    /// Positions of the prompt that are read, ascending.
    pub reads: Vec<usize>,
    pub variants: Vec<Variant>,
}

/// A prompt that begins as another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// Tokens that it has in common with the other one, at most all of them.
    pub at: usize,
    /// What follows: at least one token.
    pub tokens: Vec<u32>,
    /// Positions that are read, from `at` on, ascending.
    pub reads: Vec<usize>,
}

/// Activations of a [`Family`], in the order of its reads.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    pub base: Vec<f64>,
    pub variants: Vec<Vec<f64>>,
}

impl Family {
    fn rows(&self) -> usize {
        self.base.len() + self.variants.iter().map(|v| v.tokens.len()).sum::<usize>()
    }
}

/// What a program is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Shape {
    rows: usize,
    /// Keys of all sequences; as many as rows where none share any.
    keys: usize,
    /// Rows that are read out; `None`: all.
    reads: Option<usize>,
    longest: usize,
}

/// A program in its arena, and where the site is.
#[derive(Debug)]
struct Ready {
    session: Session,
    site: View,
}

/// Runs families at one site of one layer.
#[derive(Debug)]
pub struct Probe<'a> {
    device: &'a Device,
    lm: &'a Lm,
    place: Place,
    lanes: Vec<Mutex<Lane>>,
    /// Bytes that the programs of a lane may hold together.
    memory: u64,
    tokens: AtomicU64,
}

/// The programs of a thread.
#[derive(Debug, Default)]
struct Lane {
    ready: HashMap<Shape, Ready>,
    bytes: u64,
}

/// Some variants of a family, and the family.
struct Part<'f> {
    /// Number of the family, and of the first of its variants.
    family: usize,
    from: usize,
    base: &'f Family,
    variants: &'f [Variant],
}

impl Part<'_> {
    fn rows(&self) -> usize {
        self.base.base.len() + self.variants.iter().map(|v| v.tokens.len()).sum::<usize>()
    }
}

impl<'a> Probe<'a> {
    /// A probe of `place`, a site with one row a position, whose programs hold at most `memory` bytes. The
    /// model must be causal.
    pub fn new(device: &'a Device, lm: &'a Lm, place: Place, memory: u64) -> Self {
        let lanes: Vec<_> = (0..device.lanes()).map(|_| Mutex::default()).collect();
        let memory = memory / lanes.len().max(1) as u64;
        Self { device, lm, place, lanes, memory, tokens: AtomicU64::new(0) }
    }
    /// Tokens of the longest sequence that the model reads.
    pub fn longest(&self) -> usize {
        self.lm.n_ctx
    }
    /// Rows of sequences computed so far, without those that fill batches up.
    pub fn tokens(&self) -> u64 {
        self.tokens.load(Ordering::Relaxed)
    }
    /// The activations of every family. They depend on the families alone, not on threads.
    pub fn run(&self, families: &[Family]) -> Result<Vec<Answer>> {
        let batches = batches(families);
        let run = |batch: &Vec<Part>| self.run_batch(batch);
        let answers: Vec<Result<_>> = self.device.host().install(|| batches.par_iter().map(run).collect());
        let empty = |f: &Family| Answer { base: Vec::new(), variants: vec![Vec::new(); f.variants.len()] };
        let mut all: Vec<Answer> = families.iter().map(empty).collect();
        for (batch, answers) in batches.iter().zip(answers) {
            for (part, answer) in batch.iter().zip(answers?) {
                let whole = &mut all[part.family];
                whole.base = answer.base;
                whole.variants[part.from..part.from + part.variants.len()].clone_from_slice(&answer.variants);
            }
        }
        Ok(all)
    }
    fn run_batch(&self, batch: &[Part]) -> Result<Vec<Answer>> {
        let mut packed = Packed::default();
        // The rows that are read, and of which neuron.
        let mut cells: Vec<(usize, usize)> = Vec::new();
        let mut longest = 0;
        for part in batch {
            let (start, base) = (packed.rows(), part.base);
            packed.push(&base.base);
            longest = longest.max(base.base.len());
            cells.extend(base.reads.iter().map(|t| (start + t, base.neuron)));
            for v in part.variants {
                let row = packed.rows();
                packed.push_behind(start..start + v.at, &v.tokens);
                longest = longest.max(v.at + v.tokens.len());
                cells.extend(v.reads.iter().map(|t| (row + t - v.at, base.neuron)));
            }
        }
        self.tokens.fetch_add(packed.rows() as u64, Ordering::Relaxed);
        let shape = self.shape(&packed, cells.len(), longest);
        if shape.reads.is_some() {
            packed.read(&cells.iter().map(|(row, _)| *row as u32).collect::<Vec<_>>());
            cells.iter_mut().enumerate().for_each(|(i, cell)| cell.0 = i);
        }
        packed.fill_up(shape.rows, shape.reads.unwrap_or(0));
        packed.fill_keys(shape.keys);
        let lane = rayon::current_thread_index().unwrap_or(0) % self.lanes.len();
        let mut lane = self.lanes[lane].lock().unwrap_or_else(PoisonError::into_inner);
        let ready = self.ready(&mut lane, shape)?;
        ready.session.run(&packed)?;
        let mut values = ready.session.read_elements(&ready.site, &cells)?.into_iter();
        let mut take = |n: usize| values.by_ref().take(n).collect::<Vec<f64>>();
        let answer = |part: &Part| Answer {
            base: take(part.base.reads.len()),
            variants: part.variants.iter().map(|v| take(v.reads.len())).collect(),
        };
        Ok(batch.iter().map(answer).collect())
    }
    /// The shape of a batch: few serve all.
    fn shape(&self, packed: &Packed, reads: usize, longest: usize) -> Shape {
        let rows = packed.rows().next_power_of_two().max(FEWEST_ROWS);
        // Every row that fills up is a key too.
        let keys = packed.keys() + rows - packed.rows();
        let keys = std::iter::successors(Some(rows), |k| Some(2 * k)).find(|k| *k >= keys).unwrap_or(keys);
        let reads = [rows / 64, rows / 16, rows / 4].into_iter().find(|m| *m >= reads.max(1));
        // A program for long sequences serves short ones, but its tables grow with them.
        let longest = longest.next_power_of_two().max(64).min(self.lm.n_ctx);
        Shape { rows, keys, reads, longest }
    }
    /// The program of a shape. Where there is no room for one more, the others of the lane make it.
    fn ready<'l>(&self, lane: &'l mut Lane, shape: Shape) -> Result<&'l mut Ready> {
        if !lane.ready.contains_key(&shape) {
            let (program, inputs, site) = self.program(shape)?;
            let bytes = program.bytes().saturating_add(scratch::bytes(&program));
            if bytes > self.memory {
                let hint = format!(" for prompts of {} tokens on each thread; fewer --threads need less", shape.rows);
                return Err(Error::Memory { asked: bytes, free: self.memory, hint });
            }
            if lane.bytes + bytes > self.memory {
                *lane = Lane::default();
            }
            lane.bytes += bytes;
            lane.ready.insert(shape, Ready { session: Session::new(self.device, program, inputs)?, site });
        }
        lane.ready.get_mut(&shape).ok_or_else(|| Error::numeric("probe", "no program", "the one that was made"))
    }
    fn program(&self, shape: Shape) -> Result<(Program<Launch>, Inputs, View)> {
        let mut b = Builder::new(self.lm.dtype);
        let queries = shape.reads.map(|m| (self.place.layer, m));
        let inputs = match shape.keys == shape.rows {
            true => Inputs::new(&mut b, shape.rows, shape.longest, false, queries),
            false => Inputs::sharing(&mut b, shape.rows, shape.keys, shape.longest, queries),
        };
        let taps = forward(&mut b, self.lm, inputs, &[self.place])?;
        let site = taps.get(&self.place).map(|tap| tap.view).ok_or_else(|| {
            Error::numeric("probe", format!("no site {}", self.place.name()), "a site that the forward pass gives")
        })?;
        Ok((b.finish(), inputs, site))
    }
}

/// The parts of families that run together, long ones first. A family whose variants do not fit into a
/// batch takes several, its prompt in each.
fn batches(families: &[Family]) -> Vec<Vec<Part<'_>>> {
    let mut parts: Vec<Part> = families.iter().enumerate().flat_map(|(i, f)| split(i, f)).collect();
    parts.sort_by_key(|p| std::cmp::Reverse(p.rows()));
    let mut batches: Vec<Vec<Part>> = Vec::new();
    let mut free = 0;
    for part in parts {
        let rows = part.rows();
        match batches.last_mut().filter(|_| rows <= free) {
            Some(batch) => batch.push(part),
            None => {
                free = ROWS.max(rows);
                batches.push(vec![part]);
            }
        }
        free -= rows;
    }
    batches
}

fn split(family: usize, base: &Family) -> Vec<Part<'_>> {
    if base.rows() <= ROWS {
        return vec![Part { family, from: 0, base, variants: &base.variants }];
    }
    let (mut parts, mut from, mut rows) = (Vec::new(), 0, base.base.len());
    for (i, v) in base.variants.iter().enumerate() {
        if rows + v.tokens.len() > ROWS && i > from {
            parts.push(Part { family, from, base, variants: &base.variants[from..i] });
            (from, rows) = (i, base.base.len());
        }
        rows += v.tokens.len();
    }
    parts.push(Part { family, from, base, variants: &base.variants[from..] });
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Cpu, DType};
    use crate::model::fixture::transformer_config;
    use crate::model::site::Site;
    use crate::model::{ActFn, Model, Norm, random_transformer};

    fn model() -> Lm {
        let config = crate::model::TransformerConfig { n_ctx: 80, ..transformer_config(Norm::Ln, ActFn::SoluLn) };
        let model = Model::Transformer(random_transformer(config, DType::F64, 3).unwrap());
        model.lm().unwrap().into_owned()
    }

    fn tokens(n: usize, seed: usize) -> Vec<u32> {
        (0..n).map(|i| ((i * i * 5 + i * seed + seed) % 11) as u32).collect()
    }

    /// Every token of a prompt replaced by 7 in turn, all positions behind it read.
    fn masked(base: Vec<u32>, neuron: usize) -> Family {
        let variant = |k: usize| {
            let tokens = [&[7], &base[k + 1..]].concat();
            Variant { at: k, tokens, reads: (k..base.len()).collect() }
        };
        let variants = (0..base.len()).map(variant).collect();
        Family { neuron, reads: (0..base.len()).collect(), variants, base }
    }

    #[test]
    fn variants_that_share_rows_are_what_they_are_alone() {
        let (lm, device) = (model(), Device::Cpu(Cpu::new(2).unwrap()));
        for layer in 0..lm.blocks.len() {
            let probe = Probe::new(&device, &lm, Place { layer, site: Site::MlpMid }, 1 << 24);
            let families: Vec<Family> = [1, 2, 5, 9, 17, 40].iter().map(|&n| masked(tokens(n, n), n % 7)).collect();
            let together = probe.run(&families).unwrap();
            assert_eq!(probe.tokens(), families.iter().map(|f| f.rows() as u64).sum::<u64>());
            for (f, answer) in families.iter().zip(&together) {
                for (v, values) in f.variants.iter().zip(&answer.variants) {
                    let base = [&f.base[..v.at], &v.tokens].concat();
                    let alone = Family { neuron: f.neuron, base, reads: v.reads.clone(), variants: vec![] };
                    let alone = &probe.run(&[alone]).unwrap()[0].base;
                    let error = alone.iter().zip(values).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                    assert!(error < 1e-13 && values.len() == v.reads.len(), "layer {layer}, position {}: {error}", v.at);
                }
            }
        }
    }

    #[test]
    fn what_fits_no_memory_is_refused_before_it_is_made() {
        let (lm, device) = (model(), Device::Cpu(Cpu::new(1).unwrap()));
        let probe = Probe::new(&device, &lm, Place { layer: 1, site: Site::MlpAct }, 1000);
        let e = probe.run(&[masked(tokens(5, 1), 0)]).unwrap_err().to_string();
        assert!(e.contains("for prompts of 128 tokens on each thread"), "{e}");
        // Room for one program at a time: the answers are the same.
        let families = [masked(tokens(5, 1), 0), masked(tokens(60, 1), 0)];
        let bytes = |shape| probe.program(shape).unwrap().0.bytes();
        let large = bytes(Shape { rows: 2048, keys: 4096, reads: None, longest: 64 });
        let narrow = Probe::new(&device, &lm, probe.place, 2 * large);
        let wide = Probe::new(&device, &lm, probe.place, u64::MAX);
        let one_by_one: Vec<Answer> = families.iter().map(|f| narrow.run(std::slice::from_ref(f)).unwrap().remove(0)).collect();
        assert_eq!(one_by_one, families.iter().map(|f| wide.run(std::slice::from_ref(f)).unwrap().remove(0)).collect::<Vec<_>>());
    }

    #[test]
    fn a_family_of_any_size_is_answered_whole() {
        let (lm, device) = (model(), Device::Cpu(Cpu::new(2).unwrap()));
        let probe = Probe::new(&device, &lm, Place { layer: 1, site: Site::MlpAct }, u64::MAX);
        // 80 tokens and 3240 rows of variants: more than a batch.
        let family = masked(tokens(80, 3), 2);
        let mut lasts = family.clone();
        lasts.reads = vec![79];
        lasts.variants.iter_mut().for_each(|v| v.reads = vec![79]);
        assert!(split(0, &family).len() > 3);
        let both = probe.run(&[family, lasts, Family { neuron: 1, base: vec![4], ..Family::default() }]).unwrap();
        assert_eq!(both[2], Answer::default());
        assert_eq!((both[0].variants.len(), both[0].base.len(), both[1].base.len()), (80, 80, 1));
        for (all, last) in both[0].variants.iter().zip(&both[1].variants) {
            assert!((all[all.len() - 1] - last[0]).abs() < 1e-13);
        }
    }
}
