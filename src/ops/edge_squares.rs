//! Squared edges of sections whose Jacobian is a product around a diagonal: MLPs and norms
//! (closed forms, section 8). The Jacobian of a token lives in registers and cache only.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

use super::activation::Activation;
use super::moments::{Derivatives, derivative_row};
use crate::device::{Arena, IntBuffer, Real, Tensor, View};

/// out[i, j] += sum over tokens of f_j^2 J_ji^2, J = sum_g U_g diag(d_g) V + B.
/// The derivatives d are those of [`super::moments`].
#[derive(Clone, Debug)]
pub struct Args {
    pub act: Activation,
    /// Quadrature points (weight, alpha).
    pub nodes: Vec<(f64, f64)>,
    /// Pre-activations at the projected input, `[n, m]`
    pub pre: View,
    /// The linear branch of a gated MLP, `[n, m]`
    pub up: Option<View>,
    /// Input features, `[n, k_in]`
    pub f_hat: View,
    /// U', `[m, k_in]`; gated: the rows of the gate, then those of the linear branch, `[2m, k_in]`
    pub u_t: Tensor,
    /// `[m, k_out]`
    pub v: Tensor,
    /// Everything that is linear, `[k_in, k_out]`
    pub b: Tensor,
    /// `[k_out, k_in]`
    pub out: View,
}

impl Args {
    pub(super) fn derivatives(&self) -> Derivatives<'_> {
        Derivatives { act: self.act, nodes: &self.nodes, pre: self.pre, up: self.up }
    }
}

/// Runs on one CPU thread.
pub fn cpu<T: Real>(a: &Args, m: &mut Arena<T>) {
    let (n, hidden, k_in, k_out) = (a.pre.rows, a.pre.cols, a.u_t.cols, a.v.cols);
    let (u_t, v, b) = (a.u_t.slice::<T>(), a.v.slice::<T>(), a.b.slice::<T>());
    let mut d = vec![T::ZERO; a.u_t.rows];
    // Hidden units with zero derivative (half of them, for relu) drop out of the product.
    let (mut left, mut right) = (Vec::with_capacity(hidden * k_in), Vec::with_capacity(hidden * k_out));
    let (mut jacobian, mut sums) = (vec![T::ZERO; k_in * k_out], vec![T::ZERO; k_in * k_out]);
    for i in 0..n {
        derivative_row(a.act, &a.nodes, m.row(&a.pre, i), a.up.as_ref().map(|u| m.row(u, i)), &mut d);
        left.clear();
        right.clear();
        for h in 0..hidden {
            let row = &u_t[h * k_in..][..k_in];
            if a.up.is_none() {
                if d[h] == T::ZERO {
                    continue;
                }
                // An open relu: nothing to multiply.
                if d[h] == T::ONE {
                    left.extend_from_slice(row);
                } else {
                    left.extend(row.iter().map(|u| d[h] * *u));
                }
            } else {
                let second = &u_t[(hidden + h) * k_in..][..k_in];
                left.extend(row.iter().zip(second).map(|(g, u)| d[h] * *g + d[hidden + h] * *u));
            }
            right.extend_from_slice(&v[h * k_out..][..k_out]);
        }
        let active = left.len() / k_in;
        jacobian.copy_from_slice(b);
        if active > 0 {
            let left = MatRef::from_row_major_slice(&left, active, k_in);
            let right = MatRef::from_row_major_slice(&right, active, k_out);
            let dst = MatMut::from_row_major_slice_mut(&mut jacobian, k_in, k_out);
            matmul(dst, Accum::Add, left.transpose(), right, T::ONE, Par::Seq);
        }
        square_and_weigh(&jacobian, m.row(&a.f_hat, i), k_out, &mut sums);
    }
    add_transposed(m, &a.out, &sums);
}

/// sums[j, i] += (f_j J_ji)^2.
fn square_and_weigh<T: Real>(jacobian: &[T], f_hat: &[T], k_out: usize, sums: &mut [T]) {
    for ((jacobian, sums), f) in jacobian.chunks_exact(k_out).zip(sums.chunks_exact_mut(k_out)).zip(f_hat) {
        let weight = *f * *f;
        jacobian.iter().zip(sums).for_each(|(j, s)| *s += weight * *j * *j);
    }
}

/// out[i, j] += sums[j, i].
fn add_transposed<T: Real>(m: &mut Arena<T>, out: &View, sums: &[T]) {
    let buffer = m.real_mut(out.buffer);
    for i in 0..out.rows {
        let column = sums[i..].iter().step_by(out.rows);
        buffer[out.range(i)].iter_mut().zip(column).for_each(|(out, sum)| *out += *sum);
    }
}

/// One factor of a rank-one term: a row for each token, or one row for all.
#[derive(Clone, Debug)]
pub enum Side {
    /// `[n, k]`
    Rows(View),
    /// `[1, k]`
    Constant(Tensor),
}

impl Side {
    fn row<'a, T: Real>(&'a self, m: &'a Arena<T>, t: usize) -> &'a [T] {
        match self {
            Side::Rows(v) => m.row(v, t),
            Side::Constant(c) => c.slice::<T>(),
        }
    }
}

/// out[i, j] += sum over tokens of f_j^2 (s z1_ji + z0_ji + g l_j y_i)^2: the two halves of a
/// LayerNorm and the norm as one function, whose Jacobians are a scaled constant matrix plus rank
/// one.
#[derive(Clone, Debug)]
pub struct RankOneArgs {
    /// `[n, k_in]`
    pub f_hat: View,
    /// `[n, 1]`
    pub s: View,
    /// `[n, 1]`
    pub g: View,
    /// of width k_in
    pub l: Side,
    /// of width k_out
    pub y: Side,
    /// `[k_in, k_out]`
    pub z1: Tensor,
    /// `[k_in, k_out]`
    pub z0: Tensor,
    /// `[k_out, k_in]`
    pub out: View,
}

/// Runs on one CPU thread.
pub fn cpu_rank_one<T: Real>(a: &RankOneArgs, m: &mut Arena<T>) {
    let (k_in, k_out) = (a.z1.rows, a.z1.cols);
    let (z1, z0) = (a.z1.slice::<T>(), a.z0.slice::<T>());
    let mut sums = vec![T::ZERO; k_in * k_out];
    for t in 0..a.f_hat.rows {
        let (f, s, g) = (m.row(&a.f_hat, t), m.row(&a.s, t)[0], m.row(&a.g, t)[0]);
        let (l, y) = (a.l.row(m, t), a.y.row(m, t));
        for j in 0..k_in {
            let (weight, l) = (f[j] * f[j], g * l[j]);
            let (z1, z0) = (&z1[j * k_out..][..k_out], &z0[j * k_out..][..k_out]);
            for (((sum, z1), z0), y) in sums[j * k_out..][..k_out].iter_mut().zip(z1).zip(z0).zip(y) {
                let jacobian = s * *z1 + *z0 + l * *y;
                *sum += weight * jacobian * jacobian;
            }
        }
    }
    add_transposed(m, &a.out, &sums);
}

/// out[i, j] += sum over rows of (J_ji f_j)^2, from tangents that another launch has pushed through
/// a section: the road for sections without a closed form.
#[derive(Clone, Debug)]
pub struct TangentArgs {
    /// `[R * n, k_out]`; probe r holds feature j = index * R + r
    pub y: View,
    pub index: IntBuffer,
    pub probes: usize,
    /// `[k_out, k_in]`
    pub out: View,
}

/// Runs on one CPU thread.
pub fn cpu_tangent<T: Real>(a: &TangentArgs, m: &mut Arena<T>) {
    let (n, k_in, first) = (a.y.rows / a.probes, a.out.cols, m.int(a.index)[0] as usize * a.probes);
    let mut out = m.take(a.out.buffer);
    for r in 0..a.probes.min(k_in - first) {
        for t in 0..n {
            for (i, j) in m.row(&a.y, r * n + t).iter().enumerate() {
                out[a.out.range(i)][first + r] += *j * *j;
            }
        }
    }
    m.put(a.out.buffer, out);
}

/// What is summed from cotangents g of output feature i = p mod k_out, probe p = index * R + r.
#[derive(Clone, Debug)]
pub struct CotangentArgs {
    /// g C+' `[R * n, k_in]`
    pub g: View,
    /// `[n, k_in]`
    pub f_hat: View,
    /// Input positions of each sample
    pub positions: usize,
    /// Probes in all; those behind are padding
    pub count: usize,
    /// out[i, j] += (sum_s g_sj f_sj)^2 for each sample, or without it += sum_s g_sj f_sj
    pub squared: bool,
    pub index: IntBuffer,
    pub probes: usize,
    /// `[k_out, k_in]`
    pub out: View,
}

/// Runs on one CPU thread.
pub fn cpu_cotangent<T: Real>(a: &CotangentArgs, m: &mut Arena<T>) {
    let (n, k_in, k_out) = (a.f_hat.rows, a.out.cols, a.out.rows);
    let first = m.int(a.index)[0] as usize * a.probes;
    let mut out = m.take(a.out.buffer);
    let mut sum = vec![T::ZERO; k_in];
    for r in 0..a.probes.min(a.count - first) {
        let out = &mut out[a.out.range((first + r) % k_out)];
        for x in 0..n / a.positions {
            sum.fill(T::ZERO);
            for s in x * a.positions..(x + 1) * a.positions {
                for ((sum, g), f) in sum.iter_mut().zip(m.row(&a.g, r * n + s)).zip(m.row(&a.f_hat, s)) {
                    *sum += *g * *f;
                }
            }
            out.iter_mut().zip(&sum).for_each(|(o, s)| *o += if a.squared { *s * *s } else { *s });
        }
    }
    m.put(a.out.buffer, out);
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Fixture, read};
    use super::*;

    #[test]
    fn sums_are_added_where_the_view_lies() {
        let mut f = Fixture::default();
        let out = f.input(2, 3, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let mut m = f.arena::<f64>();
        // [k_in, k_out]
        add_transposed(&mut m, &out, &[10.0, 20.0, 30.0, 40.0, 50.0, 60.0]);
        assert_eq!(read(&m, &out), [11.0, 32.0, 53.0, 24.0, 45.0, 66.0]);
    }
}
