//! Linear maps with their epilogues.

use mechgraph::device::{Builder, DType, Real, Tensor, View};
use mechgraph::ops::activation::Activation;
use mechgraph::ops::linear::{Args, Matrix, TANGENT_ROWS};
use mechgraph::ops::{Launch, activation};

use super::{Backend, bar, error, on_every_backend, rounded, run};

const ACTIVATIONS: [Activation; 7] = [
    Activation::Identity,
    Activation::Relu,
    Activation::Gelu,
    Activation::GeluNew,
    Activation::Silu,
    Activation::Tanh,
    Activation::Sigmoid,
];

/// What one case is made of, so that a failure can print it.
#[derive(Clone, Copy, Debug)]
struct Case {
    n: usize,
    k: usize,
    m: usize,
    transpose: bool,
    bias: bool,
    act: Option<Activation>,
    pre: bool,
    accumulate: bool,
    tangent: bool,
    /// x, y and pre lie inside of wider rows, W inside of a larger tensor.
    inside: bool,
}

const PLAIN: Case = Case {
    n: 0,
    k: 0,
    m: 0,
    transpose: false,
    bias: false,
    act: None,
    pre: false,
    accumulate: false,
    tangent: false,
    inside: false,
};

fn view(b: &mut Builder<Launch>, rows: usize, cols: usize, inside: bool) -> View {
    if inside { b.matrix(rows + 1, cols + 3).columns(1, cols).slice_rows(1, rows) } else { b.matrix(rows, cols) }
}

fn check<T: Real>(backend: Backend, case: Case) {
    let Case { n, k, m, .. } = case;
    let dtype = T::DTYPE;
    let (rows, cols) = if case.transpose { (m, k) } else { (k, m) };
    let margin = if case.inside { 2 } else { 0 };
    let (all_rows, all_cols) = (rows + margin, cols + margin);
    let (w_data, bias_data) = (rounded(dtype, all_rows * all_cols, 1), rounded(dtype, m, 2));
    let tensor = Tensor::from_f64(dtype, all_rows, all_cols, w_data.clone());
    let w = Matrix { rows, cols, row: margin / 2, col: margin / 2, ..Matrix::whole(&tensor) };
    let mut b = Builder::<Launch>::new(dtype);
    let (x, y) = (view(&mut b, n, k, case.inside), view(&mut b, n, m, case.inside));
    let primal = if case.tangent { n / TANGENT_ROWS } else { n };
    let pre = case.pre.then(|| view(&mut b, primal, m, case.inside));
    let bias = case.bias.then(|| Matrix::whole(&Tensor::row(dtype, bias_data.clone())));
    let args = Args {
        transpose: case.transpose,
        bias,
        act: case.act,
        pre,
        accumulate: case.accumulate,
        tangent: case.tangent,
        ..Args::new(x, w, y)
    };
    args.check().unwrap();
    b.push(Launch::Linear(args));
    let program = b.finish();
    let (x_data, y_data) = (rounded(dtype, n * k, 3), rounded(dtype, n * m, 4));
    let mut inputs = vec![(x, x_data.clone())];
    if case.accumulate {
        inputs.push((y, y_data.clone()));
    }
    let outputs: Vec<View> = [y].into_iter().chain(pre).collect();
    let arena = run::<T>(backend, &program, &inputs, &outputs);

    let at = |row: usize, col: usize| w_data[(row + margin / 2) * all_cols + col + margin / 2];
    let weight = |c: usize, j: usize| if case.transpose { at(j, c) } else { at(c, j) };
    let is_primal = |i: usize| !case.tangent || i.is_multiple_of(TANGENT_ROWS);
    let product = |i: usize, j: usize| (0..k).map(|c| x_data[i * k + c] * weight(c, j)).sum::<f64>();
    let z = |i: usize, j: usize| product(i, j) + if case.bias && is_primal(i) { bias_data[j] } else { 0.0 };
    let act = case.act.unwrap_or(Activation::Identity);
    let value = |i: usize, j: usize| match (case.accumulate, is_primal(i)) {
        (true, _) => y_data[i * m + j] + z(i, j),
        (false, true) => act.value(z(i, j)),
        (false, false) => act.derivative(z(i - i % TANGENT_ROWS, j)) * z(i, j),
    };
    let expected: Vec<f64> = (0..n * m).map(|e| value(e / m, e % m)).collect();
    let found = error(&arena, &y, &expected);
    assert!(found <= bar(dtype), "{backend:?} {case:?}: {found:e}");
    if let Some(pre) = pre {
        let expected: Vec<f64> = (0..primal * m).map(|e| z(e / m * (n / primal), e % m)).collect();
        let found = error(&arena, &pre, &expected);
        assert!(found <= bar(dtype), "{backend:?} before the activation of {case:?}: {found:e}");
    }
}

/// Sizes from 1 to 300 that are no multiples of tiles, and two that are.
const SHAPES: [(usize, usize, usize); 7] =
    [(1, 1, 1), (5, 300, 3), (37, 17, 70), (64, 64, 64), (130, 33, 67), (300, 5, 129), (128, 48, 128)];

fn layouts<T: Real>(backend: Backend) {
    for (n, k, m) in SHAPES {
        for (transpose, inside) in [(false, false), (true, false), (false, true), (true, true)] {
            check::<T>(backend, Case { n, k, m, transpose, inside, ..PLAIN });
        }
        check::<T>(backend, Case { n, k, m, bias: true, accumulate: true, inside: n % 2 == 1, ..PLAIN });
    }
}

fn activations<T: Real>(backend: Backend) {
    for (i, act) in ACTIVATIONS.into_iter().enumerate() {
        let plain = Case { act: Some(act), bias: true, inside: i % 2 == 1, ..PLAIN };
        check::<T>(backend, Case { n: 37, k: 19, m: 41, pre: true, ..plain });
        check::<T>(backend, Case { n: 3 * TANGENT_ROWS, k: 19, m: 41, pre: true, tangent: true, ..plain });
        check::<T>(backend, Case { n: 9 * TANGENT_ROWS, k: 20, m: 72, transpose: true, tangent: true, ..plain });
    }
}

on_every_backend! {
    fn linear_maps_of_ragged_shapes_and_layouts_in_f32(backend: Backend) { layouts::<f32>(backend) }
    fn activations_and_tangents_behind_a_linear_map_in_f32(backend: Backend) { activations::<f32>(backend) }
    fn what_the_host_does_between_two_linear_maps_is_seen(backend: Backend) {
        // linear (device), SoLU (host), linear (device): both crossings, and the second run after a capture.
        let (n, k, m) = (20, 12, 24);
        let mut b = Builder::<Launch>::new(DType::F32);
        let (x, h, solu, y) = (b.matrix(n, k), b.matrix(n, m), b.matrix(n, m), b.matrix(n, k));
        let (first, second) = (rounded(DType::F32, k * m, 5), rounded(DType::F32, m * k, 6));
        let tensor = |rows, cols, data: &Vec<f64>| Matrix::whole(&Tensor::from_f64(DType::F32, rows, cols, data.clone()));
        b.push(Launch::Linear(Args::new(x, tensor(k, m, &first), h)));
        b.push(Launch::Activation(activation::Args { x: h, y: solu, act: Activation::Solu }));
        b.push(Launch::Linear(Args::new(solu, tensor(m, k, &second), y)));
        b.push(Launch::Linear(Args { act: Some(Activation::Tanh), ..Args::new(y, tensor(k, m, &first), h) }));
        let data = rounded(DType::F32, n * k, 7);
        let arena = run::<f32>(backend, &b.finish(), &[(x, data.clone())], &[y, h]);
        let product = |x: &[f64], w: &[f64], rows: usize, cols: usize| -> Vec<f64> {
            let at = |i: usize, j: usize| (0..rows).map(|c| x[i * rows + c] * w[c * cols + j]).sum();
            (0..n * cols).map(|e| at(e / cols, e % cols)).collect()
        };
        let mut hidden = product(&data, &first, k, m);
        hidden.chunks_mut(m).for_each(|row| {
            let z = row.to_vec();
            Activation::Solu.values(&z, row);
        });
        let out = product(&hidden, &second, m, k);
        assert!(error(&arena, &y, &out) <= 1e-6);
        let last: Vec<f64> = product(&out, &first, k, m).into_iter().map(f64::tanh).collect();
        assert!(error(&arena, &h, &last) <= 1e-5);
    }
}

on_every_backend! {
    f64:
    fn linear_maps_of_ragged_shapes_and_layouts_in_f64(backend: Backend) { layouts::<f64>(backend) }
    fn activations_and_tangents_behind_a_linear_map_in_f64(backend: Backend) { activations::<f64>(backend) }
}
