//! Substitutes that a masked language model proposes for a word that is hidden from it.

use std::collections::HashMap;
use std::path::Path;

use super::Blank;
use super::reader::{Ask, Reader, log_sum};
use super::words::{Candidate, is_substitute};
use crate::error::{Error, Result};
use crate::model::{Frame, Lm, Loaded, Tokenizer};

/// What word piece vocabularies write in front of a piece that goes on with a word.
const CONTINUES: &str = "##";

/// A masked language model with its tokenizer.
#[derive(Debug)]
pub struct Masked {
    pub lm: Lm,
    pub(super) tokenizer: Tokenizer,
    /// By id: the token's text, and `None` of special tokens.
    texts: Vec<Option<String>>,
    frame: Frame,
}

impl Masked {
    /// The model in `folder`, which was loaded from there. Fails on models that are no masked language models,
    /// and on tokenizers without a mask token.
    pub fn new(folder: &Path, loaded: &Loaded) -> Result<Self> {
        let refuse = |found: String| Err(Error::file(folder, found, "a masked language model, such as a BERT with its head"));
        let lm = match loaded.model.lm() {
            None => return refuse("a model that reads vectors".into()),
            Some(lm) if lm.is_causal => return refuse("a model that reads texts from left to right".into()),
            Some(lm) if lm.head.is_none() => return refuse(format!("a {} checkpoint without an output head", lm.family)),
            Some(lm) => lm.into_owned(),
        };
        let tokenizer = loaded.tokenizer()?;
        let frame = tokenizer.frame()?;
        if lm.n_ctx < 3 {
            return refuse(format!("a model that reads no more than {} tokens", lm.n_ctx));
        }
        let mut texts: Vec<Option<String>> = tokenizer.token_texts()?.into_iter().map(Some).collect();
        tokenizer.special_ids().into_iter().for_each(|id| texts[id as usize] = None);
        Ok(Self { lm, tokenizer, texts, frame })
    }
    /// By blank: at most `count` candidates by falling probability, none below `floor`.
    pub(super) fn propose(&self, reader: &Reader, blanks: &[Blank], count: usize, floor: f64) -> Result<Vec<Vec<Candidate>>> {
        // Neurons share windows, and prompts words: what is alike is asked once.
        let mut numbers: HashMap<(&str, &str, &str), usize> = HashMap::new();
        let (mut asks, mut words, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for blank in blanks {
            let key = (blank.before(), blank.word(), blank.after());
            let number = *numbers.entry(key).or_insert(asks.len());
            if number == asks.len() {
                asks.push(self.ask(blank)?);
                words.push(blank.word());
            }
            places.push(number);
        }
        let found = reader.run(&asks, |i, logits| walk(logits, &self.texts, words[i], count, floor))?;
        Ok(places.into_iter().map(|i| found[i].clone()).collect())
    }
    /// The text around a word with the mask in its place, cut to what the model reads.
    fn ask(&self, blank: &Blank) -> Result<Ask> {
        let Frame { mask, first, last } = self.frame;
        let (before, after) = (self.tokenizer.encode(blank.before())?, self.tokenizer.encode(blank.after())?);
        let most = self.lm.n_ctx - 1 - usize::from(first.is_some()) - usize::from(last.is_some());
        let (front, behind) = around(before.len(), after.len(), most);
        let mut base: Vec<u32> = first.into_iter().chain(before[before.len() - front..].iter().copied()).collect();
        let read = base.len();
        base.push(mask);
        base.extend(after[..behind].iter().copied().chain(last));
        Ok(Ask { base, read, behind: Vec::new() })
    }
}

/// The candidates of some logits, by falling probability: at most `count`, none below `floor`.
fn walk(logits: &[f64], texts: &[Option<String>], word: &str, count: usize, floor: f64) -> Vec<Candidate> {
    let sum = log_sum(logits);
    let mut likely: Vec<usize> = (0..logits.len()).filter(|&id| (logits[id] - sum).exp() >= floor).collect();
    // Of those as likely as each other, the lower ids first.
    likely.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
    let candidate = |id: usize| {
        let text = texts.get(id)?.as_deref()?;
        let piece = text.strip_prefix(CONTINUES);
        let text = piece.unwrap_or(text);
        is_substitute(text, word).then(|| Candidate { text: text.into(), is_continuation: piece.is_some() })
    };
    likely.into_iter().filter_map(candidate).take(count).collect()
}

/// How many of the tokens in front of a mask and behind it are kept of `most`: as many on either side, and
/// more where the other has fewer.
fn around(before: usize, after: usize, most: usize) -> (usize, usize) {
    let front = before.min((most / 2).max(most.saturating_sub(after)));
    (front, after.min(most - front))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_come_by_falling_probability() {
        let texts = ["[MASK]", "cat", "dog", "##ing", "42", "Cat", "##cat", "bird", "fish"];
        let texts: Vec<Option<String>> = texts.iter().map(|t| Some(t.to_string()).filter(|_| *t != "[MASK]")).collect();
        // The last one is no token; probabilities are those of the logits, as they sum to 1.
        let shares = [0.1, 0.3, 0.05, 0.1, 0.2, 0.05, 0.05, 0.1, 0.04, 0.01f64];
        let logits: Vec<f64> = shares.iter().map(|p| p.ln() + 7.0).collect();
        let found = |count, floor| -> Vec<(String, bool)> {
            walk(&logits, &texts, "cat", count, floor).into_iter().map(|c| (c.text, c.is_continuation)).collect()
        };
        let of = |all: &[(&str, bool)]| all.iter().map(|(t, c)| (t.to_string(), *c)).collect::<Vec<_>>();
        let all = of(&[("ing", true), ("bird", false), ("dog", false), ("fish", false)]);
        assert_eq!((found(9, 0.0), found(9, 0.045), found(2, 1e-5)), (all.clone(), all[..3].to_vec(), all[..2].to_vec()));
        assert_eq!(found(9, 0.11), []);
    }

    #[test]
    fn long_texts_are_cut_around_the_mask() {
        for ((before, after, most), want) in [
            ((3, 4, 10), (3, 4)),
            ((30, 40, 10), (5, 5)),
            ((30, 2, 10), (8, 2)),
            ((2, 30, 10), (2, 8)),
            ((30, 30, 0), (0, 0)),
            ((5, 5, 9), (4, 5)),
        ] {
            assert_eq!(around(before, after, most), want);
        }
    }
}
