//! Models with random weights, for checks that must hold for any weights.

use super::config::{MlpConfig, TransformerConfig};
use super::mlp::Mlp;
use super::transformer::Transformer;
use crate::device::DType;
use crate::error::Result;

/// A transformer whose weights are normal with variance 1 / fan-in (embeddings: 1), whose biases are
/// normal with standard deviation 0.2, and whose norm gains are normal around 1 with the same deviation.
pub fn random_transformer(config: TransformerConfig, dtype: DType, seed: u64) -> Result<Transformer> {
    let mut rng = Normal::new(seed);
    Transformer::build(config, dtype, &mut |name, shape| Ok(rng.tensor(name, shape)))
}

/// An MLP with weights and biases drawn as in [`random_transformer`].
pub fn random_mlp(config: MlpConfig, dtype: DType, seed: u64) -> Result<Mlp> {
    let mut rng = Normal::new(seed);
    Mlp::build(config, dtype, &mut |name, shape| Ok(rng.tensor(name, shape)))
}

/// Normal deviates by Box and Muller's transform of SplitMix64 (Steele, Lea and Flood 2014).
struct Normal {
    state: u64,
}

impl Normal {
    fn new(seed: u64) -> Self {
        Self { state: seed }
    }
    /// Uniform in (0, 1].
    fn uniform(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        ((z >> 11) + 1) as f64 / (1u64 << 53) as f64
    }
    fn sample(&mut self) -> f64 {
        let radius = (-2.0 * self.uniform().ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }
    /// The last part of a tensor's name tells what it is.
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Vec<f64> {
        let part = name.rsplit('.').next().unwrap_or(name);
        let (mean, deviation) = match (part, shape) {
            ("W_E" | "W_pos", _) => (0.0, 1.0),
            ("W_O", &[h, dh, _]) => (0.0, 1.0 / ((h * dh) as f64).sqrt()),
            (_, &[_, fan_in, _]) => (0.0, 1.0 / (fan_in as f64).sqrt()),
            (p, &[fan_in, _]) if p.starts_with('W') => (0.0, 1.0 / (fan_in as f64).sqrt()),
            ("w", _) => (1.0, 0.2),
            _ => (0.0, 0.2),
        };
        (0..shape.iter().product()).map(|_| mean + deviation * self.sample()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deviates_have_mean_zero_and_variance_one() {
        let mut rng = Normal::new(7);
        let x: Vec<f64> = (0..100_000).map(|_| rng.sample()).collect();
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        let var = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / x.len() as f64;
        let fourth = x.iter().map(|v| v.powi(4)).sum::<f64>() / x.len() as f64;
        assert!(mean.abs() < 0.015 && (var - 1.0).abs() < 0.02 && (fourth - 3.0).abs() < 0.15, "{mean} {var} {fourth}");
    }

    #[test]
    fn scales_by_fan_in() {
        let mut rng = Normal::new(1);
        let mut rms = |name: &str, shape: &[usize]| {
            let x = rng.tensor(name, shape);
            (x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64).sqrt()
        };
        for (name, shape, want) in [
            ("embed.W_E", &[300, 40][..], 1.0),
            ("blocks.0.attn.W_Q", &[5, 64, 30], 0.125),
            ("blocks.0.attn.W_O", &[4, 16, 100], 0.125),
            ("blocks.0.mlp.W_in", &[64, 90], 0.125),
            ("layers.0.W", &[100, 90], 0.1),
            ("blocks.0.attn.b_Q", &[40, 100], 0.2),
            ("ln_final.w", &[9000], 1.02),
        ] {
            let got = rms(name, shape);
            assert!((got / want - 1.0).abs() < 0.05, "{name}: {got}, not {want}");
        }
    }
}
