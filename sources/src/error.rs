//! What can go wrong, said so that the user knows what to do.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a source was not found.
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
        "{what} was not found at {}:{}{}",
        match .attempts.len() {
            1 => "its only place".to_string(),
            n => format!("any of its {n} places"),
        },
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

    /// A file of certificates that cannot be used.
    #[error("{name}: {} cannot be used: {problem}; name a file of certificates in PEM form", .file.display())]
    Certificates {
        /// What named it.
        name: String,
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        problem: String,
    },

    /// A pipe, a device, a socket or a folder where a file is wanted.
    #[error("{} is {kind}; a regular file is needed", .file.display())]
    NotAFile {
        /// Its path.
        file: PathBuf,
        /// What it is.
        kind: &'static str,
    },

    /// A file that is larger than anything of its kind.
    #[error("{} has {bytes} bytes; at most {most} are read", .file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// Its length.
        bytes: u64,
        /// The most that is read.
        most: u64,
    },

    /// A link in a folder that may be a stranger's leads out of it.
    #[error(
        "{} is a link to {}, which is outside its folder; replace the link by the file itself",
        .file.display(),
        .target.display()
    )]
    LeadsOut {
        /// The link.
        file: PathBuf,
        /// Where it leads.
        target: PathBuf,
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

    /// A server answered with an error.
    #[error("{url} answered {status}: {}{}", meaning(*.status), asked_to_wait(*.wait))]
    Http {
        /// What was asked for.
        url: String,
        /// The HTTP status.
        status: u16,
        /// How long the server wants to be left alone.
        wait: Option<Duration>,
    },

    /// A server did not take what was sent to it.
    #[error("{url} refused with {status}: {said}{advice}")]
    Refused {
        /// What was sent to.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What it said.
        said: String,
        /// What to do.
        advice: &'static str,
    },

    /// Something is to be sent and nobody says who sends it.
    #[error(
        "the hub takes uploads with a token only: set HF_TOKEN, or log in with `hf auth login`"
    )]
    NoToken,

    /// Something is to be sent and the network is off.
    #[error("the network is off (--offline or HF_HUB_OFFLINE=1), so nothing can be uploaded")]
    Offline,

    /// A server sent us somewhere we do not go.
    #[error("{url} redirects {reason}; not followed")]
    Redirect {
        /// What was asked for.
        url: String,
        /// Where to, and why not.
        reason: String,
    },

    /// A page for people where a file was wanted.
    #[error(
        "{url} gave a web page (HTML), not the file; nothing of it was kept. It may be the login page of your network, or \
         of a repository that needs a token: open the address in a browser"
    )]
    WebPage {
        /// What was asked for.
        url: String,
    },

    /// A server's list cannot be read.
    #[error("{url} gave no {wanted}: {problem}")]
    Listing {
        /// What was asked for.
        url: String,
        /// What should have come.
        wanted: &'static str,
        /// What came instead.
        problem: String,
    },

    /// A server did not answer.
    #[error(
        "{url} cannot be reached: {reason}; check the network and the proxy, or name a mirror (HF_ENDPOINT for the hub, \
         PIP_INDEX_URL for packages)"
    )]
    Unreachable {
        /// What was asked for.
        url: String,
        /// What happened.
        reason: String,
    },

    /// More bytes than there is room for.
    #[error(
        "{what} needs {needed} bytes and {} has {free} free; make room there, or set PEFTBENCH_CACHE to another folder",
        .folder.display()
    )]
    NoRoom {
        /// What was to be stored.
        what: String,
        /// Its length.
        needed: u64,
        /// Where.
        folder: PathBuf,
        /// What is free there.
        free: u64,
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

    /// Nobody says where packages are.
    #[error(
        "no package index is known: none of {tried} runs, and PIP_INDEX_URL is not set; set it to the address of a package \
         index (it ends in /simple), or install Python 3 with pip"
    )]
    NoIndex {
        /// The commands that were tried.
        tried: String,
    },

    /// Not an id of the hub.
    #[error("\"{text}\" is not an id of the hub; accepted: {form}")]
    Reference {
        /// What was given.
        text: String,
        /// What is accepted.
        form: &'static str,
    },

    /// A repository of the hub without the files that are needed.
    #[error("{repo} on the Hugging Face hub cannot be used: {problem}")]
    NoFiles {
        /// The repository.
        repo: String,
        /// What is missing, and what to do.
        problem: String,
    },

    /// pip's configuration cannot be used.
    #[error("pip's configuration: {key}=\"{value}\": {problem}")]
    PipConfiguration {
        /// The key.
        key: &'static str,
        /// Its value, without credentials.
        value: String,
        /// What is wrong and what is accepted.
        problem: String,
    },

    /// No index has the archive.
    #[error("no package index has {package} with sha256 {sha256}:{}", list(.looked))]
    NotInIndex {
        /// Name and version.
        package: String,
        /// The archive's sha256.
        sha256: String,
        /// Each page, and what it has instead.
        looked: Vec<String>,
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

impl Error {
    /// A file that is missing in our own cache is not the user's to put there.
    pub(crate) fn or_not_here(self, looked: &std::path::Path) -> Self {
        match self {
            Error::Missing { .. } => Error::NotHere {
                looked: vec![looked.to_path_buf()],
            },
            error => error,
        }
    }
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

fn asked_to_wait(wait: Option<Duration>) -> String {
    wait.map_or(String::new(), |wait| {
        format!(" (it asks to wait {} s)", wait.as_secs())
    })
}

fn meaning(status: u16) -> &'static str {
    match status {
        401 | 403 => {
            "no such place, or it needs credentials or an accepted licence; correct the name, or set HF_TOKEN"
        }
        404 => "no such repository, revision or file; correct the name",
        429 => "too many requests; wait, or set HF_TOKEN",
        500.. => "the server has a problem; try again later, or name a mirror (HF_ENDPOINT)",
        _ => "not what a server of files answers; check HF_ENDPOINT and the proxy",
    }
}
