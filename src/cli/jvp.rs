//! `mechgraph jvp`: the flags of applying block Jacobians.

use std::path::PathBuf;

use super::common::Common;
use super::run_dir::check_free;
use crate::error::{Error, Result};

/// Apply block Jacobians to given tangents and cotangents
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Folder of the model, or demo:modadd
    #[arg(value_name = "MODEL")]
    pub model: String,
    /// safetensors with tokens and tangent.L or cotangent.L
    #[arg(long, value_name = "F")]
    pub data: PathBuf,
    /// File to write, safetensors
    #[arg(long, value_name = "G")]
    pub out: PathBuf,
    #[command(flatten)]
    pub common: Common,
}

impl Args {
    /// Refuses combinations of flags that contradict each other, and an output file that exists.
    pub fn check(&self) -> Result<()> {
        self.common.check()?;
        if self.out == self.data {
            return Err(Error::flag("--out", "the file of --data", "another file"));
        }
        check_free(&self.out, self.common.force)
    }
}
