//! `mechgraph eval`: measures how well a model predicts.

use std::time::Instant;

use serde_json::json;

use super::common::{Common, DataFlags, print, print_json};
use crate::device::DType;
use crate::error::Result;
use crate::manifest::peak_memory;
use crate::model::Model;
use crate::model::evaluate::evaluate;

/// Measure loss, perplexity and accuracy of a model
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Folder of the model, demo:modadd or demo:lm
    #[arg(value_name = "MODEL")]
    pub model: String,
    #[command(flatten)]
    pub data: DataFlags,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub common: Common,
}

impl Args {
    /// Refuses combinations of flags that contradict each other.
    pub fn check(&self) -> Result<()> {
        self.common.check()?;
        self.data.check(&self.model)
    }
}

/// Runs `mechgraph eval`.
pub fn run(args: Args) -> Result<()> {
    args.check()?;
    let progress = args.common.progress();
    let device = args.common.device(DType::F32, &progress)?;
    let loaded = Model::load(&args.model, args.common.numbers(&device, DType::F32)?)?;
    let set = args.data.load(&args.data.or_split(&args.model, "test"), &loaded)?;
    let (name, sha256, text) = (set.name.clone(), set.sha256.clone(), set.text.clone());
    let rows = set.samples.count() * set.samples.positions();
    let start = Instant::now();
    let score = evaluate(&loaded.model, set, &args.common.runner(&device, &progress)?)?;
    let seconds = start.elapsed().as_secs_f64();
    let weights = loaded.model.weight_bytes();
    // What the pass holds, and the weights that are not left in their file.
    let (plan, peak) = (progress.plan_bytes().saturating_add(weights.copied), peak_memory());
    if args.json {
        let mut data = json!({"name": name, "sha256": sha256});
        if let Some(text) = text {
            data["text"] = json!(text);
        }
        return print_json(&json!({
            "schema_version": 1,
            "model": {"name": loaded.name, "sha256": loaded.sha256},
            "data": data,
            "dtype": loaded.numbers.name(),
            "loss": score.loss,
            "perplexity": score.perplexity,
            "accuracy": score.accuracy,
            "labelled": score.labelled,
            "seconds": seconds,
            "plan_bytes": plan,
            "peak_bytes": peak,
            "weights": {"mapped_bytes": weights.mapped, "copied_bytes": weights.copied},
        }));
    }
    let megabytes = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
    let why = match loaded.model {
        Model::Lm(_) => "vectors",
        Model::Transformer(_) => "this layout is rearranged",
        Model::Mlp(_) => "this layout is read as a whole",
    };
    let (left, copied) = (megabytes(weights.mapped), megabytes(weights.copied));
    let lines = [
        ("model", loaded.name),
        ("data", name),
        ("labelled", score.labelled.to_string()),
        ("loss", format!("{:.9} nats", score.loss)),
        ("perplexity", format!("{:.9}", score.perplexity)),
        ("accuracy", format!("{:.4} %", 100.0 * score.accuracy)),
        ("weights", format!("{left} left in the file, {copied} copied ({why})")),
        ("time", format!("{seconds:.3} s, {:.0} positions a second", rows as f64 / seconds)),
        ("plan", megabytes(plan)),
        ("peak", peak.map_or_else(|| "not told by this system".into(), megabytes)),
    ];
    print(&lines.map(|(key, value)| format!("{key:<12}{value}\n")).concat())
}
