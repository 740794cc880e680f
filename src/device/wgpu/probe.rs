//! Whether an adapter keeps error-free transformations exact. WGSL allows reassociation, contraction
//! and an fma that rounds twice; so each adapter is asked when it is opened.

use std::fmt;

use super::{Launch, Wgpu};
use crate::error::Result;
use crate::kernel::Params;
use crate::kernel::wgsl::Transport;
use crate::kernel::wgsl::gram::{Arithmetic, Product};
use crate::kernel::wgsl::probe::{CHAIN, PROBE, ProbeParams, THREADS, configuration};
use crate::kernel::wgsl::product;

/// Which transformations an adapter was found to keep exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exactness {
    /// a + b = high + low.
    pub two_sum: bool,
    /// a b = high + low with the error by fma.
    pub product_fma: bool,
    /// a b = high + low with the error from factors cut in two.
    pub product_split: bool,
}

impl Exactness {
    /// The arithmetic that Gram matrices can rely on.
    pub fn arithmetic(self) -> Arithmetic {
        match self {
            Exactness { two_sum: true, product_fma: true, .. } => Arithmetic::Compensated(Product::Fma),
            Exactness { two_sum: true, product_split: true, .. } => Arithmetic::Compensated(Product::Split),
            _ => Arithmetic::Short,
        }
    }
}

impl fmt::Display for Exactness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |exact| if exact { "exact" } else { "not exact" };
        let (sum, fma, split) = (word(self.two_sum), word(self.product_fma), word(self.product_split));
        let bound = self.arithmetic().bound();
        write!(f, "TwoSum {sum}, TwoProduct {fma} by fma and {split} by splitting, so Gram matrices to {bound:.0e}")?;
        // Without exact sums `wgsl::Limits::exact_sums` leaves these operations to the host.
        match self.two_sum {
            true => write!(f, " and other sums over rows to {:.0e}", product::bound()),
            false => write!(f, " and other sums over rows on the host"),
        }
    }
}

/// Quads (a, b, a_low, b_low). Sums and products of a and b round in every way: full mantissas, halfway
/// cases, cancellation, magnitudes far apart; they are exact in f64, results and errors normal in f32.
/// The low parts are about half a unit in the last place.
fn quads() -> Vec<[f32; 4]> {
    let mut state = 1u32;
    // The generator of Numerical Recipes, from which the leading bits are taken.
    let mut bits = |count: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> (32 - count)
    };
    let mut number = |exponent: i32| {
        let mantissa = (bits(24) | 1 << 23) as f32;
        let sign = if bits(1) == 0 { 1.0 } else { -1.0 };
        sign * mantissa * 2f32.powi(exponent - 23)
    };
    let mut pairs = vec![
        [1.0, 2f32.powi(-24)],
        [1.0, -2f32.powi(-25)],
        [1.0 + f32::EPSILON, 2f32.powi(-24)],
        [3.0, -1.0 / 3.0],
        [16_777_215.0, 1.0],
        [16_777_216.0, 1.0],
        [1.0 + f32::EPSILON, 1.0 + f32::EPSILON],
        [1.0 + f32::EPSILON, 1.0 - f32::EPSILON],
        [-0.1, 0.1],
        [4097.0, 4095.0],
    ];
    for i in 0..COUNT - pairs.len() as i32 {
        let a = number(0);
        let b = if i % 4 == 0 { -a * (1.0 + 3.0 * f32::EPSILON) } else { number(i % 27 - 13) };
        pairs.push(if i % 2 == 0 { [a, b] } else { [b, a] });
    }
    pairs.into_iter().map(|[a, b]| [a, b, a * number(-25), b * number(-25)]).collect()
}

/// Quads of a probe: few, so that a device with small limits can be asked too.
const COUNT: i32 = 120;

/// Whether rounded result and error are those of the exact f64 value.
fn exact(value: f64, rounded: f32, error: f32) -> bool {
    rounded == value as f32 && f64::from(rounded) + f64::from(error) == value
}

/// Whether a chain of products from quad `first` on is right to the bound that Gram matrices rely on.
fn chained(quads: &[[f32; 4]], first: usize, high: f32, low: f32) -> bool {
    let terms = quads.iter().cycle().skip(first).take(CHAIN as usize);
    let terms = terms.map(|q| q.map(f64::from)).map(|[a, b, a_low, b_low]| (a * b, a * b_low + a_low * b + a_low * b_low));
    let (mut sum, mut rest, mut magnitude) = (0.0, 0.0, 0.0);
    for (product, cross) in terms {
        sum += product;
        rest += cross;
        magnitude += product.abs();
    }
    (f64::from(high) - sum + f64::from(low) - rest).abs() <= Arithmetic::rounding(CHAIN) * magnitude
}

/// Asks the adapter.
pub(super) fn run(device: &Wgpu) -> Result<Exactness> {
    let quads = quads();
    let params = ProbeParams { count: quads.len() as u32, one: 1.0, zero: 0.0 };
    let inputs = device.buffer_of(bytemuck::cast_slice(&quads))?;
    let outputs = device.buffer(32 * quads.len() as u64)?;
    let ask = |product: Product| -> Result<(bool, bool)> {
        let pipeline = device.pipeline(&PROBE, &configuration(product))?;
        let (input, _) = device.bind(&inputs, 0..4 * quads.len())?;
        let (output, _) = device.bind(&outputs, 0..8 * quads.len())?;
        let launch = Launch {
            pipeline: &pipeline,
            params: &params.bytes(),
            transport: Transport::Uniform,
            bindings: &[input, output],
            grid: device.grid(u64::from(params.count.div_ceil(THREADS)))?,
        };
        device.submit(&[device.record(&launch)?])?;
        let found = device.download_f32(&outputs, 0..8 * quads.len())?;
        let (mut sums, mut products) = (true, true);
        for (i, (q, r)) in quads.iter().zip(found.chunks_exact(8)).enumerate() {
            let (a, b) = (f64::from(q[0]), f64::from(q[1]));
            sums &= exact(a + b, r[0], r[1]);
            products &= exact(a * b, r[2], r[3]) && chained(&quads, i, r[4], r[5]);
        }
        Ok((sums, products))
    };
    let (fma, split) = (ask(Product::Fma)?, ask(Product::Split)?);
    Ok(Exactness { two_sum: fma.0 && split.0, product_fma: fma.1, product_split: split.1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of the quads a transformation gets wrong.
    fn wrong(right: impl Fn(usize, f32, f32) -> bool) -> usize {
        let quads = quads();
        (0..quads.len()).filter(|&i| !right(i, quads[i][0], quads[i][1])).count()
    }

    #[test]
    fn the_quads_tell_exact_from_rounded_arithmetic() {
        let sum = |a: f32, b: f32| f64::from(a) + f64::from(b);
        let product = |a: f32, b: f32| f64::from(a) * f64::from(b);
        let two_sum = |a: f32, b: f32| {
            let high = a + b;
            let part = high - a;
            (high, (a - (high - part)) + (b - part))
        };
        assert_eq!(wrong(|_, a, b| exact(sum(a, b), two_sum(a, b).0, two_sum(a, b).1)), 0);
        assert_eq!(wrong(|_, a, b| exact(product(a, b), a * b, a.mul_add(b, -(a * b)))), 0);
        // What rearrangement leaves of either, and results rounded towards zero.
        assert!(wrong(|_, a, b| exact(sum(a, b), a + b, 0.0)) > 50);
        assert!(wrong(|_, a, b| exact(product(a, b), a * b, 0.0)) > 50);
        let truncated = |x: f64| {
            let near = x as f32;
            if f64::from(near).abs() > x.abs() { f32::from_bits(near.to_bits() - 1) } else { near }
        };
        let rest = |x: f64| (x - f64::from(truncated(x))) as f32;
        assert!(wrong(|_, a, b| exact(sum(a, b), truncated(sum(a, b)), rest(sum(a, b)))) > 10);
    }

    #[test]
    fn the_chains_tell_what_a_low_part_is_worth() {
        let quads = quads();
        let chain = |i: usize, errors: bool, crosses: bool| {
            let mut total = 0.0f64;
            for q in quads.iter().cycle().skip(i).take(CHAIN as usize) {
                let [a, b, a_low, b_low] = q.map(f64::from);
                let product = if errors { a * b } else { f64::from((a * b) as f32) };
                total += product + if crosses { a * b_low + a_low * b } else { 0.0 };
            }
            (total as f32, (total - f64::from(total as f32)) as f32)
        };
        let missed = |errors, crosses| {
            wrong(|i, _, _| {
                let (high, low) = chain(i, errors, crosses);
                chained(&quads, i, high, low)
            })
        };
        assert_eq!(missed(true, true), 0);
        assert!(missed(false, true) > 100 && missed(true, false) > 100);
        assert!(wrong(|i, _, _| chained(&quads, i, chain(i, true, true).0, 0.0)) > 100);
    }

    #[test]
    fn what_is_exact_is_told_with_the_bounds_that_follow() {
        let told = |two_sum| Exactness { two_sum, product_fma: true, product_split: true }.to_string();
        assert!(told(true).ends_with("so Gram matrices to 3e-10 and other sums over rows to 4e-6"), "{}", told(true));
        assert!(told(false).ends_with("so Gram matrices to 4e-6 and other sums over rows on the host"), "{}", told(false));
    }

    #[test]
    fn gram_matrices_take_what_is_exact() {
        let found = |two_sum, product_fma, product_split| Exactness { two_sum, product_fma, product_split }.arithmetic();
        assert_eq!(found(true, true, true), Arithmetic::Compensated(Product::Fma));
        assert_eq!(found(true, false, true), Arithmetic::Compensated(Product::Split));
        assert_eq!(found(true, false, false), Arithmetic::Short);
        assert_eq!(found(false, true, true), Arithmetic::Short);
    }
}
