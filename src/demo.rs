//! Models and data sets that travel inside the binary, named `demo:NAME` on the command line.

use crate::error::{Error, Result};

/// One embedded model with its data; the files have the layouts of any model folder and data file.
#[derive(Debug)]
pub struct Demo {
    /// The NAME of `demo:NAME`.
    pub name: &'static str,
    /// `config.json`.
    pub config: &'static [u8],
    /// `model.safetensors`.
    pub model: &'static [u8],
    pub data: Data,
}

/// What a demo is run on.
#[derive(Debug)]
pub enum Data {
    /// A safetensors file with splits, the one behind `demo:NAME#SPLIT`.
    Splits(&'static [u8]),
    /// A .txt file, the one behind `demo:NAME`, and the model's `tokenizer.json`.
    Text { text: &'static str, tokenizer: &'static [u8] },
}

/// Every embedded model.
///
/// `modadd`: a one-layer transformer trained on `a + b mod 113`, with the splits `train` and `test`.
/// `lm`: a six-layer SoLU language model of English prose, with a piece of its training text.
pub static ALL: [Demo; 2] = [
    Demo {
        name: "modadd",
        config: include_bytes!("../demos/modadd/config.json"),
        model: include_bytes!("../demos/modadd/model.safetensors"),
        data: Data::Splits(include_bytes!("../demos/modadd/dataset.safetensors")),
    },
    Demo {
        name: "lm",
        config: include_bytes!("../demos/lm/config.json"),
        model: include_bytes!("../demos/lm/model.safetensors"),
        data: Data::Text {
            text: include_str!("../demos/lm/sample.txt"),
            tokenizer: include_bytes!("../demos/lm/tokenizer.json"),
        },
    },
];

/// The NAME of a specification `demo:NAME`; `None` for every other specification.
pub fn name_of(spec: &str) -> Option<&str> {
    spec.strip_prefix("demo:")
}

/// The demo of that name; fails with the list of known names.
pub fn find(name: &str) -> Result<&'static Demo> {
    ALL.iter().find(|d| d.name == name).ok_or_else(|| {
        let known: Vec<String> = ALL.iter().map(|d| format!("demo:{}", d.name)).collect();
        Error::flag(&format!("demo:{name}"), "no embedded model of this name", known.join(" or "))
    })
}

/// The text and `tokenizer.json` of a specification `demo:NAME`; `None` where there are none.
pub fn text_of(spec: &str) -> Option<(&'static str, &'static [u8])> {
    let name = name_of(spec)?;
    match ALL.iter().find(|d| d.name == name)?.data {
        Data::Text { text, tokenizer } => Some((text, tokenizer)),
        Data::Splits(_) => None,
    }
}
