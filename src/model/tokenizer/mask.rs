//! The token that stands for a masked one: a token that models know to say nothing.

use super::Tokenizer;
use crate::error::{Error, Result};

/// Names of padding tokens, of mask tokens, and of a blank that GPT-2's vocabulary has, in the order in
/// which they are looked for.
const NAMES: [&str; 10] = ["<|padding|>", "<pad>", "[PAD]", "<|pad|>", "<PAD>", "[MASK]", "<mask>", "<|mask|>", "Ġ_", "▁_"];

impl Tokenizer {
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
    fn the_first_token_that_says_nothing_masks() {
        assert_eq!(mask(&[], json!({})), Ok(0));
        assert_eq!(mask(&["<pad>", "[MASK]"], json!({})), Ok(10));
        assert_eq!(mask(&["[MASK]", "Ġ_"], json!({"pad_token_id": 2})), Ok(2));
        // Padding by the token that ends texts would mask with an end of text.
        assert_eq!(mask(&["Ġ_"], json!({"pad_token_id": 2, "eos_token_id": 2})), Ok(10));
        assert_eq!(mask(&["x"], json!({"pad_token_id": 900})), Ok(0));
    }
}
