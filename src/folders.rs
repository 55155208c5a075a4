//! Where the files of a comparison stand.

use std::{
    hash::{BuildHasher, RandomState},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

/// In a folder of weights: the configuration of an adapter, in the schema of PEFT or of AdapterHub.
pub const ADAPTER_CONFIG: &str = "adapter_config.json";

/// Folder of a run's weights.
pub fn weights_folder(out: &Path, id: &str) -> PathBuf {
    out.join("weights").join(id)
}

/// Folder of the records.
pub fn records_folder(out: &Path) -> PathBuf {
    out.join("records")
}

/// In a folder of records: what tells it from another folder that stands under the same path on another machine.
const MARK: &str = ".folder";

/// The mark of a folder of records, made where there is none: a random name in a file. Of many who mark it one succeeds.
///
/// # Errors
/// If the folder cannot be written.
pub fn mark(records: &Path) -> Result<String> {
    record::files::write_new(&records.join(MARK), format!("{}\n", nonce()).as_bytes())?;
    mark_of(records).with_context(|| format!("{}: cannot be read", records.join(MARK).display()))
}

/// The mark that a folder of records has, if it has one.
pub fn mark_of(records: &Path) -> Option<String> {
    let bytes = record::files::read(&records.join(MARK)).ok()?;
    Some(String::from_utf8(bytes).ok()?.trim().to_owned())
}

/// A random name that nobody else has.
pub fn nonce() -> String {
    // Every state has keys of its own, drawn from the system's randomness.
    format!("{:016x}", RandomState::new().hash_one(std::process::id()))
}

/// A folder that is to be made may be no file, nor lie in one; `option` is what names it.
///
/// # Errors
/// If it is, or does.
pub fn check_no_file(folder: &Path, option: &str) -> Result<()> {
    if let Some(other) = folder
        .ancestors()
        .find(|part| part.exists() && !part.is_dir())
    {
        anyhow::bail!(
            "{}: {} is there already and is not a folder; choose another folder with {option}",
            folder.display(),
            other.display()
        );
    }
    Ok(())
}

/// Finds out whether a folder can be written, before any work is done for it; `option` is what names it.
///
/// # Errors
/// If it cannot be made or written.
pub fn check_writable(folder: &Path, option: &str) -> Result<()> {
    check_no_file(folder, option)?;
    // Two processes may try the same folder at the same time.
    let probe = folder.join(format!(".writable-{}", nonce()));
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&probe, []))
        .and_then(|()| std::fs::remove_file(&probe))
        .with_context(|| {
            format!(
                "{}: cannot be written; choose another folder with {option}",
                folder.display()
            )
        })
}

/// A folder that is written must not mix with what is there.
///
/// # Errors
/// If the folder has files, or is a file.
pub fn check_empty(folder: &Path) -> Result<()> {
    let used = std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    ensure!(
        !used && !folder.is_file(),
        "--out {}: it is there already; name a new folder",
        folder.display()
    );
    Ok(())
}

/// The largest configuration that is read, in bytes.
const LARGEST: u64 = 64 << 20;

/// The bytes of a configuration, which may be a stranger's.
///
/// # Errors
/// If it is not there, is no regular file or is larger than any configuration; the message names it.
pub fn read_small(path: &Path) -> Result<Vec<u8>> {
    Ok(sources::read_whole(path, LARGEST)?)
}
