//! Which modules PEFT changes: its rules for names, patterns and layers.

use anyhow::{Context, Result, bail};
use fancy_regex::Regex;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::super::keys::Keys;

/// A list of names, one name, or a pattern.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    pub(super) fn list(self) -> Vec<T> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

/// Modules by PEFT's rules.
pub(super) enum Modules {
    AllLinear,
    /// A regular expression for the whole path.
    Pattern(Regex),
    /// The path is an entry, or ends with a dot and an entry.
    Names(Vec<String>),
}

impl Modules {
    pub(super) fn new(value: OneOrMany<String>) -> Result<Self> {
        Ok(match value {
            OneOrMany::One(word) if word.eq_ignore_ascii_case("all-linear") => Self::AllLinear,
            OneOrMany::One(pattern) => Self::Pattern(whole(&pattern)?),
            OneOrMany::Many(names) => Self::Names(names),
        })
    }

    pub(super) fn matches(&self, path: &str) -> Result<bool> {
        match self {
            // transformers' name for a head is not a target; parts of RoBERTa's are kept out by modules_to_save.
            Self::AllLinear => Ok(path != "classifier" && path != "score"),
            Self::Pattern(pattern) => is_match(pattern, path),
            Self::Names(names) => Ok(names.iter().any(|name| {
                path == name
                    || path
                        .strip_suffix(name.as_str())
                        .is_some_and(|rest| rest.ends_with('.'))
            })),
        }
    }
}

/// A pattern of a stranger's; one that backtracks without end is given up by the library and is an error then.
pub(super) fn regex(pattern: &str) -> Result<Regex> {
    Regex::new(pattern).with_context(|| format!("the regular expression '{pattern}'"))
}

/// A pattern for whole paths.
pub(super) fn whole(pattern: &str) -> Result<Regex> {
    regex(&format!(r"\A(?:{pattern})\z"))
}

fn is_match(pattern: &Regex, text: &str) -> Result<bool> {
    pattern
        .is_match(text)
        .with_context(|| format!("the regular expression '{pattern}' on '{text}'"))
}

/// Which modules PEFT changes.
pub(super) struct Rules {
    pub(super) target: Modules,
    pub(super) exclude: Option<Modules>,
    /// Modules that are saved whole are never changed.
    pub(super) saved: Vec<Regex>,
    /// Only layers of these numbers, found by these patterns.
    pub(super) layers: Option<(Vec<usize>, Vec<Regex>)>,
}

impl Rules {
    pub(super) fn read(keys: &mut Keys, modules_to_save: &[String]) -> Result<Self> {
        let target = keys.take("target_modules")?.context(
            "target_modules is missing: the library writes the names it found for its defaults",
        )?;
        let exclude: Option<OneOrMany<String>> = keys.take("exclude_modules")?;
        let numbers: Option<OneOrMany<usize>> = keys.take("layers_to_transform")?;
        let patterns: Option<OneOrMany<String>> = keys.take("layers_pattern")?;
        let target = Modules::new(target)?;
        let numbers = numbers.map(OneOrMany::list).filter(|n| !n.is_empty());
        if numbers.is_some() && !matches!(target, Modules::Names(_)) {
            bail!("layers_to_transform goes with a list of target_modules only");
        }
        let patterns: Vec<String> = patterns.map(OneOrMany::list).unwrap_or_default();
        let layers = match (numbers, patterns.is_empty()) {
            (None, _) => None,
            (Some(numbers), true) => Some((numbers, vec![regex(r"\A.*?\.[^.]*\.(?P<idx>\d+)\.")?])),
            (Some(numbers), false) => {
                let patterns = patterns
                    .iter()
                    .map(|p| regex(&format!(r"\A(?:^|.*?\.){p}\.(?P<idx>\d+)\.")));
                Some((numbers, patterns.collect::<Result<_>>()?))
            }
        };
        Ok(Self {
            target,
            exclude: exclude.map(Modules::new).transpose()?,
            saved: modules_to_save
                .iter()
                .map(|m| regex(&format!(r"\A(?:^|.*\.){m}(?:$|\..*)")))
                .collect::<Result<_>>()?,
            layers,
        })
    }

    pub(super) fn matches(&self, path: &str) -> Result<bool> {
        if let Some(exclude) = &self.exclude
            && exclude.matches(path)?
        {
            return Ok(false);
        }
        for saved in &self.saved {
            if is_match(saved, path)? {
                return Ok(false);
            }
        }
        if !self.target.matches(path)? {
            return Ok(false);
        }
        // A module that is named by its whole path needs no layer number.
        if let Modules::Names(names) = &self.target
            && names.iter().any(|name| name == path)
        {
            return Ok(true);
        }
        let Some((numbers, patterns)) = &self.layers else {
            return Ok(true);
        };
        for pattern in patterns {
            let found = pattern
                .captures(path)
                .with_context(|| format!("layers_pattern '{pattern}'"))?;
            if let Some(index) = found.and_then(|c| c.name("idx")?.as_str().parse().ok()) {
                return Ok(numbers.contains(&index));
            }
        }
        Ok(false)
    }
}

/// Values by pattern: the first key that matches a path's end, whole segments of it, wins.
pub(super) struct Patterns<T>(Vec<(Regex, T)>);

impl<T: Copy> Patterns<T> {
    pub(super) fn read(keys: &mut Keys, key: &str) -> Result<Self>
    where
        T: serde::de::DeserializeOwned,
    {
        // Order counts, so the map must keep it.
        let map: Map<String, Value> = keys.take(key)?.unwrap_or_default();
        let values = map.into_iter().map(|(pattern, value)| {
            let number = serde_json::from_value(value.clone())
                .with_context(|| format!("{key}: {pattern}: {value}"))?;
            Ok((regex(&format!(r"\A(?:.*\.)?(?:{pattern})\z"))?, number))
        });
        Ok(Self(values.collect::<Result<_>>()?))
    }

    pub(super) fn get(&self, path: &str) -> Result<Option<T>> {
        for (pattern, value) in &self.0 {
            if is_match(pattern, path)? {
                return Ok(Some(*value));
            }
        }
        Ok(None)
    }
}
