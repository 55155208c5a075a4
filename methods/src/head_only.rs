//! The least that can be trained: the head alone, on the frozen backbone.
//!
//! The backbone's vectors never change, so they are computed once per example and not once per step
//! (a linear probe: Alain and Bengio 2017, arXiv:1610.01644).

use backbone::{Backbone, Hooks};
use serde::Deserialize;

use crate::{
    NotMergeable, PeftMethod, Result,
    entry::{Building, Entry, MethodConfig},
};

pub(crate) const ENTRY: Entry =
    Entry::of::<Config>("head_only", include_str!("../configs/head_only.yaml")).standard();

/// The same where classes are words and nothing is trained: what the language model says by itself.
pub(crate) const ZERO_SHOT: Entry =
    Entry::of::<Config>("zero_shot", include_str!("../configs/zero_shot.yaml")).without_steps();

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {}

impl MethodConfig for Config {
    fn build(&self, _: &mut Building<'_, '_>) -> Result<Box<dyn PeftMethod>> {
        Ok(Box::new(HeadOnly))
    }
}

/// The bare backbone as a method.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadOnly;

impl Hooks for HeadOnly {}

impl PeftMethod for HeadOnly {
    fn merge(&self, _: &Backbone) -> std::result::Result<Backbone, NotMergeable> {
        Err(NotMergeable("there is nothing to merge".into()))
    }
}
