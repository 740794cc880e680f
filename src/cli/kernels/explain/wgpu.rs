//! The choice among the WGSL kernels, for an adapter with the limits that are given and exact error-free transformations.

use super::{Answer, ShapeFlags, Step, Target, assemble};
use crate::cli::common::Precision;
use crate::device::wgpu::grid;
use crate::error::{Error, Result};
use crate::kernel::linear::LinearShape;
use crate::kernel::wgsl::edges::{EDGES, EdgeShape, slabs};
use crate::kernel::wgsl::gram::{self, Arithmetic, GramShape, Product};
use crate::kernel::wgsl::linear::{self, LINEAR, Loads};
use crate::kernel::wgsl::product::{self, PRODUCT, ProductShape};
use crate::kernel::wgsl::{Limits, Transport, gram_fold};
use crate::kernel::{Configuration, Kernel};

/// Most workgroups along an axis of a grid: what WebGPU guarantees.
const WIDEST: u32 = 65_535;

pub(super) fn answer(operation: &str, flags: &ShapeFlags) -> Result<Answer> {
    let dtype = flags.dtype(&[Precision::F32], "f32, the only type of WGSL kernels")?;
    let base = Limits::BASELINE;
    let limits = Limits {
        invocations: flags.invocations.map_or(base.invocations, |n| n.get()),
        workgroup_memory: flags.workgroup_memory.map_or(base.workgroup_memory, |n| n.get()),
        ..base
    };
    let target = Target {
        backend: "wgpu",
        capability: None,
        invocations: Some(limits.invocations),
        multiprocessors: Limits::MULTIPROCESSORS,
        shared_per_block: limits.workgroup_memory,
    };
    let (rows, quads) = (flags.rows.get(), !flags.unaligned);
    match operation {
        "gram" => {
            flags.only(operation, &[])?;
            let (cols, arithmetic) = (flags.cols()?, Arithmetic::Compensated(Product::Fma));
            let shape = GramShape { rows, cols, aligned: quads && cols.is_multiple_of(4), arithmetic };
            let plan = gram::choose(&shape, &limits, None)?;
            let tiles = u64::from(plan.tiles);
            let groups = u64::from(rows.div_ceil(gram::CENTRE_SLAB)) * u64::from(cols.div_ceil(gram::CENTRE_COLUMNS));
            let folds = tiles * u64::from(plan.tile * plan.tile / gram_fold::THREADS);
            let launches = vec![
                step(&gram::CENTRE, &gram::centre(Transport::Uniform), groups)?,
                step(
                    &gram::CENTRE_FOLD,
                    &gram::centre_fold(Product::Fma, Transport::Uniform),
                    cols.div_ceil(gram::FOLD_THREADS).into(),
                )?,
                step(&gram::GRAM, plan.configuration(), tiles * u64::from(plan.slabs))?,
                step(&gram_fold::GRAM_FOLD, &gram_fold::configuration(), folds)?,
            ];
            let (slabs, each) = (plan.slabs, plan.slab_rows);
            let what =
                format!("gram: lower triangle of x'x, x [{rows}, {cols}] f32, {slabs} slabs of {each} rows, sums as pairs");
            Ok(assemble(what, &plan.choice, launches, target, flags))
        }
        "linear" => {
            flags.only(operation, &["--k", "--epilogue", "--transposed"])?;
            let (m, epilogue) = (flags.cols()?, flags.epilogue()?);
            let k = flags.k.map_or(m, |k| k.get());
            let aligned = quads && k.is_multiple_of(4) && (flags.transposed || m.is_multiple_of(4));
            let shape = LinearShape { dtype, n: rows, k, m, transpose: flags.transposed, epilogue, aligned };
            let loads = if aligned { Loads::Quads } else { Loads::Elements };
            let plan = linear::choose(&shape, loads, &limits, None)?;
            let tiles = u64::from(rows.div_ceil(plan.tile.0)) * u64::from(m.div_ceil(plan.tile.1));
            let launches = vec![step(&LINEAR, plan.configuration(), tiles)?];
            Ok(assemble(super::text::of_linear(&shape, "f32"), &plan.choice, launches, target, flags))
        }
        "product" => {
            flags.only(operation, &["--k", "--batch"])?;
            let n = flags.cols()?;
            let (k, matrices) = (flags.k.map_or(n, |k| k.get()), flags.batch.map_or(1, |b| b.get()).into());
            let plan = product::choose(&ProductShape { m: rows, n, k, matrices, quads }, &limits)?;
            let launches = vec![step(&PRODUCT, plan.configuration(), plan.tiles.saturating_mul(matrices))?];
            let what = format!("product: {matrices} of A [{rows}, {k}] f32 times B [{k}, {n}]");
            Ok(assemble(what, &plan.choice, launches, target, flags))
        }
        "edges" => {
            flags.only(operation, &["--k"])?;
            let k = flags.cols()?;
            let hidden = flags.k.map_or(k, |k| k.get());
            let slabs = slabs(rows, k, k, &limits).ok_or_else(|| {
                Error::flag(
                    "--d",
                    k.to_string(),
                    format!("edges whose square is at most the {} elements of a binding", limits.binding),
                )
            })?;
            let shape = EdgeShape { n: rows, k_in: k, k_out: k, slabs, quads: quads && k.is_multiple_of(4) };
            let plan = shape.squares(1, hidden, &limits)?;
            let launches = vec![step(&EDGES, plan.configuration(), plan.tiles * u64::from(slabs.count))?];
            let (count, each) = (slabs.count, slabs.tokens);
            let what =
                format!("edges: [{k}, {k}] f32 over {rows} tokens and {hidden} hidden units, {count} slabs of {each} tokens");
            Ok(assemble(what, &plan.choice, launches, target, flags))
        }
        _ => Err(Error::flag("--explain", operation, "gram, linear, product or edges")),
    }
}

fn step(kernel: &Kernel, configuration: &Configuration, groups: u64) -> Result<Step> {
    let name = format!("{}@{}", kernel.name, configuration.name);
    let found = || format!("{groups} workgroups");
    let grid = grid(groups, WIDEST).ok_or_else(|| Error::Kernel {
        name: name.clone(),
        found: found(),
        expected: format!("at most {WIDEST} x {WIDEST}"),
    })?;
    Ok(Step { kernel: name, grid, threads: configuration.threads, shared: configuration.shared, registers: None })
}
