//! Values that are kept as JSON beside the records of a folder: what was asked, declared or measured.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use record::write_whole;
use serde::{Serialize, de::DeserializeOwned};

use crate::{Error, Result};

/// A value that is kept in a file of a folder.
pub trait Kept: Serialize + DeserializeOwned {
    /// Name of the file.
    const FILE: &'static str;

    /// Writes it into a folder, whole or not at all; returns the file.
    ///
    /// # Errors
    /// If that cannot be written.
    fn write(&self, folder: &Path) -> Result<PathBuf> {
        let path = folder.join(Self::FILE);
        let mut json = serde_json::to_vec_pretty(self)?;
        json.push(b'\n');
        write_whole(&path, &json)?;
        Ok(path)
    }

    /// The one in a folder; `None` if it holds none.
    ///
    /// # Errors
    /// If the file is there but not readable.
    fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(Self::FILE);
        match record::files::read(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(record::Error::Read { path, source }.into()),
            Ok(json) => match serde_json::from_slice(&json) {
                Ok(value) => Ok(Some(value)),
                Err(e) => Err(Error::Manifest {
                    path,
                    problem: e.to_string(),
                }),
            },
        }
    }

    /// All below a folder (`…/DATASET/studies/NAME`), by path, each with its folder.
    ///
    /// # Errors
    /// If a file is not readable.
    fn read_below(folder: &Path) -> Result<Vec<(PathBuf, Self)>> {
        let read = |folder: PathBuf| {
            let value = Self::read(&folder).transpose()?;
            Some(value.map(|value| (folder, value)))
        };
        let folders = folders_with(folder, Self::FILE).into_iter();
        folders.filter_map(read).collect()
    }
}

/// Folders at most three levels below `folder` that hold a file of this name.
fn folders_with(folder: &Path, name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut level = vec![folder.to_owned()];
    for _ in 0..4 {
        let mut next = Vec::new();
        for folder in level {
            if folder.join(name).is_file() {
                found.push(folder.clone());
            }
            let Ok(entries) = fs::read_dir(&folder) else {
                continue;
            };
            let below = entries.flatten().map(|e| e.path());
            // Records and weights are many and hold no studies.
            next.extend(
                below.filter(|p| p.is_dir() && !p.ends_with("records") && !p.ends_with("weights")),
            );
        }
        level = next;
    }
    found.sort();
    found
}
