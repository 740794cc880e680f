//! The choice among the PTX kernels.

use super::{Answer, ShapeFlags, Step, Target, assemble};
use crate::cli::common::Precision;
use crate::device::DType;
use crate::error::{Error, Result};
use crate::kernel::linear::LinearShape;
use crate::kernel::tuning::{Launch, Limits};
use crate::kernel::{budget, gram, linear};

/// Bytes of shared memory that a CTA may have, by compute capability (CUDA C++ Programming Guide,
/// technical specifications). Devices that are not listed get what the least of them has.
fn shared_per_block(capability: (u32, u32)) -> u32 {
    let kib = match capability {
        (8, 0) | (8, 7) => 163,
        (9, 0) | (10, _) | (11, 0) => 227,
        _ => 99,
    };
    kib << 10
}

pub(super) fn answer(operation: &str, flags: &ShapeFlags) -> Result<Answer> {
    let dtype = flags.dtype(&[Precision::F32, Precision::F64], "f32 or f64")?;
    let capability = flags.capability.unwrap_or((9, 0));
    let multiprocessors = flags.multiprocessors.map_or(132, |n| n.get());
    let limits = Limits { capability, multiprocessors, shared_per_block: shared_per_block(capability) };
    let target = Target {
        backend: "cuda",
        capability: Some(capability),
        invocations: None,
        multiprocessors,
        shared_per_block: limits.shared_per_block,
    };
    let (rows, aligned) = (flags.rows.get(), !flags.unaligned);
    match operation {
        "gram" => {
            flags.only(operation, &[])?;
            let cols = flags.cols()?;
            let plan = gram::choose(&gram::GramShape { dtype, rows, cols, aligned }, &limits)?;
            let launches = [gram::centre(dtype, cols), plan.gram.clone(), plan.fold(DType::F64)?];
            let what = format!(
                "gram: lower triangle of x'x, x [{rows}, {cols}] {}, {} slabs of {} rows",
                dtype.name(),
                plan.split.slabs,
                plan.split.slab_rows
            );
            Ok(assemble(what, &plan.choice, steps(&launches)?, target, flags))
        }
        "linear" => {
            flags.only(operation, &["--k", "--epilogue", "--transposed"])?;
            let (cols, epilogue) = (flags.cols()?, flags.epilogue()?);
            let k = flags.k.map_or(cols, |k| k.get());
            let shape = LinearShape { dtype, n: rows, k, m: cols, transpose: flags.transposed, epilogue, aligned };
            let plan = linear::choose(&shape, &limits)?;
            let what = super::text::of_linear(&shape, dtype.name());
            Ok(assemble(what, &plan.choice, steps(std::slice::from_ref(&plan.launch))?, target, flags))
        }
        _ => Err(Error::flag("--explain", operation, "gram or linear; with --backend wgpu also product or edges")),
    }
}

fn steps(launches: &[Launch]) -> Result<Vec<Step>> {
    let budgets = budget::all()?;
    let step = |l: &Launch| {
        let (threads, shared) = (l.configuration.threads, l.configuration.shared);
        let registers = Some(budget::of(&budgets, l.kernel.name, &l.configuration.name)?.registers);
        Ok(Step { kernel: format!("{}@{}", l.kernel.name, l.configuration.name), grid: l.grid, threads, shared, registers })
    };
    launches.iter().map(step).collect()
}
