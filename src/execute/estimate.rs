//! How long runs will take before one of them has ended: their operations, counted, over what this machine multiplies.
//!
//! A product of `[m, k]` and `[k, n]` takes `2 m k n` operations. A frozen one is needed twice in a step (forward, and for the
//! gradient of its input), a trained one three times. Attention scores, norms and the optimiser are left out, padding too: the
//! estimate is meant to tell minutes from hours.

use backbone::Config;
use datasets::Encoded;
use methods::Resolved;
use record::{Evaluation, RunRecord};
use serde_json::Value;

use crate::train::{encoded::judged, recipe::Recipe};

/// Share of the speed of multiply-adds in registers that training reaches; `just bench estimate RECORDS` tells it from records.
pub const REACHED: f64 = 0.295;
/// Seconds of each run beside its products (starting, loading, checking, timing its latency); told by the same command.
pub const BESIDE: f64 = 4.2;
/// Below so many operations nobody waits, and the machine is not measured.
const WORTH_ASKING: f64 = 2e12;

/// Operations of a run.
pub fn operations(
    config: &Config,
    resolved: &Resolved,
    trained: f64,
    recipe: &Recipe,
    train: &Encoded,
    validation: &Encoded,
) -> f64 {
    let own = Value::from(resolved.config.clone());
    let extra = virtual_tokens(resolved.entry.name, &own);
    let tokens = |data: &Encoded| data.ids.len() as f64 + extra * data.len() as f64;
    let seen = Seen {
        method: resolved.entry.name,
        trained,
        examples: (recipe.steps * recipe.batch) as f64,
        distinct: train.len() as f64,
        tokens_each: tokens(train) / train.len().max(1) as f64,
        evaluated: judged(recipe.evaluations, validation.len()) as f64
            / validation.len().max(1) as f64,
        validation_tokens: tokens(validation),
    };
    forward(config.layers, config.hidden, config.intermediate) * seen.tokens()
}

/// Operations of a run that has ended, as well as its record tells: four times the hidden size inside, and validation texts of the
/// length of the training texts. Nothing where there are no times.
pub fn of_record(record: &RunRecord) -> Option<f64> {
    let (asked, cost, outcome) = (
        &record.asked,
        record.cost.as_ref()?,
        record.outcome.as_ref()?,
    );
    let extra = virtual_tokens(&asked.method.name, &asked.method.config);
    let tokens_each = cost.tokens as f64 / cost.examples.max(1) as f64 + extra;
    let share = |evaluation: &Evaluation| {
        let all = asked.dataset.validation_examples.max(1) as f64;
        evaluation.examples.map_or(1.0, |some| some as f64 / all)
    };
    let seen = Seen {
        method: &asked.method.name,
        trained: outcome.parameters.method as f64,
        examples: cost.examples as f64,
        distinct: asked.dataset.train_examples as f64,
        tokens_each,
        evaluated: outcome.evaluations.iter().map(share).sum(),
        validation_tokens: tokens_each * asked.dataset.validation_examples as f64,
    };
    let (layers, hidden) = (asked.backbone.layers, asked.backbone.hidden);
    Some(forward(layers, hidden, 4 * hidden) * seen.tokens())
}

/// Operations of a token's forward pass.
fn forward(layers: usize, hidden: usize, intermediate: usize) -> f64 {
    let (h, i) = (hidden as f64, intermediate as f64);
    2.0 * layers as f64 * (4.0 * h * h + 2.0 * h * i)
}

/// Tokens that a method puts in front of a text.
fn virtual_tokens(method: &str, config: &Value) -> f64 {
    match method {
        "prompt_tuning" | "p_tuning" => config["virtual_tokens"].as_f64().unwrap_or(0.0),
        _ => 0.0,
    }
}

/// What goes through the backbone.
struct Seen<'a> {
    method: &'a str,
    trained: f64,
    /// Trained on, repetitions counted.
    examples: f64,
    /// Different ones.
    distinct: f64,
    tokens_each: f64,
    /// How often the validation split is judged.
    evaluated: f64,
    validation_tokens: f64,
}

impl Seen<'_> {
    /// Tokens, each as often as its products are made.
    fn tokens(&self) -> f64 {
        let (passes, evaluations) = match self.trained {
            // Constant features are made once.
            0.0 => (self.examples.min(self.distinct), 1.0),
            _ if self.method == "full" => (3.0 * self.examples, self.evaluated),
            _ => (2.0 * self.examples, self.evaluated),
        };
        passes * self.tokens_each + evaluations * self.validation_tokens
    }
}

/// Seconds per operation on this machine; `None` where so few are asked for that it does not matter.
pub fn seconds_per_operation(all: f64) -> Option<f64> {
    if all < WORTH_ASKING {
        return None;
    }
    let rate = kernels::register_gflops(kernels::Precision::F32) * 1e9 * REACHED;
    Some(1.0 / rate)
}

/// Seconds of a run by its operations.
pub fn seconds(operations: f64, per_operation: f64) -> f64 {
    BESIDE + operations * per_operation
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn frozen_products_are_needed_twice_trained_ones_three_times_and_constant_features_once() {
        let config = Config {
            layers: 2,
            hidden: 4,
            intermediate: 8,
            ..Config::of(backbone::Architecture::Bert)
        };
        let recipe = Recipe::resolve("quick", &Default::default(), 1000).unwrap();
        let data = |examples: usize| Encoded {
            ids: vec![0; 5 * examples],
            types: vec![0; 5 * examples],
            offsets: (0..=examples).map(|i| 5 * i).collect(),
            labels: Vec::new(),
            words: Default::default(),
            truncated: 0,
        };
        let resolved = |name| methods::resolve(name, &Default::default()).unwrap();
        let count = |name, trained| {
            operations(
                &config,
                &resolved(name),
                trained,
                &recipe,
                &data(100),
                &data(10),
            )
        };
        // Two layers of four products of 4 × 4 and two of 4 × 8, a token.
        let token = 2.0 * 2.0 * (4.0 * 16.0 + 2.0 * 32.0);
        let trained = 5.0 * (recipe.steps * recipe.batch) as f64;
        let evaluated = 50.0 * recipe.evaluations as f64;
        assert_eq!(count("lora", 1.0), token * (2.0 * trained + evaluated));
        assert_eq!(count("full", 1.0), token * (3.0 * trained + evaluated));
        assert_eq!(count("head_only", 0.0), token * (500.0 + 50.0));
    }
}
