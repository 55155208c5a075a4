//! Records of a folder, of a comparison, or of all comparisons below a folder.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use record::{RunRecord, store};

/// Reads the records of a folder, or of a comparison's folder, or of all comparisons below it.
///
/// # Errors
/// If the folder is not there or a file in it cannot be read. A damaged record is skipped with a note.
pub fn read(folder: &Path) -> Result<Vec<RunRecord>> {
    ensure!(
        folder.is_dir(),
        "{}: no such folder; run peftbench compare first, or name --records",
        folder.display()
    );
    let below = std::fs::read_dir(folder)
        .with_context(|| folder.display().to_string())?
        .flatten()
        .map(|entry| entry.path().join("records"));
    let mut folders: Vec<PathBuf> = std::iter::once(folder.join("records"))
        .chain(below)
        .filter(|f| f.is_dir())
        .collect();
    folders.sort();
    // Only a folder of records itself: a comparison's own folder holds other JSON files, and so does that of a study alone.
    if folders.is_empty() && !folder.join("studies").is_dir() {
        folders.push(folder.to_owned());
    }
    let mut records = Vec::new();
    for folder in &folders {
        let read = store::read_dir(folder)?;
        for problem in &read.damaged {
            eprintln!("note: {problem}");
        }
        records.extend(read.records);
    }
    Ok(records)
}
