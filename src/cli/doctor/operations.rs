//! Every operation at a ragged shape and at one of whole quads, which other kernels may do: against the CPU in f64, and
//! twice.

use super::report::Row;
use crate::cli::bench::check::{Ran, Run};
use crate::cli::bench::parsed;
use crate::cli::bench::set::Set;
use crate::cli::bench::work::{Op, Work};
use crate::device::{DType, Device, Real};
use crate::error::{Error, Result};
use crate::ops::offload;
use crate::progress::Progress;

const CHECK: &str = "operation";

/// The largest relative Frobenius error of a result that is still rounding.
fn bound(op: Op, dtype: DType) -> f64 {
    let name = op.0.name;
    match dtype {
        DType::F64 => 1e-12,
        DType::F32 if name.contains("attention") || name.contains("norm") => 5e-6,
        DType::F32 => 1e-6,
    }
}

/// A row for each operation and dtype. What goes wrong with an operation is in its row.
pub fn rows(device: &Device, dtypes: &[DType], seed: u64, progress: &Progress) -> Result<Vec<Row>> {
    let mut works = Vec::new();
    for op in Op::all() {
        for dtype in dtypes {
            for shape in parsed(op.0.shapes.ragged) {
                for shape in [shape.clone(), shape.in_quads()] {
                    works.extend(Work::new(op, *dtype, &shape)?);
                }
            }
        }
    }
    let stage = progress.stage("operations", works.len() as u64, "operations");
    let one = |work: &Work| {
        let row = match work.dtype {
            DType::F32 => row::<f32>(device, work, seed),
            DType::F64 => row::<f64>(device, work, seed),
        };
        stage.add(1);
        row
    };
    let rows = works.iter().map(one).collect();
    stage.finish();
    Ok(rows)
}

fn row<T: Real>(device: &Device, work: &Work, seed: u64) -> Row {
    let (of, bound) = (format!("{} {}", work.op.0.name, work.shape()), bound(work.op, work.dtype));
    match measured::<T>(device, work, seed) {
        Ok(Some((error, kernels))) => Row::judged(CHECK, of, work.dtype, (error, bound), kernels),
        Ok(None) => Row::left(CHECK, of, work.dtype, bound),
        Err(e) => Row::failed(CHECK, of, work.dtype, bound, &e),
    }
}

/// The error against f64 and what computed the result; `None` where the device has no kernel. Fails where the result is not
/// finite or far off, or a second run in other memory leaves other bits.
fn measured<T: Real>(device: &Device, work: &Work, seed: u64) -> Result<Option<(f64, String)>> {
    let host = device.host();
    let case = host.install(|| work.case(seed));
    if !offload::has_kernels(device, &case.program) {
        return Ok(None);
    }
    let mut set = Set::<T>::new(device, &case)?;
    let ran = set.once(&case)?;
    let mut again = |fewer: &Work| -> Result<Ran> {
        let case = host.install(|| fewer.case(seed));
        Set::<T>::new(device, &case)?.once(&case)
    };
    let checked = Run { work, case: &case, arena: set.arena(), seed, ran: &ran }.check(host, Some(&mut again))?;
    if again(work)?.found != ran.found {
        return Err(Error::numeric(format!("{} again", work.op.0.name), "other numbers", "the same bits"));
    }
    let is_reference = matches!(device, Device::Cpu(_)) && work.dtype == DType::F64 && !work.op.0.recomputed;
    let by = if is_reference { "the reference itself".into() } else { ran.kernels.join(" + ") };
    Ok(Some((checked.error.unwrap_or(f64::NAN), by)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::report::Verdict;
    use crate::device::Cpu;
    use crate::progress::Mode;

    #[test]
    fn the_cpu_passes_in_both_types() {
        let device = Device::Cpu(Cpu::new(2).unwrap());
        let rows = rows(&device, &[DType::F32, DType::F64], 3, &Progress::new(Mode::Quiet)).unwrap();
        assert!(rows.len() >= 4 * Op::all().count());
        let failed: Vec<&Row> = rows.iter().filter(|r| r.verdict != Verdict::Passed).collect();
        assert!(failed.is_empty(), "{failed:?}");
        assert!(rows.iter().any(|r| r.error > Some(1e-9)));
    }
}
