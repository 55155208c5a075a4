//! What can go wrong while records are stored and read.

use std::path::PathBuf;

/// Everything that can go wrong while records are stored and read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be written.
    #[error("cannot write {}; {}", .path.display(), remedy(.source))]
    Write {
        /// What was to be written.
        path: PathBuf,
        /// Why the system refused.
        source: std::io::Error,
    },
    /// A folder of records could not be read.
    #[error("cannot read the records in {}; give a folder that `compare` or `train` wrote with --out", .path.display())]
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
        .path.display(), crate::FORMAT
    )]
    Format {
        /// The record's file.
        path: PathBuf,
        /// The format found in it.
        found: String,
    },
    /// A record cannot be stored because it contradicts itself.
    #[error("record {id} cannot be stored: {problem}")]
    Inconsistent {
        /// The record's id.
        id: String,
        /// Field and problem.
        problem: String,
    },
    /// A value could not be turned into JSON.
    #[error("cannot write as JSON")]
    Json(#[from] serde_json::Error),
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
        InvalidFilename => "the name is too long for this file system; choose a shorter one",
        _ => "choose another folder with --out, or try again",
    }
}
