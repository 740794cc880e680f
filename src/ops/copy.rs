//! y = s x or y += s x between views: members that pass by, residual additions, scaled inputs.

use crate::device::{Arena, Real, View};

/// `x` and `y` are `[n, d]` in different buffers.
#[derive(Clone, Debug)]
pub struct Args {
    pub x: View,
    pub y: View,
    pub scale: f64,
    pub accumulate: bool,
}

impl Args {
    /// y = x.
    pub fn new(x: View, y: View) -> Self {
        Self { x, y, scale: 1.0, accumulate: false }
    }
    /// y += x.
    pub fn add(x: View, y: View) -> Self {
        Self { accumulate: true, ..Self::new(x, y) }
    }
}

/// Runs on one CPU thread.
pub fn cpu<T: Real>(a: &Args, m: &mut Arena<T>) {
    assert_eq!((a.x.rows, a.x.cols), (a.y.rows, a.y.cols), "copy between views of one shape");
    let mut y = m.take(a.y.buffer);
    let s = T::of(a.scale);
    for i in 0..a.y.rows {
        let (y, x) = (&mut y[a.y.range(i)], m.row(&a.x, i));
        if a.accumulate {
            y.iter_mut().zip(x).for_each(|(y, x)| *y += s * *x);
        } else {
            y.iter_mut().zip(x).for_each(|(y, x)| *y = s * *x);
        }
    }
    m.put(a.y.buffer, y);
}

/// y[i, j] = value: the constant coordinates of a tuple.
#[derive(Clone, Debug)]
pub struct FillArgs {
    pub y: View,
    pub value: f64,
}

/// Runs on one CPU thread.
pub fn cpu_fill<T: Real>(a: &FillArgs, m: &mut Arena<T>) {
    let y = m.real_mut(a.y.buffer);
    for i in 0..a.y.rows {
        y[a.y.range(i)].fill(T::of(a.value));
    }
}

/// y (+)= x * w + b, row by row: the affine part of a norm, or a diagonal map.
#[derive(Clone, Debug)]
pub struct ScaleArgs {
    /// `[n, d]`
    pub x: View,
    /// `[1, d]`
    pub w: crate::device::Tensor,
    /// `[1, d]`
    pub bias: Option<crate::device::Tensor>,
    /// `[n, d]`
    pub y: View,
    pub accumulate: bool,
}

/// Runs on one CPU thread.
pub fn cpu_scale<T: Real>(a: &ScaleArgs, m: &mut Arena<T>) {
    let mut y = m.take(a.y.buffer);
    let (w, zero) = (a.w.slice::<T>(), vec![T::ZERO; a.w.cols]);
    let bias = a.bias.as_ref().map_or(&zero[..], |b| b.slice::<T>());
    for i in 0..a.y.rows {
        for (((y, x), w), b) in y[a.y.range(i)].iter_mut().zip(m.row(&a.x, i)).zip(w).zip(bias) {
            *y = *x * *w + *b + if a.accumulate { *y } else { T::ZERO };
        }
    }
    m.put(a.y.buffer, y);
}
