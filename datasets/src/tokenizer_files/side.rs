//! The small JSON files beside a tokenizer.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use crate::{Error, Result};

/// From this length on transformers takes `model_max_length` for "no limit".
const NO_LIMIT: f64 = 1e20;

/// The largest file that is read whole.
const MAX_FILE: u64 = 1 << 30;

/// One of the small JSON files beside a tokenizer; empty where it is missing.
pub(super) struct Side {
    pub(super) path: PathBuf,
    pub(super) values: Map<String, Value>,
}

impl Side {
    pub(super) fn read(path: PathBuf) -> Result<Self> {
        if !path.exists() {
            return Ok(Self {
                path,
                values: Map::new(),
            });
        }
        let bytes = read_file(&path)?;
        let values = serde_json::from_slice(&bytes).map_err(|e| {
            bad(
                &path,
                format!("is not a JSON object: {e}; fetch or save it again"),
            )
        })?;
        Ok(Self { path, values })
    }

    pub(super) fn wrong(&self, key: &str, value: &Value, accepted: &str) -> Error {
        let value: String = value.to_string().chars().take(80).collect();
        bad(
            &self.path,
            format!("{key}: {value} is not understood; accepted: {accepted}"),
        )
    }

    pub(super) fn boolean(&self, key: &str, default: bool) -> Result<bool> {
        match self.values.get(key) {
            None => Ok(default),
            Some(Value::Bool(value)) => Ok(*value),
            Some(other) => Err(self.wrong(key, other, "true or false")),
        }
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<String>> {
        match self.values.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => Err(self.wrong(key, other, "a text")),
        }
    }

    /// A number of tokens; `None` where there is no limit.
    pub(super) fn length(&self, key: &str) -> Result<Option<usize>> {
        match self.values.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_f64() {
                Some(n) if n > NO_LIMIT => Ok(None),
                Some(n) if n >= 1.0 && n.fract() == 0.0 => Ok(Some(n as usize)),
                _ => Err(self.wrong(key, value, "a number of tokens from 1 on")),
            },
        }
    }
}

/// A file's bytes, if it is an ordinary file and what it says.
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>> {
    let io = |error| Error::Io {
        path: path.to_owned(),
        error,
    };
    let kind = fs::metadata(path).map_err(io)?;
    if !kind.is_file() {
        return Err(bad(path, "is not a regular file".into()));
    }
    if kind.len() > MAX_FILE {
        return Err(bad(path, format!("{} bytes are no tokenizer", kind.len())));
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes))
        .map_err(io)?;
    if bytes.starts_with(b"version https://git-lfs") {
        return Err(bad(
            path,
            "is a Git LFS pointer, not the file itself; run `git lfs pull` in its folder".into(),
        ));
    }
    Ok(bytes)
}

pub(super) fn bad(path: &Path, message: String) -> Error {
    Error::Tokenizer {
        path: path.to_owned(),
        message,
    }
}
