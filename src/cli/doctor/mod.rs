//! `mechgraph doctor`: whether a device gives the right numbers here and now. Every operation is compared with the CPU in
//! f64; then a model's forward pass, its Jacobians and the parts of its Local Interaction Basis are, and what must hold
//! whatever the numbers are: the same bits again, adjoint products, two roads to one matrix.

mod model;
mod operations;
mod report;

use clap::ValueEnum;

use self::model::Subject;
use self::report::{Report, Row};
use super::common::{Common, DataFlags, Precision, print, print_json};
use crate::device::{DType, Device};
use crate::error::{Error, Result};

/// Check on this device all operations, and what a model must hold to
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Folder of the model, demo:modadd or demo:lm
    #[arg(value_name = "MODEL", default_value = "demo:modadd")]
    pub model: String,
    #[command(flatten)]
    pub data: DataFlags,
    /// operations, forward, jacobians or lib [default: all that the model has]
    #[arg(long, value_name = "C,C,..", value_delimiter = ',', hide_possible_values = true)]
    pub checks: Vec<Part>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub common: Common,
}

/// `--checks`
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Every operation against the CPU in f64.
    Operations,
    /// Activations of the model, and their bits in other batches.
    Forward,
    /// Products with the Jacobians of its blocks, and that they are adjoint.
    Jacobians,
    /// Gram matrices, M' by both roads, and edges.
    Lib,
}

impl Args {
    /// Refuses combinations of flags that contradict each other.
    pub fn check(&self) -> Result<()> {
        self.common.check()?;
        if self.common.dtype == Some(Precision::Bf16) {
            return Err(Error::flag("--dtype", "bf16", "f32 or f64, in which devices compute"));
        }
        if self.checks_model() { self.data.check(&self.model) } else { Ok(()) }
    }
    fn has(&self, part: Part) -> bool {
        self.checks.is_empty() || self.checks.contains(&part)
    }
    fn checks_model(&self) -> bool {
        self.checks.is_empty() || self.checks.iter().any(|part| *part != Part::Operations)
    }
    /// The types to check: `--dtype`, or all that the device computes in.
    fn dtypes(&self, device: &Device) -> Result<Vec<DType>> {
        match self.common.dtype {
            Some(_) => Ok(vec![self.common.dtype(device, DType::F32)?]),
            None => Ok([DType::F32, DType::F64].into_iter().filter(|d| device.check_dtype(*d).is_ok()).collect()),
        }
    }
}

/// Runs `mechgraph doctor`. Fails if a check does.
pub fn run(args: Args) -> Result<()> {
    args.check()?;
    let progress = args.common.progress();
    let device = args.common.device(DType::F32, &progress)?;
    let dtypes = args.dtypes(&device)?;
    // What is wrong with the command line or a file is told before any work.
    let models = if args.checks_model() { dtypes.as_slice() } else { &[] };
    let models: Vec<Subject> = models.iter().map(|dtype| Subject::load(&args, *dtype)).collect::<Result<_>>()?;
    let mut rows: Vec<Row> = Vec::new();
    if args.has(Part::Operations) {
        rows.extend(operations::rows(&device, &dtypes, args.common.seed, &progress)?);
    }
    for model in &models {
        rows.extend(model.rows(&args, &device, &progress)?);
    }
    let report = Report::new(&device, rows);
    if args.json {
        print_json(&report)?
    } else {
        print(&report.table())?
    }
    report.verdict()
}

#[cfg(test)]
mod tests {
    use crate::cli::Command;
    use crate::cli::tests::parsed;

    fn refusal(flags: &str) -> String {
        match parsed(&format!("mechgraph doctor {flags}")) {
            Ok(Command::Doctor(args)) => args.check().map_or_else(|e| e.to_string(), |()| "fine".into()),
            Ok(other) => panic!("{other:?}"),
            Err(e) => e,
        }
    }

    #[test]
    fn models_need_data_and_operations_do_not() {
        assert_eq!(refusal(""), "fine");
        assert_eq!(refusal("M --checks operations"), "fine");
        assert!(refusal("M").starts_with("--data: found nothing"));
        assert!(refusal("M --checks operations,lib").starts_with("--data: found nothing"));
        assert!(refusal("--dtype bf16").starts_with("--dtype: found bf16"));
        assert!(refusal("--checks all").starts_with("usage: "));
    }
}
