//! y[r * n + i, :] = f_hat[i, :] * mask_r: features kept by each of R ablation masks.

use crate::device::{Arena, Real, Tensor, View};

/// `f_hat` `[n, k]`, `masks` `[R, k]`, `y` `[R * n, k]`.
#[derive(Clone, Debug)]
pub struct Args {
    pub f_hat: View,
    pub masks: Tensor,
    pub y: View,
}

/// Runs on one CPU thread.
pub fn cpu<T: Real>(a: &Args, m: &mut Arena<T>) {
    let mut y = m.take(a.y.buffer);
    let n = a.f_hat.rows;
    for (r, mask) in a.masks.slice::<T>().chunks_exact(a.masks.cols).enumerate() {
        for i in 0..n {
            for ((y, f), keep) in y[a.y.range(r * n + i)].iter_mut().zip(m.row(&a.f_hat, i)).zip(mask) {
                *y = *f * *keep;
            }
        }
    }
    m.put(a.y.buffer, y);
}
