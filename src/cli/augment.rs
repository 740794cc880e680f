//! `--augment` of `mechgraph n2g`: the model behind it, loaded and checked before a run begins.

use std::path::Path;
use std::str::FromStr;

use crate::device::DType;
use crate::error::Result;
use crate::manifest::{Proposals, Source};
use crate::model::Model;
use crate::n2g::augment::Proposer;

/// `--augment`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Augment {
    None,
    /// Folder of a masked language model.
    Masked(String),
    /// Folder of a model with token embeddings.
    Embedding(String),
}

impl FromStr for Augment {
    type Err = String;
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match (text, text.split_once(':')) {
            ("none", _) => Ok(Augment::None),
            (_, Some(("mlm", folder))) if !folder.is_empty() => Ok(Augment::Masked(folder.into())),
            (_, Some(("embedding", folder))) if !folder.is_empty() => Ok(Augment::Embedding(folder.into())),
            _ => Err("expected none, mlm:DIR or embedding:DIR".into()),
        }
    }
}

impl Augment {
    /// What proposes substitutes, computing in f32, and what a manifest says of it.
    pub fn load(&self) -> Result<Option<(Proposer, Proposals)>> {
        let (kind, folder) = match self {
            Augment::None => return Ok(None),
            Augment::Masked(folder) => ("mlm", folder),
            Augment::Embedding(folder) => ("embedding", folder),
        };
        let loaded = Model::load(folder, DType::F32)?;
        let path = Path::new(folder);
        let proposer = match self {
            Augment::Embedding(_) => Proposer::embedding(path, &loaded)?,
            Augment::None | Augment::Masked(_) => Proposer::masked(path, &loaded)?,
        };
        let tokenizer_sha256 = proposer.tokenizer().sha256().into();
        let model = Source::new(loaded.name, folder, loaded.sha256);
        Ok(Some((proposer, Proposals { kind: kind.into(), model, tokenizer_sha256 })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_and_a_folder_are_told_apart() {
        let parse = |text: &str| text.parse::<Augment>();
        assert_eq!(parse("none"), Ok(Augment::None));
        assert_eq!(parse("mlm:/m/bert"), Ok(Augment::Masked("/m/bert".into())));
        assert_eq!(parse("embedding:demo:lm"), Ok(Augment::Embedding("demo:lm".into())));
        for text in ["", "mlm", "mlm:", "embedding:", "bert", "None", "word2vec:x", ":x"] {
            assert_eq!(parse(text), Err("expected none, mlm:DIR or embedding:DIR".into()), "{text}");
        }
    }
}
