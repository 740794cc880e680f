//! Linear maps on cooperative matrices. Mesa's software adapter has none, so the kernel runs with a fragment that does their
//! part by the lanes alone: all else is what an adapter with them runs. With `MECHGRAPH_ADAPTER=NAME` an adapter that has
//! them runs the kernel as it is, too.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};

use mechgraph::device::wgpu::{Cooperative, Options, Wgpu};
use mechgraph::device::{Builder, Cpu, DType, Device, Placement, Tensor};
use mechgraph::kernel::linear::{Elementwise, Epilogue};
use mechgraph::kernel::wgsl::linear_coop::{LINEAR_COOP, MAGNITUDE, Unit, configurations_of};
use mechgraph::ops::Launch;
use mechgraph::ops::linear_wgpu::{LinearCall, Road, linear, linear_by};

use super::linear::{Case, case};
use super::{Matrix, bits, device, distance, open, values};
use crate::backends::against_cpu::{self, agrees_on};
use crate::backends::{adapter, rounded};

/// 16 x 16 squares whose quads fill the lanes, and 8 x 8 ones with lanes to spare.
const EMULATED: [Cooperative; 2] = [Cooperative::Emulated { side: 16, lanes: 32 }, Cooperative::Emulated { side: 8, lanes: 32 }];

/// Whether the adapter has f16, which cooperative matrices multiply and their emulation needs.
fn has_f16() -> bool {
    let has = device().is_some_and(|d| d.adapter().features.contains(&"f16"));
    if !has {
        println!("skipped: wgpu adapter {} is absent or without f16", adapter());
    }
    has
}

/// The adapter with the emulated matrices, and with its own where it has them.
fn devices() -> &'static [Wgpu] {
    static DEVICES: OnceLock<Vec<Wgpu>> = OnceLock::new();
    DEVICES.get_or_init(|| {
        let native = device().is_some_and(|d| !d.adapter().cooperative_matrices.is_empty());
        let all = EMULATED.into_iter().filter(|_| has_f16()).chain(native.then_some(Cooperative::Native));
        all.map(|cooperative| open(Options { cooperative, ..Options::default() }).unwrap()).collect()
    })
}

#[test]
fn every_epilogue_activation_and_layout_agrees_with_f64_on_ragged_shapes() {
    // Not multiples of tiles, nor of what is summed of k at a time; then with whole quads of rows.
    let shapes = [(33, 300, 7), (130, 19, 65), (1, 1, 1), (70, 17, 33), (65, 129, 66), (5, 64, 150), (2, 37, 130)];
    let aligned = [(36, 20, 44), (66, 132, 68)];
    for (number, device) in devices().iter().enumerate() {
        let mut worst: f64 = 0.0;
        // Compiling takes the time: the first device has every epilogue, the others some.
        for (i, epilogue) in Epilogue::all().enumerate().filter(|(i, _)| number == 0 || i % 4 == number) {
            let rows = |n: usize| if matches!(epilogue, Epilogue::Tangent(_)) { n.next_multiple_of(16) } else { n };
            // The layouts and both widths of loads in turns.
            let transpose = (i + i / 4) % 2 == 0;
            let (n, k, m) = shapes[i % shapes.len()];
            let ragged = Case { transpose, ..case(rows(n), k, m, epilogue) };
            let (n, k, m) = aligned[i % aligned.len()];
            let pre = ragged.pre && i % 3 > 0;
            let quads = Case { place: (4, 8), bias: i % 3 < 2, pre, ..Case { n: rows(n), k, m, ..ragged } };
            let case = if (i / 2 + i / 8) % 2 == 0 { ragged } else { quads };
            let error = case.error(&case.run(device, Road::Cooperative));
            assert!(error <= 1e-6, "{}: {case:?}: {error:e}", device.describe());
            worst = worst.max(error);
        }
        println!("linear on {}: relative Frobenius error at most {worst:.1e}", device.matrix_unit().unwrap());
    }
}

#[test]
fn checks_of_every_access_and_narrow_grids_do_not_change_a_bit() {
    if !has_f16() {
        return;
    }
    let (usual, cooperative) = (&devices()[0], EMULATED[0]);
    let other = [
        Options { runtime_checks: true, cooperative, ..Options::default() },
        Options { largest_grid: Some(3), cooperative, ..Options::default() },
    ];
    let others = other.map(|options| open(options).unwrap());
    for (transpose, epilogue) in [(false, Epilogue::Store(Elementwise::Tanh)), (true, Epilogue::Tangent(Elementwise::Gelu))] {
        let case = Case { transpose, ..case(144, 150, 140, epilogue) };
        let outputs = |device: &Wgpu| {
            let (y, pre) = case.run(device, Road::Cooperative);
            (bits(&y), pre.as_deref().map(bits))
        };
        let first = outputs(usual);
        assert_eq!(outputs(usual), first, "again: {case:?}");
        for (device, options) in others.iter().zip(other) {
            assert_eq!(outputs(device), first, "{case:?}, {options:?}");
        }
    }
}

#[test]
fn small_bindings_cut_the_work() {
    if !has_f16() {
        return;
    }
    let cooperative = EMULATED[0];
    // Less than any of the matrices has, and more than 16 rows of those that the check on opening has.
    let small = open(Options { largest_binding: Some(12_000), cooperative, ..Options::default() }).unwrap();
    for epilogue in [Epilogue::Store(Elementwise::Relu), Epilogue::Add, Epilogue::Tangent(Elementwise::Sigmoid)] {
        for transpose in [false, true] {
            let case = Case { transpose, ..case(112, 70, 66, epilogue) };
            let error = case.error(&case.run(&small, Road::Cooperative));
            assert!(error <= 1e-6, "{case:?}: {error:e}");
        }
    }
}

/// x W by the kernel, x `[n, k]`.
fn product(device: &Wgpu, x: &[f32], w: &[f32], [n, k, m]: [usize; 3]) -> Vec<f32> {
    let (x, w) = (Matrix::new(device, n, k, (1, 2), Some(x)), Matrix::new(device, k, m, (3, 1), Some(w)));
    let (y, epilogue) = (Matrix::new(device, n, m, (2, 1), None), Epilogue::Store(Elementwise::Identity));
    let call = LinearCall { x: x.view(), w: w.view(), transpose: false, bias: None, epilogue, pre: None, y: y.view() };
    let steps = linear_by(device, &call, Road::Cooperative).unwrap();
    // Twice: what an earlier run has found must not be left.
    device.submit(&[&steps[..], &steps[..]].concat()).unwrap();
    y.read(device)
}

/// x W in f64.
fn exact(x: &[f32], w: &[f32], [n, k, m]: [usize; 3]) -> Vec<f64> {
    let at = |i: usize, j: usize| (0..k).map(|l| f64::from(x[i * k + l]) * f64::from(w[l * m + j])).sum();
    (0..n * m).map(|at_| at(at_ / m, at_ % m)).collect()
}

fn error(found: &[f32], wanted: &[f64]) -> f64 {
    distance(found.iter().map(|&x| x.into()), wanted)
}

#[test]
fn elements_of_any_size_keep_their_bits() {
    let shape @ [n, k, m] = [20, 40, 30];
    let (x, w) = (values(n * k, 1), values(k * m, 2));
    let times = |x: &[f32], factor: f32| x.iter().map(|x| x * factor).collect::<Vec<f32>>();
    for device in devices() {
        let exponents = [(100, -90), (-90, 100), (-60, -40), (60, 60), (-100, 0), (0, -100), (120, 0)];
        for (of_x, of_w) in exponents {
            let (x, w) = (times(&x, 2f32.powi(of_x)), times(&w, 2f32.powi(of_w)));
            let error = error(&product(device, &x, &w, shape), &exact(&x, &w, shape));
            assert!(error <= 1e-6, "2^{of_x} and 2^{of_w}: {error:e}");
        }
        // One large element in its row and column: all other rows and columns keep 22 bits for 2^-24 of it.
        let (mut x, mut w) = (x.clone(), w.clone());
        (x[0], w[0]) = (2f32.powi(20), 2f32.powi(20));
        let found = product(device, &x, &w, shape);
        let without = |x: &[f64]| (1..n).flat_map(|i| x[i * m + 1..(i + 1) * m].to_vec()).collect::<Vec<_>>();
        let found: Vec<f64> = without(&found.iter().map(|&x| x.into()).collect::<Vec<_>>());
        let error = distance(found, &without(&exact(&x, &w, shape)));
        assert!(error <= 1e-6, "beside a large element: {error:e}");
    }
}

#[test]
fn what_is_not_finite_stays_so_and_touches_nothing_else() {
    let shape @ [n, k, m] = [70, 40, 66];
    let (x, w) = (values(n * k, 1), values(k * m, 2));
    let wanted = exact(&x, &w, shape);
    for device in devices() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let (mut x, mut w) = (x.clone(), w.clone());
            (x[7 * k + 3], w[5 * m + 65]) = (bad, bad);
            let found = product(device, &x, &w, shape);
            for (at, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
                let (row, column) = (at / m, at % m);
                if row == 7 || column == 65 {
                    assert!(!found.is_finite(), "{bad} at {row}, {column}: {found}");
                } else {
                    assert!((f64::from(*found) - wanted).abs() < 1e-5, "{bad} at {row}, {column}: {found}, not {wanted}");
                }
            }
        }
    }
}

#[test]
fn zeros_give_zeros_and_a_sum_over_nothing_is_the_bias() {
    for device in devices() {
        let shape @ [n, k, m] = [20, 33, 30];
        assert_eq!(product(device, &vec![0.0; n * k], &values(k * m, 1), shape), vec![0.0; n * m]);
        assert_eq!(product(device, &values(n * k, 1), &vec![0.0; k * m], shape), vec![0.0; n * m]);
        let (x, w) = (Matrix::new(device, 3, 0, (1, 0), None), Matrix::new(device, 0, 4, (1, 0), None));
        let b = Matrix::new(device, 1, 4, (0, 0), Some(&[1.0, -2.0, 3.0, -4.0]));
        let (y, epilogue) = (Matrix::new(device, 3, 4, (2, 1), None), Epilogue::Store(Elementwise::Relu));
        let bias = Some(b.view());
        let call = LinearCall { x: x.view(), w: w.view(), transpose: false, bias, epilogue, pre: None, y: y.view() };
        device.submit(&linear_by(device, &call, Road::Cooperative).unwrap()).unwrap();
        assert_eq!(y.read(device), [1.0, 0.0, 3.0, 0.0].repeat(3));
    }
}

#[test]
fn long_sums_are_as_exact_as_short_ones() {
    for device in devices() {
        // Mesa's software adapter ends the loops of an invocation after 65,535 rounds, and those of the emulation add up.
        let k = if device.matrix_unit().unwrap().emulated { 1200 } else { 16_384 };
        let shape @ [n, _, m] = [5, k, 6];
        // Of one sign, so that every rounding counts.
        let positive = |seed: u64, count: usize| values(count, seed).into_iter().map(f32::abs).collect::<Vec<_>>();
        let factors = [(values(n * k, 1), values(k * m, 2)), (positive(1, n * k), positive(2, k * m))];
        let errors = factors.each_ref().map(|(x, w)| error(&product(device, x, w, shape), &exact(x, w, shape)));
        println!("linear on {}, k = {k}: {:.1e}, and {:.1e} of one sign", device.matrix_unit().unwrap(), errors[0], errors[1]);
        assert!(errors.iter().all(|&e| e <= 1e-6), "{errors:?}");
    }
}

#[test]
fn a_device_opened_so_takes_the_kernel_where_it_is_worth_it_and_says_so() {
    for device in devices() {
        let names = |n: usize| -> Vec<String> {
            let (x, w, y) = (
                Matrix::new(device, n, 64, (0, 0), None),
                Matrix::new(device, 64, 64, (0, 0), None),
                Matrix::new(device, n, 64, (0, 0), None),
            );
            let epilogue = Epilogue::Add;
            let call = LinearCall { x: x.view(), w: w.view(), transpose: false, bias: None, epilogue, pre: None, y: y.view() };
            linear(device, &call).unwrap().iter().filter_map(|step| step.name()).map(String::from).collect()
        };
        let kernel = |name: &String| name.split('@').next().unwrap().to_string();
        assert_eq!(names(64).iter().map(kernel).collect::<Vec<_>>(), ["magnitude_f32", "magnitude_f32", "linear_coop_f32"]);
        assert_eq!(names(63).iter().map(kernel).collect::<Vec<_>>(), ["linear_f32"]);
        let Unit { side, emulated, .. } = device.matrix_unit().unwrap();
        let kind = if emulated { "emulated" } else { "cooperative" };
        let words = format!("; linear maps on {kind} matrices {side}x{side}x{side} f16 -> f32, checked: ");
        let text = device.describe();
        let checked = text.split_once(&words).unwrap_or_else(|| panic!("{text}")).1;
        assert!((1e-9..=1e-6).contains(&checked.parse::<f64>().unwrap()), "{text}");
    }
}

#[test]
fn without_the_flag_no_cooperative_matrix_is_used() {
    let Some(device) = device() else { return };
    assert!(device.matrix_unit().is_none() && !device.describe().contains("matrices f16"), "{}", device.describe());
    let (x, y) = (Matrix::new(device, 64, 64, (0, 0), None), Matrix::new(device, 64, 64, (0, 0), None));
    let w = Matrix::new(device, 64, 64, (0, 0), None);
    let epilogue = Epilogue::Add;
    let call = LinearCall { x: x.view(), w: w.view(), transpose: false, bias: None, epilogue, pre: None, y: y.view() };
    assert!(linear(device, &call).unwrap()[0].name().unwrap().starts_with("linear_f32@"));
    let text = linear_by(device, &call, Road::Cooperative).unwrap_err().to_string();
    assert!(text.starts_with("kernel linear_coop_f32: ") && text.contains("opened without"), "{text}");
}

#[test]
fn an_adapter_without_cooperative_matrices_is_refused_in_one_sentence() {
    let Some(device) = device().filter(|d| d.adapter().cooperative_matrices.is_empty()) else { return };
    let options = Options { cooperative: Cooperative::Native, ..Options::default() };
    let text = Wgpu::open_with(Some(&adapter()), options).unwrap_err().to_string();
    let wanted =
        format!("backend wgpu: {} has no cooperative matrices; expected cooperative matrices 16x16x16 or ", device.adapter());
    assert!(text.starts_with(&wanted) && text.ends_with(", or no --cooperative"), "{text}");
}

#[test]
fn a_program_runs_its_large_linear_maps_on_them() {
    use mechgraph::ops::linear::{Args, Matrix};
    if !has_f16() {
        return;
    }
    let wgpu = Arc::new(open(Options { cooperative: EMULATED[0], ..Options::default() }).unwrap());
    let device = Device::Wgpu { wgpu, host: Cpu::new(1).unwrap(), placement: Placement::default() };
    // Two layers, run twice over the same buffers.
    let build = |dtype: DType| {
        let mut b = Builder::<Launch>::new(dtype);
        let (n, d, h) = (80, 70, 100);
        let [x, z, y] = [(n, d), (n, h), (n, d)].map(|(rows, cols)| b.matrix(rows, cols));
        let tensor = |rows, cols, seed| Tensor::from_f64(dtype, rows, cols, rounded(DType::F32, rows * cols, seed));
        b.push(Launch::Linear(Args::new(x, Matrix::whole(&tensor(d, h, 1)), z)));
        b.push(Launch::Linear(Args { transpose: true, ..Args::new(z, Matrix::whole(&tensor(d, h, 2)), y) }));
        let inputs = vec![(x, rounded(DType::F32, n * d, 3))];
        against_cpu::Case { program: b.finish(), inputs, ints: vec![], outputs: vec![z, y] }
    };
    agrees_on::<f32>(&device, 1e-6, build).unwrap();
}

/// What it is, words of a text, and what a bug puts in their place.
type Bug = (&'static str, &'static str, &'static str);

const BUGS: [Bug; 15] = [
    ("no barrier before the products", "power(w_exponent));\n            workgroupBarrier();", "power(w_exponent));"),
    ("the low parts of x are lost", "low_0_0 = multiply_add(x_low_0, w_high_0, low_0_0, lane);", ""),
    ("the low parts of W are lost", "low_1_0 = multiply_add(x_high_1, w_low_0, low_1_0, lane);", ""),
    ("low parts in the place of high ones", "let w_high_1 = load_w(w_1);", "let w_high_1 = load_w(PLANE + w_1);"),
    ("low parts weigh twice as much", "0.00048828125", "0.0009765625"),
    ("low parts are of another value", "(value - f32(high)) * 2048.0", "value * 2048.0"),
    (
        "squares of W by rows",
        "square(line, d) + line % SIDE * SIDE + d % SIDE",
        "square(line, d) + line % SIDE + d % SIDE * SIDE",
    ),
    (
        "the sums of a neighbouring subgroup",
        "joined(own + 0u * SQUARE, lane + 0u * LANES)",
        "joined(own ^ (2u * SQUARE), lane + 0u * LANES)",
    ),
    (
        "no barrier before lanes take their sums",
        "put(low_0_1, own + 1u * SQUARE, lane);\n        workgroupBarrier();",
        "put(low_0_1, own + 1u * SQUARE, lane);",
    ),
    ("the last of k is dropped", "let to = min(base + SPAN, p.k);", "let to = min(base + SPAN, p.k / DEPTH * DEPTH);"),
    ("sums begin anew every span", "z_0_1_0 += joined", "z_0_1_0 = joined"),
    ("one scale alone is taken back", "x_exponent + w_exponent)", "x_exponent + x_exponent)"),
    ("magnitudes of what is not finite", "if magnitude < INFINITY {", "if magnitude <= INFINITY {"),
    ("the last element has no magnitude", "i < p.rows * p.cols", "i + 1u < p.rows * p.cols"),
    (
        "the primal of a neighbouring slab",
        "let primal_0_0 = (row_0 + 0u * SIDE) / 16u",
        "let primal_0_0 = (((row_0 + 0u * SIDE) / 16u) ^ 1u)",
    ),
];

/// Cases that between them must notice every bug, with what they find wrong.
fn wrong(device: &Wgpu) -> Option<String> {
    let cases = [
        case(70, 150, 66, Epilogue::Store(Elementwise::Identity)),
        Case { transpose: true, ..case(80, 40, 66, Epilogue::Tangent(Elementwise::Gelu)) },
    ];
    for case in cases {
        let error = case.error(&case.run(device, Road::Cooperative));
        if error.is_nan() || error > 1e-6 {
            return Some(format!("error {error:.1e}"));
        }
    }
    let shape @ [n, k, m] = [17, 20, 33];
    let (mut x, w) = (values(n * k, 1), values(k * m, 2));
    // The largest element is the last; then one that is not finite is the largest.
    x[n * k - 1] = 2f32.powi(30);
    let error = error(&product(device, &x, &w, shape), &exact(&x, &w, shape));
    if error.is_nan() || error > 1e-6 {
        return Some(format!("a large last element: error {error:.1e}"));
    }
    (x[n * k - 1], x[0]) = (1.0, f32::INFINITY);
    let found = product(device, &x, &w, shape);
    let wanted = exact(&x, &w, shape);
    let error = distance(found[m..].iter().map(|&x| x.into()), &wanted[m..]);
    (error.is_nan() || error > 1e-6).then(|| format!("beside what is not finite: error {error:.1e}"))
}

#[test]
fn planted_bugs_are_noticed_most_of_them_when_a_device_is_opened() {
    if !has_f16() {
        return;
    }
    let cooperative = EMULATED[0];
    assert_eq!(wrong(&devices()[0]), None, "as it stands");
    let unit = devices()[0].matrix_unit().unwrap();
    let texts: Vec<String> =
        configurations_of(unit).iter().map(|c| LINEAR_COOP.expand(c).unwrap()).chain([MAGNITUDE.source.into()]).collect();
    let mut on_opening = 0;
    for (what, words, bug) in BUGS {
        assert!(texts.iter().any(|text| text.contains(words)), "{what}: no text has '{words}'");
        let options = Options { planted: Some((words, bug)), cooperative, ..Options::default() };
        let found = match Wgpu::open_with(Some(&adapter()), options) {
            Err(refused) => {
                on_opening += 1;
                assert!(refused.to_string().contains("from linear_f32; expected at most 1e-6"), "{what}: {refused}");
                Some(refused.to_string())
            }
            // A write outside of the result stops the reading of it.
            Ok(device) => catch_unwind(AssertUnwindSafe(|| wrong(&device))).unwrap_or_else(|_| Some("a write outside".into())),
        };
        println!("linear_coop_f32: {what}: {}", found.unwrap_or_else(|| panic!("{what}: not noticed")));
    }
    assert!(on_opening > BUGS.len() / 2, "{on_opening} of {} on opening", BUGS.len());
}
