//! One file out of an archive: a zip (a wheel is one), or a tar.gz, also inside another.
//!
//! Archives are strangers' work even when their hash is right. So only the file that is wanted is taken, only if it is a
//! regular file (a link could lead to any file of this machine), under our own name and with our own rights; and what an
//! archive may unpack to is limited by the length that the YAML says, or else by the archive's own, before anything is
//! written.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use flate2::read::GzDecoder;

use crate::files::cannot_write;
use crate::{Error, Result};

/// What an archive unpacks to at most, without a declared length: so much anyway …
const FREE: u64 = 64 << 20;
/// … and so much for each of its own bytes. Weights reach 1.2, text 10.
const RATIO: u64 = 100;

/// Takes the file `path` out of `archive` to `target`; `a.tar.gz!b` is `b` in the archive `a.tar.gz` in it. False when
/// there is no such file.
pub(crate) fn extract(
    archive: &Path,
    path: &str,
    bytes: Option<u64>,
    target: &Path,
) -> Result<bool> {
    let folder = target.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(|reason| cannot_write(folder, reason))?;
    let new = || temporary_file(folder).map_err(|reason| cannot_write(folder, reason));
    let mut kept: Option<tempfile::NamedTempFile> = None;
    let mut steps = path.split('!').peekable();
    while let Some(step) = steps.next() {
        let from = kept.as_ref().map_or(archive, tempfile::NamedTempFile::path);
        let mut to = new()?;
        let bytes = bytes.filter(|_| steps.peek().is_none());
        let taken = Take {
            archive: from,
            shown: archive,
            path: step,
            bytes,
        }
        .take(&mut to)?;
        if !taken {
            return Ok(false);
        }
        kept = Some(to);
    }
    if let Some(file) = kept {
        file.as_file()
            .sync_all()
            .map_err(|reason| cannot_write(target, reason))?;
        file.persist(target)
            .map_err(|error| cannot_write(target, error.error))?;
    }
    Ok(true)
}

/// A file that gets the rights that the user's new files have; the archive has no say in them.
fn temporary_file(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".taken-");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

struct Take<'a> {
    archive: &'a Path,
    /// The archive that messages name.
    shown: &'a Path,
    path: &'a str,
    bytes: Option<u64>,
}

impl Take<'_> {
    fn take(&self, to: &mut tempfile::NamedTempFile) -> Result<bool> {
        crate::verify::regular(self.archive)?;
        let unreadable = |reason| Error::Unreadable {
            file: self.archive.to_path_buf(),
            reason,
        };
        let mut file = File::open(self.archive).map_err(unreadable)?;
        let length = file.metadata().map_err(unreadable)?.len();
        let most = FREE.saturating_add(length.saturating_mul(RATIO));
        let mut magic = [0; 2];
        let read = file.read(&mut magic).map_err(unreadable)?;
        io::Seek::rewind(&mut file).map_err(unreadable)?;
        match &magic[..read] {
            b"PK" => self.take_zip(file, most, to),
            [0x1f, 0x8b] => self.take_tar(file, most, to),
            _ => Err(self.failed("it is neither a zip nor a tar.gz".into())),
        }
    }

    fn failed(&self, reason: String) -> Error {
        Error::Archive {
            archive: self.shown.display().to_string(),
            reason: format!("{}: {reason}", self.path),
        }
    }

    fn take_zip(&self, file: File, most: u64, to: &mut tempfile::NamedTempFile) -> Result<bool> {
        let refused = |error: zip::result::ZipError| self.failed(error.to_string());
        let mut zip = zip::ZipArchive::new(io::BufReader::new(file)).map_err(refused)?;
        let entry = match zip.by_name(self.path) {
            Err(zip::result::ZipError::FileNotFound) => return Ok(false),
            entry => entry.map_err(refused)?,
        };
        if entry.is_symlink() {
            return Err(self.failed("it is a link; only a regular file is taken".into()));
        }
        if !entry.is_file() {
            return Err(self.failed("it is a folder; only a regular file is taken".into()));
        }
        let declared = entry.size();
        self.check(declared, most)?;
        self.copy(entry, declared, to)?;
        Ok(true)
    }

    fn take_tar(&self, file: File, most: u64, to: &mut tempfile::NamedTempFile) -> Result<bool> {
        // Everything before the wanted file has to be unpacked to find it, so the whole has a limit as well.
        let limited = Limited {
            from: GzDecoder::new(io::BufReader::new(file)),
            left: most.saturating_add(self.bytes.unwrap_or(0)),
        };
        let refused = |error: io::Error| self.failed(error.to_string());
        let mut tar = tar::Archive::new(limited);
        let mut found = false;
        for entry in tar.entries().map_err(refused)? {
            let entry = entry.map_err(refused)?;
            let name = entry.path_bytes();
            let name = name.strip_prefix(b"./").unwrap_or(&name);
            if name != self.path.as_bytes() {
                continue;
            }
            let kind = entry.header().entry_type();
            if !kind.is_file() && !kind.is_contiguous() {
                let kind = match kind {
                    tar::EntryType::Symlink | tar::EntryType::Link => "a link",
                    tar::EntryType::Directory => "a folder",
                    tar::EntryType::Fifo => "a named pipe",
                    tar::EntryType::Char | tar::EntryType::Block => "a device",
                    _ => "no plain file",
                };
                return Err(self.failed(format!("it is {kind}; only a regular file is taken")));
            }
            if found {
                return Err(self.failed("it is in the archive twice".into()));
            }
            let declared = entry.size();
            self.check(declared, most)?;
            self.copy(entry, declared, to)?;
            found = true;
        }
        Ok(found)
    }

    /// Refuses a declared length before anything is written.
    fn check(&self, declared: u64, most: u64) -> Result<()> {
        match self.bytes {
            Some(bytes) if bytes != declared => Err(self.failed(format!(
                "it declares {declared} bytes where the YAML says {bytes}"
            ))),
            None if declared > most => Err(self.failed(format!(
                "it declares {declared} bytes, more than {most}, which an archive of this length may unpack to; if that is \
                 right, name the file's `bytes` in the YAML"
            ))),
            _ => Ok(()),
        }
    }

    fn copy(
        &self,
        entry: impl Read,
        declared: u64,
        to: &mut tempfile::NamedTempFile,
    ) -> Result<()> {
        let mut entry = entry.take(declared.saturating_add(1));
        let mut written = 0;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let n = match entry.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.failed(error.to_string())),
            };
            io::Write::write_all(to, &buffer[..n])
                .map_err(|reason| cannot_write(to.path(), reason))?;
            written += n as u64;
        }
        if written != declared {
            return Err(self.failed(format!(
                "it declares {declared} bytes and unpacks to {}",
                if written > declared {
                    "more".into()
                } else {
                    written.to_string()
                }
            )));
        }
        Ok(())
    }
}

/// A reader that fails when it has given all it may give.
struct Limited<R> {
    from: R,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buffer)? as u64;
        self.left = self.left.checked_sub(n).ok_or_else(|| {
            io::Error::other("it unpacks to far more bytes than an archive of its length should")
        })?;
        Ok(n as usize)
    }
}
