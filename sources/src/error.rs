//! What can go wrong, said so that the user knows what to do.

use std::io;
use std::path::PathBuf;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a source could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An environment variable has a value that cannot be used.
    #[error("environment variable {name}=\"{value}\": {problem}")]
    Environment {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// What is wrong and what is accepted.
        problem: String,
    },

    /// The `source:` section is not valid; all its problems at once.
    #[error("the source of {what} is not valid:{}", list(.problems))]
    Spec {
        /// Whose source.
        what: String,
        /// As [`crate::Source::problems`].
        problems: Vec<String>,
    },

    /// Every place failed.
    #[error(
        "{what} could not be had from any of its {} places:{}{}",
        .attempts.len(),
        list(.attempts.iter().map(|(place, error)| format!("{place}: {error}"))),
        if *.offline {
            "\nThe network is off (--offline or HF_HUB_OFFLINE=1): run once without it to fetch the files."
        } else {
            ""
        }
    )]
    NoPlace {
        /// Whose source.
        what: String,
        /// Each place in words, and why it failed.
        attempts: Vec<(String, Error)>,
        /// Whether the network was allowed.
        offline: bool,
    },

    /// A file of a local folder is not there.
    #[error("{} does not exist; put the file there or correct the folder", .file.display())]
    Missing {
        /// The file.
        file: PathBuf,
    },

    /// Not among the files of this machine, and the network is off.
    #[error("not on this machine; looked in {}", folders(.looked))]
    NotHere {
        /// The folders that were looked in.
        looked: Vec<PathBuf>,
    },

    /// A file on this machine is damaged, or another one than the YAML means.
    #[error(
        "{} is damaged or another file: expected {expected}, found {actual}; delete it, or correct the YAML",
        .file.display()
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Expected length or sha256, in words.
        expected: String,
        /// Found length or sha256, in words.
        actual: String,
    },

    /// A download is not what the YAML says; it was removed.
    #[error(
        "{url} gave a damaged or another file: expected {expected}, got {actual}; the download was removed"
    )]
    BadDownload {
        /// Where it came from.
        url: String,
        /// Expected length or sha256, in words.
        expected: String,
        /// Received length or sha256, in words.
        actual: String,
    },

    /// The hub answered with an error.
    #[error("{url} answered {status}: {}", meaning(*.status))]
    Http {
        /// What was asked for.
        url: String,
        /// The HTTP status.
        status: u16,
    },

    /// The hub did not answer.
    #[error(
        "{url} cannot be reached: {reason}; check the network, or point HF_ENDPOINT to a mirror"
    )]
    Unreachable {
        /// What was asked for.
        url: String,
        /// What happened.
        reason: String,
    },

    /// The connection broke in the middle of a file, several times.
    #[error(
        "{url}: the connection broke after {got} bytes ({reason}); run again to go on from there"
    )]
    Interrupted {
        /// What was asked for.
        url: String,
        /// Bytes that were received and are kept.
        got: u64,
        /// What happened.
        reason: String,
    },

    /// Our cache cannot be written.
    #[error(
        "the cache cannot be written at {}: {reason}; make room or rights there, or set PEFTBENCH_CACHE to another folder",
        .path.display()
    )]
    Cache {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        reason: io::Error,
    },

    /// A file cannot be read.
    #[error("{} cannot be read: {reason}", .file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the operating system said.
        reason: io::Error,
    },

    /// There is no pip.
    #[error("Python's pip is needed and none of {tried} runs; install Python 3 with pip")]
    NoPip {
        /// The commands that were tried.
        tried: String,
    },

    /// pip failed.
    #[error("`{command}` failed:\n{message}")]
    Pip {
        /// The command.
        command: String,
        /// The end of what it said.
        message: String,
    },

    /// An archive cannot be unpacked.
    #[error("{archive} cannot be unpacked: {reason}")]
    Archive {
        /// The archive.
        archive: String,
        /// What is wrong with it.
        reason: String,
    },

    /// An archive does not hold a file that the YAML names.
    #[error("the archive of {package} holds no {file}; correct the path in the YAML")]
    NotInArchive {
        /// Name and version.
        package: String,
        /// The path.
        file: String,
    },
}

fn list<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    items
        .into_iter()
        .enumerate()
        .map(|(i, item)| format!("\n  {}. {}", i + 1, item.as_ref().replace('\n', "\n     ")))
        .collect()
}

fn folders(paths: &[PathBuf]) -> String {
    let names: Vec<String> = paths.iter().map(|p| p.display().to_string()).collect();
    names.join(" and ")
}

fn meaning(status: u16) -> &'static str {
    match status {
        401 | 403 => {
            "no such repository, or it needs a token or an accepted licence; correct the name, or set HF_TOKEN"
        }
        404 => "no such repository, revision or file; correct the YAML",
        429 => "too many requests; wait, or set HF_TOKEN",
        500.. => "the hub has a problem; try again later, or point HF_ENDPOINT to a mirror",
        _ => "not what a hub answers; check HF_ENDPOINT and the proxy",
    }
}
