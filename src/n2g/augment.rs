//! Augmentation: prompts with one important word replaced by what could stand in its place (`n2g.md` 1.4).
//!
//! A masked language model proposes substitutes from the text around a word, or the words that lie near it
//! among token embeddings do, in the order in which the model under test expects them. What a neuron makes of
//! them is none of this module's business: see [`apply`].

pub mod apply;
mod embedding;
mod layout;
mod masked;
mod reader;
mod words;

use std::collections::HashSet;
use std::ops::Range;
use std::path::Path;

use rayon::prelude::*;

pub use embedding::Embedding;
pub use masked::Masked;

use super::settings::{Build, Settings};
use super::vocabulary::Vocabulary;
use crate::device::Device;
use crate::error::Result;
use crate::model::{Lm, Loaded, Tokenizer};
use layout::{Changed, Layout};
use reader::{Ask, Reader, log_sum};
use words::{Candidate, change, form, words};

/// Neighbours of a word for every substitute that is kept of them.
const NEIGHBOURS: usize = 4;

/// What proposes substitutes.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a run holds one")]
pub enum Proposer {
    Masked(Masked),
    Embedding(Embedding),
}

impl Proposer {
    /// The masked language model in `folder`, loaded from there: see [`Masked::new`].
    pub fn masked(folder: &Path, loaded: &Loaded) -> Result<Self> {
        Masked::new(folder, loaded).map(Self::Masked)
    }
    /// Its tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        match self {
            Proposer::Masked(masked) => &masked.tokenizer,
            Proposer::Embedding(embedding) => &embedding.tokenizer,
        }
    }
    /// The token embeddings of the model in `folder`, loaded from there: see [`Embedding::new`].
    pub fn embedding(folder: &Path, loaded: &Loaded) -> Result<Self> {
        Embedding::new(folder, loaded).map(Self::Embedding)
    }
}

/// A prompt to be augmented.
#[derive(Clone, Copy, Debug)]
pub struct Original<'a> {
    /// Token ids, a BOS token in front included; and the position among them of the token that fires.
    pub tokens: &'a [u32],
    pub pivot: usize,
    /// By position, at least as far as the pivot: the importance for it.
    pub importance: &'a [f64],
}

/// A prompt with a word replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Substitute {
    /// Token ids, a BOS token in front included; and the position of the pivot: as far from the end as in the
    /// original.
    pub tokens: Vec<u32>,
    pub pivot: usize,
    /// Positions of the original that were replaced, and the number of those in their place. `None` where
    /// tokens around the word have changed with it, which is let pass in the `reference` mode only.
    pub replaced: Option<(Range<usize>, usize)>,
}

/// A word of a prompt that is to be replaced.
#[derive(Clone, Debug)]
struct Blank<'a> {
    /// Number of the prompt.
    prompt: usize,
    text: &'a str,
    range: Range<usize>,
}

impl<'a> Blank<'a> {
    fn word(&self) -> &'a str {
        &self.text[self.range.clone()]
    }
    fn before(&self) -> &'a str {
        &self.text[..self.range.start]
    }
    fn after(&self) -> &'a str {
        &self.text[self.range.end..]
    }
}

/// Makes substituted prompts for one model.
#[derive(Debug)]
pub struct Augmenter<'a> {
    device: &'a Device,
    lm: &'a Lm,
    tokenizer: &'a Tokenizer,
    proposer: &'a Proposer,
    settings: &'a Settings,
    /// Tokens by their texts.
    texts: &'a Vocabulary,
    /// Ids of which no word is replaced.
    skip: &'a [u32],
    /// Of the proposer, if that is a model that is run.
    guesses: Option<Reader<'a>>,
    /// Of the model under test, if it has a head.
    ranks: Option<Reader<'a>>,
}

impl<'a> Augmenter<'a> {
    /// For prompts of `lm`, whose tokenizer and texts of tokens these are.
    pub fn new(
        device: &'a Device,
        (lm, tokenizer, texts): (&'a Lm, &'a Tokenizer, &'a Vocabulary),
        proposer: &'a Proposer,
        settings: &'a Settings,
        skip: &'a [u32],
    ) -> Self {
        let (guesses, ranks) = match proposer {
            Proposer::Masked(masked) => (Some(Reader::new(device, &masked.lm)), None),
            Proposer::Embedding(_) => (None, lm.head.is_some().then(|| Reader::new(device, lm))),
        };
        Self { device, lm, tokenizer, proposer, settings, texts, skip, guesses, ranks }
    }
    /// Rows of forward passes of the model under test so far.
    pub fn tokens(&self) -> u64 {
        self.ranks.as_ref().map_or(0, Reader::tokens)
    }
    /// By prompt: the substituted prompts, word by word from the left, the best substitute of a word first.
    /// None is that prompt itself, and none comes twice for it.
    pub fn substitutes(&self, originals: &[Original]) -> Result<Vec<Vec<Substitute>>> {
        let host = self.device.host();
        let first = usize::from(self.settings.bos.is_some());
        let lay = |o: &Original| Layout::new(self.tokenizer, &o.tokens[first..]);
        let layouts: Vec<Layout> = host.install(|| originals.par_iter().map(lay).collect::<Result<_>>())?;
        let blanks: Vec<Blank> = layouts
            .iter()
            .zip(originals)
            .enumerate()
            .flat_map(|(prompt, (layout, o))| {
                let ranges = self.chosen(o, layout, first);
                ranges.into_iter().map(move |range| Blank { prompt, text: &layout.text, range })
            })
            .collect();
        let candidates = self.candidates(&blanks)?;
        let write = |(blank, candidates): (&Blank, &Vec<Candidate>)| -> Result<Vec<Substitute>> {
            let (original, layout) = (&originals[blank.prompt], &layouts[blank.prompt]);
            let written = candidates.iter().map(|c| self.written(original, layout, blank, c, first));
            written.filter_map(Result::transpose).collect()
        };
        let mut written: Vec<Vec<Substitute>> =
            host.install(|| blanks.par_iter().zip(&candidates).map(write).collect::<Result<_>>())?;
        if let Some(reader) = &self.ranks {
            self.rank(reader, &mut written)?;
        }
        let mut seen: Vec<HashSet<Vec<u32>>> = originals.iter().map(|o| HashSet::from([o.tokens.to_vec()])).collect();
        let mut all = vec![Vec::new(); originals.len()];
        for (blank, substitutes) in blanks.iter().zip(written) {
            let new = substitutes.into_iter().filter(|s| seen[blank.prompt].insert(s.tokens.clone()));
            all[blank.prompt].extend(new.take(self.settings.substitutes));
        }
        Ok(all)
    }
    /// The words of a prompt that are replaced. In the `reference` mode those that look like a token of some
    /// importance, wherever that stands, as far as the pivot and right behind it; else those that have such a
    /// token, in front of the pivot.
    fn chosen(&self, o: &Original, layout: &Layout, first: usize) -> Vec<Range<usize>> {
        let (tokens, pivot) = (&o.tokens[first..], o.pivot - first);
        let is_plain = |t: usize| !self.skip.contains(&tokens[t]);
        let matters =
            |t: usize| is_plain(t) && o.importance.get(first + t).is_some_and(|i| *i >= self.settings.substitute_threshold);
        let mut ranges = words(&layout.text);
        ranges.retain(|range| layout.tokens(range).all(is_plain));
        if self.settings.build == Build::Merged {
            let forms: HashSet<String> =
                (0..tokens.len()).filter(|&t| matters(t)).map(|t| form(self.texts.text(tokens[t]))).collect();
            ranges.retain(|range| range.start <= layout.end(pivot) && forms.contains(&form(&layout.text[range.clone()])));
        } else {
            ranges.retain(|range| {
                let mut own = layout.tokens(range);
                own.end <= pivot && own.any(matters)
            });
        }
        ranges
    }
    fn candidates(&self, blanks: &[Blank]) -> Result<Vec<Vec<Candidate>>> {
        let (count, floor) = (self.settings.substitutes, self.settings.substitute_floor);
        match (self.proposer, &self.guesses) {
            (Proposer::Masked(masked), Some(reader)) => masked.propose(reader, blanks, count, floor),
            (Proposer::Embedding(embedding), _) => embedding.propose(self.device, blanks, NEIGHBOURS * count),
            (Proposer::Masked(_), None) => Ok(vec![Vec::new(); blanks.len()]),
        }
    }
    /// A prompt with a candidate in the place of a word; `None` where that cannot be, or is longer than what
    /// the model reads.
    fn written(
        &self,
        o: &Original,
        layout: &Layout,
        blank: &Blank,
        candidate: &Candidate,
        first: usize,
    ) -> Result<Option<Substitute>> {
        let Some(change) = change(&layout.text, &blank.range, candidate) else { return Ok(None) };
        let (bos, tokens) = o.tokens.split_at(first);
        let (tokens, replaced) = match layout.changed(self.tokenizer, tokens, &change)? {
            Some(Changed { tokens, range, count }) => (tokens, Some((first + range.start..first + range.end, count))),
            None if self.settings.build == Build::Merged => (self.tokenizer.encode(&change.apply(&layout.text))?, None),
            None => return Ok(None),
        };
        let pivot = (first + tokens.len()).checked_sub(o.tokens.len() - o.pivot).filter(|pivot| *pivot >= first);
        let is_short = first + tokens.len() <= self.lm.n_ctx;
        Ok(pivot.filter(|_| is_short).map(|pivot| Substitute { tokens: [bos, &tokens].concat(), pivot, replaced }))
    }
    /// Sorts the substitutes of each word: those first whose tokens the model expects most behind the prompt
    /// in front of them; of those that it expects alike, or that cannot be told, the earlier ones.
    fn rank(&self, reader: &Reader, words: &mut [Vec<Substitute>]) -> Result<()> {
        // By ask: the number of the word, and of the substitutes whose tokens are `behind`.
        let (mut asks, mut owners): (Vec<Ask>, Vec<(usize, Vec<usize>)>) = (Vec::new(), Vec::new());
        for (w, substitutes) in words.iter().enumerate() {
            // Neighbours are whole words: what stands in front is the same for all of them.
            let start = |s: &Substitute| s.replaced.as_ref().map_or(0, |(range, _)| range.start);
            let own: Vec<usize> = (0..substitutes.len()).filter(|&i| start(&substitutes[i]) > 0).collect();
            let Some(first) = own.first().map(|&i| &substitutes[i]) else { continue };
            let rest = |&i: &usize| expected(&substitutes[i]).split_last().map_or_else(Vec::new, |(_, rest)| rest.to_vec());
            let base = first.tokens[..start(first)].to_vec();
            asks.push(Ask { read: base.len() - 1, base, behind: own.iter().map(rest).collect() });
            owners.push((w, own));
        }
        let width = self.lm.d_vocab_out();
        let scores = reader.run(&asks, |i, logits| {
            let rows: Vec<(&[f64], f64)> = logits.chunks_exact(width).map(|row| (row, log_sum(row))).collect();
            let mut next = 1;
            let (w, own) = &owners[i];
            let score = |s: &usize| {
                let tokens = expected(&words[*w][*s]);
                let own = rows[..1].iter().chain(&rows[next..next + tokens.len() - 1]);
                next += tokens.len() - 1;
                own.zip(tokens).map(|((row, sum), id)| row.get(*id as usize).map_or(f64::NEG_INFINITY, |x| x - sum)).sum()
            };
            own.iter().map(score).collect::<Vec<f64>>()
        })?;
        let mut all: Vec<Vec<f64>> = words.iter().map(|s| vec![f64::NEG_INFINITY; s.len()]).collect();
        for ((w, own), scores) in owners.iter().zip(scores) {
            own.iter().zip(scores).for_each(|(i, score)| all[*w][*i] = score);
        }
        for (substitutes, scores) in words.iter_mut().zip(all) {
            let mut order: Vec<usize> = (0..scores.len()).collect();
            order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
            *substitutes = order.into_iter().map(|i| substitutes[i].clone()).collect();
        }
        Ok(())
    }
}

/// The tokens that stand in the place of the word: at least one.
fn expected(s: &Substitute) -> &[u32] {
    s.replaced.as_ref().map_or(&[], |(range, count)| &s.tokens[range.start..range.start + count])
}

#[cfg(test)]
mod tests;
