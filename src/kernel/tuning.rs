//! How a configuration is chosen: every one is listed, the illegal are rejected with a reason, the
//! rest get an estimated cost, the least cost wins.
//!
//! A choice may look at the device, because it may not touch the numbers: all tiles of a kernel add
//! the products of an element in the same order.

use super::registry::{Configuration, Kernel, Language};
use crate::error::{Error, Result};

/// What a device offers to a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Compute capability: `(9, 0)`.
    pub capability: (u32, u32),
    pub multiprocessors: u32,
    /// Bytes of shared memory that a CTA may ask for.
    pub shared_per_block: u32,
}

/// A kernel launch but for its parameter block. Threads and shared memory are the configuration's.
#[derive(Clone, Debug)]
pub struct Launch {
    pub kernel: &'static Kernel,
    pub configuration: Configuration,
    /// CTAs.
    pub grid: [u32; 3],
}

/// What one CTA of a configuration costs: the input of [`choose`].
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// CTAs of the launch.
    pub ctas: u64,
    /// Registers a thread.
    pub registers: u32,
    /// Clocks that a multiprocessor's multipliers need for one CTA.
    pub multiply: f64,
    /// Clocks that its shared memory needs to feed them, and to take the copies.
    pub feed: f64,
}

/// What became of a configuration.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It cannot serve this shape or device; one line says why.
    Rejected(String),
    /// It can.
    Legal {
        ctas: u64,
        /// CTAs that a multiprocessor holds at a time.
        resident: u32,
        /// Rounds until every CTA has run.
        waves: u64,
        /// Estimated clocks; only the order of the candidates matters.
        cost: f64,
    },
}

/// A configuration and what became of it.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub configuration: &'static Configuration,
    pub verdict: Verdict,
}

/// A choice with everything that led to it.
#[derive(Clone, Debug)]
pub struct Choice {
    pub kernel: &'static Kernel,
    pub candidates: Vec<Candidate>,
    /// Index into `candidates`.
    pub chosen: usize,
    /// Useful floating point operations: those of the result, without padding.
    pub flops: f64,
    /// The fewest bytes of global memory that the operation has to move.
    pub bytes: f64,
}

impl Choice {
    /// The chosen configuration.
    pub fn configuration(&self) -> &'static Configuration {
        self.candidates[self.chosen].configuration
    }
}

/// Shared memory that a multiprocessor keeps for itself with every resident CTA.
const RESERVED_SHARED: u32 = 1024;
/// Registers of a multiprocessor.
const REGISTERS: u32 = 65_536;
/// Warps of a multiprocessor below which latencies show: two for each of its four schedulers.
const WARPS_THAT_HIDE: f64 = 8.0;

/// Registers a thread if `resident` CTAs of `threads` threads share a multiprocessor's 65,536: they are
/// handed out eight at a time, at most 255.
pub fn registers(resident: u32, threads: u32) -> u32 {
    (REGISTERS / (resident * threads) / 8 * 8).min(255)
}

/// Judges all configurations of `kernel` and takes the cheapest; among equals the first.
///
/// `judge` gives the work of a configuration, or the reason why the shape rules it out.
pub fn choose(
    kernel: &'static Kernel,
    limits: &Limits,
    flops: f64,
    bytes: f64,
    judge: impl Fn(&Configuration) -> std::result::Result<Work, String>,
) -> Result<Choice> {
    let candidates: Vec<Candidate> = kernel
        .all()
        .iter()
        .map(|configuration| {
            let verdict = device_reason(kernel, configuration, limits)
                .map_or_else(|| judge(configuration), Err)
                .map_or_else(Verdict::Rejected, |work| cost(configuration, &work, limits));
            Candidate { configuration, verdict }
        })
        .collect();
    let of = |c: &Candidate| match c.verdict {
        Verdict::Legal { cost, .. } => Some(cost),
        Verdict::Rejected(_) => None,
    };
    let legal = candidates.iter().enumerate().filter_map(|(i, c)| Some((i, of(c)?)));
    let chosen = legal.reduce(|best, next| if next.1 < best.1 { next } else { best }).map(|(i, _)| i);
    match chosen {
        Some(chosen) => Ok(Choice { kernel, candidates, chosen, flops, bytes }),
        None => Err(none_left(kernel, &candidates)),
    }
}

/// Why a device cannot run a configuration at all.
fn device_reason(kernel: &Kernel, configuration: &Configuration, limits: &Limits) -> Option<String> {
    if let Language::Ptx { least } = kernel.language
        && limits.capability < least
    {
        let ((major, minor), (l0, l1)) = (limits.capability, least);
        return Some(format!("the device has compute capability {major}.{minor}, the kernel needs {l0}.{l1}"));
    }
    (configuration.shared > limits.shared_per_block).then(|| {
        let (asked, most) = (configuration.shared, limits.shared_per_block);
        format!("{asked} bytes of shared memory a CTA, the device gives at most {most}")
    })
}

/// Waves times what the CTAs resident on one multiprocessor cost together.
fn cost(configuration: &Configuration, work: &Work, limits: &Limits) -> Verdict {
    let shared = limits.shared_per_block + RESERVED_SHARED;
    let resident = [
        shared / (configuration.shared + RESERVED_SHARED),
        REGISTERS / (work.registers.next_multiple_of(8) * configuration.threads),
        2048 / configuration.threads,
        32,
    ];
    let resident = resident.into_iter().min().unwrap_or(1).max(1);
    // A grid that does not fill the device leaves multiprocessors with fewer CTAs than they could hold.
    let multiprocessors = u64::from(limits.multiprocessors.max(1));
    let side_by_side = u64::from(resident).min(work.ctas.div_ceil(multiprocessors)).max(1);
    let waves = work.ctas.div_ceil(side_by_side * multiprocessors);
    let warps = (side_by_side * u64::from(configuration.threads / 32)) as f64;
    let stall = (WARPS_THAT_HIDE / warps).max(1.0);
    let cost = waves as f64 * side_by_side as f64 * (work.multiply + work.feed) * stall;
    Verdict::Legal { ctas: work.ctas, resident, waves, cost }
}

/// An error with each reason once, behind the configurations that it holds for.
fn none_left(kernel: &Kernel, candidates: &[Candidate]) -> Error {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for candidate in candidates {
        let Verdict::Rejected(why) = &candidate.verdict else { continue };
        let name = candidate.configuration.name.as_str();
        match reasons.iter_mut().find(|(reason, _)| reason == why) {
            Some((_, names)) => names.push(name),
            None => reasons.push((why, vec![name])),
        }
    }
    let reasons = reasons.iter().map(|(why, names)| match names[..] {
        [name] => format!("{why} for {name}"),
        _ => format!("{why} for {} and {} more", names[0], names.len() - 1),
    });
    Error::Kernel {
        name: kernel.name.into(),
        found: format!("no configuration fits ({})", reasons.collect::<Vec<_>>().join("; ")),
        expected: "a shape and a device that one of them fits".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{gram, linear};
    use super::*;

    const DEVICE: Limits = Limits { capability: (8, 0), multiprocessors: 100, shared_per_block: 166_912 };

    fn configuration(threads: u32, shared: u32) -> Configuration {
        Configuration { name: "x".into(), constants: Default::default(), threads, shared }
    }
    fn work(ctas: u64) -> Work {
        Work { ctas, registers: 128, multiply: 90.0, feed: 10.0 }
    }

    #[test]
    fn registers_of_a_thread_are_what_the_resident_ctas_leave() {
        assert_eq!((registers(1, 256), registers(2, 256), registers(3, 128)), (255, 128, 168));
    }

    #[test]
    fn the_scarcest_resource_bounds_the_resident_ctas_and_so_the_waves() {
        for (threads, shared, ctas, resident, waves) in
            [(128, 0, 400, 4, 1), (128, 0, 401, 4, 2), (128, 82_944, 400, 2, 2), (256, 100_000, 101, 1, 2)]
        {
            let Verdict::Legal { resident: r, waves: w, .. } = cost(&configuration(threads, shared), &work(ctas), &DEVICE) else {
                panic!("legal")
            };
            assert_eq!((r, w), (resident, waves), "{threads} threads, {shared} bytes, {ctas} CTAs");
        }
    }

    #[test]
    fn the_cheapest_legal_configuration_is_chosen_and_the_first_among_equals() {
        let judge = |c: &Configuration| match c.name.as_str() {
            "32x32x8-cp16" => Err("not today".to_string()),
            _ => Ok(Work { ctas: 1, registers: 32, multiply: 1.0, feed: 1.0 }),
        };
        let choice = choose(&gram::GRAM_F64, &DEVICE, 1.0, 2.0, judge).unwrap();
        assert_eq!(choice.candidates[0].verdict, Verdict::Rejected("not today".into()));
        let cost = |i: usize| match choice.candidates[i].verdict {
            Verdict::Legal { cost, .. } => cost,
            Verdict::Rejected(_) => f64::INFINITY,
        };
        assert!((0..choice.candidates.len()).all(|i| cost(choice.chosen) <= cost(i)));
        assert!((0..choice.chosen).all(|i| cost(i) > cost(choice.chosen)));
        assert_eq!((choice.flops, choice.bytes), (1.0, 2.0));
    }

    #[test]
    fn where_nothing_is_legal_the_error_gives_every_reason_once() {
        let error = choose(&linear::LINEAR_F32, &DEVICE, 1.0, 1.0, |_| Err("no".to_string())).unwrap_err().to_string();
        assert!(error.starts_with("kernel linear_f32_sm80: no configuration fits (no for "), "{error}");
        assert_eq!(error.matches("(no for").count(), 1, "{error}");
    }
}
