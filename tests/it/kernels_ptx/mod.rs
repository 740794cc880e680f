//! The PTX kernels on the interpreter, without the host layer above them: every configuration against
//! f64 references on ragged shapes, the same bits in every order, and planted bugs that must be caught.
//!
//! Outputs start unwritten, which reads as NaN, and whatever lies outside the result must still be
//! unwritten afterwards. Inputs are unwritten outside their rows and columns: reading there is a fault.

mod activations;
mod activations_f64;
mod double_double;
mod edges;
mod gram;
mod linear;
mod planted;
mod product;

use bytemuck::Pod;
use mechgraph::kernel::{Configuration, Kernel, Params, registry};
use ptxvm::{Completion, Launch, Machine, Module, Options, Statistics};

/// The orders that a kernel must not depend on.
const ORDERS: [(u64, Completion); 4] =
    [(0, Completion::Late), (1, Completion::Late), (2, Completion::Early), (3, Completion::Early)];

/// What went wrong in a launch: a fault, or a result that is not the reference's.
type Failure = String;

/// Numbers in `[-1, 1)` that depend on `seed` alone.
fn numbers(n: usize, seed: u64) -> Vec<f64> {
    crate::common::numbers(n, seed)
}

fn kernel(name: &str) -> &'static Kernel {
    registry::find(name).unwrap()
}

/// A constant of a configuration.
fn constant(configuration: &Configuration, name: &str) -> usize {
    usize::try_from(configuration.constants.get_int(name).unwrap()).unwrap()
}

/// A kernel's text for one configuration, ready to run. [`Text::with`] plants a bug in it.
#[derive(Clone)]
struct Text {
    entry: String,
    text: String,
    configuration: Configuration,
}

impl Text {
    fn of(kernel: &Kernel, configuration: &Configuration) -> Self {
        let text = kernel.expand(configuration).unwrap();
        Self { entry: kernel.name.into(), text, configuration: configuration.clone() }
    }
    /// The text with every `from` replaced.
    fn with(&self, from: &str, to: &str) -> Self {
        assert!(self.text.contains(from), "{}@{} has no '{from}'", self.entry, self.configuration.name);
        Self { text: self.text.replace(from, to), ..self.clone() }
    }
    /// The text with the first `from` replaced.
    fn with_first(&self, from: &str, to: &str) -> Self {
        assert!(self.text.contains(from), "{}@{} has no '{from}'", self.entry, self.configuration.name);
        Self { text: self.text.replacen(from, to, 1), ..self.clone() }
    }
    /// The text with the last `from` replaced.
    fn with_last(&self, from: &str, to: &str) -> Self {
        let at = self.text.rfind(from).unwrap_or_else(|| panic!("{} has no '{from}'", self.entry));
        let text = format!("{}{to}{}", &self.text[..at], &self.text[at + from.len()..]);
        Self { text, ..self.clone() }
    }
}

/// A matrix in the interpreter's memory: a view into an allocation of its own, with unwritten elements
/// before it, behind it and between its rows.
#[derive(Clone, Copy)]
struct View {
    start: u64,
    bytes: u64,
    /// Of the first element.
    address: u64,
    rows: usize,
    cols: usize,
    /// Elements.
    stride: usize,
}

impl View {
    fn at<T>(&self, i: usize, j: usize) -> u64 {
        self.address + ((i * self.stride + j) * size_of::<T>()) as u64
    }
}

/// The interpreter and the results of a test.
struct Device {
    machine: Machine,
}

impl Device {
    fn new((seed, completion): (u64, Completion)) -> Self {
        Self { machine: Machine::new(Options { seed, completion, ..Options::default() }) }
    }
    /// An unwritten matrix with `lead` elements before it and rows `stride` elements apart.
    fn output<T>(&mut self, rows: usize, cols: usize, stride: usize, lead: usize) -> View {
        let bytes = ((lead + rows * stride + 7) * size_of::<T>()) as u64;
        let start = self.machine.alloc(bytes).unwrap();
        View { start, bytes, address: start + (lead * size_of::<T>()) as u64, rows, cols, stride }
    }
    /// A matrix of which only the elements are written.
    fn input<T: Pod>(&mut self, values: &[T], cols: usize, stride: usize, lead: usize) -> View {
        let view = self.output::<T>(values.len() / cols, cols, stride, lead);
        for (i, row) in values.chunks(cols).enumerate() {
            self.machine.write(view.at::<T>(i, 0), bytemuck::cast_slice(row)).unwrap();
        }
        view
    }
    fn read<T: Pod>(&self, view: &View) -> Vec<T> {
        let mut values = vec![T::zeroed(); view.rows * view.cols];
        for (i, row) in values.chunks_mut(view.cols).enumerate() {
            self.machine.read(view.at::<T>(i, 0), bytemuck::cast_slice_mut(row)).unwrap();
        }
        values
    }
    fn launch(&mut self, text: &Text, grid: [u32; 3], params: &impl Params) -> Result<Statistics, Failure> {
        let module = Module::parse(&text.text).map_err(|e| e.to_string())?;
        let kernel = module.kernel(&text.entry).expect("entry and file have one name");
        let params = params.bytes();
        assert_eq!(kernel.param_bytes() as usize, params.len(), "{}", text.entry);
        let (threads, shared) = (text.configuration.threads, text.configuration.shared);
        let launch = Launch { grid, block: [threads, 1, 1], dynamic_shared: shared, params: &params };
        self.machine.launch(&kernel, &launch).map_err(|fault| fault.to_string())
    }
    /// Whether exactly the elements for which `result` holds are written.
    fn only<T>(&self, what: &str, view: &View, result: impl Fn(usize, usize) -> bool) -> Result<(), Failure> {
        let size = size_of::<T>() as u64;
        let first = (view.address - view.start) / size;
        for element in 0..view.bytes / size {
            let inside = element >= first && {
                let (i, j) = (((element - first) as usize) / view.stride, ((element - first) as usize) % view.stride);
                i < view.rows && j < view.cols && result(i, j)
            };
            let address = view.start + element * size;
            let written = (0..size).any(|byte| self.machine.is_written(address + byte, 1));
            if written != inside {
                let found = if written { "written" } else { "not written" };
                return Err(format!("{what}: element {element} of its allocation is {found}"));
            }
        }
        Ok(())
    }
}

/// The relative error of `got` in the Frobenius norm; NaN if anything is.
fn relative_error(got: &[f64], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    let error = norm(&mut got.iter().zip(want).map(|(g, w)| g - w));
    error / norm(&mut want.iter().copied()).max(f64::MIN_POSITIVE)
}

/// Refuses `got` if it is further from `want` than `bound`, or not a number.
fn close(what: &str, got: &[f64], want: &[f64], bound: f64) -> Result<(), Failure> {
    let error = relative_error(got, want);
    if error <= bound { Ok(()) } else { Err(format!("{what}: relative error {error:e}; expected at most {bound:e}")) }
}

/// The tiles are laid out so that no access to shared memory takes more wavefronts than its bytes.
fn no_bank_conflicts(statistics: &Statistics) -> Result<(), Failure> {
    match statistics.bank_conflicts {
        0 => Ok(()),
        n => Err(format!("{n} wavefronts of shared memory too many")),
    }
}
