//! A floor above the majority class: the head on a backbone of the same shape with random weights.
//!
//! What it reaches is due to the architecture, the words and the head (random features: Rahimi and Recht 2007); what
//! `head_only` reaches above it is due to pre-training (random encoders: Wieting and Kiela 2019, arXiv:1901.10444). The
//! weights follow from a drawn seed, and the seed is all that is shipped.

use backbone::{Backbone, Hooks};
use candle_core::{Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;

use crate::{
    NotMergeable, Parameters, PeftMethod, Result,
    entry::{Building, Entry, MethodConfig},
};

pub(crate) const ENTRY: Entry = Entry::of::<Config>(
    "random_features",
    include_str!("../configs/random_features.yaml"),
)
.standard();

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {}

impl MethodConfig for Config {
    fn build(&self, at: &mut Building<'_, '_>) -> Result<Box<dyn PeftMethod>> {
        let seed = at.tensors.constant("seed", &[1], |rng| {
            // A file holds floats: f32 has every integer of 24 bits.
            let seed = rng.random::<u32>() >> 8;
            Tensor::new(&[seed as f32], &Device::Cpu)
        })?;
        let seed = seed.to_vec1::<f32>()?[0] as u64;
        let rng = &mut ChaCha8Rng::seed_from_u64(seed);
        let random = Backbone::random(at.backbone.config().clone(), rng)?;
        Ok(Box::new(RandomFeatures {
            parameters: at.take(),
            backbone: random.with_pooling(at.backbone.pooling())?,
        }))
    }
}

struct RandomFeatures {
    parameters: Parameters,
    backbone: Backbone,
}

impl Hooks for RandomFeatures {}

impl PeftMethod for RandomFeatures {
    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn backbone(&self) -> Option<&Backbone> {
        Some(&self.backbone)
    }

    fn starts_as_backbone(&self) -> std::result::Result<(), &'static str> {
        Err("its backbone is another, random one")
    }

    fn merge(&self, _: &Backbone) -> std::result::Result<Backbone, NotMergeable> {
        Err(NotMergeable(
            "it has a backbone of its own, nothing to merge".into(),
        ))
    }
}
