//! Files of the Hugging Face hub: its cache, then the network.
//!
//! Looking things up is hf-hub's: [`Cache`] and [`Repo`] know the folders, the references and the token, and the addresses
//! of both kinds of repositories. The transfer is our own ([`crate::download`]), because hf-hub 0.5's
//! - never looks at the length of what came, or at the status of a resumed answer (a server without ranges spoils the file),
//! - leaves a bad file in the cache that Python shares, with no hash to notice it,
//! - cannot be given timeouts, so an unreachable hub hangs,
//! - ignores `HF_HUB_CACHE`, and does not find a commit in Python's cache (a commit has a snapshot, no reference).
//!
//! A file whose sha256 is known is whatever has that sha256. For any other the hub is asked each time it can be reached
//! what the file is now, as Python's huggingface_hub does: its answer names the commit and an entity tag. A copy counts
//! if it lies under that commit in Python's cache, or came to ours with that tag. All files of a source are of one commit.

use std::fs;
use std::path::{Path, PathBuf};

use hf_hub::{Cache, Repo, RepoType};

use crate::address::{Address, percent_encoded};
use crate::download::Download;
use crate::fetch::{Fetcher, Got, Network, Wanted};
use crate::files::cannot_write;
use crate::http::{Client, Facts, Ways, is_hex};
use crate::settings::address_of;
use crate::spec::{Hub, HubKind};
use crate::verify::Note;
use crate::{Error, Result};

impl Fetcher {
    pub(crate) fn hub_files(
        &self,
        what: &str,
        hub: &Hub,
        wanted: &[Wanted<'_>],
        network: Network,
    ) -> Result<Got> {
        let repo = repository(hub);
        let pinned = wanted.iter().all(|file| file.expected.sha256.is_some());
        let here = match self.all_here(&repo, wanted) {
            Ok(here) => here,
            Err(error) if network == Network::Off => return Err(error),
            Err(_damaged) => None,
        };
        match here {
            Some(got) if pinned || self.settings.offline => Ok(got),
            None if network == Network::Off => Err(Error::NotHere {
                looked: vec![self.settings.hub_cache.clone(), self.own_hub()],
            }),
            Some(mut got) => match self.bring(what, &repo, wanted) {
                // What is here is better than nothing, if it is said.
                Err(error) if is_no_answer(&error) => {
                    got.warnings.push(format!(
                        "the copy on this machine is used, and whether the hub has a newer one is not known: {error}"
                    ));
                    Ok(got)
                }
                result => result,
            },
            None => self.bring(what, &repo, wanted),
        }
    }

    /// All files as the hub has them now.
    fn bring(&self, what: &str, repo: &Repo, wanted: &[Wanted<'_>]) -> Result<Got> {
        let hub = Hubs::new(self)?;
        let mut got = Got::default();
        let mut at = repo.clone();
        got.commit = is_hex(repo.revision(), 40).then(|| repo.revision().to_string());
        for wanted in wanted {
            match self.file_from_hub(&hub, what, &at, wanted) {
                Err(Error::Http { status: 404, .. }) if wanted.optional => {}
                Err(error) => return Err(error),
                Ok((file, commit)) => {
                    got.files.insert(wanted.name.to_string(), file);
                    // Whatever moves meanwhile: the other files are of the same commit.
                    if let Some(commit) = commit.filter(|_| got.commit.is_none()) {
                        at = at_commit(repo, &commit);
                        got.commit = Some(commit);
                    }
                }
            }
        }
        if let Some(commit) = &got.commit {
            self.remember(repo, commit)?;
        }
        Ok(got)
    }

    /// One file, and the commit it belongs to, where the hub said so.
    fn file_from_hub(
        &self,
        hub: &Hubs,
        what: &str,
        repo: &Repo,
        wanted: &Wanted<'_>,
    ) -> Result<(PathBuf, Option<String>)> {
        let url = hub.file(repo, wanted.path);
        let label = format!("{what}: {}", wanted.path);
        let mut bar = None;
        self.patiently(Some(&url.to_string()), |end| {
            let copy = self.copies(repo, wanted).ok().flatten();
            // Another process may have brought it while we waited.
            if let (Some(copy), Some(_)) = (&copy, wanted.expected.sha256) {
                return Ok(copy.clone());
            }
            // Worth asking before it is downloaded again.
            if copy.is_some() {
                let current = |facts: &Facts| self.current(repo, wanted, facts);
                let answer = hub
                    .client
                    .get(&url, &[], |facts| current(facts).is_some())?;
                if let Some(file) = current(&answer.facts) {
                    return Ok((file, answer.facts.commit));
                }
            }
            let part = with_end(&self.own_file(repo, wanted.path), ".part");
            let folder = part.parent().unwrap_or(Path::new("."));
            fs::create_dir_all(folder).map_err(|reason| cannot_write(folder, reason))?;
            let download = Download {
                client: &hub.client,
                label: &label,
                url: &url,
                expected: wanted.expected,
                part: &part,
                end,
            };
            let facts = download.attempt(self, &mut bar)?;
            let at = match &facts.commit {
                Some(commit) if !is_hex(repo.revision(), 40) => &at_commit(repo, commit),
                _ => repo,
            };
            let file = self.own_file(at, wanted.path);
            download.finish(&file)?;
            // The notes hold the file's path, so they are made after it has its name.
            self.verify(&file, wanted.expected)?;
            if let Some(note) = self.tag_note(&file, &facts) {
                note.keep();
            }
            Ok((file, facts.commit))
        })
    }

    /// The copy on this machine that is what the hub has now.
    fn current(&self, repo: &Repo, wanted: &Wanted<'_>, facts: &Facts) -> Option<PathBuf> {
        let theirs = Cache::new(self.settings.hub_cache.clone());
        let commit = facts.commit.as_ref()?;
        let repo = at_commit(repo, commit);
        let python = theirs
            .repo(repo.clone())
            .pointer_path(commit)
            .join(wanted.path);
        if crate::verify::regular(&python).is_ok() {
            return Some(python);
        }
        let own = self.own_file(&repo, wanted.path);
        self.tag_note(&own, facts)?.holds().then_some(own)
    }

    /// "This file came with this tag and has not changed since."
    fn tag_note(&self, file: &Path, facts: &Facts) -> Option<Note> {
        let metadata = crate::verify::regular(file).ok()?;
        let tag = format!("etag {}", facts.etag.as_ref()?);
        Note::new(file, &metadata, &tag, &self.settings.cache.join("tags"))
    }

    fn own_hub(&self) -> PathBuf {
        self.settings.cache.join("hub")
    }

    fn own_file(&self, repo: &Repo, path: &str) -> PathBuf {
        let own = Cache::new(self.own_hub()).repo(repo.clone());
        own.pointer_path(repo.revision()).join(path)
    }

    /// Writes down which commit a branch is, as Python does in its own cache.
    pub(crate) fn remember(&self, repo: &Repo, commit: &str) -> Result<()> {
        if repo.revision() == commit {
            return Ok(());
        }
        let folder = self.own_hub().join(repo.folder_name()).join("refs");
        let file = folder.join(repo.revision());
        let write = || {
            let folder = file.parent().unwrap_or(&folder);
            fs::create_dir_all(folder)?;
            let new = tempfile::NamedTempFile::new_in(folder)?;
            fs::write(new.path(), commit)?;
            new.persist(&file).map_err(|error| error.error)
        };
        write().map_err(|reason| cannot_write(&file, reason))?;
        Ok(())
    }

    /// The commit that a branch was when it was last looked at, by us or by Python.
    pub(crate) fn remembered(&self, repo: &Repo) -> Vec<(PathBuf, String)> {
        let caches = [self.settings.hub_cache.clone(), self.own_hub()];
        let read = |cache: PathBuf| {
            let file = cache
                .join(repo.folder_name())
                .join("refs")
                .join(repo.revision());
            let commit = fs::read_to_string(file).ok()?.trim().to_string();
            is_hex(&commit, 40).then_some((cache, commit))
        };
        caches.into_iter().filter_map(read).collect()
    }

    /// All files on this machine, of one commit where they have no hash; nothing when one is missing.
    fn all_here(&self, repo: &Repo, wanted: &[Wanted<'_>]) -> Result<Option<Got>> {
        let mut got = Got::default();
        let mut commits: Vec<Option<String>> = Vec::new();
        for wanted in wanted {
            match self.copies(repo, wanted)? {
                Some((file, commit)) => {
                    got.files.insert(wanted.name.to_string(), file);
                    commits.push(commit);
                }
                None if wanted.optional => {}
                None => return Ok(None),
            }
        }
        commits.dedup();
        let pinned = wanted.iter().all(|file| file.expected.sha256.is_some());
        match commits.as_slice() {
            [one] => got.commit = one.clone(),
            _ if !pinned => return Ok(None),
            _ => {}
        }
        Ok(Some(got))
    }

    /// The first good copy on this machine, with its commit; an error only when all copies are bad.
    fn copies(
        &self,
        repo: &Repo,
        wanted: &Wanted<'_>,
    ) -> Result<Option<(PathBuf, Option<String>)>> {
        let theirs = Cache::new(self.settings.hub_cache.clone()).repo(repo.clone());
        let named = is_hex(repo.revision(), 40).then(|| repo.revision().to_string());
        let mut candidates: Vec<(PathBuf, Option<String>)> = self
            .remembered(repo)
            .into_iter()
            .map(|(cache, commit)| {
                let folder = Cache::new(cache).repo(repo.clone()).pointer_path(&commit);
                (folder.join(wanted.path), Some(commit))
            })
            .collect();
        candidates.push((
            theirs.pointer_path(repo.revision()).join(wanted.path),
            named.clone(),
        ));
        candidates.push((self.own_file(repo, wanted.path), named));
        let mut damaged = None;
        for (file, commit) in candidates {
            match self.verify(&file, wanted.expected) {
                Ok(()) => return Ok(Some((file, commit))),
                Err(Error::Missing { .. }) => {}
                Err(error) => damaged = damaged.or(Some(error)),
            }
        }
        damaged.map_or(Ok(None), Err)
    }
}

/// The hub's addresses, and who may ask there.
pub(crate) struct Hubs {
    pub client: Client,
    pub endpoint: Address,
}

impl Hubs {
    pub fn new(fetcher: &Fetcher) -> Result<Self> {
        let settings = &fetcher.settings;
        let endpoint = address_of(&settings.endpoint)?;
        let certificates = settings.certificates.as_ref();
        let ways = Ways {
            certificates: certificates.map(|(name, file)| (name.as_str(), file.as_path())),
            ..Ways::default()
        };
        // As in Python, what stands in the address goes before the token.
        let secret = endpoint
            .authorization()
            .or_else(|| Some(format!("Bearer {}", settings.token.as_ref()?)));
        Ok(Self {
            client: Client::new(&settings.patience, &ways)?.with_secret(&endpoint, secret),
            endpoint,
        })
    }

    fn file(&self, repo: &Repo, path: &str) -> Address {
        self.endpoint.below(&format!(
            "{}/resolve/{}/{}",
            repo.url(),
            percent_encoded(repo.revision()).replace('/', "%2F"),
            percent_encoded(path)
        ))
    }
}

pub(crate) fn repository(hub: &Hub) -> Repo {
    let kind = match hub.kind {
        HubKind::Dataset => RepoType::Dataset,
        HubKind::Model => RepoType::Model,
    };
    Repo::with_revision(hub.repo.clone(), kind, hub.revision.clone())
}

/// The same repository at a commit.
fn at_commit(repo: &Repo, commit: &str) -> Repo {
    let (id, kind) = match repo.url().strip_prefix("datasets/") {
        Some(id) => (id.to_string(), RepoType::Dataset),
        None => (repo.url(), RepoType::Model),
    };
    Repo::with_revision(id, kind, commit.to_string())
}

/// Whether the hub could not be asked at all; it may say something else tomorrow.
pub(crate) fn is_no_answer(error: &Error) -> bool {
    match error {
        Error::Http { status, .. } => matches!(status, 408 | 429 | 500..),
        Error::Unreachable { .. }
        | Error::Interrupted { .. }
        | Error::Redirect { .. }
        | Error::WebPage { .. }
        | Error::Listing { .. }
        | Error::BadDownload { .. } => true,
        _ => false,
    }
}

fn with_end(file: &Path, end: &str) -> PathBuf {
    let mut name = file.as_os_str().to_os_string();
    name.push(end);
    name.into()
}
