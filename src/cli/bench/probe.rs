//! `mechgraph bench --probe`: what a CUDA device and its driver do that no document says: how the
//! tensor cores round, which PTX the driver takes, how long it compiles our kernels.

use std::time::Instant;

use serde::Serialize;

use super::rounding::{self, Rounding};
use crate::device::cuda::{Cuda, Lane};
use crate::error::Result;
use crate::kernel::registry::{self, Language};
use crate::progress::Progress;

/// Versions of PTX that are tried, by major number: the minor numbers from 0 to this one.
const VERSIONS: [(u32, u32); 3] = [(7, 8), (8, 9), (9, 9)];

/// The answers.
#[derive(Debug, Serialize)]
pub struct Probe {
    schema_version: u32,
    version: &'static str,
    device: String,
    rounding: Rounding,
    /// The newest `.version` that the driver compiles.
    newest_ptx: Option<String>,
    /// Every text, the slowest to compile first.
    compiled: Vec<Compiled>,
}

/// A text as the driver compiled it.
#[derive(Debug, Serialize)]
struct Compiled {
    /// `kernel@configuration`
    kernel: String,
    milliseconds: f64,
    registers: u32,
    /// Bytes of local memory a thread: spills.
    local: u32,
}

impl Probe {
    /// Asks the device.
    pub fn new(cuda: &Cuda, progress: &Progress) -> Result<Self> {
        Ok(Self {
            schema_version: 1,
            version: env!("CARGO_PKG_VERSION"),
            device: cuda.describe(),
            rounding: rounding::measure(&mut Lane::new(cuda)?)?,
            newest_ptx: newest_ptx(cuda),
            compiled: compiled(cuda, progress)?,
        })
    }
    /// Lines for people.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n{}", self.device, self.rounding.text());
        text += &format!("newest PTX that the driver takes: {}\n", self.newest_ptx.as_deref().unwrap_or("none"));
        let total: f64 = self.compiled.iter().map(|c| c.milliseconds).sum();
        text += &format!("{} texts compiled in {total:.0} ms, the slowest:\n", self.compiled.len());
        for c in self.compiled.iter().take(3) {
            text += &format!("  {} {:.1} ms, {} registers\n", c.kernel, c.milliseconds, c.registers);
        }
        for c in self.compiled.iter().filter(|c| c.local > 0) {
            text += &format!("  {} spills: {} bytes of local memory\n", c.kernel, c.local);
        }
        text
    }
}

/// The newest version of PTX of which the driver compiles an empty kernel.
fn newest_ptx(cuda: &Cuda) -> Option<String> {
    let mut versions =
        VERSIONS.iter().rev().flat_map(|&(major, last)| (0..=last).rev().map(move |minor| format!("{major}.{minor}")));
    versions.find(|version| {
        let text = format!(".version {version}\n.target sm_80\n.address_size 64\n.visible .entry empty()\n{{\n    ret;\n}}\n");
        let module = cuda.driver().module_load(&text);
        module.is_ok_and(|module| cuda.driver().module_unload(module).is_ok())
    })
}

fn compiled(cuda: &Cuda, progress: &Progress) -> Result<Vec<Compiled>> {
    let capability = cuda.properties().capability;
    let runs = |language: Language| matches!(language, Language::Ptx { least } if least <= capability);
    let texts: Vec<_> = registry::all()
        .filter(|k| runs(k.language))
        .flat_map(|k| (k.configurations)().into_iter().map(move |c| (k, c)))
        .collect();
    let stage = progress.stage("compile", texts.len() as u64, "texts");
    let mut compiled = Vec::new();
    for (kernel, configuration) in texts {
        let start = Instant::now();
        let function = cuda.function(kernel, &configuration)?;
        let milliseconds = 1e3 * start.elapsed().as_secs_f64();
        let properties = cuda.function_properties(function)?;
        let (registers, local) = (properties.registers, properties.local);
        compiled.push(Compiled { kernel: format!("{}@{}", kernel.name, configuration.name), milliseconds, registers, local });
        stage.add(1);
    }
    stage.finish();
    compiled.sort_by(|a, b| b.milliseconds.total_cmp(&a.milliseconds));
    Ok(compiled)
}
