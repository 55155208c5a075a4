//! The digest of a backbone's weights, remembered in the cache.
//!
//! SHA-256 over 90 MB takes most of a second on a processor without instructions for it, longer than everything else before
//! the first step. So the digest is noted beside length, time of modification and time of change of each file that the weights lie
//! in, and believed while these hold. Files that changed within the last two seconds are not noted: a clock may not tell apart two
//! changes that follow each other at once.

use std::{
    fmt::Write as _,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use backbone::Config;
use sha2::{Digest, Sha256};

/// What is noted about the weights of one backbone.
pub struct DigestNote {
    file: PathBuf,
    /// The files that the weights lie in, with their lengths and times.
    facts: String,
    /// Whether the files changed too lately for their times to tell.
    fresh: bool,
}

impl DigestNote {
    /// The note in the folder `notes` about weights that are read as `config` says: a file, or an index with its parts beside it.
    /// None where a file cannot be looked at.
    pub fn of(weights: &Path, config: &Config, notes: &Path) -> Option<Self> {
        let path = std::path::absolute(weights).ok()?;
        let mut files = vec![path.clone()];
        if path.extension().is_some_and(|e| e == "json") {
            let beside = fs::read_dir(path.parent()?).ok()?;
            let parts = beside.filter_map(|entry| Some(entry.ok()?.path()));
            files.extend(parts.filter(|part| part.extension().is_some_and(|e| e == "safetensors")));
            files.sort();
        }
        let (mut facts, mut fresh) = (String::new(), false);
        for file in &files {
            let m = fs::metadata(file).ok()?;
            // (A time in the future tells nothing.)
            let age = m.modified().ok()?.elapsed().unwrap_or_default();
            fresh |= age < Duration::from_secs(2);
            let times = [m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec()];
            writeln!(facts, "{} bytes, {times:?}, {}", m.len(), file.display()).ok()?;
        }
        let mut hasher = Sha256::new();
        hasher.update(path.as_os_str().as_encoded_bytes());
        hasher.update(serde_json::to_vec(config).ok()?);
        Some(Self {
            file: notes.join(format!("{:x}", hasher.finalize())),
            facts,
            fresh,
        })
    }

    /// The digest, if one is noted and the files are as they were.
    pub fn digest(&self) -> Option<String> {
        let note = fs::read_to_string(&self.file).ok()?;
        let digest = note.strip_suffix(&self.facts)?.strip_suffix('\n')?;
        (digest.len() == 64).then(|| digest.to_owned())
    }

    /// Notes the digest. A note that cannot be written only costs time, so that errors are ignored.
    pub fn keep(&self, digest: &str) {
        if !self.fresh {
            let _ = record::write_whole(&self.file, format!("{digest}\n{}", self.facts).as_bytes());
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A file that was changed a minute ago.
    fn write(path: &Path, content: &str) {
        fs::write(path, content).unwrap();
        let file = fs::File::options().write(true).open(path).unwrap();
        let minute = Duration::from_secs(60);
        let ago = std::time::SystemTime::now() - minute;
        file.set_modified(ago).unwrap();
    }

    fn config() -> Config {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/families/llama");
        Config::read(&folder.join("config.json")).unwrap()
    }

    #[test]
    fn a_digest_is_believed_until_any_file_of_the_weights_changes() {
        let folder = tempfile::tempdir().unwrap();
        let [index, part] =
            ["model.safetensors.index.json", "a.safetensors"].map(|name| folder.path().join(name));
        let note = || DigestNote::of(&index, &config(), &folder.path().join("notes")).unwrap();
        let digest = "ab".repeat(32);
        write(&index, "{}");
        write(&part, "1234");
        assert_eq!(note().digest(), None);
        note().keep(&digest);
        assert_eq!(note().digest(), Some(digest.clone()));
        // Of the same length.
        write(&part, "1235");
        assert_eq!(note().digest(), None);
        note().keep(&digest);
        assert_eq!(note().digest(), Some(digest));
        write(&folder.path().join("b.safetensors"), "");
        assert_eq!(note().digest(), None);
    }

    #[test]
    fn a_note_belongs_to_how_the_weights_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model.safetensors");
        write(&file, "1234");
        let mut other = config();
        other.layers += 1;
        DigestNote::of(&file, &config(), folder.path())
            .unwrap()
            .keep(&"ab".repeat(32));
        let of_other = DigestNote::of(&file, &other, folder.path()).unwrap();
        assert_eq!(of_other.digest(), None);
    }

    #[test]
    fn a_file_that_has_just_changed_is_not_noted() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model.safetensors");
        fs::write(&file, "1234").unwrap();
        let note = DigestNote::of(&file, &config(), folder.path()).unwrap();
        note.keep(&"ab".repeat(32));
        assert_eq!(note.digest(), None);
    }
}
