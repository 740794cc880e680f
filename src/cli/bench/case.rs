//! An operation at a shape, ready to run: its program, random inputs, outputs, useful arithmetic and the fewest bytes that
//! it can move. Knows no backend.

use rayon::prelude::*;

use crate::device::{Arena, Builder, DType, IntBuffer, Program, Real, Tensor, View};
use crate::ops::linear::Matrix;
use crate::ops::probes::splitmix;
use crate::ops::{Launch, run_cpu};

/// Elements that a thread draws at least.
const DRAWN: usize = 1 << 16;

/// What is timed.
#[derive(Clone, Debug)]
pub struct Case {
    pub program: Program<Launch>,
    pub inputs: Vec<Input>,
    pub ints: Vec<(IntBuffer, Vec<u32>)>,
    pub outputs: Vec<Output>,
    /// Launches that make further inputs of those, such as the pattern that a derivative starts from.
    prepare: Option<Program<Launch>>,
    /// Views that `prepare` fills.
    pub prepared: Vec<View>,
    pub costs: Costs,
}

/// What an operation takes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Costs {
    /// Useful floating point operations: two for each product that is summed. Comparisons and whole numbers are none.
    pub flops: f64,
    /// Bytes that any implementation moves: every input read once, every result written once; of sums that are added to both.
    pub bytes: f64,
    /// Bytes of host memory that the weights take while they are made.
    pub weights: u64,
    /// Elements of the largest matrix.
    pub largest: usize,
}

/// A matrix of numbers that are uniform over `mean - scale .. mean + scale`.
#[derive(Clone, Copy, Debug)]
pub struct Input {
    pub view: View,
    numbers: Numbers,
}

#[derive(Clone, Copy, Debug)]
struct Numbers {
    key: u64,
    scale: f64,
    mean: f64,
}

impl Numbers {
    fn at(&self, i: usize) -> f64 {
        let unit = (splitmix(self.key ^ i as u64) >> 11) as f64 / (1u64 << 53) as f64;
        self.mean + self.scale * (2.0 * unit - 1.0)
    }
}

/// What is compared with the reference.
#[derive(Clone, Copy, Debug)]
pub enum Output {
    /// All of a view, within rounding.
    Whole(View),
    /// The lower triangle of a square view, within rounding.
    Lower(View),
    /// All of a view, bit for bit.
    Exact(View),
    /// Whole numbers.
    Ints(IntBuffer),
}

impl Output {
    /// The view of real numbers.
    pub fn view(&self) -> Option<View> {
        match self {
            Output::Whole(v) | Output::Lower(v) | Output::Exact(v) => Some(*v),
            Output::Ints(_) => None,
        }
    }
}

impl Case {
    /// Memory for one run, with all inputs in place, rounded to `rounded` first; what is an output alone is NaN.
    pub fn arena<T: Real>(&self, rounded: DType) -> Arena<T> {
        let mut arena = Arena::<T>::new(&self.program.layout);
        for Input { view, numbers } in &self.inputs {
            let round = |x: f64| if rounded == DType::F32 { T::of(f64::from(x as f32)) } else { T::of(x) };
            let filled = arena.real_mut(view.buffer).par_iter_mut().with_min_len(DRAWN).enumerate();
            filled.for_each(|(i, x)| *x = round(numbers.at(i)));
        }
        for (buffer, data) in &self.ints {
            arena.int_mut(*buffer).copy_from_slice(data);
        }
        if let Some(program) = &self.prepare {
            run_cpu(program, &mut arena);
        }
        arena
    }
    /// The matrices that must be where the operation runs.
    pub fn given(&self) -> impl Iterator<Item = View> + '_ {
        self.inputs.iter().map(|i| i.view).chain(self.prepared.iter().copied())
    }
    /// Bytes of all buffers of one run.
    pub fn bytes(&self) -> u64 {
        self.program.bytes()
    }
}

/// A [`Case`] under construction. With a mere plan no number is drawn and no weight made: it tells costs alone.
#[derive(Debug)]
pub struct Parts {
    b: Builder<Launch>,
    /// The dtype that numbers are rounded to.
    rounded: DType,
    seed: u64,
    plan: bool,
    inputs: Vec<Input>,
    ints: Vec<(IntBuffer, Vec<u32>)>,
    outputs: Vec<Output>,
    prepare: Vec<Launch>,
    prepared: Vec<View>,
    costs: Costs,
}

impl Parts {
    /// A program of `dtype` over numbers that `rounded` holds.
    pub fn new(dtype: DType, rounded: DType, seed: u64, plan: bool) -> Self {
        Self {
            b: Builder::new(dtype),
            rounded,
            seed,
            plan,
            inputs: Vec::new(),
            ints: Vec::new(),
            outputs: Vec::new(),
            prepare: Vec::new(),
            prepared: Vec::new(),
            costs: Costs::default(),
        }
    }
    /// Whether only costs are asked for.
    pub fn is_plan(&self) -> bool {
        self.plan
    }
    fn draw(&mut self, scale: f64, mean: f64) -> Numbers {
        self.seed = splitmix(self.seed);
        Numbers { key: self.seed, scale, mean }
    }
    fn matrix(&mut self, rows: usize, cols: usize) -> View {
        self.costs.largest = self.costs.largest.max(rows.saturating_mul(cols));
        self.b.matrix(rows, cols)
    }
    /// Adds bytes that are moved: `elements` of the program's dtype.
    pub fn move_elements(&mut self, elements: f64) {
        self.costs.bytes += elements * self.b.dtype().bytes() as f64;
    }
    /// A matrix to read, of numbers in [-1, 1) around 1/4.
    pub fn input(&mut self, rows: usize, cols: usize) -> View {
        self.scaled(rows, cols, 1.0, 0.25)
    }
    /// A matrix to read, of numbers in `mean - scale .. mean + scale`.
    pub fn scaled(&mut self, rows: usize, cols: usize, scale: f64, mean: f64) -> View {
        let (view, numbers) = (self.matrix(rows, cols), self.draw(scale, mean));
        self.inputs.push(Input { view, numbers });
        self.move_elements(rows as f64 * cols as f64);
        view
    }
    /// Tells the column of the largest number in a row of an input.
    pub fn largest(&self, input: &View) -> impl Fn(usize) -> u32 + Sync + Send + use<> {
        let found = self.inputs.iter().find(|i| i.view == *input).copied();
        move |row| {
            let Some(Input { view, numbers }) = found else { return 0 };
            let at = |j: usize| numbers.at(row * view.cols + j);
            (0..view.cols).fold((0, f64::NEG_INFINITY), |best, j| if at(j) > best.1 { (j as u32, at(j)) } else { best }).0
        }
    }
    /// A matrix that is made by launches that are not timed, to be read.
    pub fn prepared(&mut self, rows: usize, cols: usize) -> View {
        let view = self.matrix(rows, cols);
        self.prepared.push(view);
        self.move_elements(rows as f64 * cols as f64);
        view
    }
    /// A matrix that launches which are not timed need.
    pub fn spare(&mut self, rows: usize, cols: usize) -> View {
        self.matrix(rows, cols)
    }
    /// A launch that is not timed.
    pub fn prepare(&mut self, launch: Launch) {
        self.prepare.push(launch);
    }
    /// A matrix to write.
    pub fn output(&mut self, rows: usize, cols: usize) -> View {
        let view = self.unchecked(rows, cols);
        self.outputs.push(Output::Whole(view));
        view
    }
    /// A matrix to write that [`Parts::compare`] has yet to be told of.
    pub fn unchecked(&mut self, rows: usize, cols: usize) -> View {
        self.move_elements(rows as f64 * cols as f64);
        self.matrix(rows, cols)
    }
    /// A matrix to add to.
    pub fn sums(&mut self, rows: usize, cols: usize) -> View {
        let view = self.input(rows, cols);
        self.move_elements(rows as f64 * cols as f64);
        self.outputs.push(Output::Whole(view));
        view
    }
    /// A matrix to add to that begins at 0, and that [`Parts::compare`] has yet to be told of.
    pub fn zeros(&mut self, rows: usize, cols: usize) -> View {
        let view = self.scaled(rows, cols, 0.0, 0.0);
        self.move_elements(rows as f64 * cols as f64);
        view
    }
    /// Adds bytes of host memory that weights of another kind take.
    pub fn weigh(&mut self, bytes: usize) {
        self.costs.weights = self.costs.weights.saturating_add(bytes as u64);
    }
    /// A symmetric matrix to add to, of which the lower triangle counts.
    pub fn triangle(&mut self, d: usize) -> View {
        let view = self.input(d, d);
        self.move_elements(d as f64);
        self.outputs.push(Output::Lower(view));
        view
    }
    /// A symmetric matrix to write, of which the lower triangle counts.
    pub fn fresh_triangle(&mut self, d: usize) -> View {
        let view = self.matrix(d, d);
        self.move_elements(d as f64 * (d + 1) as f64 / 2.0);
        self.outputs.push(Output::Lower(view));
        view
    }
    /// Something else to compare.
    pub fn compare(&mut self, output: Output) {
        self.outputs.push(output);
    }
    /// Weights, all of which are read: numbers in `-scale .. scale`.
    pub fn tensor(&mut self, rows: usize, cols: usize, scale: f64) -> Tensor {
        self.move_elements(rows as f64 * cols as f64);
        self.table(rows, cols, scale, 0.0)
    }
    /// Weights of which nobody says how much is read.
    pub fn table(&mut self, rows: usize, cols: usize, scale: f64, mean: f64) -> Tensor {
        let (numbers, elements, rounded) = (self.draw(scale, mean), rows.saturating_mul(cols), self.rounded);
        self.costs.largest = self.costs.largest.max(elements);
        self.costs.weights = self.costs.weights.saturating_add(16 * elements as u64);
        if self.plan {
            return Tensor::from_f64(self.b.dtype(), 0, 0, Vec::new());
        }
        let round = |x: f64| if rounded == DType::F32 { f64::from(x as f32) } else { x };
        let data = (0..elements).into_par_iter().with_min_len(DRAWN).map(|i| round(numbers.at(i))).collect();
        Tensor::from_f64(self.b.dtype(), rows, cols, data)
    }
    /// A symmetric matrix of weights: numbers in `-scale .. scale`, and `diagonal` on the diagonal beside them.
    pub fn symmetric(&mut self, d: usize, scale: f64, diagonal: f64) -> Tensor {
        let whole = self.tensor(d, d, scale);
        if self.plan {
            return whole;
        }
        let (x, rounded) = (whole.to_f64(), self.rounded);
        let at = |i: usize| x[(i / d).max(i % d) * d + (i / d).min(i % d)] + if i.is_multiple_of(d + 1) { diagonal } else { 0.0 };
        let round = |x: f64| if rounded == DType::F32 { f64::from(x as f32) } else { x };
        Tensor::from_f64(whole.dtype(), d, d, (0..d * d).map(|i| round(at(i))).collect())
    }
    /// Weights as a linear map takes them, all of which are read.
    pub fn weights(&mut self, rows: usize, cols: usize, scale: f64) -> Matrix {
        Matrix::whole(&self.tensor(rows, cols, scale))
    }
    /// Whole numbers to read.
    pub fn ints(&mut self, len: usize, number: impl Fn(usize) -> u32 + Sync + Send) -> IntBuffer {
        self.costs.largest = self.costs.largest.max(len);
        self.costs.bytes += 4.0 * len as f64;
        let buffer = self.b.ints(len);
        if !self.plan {
            self.ints.push((buffer, (0..len).into_par_iter().map(number).collect()));
        }
        buffer
    }
    /// Whole numbers below `count`, spread evenly.
    pub fn below(&mut self, len: usize, count: usize) -> IntBuffer {
        let key = self.draw(1.0, 0.0).key;
        self.ints(len, move |i| (splitmix(key ^ i as u64) % count.max(1) as u64) as u32)
    }
    /// Whole numbers to add to, 0 at first.
    pub fn int_sums(&mut self, len: usize) -> IntBuffer {
        let buffer = self.ints(len, |_| 0);
        self.costs.bytes += 4.0 * len as f64;
        self.outputs.push(Output::Ints(buffer));
        buffer
    }
    /// The case of one launch of `flops` useful operations.
    pub fn case(self, launch: Launch, flops: f64) -> Case {
        let Self { mut b, inputs, ints, outputs, prepare, prepared, costs, .. } = self;
        b.push(launch);
        let program = b.finish();
        let prepare = (!prepare.is_empty()).then(|| Program { launches: prepare, zeroed: Vec::new(), ..program.clone() });
        Case { program, inputs, ints, outputs, prepare, prepared, costs: Costs { flops, ..costs } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::gram;

    fn case(seed: u64, plan: bool) -> Case {
        let mut p = Parts::new(DType::F64, DType::F32, seed, plan);
        let (a, b, w) = (p.input(64, 32), p.scaled(64, 3, 0.5, 0.0), p.tensor(4, 5, 1.0));
        assert_eq!(w.rows, if plan { 0 } else { 4 });
        let out = p.sums(32, 3);
        p.case(Launch::Cross(gram::CrossArgs { a, b, out }), 7.0)
    }

    #[test]
    fn numbers_depend_on_the_seed_fill_their_range_and_are_rounded() {
        let [a, b, c] = [3, 3, 4].map(|seed| case(seed, false).arena::<f64>(DType::F32));
        let x = case(3, false).inputs[0].view.buffer;
        assert!(a.real(x) == b.real(x) && a.real(x) != c.real(x));
        let (low, high) = a.real(x).iter().fold((0.0f64, 0.0f64), |(l, h), &x| (l.min(x), h.max(x)));
        assert!((-0.75..-0.7).contains(&low) && (1.2..1.25).contains(&high), "{low} {high}");
        assert!(a.real(x).iter().all(|x| f64::from(*x as f32) == *x));
    }

    #[test]
    fn a_plan_has_the_costs_and_no_weights() {
        let (made, plan) = (case(1, false), case(1, true));
        assert_eq!(made.costs, plan.costs);
        let Costs { flops, bytes, weights, largest } = plan.costs;
        assert_eq!((flops, weights, largest), (7.0, 16 * 20, 64 * 32));
        assert_eq!(bytes, 8.0 * (64 * 32 + 64 * 3 + 4 * 5 + 2 * 32 * 3) as f64);
    }
}
