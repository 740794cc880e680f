//! Runs a grid.
use crate::fault::{Fault, FaultKind};
use crate::machine::{Launch, Options};
use crate::memory::GlobalMemory;
use crate::module::Kernel;
use crate::statistics::Statistics;

pub(crate) fn launch(
    _memory: &mut GlobalMemory,
    _options: &Options,
    kernel: &Kernel,
    _launch: &Launch,
) -> Result<Statistics, Fault> {
    Err(Fault {
        kernel: kernel.name.clone(),
        line: 0,
        text: String::new(),
        cta: [0; 3],
        warp: 0,
        lane: None,
        kind: FaultKind::Unsupported,
        message: "execution is not there yet".into(),
    })
}
