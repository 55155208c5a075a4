//! The keys of a foreign JSON configuration: each is read, known to change nothing, or refused.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::folders;

/// The keys that have not been read yet.
pub(super) struct Keys {
    path: PathBuf,
    map: Map<String, Value>,
}

impl Keys {
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = folders::read_small(path)?;
        let map = serde_json::from_slice(&bytes)
            .with_context(|| format!("{}: is not a readable JSON object", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            map,
        })
    }

    /// Keys of a map that stands in this file.
    pub fn of(path: &Path, map: Map<String, Value>) -> Self {
        Self {
            path: path.to_owned(),
            map,
        }
    }

    pub fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// Whether the value of a key is this word; the key stays unread.
    pub fn is(&self, key: &str, word: &str) -> bool {
        self.map.get(key).is_some_and(|value| value == word)
    }

    /// The value of a key; nothing if it is missing or null.
    pub fn take<T: DeserializeOwned>(&mut self, key: &str) -> Result<Option<T>> {
        match self.map.shift_remove(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => serde_json::from_value(value.clone())
                .map(Some)
                .map_err(|e| anyhow!(datasets::plain_yaml_error(&e.to_string())))
                .with_context(|| format!("{}: {key}: {value}", self.path.display())),
        }
    }

    /// The keys of a value that is a map itself.
    pub fn inner(&mut self, key: &str) -> Result<Self> {
        let map: Option<Map<String, Value>> = self.take(key)?;
        let map = map.with_context(|| format!("{}: '{key}' is missing", self.path.display()))?;
        Ok(Self::of(&self.path, map))
    }

    /// The keys of each map of a list.
    pub fn list(&mut self, key: &str) -> Result<Vec<Self>> {
        let maps: Option<Vec<Map<String, Value>>> = self.take(key)?;
        let maps = maps.with_context(|| format!("{}: '{key}' is missing", self.path.display()))?;
        Ok(maps
            .into_iter()
            .map(|map| Self::of(&self.path, map))
            .collect())
    }

    /// Refuses a key whose value is none of `accepted`.
    pub fn only(&mut self, key: &str, accepted: &[Value]) -> Result<()> {
        match self.map.shift_remove(key) {
            None | Some(Value::Null) => Ok(()),
            Some(value) => {
                let list: Vec<_> = accepted.iter().map(Value::to_string).collect();
                ensure!(
                    accepted.contains(&value),
                    "{}: {key}: {value} is not supported; supported: {}",
                    self.path.display(),
                    list.join(", ")
                );
                Ok(())
            }
        }
    }

    /// Forgets keys that change nothing when weights are read.
    pub fn without_effect(&mut self, keys: &[&str]) {
        for key in keys {
            self.map.shift_remove(*key);
        }
    }

    /// Refuses what is left, unless its value says that it is not used: null, false or empty.
    pub fn finish(self) -> Result<()> {
        for (key, value) in &self.map {
            let neutral = match value {
                Value::Null | Value::Bool(false) => true,
                Value::String(s) => s.is_empty(),
                Value::Array(a) => a.is_empty(),
                Value::Object(o) => o.is_empty(),
                Value::Bool(true) | Value::Number(_) => false,
            };
            ensure!(
                neutral,
                "{}: key '{key}' with the value {value} is not supported; it may change what is computed, so it is not \
                 ignored",
                self.path.display()
            );
        }
        Ok(())
    }
}
