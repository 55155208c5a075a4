//! The ceiling: every weight of the backbone is trained.
//!
//! The method owns a trainable copy of the backbone; the frozen one stays as it is.

use std::collections::BTreeMap;

use backbone::{Backbone, Hooks};
use candle_core::{Tensor, Var};
use serde::Deserialize;

use crate::{
    Context, NotMergeable, PeftMethod, Result,
    registry::{Entry, MethodConfig},
    restore,
};

pub(crate) const ENTRY: Entry = Entry::of::<Config>("full", include_str!("../configs/full.yaml"))
    .standard()
    .parameters("backbone");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {}

impl MethodConfig for Config {
    fn check(&self, _: &backbone::Config) -> std::result::Result<(), String> {
        Ok(())
    }

    fn build(self, context: &mut Context<'_>) -> Result<Box<dyn PeftMethod>> {
        let (backbone, vars) = context.backbone.trainable()?;
        Ok(Box::new(Full { backbone, vars }))
    }
}

struct Full {
    backbone: Backbone,
    vars: Vec<(String, Var)>,
}

impl Hooks for Full {}

impl PeftMethod for Full {
    fn vars(&self) -> Vec<(String, Var)> {
        self.vars.clone()
    }

    /// What was trained is a frozen backbone from now on, whose weights are packed once and not in every pass.
    fn load(&mut self, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
        restore(&self.vars, tensors)?;
        self.backbone = self.backbone.map(&mut |_, weight| Ok(weight.detach()))?;
        Ok(())
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
