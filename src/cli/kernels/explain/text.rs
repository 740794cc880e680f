//! The answer for people.

use std::collections::BTreeMap;

use super::Answer;
use crate::kernel::linear::LinearShape;

/// What is asked about a linear map.
pub(super) fn of_linear(shape: &LinearShape, dtype: &str) -> String {
    let LinearShape { n, k, m, epilogue, .. } = shape;
    let w = if shape.transpose { format!("[{m}, {k}] transposed") } else { format!("[{k}, {m}]") };
    format!("linear: x [{n}, {k}] {dtype} times W {w}, epilogue {}", epilogue.name())
}

fn device(a: &Answer) -> String {
    match (a.capability, a.invocations) {
        (Some((major, minor)), _) => format!(
            "compute capability {major}.{minor}, {} multiprocessors, {} bytes of shared memory a CTA",
            a.multiprocessors, a.shared_per_block
        ),
        (None, invocations) => format!(
            "at most {} invocations and {} bytes of memory a workgroup, {} multiprocessors assumed",
            invocations.unwrap_or_default(),
            a.shared_per_block,
            a.multiprocessors
        ),
    }
}

pub(super) fn of(a: &Answer) -> String {
    let floor = |ms: Option<f64>| ms.map_or_else(|| "unmeasured".to_string(), |ms| format!("{ms:.4} ms"));
    let mut text = format!("{}\ndevice: {}\n", a.operation, device(a));
    text += &format!(
        "{:.3} GFLOP, floor {}; {:.3} MB at the fewest, floor {}\n",
        a.flops / 1e9,
        floor(a.compute_floor_ms),
        a.bytes / 1e6,
        floor(a.memory_floor_ms)
    );
    let of_cuda = a.capability.is_some();
    let units = if of_cuda { "CTAs" } else { "workgroups" };
    text += &format!("\n{}: estimated clocks, the least wins\n", a.kernel);
    let mut rejected: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for c in &a.candidates {
        match (c.cost, c.ctas, c.resident, c.waves, c.rejected.as_deref()) {
            (Some(cost), Some(ctas), Some(resident), Some(waves), _) => {
                let mark = if c.chosen { "->" } else { "  " };
                text += &format!(
                    "{mark} {:<36} {cost:>12.0}  {ctas} {units}, {resident} a multiprocessor, {waves} waves\n",
                    c.configuration
                );
            }
            (.., why) => rejected.entry(why.unwrap_or_default()).or_default().push(&c.configuration),
        }
    }
    for (why, names) in rejected {
        let more = names.len().saturating_sub(2);
        let shown = names[..names.len() - more].join(", ");
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        text += &format!("   rejected: {shown}{more}: {why}\n");
    }
    text += "\nlaunches\n";
    for step in &a.launches {
        let [x, y, z] = step.grid;
        let (threads, shared) = (step.threads, step.shared);
        let what = match step.registers {
            Some(registers) => {
                format!("{threads} threads, {shared} bytes of shared memory, at most {registers} registers a thread")
            }
            None => format!("{threads} invocations, {shared} bytes of workgroup memory"),
        };
        text += &format!("   {:<36} grid {x} x {y} x {z}, {what}\n", step.kernel);
    }
    text
}
