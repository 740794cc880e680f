//! The token that stands for a masked one: a token that models know to say nothing.

use super::Tokenizer;
use crate::error::{Error, Result};

/// What a masked language model reads around a text, and in the place of a word that it is to guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    pub mask: u32,
    /// In front of a text, if the vocabulary has such a token.
    pub first: Option<u32>,
    /// Behind it.
    pub last: Option<u32>,
}

/// Names of padding tokens, of mask tokens, and of a blank that GPT-2's vocabulary has, in the order in
/// which they are looked for.
const NAMES: [&str; 10] = ["<|padding|>", "<pad>", "[PAD]", "<|pad|>", "<PAD>", "[MASK]", "<mask>", "<|mask|>", "Ġ_", "▁_"];

impl Tokenizer {
    /// The tokens that `tokenizer_config.json` or `config.json` names `mask_token`, `cls_token` and
    /// `sep_token`, else those with the names that they commonly have. Fails if there is no mask token.
    pub fn frame(&self) -> Result<Frame> {
        let find = |key: &str, names: [&str; 2]| -> Result<Option<u32>> {
            let named = self.special(key)?;
            Ok(named.or_else(|| names.iter().find_map(|name| self.pipeline.token_to_id(name))))
        };
        match find("mask_token", ["[MASK]", "<mask>"])? {
            Some(mask) => {
                Ok(Frame { mask, first: find("cls_token", ["[CLS]", "<s>"])?, last: find("sep_token", ["[SEP]", "</s>"])? })
            }
            None => Err(Error::file(&self.path, "a vocabulary without a mask token", "that of a masked language model")),
        }
    }
    /// The padding token that `tokenizer_config.json` or `config.json` names, unless it ends texts too;
    /// else the first token of the vocabulary with a name that is common for padding or masks; else ` _`,
    /// which the published code takes for GPT-2; else the token for the unknown.
    ///
    /// Fails if there is none of all these.
    pub fn mask_token(&self) -> Result<u32> {
        let ends = self.eos()?;
        // A padding token that is named but not in the vocabulary is no reason to stop.
        let padding = self.special("pad_token").ok().flatten().filter(|id| Some(*id) != ends);
        let named = || NAMES.iter().find_map(|name| self.pipeline.token_to_id(name));
        let unknown = || ["<unk>", "[UNK]", "<|unk|>"].iter().find_map(|name| self.pipeline.token_to_id(name));
        padding.or_else(named).or_else(unknown).ok_or_else(|| {
            let found = "a vocabulary without a padding, mask or unknown token";
            Error::file(&self.path, found, "one of them, or --mask-token ID")
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::super::Tokenizer;
    use super::Frame;
    use crate::model::fixture::words;

    fn mask(added: &[&str], config: Value) -> Result<u32, String> {
        let mut file = words();
        for (i, name) in added.iter().enumerate() {
            file["model"]["vocab"][*name] = json!(10 + i);
        }
        let t = Tokenizer::embedded(Path::new("M"), file.to_string().as_bytes(), &config).unwrap();
        t.mask_token().map_err(|e| e.to_string())
    }

    #[test]
    fn a_frame_has_a_mask_and_what_stands_around_texts() {
        let frame = |vocab: &[(&str, u32)], config: Value| {
            let mut file = words();
            vocab.iter().for_each(|(name, id)| file["model"]["vocab"][*name] = json!(id));
            let t = Tokenizer::embedded(Path::new("M"), file.to_string().as_bytes(), &config).unwrap();
            t.frame().map_err(|e| e.to_string())
        };
        let bert = [("[CLS]", 7), ("[SEP]", 8), ("[MASK]", 9)];
        assert_eq!(frame(&bert, json!({})), Ok(Frame { mask: 9, first: Some(7), last: Some(8) }));
        let named = json!({"mask_token_id": 1, "cls_token_id": 2, "sep_token_id": 3});
        assert_eq!(frame(&bert, named), Ok(Frame { mask: 1, first: Some(2), last: Some(3) }));
        assert_eq!(frame(&[("<mask>", 5)], json!({})), Ok(Frame { mask: 5, first: Some(4), last: Some(6) }));
        let e = frame(&[], json!({})).unwrap_err();
        assert_eq!(e, "M/tokenizer.json: a vocabulary without a mask token; expected that of a masked language model");
    }

    #[test]
    fn the_first_token_that_says_nothing_masks() {
        assert_eq!(mask(&[], json!({})), Ok(0));
        assert_eq!(mask(&["<pad>", "[MASK]"], json!({})), Ok(10));
        assert_eq!(mask(&["[MASK]", "Ġ_"], json!({"pad_token_id": 2})), Ok(2));
        // Padding by the token that ends texts would mask with an end of text.
        assert_eq!(mask(&["Ġ_"], json!({"pad_token_id": 2, "eos_token_id": 2})), Ok(10));
        assert_eq!(mask(&["x"], json!({"pad_token_id": 900})), Ok(0));
    }
}
