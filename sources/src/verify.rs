//! Length and sha256 of files, with a memory of what was verified.
//!
//! Hashing the 90 MB of a backbone takes longer than everything else before the first training step, so a file that was
//! right is noted as "this path, this length, this modification time had this sha256", and believed while that holds.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
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
    let metadata = regular(file)?;
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
    let actual = sha256_of(file).map_err(unreadable)?;
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

/// The facts of a file that may be opened: no pipe, which would wait for ever, no device, which has no end, no folder.
/// Links are followed.
///
/// # Errors
/// [`Error::Missing`], [`Error::NotAFile`] with what it is instead, or [`Error::Unreadable`].
pub fn regular(file: &Path) -> Result<Metadata> {
    let metadata = fs::metadata(file).map_err(|reason| match reason.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            if fs::symlink_metadata(file).is_err() =>
        {
            Error::Missing {
                file: file.to_path_buf(),
            }
        }
        io::ErrorKind::NotFound => Error::NotAFile {
            file: file.to_path_buf(),
            kind: "a link to a file that does not exist",
        },
        _ => Error::Unreadable {
            file: file.to_path_buf(),
            reason,
        },
    })?;
    match kind(&metadata.file_type()) {
        None => Ok(metadata),
        Some(kind) => Err(Error::NotAFile {
            file: file.to_path_buf(),
            kind,
        }),
    }
}

/// What it is in words, if it is no regular file.
fn kind(kind: &fs::FileType) -> Option<&'static str> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return Some("a named pipe");
        }
        if kind.is_socket() {
            return Some("a socket");
        }
        if kind.is_char_device() || kind.is_block_device() {
            return Some("a device");
        }
    }
    if kind.is_dir() {
        return Some("a folder");
    }
    (!kind.is_file()).then_some("no regular file")
}

/// All bytes of a regular file that has at most `most` of them.
///
/// # Errors
/// As [`regular`], and [`Error::TooLarge`].
pub fn read_whole(file: &Path, most: u64) -> Result<Vec<u8>> {
    let metadata = regular(file)?;
    let unreadable = |reason| Error::Unreadable {
        file: file.to_path_buf(),
        reason,
    };
    if metadata.len() > most {
        return Err(Error::TooLarge {
            file: file.to_path_buf(),
            bytes: metadata.len(),
            most,
        });
    }
    let mut bytes = Vec::new();
    let mut open = File::open(file).map_err(unreadable)?.take(most);
    open.read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

/// The file `name` of a folder that a stranger may have filled: a regular file, and no link that leads out of the folder.
/// In a snapshot of the Hugging Face cache, where every file is a link, the repository's folder is the border.
///
/// # Errors
/// As [`regular`], and [`Error::LeadsOut`].
pub fn inside(folder: &Path, name: &str) -> Result<PathBuf> {
    let file = folder.join(name);
    regular(&file)?;
    let unreadable = |reason| Error::Unreadable {
        file: file.clone(),
        reason,
    };
    let target = file.canonicalize().map_err(unreadable)?;
    let whole = folder.canonicalize().map_err(unreadable)?;
    match stays(&whole, &target) {
        true => Ok(file),
        false => Err(Error::LeadsOut { file, target }),
    }
}

/// Refuses a folder of weights that may be a stranger's if a link in it leads out of it, as for [`inside`], or if it holds
/// a pipe, a socket or a device. What does not exist is left to whoever opens it.
///
/// # Errors
/// [`Error::LeadsOut`] or [`Error::NotAFile`].
pub fn check_folder(folder: &Path) -> Result<()> {
    let Ok(whole) = folder.canonicalize() else {
        return Ok(());
    };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (file, Ok(own)) = (entry.path(), entry.file_type()) else {
            continue;
        };
        if own.is_symlink()
            && let Ok(target) = file.canonicalize()
            && !stays(&whole, &target)
        {
            return Err(Error::LeadsOut { file, target });
        }
        // The kind of what a link leads to.
        let kind = match fs::metadata(&file) {
            Ok(metadata) if !metadata.is_dir() => kind(&metadata.file_type()),
            _ => None,
        };
        if let Some(kind) = kind {
            return Err(Error::NotAFile { file, kind });
        }
    }
    Ok(())
}

/// Whether what lies at `target` belongs to the folder; both paths are canonical.
fn stays(folder: &Path, target: &Path) -> bool {
    let snapshots = folder
        .ancestors()
        .find(|part| part.file_name().is_some_and(|name| name == "snapshots"));
    let blobs = snapshots.and_then(|part| Some(part.parent()?.join("blobs")));
    target.starts_with(folder) || blobs.is_some_and(|blobs| target.starts_with(blobs))
}

/// SHA-256 of a regular file in lower-case hexadecimal digits.
///
/// # Errors
/// If it cannot be read.
pub fn sha256_of(file: &Path) -> io::Result<String> {
    let mut hasher = Sha256::new();
    io::copy(&mut File::open(file)?, &mut hasher)?;
    Ok(format!("{:x}", hasher.finalize()))
}

/// Checks a file that has just been downloaded from `origin`.
pub(crate) fn check_download(origin: &str, file: &Path, sha256: &str) -> Result<()> {
    let actual = sha256_of(file).map_err(|reason| Error::Unreadable {
        file: file.to_path_buf(),
        reason,
    })?;
    if actual == sha256 {
        return Ok(());
    }
    Err(Error::BadDownload {
        url: origin.into(),
        expected: format!("sha256 {sha256}"),
        actual: format!("sha256 {actual}"),
    })
}

/// The one line that says which bytes were verified, and the file it is kept in.
pub(crate) struct Note {
    file: PathBuf,
    line: String,
}

impl Note {
    /// `tag` says what the bytes are: their sha256, or what a server calls them.
    pub fn new(file: &Path, metadata: &Metadata, tag: &str, notes: &Path) -> Option<Self> {
        let path = std::path::absolute(file).ok()?;
        let changed = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        let name = format!("{:x}", Sha256::digest(path.as_os_str().as_encoded_bytes()));
        Some(Self {
            file: notes.join(name),
            line: format!(
                "{tag} {} bytes, changed {} ns, {}\n",
                metadata.len(),
                changed.as_nanos(),
                path.display()
            ),
        })
    }

    pub fn holds(&self) -> bool {
        fs::read_to_string(&self.file).is_ok_and(|line| line == self.line)
    }

    /// A note that cannot be kept only costs time, so errors are ignored.
    pub fn keep(&self) {
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
