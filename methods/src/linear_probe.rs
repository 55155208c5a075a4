//! A logistic regression on the frozen backbone's vectors, solved to convergence.
//!
//! The same model as `head_only` (a linear probe: Alain and Bengio 2017, arXiv:1610.01644), but with a penalty in place of a number
//! of steps, so that its optimum is the only answer: no seed, no learning rate. What people use on few examples instead of fine-tuning.

use backbone::{Backbone, Hooks};
use serde::Deserialize;

use crate::{
    NotMergeable, PeftMethod, Result,
    entry::{Building, Entry, MethodConfig},
};

pub(crate) const ENTRY: Entry =
    Entry::of::<Config>("linear_probe", include_str!("../configs/linear_probe.yaml"))
        .without_steps();

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    c: f64,
}

impl MethodConfig for Config {
    fn check(&self, _: &backbone::Config) -> std::result::Result<(), String> {
        match self.c > 0.0 && self.c.is_finite() {
            true => Ok(()),
            false => Err(format!("c: {} must be above 0", self.c)),
        }
    }

    fn build(&self, _: &mut Building<'_, '_>) -> Result<Box<dyn PeftMethod>> {
        Ok(Box::new(LinearProbe { c: self.c }))
    }
}

struct LinearProbe {
    c: f64,
}

impl Hooks for LinearProbe {}

impl PeftMethod for LinearProbe {
    fn solves(&self) -> Option<f64> {
        Some(self.c)
    }

    fn merge(&self, _: &Backbone) -> std::result::Result<Backbone, NotMergeable> {
        Err(NotMergeable("there is nothing to merge".into()))
    }
}
