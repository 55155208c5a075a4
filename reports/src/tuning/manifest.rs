//! What a search was asked to do.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Kept;

/// Of this many configurations one goes on to the next rung, with as many times the steps.
pub const HALVING: usize = 3;
/// After fewer steps a method has hardly left its start.
const FEWEST_STEPS: usize = 10;

/// What a search was asked to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Steps of a trial at each rung, ascending; the last is a whole run.
    pub rungs: Vec<usize>,
    /// What they are judged by, in words.
    pub judged_by: String,
    /// The methods with their trials.
    pub methods: Vec<MethodTrials>,
    /// Methods that have nothing to search.
    pub left_out: Vec<String>,
}

/// The trials of one method.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MethodTrials {
    /// Name of the method.
    pub method: String,
    /// Range of the learning rates that were drawn; absent where the learning rate was set.
    pub learning_rates: Option<[f64; 2]>,
    /// Its trials in the order they were drawn.
    pub trials: Vec<TrialPlan>,
}

/// One configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrialPlan {
    /// What was drawn, by key.
    pub drawn: BTreeMap<String, Value>,
    /// Steps and id of each of its runs.
    pub runs: Vec<(usize, String)>,
    /// Whether it was added because the best learning rate was at the edge of the range.
    #[serde(default)]
    pub beyond_edge: bool,
}

impl Kept for Manifest {
    const FILE: &'static str = "tuning.json";
}

/// The steps of each rung for so many trials of a whole run of `steps`: as many rungs as the trials can be divided, at most `most`, none
/// of fewer steps than `FEWEST_STEPS` but a whole run.
pub fn rungs(trials: usize, steps: usize, most: usize) -> Vec<usize> {
    let by_steps = (steps / FEWEST_STEPS).max(1).ilog(HALVING);
    let halvings = trials.max(1).ilog(HALVING).min(by_steps) as usize;
    let last = halvings.min(most.saturating_sub(1));
    (0..=last)
        .rev()
        .map(|k| steps / HALVING.pow(k as u32))
        .collect()
}

/// How many of so many trials run at each of so many rungs.
pub fn kept(trials: usize, rungs: usize) -> Vec<usize> {
    (0..rungs as u32)
        .map(|k| (trials / HALVING.pow(k)).max(1))
        .collect()
}
