//! `mechgraph kernels`: the kernels of this build, their texts, and the choice among them. Needs no
//! driver and opens no device.

mod explain;

use serde::Serialize;

use super::common::{print, print_json};
use crate::error::Result;
use crate::kernel::registry::{self, Kernel, Language};

/// List the kernels, print one, or explain which one a device would be handed
#[derive(clap::Args, Clone, Debug)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(false).args(["list", "dump", "explain"]))]
pub struct Args {
    /// Print KERNEL@CONFIGURATION of every text, one a line
    #[arg(long)]
    pub list: bool,
    /// Print the text of a kernel [default: its first configuration]
    #[arg(long, value_name = "KERNEL[@CONFIG]")]
    pub dump: Option<String>,
    /// Say which configurations of an operation could run, and which does
    #[arg(long, value_name = "OP")]
    pub explain: Option<String>,
    /// Print JSON
    #[arg(long, conflicts_with = "dump")]
    pub json: bool,
    #[command(flatten)]
    pub shape: explain::ShapeFlags,
}

/// A line of `--list`.
#[derive(Debug, Serialize)]
struct Row {
    kernel: &'static str,
    configuration: String,
    operation: &'static str,
    language: &'static str,
    threads: u32,
    /// Bytes of dynamic shared memory, or of workgroup memory.
    shared: u32,
}

/// Runs `mechgraph kernels`.
pub fn run(args: Args) -> Result<()> {
    match (&args.dump, &args.explain) {
        (Some(name), _) => print(&text(name)?),
        (None, Some(operation)) => explain::run(operation, &args.shape, args.json),
        (None, None) if args.json => print_json(&serde_json::json!({"schema_version": 1, "kernels": rows()})),
        (None, None) => print(&rows().iter().map(|r| format!("{}@{}\n", r.kernel, r.configuration)).collect::<String>()),
    }
}

/// Every text, sorted by name.
fn rows() -> Vec<Row> {
    let of = |k: &'static Kernel| {
        (k.configurations)().into_iter().map(|c| Row {
            kernel: k.name,
            configuration: c.name,
            operation: k.operation,
            language: match k.language {
                Language::Ptx { .. } => "ptx",
                Language::Wgsl => "wgsl",
            },
            threads: c.threads,
            shared: c.shared,
        })
    };
    let mut rows: Vec<Row> = registry::all().flat_map(of).collect();
    rows.sort_by(|a, b| (a.kernel, &a.configuration).cmp(&(b.kernel, &b.configuration)));
    rows
}

/// What a device is handed for `KERNEL@CONFIG`, or for the first configuration of `KERNEL`.
fn text(name: &str) -> Result<String> {
    let (kernel, configuration) = name.split_once('@').map_or((name, None), |(k, c)| (k, Some(c)));
    let kernel = registry::find(kernel)?;
    let all = (kernel.configurations)();
    let configuration = configuration.or(all.first().map(|c| c.name.as_str())).unwrap_or_default();
    kernel.expand(&kernel.configuration(configuration)?)
}
