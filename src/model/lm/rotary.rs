//! Rotary position embedding: the frequencies of a checkpoint and the tables of a batch.

use crate::device::{DType, Tensor};

/// Frequencies of the rotated pairs, radians a position (Su et al. 2021).
#[derive(Clone, Debug, PartialEq)]
pub struct Rotary {
    pub frequencies: Vec<f64>,
}

/// The rescaling of frequencies by wavelength of Llama 3.1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Llama3 {
    pub factor: f64,
    pub low_freq_factor: f64,
    pub high_freq_factor: f64,
    pub original_context: f64,
}

impl Rotary {
    /// `theta^(-2 i / width)` for the pairs `i` of the first `width` coordinates of a head.
    pub fn new(theta: f64, width: usize) -> Self {
        Self { frequencies: (0..width / 2).map(|i| theta.powf(-2.0 * i as f64 / width as f64)).collect() }
    }
    /// Long wavelengths are stretched by `factor`, short ones kept, those between interpolated.
    pub fn llama3(mut self, s: &Llama3) -> Self {
        for f in &mut self.frequencies {
            let wavelength = std::f64::consts::TAU / *f;
            let smooth = (s.original_context / wavelength - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor);
            let kept = smooth.clamp(0.0, 1.0);
            *f = (1.0 - kept) * *f / s.factor + kept * *f;
        }
        self
    }
    /// Coordinates of a head that are rotated.
    pub fn width(&self) -> usize {
        2 * self.frequencies.len()
    }
    /// Cosines and sines `[positions, width / 2]` of the angle `position * frequency`.
    pub fn tables(&self, dtype: DType, positions: usize) -> (Tensor, Tensor) {
        let table = |f: fn(f64) -> f64| {
            let angles = (0..positions).flat_map(|p| self.frequencies.iter().map(move |w| f(p as f64 * w)));
            Tensor::from_f64(dtype, positions, self.frequencies.len(), angles.collect())
        };
        (table(f64::cos), table(f64::sin))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequencies_fall_from_one() {
        let r = Rotary::new(10_000.0, 4);
        assert_eq!((r.frequencies.as_slice(), r.width()), (&[1.0, 0.01][..], 4));
        let (cos, sin) = r.tables(DType::F64, 3);
        assert_eq!((cos.rows, cos.cols), (3, 2));
        assert_eq!(cos.to_f64(), [1.0, 1.0, 1f64.cos(), 0.01f64.cos(), 2f64.cos(), 0.02f64.cos()]);
        assert_eq!(sin.to_f64()[5], 0.02f64.sin());
    }

    #[test]
    fn only_long_wavelengths_are_stretched() {
        let s = Llama3 { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 32.0 };
        let tau = std::f64::consts::TAU;
        // Wavelengths 4 (short), 16 (between: 32 / 16 = 2, a third of the way from 1 to 4), 100 (long).
        let r = Rotary { frequencies: vec![tau / 4.0, tau / 16.0, tau / 100.0] }.llama3(&s);
        let want = [tau / 4.0, tau / 16.0 * (2.0 / 3.0 / 8.0 + 1.0 / 3.0), tau / 800.0];
        assert!(r.frequencies.iter().zip(want).all(|(a, b)| (a / b - 1.0).abs() < 1e-15), "{:?}", r.frequencies);
    }
}
