//! The classes of the nearest training examples, by the frozen backbone's vectors: a floor that needs no training at all.
//!
//! k-nearest neighbours (Cover and Hart 1967) on vectors of length one, so by the cosine between them; each of the k has one vote, and of
//! classes with as many votes the first is taken (scikit-learn's `KNeighborsClassifier` with `metric="cosine"`). What it reaches is what the
//! vectors know without any adaptation; its file holds the vectors of all training examples, and every prediction reads them all.

use backbone::{Backbone, Hooks};
use serde::Deserialize;

use crate::{
    NotMergeable, PeftMethod, Result,
    entry::{Building, Entry, MethodConfig},
};

pub(crate) const ENTRY: Entry =
    Entry::of::<Config>("knn", include_str!("../configs/knn.yaml")).without_steps();

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    k: usize,
}

impl MethodConfig for Config {
    fn check(&self, _: &backbone::Config) -> std::result::Result<(), String> {
        match self.k {
            0 => Err("k: 0 neighbours say nothing; it must be at least 1".to_owned()),
            _ => Ok(()),
        }
    }

    fn build(&self, _: &mut Building<'_, '_>) -> Result<Box<dyn PeftMethod>> {
        Ok(Box::new(Knn { k: self.k }))
    }
}

struct Knn {
    k: usize,
}

impl Hooks for Knn {}

impl PeftMethod for Knn {
    fn neighbours(&self) -> Option<usize> {
        Some(self.k)
    }

    fn merge(&self, _: &Backbone) -> std::result::Result<Backbone, NotMergeable> {
        Err(NotMergeable("there is nothing to merge".into()))
    }
}
