//! What can go wrong, each with the file, the place in it, the value, and what is accepted.

use std::path::PathBuf;

use crate::Problems;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No data set has this name.
    #[error(
        "unknown data set '{name}'; known: {known}; or name a file of your own by its path (.csv, .tsv, .jsonl, .parquet, .yaml)"
    )]
    UnknownDataset {
        /// The name asked for.
        name: String,
        /// All names.
        known: String,
    },
    /// A data set's YAML is not valid.
    #[error("{file}: {message}")]
    Spec {
        /// The YAML.
        file: String,
        /// The key, its value and what is accepted.
        message: String,
    },
    /// A file cannot be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// A file is not what its format says.
    #[error("{}: {message}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Where and what.
        message: String,
    },
    /// A file has no rows.
    #[error("{}: no rows; write at least one row with a text and a label for each class", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A column is not there.
    #[error("{}: no column {missing}; its columns: {columns}{near} (name others with --text-column and --label-column, or in the YAML)", path.display())]
    MissingColumn {
        /// The file.
        path: PathBuf,
        /// The columns asked for, in quotes.
        missing: String,
        /// The columns there are.
        columns: String,
        /// Those that may be meant, in words, or nothing.
        near: String,
    },
    /// Rows of a file are not good, all of them gathered.
    #[error("{}: {problems}", path.display())]
    Rows {
        /// The file.
        path: PathBuf,
        /// Each kind with its places.
        problems: Problems,
    },
    /// A label column does not hold classes.
    #[error("{}: column '{column}': {why}", path.display())]
    NoClasses {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// What it holds instead, and what to do.
        why: String,
    },
    /// All training examples have the same target.
    #[error("data set '{dataset}': {}: column '{column}': {what}", path.display())]
    Constant {
        /// The data set's name.
        dataset: String,
        /// The file of the training rows.
        path: PathBuf,
        /// The label's column in it.
        column: String,
        /// The only target, and what is needed.
        what: String,
    },
    /// A file has more or fewer rows than its specification says.
    #[error("{}: {rows} rows, but the {split} split of '{dataset}' has {expected}; the file is cut short or another version", path.display())]
    RowCount {
        /// The file.
        path: PathBuf,
        /// The data set.
        dataset: String,
        /// The split.
        split: &'static str,
        /// Rows in the file.
        rows: usize,
        /// Rows in the specification.
        expected: usize,
    },
    /// Too few rows to make a split of.
    #[error(
        "data set '{dataset}': {} are too few to make a {split} split of; add {}, or name a file for validation: --validation \
         FILE, or `splits` of a YAML",
        if texts < rows { format!("{rows} rows with {texts} different texts (a text is in one split only)") } else { format!("{rows} rows") },
        if texts < rows { "rows with other texts" } else { "rows" }
    )]
    TooFewRows {
        /// The data set.
        dataset: String,
        /// The split that would be empty.
        split: &'static str,
        /// Rows there are.
        rows: usize,
        /// Different texts in them.
        texts: usize,
    },
    /// Several files are not good, each with an error of its own.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\nalso: "))]
    Several(Vec<Error>),
    /// A template, words for classes or a prompt cannot be used.
    #[error("{message}")]
    Words {
        /// The key, what is wrong and what to do.
        message: String,
    },
    /// A tokenizer cannot be loaded or fails on a text.
    #[error("{}: {message}", path.display())]
    Tokenizer {
        /// The tokenizer's file.
        path: PathBuf,
        /// What is wrong and what to do.
        message: String,
    },
}

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
