//! How long runs will take before one of them has ended: their operations, counted, over what this machine multiplies.
//!
//! A product of `[m, k]` and `[k, n]` takes `2 m k n` operations. A frozen one is needed twice in a step (forward, and for the
//! gradient of its input), a trained one three times. Attention scores, norms and the optimiser are left out, padding too: the
//! estimate is meant to tell minutes from hours.

use backbone::Config;
use datasets::Encoded;
use methods::Resolved;

use crate::train::recipe::Recipe;

/// Share of the speed of multiply-adds in registers that training reaches, roughly.
const REACHED: f64 = 0.25;
/// Seconds of each run beside its products: starting, loading, checking, timing its latency.
const BESIDE: f64 = 4.0;
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
    let (h, i) = (config.hidden as f64, config.intermediate as f64);
    let forward = 2.0 * config.layers as f64 * (4.0 * h * h + 2.0 * h * i);
    let extra = match resolved.entry.name {
        "prompt_tuning" | "p_tuning" => resolved.config.get("virtual_tokens"),
        _ => None,
    };
    let extra = extra.and_then(serde_json::Value::as_f64).unwrap_or(0.0);
    let tokens = |data: &Encoded| data.ids.len() as f64 + extra * data.len() as f64;
    let seen = (recipe.steps * recipe.batch) as f64;
    let each = tokens(train) / train.len().max(1) as f64;
    let (passes, evaluations) = match trained {
        // Constant features are made once.
        0.0 => (seen.min(train.len() as f64), 1.0),
        _ if resolved.entry.name == "full" => (3.0 * seen, recipe.evaluations as f64),
        _ => (2.0 * seen, recipe.evaluations as f64),
    };
    forward * (passes * each + evaluations * tokens(validation))
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
