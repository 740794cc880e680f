//! Ablations of features: what passes each of many masks, and the outputs read back from the runs of
//! the masks they belong to. Masks are taken in chunks of R, so that one set of buffers serves any
//! number of them.

use std::sync::Arc;

use super::{check, outputs::Outputs, rows};
use crate::device::{Arena, IntBuffer, Real, Tensor, View};
use crate::error::{Error, Result};

/// y[r * n + i, :] = f_hat[i, :] * mask_p for mask p = index * R + r; 0 behind the last mask.
#[derive(Clone, Debug)]
pub struct Args {
    /// `[n, k]`
    pub f_hat: View,
    /// `[masks, k]`
    pub masks: Tensor,
    /// `[1]`: number of the chunk
    pub index: IntBuffer,
    /// `[R * n, k]`
    pub y: View,
}

impl Args {
    /// Whether the shapes agree and the output has a buffer of its own.
    pub fn check(&self) -> Result<()> {
        check::tensor("mask", "masks", &self.masks, self.masks.rows, self.f_hat.cols)?;
        check::probes("mask", "y", &self.y, self.f_hat.rows, self.f_hat.cols)?;
        check::apart("mask", &[&self.y], &[&self.f_hat])
    }
}

/// Runs on one CPU thread.
pub fn cpu<T: Real>(a: &Args, m: &mut Arena<T>) {
    let mut out = Outputs::take(m, [&a.y]);
    let (n, k) = (a.f_hat.rows, a.f_hat.cols);
    let (masks, first) = (a.masks.slice::<T>(), m.int(a.index)[0] as usize * (a.y.rows / n));
    for row in 0..a.y.rows {
        let (y, p) = (out.row(&a.y, row), first + row / n);
        if p >= a.masks.rows {
            y.fill(T::ZERO);
            continue;
        }
        for ((y, f), keep) in y.iter_mut().zip(m.row(&a.f_hat, row % n)).zip(&masks[p * k..]) {
            *y = *f * *keep;
        }
    }
    out.put(m);
}

/// y[i, f] += x[r * n + i, :] . W_f for every feature f that belongs to mask p = index * R + r: each
/// output is read from the run of its own mask alone.
#[derive(Clone, Debug)]
pub struct ReadoutArgs {
    /// `[R * n, d]`
    pub x: View,
    /// W' `[k, d]`
    pub w_t: Tensor,
    /// `[k]`: the mask of each feature
    pub owners: Arc<[usize]>,
    /// `[1]`: number of the chunk
    pub index: IntBuffer,
    /// `[n, k]`, read and written
    pub y: View,
}

impl ReadoutArgs {
    /// Whether the shapes agree and the output has a buffer of its own.
    pub fn check(&self) -> Result<()> {
        let op = "readout";
        check::tensor(op, "w_t", &self.w_t, self.y.cols, self.x.cols)?;
        check::probes(op, "x", &self.x, self.y.rows, self.x.cols)?;
        if self.owners.len() != self.y.cols {
            return Err(Error::shape(op, format!("{} owners", self.owners.len()), format!("{} owners", self.y.cols)));
        }
        check::apart(op, &[&self.y], &[&self.x])
    }
}

/// Runs on one CPU thread.
pub fn cpu_readout<T: Real>(a: &ReadoutArgs, m: &mut Arena<T>) {
    let mut out = Outputs::take(m, [&a.y]);
    let (n, d, probes) = (a.y.rows, a.x.cols, a.x.rows / a.y.rows);
    let (w_t, first) = (a.w_t.slice::<T>(), m.int(a.index)[0] as usize * probes);
    for (f, &p) in a.owners.iter().enumerate().filter(|(_, p)| (first..first + probes).contains(*p)) {
        let w = &w_t[f * d..][..d];
        for i in 0..n {
            out.row(&a.y, i)[f] += rows::dot(m.row(&a.x, (p - first) * n + i), w);
        }
    }
    out.put(m);
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Fixture, assert_close, numbers, read};
    use super::*;
    use crate::device::DType;

    const N: usize = 3;
    const R: usize = 2;

    #[test]
    fn a_chunk_of_masks_is_applied_and_what_is_behind_the_last_is_zero() {
        let k = 5;
        let f_hat = numbers(N * k, 1);
        let masks: Vec<f64> = (0..3 * k).map(|i| f64::from(u8::from(i % 4 < 2))).collect();
        for chunk in 0..2 {
            let mut f = Fixture::default();
            let a = Args {
                f_hat: f.input(N, k, &f_hat),
                masks: Tensor::from_f64(DType::F64, 3, k, masks.clone()),
                index: f.ints(&[chunk]),
                y: f.output(R * N, k),
            };
            a.check().unwrap();
            assert!(Args { y: f.output(R * N + 1, k), ..a.clone() }.check().is_err());
            assert!(Args { masks: Tensor::row(DType::F64, vec![1.0; k - 1]), ..a.clone() }.check().is_err());
            let mut m = f.arena::<f64>();
            cpu(&a, &mut m);
            let keep = |p: usize, j: usize| masks.get(p * k + j).copied().unwrap_or(0.0);
            let at = |e: usize| (chunk as usize * R + e / (N * k), e / k % N, e % k);
            let want: Vec<f64> = (0..R * N * k).map(at).map(|(p, i, j)| f_hat[i * k + j] * keep(p, j)).collect();
            assert_eq!(read(&m, &a.y), want);
        }
    }

    #[test]
    fn outputs_are_read_from_the_run_of_their_mask() {
        let (d, k, held) = (19, 4, 0.5);
        let (x, w_t) = (numbers(2 * R * N * d, 1), numbers(k * d, 2));
        let owners = [3, 0, 2, 0];
        let mut got = vec![held; N * k];
        for chunk in 0..2 {
            let mut f = Fixture::default();
            let a = ReadoutArgs {
                x: f.input(R * N, d, &x[chunk * R * N * d..][..R * N * d]),
                w_t: Tensor::from_f64(DType::F64, k, d, w_t.clone()),
                owners: Arc::new(owners),
                index: f.ints(&[chunk as u32]),
                y: f.input(N, k, &got),
            };
            a.check().unwrap();
            assert!(ReadoutArgs { owners: Arc::new([0; 3]), ..a.clone() }.check().is_err());
            assert!(ReadoutArgs { y: f.output(N + 1, k), ..a.clone() }.check().is_err());
            let mut m = f.arena::<f64>();
            cpu_readout(&a, &mut m);
            got = read(&m, &a.y);
        }
        let dot = |i: usize, f: usize| (0..d).map(|c| x[(owners[f] * N + i) * d + c] * w_t[f * d + c]).sum::<f64>();
        let want: Vec<f64> = (0..N * k).map(|e| held + dot(e / k, e % k)).collect();
        assert_close(&got, &want, 1e-14);
    }
}
