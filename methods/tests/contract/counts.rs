//! Parameter counts against formulas and closed forms.

use std::collections::BTreeMap;

use backbone::{Backbone, Config};
use methods::{Resolved, registry};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use crate::{methods, support::*};

/// The value of a formula of names, numbers, `+`, `·` and brackets.
fn value(formula: &str, variables: &dyn Fn(&str) -> usize) -> usize {
    fn sum(tokens: &mut &[String], variables: &dyn Fn(&str) -> usize) -> usize {
        let mut total = product(tokens, variables);
        while tokens.first().is_some_and(|t| t == "+") {
            *tokens = &tokens[1..];
            total += product(tokens, variables);
        }
        total
    }
    fn product(tokens: &mut &[String], variables: &dyn Fn(&str) -> usize) -> usize {
        let mut total = factor(tokens, variables);
        while tokens.first().is_some_and(|t| t == "·") {
            *tokens = &tokens[1..];
            total *= factor(tokens, variables);
        }
        total
    }
    fn factor(tokens: &mut &[String], variables: &dyn Fn(&str) -> usize) -> usize {
        let first = tokens[0].clone();
        *tokens = &tokens[1..];
        if first == "(" {
            let inner = sum(tokens, variables);
            assert_eq!(tokens[0], ")");
            *tokens = &tokens[1..];
            return inner;
        }
        first.parse().unwrap_or_else(|_| variables(&first))
    }
    let tokens: Vec<String> = formula
        .replace('(', " ( ")
        .replace(')', " ) ")
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    let mut rest = tokens.as_slice();
    let value = sum(&mut rest, variables);
    assert!(rest.is_empty(), "{formula}: {rest:?} is left over");
    value
}

/// What the names in a registry entry's formula stand for.
fn variable(name: &str, resolved: &Resolved, frozen: &Backbone) -> usize {
    let config = &resolved.config;
    let number = |key: &str| config[key].as_f64().unwrap();
    let h = frozen.config().hidden;
    match name {
        "H" => h,
        "I" => frozen.config().intermediate,
        "L" => frozen.config().layers,
        "backbone" => frozen.parameters() - (h * h + h),
        "b" => {
            let key = config.keys().find(|k| k.ends_with("reduction_factor"));
            (h as f64 / number(key.unwrap())) as usize
        }
        "w" => config["width"].as_u64().map_or(h, |w| w as usize),
        key => match &config[key] {
            serde_json::Value::Array(list) => list.len(),
            _ => number(key) as usize,
        },
    }
}

#[test]
fn parameter_counts_equal_the_functions_and_the_formulas_of_the_registry() {
    let frozen = backbone();
    for entry in registry::ALL {
        let resolved = resolve(entry.name, &[]).over(frozen.config());
        let documented = value(entry.parameters, &|name| variable(name, &resolved, &frozen));
        let computed = resolved.parameters(&frozen).unwrap();
        assert_eq!(
            documented as f64, computed,
            "{}: {}",
            entry.name, entry.parameters
        );
    }
    for case in everywhere() {
        let counted = count(&*build(&case.resolved, &case.frozen, 1)) as f64;
        let computed = case.resolved.parameters(&case.frozen).unwrap();
        assert_eq!(computed, counted, "{}", case.said);
    }
}

#[test]
fn parameter_counts_of_variants_equal_their_closed_forms() {
    let frozen = backbone();
    let (h, l, i) = (HIDDEN, LAYERS, 24);
    let bottleneck = h / 4;
    let adapter = 2 * h * bottleneck + bottleneck + h;
    // Width 6, five rows of an embedding, a second layer that makes keys and values of every layer.
    let prefix_mlp = 5 * h + (6 * h + 6) + 2 * l * (6 * h + h);
    // Four gates from the layer's input and from its last output, with two biases, in two directions.
    let lstm_layer = |input: usize| 2 * (4 * 6 * input + 4 * 6 * 6 + 2 * 4 * 6);
    for (case, resolved) in cases() {
        let Some((method, variant)) = case.split_once(' ') else {
            continue;
        };
        let expected = match (method, variant) {
            ("lora", "layers=[2]") => 2 * 3 * 2 * h,
            ("lora", v) if v.starts_with("rank_pattern") => (l * 2 * 3 - 1) * 2 * h,
            ("lora", v) if v.starts_with("target_modules=[encoder") => (l + 1) * 3 * 2 * h,
            ("lora", v) if v.starts_with("target_modules") => l * 3 * (4 * 2 * h + 2 * (h + i)),
            ("lora", _) => l * 2 * 3 * 2 * h,
            ("prompt_tuning", _) => 5 * h,
            ("adapter", "activation=gelu") => 2 * l * adapter,
            ("adapter", "drop_layers=1") => 2 * (l - 1) * adapter,
            ("adapter", _) => l * adapter,
            ("ia3", _) => l * (h + h + i + i),
            ("prefix_tuning", "positions=kept") => 5 * 2 * l * h,
            ("prefix_tuning", _) => prefix_mlp,
            ("p_tuning", "encoder=lstm") => {
                let head = 12 * 12 + 12 + 12 * h + h;
                5 * h + lstm_layer(h) + lstm_layer(12) + head
            }
            ("p_tuning", _) => 5 * h + (6 * h + 6) + (6 * 6 + 6) + (6 * h + h),
            ("mam", _) => {
                let width = 512;
                let prefix = 5 * h + (width * h + width) + 2 * l * (width * h + h);
                prefix + l * (2 * h * 8 + 8 + h)
            }
            (other, _) => panic!("{other} has no closed form for its variant here: add one"),
        };
        assert_eq!(count(&*build(&resolved, &frozen, 1)), expected, "{case}");
    }
}

#[test]
fn the_default_configurations_have_the_published_counts_at_hidden_size_384() {
    let config = Config {
        hidden: 384,
        heads: 12,
        intermediate: 16,
        layers: 6,
        description: backbone::Description::post_norm(12, 384),
        ..backbone().config().clone()
    };
    let frozen = Backbone::random(config, &mut ChaCha8Rng::seed_from_u64(0)).unwrap();
    for (name, expected) in [
        ("prompt_tuning", 7_680),
        ("lora", 73_728),
        ("adapter", 226_080),
    ] {
        let resolved = methods::resolve(name, &BTreeMap::new()).unwrap();
        assert_eq!(count(&*build(&resolved, &frozen, 1)), expected, "{name}");
    }
}
