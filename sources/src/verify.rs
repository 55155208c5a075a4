//! Length and sha256 of files, with a memory of what was verified.
//!
//! Hashing the 90 MB of a backbone takes longer than everything else before the first training step, so a file that was
//! right is noted as "this path, this length, this modification time had this sha256", and believed while that holds.

use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};

use crate::spec::Expected;
use crate::{Error, Result};

/// Checks `file`; notes about verified files are kept in the folder `notes`, or not at all if it cannot be written.
pub(crate) fn verify(file: &Path, expected: Expected<'_>, notes: &Path) -> Result<()> {
    let unreadable = |reason| Error::Unreadable {
        file: file.to_path_buf(),
        reason,
    };
    let damaged = |expected, actual| Error::Damaged {
        file: file.to_path_buf(),
        expected,
        actual,
    };
    let metadata = match fs::metadata(file) {
        Ok(metadata) if metadata.is_file() => metadata,
        _ => {
            return Err(Error::Missing {
                file: file.to_path_buf(),
            });
        }
    };
    if let Some(bytes) = expected.bytes
        && bytes != metadata.len()
    {
        return Err(damaged(
            format!("{bytes} bytes"),
            format!("{} bytes", metadata.len()),
        ));
    }
    let Some(sha256) = expected.sha256 else {
        return Ok(());
    };
    let note = Note::new(file, &metadata, sha256, notes);
    if note.as_ref().is_some_and(Note::holds) {
        return Ok(());
    }
    let actual = hash(file).map_err(unreadable)?;
    if actual != sha256 {
        return Err(damaged(
            format!("sha256 {sha256}"),
            format!("sha256 {actual}"),
        ));
    }
    if let Some(note) = note {
        note.keep();
    }
    Ok(())
}

/// sha256 of a file in lower-case hexadecimal digits.
pub(crate) fn hash(file: &Path) -> io::Result<String> {
    let mut hasher = Sha256::new();
    io::copy(&mut File::open(file)?, &mut hasher)?;
    Ok(format!("{:x}", hasher.finalize()))
}

/// The one line that says which bytes were verified, and the file it is kept in.
struct Note {
    file: PathBuf,
    line: String,
}

impl Note {
    fn new(file: &Path, metadata: &Metadata, sha256: &str, notes: &Path) -> Option<Self> {
        let path = std::path::absolute(file).ok()?;
        let changed = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        let name = format!("{:x}", Sha256::digest(path.as_os_str().as_encoded_bytes()));
        Some(Self {
            file: notes.join(name),
            line: format!(
                "{sha256} {} bytes, changed {} ns, {}\n",
                metadata.len(),
                changed.as_nanos(),
                path.display()
            ),
        })
    }

    fn holds(&self) -> bool {
        fs::read_to_string(&self.file).is_ok_and(|line| line == self.line)
    }

    /// A note that cannot be kept only costs time, so errors are ignored.
    fn keep(&self) {
        let write = || -> io::Result<()> {
            let folder = self.file.parent().unwrap_or(Path::new("."));
            fs::create_dir_all(folder)?;
            let temporary = tempfile::NamedTempFile::new_in(folder)?;
            fs::write(temporary.path(), &self.line)?;
            temporary.persist(&self.file)?;
            Ok(())
        };
        let _ = write();
    }
}
