//! Activations and their slopes, element by element over the whole range of f32, through `linear` with
//! a 1 x 1 matrix.

use mechgraph::kernel::linear::{Elementwise, Epilogue};
use mechgraph::ops::linear_wgpu::{LinearCall, linear};

use super::{Matrix, device};

/// The value of an activation, its slope, and the sum of the magnitudes of the slope's terms, in f64.
pub fn reference(act: Elementwise, x: f64) -> (f64, f64, f64) {
    let logistic = |x: f64| if x > 0.0 { 1.0 / (1.0 + (-x).exp()) } else { x.exp() / (1.0 + x.exp()) };
    // x s(u) and its slope for an inner function u of slope du.
    let gated = |u: f64, du: f64| {
        let (s, rest) = (logistic(u), x * logistic(u) * logistic(-u) * du);
        (x * s, s + rest, s + rest.abs())
    };
    let single = |value: f64, slope: f64| (value, slope, slope.abs());
    match act {
        Elementwise::Identity => single(x, 1.0),
        Elementwise::Relu => single(x.max(0.0), if x > 0.0 { 1.0 } else { 0.0 }),
        Elementwise::Gelu => {
            let (cdf, rest) =
                (0.5 * libm::erfc(-x / 2f64.sqrt()), x * (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt());
            (x * cdf, cdf + rest, cdf + rest.abs())
        }
        Elementwise::GeluNew => {
            let c = 2.0 * (2.0 / std::f64::consts::PI).sqrt();
            gated(c * (x + 0.044715 * x * x * x), c * (1.0 + 0.134145 * x * x))
        }
        Elementwise::Silu => gated(x, 1.0),
        Elementwise::Tanh => single(x.tanh(), 1.0 / x.cosh().powi(2)),
        Elementwise::Sigmoid => single(logistic(x), logistic(x) * logistic(-x)),
    }
}

/// Signed numbers of every magnitude, with a fine grid where the functions bend.
fn points() -> Vec<f32> {
    let mut points = vec![0.0, -0.0, 1e-30, -1e-30, 1e-6, -1e-6, 0.625, -0.625, 88.0, -88.0, 1e4, -1e4, 3e18, -3e18];
    points.extend((-700..700).map(|i| i as f32 * 0.01 + 0.003));
    points.extend((-120..120).map(|i| i as f32 * 0.9 + 0.05));
    points
}

#[test]
fn activations_and_slopes_are_right_to_a_few_ulp_over_the_whole_range() {
    let Some(device) = device() else { return };
    let points = points();
    // Slabs of 16 rows: the point, then tangents of 1 and 0.
    let slabs: Vec<f32> = points.iter().flat_map(|&p| [p, 1.0].into_iter().chain([0.0; 14])).collect();
    let x = Matrix::new(device, slabs.len(), 1, (0, 0), Some(&slabs));
    let w = Matrix::new(device, 1, 1, (0, 0), Some(&[1.0]));
    for act in Elementwise::ALL {
        let y = Matrix::new(device, slabs.len(), 1, (0, 0), None);
        let epilogue = Epilogue::Tangent(act);
        let call = LinearCall { x: x.view(), w: w.view(), transpose: false, bias: None, epilogue, pre: None, y: y.view() };
        device.submit(&linear(device, &call).unwrap()).unwrap();
        let found = y.read(device);
        let mut worst = (0.0f64, 0.0f64);
        for (&p, y) in points.iter().zip(found.chunks(16)) {
            let (value, slope, terms) = reference(act, p.into());
            // The exponent of gelu_new is a rounded cubic, whose error grows with it.
            let exponent =
                if act == Elementwise::GeluNew { f64::from(p) * (1.6 + 0.0714 * f64::from(p) * f64::from(p)) } else { 0.0 };
            let ulp = f64::from(f32::EPSILON) * (1.0 + 0.5 * exponent.abs().min(100.0));
            // What underflows may do so a little early.
            let close = |found: f32, wanted: f64, scale: f64| (f64::from(found) - wanted).abs() <= 4.0 * ulp * scale + 1e-37;
            worst.0 = worst.0.max((f64::from(y[0]) - value).abs() / (ulp * value.abs() + 1e-37));
            worst.1 = worst.1.max((f64::from(y[1]) - slope).abs() / (ulp * terms + 1e-37));
            assert!(close(y[0], value, value.abs()), "{act:?} at {p:e}: {} for {value}", y[0]);
            assert!(close(y[1], slope, terms), "slope of {act:?} at {p:e}: {} for {slope}", y[1]);
            assert!(y[2..].iter().all(|&y| y == 0.0), "{act:?} at {p:e}");
        }
        println!("{act:?}: value {:.1} ulp, slope {:.1} ulp", worst.0, worst.1);
    }
}

#[test]
fn what_is_not_a_number_stays_so() {
    let Some(device) = device() else { return };
    let x = Matrix::new(device, 1, 1, (0, 0), Some(&[f32::NAN]));
    let w = Matrix::new(device, 1, 1, (0, 0), Some(&[1.0]));
    for act in Elementwise::ALL {
        let y = Matrix::new(device, 1, 1, (0, 0), Some(&[0.0]));
        let epilogue = Epilogue::Store(act);
        let call = LinearCall { x: x.view(), w: w.view(), transpose: false, bias: None, epilogue, pre: None, y: y.view() };
        device.submit(&linear(device, &call).unwrap()).unwrap();
        assert!(y.read(device)[0].is_nan(), "{act:?}");
    }
}
