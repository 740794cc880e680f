//! Quadrature over the path alpha f, alpha from 0 to 1 (`lib.md` 1.9).

use super::closed::Nodes;

/// The rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The plain gradient at alpha = 1.
    Gradient,
    /// n + 1 evenly spaced points on [e, 1 - e], e = 1e-3 / (n + 1), the ends with half weight.
    Trapezoidal,
    /// n + 1 Gauss-Legendre points on [0, 1].
    GaussLegendre,
}

/// The (weight, alpha) points of a rule with `n` intervals.
pub fn points(rule: Rule, n: usize) -> Nodes {
    trapezoidal_margin(rule, n, 1e-3 / (n as f64 + 1.0))
}

/// As [`points`], with the margin e of the trapezoidal rule given.
fn trapezoidal_margin(rule: Rule, n: usize, margin: f64) -> Nodes {
    match (rule, n) {
        (Rule::Gradient, _) => vec![(1.0, 1.0)],
        (_, 0) => vec![(1.0, 0.5)],
        (Rule::Trapezoidal, _) => {
            let point = |i: usize| {
                let weight = if i == 0 || i == n { 0.5 } else { 1.0 } / n as f64;
                (weight, margin + (1.0 - 2.0 * margin) * i as f64 / n as f64)
            };
            (0..=n).map(point).collect()
        }
        (Rule::GaussLegendre, _) => gauss_legendre(n + 1),
    }
}

/// Roots of the Legendre polynomial of degree `n` by Newton's method, mapped to [0, 1].
fn gauss_legendre(n: usize) -> Nodes {
    let root = |i: usize| {
        let mut x = (std::f64::consts::PI * (i as f64 + 0.75) / (n as f64 + 0.5)).cos();
        let mut slope = 1.0;
        for _ in 0..100 {
            let (mut p, mut before) = (1.0, 0.0);
            for k in 0..n {
                let k = k as f64;
                (p, before) = (((2.0 * k + 1.0) * x * p - k * before) / (k + 1.0), p);
            }
            slope = n as f64 * (x * p - before) / (x * x - 1.0);
            let step = p / slope;
            x -= step;
            if step.abs() < 1e-16 {
                break;
            }
        }
        (1.0 / ((1.0 - x * x) * slope * slope), 0.5 * (1.0 - x))
    };
    (0..n).map(root).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn integral(nodes: &Nodes, f: impl Fn(f64) -> f64) -> f64 {
        nodes.iter().map(|&(w, x)| w * f(x)).sum()
    }

    /// Reference check B6: both rules on e^x + x^(sin x) and on the singular x^(-1/2).
    #[test]
    fn known_integrals() {
        let f = |x: f64| x.exp() + x.powf(x.sin());
        let want = 2.509_686_128;
        assert!((integral(&points(Rule::Trapezoidal, 50), f) - want).abs() < 3e-4);
        assert!((integral(&points(Rule::GaussLegendre, 5), f) - want).abs() < 2e-4);
        assert!((integral(&points(Rule::GaussLegendre, 50), f) - want).abs() < 1e-7);
        let g = |x: f64| 1.0 / x.sqrt();
        assert!((integral(&points(Rule::GaussLegendre, 5), g) - 2.0).abs() < 0.4);
        assert!((integral(&points(Rule::GaussLegendre, 50), g) - 2.0).abs() < 0.04);
    }

    /// Reference check B7.
    #[test]
    fn known_points() {
        assert_eq!(points(Rule::Gradient, 0), [(1.0, 1.0)]);
        assert_eq!(points(Rule::Trapezoidal, 0), [(1.0, 0.5)]);
        let close = |found: Nodes, want: &[(f64, f64)]| {
            assert_eq!(found.len(), want.len());
            for (found, want) in found.iter().zip(want) {
                assert!((found.0 - want.0).abs() < 1e-15 && (found.1 - want.1).abs() < 1e-15, "{found:?} {want:?}");
            }
        };
        close(points(Rule::Trapezoidal, 1), &[(0.5, 5e-4), (0.5, 1.0 - 5e-4)]);
        let e = 1e-4 / 3.0;
        close(trapezoidal_margin(Rule::Trapezoidal, 2, e), &[(0.25, e), (0.5, 0.5), (0.25, 1.0 - e)]);
        let sum: f64 = points(Rule::GaussLegendre, 9).iter().map(|n| n.0).sum();
        assert!((sum - 1.0).abs() < 1e-14);
        assert!(points(Rule::GaussLegendre, 9).windows(2).all(|w| w[0].1 < w[1].1));
    }
}
