//! `mechgraph eval`: the flags of measuring a model.

use super::common::{Common, DataFlags};
use crate::error::Result;

/// Measure loss, perplexity and accuracy of a model
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Folder of the model, or demo:modadd
    #[arg(value_name = "MODEL")]
    pub model: String,
    #[command(flatten)]
    pub data: DataFlags,
    #[command(flatten)]
    pub common: Common,
}

impl Args {
    /// Refuses combinations of flags that contradict each other.
    pub fn check(&self) -> Result<()> {
        self.common.check()?;
        if self.model.starts_with("demo:") { Ok(()) } else { self.data.required().map(drop) }
    }
}
