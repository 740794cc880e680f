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

#[cfg(test)]
mod tests {
    use super::super::fixture::{Fixture, assert_adjoint, numbers, read};
    use super::*;

    const ROWS: [u32; 4] = [2, 0, 2, 4];
    const N: usize = 5;
    const D: usize = 3;
    const PROBES: usize = 2;

    #[test]
    fn rows_are_gathered_and_scattered_back() {
        let (x, w) = (numbers(PROBES * N * D, 1), numbers(PROBES * ROWS.len() * D, 2));
        let mut f = Fixture::default();
        let (rows, few, many) = (f.ints(&ROWS), PROBES * ROWS.len(), PROBES * N);
        let gather = Args { x: f.input(many, D, &x), rows, y: f.output(few, D) };
        let scatter = ScatterArgs { x: f.input(few, D, &w), rows, y: f.output(many, D) };
        gather.check().unwrap();
        scatter.check().unwrap();
        let mut m = f.arena::<f64>();
        cpu(&gather, &mut m);
        cpu_scatter(&scatter, &mut m);
        let (y, back) = (read(&m, &gather.y), read(&m, &scatter.y));
        for (i, y) in y.chunks(D).enumerate() {
            let row = i / ROWS.len() * N + ROWS[i % ROWS.len()] as usize;
            assert_eq!(y, &x[row * D..(row + 1) * D]);
        }
        assert_eq!(back[D..2 * D], [0.0; D], "a row that nobody chose");
        assert_eq!(back[2 * D], w[0] + w[2 * D], "a row that is chosen twice");
        assert_adjoint(&y, &w, &x, &back);
    }

    #[test]
    fn no_rows_at_all_leave_zeros() {
        let mut f = Fixture::default();
        let a = ScatterArgs { x: f.output(0, D), rows: f.ints(&[]), y: f.output(N, D) };
        a.check().unwrap();
        let mut m = f.arena::<f32>();
        cpu_scatter(&a, &mut m);
        assert_eq!(read(&m, &a.y), [0.0; N * D]);
    }

    #[test]
    fn wrong_shapes_are_refused() {
        let mut f = Fixture::default();
        let (rows, x, y) = (f.ints(&ROWS), f.output(10, D), f.output(8, D));
        assert!(Args { x, rows, y }.check().is_ok());
        assert!(Args { x, rows, y: f.output(6, D) }.check().is_err());
        assert!(Args { x: f.output(9, D), rows, y }.check().is_err());
        assert!(Args { x: y, rows, y }.check().is_err());
        let error = ScatterArgs { x: y, rows, y: f.output(10, 2) }.check().unwrap_err().to_string();
        assert_eq!(error, "operation scatter: found y [10, 2]; expected y [10, 3]");
    }
}
