//! The recipe that all methods share, and its budgets.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use reports::format;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::nearest;

/// More than anybody waits for.
const MOST_STEPS: usize = 10_000_000;
/// Examples of all steps together, repetitions counted: their order is held in memory, 4 bytes each.
const MOST_EXAMPLES: usize = 500_000_000;

const YAML: &str = include_str!("../../recipe.yaml");

/// The largest share of the training split that may be held out.
pub const MOST_HELD_OUT: f64 = 0.9;

/// What every method shares, resolved for a budget and a training split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Name of the budget.
    pub budget: String,
    /// Optimiser steps.
    pub steps: usize,
    /// Examples in a batch.
    pub batch: usize,
    /// Longest text in tokens.
    pub max_tokens: usize,
    /// AdamW's decay of the first moment.
    pub beta1: f64,
    /// AdamW's decay of the second moment.
    pub beta2: f64,
    /// AdamW's epsilon.
    pub epsilon: f64,
    /// Largest global norm of the gradient.
    pub clip: f64,
    /// Share of the steps with a rising learning rate.
    pub warmup: f64,
    /// The head's learning rate; the method's own where absent.
    pub head_learning_rate: Option<f64>,
    /// Evaluations on the way.
    pub evaluations: usize,
    /// Training examples to draw; all where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_examples: Option<usize>,
    /// Share of the training split that stands in for the validation split.
    // These three are not written while they do nothing, so that they change no other run's name.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub held_out: f64,
    /// Probability that a token of a training example is dropped.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub token_drop: f32,
    /// Probability that a token of a training example changes places with the next one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub token_swap: f32,
}

fn is_zero<T: PartialEq + Default>(value: &T) -> bool {
    *value == T::default()
}

/// How long to train.
#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct Budget {
    steps: Option<usize>,
    epochs: Option<usize>,
    seeds: usize,
}

/// A recipe as it is asked for: a budget, and what is set over the file's values. It is checked; only the steps of a budget in
/// epochs still depend on the number of training examples.
///
/// It is written down as the budget's name and what is set, and checked again when it is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "Written", try_from = "Written")]
pub struct RecipeChoice {
    set: BTreeMap<String, Value>,
    /// For a training split of one example.
    recipe: Recipe,
    /// Where neither the budget nor a setting says the steps.
    epochs: Option<usize>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    budget: String,
    set: BTreeMap<String, Value>,
}

impl From<RecipeChoice> for Written {
    fn from(choice: RecipeChoice) -> Self {
        Self {
            budget: choice.recipe.budget,
            set: choice.set,
        }
    }
}

impl TryFrom<Written> for RecipeChoice {
    type Error = String;

    fn try_from(written: Written) -> std::result::Result<Self, String> {
        Self::of(&written.budget, written.set).map_err(|e| format!("{e:#}"))
    }
}

impl RecipeChoice {
    /// From values as they are written, by key.
    ///
    /// # Errors
    /// If the budget or a key is unknown, or a value is out of range; the message names it.
    pub fn new(budget: &str, written: &BTreeMap<String, String>) -> Result<Self> {
        let values = written
            .iter()
            .map(|(key, text)| Ok((key.clone(), value(key, text)?)));
        Self::of(budget, values.collect::<Result<_>>()?)
    }

    /// The same with one more value.
    ///
    /// # Errors
    /// As [`RecipeChoice::new`].
    pub fn with(&self, key: &str, value: impl Into<Value>) -> Result<Self> {
        let mut set = self.set.clone();
        set.insert(key.to_owned(), value.into());
        Self::of(&self.recipe.budget, set)
    }

    /// The budget's name.
    pub fn budget(&self) -> &str {
        &self.recipe.budget
    }

    /// What a key is set to, if it is set.
    pub fn setting(&self, key: &str) -> Option<&Value> {
        self.set.get(key)
    }

    fn of(budget: &str, set: BTreeMap<String, Value>) -> Result<Self> {
        let (mut recipe, budgets) = file(&set)?;
        let Some(chosen) = budgets.get(budget) else {
            let known: Vec<_> = budgets.keys().map(String::as_str).collect();
            bail!(
                "unknown budget '{budget}'; {}",
                nearest::known(budget, &known)
            );
        };
        let (steps, epochs) = match (set.get("steps"), chosen.steps) {
            (Some(value), _) => {
                let steps = value.as_u64().and_then(|n| usize::try_from(n).ok());
                let steps = steps.with_context(|| {
                    format!(
                        "recipe: steps: '{}' is not a number of steps",
                        format::value(value)
                    )
                })?;
                (steps, None)
            }
            (None, Some(steps)) => (steps, None),
            (None, None) => (1, Some(chosen.epochs.unwrap_or(1))),
        };
        (recipe.budget, recipe.steps) = (budget.to_owned(), steps);
        ensure!(recipe.batch >= 1, "recipe: batch: 0 must be at least 1");
        ensure!(
            recipe.max_tokens >= 3,
            "recipe: max_tokens: {} must be at least 3",
            recipe.max_tokens
        );
        ensure!(
            (0.0..=1.0).contains(&recipe.warmup),
            "recipe: warmup: {} must be in 0 … 1",
            recipe.warmup
        );
        ensure!(
            recipe.epsilon > 0.0 && recipe.epsilon.is_finite(),
            "recipe: epsilon: {} must be above 0",
            recipe.epsilon
        );
        ensure!(
            recipe.clip > 0.0,
            "recipe: clip: {} must be above 0",
            recipe.clip
        );
        ensure!(
            recipe.evaluations >= 1,
            "recipe: evaluations: 0 must be at least 1"
        );
        for (key, beta) in [("beta1", recipe.beta1), ("beta2", recipe.beta2)] {
            ensure!(
                (0.0..1.0).contains(&beta),
                "recipe: {key}: {beta} must be at least 0 and below 1"
            );
        }
        ensure!(
            recipe.train_examples != Some(0),
            "recipe: train_examples: 0 must be at least 1, or null for all"
        );
        ensure!(
            (0.0..=MOST_HELD_OUT).contains(&recipe.held_out),
            "recipe: held_out: {} must be in 0 … {MOST_HELD_OUT}",
            recipe.held_out
        );
        for (key, p) in [
            ("token_drop", recipe.token_drop),
            ("token_swap", recipe.token_swap),
        ] {
            ensure!(
                (0.0..1.0).contains(&p),
                "recipe: {key}: {p} must be at least 0 and below 1"
            );
        }
        if let Some(rate) = recipe.head_learning_rate {
            ensure!(
                rate > 0.0 && rate.is_finite(),
                "recipe: head_learning_rate: {rate} must be above 0"
            );
        }
        let choice = Self {
            set,
            recipe,
            epochs,
        };
        choice.over(1)?;
        Ok(choice)
    }

    /// The recipe over so many training examples.
    ///
    /// # Errors
    /// If that takes more steps or examples than anybody waits for.
    pub fn over(&self, train_examples: usize) -> Result<Recipe> {
        let mut recipe = self.recipe.clone();
        if let Some(epochs) = self.epochs {
            recipe.steps = epochs.saturating_mul(train_examples.div_ceil(recipe.batch));
        }
        let (steps, batch) = (recipe.steps, recipe.batch);
        ensure!(
            (1..=MOST_STEPS).contains(&steps),
            "recipe: steps: {steps} must be in 1 … {MOST_STEPS}"
        );
        ensure!(
            steps.saturating_mul(batch) <= MOST_EXAMPLES,
            "recipe: steps × batch: {steps} × {} examples are more than {MOST_EXAMPLES}",
            batch
        );
        Ok(recipe)
    }
}

/// A value as it is written.
fn value(key: &str, text: &str) -> Result<Value> {
    let at = || format!("recipe: {key}: '{text}'");
    // JSON has no such numbers: they would become null, which means something else.
    let written: serde_yaml::Value =
        datasets::from_yaml(text).map_err(|e| anyhow::anyhow!("{}: {e}", at()))?;
    ensure!(
        written.as_f64().is_none_or(f64::is_finite),
        "{} is not a finite number",
        at()
    );
    serde_yaml::from_str(text).with_context(at)
}

/// The file's values with these in their places, but for what a budget decides; and the budgets.
fn file(set: &BTreeMap<String, Value>) -> Result<(Recipe, BTreeMap<String, Budget>)> {
    let mut yaml: Map<String, Value> = serde_yaml::from_str(YAML).context("recipe.yaml")?;
    let budgets = yaml.shift_remove("budgets").unwrap_or_default();
    let budgets = serde_json::from_value(budgets).context("recipe.yaml")?;
    let recipe = |yaml: &Map<String, Value>| -> serde_json::Result<Recipe> {
        let mut all = yaml.clone();
        all.insert("budget".to_owned(), "".into());
        all.insert("steps".to_owned(), 1.into());
        serde_json::from_value(all.into())
    };
    for (key, value) in set {
        if !yaml.contains_key(key) && key != "steps" {
            if ["learning_rate", "lr"].contains(&key.as_str()) {
                bail!(
                    "recipe: '{key}' is a key of the methods, each has its own: --set METHOD.learning_rate=VALUE, e.g. \
                     lora.learning_rate=1e-3 (recipe.head_learning_rate is that of the classifier)"
                );
            }
            let known: Vec<_> = std::iter::once("steps")
                .chain(yaml.keys().map(String::as_str))
                .collect();
            bail!(
                "recipe: unknown key '{key}'; {}",
                nearest::known(key, &known)
            );
        }
        if key == "steps" {
            continue;
        }
        yaml.insert(key.clone(), value.clone());
        recipe(&yaml).with_context(|| format!("recipe: {key}: '{}'", format::value(value)))?;
    }
    Ok((recipe(&yaml).context("recipe.yaml")?, budgets))
}

/// Names of the budgets and the number of seeds that each asks for.
///
/// # Errors
/// If `recipe.yaml` is not valid.
pub fn budgets() -> Result<BTreeMap<String, usize>> {
    let (_, budgets) = file(&BTreeMap::new())?;
    let seeds = budgets.into_iter().map(|(name, b)| (name, b.seeds));
    Ok(seeds.collect())
}

impl Recipe {
    /// The recipe of a budget with `written` values, over so many training examples.
    ///
    /// # Errors
    /// As [`RecipeChoice::new`].
    pub fn resolve(
        budget: &str,
        written: &BTreeMap<String, String>,
        train_examples: usize,
    ) -> Result<Self> {
        RecipeChoice::new(budget, written)?.over(train_examples)
    }

    /// Share of the peak learning rate at `step`, counted from 0: linear warm-up from 0, then linear decay to 0
    /// (the linear schedule of transformers).
    pub fn schedule(&self, step: usize) -> f64 {
        let warmup = (self.warmup * self.steps as f64).ceil() as usize;
        if step < warmup {
            step as f64 / warmup as f64
        } else {
            (self.steps - step.min(self.steps)) as f64 / (self.steps - warmup).max(1) as f64
        }
    }

    /// How training examples are changed each time they are seen.
    pub fn augmentation(&self) -> datasets::Augmentation {
        datasets::Augmentation {
            drop: self.token_drop,
            swap: self.token_swap,
        }
    }

    /// The steps after which the validation split is evaluated, evenly spread; the last one is the last step.
    pub fn evaluation_steps(&self) -> Vec<usize> {
        let n = self.evaluations.min(self.steps);
        (1..=n).map(|i| i * self.steps / n).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn with(overrides: &[(&str, &str)]) -> Result<Recipe> {
        let overrides = overrides
            .iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect();
        Recipe::resolve("standard", &overrides, 1000)
    }

    #[test]
    fn the_standard_budget_sees_16_000_examples() {
        let recipe = with(&[]).unwrap();
        assert_eq!(recipe.steps * recipe.batch, 16_000);
    }

    #[test]
    fn the_full_budget_is_three_epochs_of_the_training_split() {
        assert_eq!(
            Recipe::resolve("full", &BTreeMap::new(), 1000)
                .unwrap()
                .steps,
            3 * 32
        );
    }

    #[test]
    fn what_is_asked_for_is_written_down_and_read_again_and_a_wrong_value_is_not() {
        let set = [("batch", "7"), ("head_learning_rate", "1e-3")];
        let set = set.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let choice = RecipeChoice::new("full", &set).unwrap();
        let json = serde_json::to_string(&choice).unwrap();
        assert_eq!(
            json,
            r#"{"budget":"full","set":{"batch":7,"head_learning_rate":0.001}}"#
        );
        let again: RecipeChoice = serde_json::from_str(&json).unwrap();
        assert_eq!(again, choice);
        // Three epochs of 100 examples in batches of seven.
        assert_eq!(again.over(100).unwrap().steps, 3 * 15);
        let wrong = json.replace("batch", "bach");
        let error = serde_json::from_str::<RecipeChoice>(&wrong).unwrap_err();
        assert!(error.to_string().contains("'bach'"), "{error}");
    }

    #[test]
    fn the_learning_rate_rises_from_zero_to_the_peak_and_falls_to_zero() {
        let recipe = with(&[("steps", "100"), ("warmup", "0.1")]).unwrap();
        let rates: Vec<f64> = [0, 5, 10, 55, 100]
            .iter()
            .map(|s| recipe.schedule(*s))
            .collect();
        assert_eq!(rates, [0.0, 0.5, 1.0, 0.5, 0.0]);
    }

    #[test]
    fn the_last_evaluation_follows_the_last_step() {
        assert_eq!(
            with(&[("steps", "7"), ("evaluations", "3")])
                .unwrap()
                .evaluation_steps(),
            [2, 4, 7]
        );
        assert_eq!(
            with(&[("steps", "2"), ("evaluations", "5")])
                .unwrap()
                .evaluation_steps(),
            [1, 2]
        );
    }

    #[test]
    fn keys_that_do_nothing_are_not_part_of_what_names_a_run() {
        let named = |overrides: &[(&str, &str)]| {
            serde_json::to_value(with(overrides).unwrap())
                .unwrap()
                .as_object()
                .unwrap()
                .keys()
                .filter(|k| ["train_examples", "held_out", "token_drop"].contains(&k.as_str()))
                .count()
        };
        assert_eq!(named(&[]), 0);
        assert_eq!(named(&[("train_examples", "null"), ("held_out", "0")]), 0);
        assert_eq!(named(&[("train_examples", "16"), ("token_drop", "0.1")]), 2);
    }

    #[test]
    fn sizes_and_probabilities_out_of_range_are_refused_with_their_key() {
        for (key, value) in [
            ("train_examples", "0"),
            ("train_examples", "-3"),
            ("held_out", "1.0"),
            ("token_drop", "1.5"),
            ("token_swap", "-0.1"),
        ] {
            let message = format!("{:#}", with(&[(key, value)]).unwrap_err());
            assert!(message.contains(key), "{message}");
        }
    }

    #[test]
    fn a_number_that_is_none_is_refused_and_does_not_become_null() {
        for key in ["clip", "head_learning_rate", "train_examples"] {
            for value in [".nan", ".inf", "-.inf"] {
                let Err(error) = with(&[(key, value)]) else {
                    panic!("{key}: {value} is accepted");
                };
                let message = format!("{error:#}");
                assert!(
                    message.contains("finite") || message.contains("unknown key"),
                    "{message}"
                );
            }
        }
    }

    #[test]
    fn more_steps_or_examples_than_anybody_waits_for_are_refused() {
        for overrides in [
            &[("steps", "1000000000")][..],
            &[("steps", "18446744073709551615")],
            &[("steps", "10000000"), ("batch", "1000")],
            &[("batch", "18446744073709551615")],
        ] {
            let message = format!("{:#}", with(overrides).unwrap_err());
            assert!(message.contains("steps"), "{message}");
        }
        assert!(with(&[("steps", "10000000"), ("batch", "32")]).is_ok());
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_known_ones() {
        let message = with(&[("bach", "3")]).unwrap_err().to_string();
        assert!(
            message.contains("'bach'") && message.contains("batch"),
            "{message}"
        );
    }

    #[test]
    fn a_value_of_the_wrong_type_is_refused_with_its_key() {
        let message = with(&[("batch", "many")]).unwrap_err().to_string();
        assert!(
            message.contains("batch") && message.contains("many"),
            "{message}"
        );
    }
}
