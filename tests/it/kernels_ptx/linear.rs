//! `linear_f32_sm80` and `linear_f64_sm80`.

use mechgraph::device::DType;
use mechgraph::kernel::linear::{self, Elementwise, Epilogue, LinearParams, LinearShape};
use mechgraph::kernel::tuning::Limits;
use mechgraph::ops::activation::Activation;
use ptxvm::Completion;

use super::gram::Element;
use super::*;

/// A linear map to compute.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub n: usize,
    pub k: usize,
    pub m: usize,
    pub bias: bool,
    pub pre: bool,
    pub order: (u64, Completion),
}

/// What `text` expects of W and does with `z`.
fn words(text: &Text) -> (bool, Epilogue) {
    let word = |name| text.configuration.constants.get_word(name).unwrap();
    let act = *Elementwise::ALL.iter().find(|a| a.name() == word("ACTIVATION")).unwrap();
    let epilogue = match word("EPILOGUE") {
        "store" => Epilogue::Store(act),
        "add" => Epilogue::Add,
        _ => Epilogue::Tangent(act),
    };
    (word("LAYOUT") == "nt", epilogue)
}

fn activation(act: Elementwise) -> Activation {
    match act {
        Elementwise::Identity => Activation::Identity,
        Elementwise::Relu => Activation::Relu,
        Elementwise::Gelu => Activation::Gelu,
        Elementwise::GeluNew => Activation::GeluNew,
        Elementwise::Silu => Activation::Silu,
        Elementwise::Tanh => Activation::Tanh,
        Elementwise::Sigmoid => Activation::Sigmoid,
    }
}

/// Numbers in the dtype of the kernel.
fn rounded<T: Element>(n: usize, seed: u64) -> Vec<T> {
    numbers(n, seed).iter().map(|x| T::of(*x)).collect()
}

fn wide<T: Element>(x: &[T]) -> Vec<f64> {
    x.iter().map(|x| x.wide()).collect()
}

/// `y` and `pre` in f64, given `y` before.
fn reference(case: &Case, epilogue: Epilogue, x: &[f64], w: &[f64], bias: &[f64], before: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let Case { n, k, m, .. } = *case;
    let (mut y, mut pre) = (vec![0.0; n * m], Vec::new());
    for i in 0..n {
        let primal = !matches!(epilogue, Epilogue::Tangent(_)) || i % 16 == 0;
        for j in 0..m {
            let product: f64 = (0..k).map(|p| x[i * k + p] * w[p * m + j]).sum();
            let z = if case.bias && primal { product + bias[j] } else { product };
            if primal {
                pre.push(z);
            }
            y[i * m + j] = match epilogue {
                Epilogue::Store(act) => activation(act).value(z),
                Epilogue::Add => before[i * m + j] + z,
                Epilogue::Tangent(act) if primal => activation(act).value(z),
                Epilogue::Tangent(act) => z * activation(act).derivative(pre[i / 16 * m + j]),
            };
        }
    }
    (y, pre)
}

/// Runs the kernel and returns `y`, checked against the reference.
pub fn run<T: Element>(text: &Text, case: &Case) -> Result<Vec<T>, Failure> {
    let Case { n, k, m, .. } = *case;
    let (transpose, epilogue) = words(text);
    let aligned = constant(&text.configuration, "COPY") == 16;
    // Strides that are no multiples of a tile, and multiples of 16 bytes only where they must be.
    let (pad, lead) = if aligned { (4, 4) } else { (3, 1) };
    let stride = |cols: usize| if aligned { cols.next_multiple_of(4) + pad } else { cols + pad };
    let mut device = Device::new(case.order);
    let (x, w, bias) = (rounded::<T>(n * k, 1), rounded::<T>(k * m, 2), rounded::<T>(m, 3));
    let before = rounded::<T>(n * m, 4);
    let x_view = device.input(&x, k, stride(k), lead);
    let w_view = if transpose {
        let turned: Vec<T> = (0..k * m).map(|e| w[e % k * m + e / k]).collect();
        device.input(&turned, k, stride(k), lead)
    } else {
        device.input(&w, m, stride(m), lead)
    };
    let bias_view = device.input(&bias, m, m, 1);
    let y = if epilogue == Epilogue::Add {
        device.input(&before, m, stride(m), lead)
    } else {
        device.output::<T>(n, m, stride(m), lead)
    };
    let pre_rows = if matches!(epilogue, Epilogue::Tangent(_)) { n / 16 } else { n };
    let pre = device.output::<T>(pre_rows, m, stride(m), lead);
    let (row_tiles, column_tiles) =
        (n.div_ceil(constant(&text.configuration, "TILE_ROWS")), m.div_ceil(constant(&text.configuration, "TILE_COLUMNS")));
    let params = LinearParams {
        x: x_view.address,
        w: w_view.address,
        bias: if case.bias { bias_view.address } else { 0 },
        y: y.address,
        pre: if case.pre { pre.address } else { 0 },
        n: n as u32,
        k: k as u32,
        m: m as u32,
        x_stride: x_view.stride as u32,
        w_stride: w_view.stride as u32,
        y_stride: y.stride as u32,
        pre_stride: pre.stride as u32,
        column_tiles: column_tiles as u32,
    };
    let statistics = device.launch(text, [(row_tiles * column_tiles) as u32, 1, 1], &params)?;
    device.only::<T>("y", &y, |_, _| true)?;
    let (want, want_pre) = reference(case, epilogue, &wide(&x), &wide(&w), &wide(&bias), &wide(&before));
    let got: Vec<T> = device.read(&y);
    if let Epilogue::Tangent(_) = epilogue {
        // Primals and tangents apart: neither hides behind the size of the other.
        let rows = |values: &[f64], primal: bool| -> Vec<f64> {
            values.chunks(m).enumerate().filter(|(i, _)| (i % 16 == 0) == primal).flat_map(|(_, row)| row.to_vec()).collect()
        };
        close("primals", &rows(&wide(&got), true), &rows(&want, true), T::BOUND)?;
        close("tangents", &rows(&wide(&got), false), &rows(&want, false), T::BOUND)?;
    } else {
        close("y", &wide(&got), &want, T::BOUND)?;
    }
    // The epilogue that adds takes no `pre`.
    let has_pre = case.pre && epilogue != Epilogue::Add;
    device.only::<T>("pre", &pre, |_, _| has_pre)?;
    if has_pre {
        close("pre", &wide(&device.read::<T>(&pre)), &want_pre, T::BOUND)?;
    }
    no_bank_conflicts(&statistics)?;
    Ok(got)
}

fn texts<T: Element>(part: &str) -> Vec<Text> {
    let kernel = kernel(&format!("linear_{}_sm80", T::NAME));
    let all = (kernel.configurations)();
    let some: Vec<Text> = all.iter().filter(|c| c.name.contains(part)).map(|c| Text::of(kernel, c)).collect();
    assert!(!some.is_empty(), "{part}");
    some
}

fn rows_for(text: &Text, n: usize) -> usize {
    if matches!(words(text).1, Epilogue::Tangent(_)) { n.next_multiple_of(16) } else { n }
}

fn check<T: Element>(text: &Text, case: Case) -> Vec<T> {
    run(text, &case).unwrap_or_else(|failure| panic!("{}: {case:?}: {failure}", text.configuration.name))
}

fn every_configuration<T: Element>() {
    for (i, text) in texts::<T>("").iter().enumerate() {
        let (rows, columns) = (constant(&text.configuration, "TILE_ROWS"), constant(&text.configuration, "TILE_COLUMNS"));
        let n = rows_for(text, rows + 9);
        check::<T>(text, Case { n, k: 37, m: columns + 6, bias: i % 3 != 0, pre: i % 2 == 0, order: ORDERS[i % 4] });
    }
}

#[test]
fn every_configuration_agrees_with_the_reference_on_a_ragged_shape() {
    every_configuration::<f32>();
}

#[test]
fn every_configuration_in_f64_agrees_with_the_reference_on_a_ragged_shape() {
    every_configuration::<f64>();
}

fn every_edge<T: Element>() {
    for part in ["store-identity", "add", "tangent-gelu_new"] {
        for text in texts::<T>(part) {
            for (n, k, m) in [(1, 1, 1), (3, 300, 2), (17, 5, 64), (64, 16, 65), (129, 15, 3), (200, 48, 63)] {
                let n = rows_for(&text, n);
                check::<T>(&text, Case { n, k, m, bias: true, pre: true, order: ORDERS[0] });
            }
        }
    }
}

#[test]
fn both_tiles_layouts_and_copy_widths_agree_with_the_reference_on_every_kind_of_edge() {
    every_edge::<f32>();
    every_edge::<f64>();
}

#[test]
fn long_sums_stay_within_the_bound() {
    for text in texts::<f32>("16-nn-cp16-store-identity") {
        check::<f32>(&text, Case { n: 130, k: 300, m: 130, bias: true, pre: false, order: ORDERS[0] });
    }
}

fn same_bits<T: Element>() {
    for part in ["store-gelu_new", "-add", "tangent-silu"] {
        let case = Case { n: 80, k: 83, m: 70, bias: true, pre: true, order: ORDERS[0] };
        let results: Vec<Vec<T>> =
            texts::<T>(part).iter().flat_map(|text| ORDERS.map(|order| check(text, Case { order, ..case }))).collect();
        assert_eq!(results.len(), 8 * 4);
        assert!(results.iter().all(|y| y == &results[0]), "{part}");
    }
}

#[test]
fn linear_gives_the_same_bits_in_every_order_and_for_every_configuration() {
    same_bits::<f32>();
    same_bits::<f64>();
}

#[test]
fn a_plan_names_a_configuration_that_fits_its_shape() {
    let limits = Limits { capability: (8, 0), multiprocessors: 108, shared_per_block: 166_912 };
    for epilogue in Epilogue::all() {
        for dtype in [DType::F32, DType::F64] {
            let shape = LinearShape { dtype, n: 32, k: 20, m: 12, transpose: true, epilogue, aligned: false };
            let plan = linear::choose(&shape, &limits).unwrap();
            let text = Text::of(plan.launch.kernel, &plan.launch.configuration);
            assert_eq!(words(&text), (true, epilogue));
            let case = Case { n: 32, k: 20, m: 12, bias: true, pre: false, order: ORDERS[0] };
            match dtype {
                DType::F32 => drop(check::<f32>(&text, case)),
                DType::F64 => drop(check::<f64>(&text, case)),
            }
        }
    }
}
