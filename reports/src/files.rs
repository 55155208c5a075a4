//! Files of a folder of records beside the records: where they are, and how they are read and written.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use record::write_whole;
use serde::{Serialize, de::DeserializeOwned};

use crate::{Error, Result, figures::Plot};

/// Writes a value as JSON into a folder, whole or not at all.
pub(crate) fn write_json(folder: &Path, name: &str, value: &impl Serialize) -> Result<PathBuf> {
    let path = folder.join(name);
    let mut json = serde_json::to_vec_pretty(value)?;
    json.push(b'\n');
    write_whole(&path, &json)?;
    Ok(path)
}

/// The value in a JSON file of a folder; `None` where there is no such file.
pub(crate) fn read_json<T: DeserializeOwned>(folder: &Path, name: &str) -> Result<Option<T>> {
    let path = folder.join(name);
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

/// The files of a report, each written whole or not at all.
pub(crate) struct Files<'a> {
    folder: &'a Path,
    /// Those that were written.
    pub(crate) paths: Vec<PathBuf>,
}

impl<'a> Files<'a> {
    pub(crate) fn new(folder: &'a Path) -> Self {
        let paths = Vec::new();
        Self { folder, paths }
    }

    pub(crate) fn write(&mut self, name: &str, content: impl AsRef<[u8]>) -> Result<()> {
        let path = self.folder.join(name);
        write_whole(&path, content.as_ref())?;
        self.paths.push(path);
        Ok(())
    }

    /// Plots in every format, each named after what they are of.
    pub(crate) fn plots(&mut self, of: &str, plots: &[Plot]) -> Result<()> {
        for plot in plots {
            for (ending, content) in plot.files()? {
                self.write(&format!("{of}-{}.{ending}", plot.name), content)?;
            }
        }
        Ok(())
    }
}

/// Folders at most three levels below `folder` (`…/DATASET/studies/NAME`) that hold a file of this name.
pub(crate) fn folders_with(folder: &Path, name: &str) -> Result<Vec<PathBuf>> {
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
    Ok(found)
}
