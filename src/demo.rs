//! Models and data sets that travel inside the binary, named `demo:NAME` on the command line.

use crate::error::{Error, Result};

/// One embedded model with its data set; the three files have the layouts of any model folder and data file.
#[derive(Debug)]
pub struct Demo {
    /// The NAME of `demo:NAME`.
    pub name: &'static str,
    /// `config.json`.
    pub config: &'static [u8],
    /// `model.safetensors`.
    pub model: &'static [u8],
    /// `dataset.safetensors`, the file behind `demo:NAME#SPLIT`.
    pub dataset: &'static [u8],
}

/// Every embedded model.
///
/// `modadd`: a one-layer transformer trained on `a + b mod 113`, with the splits `train` and `test`.
pub static ALL: [Demo; 1] = [Demo {
    name: "modadd",
    config: include_bytes!("../demos/modadd/config.json"),
    model: include_bytes!("../demos/modadd/model.safetensors"),
    dataset: include_bytes!("../demos/modadd/dataset.safetensors"),
}];

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
