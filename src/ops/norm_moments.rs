//! Moments of a LayerNorm section (closed forms, section 2).
//!
//! c = x - mean(x) over the row, sigma_a = sqrt(alpha^e v + eps): e = 1 where the variance v is a
//! coordinate of its own (split norm), e = 2 where it is computed from x (norm as one function).
//! s1 = sum w / sigma_a; k3 = sum w alpha^e / sigma_a^3.

use super::gram::syrk;
use crate::device::{Arena, Real, Tensor, View};

/// Which half of a LayerNorm the section holds.
#[derive(Clone, Debug)]
pub enum Kind {
    /// (x) -> (v, x): sums of c and c'c.
    First,
    /// (v, x) -> c / sigma with v given: sums of k3 c, k3 s1 c and k3^2 c'c.
    Second { v: View, eps: f64 },
    /// (x) -> c / sigma, given A_y `[D, D]` of the section's output: sums of k3 c'c, k3 s1 c'c and
    /// k3^2 (c A_y c') c'c.
    One { a_y: Tensor, eps: f64 },
}

/// Sums over the rows of one block; everything is added to.
#[derive(Clone, Debug)]
pub struct Args {
    pub kind: Kind,
    /// Quadrature points (weight, alpha).
    pub nodes: Vec<(f64, f64)>,
    /// `[n, D]`
    pub x: View,
    /// `[1, 2]`: sums of s1 and s1^2 (not written by `First`)
    pub scalars: View,
    /// `[2, D]`: sums of c (`First`, row 0), or of k3 c and k3 s1 c (`Second`)
    pub vectors: View,
    /// `[D, D]` each, lower triangles: one for `First` and `Second`, three for `One`
    pub grams: Vec<View>,
}

/// s1 and k3 of one token with variance `v`, and the power of alpha that scales it.
pub fn inverse_scales<T: Real>(nodes: &[(f64, f64)], v: T, eps: f64, power: i32) -> (T, T) {
    let (mut s1, mut k3) = (T::ZERO, T::ZERO);
    for &(w, alpha) in nodes {
        let scale = T::of(alpha.powi(power));
        let sigma = (scale * v.max(T::ZERO) + T::of(eps)).sqrt();
        s1 += T::of(w) / sigma;
        // A negative variance, clamped to 0, has no derivative.
        if v >= T::ZERO {
            k3 += T::of(w) * scale / (sigma * sigma * sigma);
        }
    }
    (s1, k3)
}

/// c = x - mean(x), and mean(c^2).
pub fn centre<T: Real>(x: &[T], c: &mut [T]) -> T {
    let width = T::of(x.len() as f64);
    let mean = x.iter().copied().sum::<T>() / width;
    c.iter_mut().zip(x).for_each(|(c, x)| *c = *x - mean);
    c.iter().map(|c| *c * *c).sum::<T>() / width
}

/// Runs on one CPU thread.
pub fn cpu<T: Real>(a: &Args, m: &mut Arena<T>) {
    let (n, d) = (a.x.rows, a.x.cols);
    let (mut c, mut weighted) = (vec![T::ZERO; n * d], Vec::new());
    let (mut scalars, mut vectors) = ([T::ZERO; 2], vec![T::ZERO; 2 * d]);
    // The weights of each Gram matrix, one column a Gram; its square root goes on either factor.
    let mut weights = vec![Vec::with_capacity(n); a.grams.len()];
    for (i, c) in c.chunks_exact_mut(d).enumerate() {
        let variance = centre(m.row(&a.x, i), c);
        match &a.kind {
            Kind::First => {
                weights[0].push(T::ONE);
                vectors.iter_mut().zip(&*c).for_each(|(u, c)| *u += *c);
            }
            Kind::Second { v, eps } => {
                let (s1, k3) = inverse_scales(&a.nodes, m.row(v, i)[0], *eps, 1);
                weights[0].push(k3 * k3);
                let (u3, u4) = vectors.split_at_mut(d);
                u3.iter_mut().zip(&*c).for_each(|(u, c)| *u += k3 * *c);
                u4.iter_mut().zip(&*c).for_each(|(u, c)| *u += k3 * s1 * *c);
                scalars[0] += s1;
                scalars[1] += s1 * s1;
            }
            Kind::One { a_y, eps } => {
                let (s1, k3) = inverse_scales(&a.nodes, variance, *eps, 2);
                let a_y = a_y.slice::<T>();
                let quadratic = c.iter().zip(a_y.chunks_exact(d)).map(|(ci, row)| *ci * dot(row, c)).sum::<T>();
                weights[0].push(k3);
                weights[1].push(k3 * s1);
                weights[2].push(k3 * k3 * quadratic.max(T::ZERO));
                scalars[0] += s1;
                scalars[1] += s1 * s1;
            }
        }
    }
    for (gram, weights) in a.grams.iter().zip(&weights) {
        weighted.clear();
        for (c, w) in c.chunks_exact(d).zip(weights) {
            let root = w.sqrt();
            weighted.extend(c.iter().map(|c| root * *c));
        }
        let mut out = m.take(gram.buffer);
        syrk(&mut out, &weighted, n, d);
        m.put(gram.buffer, out);
    }
    m.real_mut(a.scalars.buffer).iter_mut().zip(scalars).for_each(|(s, x)| *s += x);
    m.real_mut(a.vectors.buffer).iter_mut().zip(vectors).for_each(|(s, x)| *s += x);
}

fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    a.iter().zip(b).map(|(a, b)| *a * *b).sum()
}

/// The token-dependent parts of a LayerNorm's Jacobian (closed forms, section 8): c = x - mean(x),
/// the scale s and the rank-one factor g.
///
/// First half: s = 0, g = 2 m1 / D. Second half: s = s1, g = -k3 / 2. One function: s = s1,
/// g = -k3 / D.
#[derive(Clone, Debug)]
pub struct RowArgs {
    pub half: Half,
    /// Quadrature points (weight, alpha).
    pub nodes: Vec<(f64, f64)>,
    /// `[n, D]`
    pub x: View,
    /// `[n, D]`
    pub c: View,
    /// `[n, 1]` each
    pub s: View,
    pub g: View,
}

/// Which half of a LayerNorm, or all of it.
#[derive(Clone, Copy, Debug)]
pub enum Half {
    First,
    /// The variance `[n, 1]` is an input of its own.
    Second {
        v: View,
        eps: f64,
    },
    Both {
        eps: f64,
    },
}

/// Runs on one CPU thread.
pub fn cpu_rows<T: Real>(a: &RowArgs, m: &mut Arena<T>) {
    let (mut c, mut s, mut g) = (m.take(a.c.buffer), m.take(a.s.buffer), m.take(a.g.buffer));
    let width = T::of(a.x.cols as f64);
    let m1: f64 = a.nodes.iter().map(|(w, alpha)| w * alpha).sum();
    for i in 0..a.x.rows {
        let variance = centre(m.row(&a.x, i), &mut c[a.c.range(i)]);
        (s[i], g[i]) = match a.half {
            Half::First => (T::ZERO, T::of(2.0 * m1) / width),
            Half::Second { v, eps } => {
                let (s1, k3) = inverse_scales(&a.nodes, m.row(&v, i)[0], eps, 1);
                (s1, T::of(-0.5) * k3)
            }
            Half::Both { eps } => {
                let (s1, k3) = inverse_scales(&a.nodes, variance, eps, 2);
                (s1, -k3 / width)
            }
        };
    }
    m.put(a.c.buffer, c);
    m.put(a.s.buffer, s);
    m.put(a.g.buffer, g);
}
