//! The order of things: this machine first, then the places one by one.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::spec::{Expected, PathPlace, Place, Source};
use crate::verify::verify;
use crate::{Error, Result, Settings};

/// Files that were fetched and verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Our name of a file → where it is. An optional file that the place does not have is left out.
    pub files: BTreeMap<String, PathBuf>,
    /// Where the files come from, in words; the same whether they were downloaded now or earlier.
    pub place: String,
    /// Damaged files that were passed over or replaced, for the user to read.
    pub warnings: Vec<String>,
}

/// Someone who shows how a download goes on. For each file: one `start`, any number of `advance`, one `finish`.
pub trait Progress: Send + Sync {
    /// A download (or a wait for another process) begins; `bytes` is its length, when known.
    fn start(&self, what: &str, bytes: Option<u64>);
    /// So many more bytes are here; a resumed download begins with those of last time.
    fn advance(&self, bytes: u64);
    /// It ended, well or badly.
    fn finish(&self);
}

/// Gets the files of sources.
#[derive(Clone)]
pub struct Fetcher {
    pub(crate) settings: Settings,
    progress: Option<Arc<dyn Progress>>,
}

/// Whether a place may be asked over the network.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    Off,
    On,
}

impl Fetcher {
    /// A fetcher with these settings, without a progress bar.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            progress: None,
        }
    }

    /// A fetcher with the settings of the environment; see [`Settings::from_env`].
    ///
    /// # Errors
    /// As [`Settings::from_env`].
    pub fn from_env(offline: bool) -> Result<Self> {
        Ok(Self::new(Settings::from_env(offline)?))
    }

    /// Shows downloads through `progress`.
    #[must_use]
    pub fn with_progress(mut self, progress: Arc<dyn Progress>) -> Self {
        self.progress = Some(progress);
        self
    }

    /// Paths of the files of `source`, verified; `what` names it in messages.
    ///
    /// First looks through all places without the network, then goes through them in order with it.
    ///
    /// # Errors
    /// [`Error::Spec`] when the section is not valid, [`Error::NoPlace`] when no place works.
    pub fn fetch(&self, what: &str, source: &Source) -> Result<Fetched> {
        let problems = source.problems();
        if !problems.is_empty() {
            return Err(Error::Spec {
                what: what.into(),
                problems,
            });
        }
        let mut warnings = Vec::new();
        let mut attempts = Vec::new();
        let offline = self.settings.offline;
        for network in [Network::Off, Network::On] {
            if network == Network::On && offline {
                break;
            }
            attempts.clear();
            for place in &source.places {
                match self.try_place(what, source, place, network) {
                    Ok(files) => {
                        return Ok(Fetched {
                            files,
                            place: place.to_string(),
                            warnings,
                        });
                    }
                    Err(error) => {
                        if network == Network::Off && matches!(error, Error::Damaged { .. }) {
                            warnings.push(format!("{what}: {error}"));
                        }
                        attempts.push((place.to_string(), error));
                    }
                }
            }
        }
        Err(Error::NoPlace {
            what: what.into(),
            attempts,
            offline,
        })
    }

    fn try_place(
        &self,
        what: &str,
        source: &Source,
        place: &Place,
        network: Network,
    ) -> Result<BTreeMap<String, PathBuf>> {
        let wanted = Wanted::of(source, place);
        match place {
            Place::Path(folder) => self.folder_files(folder, &wanted),
            Place::Hub(hub) => self.hub_files(what, hub, &wanted, network),
            Place::Package(package) => self.package_files(package, &wanted, network),
        }
    }

    fn folder_files(
        &self,
        place: &PathPlace,
        wanted: &[Wanted<'_>],
    ) -> Result<BTreeMap<String, PathBuf>> {
        let mut files = BTreeMap::new();
        for wanted in wanted {
            let file = place.folder.join(wanted.path);
            match self.verify(&file, wanted.expected) {
                Ok(()) => {
                    files.insert(wanted.name.to_string(), file);
                }
                Err(Error::Missing { .. }) if wanted.optional => {}
                Err(error) => return Err(error),
            }
        }
        Ok(files)
    }

    pub(crate) fn verify(&self, file: &Path, expected: Expected<'_>) -> Result<()> {
        verify(file, expected, &self.settings.cache.join("verified"))
    }

    /// Waits until no other process fills our cache. The lock ends with the returned file.
    pub(crate) fn lock(&self) -> Result<File> {
        let cache = &self.settings.cache;
        fs::create_dir_all(cache).map_err(|reason| cannot_write(cache, reason))?;
        let path = cache.join("lock");
        let file = File::create(&path).map_err(|reason| cannot_write(&path, reason))?;
        if let Err(fs4::TryLockError::WouldBlock) = fs4::FileExt::try_lock(&file) {
            let bar = self.bar("waiting for another peftbench to fill the cache", None);
            fs4::FileExt::lock(&file).map_err(|reason| cannot_write(&path, reason))?;
            drop(bar);
        }
        Ok(file)
    }

    /// A progress bar that finishes when it is dropped.
    pub(crate) fn bar(&self, what: &str, bytes: Option<u64>) -> Bar<'_> {
        let progress = self.progress.as_deref();
        if let Some(progress) = progress {
            progress.start(what, bytes);
        }
        Bar { progress, at: 0 }
    }
}

/// A progress bar with a position that never goes back.
pub(crate) struct Bar<'a> {
    progress: Option<&'a dyn Progress>,
    at: u64,
}

impl Bar<'_> {
    pub(crate) fn reach(&mut self, at: u64) {
        if let Some(progress) = self.progress
            && at > self.at
        {
            progress.advance(at - self.at);
            self.at = at;
        }
    }
}

impl Drop for Bar<'_> {
    fn drop(&mut self) {
        if let Some(progress) = self.progress {
            progress.finish();
        }
    }
}

/// One file of a source, as one place has it.
pub(crate) struct Wanted<'a> {
    pub name: &'a str,
    /// Path in the place.
    pub path: &'a str,
    pub expected: Expected<'a>,
    pub optional: bool,
}

impl<'a> Wanted<'a> {
    /// The optional ones come first: so, once the required ones are all there, the optional ones have been asked for.
    fn of(source: &'a Source, place: &'a Place) -> Vec<Self> {
        let mut all: Vec<_> = source
            .files
            .iter()
            .filter_map(|(name, spec)| {
                Some(Wanted {
                    name,
                    path: place.files().get(name)?,
                    expected: place.expected(name, spec),
                    optional: spec.optional,
                })
            })
            .collect();
        all.sort_by_key(|wanted| !wanted.optional);
        all
    }
}

pub(crate) fn cannot_write(path: &Path, reason: std::io::Error) -> Error {
    Error::Cache {
        path: path.to_path_buf(),
        reason,
    }
}
