//! Files that are written whole or not at all.

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;

use tempfile::NamedTempFile;

use crate::error::{Error, Result};

/// Writes a file whole or not at all: into a temporary file of the same folder (made if absent), synchronised, then renamed.
/// A reader sees the older file or the new one; a full disk or the end of the process leaves the older one as it was.
///
/// # Errors
/// If the folder or the file cannot be written.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = failed(path);
    let file = temporary(path, bytes).map_err(failed)?;
    file.persist(path).map_err(|e| failed(e.error))?;
    synchronise(folder_of(path));
    Ok(())
}

/// The same for a file that is not there yet; `false` where it is, and then it stays as it is. Of several writers on one
/// file system one succeeds, without a lock: the whole file gets its name by a hard link, or by a rename that replaces
/// nothing.
///
/// # Errors
/// If the folder or the file cannot be written.
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<bool> {
    let failed = failed(path);
    if path.exists() {
        return Ok(false);
    }
    let file = temporary(path, bytes).map_err(failed)?;
    match file.persist_noclobber(path) {
        Ok(_) => {}
        Err(e) if e.error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        // A file system without hard links: what is left of the protection is the look before.
        Err(e) => e
            .file
            .persist(path)
            .map(drop)
            .map_err(|e| failed(e.error))?,
    }
    synchronise(folder_of(path));
    Ok(true)
}

/// The largest record or manifest that is read, in bytes.
pub(crate) const LARGEST: u64 = 256 << 20;

/// Reads a regular file. On NFS a file that another machine has replaced since it was opened is stale: it is opened anew.
///
/// # Errors
/// If it cannot be read, is a pipe, a socket, a device or a folder, or has more than 256 MiB.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    for _ in 0..3 {
        match read_once(path) {
            Err(e) if e.kind() == io::ErrorKind::StaleNetworkFileHandle => {}
            other => return other,
        }
    }
    read_once(path)
}

fn read_once(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(io::Error::other("it is larger than 256 MiB"));
    }
    Ok(bytes)
}

/// Opens a regular file: a pipe would be waited for, a device has no end.
pub(crate) fn open(path: &Path) -> io::Result<fs::File> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    fs::File::open(path)
}

fn failed(path: &Path) -> impl Fn(io::Error) -> Error + Copy + '_ {
    move |source| Error::Write {
        path: path.to_owned(),
        source,
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// A synchronised file beside `path`; it removes itself unless it is renamed.
fn temporary(path: &Path, bytes: &[u8]) -> io::Result<NamedTempFile> {
    let folder = folder_of(path);
    fs::create_dir_all(folder)?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".peftbench-").suffix(".tmp");
    // The user's umask takes away from it, as from every file that a program creates.
    #[cfg(unix)]
    let permissions = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o666);
    #[cfg(unix)]
    builder.permissions(permissions);
    // Its name is random and was not there before.
    let mut file = builder.tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// A rename lasts once its folder is synchronised; not every file system can do that, and the file is whole anyway.
fn synchronise(folder: &Path) {
    #[cfg(unix)]
    if let Ok(folder) = fs::File::open(folder) {
        let _ = folder.sync_all();
    }
    #[cfg(not(unix))]
    let _ = folder;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs::File;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries
            .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn a_file_is_replaced_and_nothing_temporary_is_left() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("below/report.md");
        write_whole(&path, b"old").unwrap();
        write_whole(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(path.parent().unwrap()), ["report.md"]);
    }

    #[test]
    fn of_many_writers_of_a_new_file_one_succeeds_and_its_file_stays() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("run.json");
        let wrote: Vec<bool> = std::thread::scope(|scope| {
            let path = &path;
            let all: Vec<_> = (0..8)
                .map(|k| scope.spawn(move || write_new(path, format!("{k}").as_bytes()).unwrap()))
                .collect();
            all.into_iter().map(|t| t.join().unwrap()).collect()
        });
        let winner = wrote.iter().position(|w| *w).unwrap();
        assert_eq!(wrote.iter().filter(|w| **w).count(), 1);
        assert_eq!(read(&path).unwrap(), format!("{winner}").as_bytes());
        assert_eq!(names(place.path()), ["run.json"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_file_has_the_permissions_that_the_umask_leaves() {
        use std::os::unix::fs::PermissionsExt;
        let place = tempfile::tempdir().unwrap();
        let mode = |name: &str| {
            let file = fs::metadata(place.path().join(name)).unwrap();
            file.permissions().mode() & 0o777
        };
        write_whole(&place.path().join("ours"), b"x").unwrap();
        File::create(place.path().join("plain")).unwrap();
        assert_eq!(mode("ours"), mode("plain"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_that_cannot_grow_harms_no_older_one_and_the_message_says_what_to_do() {
        // A limit on the size of files stops the write in its midst, as a full disk does. It holds for a whole process,
        // so this test runs itself in one of its own.
        const CHILD: &str = "PEFTBENCH_TEST_FULL_DISK";
        if let Some(path) = std::env::var_os(CHILD) {
            let error = write_whole(Path::new(&path), &vec![b'n'; 1 << 20]).unwrap_err();
            assert!(error.to_string().contains("report.md"), "{error}");
            println!("refused");
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("report.md");
        write_whole(&path, b"old").unwrap();
        // `trap` lets the write fail instead of ending the process by SIGXFSZ.
        let child = std::process::Command::new("bash")
            .args(["-c", "trap '' XFSZ; ulimit -f 64; exec \"$0\" \"$@\""])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture"])
            .arg("files::tests::a_file_that_cannot_grow_harms_no_older_one_and_the_message_says_what_to_do")
            .env(CHILD, &path)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout);
        assert!(
            child.status.success() && said.contains("refused"),
            "{child:?}"
        );
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(place.path()), ["report.md"]);
    }
}
