//! What can go wrong in this crate.

use std::path::PathBuf;

/// Everything that can go wrong while records are stored, read or reported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be written.
    #[error("cannot write {}: {source}; {}", .path.display(), remedy(.source))]
    Write {
        /// What was to be written.
        path: PathBuf,
        /// Why the system refused.
        source: std::io::Error,
    },
    /// A folder of records could not be read.
    #[error("cannot read the records in {}: {source}; give a folder that `compare` or `train` wrote with --out", .path.display())]
    Read {
        /// The folder.
        path: PathBuf,
        /// Why the system refused.
        source: std::io::Error,
    },
    /// A record has a format that this version does not know.
    #[error(
        "{}: record format {found}, but this version of peftbench reads format {}; \
         use the version that wrote it, or move the file away and run again",
        .path.display(), crate::record::FORMAT
    )]
    Format {
        /// The record's file.
        path: PathBuf,
        /// The format found in it.
        found: String,
    },
    /// What a study or a search was asked cannot be read.
    #[error("{}: {problem}; run the command again that wrote it", .path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A record cannot be stored because it contradicts itself.
    #[error("record {id} cannot be stored: {problem}")]
    Inconsistent {
        /// The record's id.
        id: String,
        /// Field and problem.
        problem: String,
    },
    /// The claims' YAML is not valid.
    #[error("claims: {0}")]
    Claims(String),
    /// No record at all where at least one is needed.
    #[error(
        "there are no records to report; run `peftbench compare DATASET` first, or name their folder with --records"
    )]
    NoRecords,
    /// A table could not be made.
    #[error("cannot make the table: {0}")]
    Table(#[from] polars::error::PolarsError),
    /// A value could not be turned into JSON.
    #[error("cannot write as JSON: {0}")]
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
    #[error("cannot make the page: {0:#}")]
    Page(#[from] minijinja::Error),
}

/// Result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What the user can do about a failed write.
fn remedy(error: &std::io::Error) -> &'static str {
    use std::io::ErrorKind::*;
    match error.kind() {
        StorageFull | QuotaExceeded => {
            "free some space or choose another folder with --out; nothing written before is lost"
        }
        ReadOnlyFilesystem | PermissionDenied => "choose a folder that can be written with --out",
        NotADirectory | AlreadyExists => {
            "a file stands where a folder is needed; choose another folder with --out"
        }
        _ => "choose another folder with --out, or try again",
    }
}
