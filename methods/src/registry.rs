//! All methods. A new one is a file, a YAML and one line here.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::{
    Error, Result, adapter, bitfit, combine, compacter,
    config::{self, Answer, Range, Resolved, Written},
    dora,
    entry::{Entry, find},
    full, head_only, ia3, knn, layer_norm, linear_probe, lora, majority, p_tuning, prefix_tuning,
    prompt_tuning, random_features,
};

/// All methods, in the order in which reports list equals.
pub const ALL: &[Entry] = &[
    prompt_tuning::ENTRY.kind("prompt", 0),
    lora::ENTRY.kind("lora", 0),
    adapter::ENTRY.kind("adapter", 0),
    ia3::ENTRY.kind("selective", 1),
    bitfit::ENTRY.kind("selective", 0),
    layer_norm::ENTRY.kind("selective", 2),
    prefix_tuning::ENTRY.kind("prompt", 1),
    dora::ENTRY.kind("lora", 1),
    p_tuning::ENTRY.kind("prompt", 2),
    compacter::ENTRY.kind("adapter", 1),
    combine::MAM.kind("combined", 0),
    majority::ENTRY.kind("floor", 0),
    random_features::ENTRY.kind("floor", 1),
    head_only::ENTRY.kind("head", 0),
    linear_probe::ENTRY.kind("head", 1),
    // With the mark that it had among the heads.
    knn::ENTRY.kind("floor", 5),
    head_only::ZERO_SHOT.kind("floor", 2),
    full::ENTRY.kind("whole", 0),
];

/// The entry of a method.
///
/// # Errors
/// If there is none of this name; the message lists them.
pub fn entry(name: &str) -> Result<&'static Entry> {
    find(name, ALL)
}

/// Resolves a method's configuration: its defaults with `overrides` (values as written, in YAML).
///
/// # Errors
/// If the method or a key is unknown (the message lists the known ones) or a value has the wrong type.
pub fn resolve(method: &str, overrides: &BTreeMap<String, String>) -> Result<Resolved> {
    resolve_for(Answer::default(), method, overrides)
}

/// As [`resolve`], with the defaults for this kind of answer.
///
/// # Errors
/// As [`resolve`].
pub fn resolve_for(
    answer: Answer,
    method: &str,
    overrides: &BTreeMap<String, String>,
) -> Result<Resolved> {
    let values = config::values(entry(method)?, overrides)?;
    resolve_values_for(answer, method, values)
}

/// The defaults of a method that differ where a language model answers with its own words, by key; empty where none does.
///
/// # Errors
/// If the method is unknown.
pub fn of_language_models(method: &str) -> Result<Map<String, Value>> {
    config::of_language_models(entry(method)?)
}

/// As [`resolve`], with values that have been parsed.
///
/// # Errors
/// As [`resolve`].
pub fn resolve_values(method: &str, overrides: Map<String, Value>) -> Result<Resolved> {
    resolve_values_for(Answer::default(), method, overrides)
}

/// As [`resolve_values`], with the defaults for this kind of answer.
///
/// # Errors
/// As [`resolve`].
pub fn resolve_values_for(
    answer: Answer,
    method: &str,
    overrides: Map<String, Value>,
) -> Result<Resolved> {
    config::resolve(entry(method)?, ALL, answer, overrides)
}

impl TryFrom<Written> for Resolved {
    type Error = Error;

    fn try_from(written: Written) -> Result<Self> {
        resolve_values(&written.method, written.overrides)
    }
}

/// The ranges that a method's YAML declares under `search`, by key; empty where it declares none.
///
/// # Errors
/// If the method is unknown, or a range names an unknown key or a value that the method does not take.
pub fn search(method: &str) -> Result<BTreeMap<String, Range>> {
    config::search(entry(method)?, ALL)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn every_range_that_a_method_declares_is_acceptable_and_every_draw_resolves() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for entry in ALL {
            let ranges = search(entry.name).unwrap();
            for _ in 0..50 {
                let drawn = ranges
                    .iter()
                    .map(|(key, range)| (key.clone(), range.draw(&mut rng)))
                    .collect();
                resolve_values(entry.name, drawn).unwrap();
            }
        }
    }

    #[test]
    fn the_family_decides_what_is_left_open_and_who_writes_the_same_has_no_variant() {
        use backbone::{Architecture, Config};
        let over = |method: &str, written: &[(&str, &str)], architecture| {
            let written = written.iter().map(|(k, v)| (k.to_string(), v.to_string()));
            let resolved = resolve(method, &written.collect()).unwrap();
            let resolved = resolved.over(&Config::of(architecture));
            let targets = serde_json::to_string(&resolved.config["target_modules"]).unwrap();
            (targets, resolved.variant)
        };
        let usual = r#"["query","value"]"#.to_owned();
        for written in [&[][..], &[("target_modules", "[query, value]")]] {
            let found = over("lora", written, Architecture::Bert);
            assert_eq!(found, (usual.clone(), String::new()));
            let found = over("dora", written, Architecture::Qwen3);
            assert_eq!(found, (usual.clone(), String::new()));
        }
        let (fused, variant) = over("lora", &[("rank", "4")], Architecture::ModernBert);
        assert_eq!(
            (fused.as_str(), variant.as_str()),
            (r#"["query_key_value"]"#, "rank=4")
        );
        for (architecture, expected) in [
            (
                Architecture::Bert,
                r#"["key","value","attention_output","output"]"#,
            ),
            (Architecture::Llama, r#"["key","value","output"]"#),
            (Architecture::Qwen2, r#"["query","value","output"]"#),
        ] {
            assert_eq!(over("ia3", &[], architecture).0, expected);
        }
    }

    #[test]
    fn a_language_model_has_defaults_of_its_own_and_a_classifier_keeps_its() {
        let none = BTreeMap::new();
        let of = |answer, name: &str, key: &str| {
            let resolved = resolve_for(answer, name, &none).unwrap();
            assert_eq!(resolved.variant, "", "{name}");
            assert!(resolved.config.get("language_model").is_none(), "{name}");
            resolved.config[key].clone()
        };
        let rate = "learning_rate";
        for (name, key, head, words) in [
            ("lora", rate, Value::from(2e-3), Value::from(1e-3)),
            ("adapter", rate, 2e-3.into(), 1e-3.into()),
            ("prompt_tuning", rate, 1e-2.into(), 3e-2.into()),
            (
                "prompt_tuning",
                "init",
                "sampled_vocab".into(),
                "random".into(),
            ),
            ("full", rate, 1e-4.into(), 1e-4.into()),
        ] {
            assert_eq!(of(Answer::TrainedHead, name, key), head, "{name}");
            assert_eq!(of(Answer::LanguageModel, name, key), words, "{name}");
        }
        // What differs from its own default is a variant, and only that.
        let variant = |rate: &str| {
            let written = [("learning_rate".to_owned(), rate.to_owned())].into();
            let resolved = resolve_for(Answer::LanguageModel, "lora", &written).unwrap();
            (resolved.variant.clone(), resolved.optimiser().learning_rate)
        };
        assert_eq!(variant("1e-3"), (String::new(), 1e-3));
        assert_eq!(variant("2e-3"), ("learning_rate=0.002".to_owned(), 2e-3));
        for entry in ALL {
            let head = resolve(entry.name, &none).unwrap().config;
            let words = resolve_for(Answer::LanguageModel, entry.name, &none).unwrap();
            let differ = head.iter().filter(|(k, v)| words.config[*k] != **v).count();
            let declared = of_language_models(entry.name).unwrap();
            assert_eq!(
                differ,
                declared.len(),
                "{}: a default that differs in nothing",
                entry.name
            );
        }
    }

    #[test]
    fn the_ranges_are_no_part_of_a_configuration() {
        for entry in ALL {
            let resolved = resolve(entry.name, &BTreeMap::new()).unwrap();
            assert!(resolved.config.get("search").is_none(), "{}", entry.name);
        }
        let search = [("search".to_owned(), "1".to_owned())].into();
        let message = resolve("lora", &search).unwrap_err().to_string();
        assert!(message.contains("unknown key 'search'"), "{message}");
    }
}
