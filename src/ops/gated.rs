//! h = act(g) * u, the hidden layer of a gated MLP, with its derivatives.

use super::activation::Activation;
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
        for ((h, g), u) in h[a.h.range(i)].iter_mut().zip(m.row(&a.g, i)).zip(m.row(&a.u, i)) {
            *h = a.act.value(*g) * *u;
        }
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

/// Runs on one CPU thread.
pub fn cpu_tangent<T: Real>(a: &TangentArgs, m: &mut Arena<T>) {
    let n = a.g.rows;
    let outputs: &[(View, bool)] = if a.transpose { &[(a.dg, true), (a.du, false)] } else { &[(a.dh, true)] };
    for &(out, gate) in outputs {
        let mut y = m.take(out.buffer);
        for i in 0..a.dh.rows {
            let (g, u, y) = (m.row(&a.g, i % n), m.row(&a.u, i % n), &mut y[out.range(i)]);
            if !a.transpose {
                for ((((y, g), u), dg), du) in y.iter_mut().zip(g).zip(u).zip(m.row(&a.dg, i)).zip(m.row(&a.du, i)) {
                    *y = a.act.derivative(*g) * *u * *dg + a.act.value(*g) * *du;
                }
            } else {
                for (((y, g), u), dh) in y.iter_mut().zip(g).zip(u).zip(m.row(&a.dh, i)) {
                    *y = *dh * if gate { a.act.derivative(*g) * *u } else { a.act.value(*g) };
                }
            }
        }
        m.put(out.buffer, y);
    }
}
