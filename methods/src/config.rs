//! From YAML defaults and overrides to a checked configuration.
//!
//! A method's YAML lists every key with its default, so the known keys are the YAML's own. Two keys belong
//! to the optimiser and exist for every method: `learning_rate` and `weight_decay`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Error, Result, registry};

/// The optimiser keys that a method may set for itself.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Optimiser {
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
}

/// A method with its configuration, every key resolved.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The method's registry entry.
    pub entry: &'static registry::Entry,
    /// All keys of the method's YAML with their values.
    pub config: Value,
    /// The overrides that differ from the defaults, as `key=value, …`; empty for the defaults.
    pub variant: String,
}

impl Resolved {
    /// The keys that belong to the optimiser.
    pub fn optimiser(&self) -> Optimiser {
        let number = |key: &str| self.config[key].as_f64().unwrap_or_default();
        Optimiser {
            learning_rate: number("learning_rate"),
            weight_decay: number("weight_decay"),
        }
    }

    /// The keys that belong to the method itself.
    pub fn structure(&self) -> Value {
        let mut map = self.config.as_object().cloned().unwrap_or_default();
        map.remove("learning_rate");
        map.remove("weight_decay");
        Value::Object(map)
    }
}

/// Resolves a method's configuration: its defaults with `overrides` (values as written, in YAML).
///
/// # Errors
/// If the method or a key is unknown (the message lists the known ones) or a value has the wrong type.
pub fn resolve(method: &str, overrides: &BTreeMap<String, String>) -> Result<Resolved> {
    let values = overrides
        .iter()
        .map(|(key, text)| {
            let value: Value = serde_yaml::from_str(text).map_err(|e| Error::Config {
                method: method.to_owned(),
                what: format!("{key}: '{text}' is not a YAML value: {e}"),
            })?;
            Ok((key.clone(), value))
        })
        .collect::<Result<Map<_, _>>>()?;
    resolve_values(method, values)
}

/// As [`resolve`], with values that have been parsed.
///
/// # Errors
/// As [`resolve`].
pub fn resolve_values(method: &str, overrides: Map<String, Value>) -> Result<Resolved> {
    let entry = registry::entry(method)?;
    let bad = |what: String| Error::Config {
        method: method.to_owned(),
        what,
    };
    let defaults: Map<String, Value> =
        serde_yaml::from_str(entry.yaml).map_err(|e| bad(e.to_string()))?;
    let mut resolved = Resolved {
        entry,
        config: Value::Object(defaults.clone()),
        variant: String::new(),
    };
    check_types(&resolved)?;
    let mut variant = Vec::new();
    for (key, value) in overrides {
        let Some(default) = defaults.get(&key) else {
            let known: Vec<_> = defaults.keys().map(String::as_str).collect();
            return Err(bad(format!(
                "unknown key '{key}'; known: {}",
                known.join(", ")
            )));
        };
        if *default != value {
            variant.push(format!("{key}={}", plain(&value)));
        }
        resolved.config[&key] = value.clone();
        check_types(&resolved).map_err(|e| bad(format!("{key}: {}: {e}", plain(&value))))?;
    }
    resolved.variant = variant.join(", ");
    Ok(resolved)
}

fn check_types(resolved: &Resolved) -> Result<()> {
    let bad = |what: String| Error::Config {
        method: resolved.entry.name.to_owned(),
        what,
    };
    let optimiser: Optimiser =
        serde_json::from_value(resolved.config.clone()).map_err(|e| bad(e.to_string()))?;
    if !(optimiser.learning_rate > 0.0 && optimiser.learning_rate.is_finite()) {
        return Err(bad(format!(
            "learning_rate {} must be above 0",
            optimiser.learning_rate
        )));
    }
    if !(0.0..1.0).contains(&optimiser.weight_decay) {
        return Err(bad(format!(
            "weight_decay {} must be in 0 … 1",
            optimiser.weight_decay
        )));
    }
    (resolved.entry.parse)(resolved.structure()).map_err(bad)
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(s) => s.clone(),
        Value::Array(items) => format!(
            "[{}]",
            items.iter().map(plain).collect::<Vec<_>>().join(",")
        ),
        other => other.to_string(),
    }
}
