//! What can go wrong in this crate.

use std::path::PathBuf;

/// Everything that can go wrong while records are stored, read or reported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be written, or records could not be read.
    #[error(transparent)]
    Record(#[from] record::Error),
    /// What a study or a search was asked cannot be read.
    #[error("{}: {problem}; run the command again that wrote it", .path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The claims' YAML is not valid.
    #[error("claims: {0}")]
    Claims(String),
    /// A table could not be made.
    #[error("cannot make the table")]
    Table(#[from] polars::error::PolarsError),
    /// A table could not be written as CSV.
    #[error("cannot write as CSV")]
    Csv(#[from] csv::Error),
    /// A value could not be turned into JSON.
    #[error("cannot write as JSON")]
    Json(#[from] serde_json::Error),
    /// A plot could not be drawn.
    #[error("cannot draw the plot `{plot}`: {problem}")]
    Plot {
        /// Name of the plot.
        plot: String,
        /// What the drawing library said.
        problem: String,
    },
    /// The page could not be made.
    #[error("cannot make the page")]
    Page(#[from] minijinja::Error),
}

/// Result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;
