//! The lowest floor: the class that most training examples have, whatever the text is.
//!
//! Nothing is trained. The head's output layer becomes zero weights with the log frequencies of the training labels
//! as its bias, which is the best that a classifier without features can do.

use backbone::{Backbone, Hooks};
use serde::Deserialize;

use crate::{
    NotMergeable, PeftMethod, Result,
    entry::{Building, Entry, MethodConfig},
};

pub(crate) const ENTRY: Entry =
    Entry::of::<Config>("majority", include_str!("../configs/majority.yaml"))
        .standard()
        .without_steps();

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {}

impl MethodConfig for Config {
    fn build(&self, _: &mut Building<'_, '_>) -> Result<Box<dyn PeftMethod>> {
        Ok(Box::new(Majority))
    }
}

struct Majority;

impl Hooks for Majority {}

impl PeftMethod for Majority {
    fn reads_text(&self) -> bool {
        false
    }

    fn merge(&self, _: &Backbone) -> std::result::Result<Backbone, NotMergeable> {
        Err(NotMergeable("there is nothing to merge".into()))
    }
}
