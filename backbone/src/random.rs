//! Backbones with random weights.

use candle_core::{Device, Tensor};
use rand_chacha::{ChaCha8Rng, rand_core::RngCore};

use crate::{Backbone, Config, Result};

impl Backbone {
    /// A small backbone with seeded random weights, for tests and as the floor of a comparison.
    ///
    /// # Errors
    /// If a tensor cannot be made.
    pub fn random(config: Config, rng: &mut ChaCha8Rng) -> Result<Self> {
        Self::build(config, &mut |name, shape| {
            let n: usize = shape.iter().product();
            let values: Vec<f32> = match name {
                _ if name.ends_with("orm.weight") || name.ends_with("layernorm.weight") => {
                    vec![1.0; n]
                }
                _ if name.ends_with(".bias") => vec![0.0; n],
                _ => normal(rng, n, 0.02),
            };
            Ok(Some(Tensor::from_vec(values, shape, &Device::Cpu)?))
        })
    }
}

/// `n` draws from a normal distribution (Box and Muller 1958).
fn normal(rng: &mut ChaCha8Rng, n: usize, deviation: f32) -> Vec<f32> {
    let mut unit = || ((rng.next_u32() >> 8) as f32 + 0.5) / (1u32 << 24) as f32;
    (0..n)
        .map(|_| {
            let (a, b) = (unit(), unit());
            deviation * (-2.0 * a.ln()).sqrt() * (std::f32::consts::TAU * b).cos()
        })
        .collect()
}
