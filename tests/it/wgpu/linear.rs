//! `linear` on ragged shapes and views against plain f64 sums, and the ways in which one call can run.

use mechgraph::device::wgpu::{Options, Wgpu};
use mechgraph::kernel::linear::{Elementwise, Epilogue};
use mechgraph::ops::linear_wgpu::{LinearCall, Road, linear, linear_by};

use super::activations::reference;
use super::{Matrix, bits, device, distance, open, values};

/// A linear map with its data.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub n: usize,
    pub k: usize,
    pub m: usize,
    pub transpose: bool,
    pub epilogue: Epilogue,
    pub bias: bool,
    pub pre: bool,
    /// Offset of views and elements between their rows.
    pub place: (usize, usize),
}

/// What a device made of a case: y and pre.
type Outputs = (Vec<f32>, Option<Vec<f32>>);

impl Case {
    fn data(&self) -> [Vec<f32>; 4] {
        let Case { n, k, m, .. } = *self;
        [values(n * k, 1), values(k * m, 2), values(m, 3), values(n * m, 4)]
    }
    pub fn run(&self, device: &Wgpu, road: Road) -> Outputs {
        let Case { n, k, m, place, .. } = *self;
        let [x, w, b, y] = self.data();
        let (w_rows, w_cols) = if self.transpose { (m, k) } else { (k, m) };
        let (x, w) = (Matrix::new(device, n, k, place, Some(&x)), Matrix::new(device, w_rows, w_cols, place, Some(&w)));
        let b = self.bias.then(|| Matrix::new(device, 1, m, place, Some(&b)));
        let pre_rows = if matches!(self.epilogue, Epilogue::Tangent(_)) { n / 16 } else { n };
        let pre = self.pre.then(|| Matrix::new(device, pre_rows, m, place, None));
        let y = Matrix::new(device, n, m, place, (self.epilogue == Epilogue::Add).then_some(&y[..]));
        let call = LinearCall {
            x: x.view(),
            w: w.view(),
            transpose: self.transpose,
            bias: b.as_ref().map(Matrix::view),
            epilogue: self.epilogue,
            pre: pre.as_ref().map(Matrix::view),
            y: y.view(),
        };
        device.submit(&linear_by(device, &call, road).unwrap()).unwrap();
        (y.read(device), pre.map(|p| p.read(device)))
    }
    fn wanted(&self) -> (Vec<f64>, Vec<f64>) {
        let Case { n, k, m, .. } = *self;
        let [x, w, b, y] = self.data().map(|v| v.into_iter().map(f64::from).collect::<Vec<_>>());
        let w_at = |l: usize, j: usize| if self.transpose { w[j * k + l] } else { w[l * m + j] };
        let z = |i: usize, j: usize| (0..k).map(|l| x[i * k + l] * w_at(l, j)).sum::<f64>();
        let with_bias = |i: usize, j: usize| z(i, j) + if self.bias { b[j] } else { 0.0 };
        let (mut out, mut pre) = (Vec::new(), Vec::new());
        for i in 0..n {
            for j in 0..m {
                out.push(match self.epilogue {
                    Epilogue::Store(act) => reference(act, with_bias(i, j)).0,
                    Epilogue::Add => y[i * m + j] + with_bias(i, j),
                    Epilogue::Tangent(act) if i % 16 == 0 => reference(act, with_bias(i, j)).0,
                    Epilogue::Tangent(act) => reference(act, with_bias(i - i % 16, j)).1 * z(i, j),
                });
                if !matches!(self.epilogue, Epilogue::Tangent(_)) || i % 16 == 0 {
                    pre.push(with_bias(i, j));
                }
            }
        }
        (out, pre)
    }
    /// The largest relative Frobenius distance from the reference.
    pub fn error(&self, (y, pre): &Outputs) -> f64 {
        let (wanted, wanted_pre) = self.wanted();
        let of = |found: &[f32], wanted: &[f64]| distance(found.iter().map(|&x| x.into()), wanted);
        let y = of(y, &wanted);
        // `max` would pass over what is not a number.
        let pre = pre.as_ref().map_or(0.0, |p| of(p, &wanted_pre));
        if pre > y || pre.is_nan() { pre } else { y }
    }
}

/// `[n, k] x [k, m]` with a bias, in views with gaps.
pub fn case(n: usize, k: usize, m: usize, epilogue: Epilogue) -> Case {
    let pre = epilogue != Epilogue::Add;
    Case { n, k, m, transpose: false, epilogue, bias: true, pre, place: (3, 2) }
}

fn bytes((y, pre): &Outputs) -> (Vec<u32>, Option<Vec<u32>>) {
    (bits(y), pre.as_deref().map(bits))
}

#[test]
fn every_epilogue_activation_and_layout_agrees_with_f64_on_ragged_shapes() {
    let Some(device) = device() else { return };
    // Not multiples of tiles; then with whole quads of rows, for the loads of four.
    let shapes = [(33, 300, 7), (130, 19, 65), (1, 1, 1), (70, 17, 33), (300, 3, 2), (5, 64, 150), (2, 37, 300)];
    let aligned = [(36, 20, 44), (66, 132, 68)];
    let mut worst: f64 = 0.0;
    for (i, epilogue) in Epilogue::all().enumerate() {
        let rows = |n: usize| if matches!(epilogue, Epilogue::Tangent(_)) { n.next_multiple_of(16) } else { n };
        for transpose in [false, true] {
            let (n, k, m) = shapes[(2 * i + usize::from(transpose)) % shapes.len()];
            let ragged = Case { transpose, ..case(rows(n), k, m, epilogue) };
            let (n, k, m) = aligned[(i + usize::from(transpose)) % aligned.len()];
            let quads =
                Case { place: (4, 8), bias: i % 3 > 0, pre: ragged.pre && i % 2 > 0, ..Case { n: rows(n), k, m, ..ragged } };
            for case in [ragged, quads] {
                let error = case.error(&case.run(device, Road::Chosen));
                assert!(error <= 1e-6, "{case:?}: {error:e}");
                worst = worst.max(error);
            }
        }
    }
    println!("linear: relative Frobenius error at most {worst:.1e}");
}

#[test]
fn every_tile_gives_the_same_bits() {
    let Some(device) = device() else { return };
    for epilogue in [Epilogue::Store(Elementwise::GeluNew), Epilogue::Add, Epilogue::Tangent(Elementwise::Silu)] {
        for (transpose, place) in [(false, (3, 2)), (true, (4, 4))] {
            let case = Case { transpose, place, ..case(144, 68, 140, epilogue) };
            let first = case.run(device, Road::Tile(32, 32));
            assert!(case.error(&first) <= 1e-6);
            for tile in [(64, 64), (128, 128)] {
                assert_eq!(bytes(&case.run(device, Road::Tile(tile.0, tile.1))), bytes(&first), "{case:?}, tile {tile:?}");
            }
        }
    }
}

#[test]
fn uniforms_bounds_checks_and_narrow_grids_do_not_change_a_bit() {
    let Some(usual) = device() else { return };
    assert!(usual.kernel_limits().immediates >= 60, "the adapter has immediates");
    let other = [
        Options { immediates: false, ..Options::default() },
        Options { runtime_checks: true, ..Options::default() },
        Options { largest_grid: Some(3), ..Options::default() },
    ];
    let devices = other.map(|options| open(options).unwrap());
    assert_eq!(devices[0].kernel_limits().immediates, 0);
    for epilogue in [Epilogue::Store(Elementwise::Tanh), Epilogue::Add, Epilogue::Tangent(Elementwise::Gelu)] {
        for (transpose, place) in [(false, (1, 0)), (true, (0, 4))] {
            let case = Case { transpose, place, ..case(80, 36, 90, epilogue) };
            let first = bytes(&case.run(usual, Road::Chosen));
            assert_eq!(bytes(&case.run(usual, Road::Chosen)), first, "again: {case:?}");
            for (device, options) in devices.iter().zip(&other) {
                assert_eq!(bytes(&case.run(device, Road::Chosen)), first, "{case:?}, {options:?}");
            }
        }
    }
}

#[test]
fn small_bindings_cut_the_work_without_changing_results() {
    let Some(usual) = device() else { return };
    // Of 6,000 bytes: 1,436 elements wherever they start.
    let small = open(Options { largest_binding: Some(6000), ..Options::default() }).unwrap();
    assert!(small.binding_elements() < 1500, "{}", small.binding_elements());
    for epilogue in [Epilogue::Store(Elementwise::Relu), Epilogue::Add, Epilogue::Tangent(Elementwise::Sigmoid)] {
        for transpose in [false, true] {
            let case = Case { transpose, ..case(112, 70, 66, epilogue) };
            let (whole, cut) = (case.run(usual, Road::Chosen), case.run(&small, Road::Chosen));
            assert!(case.error(&cut) <= 1e-6, "{case:?}");
            if epilogue != Epilogue::Add {
                assert_eq!(bytes(&cut), bytes(&whole), "{case:?}");
            }
        }
    }
    let launches = |device: &Wgpu, transpose: bool| {
        let (x, y) = (Matrix::new(device, 112, 70, (0, 0), None), Matrix::new(device, 112, 66, (0, 0), None));
        let (rows, cols) = if transpose { (66, 70) } else { (70, 66) };
        let w = Matrix::new(device, rows, cols, (0, 0), None);
        let epilogue = Epilogue::Store(Elementwise::Identity);
        let call = LinearCall { x: x.view(), w: w.view(), transpose, bias: None, epilogue, pre: None, y: y.view() };
        linear(device, &call).unwrap().len()
    };
    assert_eq!([launches(usual, false), launches(usual, true)], [1, 1]);
    // Seven blocks of 16 rows by five of k, or of columns.
    assert_eq!([launches(&small, false), launches(&small, true)], [35, 35]);
}

#[test]
fn a_sum_over_nothing_is_the_bias_and_no_rows_are_no_launches() {
    let Some(device) = device() else { return };
    let (x, w) = (Matrix::new(device, 3, 0, (1, 0), None), Matrix::new(device, 0, 4, (1, 0), None));
    let b = Matrix::new(device, 1, 4, (0, 0), Some(&[1.0, -2.0, 3.0, -4.0]));
    let y = Matrix::new(device, 3, 4, (2, 1), None);
    let epilogue = Epilogue::Store(Elementwise::Relu);
    let call = LinearCall { x: x.view(), w: w.view(), transpose: false, bias: Some(b.view()), epilogue, pre: None, y: y.view() };
    device.submit(&linear(device, &call).unwrap()).unwrap();
    assert_eq!(y.read(device), [1.0, 0.0, 3.0, 0.0].repeat(3));
    let none = LinearCall { x: x.view().slice_rows(0, 0), y: y.view().slice_rows(0, 0), ..call };
    assert!(linear(device, &none).unwrap().is_empty());
}

#[test]
fn arguments_that_do_not_fit_are_refused_in_one_sentence() {
    let Some(device) = device() else { return };
    let make = |rows, cols| Matrix::new(device, rows, cols, (0, 0), None);
    let (x, w, b, y) = (make(5, 4), make(4, 6), make(1, 6), make(5, 6));
    let epilogue = Epilogue::Store(Elementwise::Relu);
    let call = LinearCall { x: x.view(), w: w.view(), transpose: false, bias: Some(b.view()), epilogue, pre: None, y: y.view() };
    let refused = |call: LinearCall, words: &str| {
        let text = linear(device, &call).unwrap_err().to_string();
        assert!(text.starts_with("operation linear: found ") && text.contains(words), "{text}");
    };
    refused(LinearCall { transpose: true, ..call }, "W [6, 4], bias and pre to fit between them");
    refused(LinearCall { bias: Some(y.view()), ..call }, "bias and pre to fit");
    refused(
        LinearCall { epilogue: Epilogue::Tangent(Elementwise::Relu), ..call },
        "5 rows with tangents; expected a multiple of 16",
    );
    refused(LinearCall { epilogue: Epilogue::Add, pre: Some(make(5, 6).view()), ..call }, "pre together with an addition");
    refused(LinearCall { pre: Some(y.view()), ..call }, "outputs in buffers of their own");
    let mut inside = y.view();
    inside.offset = 50;
    refused(LinearCall { y: inside, ..call }, "y [5, 6] at 50 with stride 6");
    let tiny = open(Options { largest_binding: Some(4096), ..Options::default() }).unwrap();
    let (x, w, y) = (
        Matrix::new(&tiny, 40, 90, (0, 0), None),
        Matrix::new(&tiny, 90, 6, (0, 0), None),
        Matrix::new(&tiny, 40, 6, (0, 0), None),
    );
    let call = LinearCall { x: x.view(), w: w.view(), transpose: false, bias: None, epilogue, pre: None, y: y.view() };
    let text = linear(&tiny, &call).unwrap_err().to_string();
    assert!(text.contains("rows of x and y of which 1") && text.contains(" fit into a binding; expected 16 of them"), "{text}");
}
