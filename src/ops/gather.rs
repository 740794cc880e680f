//! Chosen rows: gathered out of all rows, and scattered back.

use super::{check, outputs::Outputs};
use crate::device::{Arena, IntBuffer, Real, View};
use crate::error::{Error, Result};

/// `y[j] = x[rows[j]]`, for each of `R` probes.
#[derive(Clone, Debug)]
pub struct Args {
    /// `[R * n, d]`.
    pub x: View,
    /// `[m]`: rows below `n`: whoever fills the buffer has checked them.
    pub rows: IntBuffer,
    /// Output `[R * m, d]`.
    pub y: View,
}

impl Args {
    /// Whether the shapes agree and the output has a buffer of its own.
    pub fn check(&self) -> Result<()> {
        let op = "gather";
        check_probes(op, ("y", &self.y), ("x", &self.x), self.rows)?;
        check::apart(op, &[&self.y], &[&self.x])
    }
}

/// Runs [`Args`] on one CPU thread.
pub fn cpu<T: Real>(a: &Args, m: &mut Arena<T>) {
    let mut out = Outputs::take(m, [&a.y]);
    for (few, many) in pairs(&a.y, &a.x, m.int(a.rows)) {
        out.row(&a.y, few).copy_from_slice(m.row(&a.x, many));
    }
    out.put(m);
}

/// The transpose of [`Args`]: `y = 0`, then `y[rows[j]] += x[j]`, for each of `R` probes.
#[derive(Clone, Debug)]
pub struct ScatterArgs {
    /// `[R * m, d]`.
    pub x: View,
    /// `[m]`: rows below `n`: whoever fills the buffer has checked them.
    pub rows: IntBuffer,
    /// Output `[R * n, d]`.
    pub y: View,
}

impl ScatterArgs {
    /// Whether the shapes agree and the output has a buffer of its own.
    pub fn check(&self) -> Result<()> {
        let op = "scatter";
        check_probes(op, ("x", &self.x), ("y", &self.y), self.rows)?;
        check::apart(op, &[&self.y], &[&self.x])
    }
}

/// Runs [`ScatterArgs`] on one CPU thread.
pub fn cpu_scatter<T: Real>(a: &ScatterArgs, m: &mut Arena<T>) {
    let mut out = Outputs::take(m, [&a.y]);
    (0..a.y.rows).for_each(|i| out.row(&a.y, i).fill(T::ZERO));
    for (few, many) in pairs(&a.x, &a.y, m.int(a.rows)) {
        let y = out.row(&a.y, many);
        y.iter_mut().zip(m.row(&a.x, few)).for_each(|(y, &x)| *y += x);
    }
    out.put(m);
}

/// Every row of `few [R * m, d]` with its row of `many [R * n, d]`.
fn pairs(few: &View, many: &View, rows: &[u32]) -> impl Iterator<Item = (usize, usize)> {
    let n = many.rows * rows.len() / few.rows.max(1);
    (0..few.rows).map(move |i| (i, i / rows.len() * n + rows[i % rows.len()] as usize))
}

/// `few` must be `[R * m, d]` and `many` `[R * n, d]`, for `m` rows chosen.
fn check_probes(op: &'static str, few: (&str, &View), many: (&str, &View), rows: IntBuffer) -> Result<()> {
    let probes = check::probes(op, few.0, few.1, rows.len, few.1.cols)?;
    check::view(op, many.0, many.1, many.1.rows, few.1.cols)?;
    if probes > 0 && !many.1.rows.is_multiple_of(probes) {
        return Err(Error::shape(op, format!("{} of {} rows", many.0, many.1.rows), format!("whole rows of {probes} probes")));
    }
    Ok(())
}
