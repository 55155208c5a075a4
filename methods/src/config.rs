//! From YAML defaults and overrides to a checked configuration.
//!
//! A method's YAML lists every key with its default, so the known keys are the YAML's own. Two keys belong
//! to the optimiser and exist for every method: `learning_rate` and `weight_decay`. One key is no part of the
//! configuration: `search`, the [`Range`]s from which a random search draws.

use std::collections::BTreeMap;

use rand::Rng;
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

/// Where a random search looks for a key's value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Range {
    /// One of these values, each as likely.
    Choice(Vec<Value>),
    /// Evenly between two numbers.
    Uniform([f64; 2]),
    /// Evenly between the logarithms of two numbers: as likely in each decade.
    LogUniform([f64; 2]),
}

impl Range {
    /// A value from it. Numbers have three significant digits: nobody tells more apart.
    pub fn draw(&self, rng: &mut impl Rng) -> Value {
        match self {
            Self::Choice(values) => values[rng.random_range(0..values.len())].clone(),
            Self::Uniform([low, high]) => three_digits(rng.random_range(*low..=*high)),
            Self::LogUniform([low, high]) => three_digits(
                rng.random_range(low.ln()..=high.ln())
                    .exp()
                    .clamp(*low, *high),
            ),
        }
    }

    /// The values that must be acceptable if all are: both ends, or every choice.
    fn extremes(&self) -> std::result::Result<Vec<Value>, String> {
        match self {
            Self::Choice(values) if values.is_empty() => Err("choice: name at least one".into()),
            Self::Choice(values) => Ok(values.clone()),
            Self::Uniform(ends) | Self::LogUniform(ends) => {
                let [low, high] = *ends;
                let positive = low > 0.0 || matches!(self, Self::Uniform(_));
                if !(low < high && high.is_finite() && positive) {
                    return Err(format!(
                        "[{low}, {high}] must be two numbers, the smaller first; both above 0 for log_uniform"
                    ));
                }
                Ok(vec![low.into(), high.into()])
            }
        }
    }
}

fn three_digits(x: f64) -> Value {
    // Through the decimal text, so that the value is the nearest one to what is printed.
    format!("{x:.2e}").parse().unwrap_or(x).into()
}

/// The ranges that a method's YAML declares under `search`, by key; empty where it declares none.
///
/// # Errors
/// If the method is unknown, or a range names an unknown key or a value that the method does not take.
pub fn search(method: &str) -> Result<BTreeMap<String, Range>> {
    let entry = registry::entry(method)?;
    let ranges = declared(entry)?.1;
    for (key, range) in &ranges {
        let bad = |what: String| Error::Config {
            method: method.to_owned(),
            what: format!("search: {key}: {what}"),
        };
        for value in range.extremes().map_err(bad)? {
            resolve_values(method, Map::from_iter([(key.clone(), value)]))
                .map_err(|e| bad(e.to_string()))?;
        }
    }
    Ok(ranges)
}

/// The defaults of a method's YAML, and its ranges.
fn declared(entry: &registry::Entry) -> Result<(Map<String, Value>, BTreeMap<String, Range>)> {
    let bad = |what: String| Error::Config {
        method: entry.name.to_owned(),
        what,
    };
    let mut defaults: Map<String, Value> =
        serde_yaml::from_str(entry.yaml).map_err(|e| bad(e.to_string()))?;
    let ranges = match defaults.remove("search") {
        None => BTreeMap::new(),
        Some(ranges) => serde_json::from_value(ranges).map_err(|e| bad(format!("search: {e}")))?,
    };
    Ok((defaults, ranges))
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
    let defaults = declared(entry)?.0;
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn every_range_that_a_method_declares_is_acceptable_and_every_draw_resolves() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for entry in registry::ALL {
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
    fn the_ranges_are_no_part_of_a_configuration() {
        for entry in registry::ALL {
            let resolved = resolve(entry.name, &BTreeMap::new()).unwrap();
            assert!(resolved.config.get("search").is_none(), "{}", entry.name);
        }
        let search = [("search".to_owned(), "1".to_owned())].into();
        let message = resolve("lora", &search).unwrap_err().to_string();
        assert!(message.contains("unknown key 'search'"), "{message}");
    }

    #[test]
    fn a_log_uniform_draw_is_as_likely_in_each_decade_and_stays_inside() {
        let range = Range::LogUniform([1e-4, 1e-2]);
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let drawn: Vec<f64> = (0..4000)
            .map(|_| range.draw(&mut rng).as_f64().unwrap())
            .collect();
        assert!(drawn.iter().all(|x| (1e-4..=1e-2).contains(x)));
        let low = drawn.iter().filter(|x| **x < 1e-3).count();
        // 2,000 expected; five standard deviations of a binomial are 158.
        assert!((1842..2158).contains(&low), "{low}");
    }

    #[test]
    fn a_range_that_is_none_is_refused() {
        for range in [
            Range::Choice(vec![]),
            Range::Uniform([2.0, 1.0]),
            Range::LogUniform([0.0, 1.0]),
            Range::Uniform([0.0, f64::INFINITY]),
        ] {
            assert!(range.extremes().is_err(), "{range:?}");
        }
    }
}
