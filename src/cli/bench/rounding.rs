//! How tensor cores round a long sum: 2^20 equal products of bf16 are added in f32 on the device, and
//! the sum is compared, bit for bit, with those of the models that the literature offers (Fasi et al.
//! 2021, Ootomo and Yokota 2022).

use serde::Serialize;

use crate::device::cuda::Lane;
use crate::error::{Error, Result};
use crate::kernel::probe::{RoundingParams, rounding};

/// Products of 16 columns by 16 rows, one after the other.
const ROUNDS: u32 = 1 << 16;
/// Terms that one product adds.
const TERMS: u32 = 16;
/// 1 + 2^-7 and 1 + 3 2^-7 as bf16. Their product has bits down to 2^-14, so that from a sum of 2^10 on
/// something must be rounded away, and never exactly half of the last place.
const FACTORS: (u32, u32) = (0x3F81, 0x3F83);

/// A model of the sum of one product: terms are added in blocks, block by block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Model {
    /// Terms that are added at once.
    block: u32,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The block's sum is exact and rounded to the nearest number.
    Nearest,
    /// The block's sum is exact and rounded toward zero.
    TowardZero,
    /// Each term is first cut off this many bits below the last place of the largest one or of the
    /// accumulator, then the sum is rounded toward zero.
    Aligned { extra: i32 },
}

impl Model {
    fn all() -> Vec<Model> {
        let kinds = [Kind::Nearest, Kind::TowardZero].into_iter().chain((0..4).map(|extra| Kind::Aligned { extra }));
        kinds.flat_map(|kind| [16, 8, 4].map(|block| Model { block, kind })).collect()
    }
    fn name(self) -> String {
        let Model { block, kind } = self;
        match kind {
            Kind::Nearest => format!("exact sums of {block} terms to nearest"),
            Kind::TowardZero => format!("exact sums of {block} terms toward zero"),
            Kind::Aligned { extra } => format!("{block} terms cut off {extra} bits below the last place, toward zero"),
        }
    }
    /// The sum of all terms, each `term`, which is exact in f64 as is every block's sum.
    fn sum(self, term: f64) -> f32 {
        let mut sum = 0.0f32;
        for _ in 0..ROUNDS * TERMS / self.block {
            let (s, n) = (f64::from(sum), f64::from(self.block));
            sum = match self.kind {
                Kind::Nearest => (s + n * term) as f32,
                Kind::TowardZero => toward_zero(s + n * term),
                Kind::Aligned { extra } => {
                    let unit = (s.max(term).log2().floor() - f64::from(23 + extra)).exp2();
                    toward_zero(s + n * (term / unit).floor() * unit)
                }
            };
        }
        sum
    }
}

/// The f32 next to `x` (not negative) that is not larger.
fn toward_zero(x: f64) -> f32 {
    let nearest = x as f32;
    if f64::from(nearest) > x { nearest.next_down() } else { nearest }
}

/// What the device did.
#[derive(Debug, Serialize)]
pub struct Rounding {
    terms: u32,
    exact: f64,
    found: f32,
    /// found / exact - 1
    relative_error: f64,
    /// The models that give the same bits.
    models: Vec<String>,
}

impl Rounding {
    fn new(found: f32) -> Self {
        let value = |bits: u32| f64::from(f32::from_bits(bits << 16));
        let (terms, term) = (ROUNDS * TERMS, value(FACTORS.0) * value(FACTORS.1));
        let exact = f64::from(terms) * term;
        let same = Model::all().into_iter().filter(|m| m.sum(term) == found);
        Self { terms, exact, found, relative_error: f64::from(found) / exact - 1.0, models: same.map(Model::name).collect() }
    }
    /// One line for people.
    pub fn text(&self) -> String {
        let models = if self.models.is_empty() { "no model".into() } else { self.models.join("; ") };
        let Rounding { terms, relative_error, .. } = self;
        format!("sum of {terms} equal bf16 products by mma.sync: relative error {relative_error:.3e}; as {models}\n")
    }
}

/// Sums on the device.
pub fn measure(lane: &mut Lane) -> Result<Rounding> {
    let cuda = lane.cuda().clone();
    let (kernel, configuration) = rounding();
    let mut sums = [f32::NAN; 128];
    let out = cuda.alloc(std::mem::size_of_val(&sums) as u64)?;
    let params = RoundingParams { out: out.address, rounds: ROUNDS, factors: FACTORS.0 | FACTORS.1 << 16 };
    let call = cuda.call(kernel, &configuration, [1, 1, 1], &params)?;
    lane.issue(&[call])?;
    lane.download(out.address, bytemuck::cast_slice_mut(&mut sums))?;
    match sums.iter().find(|s| **s != sums[0]) {
        Some(other) => {
            let found = format!("sums {} and {other} of the same terms", sums[0]);
            Err(Error::numeric(kernel.name, found, "equal sums in all accumulators"))
        }
        None => Ok(Rounding::new(sums[0])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_toward_zero_never_goes_up() {
        let one = 1.0f64;
        assert_eq!(toward_zero(one + 0.75 * f64::from(f32::EPSILON)), 1.0);
        assert_eq!(toward_zero(one + 1.75 * f64::from(f32::EPSILON)), 1.0 + f32::EPSILON);
        assert_eq!((toward_zero(0.5), toward_zero(0.0)), (0.5, 0.0));
    }

    #[test]
    fn the_models_differ_and_truncation_is_a_bias() {
        let error = |kind, block| {
            let term = f64::from(f32::from_bits(FACTORS.0 << 16)) * f64::from(f32::from_bits(FACTORS.1 << 16));
            let exact = f64::from(ROUNDS * TERMS) * term;
            f64::from(Model { kind, block }.sum(term)) / exact - 1.0
        };
        let (nearest, zero) = (error(Kind::Nearest, 16), error(Kind::TowardZero, 16));
        assert!(zero < 0.0 && nearest.abs() < -zero, "{nearest:e} {zero:e}");
        // Smaller blocks round more often, and terms that are cut off lose more than their sum.
        assert!(error(Kind::TowardZero, 8) < zero, "{zero:e}");
        assert!(error(Kind::Aligned { extra: 0 }, 16) < error(Kind::Aligned { extra: 3 }, 16));
        assert!(error(Kind::Aligned { extra: 3 }, 16) <= zero);
    }

    #[test]
    fn a_sum_is_traced_to_its_model() {
        let term = f64::from(f32::from_bits(FACTORS.0 << 16)) * f64::from(f32::from_bits(FACTORS.1 << 16));
        for model in Model::all() {
            let rounding = Rounding::new(model.sum(term));
            assert!(rounding.models.contains(&model.name()), "{model:?}: {rounding:?}");
        }
        assert!(Rounding::new(1.0).models.is_empty());
    }

    #[cfg(feature = "ptxvm")]
    #[test]
    fn both_roundings_of_the_interpreter_are_recognised() {
        use crate::device::Cuda;
        for (mma, part) in [(ptxvm::Rounding::Exact, "to nearest"), (ptxvm::Rounding::TowardZero, "toward zero")] {
            let cuda = Cuda::interpreter(ptxvm::Options { mma, ..ptxvm::Options::default() }).unwrap();
            let rounding = measure(&mut Lane::new(&cuda).unwrap()).unwrap();
            assert!(rounding.models.iter().any(|m| m.ends_with(part)), "{part}: {rounding:?}");
        }
    }
}
