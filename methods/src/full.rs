//! The ceiling: every weight of the backbone is trained.
//!
//! The method owns a trainable copy of the backbone; the frozen one stays as it is.

use std::collections::BTreeMap;

use backbone::{Backbone, Hooks, Pooling};
use candle_core::Tensor;
use serde::Deserialize;

use crate::{
    NotMergeable, Parameters, PeftMethod, Result,
    entry::{Building, Entry, MethodConfig},
};

pub(crate) const ENTRY: Entry = Entry::of::<Config>("full", include_str!("../configs/full.yaml"))
    .standard()
    .parameters("backbone");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {}

/// The weights that the pooled vector depends on.
fn trained(backbone: &Backbone) -> impl Iterator<Item = (String, Tensor)> {
    let with_pooler = backbone.pooling() == Pooling::Pooler;
    let all = backbone.tensors().into_iter();
    all.filter(move |(name, _)| with_pooler || !name.starts_with("pooler."))
}

impl MethodConfig for Config {
    fn parameters(&self, backbone: &Backbone) -> std::result::Result<f64, String> {
        Ok(trained(backbone).map(|(_, t)| t.elem_count() as f64).sum())
    }

    fn build(&self, at: &mut Building<'_, '_>) -> Result<Box<dyn PeftMethod>> {
        let mut own = BTreeMap::new();
        for (name, weight) in trained(at.backbone) {
            let start = |_: &mut _| weight.copy();
            let tensor = at.tensors.variable(&name, weight.dims(), start)?;
            own.insert(name, tensor);
        }
        let backbone = at
            .backbone
            .map(&mut |name, frozen| Ok(own.remove(name).unwrap_or(frozen)))?;
        Ok(Box::new(Full {
            parameters: at.take(),
            backbone,
        }))
    }
}

struct Full {
    parameters: Parameters,
    backbone: Backbone,
}

impl Hooks for Full {}

impl PeftMethod for Full {
    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn backbone(&self) -> Option<&Backbone> {
        Some(&self.backbone)
    }

    fn merge(&self, _: &Backbone) -> std::result::Result<Backbone, NotMergeable> {
        Err(NotMergeable(
            "full fine-tuning is a backbone of its own already".into(),
        ))
    }
}
