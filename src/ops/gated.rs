//! h = act(g) * u, the hidden layer of a gated MLP, with its derivatives.

use super::activation::{Activation, Products};
use super::{outputs::Outputs, rows};
use crate::device::{Arena, Real, View};

/// All views `[n, m]`.
#[derive(Clone, Debug)]
pub struct Args {
    pub act: Activation,
    pub g: View,
    pub u: View,
    pub h: View,
}

/// Runs on one CPU thread.
pub fn cpu<T: Real>(a: &Args, m: &mut Arena<T>) {
    let mut h = m.take(a.h.buffer);
    for i in 0..a.h.rows {
        let h = &mut h[a.h.range(i)];
        a.act.values(m.row(&a.g, i), h);
        rows::multiply(h, m.row(&a.u, i));
    }
    m.put(a.h.buffer, h);
}

/// Tangents dh = act'(g) u dg + act(g) du; with `transpose` the cotangents dg = act'(g) u dh and
/// du = act(g) dh. Probes are stacked: row r * n + i belongs to row i of g and u.
#[derive(Clone, Debug)]
pub struct TangentArgs {
    pub act: Activation,
    /// `[n, m]`
    pub g: View,
    /// `[n, m]`
    pub u: View,
    /// `[R * n, m]` each; dg and du may share a buffer
    pub dg: View,
    pub du: View,
    pub dh: View,
    pub transpose: bool,
}

impl TangentArgs {
    /// Of an elementwise activation.
    pub(super) fn products(&self) -> Products {
        let Self { g, u, dg, du, dh, .. } = *self;
        let forward = Products { x: g, u: Some(u), dx: dg, dy: dh, du: Some(du), dv: None };
        if self.transpose { Products { dx: dh, dy: dg, du: None, dv: Some(du), ..forward } } else { forward }
    }
}

/// Runs on one CPU thread.
pub fn cpu_tangent<T: Real>(a: &TangentArgs, m: &mut Arena<T>) {
    let mut out = if a.transpose { Outputs::take(m, [&a.dg, &a.du]) } else { Outputs::take(m, [&a.dh]) };
    // act'(g) u and act(g), which all probes share.
    let (mut of_g, mut of_u) = (vec![T::ZERO; a.g.cols], vec![T::ZERO; a.g.cols]);
    for i in 0..a.g.rows {
        let g = m.row(&a.g, i);
        a.act.derivatives(g, &mut of_g);
        rows::multiply(&mut of_g, m.row(&a.u, i));
        a.act.values(g, &mut of_u);
        for row in (i..a.dh.rows).step_by(a.g.rows) {
            if a.transpose {
                let dh = m.row(&a.dh, row);
                for (output, factors) in [(&a.dg, &of_g), (&a.du, &of_u)] {
                    let products = dh.iter().zip(factors).map(|(&dh, &factor)| dh * factor);
                    out.row(output, row).iter_mut().zip(products).for_each(|(y, product)| *y = product);
                }
            } else {
                let inputs = m.row(&a.dg, row).iter().zip(m.row(&a.du, row));
                let sums = inputs.zip(of_g.iter().zip(&of_u)).map(|((&dg, &du), (&g, &u))| g * dg + u * du);
                out.row(&a.dh, row).iter_mut().zip(sums).for_each(|(y, sum)| *y = sum);
            }
        }
    }
    out.put(m);
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Fixture, assert_adjoint, assert_close, central, numbers, read};
    use super::*;

    const ACTS: [Activation; 3] = [Activation::Silu, Activation::GeluNew, Activation::Gelu];
    const N: usize = 3;
    const M: usize = 21;

    /// Rows of g and u side by side.
    fn hidden<T: Real>(act: Activation, gu: &[f64]) -> Vec<f64> {
        let mut f = Fixture::default();
        let gu = f.input(N, 2 * M, gu);
        let a = Args { act, g: gu.columns(0, M), u: gu.columns(M, M), h: f.output(N, M) };
        let mut m = f.arena::<T>();
        cpu(&a, &mut m);
        read(&m, &a.h)
    }

    #[test]
    fn values_agree_with_the_definition() {
        let gu = numbers(N * 2 * M, 1);
        for act in ACTS {
            let row = |row: &[f64]| (0..M).map(|j| act.value(row[j]) * row[M + j]).collect::<Vec<_>>();
            let want: Vec<f64> = gu.chunks(2 * M).flat_map(row).collect();
            assert_close(&hidden::<f64>(act, &gu), &want, 1e-15);
            assert_close(&hidden::<f32>(act, &gu), &want, 1e-6);
        }
    }

    #[test]
    fn tangents_agree_with_differences_and_cotangents_are_adjoint() {
        let (gu, v, w) = (numbers(N * 2 * M, 1), numbers(2 * N * 2 * M, 2), numbers(2 * N * M, 3));
        for act in ACTS {
            let mut f = Fixture::default();
            let (primal, dgu, back) = (f.input(N, 2 * M, &gu), f.input(2 * N, 2 * M, &v), f.output(2 * N, 2 * M));
            let (g, u, dh) = (primal.columns(0, M), primal.columns(M, M), f.output(2 * N, M));
            let (dg, du) = (dgu.columns(0, M), dgu.columns(M, M));
            let forward = TangentArgs { act, g, u, dg, du, dh, transpose: false };
            let (dg, du, dh) = (back.columns(0, M), back.columns(M, M), f.input(2 * N, M, &w));
            let backward = TangentArgs { act, g, u, dg, du, dh, transpose: true };
            let mut m = f.arena::<f64>();
            cpu_tangent(&forward, &mut m);
            cpu_tangent(&backward, &mut m);
            let (jv, jw) = (read(&m, &forward.dh), read(&m, &back));
            for r in 0..2 {
                let want = central(|gu| hidden::<f64>(act, gu), &gu, &v[r * N * 2 * M..(r + 1) * N * 2 * M]);
                assert_close(&jv[r * N * M..(r + 1) * N * M], &want, 1e-8);
            }
            assert_adjoint(&jv, &w, &v, &jw);
        }
    }
}
