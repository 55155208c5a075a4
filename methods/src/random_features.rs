//! A floor above the majority class: the head on a backbone of the same shape with random weights.
//!
//! What it reaches is due to the architecture, the words and the head (random features: Rahimi and Recht 2007); what
//! `head_only` reaches above it is due to pre-training (random encoders: Wieting and Kiela 2019, arXiv:1901.10444). The
//! weights follow from a drawn seed, and the seed is all that is shipped.

use std::collections::BTreeMap;

use backbone::{Backbone, Hooks, Pooling};
use candle_core::{Device, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;

use crate::{
    Context, NotMergeable, PeftMethod, Result,
    registry::{Entry, MethodConfig},
};

pub(crate) const ENTRY: Entry = Entry::of::<Config>(
    "random_features",
    include_str!("../configs/random_features.yaml"),
)
.standard();

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {}

impl MethodConfig for Config {
    fn check(&self, _: &backbone::Config) -> std::result::Result<(), String> {
        Ok(())
    }

    fn build(self, context: &mut Context<'_>) -> Result<Box<dyn PeftMethod>> {
        // A file holds floats: f32 has every integer of 24 bits.
        let seed = context.rng.random::<u32>() >> 8;
        let (config, pooling) = (context.backbone.config(), context.backbone.pooling());
        Ok(Box::new(RandomFeatures {
            seed: seed as f32,
            backbone: random(seed as f32, config.clone(), pooling)?,
        }))
    }
}

fn random(seed: f32, config: backbone::Config, pooling: Pooling) -> Result<Backbone> {
    let rng = &mut ChaCha8Rng::seed_from_u64(seed as u64);
    Ok(Backbone::random(config, rng)?.with_pooling(pooling)?)
}

struct RandomFeatures {
    seed: f32,
    backbone: Backbone,
}

impl Hooks for RandomFeatures {}

impl PeftMethod for RandomFeatures {
    fn vars(&self) -> Vec<(String, Var)> {
        Vec::new()
    }

    fn shipped(&self) -> Result<Vec<(String, Tensor)>> {
        let seed = Tensor::new(&[self.seed], &Device::Cpu)?;
        Ok(vec![("seed".to_owned(), seed)])
    }

    fn load(&mut self, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
        let seed = Var::new(&[0f32], &Device::Cpu)?;
        crate::restore(&[("seed".to_owned(), seed.clone())], tensors)?;
        self.seed = seed.to_vec1::<f32>()?[0];
        let config = self.backbone.config().clone();
        self.backbone = random(self.seed, config, self.backbone.pooling())?;
        Ok(())
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
