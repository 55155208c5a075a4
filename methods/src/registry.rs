//! All methods. A new one is a file, a YAML and one line here.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::{
    Error, Result, adapter, bitfit, combine, compacter,
    config::{self, Range, Resolved, Written},
    dora,
    entry::{Entry, find},
    full, head_only, ia3, layer_norm, linear_probe, lora, majority, p_tuning, prefix_tuning,
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
    let entry = entry(method)?;
    config::resolve(entry, ALL, config::values(entry, overrides)?)
}

/// As [`resolve`], with values that have been parsed.
///
/// # Errors
/// As [`resolve`].
pub fn resolve_values(method: &str, overrides: Map<String, Value>) -> Result<Resolved> {
    config::resolve(entry(method)?, ALL, overrides)
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
