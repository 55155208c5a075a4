//! Files of the Hugging Face hub: its cache, then the network.
//!
//! Looking things up is hf-hub's: [`Cache`] and [`Repo`] know the folders, the references and the token, and the addresses
//! of both kinds of repositories. The transfer is our own, one `GET` through ureq, because hf-hub 0.5's
//! - never looks at the length of what came, or at the status of a resumed answer (a server without ranges spoils the file),
//! - leaves a bad file in the cache that Python shares, with no hash to notice it,
//! - cannot be given timeouts, so an unreachable hub hangs,
//! - ignores `HF_HUB_CACHE`, and does not find a commit in Python's cache (a commit has a snapshot, no reference).

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hf_hub::{Cache, Repo, RepoType};
use ureq::config::RedirectAuthHeaders;
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};

use crate::fetch::{Bar, Fetcher, Network, Wanted, cannot_write};
use crate::spec::{Expected, Hub, HubKind};
use crate::{Error, Result};

/// Long enough for a slow network, short enough that nobody thinks the program hangs.
const CONNECT: Duration = Duration::from_secs(10);
/// The longest silence in the middle of an answer.
const SILENCE: Duration = Duration::from_secs(30);
/// How often a broken transfer is taken up again in one run.
const TRIES: u32 = 4;

impl Fetcher {
    pub(crate) fn hub_files(
        &self,
        what: &str,
        hub: &Hub,
        wanted: &[Wanted<'_>],
        network: Network,
    ) -> Result<BTreeMap<String, PathBuf>> {
        let kind = match hub.kind {
            HubKind::Dataset => RepoType::Dataset,
            HubKind::Model => RepoType::Model,
        };
        let repo = Repo::with_revision(hub.repo.clone(), kind, hub.revision.clone());
        let mut files = BTreeMap::new();
        let mut complete = true;
        for wanted in wanted {
            match self.cached(&repo, wanted) {
                Ok(Some(file)) => {
                    files.insert(wanted.name.to_string(), file);
                }
                Ok(None) => complete &= wanted.optional,
                Err(error) if network == Network::Off => return Err(error),
                Err(_damaged) => complete = false,
            }
        }
        if complete {
            return Ok(files);
        }
        if network == Network::Off {
            return Err(Error::NotHere {
                looked: vec![self.settings.hub_cache.clone(), self.own_hub()],
            });
        }
        let _lock = self.lock()?;
        for wanted in wanted {
            if files.contains_key(wanted.name) {
                continue;
            }
            // Another process may have brought it while we waited.
            let file = match self.cached(&repo, wanted) {
                Ok(Some(file)) => file,
                _ => match self.download(what, &repo, wanted) {
                    Err(Error::Http { status: 404, .. }) if wanted.optional => continue,
                    result => result?,
                },
            };
            files.insert(wanted.name.to_string(), file);
        }
        Ok(files)
    }

    fn own_hub(&self) -> PathBuf {
        self.settings.cache.join("hub")
    }

    fn own_file(&self, repo: &Repo, path: &str) -> PathBuf {
        let own = Cache::new(self.own_hub()).repo(repo.clone());
        own.pointer_path(repo.revision()).join(path)
    }

    /// The first good copy on this machine; an error only when all copies are bad.
    fn cached(&self, repo: &Repo, wanted: &Wanted<'_>) -> Result<Option<PathBuf>> {
        let theirs = Cache::new(self.settings.hub_cache.clone()).repo(repo.clone());
        let candidates = [
            // A branch or tag: a reference names the commit.
            theirs.get(wanted.path),
            // A commit.
            Some(theirs.pointer_path(repo.revision()).join(wanted.path)),
            Some(self.own_file(repo, wanted.path)),
        ];
        let mut damaged = None;
        for file in candidates.into_iter().flatten() {
            match self.verify(&file, wanted.expected) {
                Ok(()) => return Ok(Some(file)),
                Err(Error::Missing { .. }) => {}
                Err(error) => damaged = damaged.or(Some(error)),
            }
        }
        damaged.map_or(Ok(None), Err)
    }

    /// Downloads one file into our cache. Needs the lock.
    fn download(&self, what: &str, repo: &Repo, wanted: &Wanted<'_>) -> Result<PathBuf> {
        let url = format!(
            "{}/{}/resolve/{}/{}",
            self.settings.endpoint,
            repo.url(),
            repo.url_revision(),
            percent_encoded(wanted.path)
        );
        let file = self.own_file(repo, wanted.path);
        let mut part = file.clone().into_os_string();
        part.push(".part");
        let part = PathBuf::from(part);
        let folder = file.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(|reason| cannot_write(folder, reason))?;

        // Without a hash nobody would notice if the rest came from another file than the beginning.
        if wanted.expected.sha256.is_none() {
            remove(&part)?;
        }
        let label = format!("{what}: {}", wanted.path);
        let resumed = length(&part) > 0;
        let mut result = self.transfer_and_check(&label, &url, &part, wanted.expected);
        if resumed && matches!(result, Err(Error::BadDownload { .. })) {
            result = self.transfer_and_check(&label, &url, &part, wanted.expected);
        }
        result?;
        fs::rename(&part, &file).map_err(|reason| cannot_write(&file, reason))?;
        // The note about a verified file holds its path, so this is after the rename.
        self.verify(&file, wanted.expected)?;
        Ok(file)
    }

    /// Fills `part`, or removes it if it is not what is expected.
    fn transfer_and_check(
        &self,
        label: &str,
        url: &str,
        part: &Path,
        expected: Expected<'_>,
    ) -> Result<()> {
        let checked = self
            .transfer(label, url, part, expected.bytes)
            .and_then(|()| self.check_part(url, part, expected));
        if matches!(checked, Err(Error::BadDownload { .. })) {
            remove(part)?;
        }
        checked
    }

    fn check_part(&self, url: &str, part: &Path, expected: Expected<'_>) -> Result<()> {
        let Some(sha256) = expected.sha256 else {
            return Ok(());
        };
        let actual = crate::verify::hash(part).map_err(|reason| Error::Unreadable {
            file: part.to_path_buf(),
            reason,
        })?;
        if actual == sha256 {
            return Ok(());
        }
        Err(Error::BadDownload {
            url: url.into(),
            expected: format!("sha256 {sha256}"),
            actual: format!("sha256 {actual}"),
        })
    }

    /// Requests the file, and its rest again each time the connection breaks.
    fn transfer(&self, label: &str, url: &str, part: &Path, bytes: Option<u64>) -> Result<()> {
        let agent = self.agent();
        let mut bar = None;
        for tried in 1.. {
            match self.request(&agent, label, url, part, bytes, &mut bar) {
                Err(Error::Interrupted { .. }) if tried < TRIES => {
                    std::thread::sleep(Duration::from_millis(200));
                }
                result => return result,
            }
        }
        Ok(())
    }

    fn agent(&self) -> Agent {
        Agent::config_builder()
            .user_agent(concat!("peftbench/", env!("CARGO_PKG_VERSION")))
            // Packed bytes would make lengths and ranges mean something else.
            .accept_encoding("identity")
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .http_status_as_error(false)
            .timeout_resolve(Some(CONNECT))
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            .build()
            .into()
    }

    /// One `GET`, from where `part` ends.
    fn request<'a>(
        &'a self,
        agent: &Agent,
        label: &str,
        url: &str,
        part: &Path,
        bytes: Option<u64>,
        bar: &mut Option<Bar<'a>>,
    ) -> Result<()> {
        let mut at = length(part);
        let mut request = agent.get(url);
        if let Some(token) = &self.settings.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        if at > 0 {
            request = request.header("Range", format!("bytes={at}-"));
        }
        let response = request.call().map_err(|error| Error::Unreachable {
            url: url.into(),
            reason: error.to_string(),
        })?;
        let total = match response.status() {
            StatusCode::OK => {
                at = 0;
                header_number(&response, "content-length")
            }
            StatusCode::PARTIAL_CONTENT if range_start(&response) == Some(at) => {
                header_number(&response, "content-length").map(|rest| at + rest)
            }
            // The part is as long as the file or longer, or the answer is another range: begin again.
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE if at > 0 => {
                remove(part)?;
                return Err(Error::Interrupted {
                    url: url.into(),
                    got: 0,
                    reason: "the rest was refused".into(),
                });
            }
            status => {
                return Err(Error::Http {
                    url: url.into(),
                    status: status.as_u16(),
                });
            }
        };
        if let (Some(bytes), Some(total)) = (bytes, total)
            && bytes != total
        {
            return Err(Error::BadDownload {
                url: url.into(),
                expected: format!("{bytes} bytes"),
                actual: format!("{total} bytes"),
            });
        }

        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(part)
            .and_then(|file| file.set_len(at).map(|()| file))
            .map_err(|reason| cannot_write(part, reason))?;
        let bar = bar.get_or_insert_with(|| self.bar(label, total.or(bytes)));
        bar.reach(at);
        let mut body = response.into_body().into_reader();
        let broken = copy(&mut body, &mut file, part, |more| {
            at += more;
            bar.reach(at);
        })?;
        let reason = match broken {
            Some(error) => error.to_string(),
            None if total.or(bytes).is_some_and(|total| at != total) => "it ended early".into(),
            None => {
                return file.sync_all().map_err(|reason| cannot_write(part, reason));
            }
        };
        Err(Error::Interrupted {
            url: url.into(),
            got: at,
            reason,
        })
    }
}

/// Copies until the end or until the network fails; that failure is returned as a value, our disk's as an error.
fn copy(
    from: &mut impl Read,
    to: &mut File,
    name: &Path,
    mut count: impl FnMut(u64),
) -> Result<Option<io::Error>> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(None),
            Ok(n) => {
                to.write_all(&buffer[..n])
                    .map_err(|reason| cannot_write(name, reason))?;
                count(n as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Ok(Some(error)),
        }
    }
}

fn header<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

fn header_number(response: &Response<Body>, name: &str) -> Option<u64> {
    header(response, name)?.trim().parse().ok()
}

/// `5` of `Content-Range: bytes 5-9/10`.
fn range_start(response: &Response<Body>) -> Option<u64> {
    let range = header(response, "content-range")?.strip_prefix("bytes ")?;
    range.split('-').next()?.trim().parse().ok()
}

fn length(file: &Path) -> u64 {
    fs::metadata(file).map_or(0, |metadata| metadata.len())
}

fn remove(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(reason) if reason.kind() != io::ErrorKind::NotFound => Err(cannot_write(file, reason)),
        _ => Ok(()),
    }
}

/// A path for an address: everything but letters, digits and `-_.~/` as `%XX`.
fn percent_encoded(path: &str) -> String {
    path.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
