//! Checks of an operation's arguments, done once, when a program is built.

use crate::device::{Tensor, View};
use crate::error::{Error, Result};

/// `v` must be `[rows, cols]` and lie inside its buffer.
pub(super) fn view(op: &'static str, name: &str, v: &View, rows: usize, cols: usize) -> Result<()> {
    if (v.rows, v.cols) != (rows, cols) {
        return Err(Error::shape(op, format!("{name} [{}, {}]", v.rows, v.cols), format!("{name} [{rows}, {cols}]")));
    }
    let end = if rows == 0 || cols == 0 { 0 } else { v.range(rows - 1).end };
    if end > v.buffer.len || (v.stride < cols && rows > 1) {
        let found = format!("{name} with stride {} ending at element {end}", v.stride);
        return Err(Error::shape(op, found, format!("a stride of at least {cols} and an end within {} elements", v.buffer.len)));
    }
    Ok(())
}

/// `v` must hold the rows of a whole number of probes, `[R * n, cols]`; returns `R`.
pub(super) fn probes(op: &'static str, name: &str, v: &View, n: usize, cols: usize) -> Result<usize> {
    if v.rows == 0 {
        return view(op, name, v, 0, cols).map(|()| 0);
    }
    if n == 0 || !v.rows.is_multiple_of(n) {
        return Err(Error::shape(op, format!("{name} of {} rows", v.rows), format!("a multiple of {n} rows")));
    }
    view(op, name, v, v.rows, cols).map(|()| v.rows / n)
}

/// `t` must be `[rows, cols]`.
pub(super) fn tensor(op: &'static str, name: &str, t: &Tensor, rows: usize, cols: usize) -> Result<()> {
    if (t.rows, t.cols) == (rows, cols) {
        return Ok(());
    }
    Err(Error::shape(op, format!("{name} [{}, {}]", t.rows, t.cols), format!("{name} [{rows}, {cols}]")))
}

/// No output may lie in the buffer of an input: it is taken out of the arena while inputs are read.
pub(super) fn apart(op: &'static str, outputs: &[&View], inputs: &[&View]) -> Result<()> {
    if outputs.iter().any(|o| inputs.iter().any(|i| i.buffer == o.buffer)) {
        return Err(Error::shape(op, "an output in the buffer of an input", "outputs in buffers of their own"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Builder, DType};

    #[test]
    fn refusals_name_what_was_found() {
        let mut b = Builder::<()>::new(DType::F64);
        let v = b.matrix(6, 4);
        assert!(view("t", "x", &v, 6, 4).is_ok());
        assert_eq!(view("t", "x", &v, 6, 5).unwrap_err().to_string(), "operation t: found x [6, 4]; expected x [6, 5]");
        assert!(view("t", "x", &View { offset: 1, ..v }, 6, 4).is_err());
        assert!(view("t", "x", &View { stride: 3, ..v }, 6, 4).is_err());
        assert_eq!(probes("t", "dx", &v, 3, 4).unwrap(), 2);
        assert_eq!(probes("t", "dx", &v.slice_rows(0, 0), 3, 4).unwrap(), 0);
        assert!(probes("t", "dx", &v, 4, 4).is_err() && probes("t", "dx", &v, 0, 4).is_err());
        assert!(apart("t", &[&v], &[&v.columns(1, 1)]).is_err());
        assert!(apart("t", &[&v], &[&b.matrix(6, 4)]).is_ok());
    }
}
