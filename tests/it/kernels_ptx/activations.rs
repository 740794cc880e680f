//! The activations of `linear_f32_sm80`, value and derivative, over the whole range of f32.

use mechgraph::kernel::linear::{Elementwise, LinearParams};

use super::*;

/// Smallest size at which the error counts in full: below it the factors of a value are subnormal.
const FLOOR: f64 = 1e-36;

/// `act(x)`, `act'(x)` and the larger addend of the latter, in f64 with full relative accuracy.
fn reference(act: Elementwise, x: f64) -> (f64, f64, f64) {
    let logistic = |v: f64| if v >= 0.0 { 1.0 / (1.0 + (-v).exp()) } else { v.exp() / (1.0 + v.exp()) };
    let bell = |v: f64| logistic(v) * logistic(-v);
    let sum = |a: f64, b: f64| (a + b, a.abs().max(b.abs()).max((a + b).abs()));
    let (value, (slope, addend)) = match act {
        Elementwise::Identity => (x, (1.0, 1.0)),
        Elementwise::Relu => (x.max(0.0), sum(if x > 0.0 { 1.0 } else { 0.0 }, 0.0)),
        Elementwise::Gelu => {
            let cdf = 0.5 * libm::erfc(-x / 2f64.sqrt());
            let density = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
            (x * cdf, sum(cdf, x * density))
        }
        Elementwise::GeluNew => {
            let scale = 2.0 * (2.0 / std::f64::consts::PI).sqrt();
            let v = scale * (x + 0.044715 * x * x * x);
            let dv = scale * (1.0 + 3.0 * 0.044715 * x * x);
            // Far out the bell is 0 before its factor overflows.
            (x * logistic(v), sum(logistic(v), if bell(v) == 0.0 { 0.0 } else { x * dv * bell(v) }))
        }
        Elementwise::Silu => (x * logistic(x), sum(logistic(x), x * bell(x))),
        Elementwise::Tanh => (x.tanh(), sum(4.0 * bell(2.0 * x), 0.0)),
        Elementwise::Sigmoid => (logistic(x), sum(bell(x), 0.0)),
    };
    (value, slope, addend)
}

/// Numbers of every size and sign, dense where the activations bend.
fn sweep(n: usize) -> Vec<f32> {
    let edges = [0.0, 0.6, 0.599_999_96, 16.0, 14.5, 55.0, 88.7, 110.0, 1e30, f32::MAX, f32::MIN_POSITIVE, 1e-40];
    let edges = edges.iter().flat_map(|x| [*x, -*x]);
    let unit = numbers(2 * n, 21);
    let drawn = unit.chunks(2).enumerate().map(|(i, u)| match i % 5 {
        0 => u[0],
        1 => 6.0 * u[0],
        2 => 15.0 * u[0],
        3 => 105.0 * u[0],
        _ => u[0].signum() * 10f64.powf(38.0 * u[1]),
    });
    edges.chain(drawn.map(|x| x as f32)).take(n).collect()
}

/// Runs `[n, 64] -> [n, 64]` through the unit matrix, so that `z` is `x` itself.
fn through_unit(epilogue: &str, x: &[f32]) -> Vec<f32> {
    let m = 64;
    let kernel = kernel("linear_f32_sm80");
    let configuration = kernel.configuration(&format!("64x64x16-nn-cp16-{epilogue}")).unwrap();
    let text = Text::of(kernel, &configuration);
    let mut device = Device::new(ORDERS[0]);
    let n = x.len() / m;
    let unit: Vec<f32> = (0..m * m).map(|e| if e % (m + 1) == 0 { 1.0 } else { 0.0 }).collect();
    let (x, w) = (device.input(x, m, m, 0), device.input(&unit, m, m, 0));
    let y = device.output::<f32>(n, m, m, 0);
    let size = m as u32;
    let params = LinearParams {
        x: x.address,
        w: w.address,
        bias: 0,
        y: y.address,
        pre: 0,
        n: n as u32,
        k: size,
        m: size,
        x_stride: size,
        w_stride: size,
        y_stride: size,
        pre_stride: 0,
        column_tiles: 1,
    };
    device.launch(&text, [n.div_ceil(64) as u32, 1, 1], &params).unwrap();
    device.read(&y)
}

/// Values by the epilogue `store`, derivatives by `tangent` on primals `x` and tangents of ones.
fn run(act: Elementwise, x: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let values = through_unit(&format!("store-{}", act.name()), x);
    let mut rows = Vec::new();
    for row in x.chunks(64) {
        rows.extend_from_slice(row);
        rows.extend(std::iter::repeat_n(1.0, 15 * 64));
    }
    let y = through_unit(&format!("tangent-{}", act.name()), &rows);
    let primals: Vec<f32> = y.chunks(16 * 64).flat_map(|token| token[..64].to_vec()).collect();
    assert!(values.iter().zip(&primals).all(|(a, b)| a.to_bits() == b.to_bits()), "{act:?}: the primal differs from `store`");
    let slopes = y.chunks(16 * 64).flat_map(|token| token[64..128].to_vec()).collect();
    (values, slopes)
}

#[test]
fn activations_and_derivatives_are_within_four_ulp_everywhere() {
    let x = sweep(8192);
    for act in Elementwise::ALL {
        let (values, slopes) = run(act, &x);
        let (mut worst_value, mut worst_slope) = ((0.0, 0.0), (0.0, 0.0));
        for ((x, value), slope) in x.iter().zip(values).zip(slopes) {
            let (want, want_slope, addend) = reference(act, f64::from(*x));
            let error =
                |got: f32, want: f64, size: f64| (f64::from(got) - want).abs() / size.max(FLOOR) / f64::from(f32::EPSILON);
            let (value, slope) = (error(value, want, want.abs()), error(slope, want_slope, addend));
            assert!(value <= 4.0 && slope <= 4.0, "{act:?} at {x}: value off by {value} ulp, derivative by {slope}");
            worst_value = if value > worst_value.0 { (value, *x) } else { worst_value };
            worst_slope = if slope > worst_slope.0 { (slope, *x) } else { worst_slope };
        }
        let ((value, at), (slope, there)) = (worst_value, worst_slope);
        println!("{}: value within {value:.2} ulp (at {at}), derivative within {slope:.2} ulp (at {there})", act.name());
    }
}

#[test]
fn not_a_number_stays_one_through_every_activation() {
    let mut x = vec![0.5; 64];
    x[3] = f32::NAN;
    for act in Elementwise::ALL {
        // The unit matrix spreads it over its row.
        assert!(through_unit(&format!("store-{}", act.name()), &x).iter().all(|y| y.is_nan()), "{act:?}");
    }
}
