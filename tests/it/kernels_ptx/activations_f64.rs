//! The activations in f64, value and derivative, over the whole range of f64, against arithmetic of twice
//! the digits; and in f32 through the same kernels.

use mechgraph::kernel::activation::{ActivationParams, TangentParams};
use mechgraph::kernel::linear::Elementwise;

use super::double_double::{Double, double};
use super::*;

/// Smallest size at which the error counts in full: below it the factors of a value are subnormal.
const FLOOR: f64 = 1e-290;

/// 2 sqrt(2 / pi) and 0.044715.
const SCALE: Double = Double { high: 1.595_769_121_605_730_8, low: -9.969_308_809_110_92e-17 };
const CUBIC: Double = Double { high: 0.044715, low: 2.196_021_142_708_559_5e-18 };

/// `act(x)`, `act'(x)` and the larger addend of the latter.
fn reference(act: Elementwise, x: f64) -> (Double, Double, f64) {
    // Far out it is 0, and twice a number must not overflow.
    let bell = |v: Double| if v.high.abs() > 1e4 { double(0.0) } else { v.logistic() * (-v).logistic() };
    let twice = double(2.0 * x.clamp(-1e5, 1e5));
    let sum = |a: Double, b: Double| (a + b, a.high.abs().max(b.high.abs()).max((a + b).high.abs()));
    let (one, none, number) = (double(1.0), double(0.0), double(x));
    // Beyond this all of them have reached their limits, and squares might overflow.
    let limit = if x > 0.0 { (number, (one, 1.0)) } else { (none, (none, 0.0)) };
    let (value, (slope, addend)) = match act {
        Elementwise::Identity => (number, (one, 1.0)),
        Elementwise::Relu => (double(x.max(0.0)), (double(if x > 0.0 { 1.0 } else { 0.0 }), 1.0)),
        Elementwise::Gelu | Elementwise::GeluNew | Elementwise::Silu if x.abs() > 1e4 => limit,
        Elementwise::Gelu => (number * number.normal(), sum(number.normal(), number * number.normal_density())),
        Elementwise::GeluNew => {
            let square = number * number;
            let v = number * SCALE * (one + CUBIC * square);
            let dv = SCALE * (one + double(3.0) * CUBIC * square);
            (number * v.logistic(), sum(v.logistic(), number * dv * bell(v)))
        }
        Elementwise::Silu => (number * number.logistic(), sum(number.logistic(), number * bell(number))),
        Elementwise::Tanh => (number.tanh(), sum(double(4.0) * bell(twice), none)),
        Elementwise::Sigmoid => (number.logistic(), sum(bell(number), none)),
    };
    (value, slope, addend)
}

/// Numbers of every size and sign, dense where the activations bend.
fn sweep(n: usize) -> Vec<f64> {
    let edges = [0.0, 0.55, 0.549_999_999_999_999_9, 40.0, 38.7, 373.0, 708.0, 746.0, 1e300, f64::MAX, f64::MIN_POSITIVE, 1e-310];
    let edges = edges.iter().flat_map(|x| [*x, -*x]);
    let unit = numbers(2 * n, 21);
    let drawn = unit.chunks(2).enumerate().map(|(i, u)| match i % 5 {
        0 => u[0],
        1 => 6.0 * u[0],
        2 => 39.0 * u[0],
        3 => 740.0 * u[0],
        _ => u[0].signum() * 10f64.powf(307.0 * u[1]),
    });
    edges.chain(drawn).take(n).collect()
}

/// Values and derivatives of a column of numbers, by both kernels, which must agree in the former.
fn run<T: Pod + PartialEq>(act: Elementwise, x: &[T], one: T, prefix: &str) -> (Vec<T>, Vec<T>) {
    let n = x.len();
    let text = |name: &str| {
        let kernel = kernel(name);
        Text::of(kernel, &kernel.configuration(&format!("{prefix}-{}", act.name())).unwrap())
    };
    let mut device = Device::new(ORDERS[0]);
    let ones = device.input(&vec![one; n], 1, 1, 0);
    let x = device.input(x, 1, 1, 0);
    let [y, dv, dy] = [(); 3].map(|()| device.output::<T>(n, 1, 1, 0));
    let (rows, grid) = (n as u32, |deep: usize| [n.div_ceil(256 * deep) as u32, 1, 1]);
    let params = ActivationParams {
        x: x.address,
        u: 0,
        y: y.address,
        cap: 1.0,
        inverse: 1.0,
        rows,
        cols: 1,
        x_stride: 1,
        u_stride: 0,
        y_stride: 1,
        log_columns: 0,
    };
    device.launch(&text("activation_sm80"), grid(4), &params).unwrap();
    let params = TangentParams {
        x: x.address,
        u: 0,
        dx: ones.address,
        dy: dy.address,
        du: 0,
        dv: dv.address,
        rows,
        cols: 1,
        probes: 1,
        x_stride: 1,
        u_stride: 0,
        dx_stride: 1,
        dy_stride: 1,
        du_stride: 0,
        dv_stride: 1,
        log_columns: 0,
    };
    device.launch(&text("activation_tangent_sm80"), grid(1), &params).unwrap();
    let values = device.read::<T>(&y);
    let again = device.read::<T>(&dv);
    let same = values.iter().zip(&again).all(|(a, b)| bytemuck::bytes_of(a) == bytemuck::bytes_of(b));
    assert!(same, "{act:?}: the two kernels differ in a value");
    (values, device.read(&dy))
}

#[test]
fn activations_and_derivatives_in_f64_are_within_four_ulp_everywhere() {
    let x = sweep(4096);
    for act in Elementwise::ALL {
        let (values, slopes) = run(act, &x, 1.0, "f64");
        let (mut worst_value, mut worst_slope) = ((0.0, 0.0), (0.0, 0.0));
        for ((&x, value), slope) in x.iter().zip(values).zip(slopes) {
            let (want, want_slope, addend) = reference(act, x);
            let error = |got: f64, want: Double, size: f64| (double(got) - want).high.abs() / size.max(FLOOR) / f64::EPSILON;
            let (value, slope) = (error(value, want, want.high.abs()), error(slope, want_slope, addend));
            assert!(value <= 4.0 && slope <= 4.0, "{act:?} at {x}: value off by {value} ulp, derivative by {slope}");
            worst_value = if value > worst_value.0 { (value, x) } else { worst_value };
            worst_slope = if slope > worst_slope.0 { (slope, x) } else { worst_slope };
        }
        let ((value, at), (slope, there)) = (worst_value, worst_slope);
        println!("{} f64: value within {value:.2} ulp (at {at}), derivative within {slope:.2} ulp (at {there})", act.name());
    }
}

#[test]
fn activations_in_f32_are_those_of_linear_maps() {
    // `activations.rs` measures the fragments; here it is enough that the kernels hold them.
    let x: Vec<f32> = numbers(512, 22).iter().map(|x| 8.0 * *x as f32).collect();
    for act in Elementwise::ALL {
        let (values, slopes) = run(act, &x, 1f32, "f32");
        for ((&x, value), slope) in x.iter().zip(values).zip(slopes) {
            let (want, want_slope, addend) = reference(act, f64::from(x));
            let error = |got: f32, want: f64, size: f64| (f64::from(got) - want).abs() / size / f64::from(f32::EPSILON);
            assert!(error(value, want.high, want.high.abs().max(1e-36)) <= 4.0, "{act:?} at {x}: {value}");
            assert!(error(slope, want_slope.high, addend.max(1e-36)) <= 4.0, "{act:?} at {x}: {slope}");
        }
    }
}

#[test]
fn not_a_number_stays_one_in_f64() {
    for act in Elementwise::ALL {
        let (values, _) = run(act, &[0.5, f64::NAN], 1.0, "f64");
        assert!(!values[0].is_nan() && values[1].is_nan(), "{act:?}");
    }
}
