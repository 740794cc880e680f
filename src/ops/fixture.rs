//! Arenas for tests: inputs lie in wider rows than they need, everything around them and all
//! outputs start as NaN.

use crate::device::memory::Layout;
use crate::device::{Arena, Buffer, IntBuffer, Real, View};

/// Columns of NaN on the left and right of every view.
const MARGIN: usize = 2;

/// Deterministic numbers in `[-1.5, 1.5)`.
pub fn numbers(n: usize, seed: u64) -> Vec<f64> {
    let step = |i: u64| {
        let mut z = (seed << 32 | i).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    };
    (0..n as u64).map(|i| 3.0 * step(i) - 1.5).collect()
}

/// The layout and contents of an arena under construction.
#[derive(Default)]
pub struct Fixture {
    layout: Layout,
    buffers: Vec<Buffer>,
    inputs: Vec<(View, Vec<f64>)>,
    ints: Vec<(IntBuffer, Vec<u32>)>,
}

impl Fixture {
    /// A matrix that starts as NaN.
    pub fn output(&mut self, rows: usize, cols: usize) -> View {
        let stride = cols + 2 * MARGIN;
        let buffer = self.layout.buffer(rows * stride);
        self.buffers.push(buffer);
        View { buffer, offset: MARGIN, rows, cols, stride }
    }
    pub fn input(&mut self, rows: usize, cols: usize, data: &[f64]) -> View {
        assert_eq!(data.len(), rows * cols);
        let v = self.output(rows, cols);
        self.set(v, data);
        v
    }
    /// Fills a view that is an output of another operation or a part of one.
    pub fn set(&mut self, v: View, data: &[f64]) {
        self.inputs.push((v, data.to_vec()));
    }
    pub fn ints(&mut self, data: &[u32]) -> IntBuffer {
        let b = self.layout.ints(data.len());
        self.ints.push((b, data.to_vec()));
        b
    }
    /// The filled arena.
    pub fn arena<T: Real>(&self) -> Arena<T> {
        let mut m = Arena::new(&self.layout);
        for &b in &self.buffers {
            m.real_mut(b).fill(T::of(f64::NAN));
        }
        for (v, data) in &self.inputs {
            for i in 0..v.rows {
                for (e, &x) in m.real_mut(v.buffer)[v.range(i)].iter_mut().zip(&data[i * v.cols..]) {
                    *e = T::of(x);
                }
            }
        }
        for (b, data) in &self.ints {
            m.int_mut(*b).copy_from_slice(data);
        }
        m
    }
}

/// The elements of a view of a whole [`Fixture::output`], row-major; its margins must still be NaN.
pub fn read<T: Real>(m: &Arena<T>, v: &View) -> Vec<f64> {
    let data = m.real(v.buffer);
    for i in 0..v.rows {
        let r = v.range(i);
        let margins = data[r.start - MARGIN..r.start].iter().chain(&data[r.end..r.end + MARGIN]);
        assert!(margins.into_iter().all(|x| x.to_f64().is_nan()), "row {i} was written outside of its columns");
    }
    part(m, v)
}

/// The elements of any view, row-major.
pub fn part<T: Real>(m: &Arena<T>, v: &View) -> Vec<f64> {
    (0..v.rows).flat_map(|i| m.row(v, i).iter().map(|x| x.to_f64())).collect()
}

pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Relative Frobenius error of `a` against `b` within `bound`; NaN fails.
#[track_caller]
pub fn assert_close(a: &[f64], b: &[f64], bound: f64) {
    assert_eq!(a.len(), b.len());
    let diff: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    let error = dot(&diff, &diff).sqrt() / dot(b, b).sqrt().max(f64::MIN_POSITIVE);
    assert!(error <= bound, "relative error {error:e} over {bound:e}");
}

/// `<J v, w> = <v, J' w>` to 1e-12 of the norms, for `jv = J v` and `jw = J' w`.
#[track_caller]
pub fn assert_adjoint(jv: &[f64], w: &[f64], v: &[f64], jw: &[f64]) {
    let (a, b) = (dot(jv, w), dot(v, jw));
    let size = (dot(jv, jv) * dot(w, w)).sqrt();
    assert!((a - b).abs() <= 1e-12 * size && size > 0.0, "<Jv, w> = {a:e}, <v, J'w> = {b:e}");
}

/// `(f(x + h dx) - f(x - h dx)) / 2h`: the directional derivative, to about 1e-9.
pub fn central(f: impl Fn(&[f64]) -> Vec<f64>, x: &[f64], dx: &[f64]) -> Vec<f64> {
    let h = 1e-5;
    let at = |s: f64| f(&x.iter().zip(dx).map(|(x, d)| x + s * d).collect::<Vec<_>>());
    at(h).iter().zip(at(-h)).map(|(a, b)| (a - b) / (2.0 * h)).collect()
}
