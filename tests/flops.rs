//! What the benches count as needed, against closed forms.

#[path = "../benches/flops.rs"]
mod counted;

use backbone::{Activation, Architecture, Backbone, Config};
use counted::{Work, virtual_rows};
use methods::Context;

struct NoWords;

impl methods::Vocabulary for NoWords {
    fn encode(&self, _: &str) -> Result<Vec<u32>, String> {
        Ok(vec![0])
    }

    fn ordinary(&self) -> Vec<u32> {
        vec![0]
    }
}

/// L layers of H = 8, a feed-forward network of 4 H, two heads.
fn config(layers: usize) -> Config {
    Config {
        architecture: Architecture::Bert,
        layers,
        hidden: 8,
        heads: 2,
        intermediate: 32,
        vocabulary: 10,
        positions: 64,
        position_offset: 0,
        position_padding: None,
        position_table: true,
        token_types: 2,
        activation: Activation::Gelu,
        epsilon: 1e-12,
        description: backbone::Description::post_norm(2, 8),
    }
}

/// Operations of a step of a method with its defaults but for `overrides`.
fn step(config: &Config, method: &str, overrides: &[(&str, &str)], lengths: &[usize]) -> f64 {
    let backbone = Backbone::random(config.clone(), &mut datasets::stream(0, "flops")).unwrap();
    let overrides = overrides
        .iter()
        .map(|(k, v)| (k.to_string(), v.to_string()));
    let resolved = methods::resolve(method, &overrides.collect()).unwrap();
    let method = resolved
        .build(&mut Context {
            backbone: &backbone,
            rng: &mut datasets::stream(0, "flops"),
            words: &NoWords,
        })
        .unwrap();
    let work = Work::new(config, lengths, virtual_rows(&resolved, &*method));
    work.step(&resolved, &*method).all()
}

const H: f64 = 8.0;

/// A layer of which all rows are needed: 12 H² weights, two operations each per row, and scores and their use.
fn whole_layer(rows: f64, scores: f64) -> f64 {
    24.0 * H * H * rows + 4.0 * H * scores
}

/// The last layer: keys and values of all rows, the rest for the row that is read.
fn last_layer(rows: f64, examples: f64) -> f64 {
    4.0 * H * H * rows + 20.0 * H * H * examples + 4.0 * H * rows
}

#[test]
fn a_forward_pass_needs_two_operations_per_weight_and_row_and_the_last_layer_one_query_row() {
    let config = config(3);
    // Lengths 3 and 5: 8 rows, 9 + 25 scores per head and value.
    let work = Work::new(&config, &[3, 5], 0);
    let found = work.forward();
    let layers = 2.0 * whole_layer(8.0, 34.0) + last_layer(8.0, 2.0);
    assert_eq!(found.all(), layers);
    // Scores are products of no weight.
    assert_eq!(found.other, 4.0 * H * (34.0 + 34.0 + 8.0));
    assert_eq!(work.weight_bytes(2), 2 * 3 * 12 * 8 * 8);
}

#[test]
fn a_step_of_prompt_tuning_needs_two_passes_over_the_longer_rows_and_full_fine_tuning_three() {
    let config = config(2);
    let prompt = [("virtual_tokens", "2"), ("init", "random")];
    let passes = |rows: f64, scores: f64| whole_layer(rows, scores) + last_layer(rows, 2.0);
    // Lengths 3 + 2 and 5 + 2.
    assert_eq!(
        step(&config, "prompt_tuning", &prompt, &[3, 5]),
        2.0 * passes(12.0, 25.0 + 49.0)
    );
    assert_eq!(step(&config, "full", &[], &[3, 5]), 3.0 * passes(8.0, 34.0));
    for one_pass in ["head_only", "linear_probe", "knn", "zero_shot"] {
        assert_eq!(step(&config, one_pass, &[], &[3, 5]), passes(8.0, 34.0));
    }
}

#[test]
fn a_step_of_lora_in_upper_layers_needs_no_backward_below_them() {
    let config = config(4);
    let lengths = [3, 5];
    let of = |layers| {
        step(
            &config,
            "lora",
            &[("layers", layers), ("rank", "2")],
            &lengths,
        )
    };
    // One layer more in the middle costs its backward and three times its low-rank products.
    let own = 3.0 * 2.0 * (2.0 * 8.0 * 2.0 * 2.0 * H);
    let more = of("[1, 2, 3]") - of("[2, 3]");
    let backward = whole_layer(8.0, 34.0) + 4.0 * H * 34.0;
    assert_eq!(more, backward + own);
    assert!(of("[3]") < step(&config, "full", &[], &lengths) / 2.0);
}
