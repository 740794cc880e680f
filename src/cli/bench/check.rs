//! Whether a result is right, before anything is timed: every number must be finite, and the numbers those of the CPU in
//! f64 for the same inputs. Where the CPU would take long, fewer samples are run by the same kernels and compared: as many as
//! it does in about a second.

use std::time::{Duration, Instant};

use super::case::{Case, Output};
use super::reference;
use super::work::Work;
use crate::device::{Arena, Cpu, DType, Real, View};
use crate::error::{Error, Result};
use crate::ops::run_cpu;

/// Operations and bytes that the slowest operation of the CPU does in about a second on one thread.
const FIRST: f64 = 1e8;
/// Samples are doubled for so long.
const ENOUGH: Duration = Duration::from_secs(1);

/// What one run has left.
#[derive(Debug)]
pub struct Ran {
    /// By output.
    pub found: Vec<Found>,
    /// What computed it, each once: `kernel@configuration`, or the library.
    pub kernels: Vec<String>,
}

/// The content of an output.
#[derive(Debug, PartialEq)]
pub enum Found {
    /// Row by row.
    Reals(Vec<f64>),
    Ints(Vec<u32>),
}

/// The answer.
#[derive(Debug)]
pub struct Checked {
    /// The largest relative Frobenius error of an output; `None` of the reference itself.
    pub error: Option<f64>,
    /// What was compared: the shape, with what was left out of it.
    pub what: String,
}

/// The largest relative Frobenius error that is still rounding. What is worse is wrong, and is not timed.
fn bound(dtype: DType) -> f64 {
    match dtype {
        DType::F32 => 1e-4,
        DType::F64 => 1e-10,
    }
}

/// The outputs of a run in host memory.
pub fn found<T: Real>(case: &Case, arena: &Arena<T>) -> Vec<Found> {
    let read = |output: &Output| match output {
        Output::Ints(buffer) => Found::Ints(arena.int(*buffer).to_vec()),
        Output::Whole(v) | Output::Lower(v) | Output::Exact(v) => Found::Reals(rows(arena.real(v.buffer), v)),
    };
    case.outputs.iter().map(read).collect()
}

/// The rows of a view of a buffer, in f64.
pub fn rows<T: Real>(buffer: &[T], view: &View) -> Vec<f64> {
    (0..view.rows).flat_map(|i| &buffer[view.range(i)]).map(|x| x.to_f64()).collect()
}

/// Runs an operation at another number of samples.
pub type Again<'a> = &'a mut dyn FnMut(&Work) -> Result<Ran>;

/// A run of `work` with its memory, whose inputs are as they were before it.
#[derive(Debug)]
pub struct Run<'a, T> {
    pub work: &'a Work,
    pub case: &'a Case,
    pub arena: &'a Arena<T>,
    pub seed: u64,
    pub ran: &'a Ran,
}

impl<T: Real> Run<'_, T> {
    /// Checks the run; `again` runs fewer samples. Without it the run is that of the reference itself.
    pub fn check(&self, host: &Cpu, again: Option<Again>) -> Result<Checked> {
        let Run { work, case, arena, ran, .. } = self;
        if let Some(i) = case.outputs.iter().zip(&ran.found).position(|(output, found)| !is_finite(output, found)) {
            return Err(self.wrong(&work.shape(), format!("a number in output {i} that is not finite"), "finite numbers"));
        }
        if work.op.0.recomputed {
            let (error, what) = host.install(|| reference::error(work, case, arena, &ran.found));
            return self.judged(error, what);
        }
        let Some(again) = again else {
            return Ok(Checked { error: None, what: "the reference".into() });
        };
        let (mut samples, start) = (affordable(work), Instant::now());
        while samples < work.samples() {
            let fewer = work.with_samples(samples);
            let other = again(&fewer)?;
            if other.kernels == ran.kernels {
                let checked = self.compared(host, &fewer, &other.found)?;
                if start.elapsed() > ENOUGH {
                    return Ok(checked);
                }
            }
            samples *= 2;
        }
        self.compared(host, work, &ran.found)
    }
    /// Compares what was found for `work`, the run's own or fewer samples, with the CPU's f64.
    fn compared(&self, host: &Cpu, work: &Work, given: &[Found]) -> Result<Checked> {
        let case = host.install(|| work.reference(self.seed));
        let mut arena = host.install(|| case.arena::<f64>(work.dtype));
        host.install(|| run_cpu(&case.program, &mut arena));
        let mut worst = 0.0;
        for (i, (output, (given, expected))) in case.outputs.iter().zip(given.iter().zip(found(&case, &arena))).enumerate() {
            match error(output, given, &expected) {
                Ok(error) => worst = f64::max(worst, error),
                Err(what) => return Err(self.wrong(&work.shape(), format!("{what} in output {i}"), "the CPU's, bit for bit")),
            }
        }
        self.judged(worst, work.shape())
    }
    fn judged(&self, error: f64, what: String) -> Result<Checked> {
        let bound = bound(self.work.dtype);
        if error.is_nan() || error > bound {
            return Err(self.wrong(&what, format!("a relative error of {error:e}"), &format!("at most {bound:e}")));
        }
        Ok(Checked { error: Some(error), what })
    }
    fn wrong(&self, what: &str, found: String, expected: &str) -> Error {
        let Work { op, dtype, .. } = self.work;
        Error::numeric(format!("{} {what} {} on {}", op.0.name, dtype.name(), self.ran.kernels.join(" + ")), found, expected)
    }
}

/// The most samples, all or a half or a quarter and so on, that the CPU surely does soon.
fn affordable(work: &Work) -> usize {
    let slab = work.op.0.slab;
    let cost = |samples: usize| {
        let costs = work.with_samples(samples).costs();
        costs.flops + costs.bytes
    };
    let mut samples = work.samples();
    while samples > slab && cost(samples) > FIRST {
        samples = (samples / 2).next_multiple_of(slab);
    }
    samples
}

fn is_finite(output: &Output, found: &Found) -> bool {
    let Found::Reals(found) = found else { return true };
    within(output, found).all(|x| x.is_finite())
}

/// The elements that count.
fn within<'a>(output: &Output, found: &'a [f64]) -> impl Iterator<Item = &'a f64> + use<'a> {
    let cols = if let Output::Lower(v) = output { v.cols } else { 0 };
    found.iter().enumerate().filter(move |(i, _)| cols == 0 || i % cols <= i / cols).map(|(_, x)| x)
}

/// The relative Frobenius error of an output; what is wrong of one that must be exact.
fn error(output: &Output, found: &Found, expected: &Found) -> std::result::Result<f64, String> {
    let other = |count: usize, of: usize| if count == 0 { Ok(0.0) } else { Err(format!("{count} of {of} other numbers")) };
    match (found, expected) {
        (Found::Ints(a), Found::Ints(b)) if a.len() == b.len() => other(a.iter().zip(b).filter(|(a, b)| a != b).count(), a.len()),
        (Found::Reals(a), Found::Reals(b)) if a.len() == b.len() => {
            if let Output::Exact(_) = output {
                return other(a.iter().zip(b).filter(|(a, b)| a != b).count(), a.len());
            }
            let squares = within(output, a).zip(within(output, b)).map(|(a, b)| ((a - b).powi(2), b.powi(2)));
            let (difference, norm) = squares.fold((0.0, 0.0), |(d, n), (a, b)| (d + a, n + b));
            let relative = f64::sqrt(difference / norm);
            // Nothing is off where all is 0, too.
            Ok(if difference == 0.0 { 0.0 } else { Some(relative).filter(|e| e.is_finite()).unwrap_or(f64::INFINITY) })
        }
        _ => Err("not as many numbers".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_of(op: &str, shape: &str, alter: impl Fn(&mut Vec<Found>)) -> Result<Checked> {
        let (host, shape) = (Cpu::new(1).unwrap(), shape.parse().unwrap());
        let work = Work::new(op.parse().unwrap(), DType::F32, &shape).unwrap().unwrap();
        let once = |work: &Work| {
            let case = work.case(3);
            let mut arena = case.arena::<f32>(DType::F32);
            run_cpu(&case.program, &mut arena);
            let mut found = found(&case, &arena);
            alter(&mut found);
            (case, arena, Ran { found, kernels: vec!["k".into()] })
        };
        let (case, arena, ran) = once(&work);
        let run = Run { work: &work, case: &case, arena: &arena, seed: 3, ran: &ran };
        run.check(&host, Some(&mut |work: &Work| Ok(once(work).2)))
    }

    #[test]
    fn the_cpu_in_f32_is_within_rounding_of_itself_in_f64() {
        for (op, shape) in [("product", "30x7x5"), ("moments", "30x7"), ("loss", "9x30"), ("peaks", "2x5x7")] {
            let checked = run_of(op, shape, |_| ()).unwrap();
            let error = checked.error.unwrap();
            assert!(error < 1e-5 && (error > 0.0 || op == "peaks") && checked.what == shape, "{op}: {checked:?}");
        }
    }

    #[test]
    fn a_wrong_a_missing_and_an_unequal_number_are_refused() {
        let reals = |found: &mut Vec<Found>, i: usize, change: fn(f64) -> f64| {
            let Found::Reals(x) = &mut found[i] else { panic!("reals") };
            let last = x.len() - 1;
            x[last] = change(x[last]);
        };
        let wrong =
            |op, shape, i, change: fn(f64) -> f64| run_of(op, shape, |found| reals(found, i, change)).unwrap_err().to_string();
        let sentence = wrong("product", "30x7x5", 0, |x| x + 1.0);
        assert!(sentence.starts_with("product 30x7x5 f32 on k: a relative error of "), "{sentence}");
        assert!(wrong("norm", "4x6", 0, |_| f64::NAN).contains("output 0 that is not finite"));
        assert!(wrong("loss", "9x30", 1, |x| x + 1.0).contains("1 of 1 other numbers in output 1"));
        let counts = run_of("peaks", "2x5x7", |found| {
            let Some(Found::Ints(counts)) = found.last_mut() else { panic!("counts") };
            counts[3] += 1;
        });
        let all = 7 * crate::ops::peaks::BINS;
        assert!(counts.unwrap_err().to_string().contains(&format!("1 of {all} other numbers in output 3")));
    }

    #[test]
    fn what_is_not_a_number_is_no_small_error() {
        let of = |x: f64| Found::Reals(vec![1.0, x]);
        let view = Work::new("norm".parse().unwrap(), DType::F32, &"1x2".parse().unwrap()).unwrap().unwrap().plan().outputs[0];
        assert_eq!(error(&view, &of(f64::NAN), &of(2.0)), Ok(f64::INFINITY));
        assert_eq!(error(&view, &of(2.0), &of(2.0)), Ok(0.0));
        assert_eq!(error(&view, &Found::Ints(vec![1]), &of(2.0)), Err("not as many numbers".into()));
    }

    #[test]
    fn the_upper_triangle_counts_for_nothing_and_the_lower_one_does() {
        let altered = |at: usize| {
            run_of("moments", "30x7", |found| {
                let Found::Reals(s) = &mut found[1] else { panic!("s") };
                s[at] = f64::NAN;
            })
        };
        assert!(altered(1).is_ok() && altered(7).is_err());
    }

    #[test]
    fn what_takes_the_cpu_long_is_first_checked_on_few_samples() {
        let work = |shape: &str| Work::new("attention".parse().unwrap(), DType::F32, &shape.parse().unwrap()).unwrap().unwrap();
        assert_eq!(affordable(&work("2x5x3x4")), 2);
        let large = work("512x128x12x64");
        let few = affordable(&large);
        let cost = |n: usize| large.with_samples(n).costs().flops + large.with_samples(n).costs().bytes;
        assert!(few < 512 && cost(few) <= FIRST && cost(2 * few) > FIRST, "{few}");
    }
}
