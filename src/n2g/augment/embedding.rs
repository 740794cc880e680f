//! Substitutes that lie near a word among the token embeddings of a model. Their order is the similarity
//! alone: what fits the text is told by the model under test.

use std::collections::HashMap;
use std::path::Path;

use rayon::prelude::*;

use super::Blank;
use super::words::{Candidate, form, is_substitute, words};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::model::{Loaded, Tokenizer};

/// The whole words of a vocabulary, and where they lie.
#[derive(Debug)]
pub struct Embedding {
    pub(super) tokenizer: Tokenizer,
    /// By id: the token's text.
    texts: Vec<String>,
    /// Whole words, without the space in front.
    words: Vec<String>,
    /// `[words, width]` of length 1 each, or 0.
    directions: Vec<f32>,
    /// By id: the place among the words.
    places: HashMap<u32, usize>,
    width: usize,
}

impl Embedding {
    /// The token embeddings of the model in `folder`, which was loaded from there. Fails on a model that
    /// reads vectors, and on a vocabulary without words.
    pub fn new(folder: &Path, loaded: &Loaded) -> Result<Self> {
        let refuse = |found: &str, expected: &str| Err(Error::file(folder, found, expected));
        let Some(lm) = loaded.model.lm() else { return refuse("a model that reads vectors", "a model with token embeddings") };
        let tokenizer = loaded.tokenizer()?;
        let (texts, special) = (tokenizer.token_texts()?, tokenizer.special_ids());
        // Where tokens begin with a space, those without one go on with a word.
        let has_spaces = texts.iter().any(|text| whole(text, true).is_some());
        let is_plain = |id: &u32| special.binary_search(id).is_err();
        let found = (0..texts.len() as u32).filter(is_plain).filter_map(|id| Some((id, whole(&texts[id as usize], has_spaces)?)));
        let found: Vec<(u32, String)> = found.map(|(id, word)| (id, word.to_string())).collect();
        if found.is_empty() {
            return refuse("a vocabulary without whole words", "a model whose tokens are words");
        }
        let width = lm.d_model;
        let mut directions = vec![0.0f32; found.len() * width];
        for ((id, _), row) in found.iter().zip(directions.chunks_exact_mut(width)) {
            lm.embedding.tokens.read_into(*id as usize * width, row);
            let length = dot(row, row).sqrt();
            row.iter_mut().for_each(|x| *x = if length > 0.0 { *x / length } else { 0.0 });
        }
        let places = found.iter().enumerate().map(|(i, (id, _))| (*id, i)).collect();
        Ok(Self { tokenizer, texts, words: found.into_iter().map(|(_, word)| word).collect(), directions, places, width })
    }
    /// By blank: the `count` nearest words, nearest first; none of a word that is no token of its own.
    pub(super) fn propose(&self, device: &Device, blanks: &[Blank], count: usize) -> Result<Vec<Vec<Candidate>>> {
        let mut near: HashMap<&str, Vec<Candidate>> = HashMap::new();
        let mut asked: Vec<&str> = blanks.iter().map(Blank::word).collect();
        asked.sort_unstable();
        asked.dedup();
        let one = |word: &&str| Ok(self.place(word)?.map_or_else(Vec::new, |place| self.nearest(place, word, count)));
        let found: Result<Vec<_>> = device.host().install(|| asked.par_iter().map(one).collect());
        near.extend(asked.iter().copied().zip(found?));
        Ok(blanks.iter().map(|blank| near[blank.word()].clone()).collect())
    }
    /// The place of a word that is one token, with a space in front or without one.
    fn place(&self, word: &str) -> Result<Option<usize>> {
        for text in [format!(" {word}"), word.to_string()] {
            if let [id] = self.tokenizer.encode(&text)?[..]
                && self.texts.get(id as usize).is_some_and(|text| form(text) == form(word))
                && let Some(place) = self.places.get(&id)
            {
                return Ok(Some(*place));
            }
        }
        Ok(None)
    }
    fn nearest(&self, place: usize, word: &str, count: usize) -> Vec<Candidate> {
        let row = |i: usize| &self.directions[i * self.width..(i + 1) * self.width];
        let near: Vec<f32> = (0..self.words.len()).map(|i| dot(row(place), row(i))).collect();
        let mut order: Vec<usize> = (0..self.words.len()).collect();
        order.sort_by(|a, b| near[*b].total_cmp(&near[*a]));
        let mut forms = std::collections::HashSet::new();
        let other = order.into_iter().filter(|&i| is_substitute(&self.words[i], word) && forms.insert(form(&self.words[i])));
        other.take(count).map(|i| Candidate { text: self.words[i].clone(), is_continuation: false }).collect()
    }
}

/// The word that a token is, if it is one: letters and apostrophes, with a space in front where others have
/// one.
fn whole(text: &str, has_space: bool) -> Option<&str> {
    let word = if has_space { text.strip_prefix(' ')? } else { text };
    (words(word).first() == Some(&(0..word.len()))).then_some(word)
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
