//! Files of the cache.

use std::path::Path;
use std::{fs, io};

use crate::{Error, Result};

/// Its length in bytes; 0 if it is not there.
pub(crate) fn length(file: &Path) -> u64 {
    fs::metadata(file).map_or(0, |metadata| metadata.len())
}

/// Removes it if it is there.
pub(crate) fn remove(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(reason) if reason.kind() != io::ErrorKind::NotFound => Err(cannot_write(file, reason)),
        _ => Ok(()),
    }
}

pub(crate) fn cannot_write(path: &Path, reason: io::Error) -> Error {
    Error::Cache {
        path: path.to_path_buf(),
        reason,
    }
}
