//! Files that are written whole or not at all.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use crate::error::{Error, Result};

/// Writes a file whole or not at all: into a temporary file of the same folder (made if absent), synchronised, then renamed.
/// A reader sees the older file or the new one; a full disk or the end of the process leaves the older one as it was.
///
/// # Errors
/// If the folder or the file cannot be written.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |source| Error::Write {
        path: path.to_owned(),
        source,
    };
    let folder = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder).map_err(failed)?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".peftbench-").suffix(".tmp");
    // The user's umask takes away from it, as from every file that a program creates.
    #[cfg(unix)]
    let permissions = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o666);
    #[cfg(unix)]
    builder.permissions(permissions);
    // Removes itself unless it is renamed; its name is random and was not there before.
    let mut file = builder.tempfile_in(folder).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|e| failed(e.error))?;
    // The rename itself lasts once the folder is synchronised; not every file system can do that, and the file is whole anyway.
    #[cfg(unix)]
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

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
