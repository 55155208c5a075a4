//! Files of a folder of records beside the records: where they are, and how they are written.

use std::{
    fs,
    path::{Path, PathBuf},
};

use record::write_whole;
use serde::Serialize;

use crate::Result;

/// Writes a value as JSON into a folder, whole or not at all.
pub(crate) fn write_json(folder: &Path, name: &str, value: &impl Serialize) -> Result<PathBuf> {
    let path = folder.join(name);
    let mut json = serde_json::to_vec_pretty(value)?;
    json.push(b'\n');
    write_whole(&path, &json)?;
    Ok(path)
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
