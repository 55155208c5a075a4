//! From YAML defaults and overrides to a checked configuration.
//!
//! A method's YAML lists every key with its default, so the known keys are the YAML's own. Two keys belong
//! to the optimiser and exist for every method: `learning_rate` and `weight_decay`. Two keys are no part of the
//! configuration: `search`, the [`Range`]s from which a random search draws, and `language_model`, the defaults that differ
//! where a language model answers with its own words.

use std::{collections::BTreeMap, sync::Arc};

use backbone::Backbone;
use candle_core::Tensor;
use rand::Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    Error, PeftMethod, Result,
    entry::{Building, Context, Entry, MethodConfig, Vocabulary},
    parameters::Builder,
};

/// The optimiser keys that a method may set for itself.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Optimiser {
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
}

/// What turns a hidden state into an answer. The defaults of some methods depend on it: rates and starts that suit an encoder
/// under a new classifier do not suit a language model that is asked for its own words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answer {
    /// A head that is trained with the method.
    #[default]
    TrainedHead,
    /// The language model's own output matrix, which is frozen.
    LanguageModel,
}

/// A method with its configuration: every key resolved, and checked as far as that can be done without a backbone.
///
/// It is written down as its name and what is set over the defaults, and checked again when it is read.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(into = "Written", try_from = "Written")]
pub struct Resolved {
    /// The method's registry entry.
    pub entry: &'static Entry,
    /// All keys of the method's YAML with their values.
    pub config: Map<String, Value>,
    /// The overrides that differ from the defaults, as `key=value, …`; empty for the defaults.
    pub variant: String,
    overrides: Map<String, Value>,
    optimiser: Optimiser,
    structure: Arc<dyn MethodConfig>,
}

/// A method by its name, with what is set over its defaults.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Written {
    /// The method's name.
    pub method: String,
    /// What is set, by key.
    #[serde(default)]
    pub overrides: Map<String, Value>,
}

impl From<Resolved> for Written {
    fn from(resolved: Resolved) -> Self {
        Self {
            method: resolved.entry.name.to_owned(),
            overrides: resolved.overrides,
        }
    }
}

impl PartialEq for Resolved {
    fn eq(&self, other: &Self) -> bool {
        self.entry.name == other.entry.name
            && self.overrides == other.overrides
            && self.config == other.config
    }
}

impl Resolved {
    /// What is set over the defaults, by key.
    pub fn overrides(&self) -> &Map<String, Value> {
        &self.overrides
    }

    /// The keys that belong to the optimiser.
    pub fn optimiser(&self) -> Optimiser {
        self.optimiser
    }

    /// Version of what the method computes, its parts' included: it is raised whenever a change gives a run of the same
    /// seed other numbers.
    pub fn numerics(&self) -> u32 {
        self.entry.numerics + self.structure.numerics()
    }

    /// The number of trained parameters over a backbone. Nothing is allocated for it, so that it can be compared with
    /// memory beforehand: it may be beyond all memory.
    ///
    /// # Errors
    /// As [`Resolved::check`].
    pub fn parameters(&self, backbone: &Backbone) -> Result<f64> {
        let count = self.structure.parameters(backbone);
        count.map_err(|what| bad(self.entry, what))
    }

    /// The same with the keys that the backbone's family decides: what a record says then is what is trained.
    #[must_use]
    pub fn over(&self, backbone: &backbone::Config) -> Self {
        let mut resolved = self.clone();
        let choice = self.family_choice(backbone);
        for (key, value) in self.structure.of_family(backbone) {
            let open = resolved.config.get(&key).is_none_or(Value::is_null);
            if open {
                resolved.config.insert(key, value);
            } else if choice.get(&key) == Some(&value) {
                // Who writes what the family has chosen has written the default.
                let written = format!("{key}={}", plain(&value));
                let parts = resolved.variant.split(", ").filter(|part| *part != written);
                resolved.variant = parts.collect::<Vec<_>>().join(", ");
            }
        }
        resolved
    }

    /// What the family decides of the method's defaults.
    fn family_choice(&self, backbone: &backbone::Config) -> Map<String, Value> {
        let defaults = declared(self.entry).map_err(|e| e.to_string());
        let structure = defaults.and_then(|declared| parse(self.entry, &[], &declared.defaults));
        structure.map_or(Map::new(), |(_, structure)| structure.of_family(backbone))
    }

    /// The keys that the backbone's family decides.
    pub(crate) fn of_family(&self, backbone: &backbone::Config) -> Map<String, Value> {
        self.structure.of_family(backbone)
    }

    /// Checks the configuration against the sizes of a backbone, without building anything.
    ///
    /// # Errors
    /// With the key, the value and what would be accepted.
    pub fn check(&self, backbone: &backbone::Config) -> Result<()> {
        let checked = self.structure.check(backbone);
        checked.map_err(|what| bad(self.entry, what))
    }

    /// Builds the method at its start.
    ///
    /// # Errors
    /// As [`Resolved::check`], or if a tensor operation fails.
    pub fn build(&self, context: &mut Context<'_>) -> Result<Box<dyn PeftMethod>> {
        let tensors = Builder::start(context.rng);
        self.build_from(context.backbone, tensors, Some(context.words))
    }

    /// Builds the method from what [`PeftMethod::shipped`] gave, to predict with it: its tensors are frozen, and what
    /// can be computed from them once is computed here.
    ///
    /// # Errors
    /// As [`Resolved::check`], or if a tensor is missing, misshapen or of no use; the message names it.
    pub fn load(
        &self,
        backbone: &Backbone,
        tensors: BTreeMap<String, Tensor>,
    ) -> Result<Box<dyn PeftMethod>> {
        self.build_from(backbone, Builder::saved(tensors), None)
    }

    fn build_from(
        &self,
        backbone: &Backbone,
        mut tensors: Builder<'_>,
        words: Option<&dyn Vocabulary>,
    ) -> Result<Box<dyn PeftMethod>> {
        self.check(backbone.config())?;
        let method = self.build_part(&mut Building {
            method: self.entry.name,
            backbone,
            tensors: &mut tensors,
            words,
        })?;
        tensors.finish()?;
        Ok(method)
    }

    /// Builds it as a part of another method.
    pub(crate) fn build_part(&self, at: &mut Building<'_, '_>) -> Result<Box<dyn PeftMethod>> {
        self.structure.build(at)
    }
}

fn bad(entry: &Entry, what: String) -> Error {
    Error::Config {
        method: entry.name.to_owned(),
        what,
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
pub(crate) fn search(
    entry: &'static Entry,
    known: &'static [Entry],
) -> Result<BTreeMap<String, Range>> {
    let ranges = declared(entry)?.search;
    for (key, range) in &ranges {
        let bad = |what: String| bad(entry, format!("search: {key}: {what}"));
        for value in range.extremes().map_err(bad)? {
            let one = Map::from_iter([(key.clone(), value)]);
            resolve(entry, known, Answer::default(), one).map_err(|e| bad(e.to_string()))?;
        }
    }
    Ok(ranges)
}

/// What a method's YAML says.
struct Declared {
    defaults: Map<String, Value>,
    search: BTreeMap<String, Range>,
    /// Defaults that differ for [`Answer::LanguageModel`].
    language_model: Map<String, Value>,
}

fn declared(entry: &Entry) -> Result<Declared> {
    let bad = |what: String| bad(entry, what);
    let mut defaults: Map<String, Value> =
        serde_yaml::from_str(entry.yaml).map_err(|e| bad(e.to_string()))?;
    let mut part = |key: &str| {
        defaults
            .shift_remove(key)
            .unwrap_or_else(|| Map::new().into())
    };
    let (search, language_model) = (part("search"), part("language_model"));
    let search = serde_json::from_value(search).map_err(|e| bad(format!("search: {e}")))?;
    let language_model: Map<String, Value> =
        serde_json::from_value(language_model).map_err(|e| bad(format!("language_model: {e}")))?;
    if let Some(key) = language_model
        .keys()
        .find(|key| !defaults.contains_key(*key))
    {
        return Err(bad(format!("language_model: unknown key '{key}'")));
    }
    Ok(Declared {
        defaults,
        search,
        language_model,
    })
}

/// The defaults that differ from the others where a language model answers with its own words.
pub(crate) fn of_language_models(entry: &Entry) -> Result<Map<String, Value>> {
    Ok(declared(entry)?.language_model)
}

/// Overrides as they are written, in YAML, as values.
pub(crate) fn values(
    entry: &Entry,
    overrides: &BTreeMap<String, String>,
) -> Result<Map<String, Value>> {
    let values = overrides.iter().map(|(key, text)| {
        let of =
            |e: serde_yaml::Error| bad(entry, format!("{key}: '{text}' is not a YAML value: {e}"));
        let value: serde_yaml::Value = serde_yaml::from_str(text).map_err(of)?;
        // JSON has no such number: it would become null, which means something else.
        if !is_finite(&value) {
            let what = format!("{key}: {text} is not a finite number");
            return Err(bad(entry, what));
        }
        let value = serde_yaml::from_value(value).map_err(of)?;
        Ok((key.clone(), value))
    });
    values.collect()
}

fn is_finite(value: &serde_yaml::Value) -> bool {
    match value {
        serde_yaml::Value::Number(n) => n.as_f64().is_none_or(f64::is_finite),
        serde_yaml::Value::Sequence(items) => items.iter().all(is_finite),
        serde_yaml::Value::Mapping(map) => map.values().all(is_finite),
        _ => true,
    }
}

/// Resolves a method's configuration: its defaults for this kind of answer with `overrides`.
pub(crate) fn resolve(
    entry: &'static Entry,
    known: &'static [Entry],
    answer: Answer,
    overrides: Map<String, Value>,
) -> Result<Resolved> {
    let declared = declared(entry)?;
    let mut config = declared.defaults;
    if answer == Answer::LanguageModel {
        config.extend(declared.language_model);
    }
    // Of a combination the parts decide which keys there are.
    let parts = overrides.get("combine").or(config.get("combine")).cloned();
    let is_part_key = |key: &str| {
        let parts = parts.as_ref().and_then(Value::as_array);
        let part = key.split_once('.').map(|(part, _)| part);
        parts.is_some_and(|parts| parts.iter().any(|p| p.as_str() == part))
    };
    config.retain(|key, _| !key.contains('.') || is_part_key(key));
    let defaults = config.clone();
    let mut variant = Vec::new();
    let mut written = Vec::new();
    let set = overrides.clone();
    for (key, value) in overrides {
        let default = config.get(&key);
        if default.is_none() && !is_part_key(&key) {
            let known: Vec<_> = config.keys().map(String::as_str).collect();
            return Err(bad(
                entry,
                format!("unknown key '{key}'; known: {}", known.join(", ")),
            ));
        }
        if default != Some(&value) {
            variant.push(format!("{key}={}", plain(&value)));
        }
        written.push((key.clone(), plain(&value)));
        config.insert(key, value);
    }
    let parsed = parse(entry, known, &config).map_err(|what| {
        // Whichever key is at fault is named: the first that is wrong with the defaults of the others.
        let alone = written.iter().find_map(|(key, text)| {
            let mut one = defaults.clone();
            one.insert(key.clone(), config[key].clone());
            let what = parse(entry, known, &one).err()?;
            Some(format!("{key}: {text}: {what}"))
        });
        bad(entry, alone.unwrap_or(what))
    });
    let (optimiser, structure) = parsed?;
    Ok(Resolved {
        entry,
        config,
        variant: variant.join(", "),
        overrides: set,
        optimiser,
        structure,
    })
}

fn parse(
    entry: &Entry,
    known: &'static [Entry],
    config: &Map<String, Value>,
) -> std::result::Result<(Optimiser, Arc<dyn MethodConfig>), String> {
    let mut structure = config.clone();
    let mut number = |key: &str| match structure.shift_remove(key) {
        None => Err(format!("{key} is missing")),
        Some(value) => value
            .as_f64()
            .ok_or_else(|| format!("{key}: {} is not a number", plain(&value))),
    };
    let optimiser = Optimiser {
        learning_rate: number("learning_rate")?,
        weight_decay: number("weight_decay")?,
    };
    if !(optimiser.learning_rate > 0.0 && optimiser.learning_rate.is_finite()) {
        return Err(format!(
            "learning_rate {} must be above 0",
            optimiser.learning_rate
        ));
    }
    if !(0.0..1.0).contains(&optimiser.weight_decay) {
        return Err(format!(
            "weight_decay {} must be in 0 … 1",
            optimiser.weight_decay
        ));
    }
    let structure = (entry.parse)(Value::Object(structure), known)?;
    Ok((optimiser, structure))
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
