//! Single neurons on many short prompts: forward passes packed across neurons and prompts, which stop at
//! the neurons' layer and read out no more than what is asked for.
//!
//! Variants of a prompt share the rows in front of the first token that differs, so that masking each
//! position of a prompt of L tokens costs L (L + 1) / 2 rows instead of L squared. Nothing here knows
//! what prompts are for.

use super::passes::{Batch, Passes};
use crate::data::buckets::buckets;
use crate::device::Device;
use crate::error::Result;
use crate::model::Lm;
use crate::model::site::Place;

/// Rows of a full batch.
const ROWS: usize = 1024;

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

/// Runs families at one site of one layer.
#[derive(Debug)]
pub struct Probe<'a>(Passes<'a>);

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
    fn reads(&self) -> usize {
        self.base.reads.len() + self.variants.iter().map(|v| v.reads.len()).sum::<usize>()
    }
}

impl<'a> Probe<'a> {
    /// A probe of `place`, a site with one row a position, whose programs hold at most `memory` bytes. The
    /// model must be causal.
    pub fn new(device: &'a Device, lm: &'a Lm, place: Place, memory: u64) -> Self {
        Self(Passes::new(device, lm, place, memory))
    }
    /// Tokens of the longest sequence that the model reads.
    pub fn longest(&self) -> usize {
        self.0.lm.n_ctx
    }
    /// Rows of sequences computed so far, without those that fill batches up.
    pub fn tokens(&self) -> u64 {
        self.0.tokens()
    }
    /// The activations of every family. They depend on the families alone, not on threads.
    pub fn run(&self, families: &[Family]) -> Result<Vec<Answer>> {
        let parts: Vec<Part> = families.iter().enumerate().flat_map(|(i, f)| split(i, f)).collect();
        let lengths: Vec<usize> = parts.iter().map(Part::rows).collect();
        let batches: Vec<Vec<&Part>> =
            buckets(&lengths, ROWS).into_iter().map(|b| b.sequences.into_iter().map(|i| &parts[i]).collect()).collect();
        let answers = self.0.each(&batches, |batch| self.run_batch(batch));
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
    fn run_batch(&self, parts: &[&Part]) -> Result<Vec<Answer>> {
        let (mut batch, mut columns) = (Batch::default(), Vec::new());
        for part in parts {
            let base = part.base;
            let start = batch.push(&base.base);
            batch.read(base.reads.iter().map(|t| start + t));
            for v in part.variants {
                let row = batch.push_behind(start..start + v.at, &v.tokens);
                batch.read(v.reads.iter().map(|t| row + t - v.at));
            }
            columns.resize(columns.len() + part.reads(), base.neuron);
        }
        let values = self.0.run(batch, |session, site, rows| {
            session.read_elements(site, &rows.iter().copied().zip(columns).collect::<Vec<_>>())
        })?;
        let mut values = values.into_iter();
        let mut take = |n: usize| values.by_ref().take(n).collect::<Vec<f64>>();
        let answer = |part: &&Part| Answer {
            base: take(part.base.reads.len()),
            variants: part.variants.iter().map(|v| take(v.reads.len())).collect(),
        };
        Ok(parts.iter().map(answer).collect())
    }
}

/// The parts of a family: those whose variants do not fit into a batch take several, the prompt in each.
fn split(family: usize, base: &Family) -> Vec<Part<'_>> {
    let whole = Part { family, from: 0, base, variants: &base.variants };
    if whole.rows() <= ROWS {
        return vec![whole];
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
    use super::super::passes::Shape;
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

    fn rows(f: &Family) -> u64 {
        (f.base.len() + f.variants.iter().map(|v| v.tokens.len()).sum::<usize>()) as u64
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
            assert_eq!(probe.tokens(), families.iter().map(rows).sum::<u64>());
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
        let bytes = |shape| probe.0.program(shape).unwrap().0.bytes();
        let large = bytes(Shape { rows: 2048, keys: 4096, reads: None, longest: 64 });
        let narrow = Probe::new(&device, &lm, probe.0.place, 2 * large);
        let wide = Probe::new(&device, &lm, probe.0.place, u64::MAX);
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
