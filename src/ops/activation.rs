//! Activation functions: elementwise ones and the row-wise SoLU, with their tangents and cotangents.

mod formulas;

use formulas::{Derivatives, Values};

use super::{check, outputs::Outputs, rows};
use crate::device::{Arena, Real, View};
use crate::error::Result;
use crate::kernel::linear::Elementwise;

/// An activation function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `max(x, 0)`, with derivative 0 at 0.
    Relu,
    /// `x Phi(x)`, Phi the normal distribution function (Hendrycks & Gimpel 2016).
    Gelu,
    /// GELU's tanh form, `x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`, as in GPT-2.
    GeluNew,
    /// `x sigmoid(x)`.
    Silu,
    Tanh,
    Sigmoid,
    Identity,
    /// `x softmax(x)` over the row (Elhage et al. 2022).
    Solu,
}

impl Activation {
    /// Whether an output depends on the input of its own neuron alone.
    pub fn is_elementwise(self) -> bool {
        self.elementwise().is_some()
    }
    /// The activation as kernels name it; `None` for SoLU, which needs whole rows.
    pub fn elementwise(self) -> Option<Elementwise> {
        Some(match self {
            Activation::Relu => Elementwise::Relu,
            Activation::Gelu => Elementwise::Gelu,
            Activation::GeluNew => Elementwise::GeluNew,
            Activation::Silu => Elementwise::Silu,
            Activation::Tanh => Elementwise::Tanh,
            Activation::Sigmoid => Elementwise::Sigmoid,
            Activation::Identity => Elementwise::Identity,
            Activation::Solu => return None,
        })
    }
    /// `act` of one number. SoLU takes it for a whole row, on which it is the identity.
    #[inline(always)]
    pub fn value<T: Real>(self, x: T) -> T {
        match self {
            Activation::Relu => formulas::relu(x),
            Activation::Gelu => formulas::gelu(x),
            Activation::GeluNew => formulas::gelu_new(x),
            Activation::Silu => formulas::silu(x),
            Activation::Tanh => formulas::tanh(x),
            Activation::Sigmoid => formulas::sigmoid(x),
            Activation::Identity | Activation::Solu => x,
        }
    }
    /// `act'` at one number. SoLU takes it for a whole row, on which it is the identity.
    #[inline(always)]
    pub fn derivative<T: Real>(self, x: T) -> T {
        match self {
            Activation::Relu => formulas::relu_slope(x),
            Activation::Gelu => formulas::gelu_slope(x),
            Activation::GeluNew => formulas::gelu_new_slope(x),
            Activation::Silu => formulas::silu_slope(x),
            Activation::Tanh => formulas::tanh_slope(x),
            Activation::Sigmoid => formulas::sigmoid_slope(x),
            Activation::Identity | Activation::Solu => T::ONE,
        }
    }
    /// `x = act(x)` of a row, in place.
    pub fn apply<T: Real>(self, x: &mut [T]) {
        if self == Activation::Solu {
            let before = x.to_vec();
            rows::softmax(x);
            rows::multiply(x, &before);
        } else {
            rows::wide(Values { act: self, x });
        }
    }
    /// `y = act(x)` of a row.
    pub fn values<T: Real>(self, x: &[T], y: &mut [T]) {
        y.copy_from_slice(x);
        if self == Activation::Solu {
            rows::softmax(y);
            rows::multiply(y, x);
        } else {
            self.apply(y);
        }
    }
    /// `d_i = d act(x)_i / d x_i` of a row: the whole Jacobian of an elementwise activation, the
    /// diagonal of SoLU's.
    pub fn derivatives<T: Real>(self, x: &[T], d: &mut [T]) {
        d.copy_from_slice(x);
        if self == Activation::Solu {
            rows::softmax(d);
            d.iter_mut().zip(x).for_each(|(s, &x)| *s = *s * (T::ONE + x - x * *s));
        } else {
            rows::wide(Derivatives { act: self, x: d });
        }
    }
    /// The input `r` with `act(r) = 1`, which makes a neuron of the constant 1 when biases are folded
    /// into weights: `act(r)` is 1 within 1e-11. `None` where the range stays below 1 (tanh, sigmoid)
    /// and for SoLU, whose neurons are not independent.
    pub fn unit_point(self) -> Option<f64> {
        match self {
            Activation::Relu | Activation::Identity => Some(1.0),
            Activation::Tanh | Activation::Sigmoid | Activation::Solu => None,
            Activation::Gelu | Activation::GeluNew | Activation::Silu => {
                // All three stay below 1 up to r and above it from there on. Halving ends when no
                // number is left between the bounds.
                let (mut low, mut high) = (-1.0f64, 4.0f64);
                loop {
                    let middle = 0.5 * (low + high);
                    if middle <= low || middle >= high {
                        return Some(high);
                    }
                    if self.value(middle) < 1.0 {
                        low = middle;
                    } else {
                        high = middle;
                    }
                }
            }
        }
    }
}

/// `y = act(x)`, row by row.
#[derive(Clone, Debug)]
pub struct Args {
    pub act: Activation,
    /// `[n, m]`.
    pub x: View,
    /// Output `[n, m]`.
    pub y: View,
}

impl Args {
    /// Whether the shapes agree and the output has a buffer of its own.
    pub fn check(&self) -> Result<()> {
        let op = "activation";
        check::view(op, "x", &self.x, self.x.rows, self.x.cols)?;
        check::view(op, "y", &self.y, self.x.rows, self.x.cols)?;
        check::apart(op, &[&self.y], &[&self.x])
    }
}

/// Runs [`Args`].
pub fn cpu<T: Real>(a: &Args, m: &mut Arena<T>) {
    let mut out = Outputs::take(m, [&a.y]);
    for i in 0..a.x.rows {
        a.act.values(m.row(&a.x, i), out.row(&a.y, i));
    }
    out.put(m);
}

/// `dy = J dx`, or `dy = J' dx` if `transpose`, with `J` the Jacobian of `act` at the row of `x`.
/// Elementwise: `J = diag(act'(x))`. SoLU, with `s = softmax(x)`: `J = diag(s (1 + x)) - (x s) s'`.
#[derive(Clone, Debug)]
pub struct TangentArgs {
    pub act: Activation,
    /// The primal input `[n, m]`.
    pub x: View,
    /// Tangents, or the output's cotangents, `[R*n, m]`.
    pub dx: View,
    /// Output `[R*n, m]`.
    pub dy: View,
    pub transpose: bool,
}

/// `dy = act'(x) u dx + act(x) du` and `dv = act(x) dx` for the rows of probes, the activation elementwise; without u it
/// is 1. What gates and activations alone ask of a GPU.
#[derive(Clone, Copy, Debug)]
pub(super) struct Products {
    pub x: View,
    pub u: Option<View>,
    pub dx: View,
    pub dy: View,
    pub du: Option<View>,
    pub dv: Option<View>,
}

impl TangentArgs {
    /// Of an elementwise activation.
    pub(super) fn products(&self) -> Products {
        Products { x: self.x, u: None, dx: self.dx, dy: self.dy, du: None, dv: None }
    }
    /// Whether the shapes agree and the output has a buffer of its own.
    pub fn check(&self) -> Result<()> {
        let op = "activation tangent";
        check::view(op, "x", &self.x, self.x.rows, self.x.cols)?;
        check::probes(op, "dx", &self.dx, self.x.rows, self.x.cols)?;
        check::view(op, "dy", &self.dy, self.dx.rows, self.x.cols)?;
        check::apart(op, &[&self.dy], &[&self.x, &self.dx])
    }
}

/// Runs [`TangentArgs`].
pub fn cpu_tangent<T: Real>(a: &TangentArgs, m: &mut Arena<T>) {
    let mut out = Outputs::take(m, [&a.dy]);
    // Elementwise: act'(x). SoLU: J = diag(diagonal) - left right'.
    let mut diagonal = vec![T::ZERO; a.x.cols];
    let (mut left, mut right) = (diagonal.clone(), diagonal.clone());
    for i in 0..a.x.rows {
        let x = m.row(&a.x, i);
        if a.act.is_elementwise() {
            a.act.derivatives(x, &mut diagonal);
        } else {
            right.copy_from_slice(x);
            rows::softmax(&mut right);
            for ((d, l), (&s, &x)) in diagonal.iter_mut().zip(&mut left).zip(right.iter().zip(x)) {
                (*d, *l) = (s * (T::ONE + x), s * x);
            }
            if a.transpose {
                std::mem::swap(&mut left, &mut right);
            }
        }
        for row in (i..a.dx.rows).step_by(a.x.rows) {
            let (dx, dy) = (m.row(&a.dx, row), out.row(&a.dy, row));
            for ((dy, &dx), &d) in dy.iter_mut().zip(dx).zip(&diagonal) {
                *dy = d * dx;
            }
            if !a.act.is_elementwise() {
                let share = rows::dot(&right, dx);
                dy.iter_mut().zip(&left).for_each(|(dy, &l)| *dy -= l * share);
            }
        }
    }
    out.put(m);
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Fixture, assert_adjoint, assert_close, central, numbers, read};
    use super::*;

    const ALL: [Activation; 8] = [
        Activation::Relu,
        Activation::Gelu,
        Activation::GeluNew,
        Activation::Silu,
        Activation::Tanh,
        Activation::Sigmoid,
        Activation::Identity,
        Activation::Solu,
    ];

    fn reference(act: Activation, x: &[f64], m: usize) -> Vec<f64> {
        let phi = |x: f64| 0.5 * libm::erfc(-x / 2f64.sqrt());
        let elementwise = |f: &dyn Fn(f64) -> f64| x.iter().map(|&x| f(x)).collect::<Vec<_>>();
        match act {
            Activation::Relu => elementwise(&|x| if x > 0.0 { x } else { 0.0 }),
            Activation::Gelu => elementwise(&|x| x * phi(x)),
            Activation::GeluNew => {
                elementwise(&|x| 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh()))
            }
            Activation::Silu => elementwise(&|x| x / (1.0 + (-x).exp())),
            Activation::Tanh => elementwise(&f64::tanh),
            Activation::Sigmoid => elementwise(&|x| 1.0 / (1.0 + (-x).exp())),
            Activation::Identity => x.to_vec(),
            Activation::Solu => x
                .chunks(m)
                .flat_map(|row| {
                    let total: f64 = row.iter().map(|x| x.exp()).sum();
                    row.iter().map(move |x| x * x.exp() / total)
                })
                .collect(),
        }
    }

    fn forward<T: Real>(act: Activation, x: &[f64], m: usize) -> Vec<f64> {
        let mut f = Fixture::default();
        let n = x.len() / m;
        let a = Args { act, x: f.input(n, m, x), y: f.output(n, m) };
        a.check().unwrap();
        let mut arena = f.arena::<T>();
        cpu(&a, &mut arena);
        read(&arena, &a.y)
    }

    fn tangent(act: Activation, x: &[f64], dx: &[f64], m: usize, transpose: bool) -> Vec<f64> {
        let mut f = Fixture::default();
        let a = TangentArgs {
            act,
            x: f.input(x.len() / m, m, x),
            dx: f.input(dx.len() / m, m, dx),
            dy: f.output(dx.len() / m, m),
            transpose,
        };
        a.check().unwrap();
        let mut arena = f.arena::<f64>();
        cpu_tangent(&a, &mut arena);
        read(&arena, &a.dy)
    }

    #[test]
    fn values_agree_with_the_definitions() {
        for (n, m) in [(1, 1), (3, 37), (5, 16)] {
            let x: Vec<f64> = numbers(n * m, 1).iter().map(|x| 3.0 * x).collect();
            for act in ALL {
                let want = reference(act, &x, m);
                assert_close(&forward::<f64>(act, &x, m), &want, 1e-14);
                let mut in_place = x.clone();
                in_place.chunks_mut(m).for_each(|row| act.apply(row));
                assert_eq!(in_place, forward::<f64>(act, &x, m));
                assert_close(&forward::<f32>(act, &x, m), &want, 1e-6);
            }
        }
    }

    #[test]
    fn tangents_agree_with_differences_and_cotangents_are_adjoint() {
        let (n, m, probes) = (3, 21, 4);
        let x = numbers(n * m, 2);
        let (v, w) = (numbers(probes * n * m, 3), numbers(probes * n * m, 4));
        for act in ALL {
            let jv = tangent(act, &x, &v, m, false);
            for (r, v) in v.chunks(n * m).enumerate() {
                let want = central(|x| reference(act, x, m), &x, v);
                assert_close(&jv[r * n * m..(r + 1) * n * m], &want, 1e-6);
            }
            assert_adjoint(&jv, &w, &v, &tangent(act, &x, &w, m, true));
        }
    }

    #[test]
    fn derivatives_are_the_diagonal_of_the_jacobian() {
        let x = numbers(9, 5);
        for act in ALL {
            let mut d = vec![f64::NAN; 9];
            act.derivatives(&x, &mut d);
            for (i, &d) in d.iter().enumerate() {
                let mut unit = vec![0.0; 9];
                unit[i] = 1.0;
                assert!((tangent(act, &x, &unit, 9, false)[i] - d).abs() < 1e-14, "{act:?}");
            }
            if act.is_elementwise() {
                assert_eq!((act.value(x[3]), act.derivative(x[3])), (forward::<f64>(act, &x, 9)[3], d[3]));
                let narrow: Vec<f32> = x.iter().map(|&x| x as f32).collect();
                let mut row = narrow.clone();
                act.apply(&mut row);
                assert_eq!(row, narrow.iter().map(|&x| act.value(x)).collect::<Vec<_>>(), "one by one and as a row");
            }
        }
    }

    #[test]
    fn relu_has_no_slope_at_zero() {
        assert_eq!(Activation::Relu.derivative(0.0), 0.0);
        assert!(Activation::Relu.value(f64::NAN).is_nan());
    }

    #[test]
    fn far_inputs_saturate() {
        for act in ALL.into_iter().filter(|a| a.is_elementwise()) {
            for x in [-1e4f32, 1e4] {
                assert!(act.value(x).is_finite() && act.derivative(x).is_finite(), "{act:?} at {x}");
            }
        }
        let y = forward::<f32>(Activation::Solu, &[2000.0, 0.0, -2000.0], 3);
        assert_close(&y, &[2000.0, 0.0, 0.0], 1e-6);
    }

    #[test]
    fn unit_points() {
        for act in ALL {
            let Some(r) = act.unit_point() else {
                assert!(matches!(act, Activation::Tanh | Activation::Sigmoid | Activation::Solu));
                continue;
            };
            assert!((act.value(r) - 1.0).abs() < 1e-11, "{act:?}");
        }
        assert!((Activation::GeluNew.unit_point().unwrap() - 1.144630).abs() < 1e-6);
        assert!((Activation::Silu.unit_point().unwrap() - 1.278465).abs() < 1e-6);
    }

    #[test]
    fn wrong_shapes_are_refused() {
        let mut f = Fixture::default();
        let (x, y) = (f.output(3, 4), f.output(3, 5));
        assert!(Args { act: Activation::Relu, x, y }.check().is_err());
        assert!(Args { act: Activation::Relu, x, y: x }.check().is_err());
        let (dx, dy) = (f.output(7, 4), f.output(7, 4));
        let error = TangentArgs { act: Activation::Relu, x, dx, dy, transpose: false }.check().unwrap_err();
        assert_eq!(error.to_string(), "operation activation tangent: found dx of 7 rows; expected a multiple of 3 rows");
    }
}
