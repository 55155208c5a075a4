//! Formats of data files.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Comma-separated values; a field may be quoted with `"`.
    Csv,
    /// Tab-separated values; fields may be quoted as in CSV. Where quotes do not enclose fields they are text.
    Tsv,
    /// One JSON object per line.
    Jsonl,
    /// Apache Parquet.
    Parquet,
    /// One text per line and nothing else; for prediction only.
    Lines,
    /// One token with its tags on each line, a blank line after each sentence (CoNLL's shared tasks); a row is a sentence,
    /// and its columns are lists.
    Conll,
    /// A sentence on each line, each word with its tag behind a slash: `word/tag word/tag`. The columns are `tokens` and `tags`.
    Tagged,
}

impl Format {
    /// The format that a file's extension says.
    ///
    /// # Errors
    /// If the extension is none that is known.
    pub fn of(path: &Path) -> Result<Self> {
        match extension(path).as_str() {
            "csv" => Ok(Format::Csv),
            "tsv" | "tab" => Ok(Format::Tsv),
            "jsonl" | "ndjson" | "json" => Ok(Format::Jsonl),
            "parquet" => Ok(Format::Parquet),
            "conll" | "bio" | "iob" | "iob2" => Ok(Format::Conll),
            other => Err(Error::Format {
                path: path.to_owned(),
                message: format!(
                    "extension '{other}' is no known format; accepted: .csv, .tsv, .jsonl, .ndjson, .json, .conll, .parquet (all but the last also as .gz), or a \
                     .yaml that describes the data set and names its `format`"
                ),
            }),
        }
    }
}

/// The extension of a file's name in small letters, that of what is inside for a `.gz`.
pub(crate) fn extension(path: &Path) -> String {
    let of = |path: &Path| {
        path.extension()
            .unwrap_or_default()
            .to_string_lossy()
            .to_lowercase()
    };
    match (of(path).as_str(), path.file_stem()) {
        ("gz", Some(inside)) => of(Path::new(inside)),
        (other, _) => other.to_owned(),
    }
}
