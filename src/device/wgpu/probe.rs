//! Whether an adapter keeps error-free transformations exact. WGSL allows reassociation, contraction
//! and an fma that rounds twice; so each adapter is asked when it is opened.

use std::fmt;

use super::{Launch, Wgpu};
use crate::error::Result;
use crate::kernel::wgsl::Transport;
use crate::kernel::wgsl::gram::{Arithmetic, Product};
use crate::kernel::wgsl::probe::{PROBE, ProbeParams, THREADS, configuration};

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
        write!(f, "TwoSum {sum}, TwoProduct {fma} by fma and {split} by splitting, so Gram matrices to {bound:.0e}")
    }
}

/// Pairs whose sums and products round in every way: full mantissas, halfway cases, cancellation,
/// magnitudes far apart. Sums and products are exact in f64, results and errors normal in f32.
fn pairs() -> Vec<[f32; 2]> {
    let mut state = 1u32;
    // The generator of Numerical Recipes, from which the leading bits are taken.
    let mut bits = |count: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> (32 - count)
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
    for i in 0..1014 {
        let mut number = |exponent: i32| {
            let mantissa = (bits(24) | 1 << 23) as f32;
            let sign = if bits(1) == 0 { 1.0 } else { -1.0 };
            sign * mantissa * 2f32.powi(exponent - 23)
        };
        let a = number(0);
        let b = if i % 4 == 0 { -a * (1.0 + 3.0 * f32::EPSILON) } else { number(i % 27 - 13) };
        pairs.push(if i % 2 == 0 { [a, b] } else { [b, a] });
    }
    pairs
}

/// Whether rounded result and error are those of the exact f64 value.
fn exact(value: f64, rounded: f32, error: f32) -> bool {
    rounded == value as f32 && f64::from(rounded) + f64::from(error) == value
}

/// Asks the adapter.
pub(super) fn run(device: &Wgpu) -> Result<Exactness> {
    let pairs = pairs();
    let params = ProbeParams { count: pairs.len() as u32, one: 1.0, zero: 0.0 };
    let inputs = device.buffer_of(bytemuck::cast_slice(&pairs))?;
    let results = Product::ALL.map(|product| -> Result<(bool, bool)> {
        let outputs = device.buffer(16 * pairs.len() as u64)?;
        let pipeline = device.pipeline(&PROBE, &configuration(product))?;
        let (input, _) = device.bind(&inputs, 0..2 * pairs.len())?;
        let (output, _) = device.bind(&outputs, 0..4 * pairs.len())?;
        let launch = Launch {
            pipeline: &pipeline,
            params: bytemuck::bytes_of(&params),
            transport: Transport::Uniform,
            bindings: &[input, output],
            grid: device.grid(u64::from(params.count.div_ceil(THREADS)))?,
        };
        device.submit(&[device.record(&launch)?])?;
        let found = device.download_f32(&outputs, 0..4 * pairs.len())?;
        let check = |of: fn(f64, f64) -> f64, at: usize| {
            let all = pairs.iter().zip(found.chunks_exact(4));
            all.map(|(p, r)| exact(of(p[0].into(), p[1].into()), r[at], r[at + 1])).all(|ok| ok)
        };
        Ok((check(|a, b| a + b, 0), check(|a, b| a * b, 2)))
    });
    let [(sum_a, product_fma), (sum_b, product_split)] = match results {
        [a, b] => [a?, b?],
    };
    Ok(Exactness { two_sum: sum_a && sum_b, product_fma, product_split })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pairs_tell_exact_from_rounded_arithmetic() {
        let two_sum = |a: f32, b: f32| {
            let high = a + b;
            let part = high - a;
            (high, (a - (high - part)) + (b - part))
        };
        let all = pairs();
        assert!(all.iter().all(|&[a, b]| {
            let (high, low) = two_sum(a, b);
            exact(f64::from(a) + f64::from(b), high, low)
        }));
        assert!(all.iter().all(|&[a, b]| exact(f64::from(a) * f64::from(b), a * b, a.mul_add(b, -(a * b)))));
        // What rearrangement leaves of TwoSum, an fma that rounds twice, a result rounded towards zero.
        let wrong = |f: &dyn Fn(f32, f32) -> bool| all.iter().filter(|&&[a, b]| !f(a, b)).count();
        assert!(wrong(&|a, b| exact(f64::from(a) + f64::from(b), a + b, 0.0)) > 500);
        assert!(wrong(&|a, b| exact(f64::from(a) * f64::from(b), a * b, 0.0)) > 500);
        let truncated = |x: f64| {
            let near = x as f32;
            if f64::from(near).abs() > x.abs() { f32::from_bits(near.to_bits() - 1) } else { near }
        };
        assert!(
            wrong(&|a, b| {
                let sum = f64::from(a) + f64::from(b);
                exact(sum, truncated(sum), (sum - f64::from(truncated(sum))) as f32)
            }) > 100
        );
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
