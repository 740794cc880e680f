//! `mechgraph capture`: the flags of writing activations to a file.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;

use super::common::{Common, DataFlags, Layers, check_unique};
use super::run_dir::check_free;
use crate::error::Result;

/// Write activations at named sites of a model
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Folder of the model, or demo:modadd
    #[arg(value_name = "MODEL")]
    pub model: String,
    #[command(flatten)]
    pub data: DataFlags,
    /// File to write, safetensors
    #[arg(long, value_name = "F")]
    pub out: PathBuf,
    /// Sites, as in resid_pre,mlp_act,logits
    #[arg(long, required = true, value_name = "S,S,..", value_delimiter = ',', value_parser = NonEmptyStringValueParser::new())]
    pub sites: Vec<String>,
    /// Layers, as in 0..6 (without 6) or 0,3 [default: all]
    #[arg(long, value_name = "LAYERS")]
    pub layers: Option<Layers>,
    #[command(flatten)]
    pub common: Common,
}

impl Args {
    /// Refuses combinations of flags that contradict each other, and an output file that exists.
    pub fn check(&self) -> Result<()> {
        self.common.check()?;
        if !self.model.starts_with("demo:") {
            self.data.required()?;
        }
        check_unique("--sites", &self.sites)?;
        check_free(&self.out, self.common.force)
    }
}
