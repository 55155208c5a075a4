//! A file from the network into the cache: resumed where that is safe, checked, and tried again where that may help.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use ureq::Body;
use ureq::http::{Response, StatusCode};

use crate::address::Address;
use crate::fetch::{Bar, Fetcher};
use crate::files::{cannot_write, length, remove};
use crate::http::{Answer, Client, Facts, Pace, check_status, entity_tag, header};
use crate::spec::Expected;
use crate::verify::check_download;
use crate::{Error, Result};

/// One file to bring.
pub(crate) struct Download<'a> {
    pub client: &'a Client,
    /// For the progress bar.
    pub label: &'a str,
    pub url: &'a Address,
    pub expected: Expected<'a>,
    /// Where it grows.
    pub part: &'a Path,
    /// When patience ends.
    pub end: Instant,
}

impl Fetcher {
    /// Does `attempt` until it works, as long as its errors may pass. The lock, if there is one, is held during an
    /// attempt and not between two.
    pub(crate) fn patiently<T>(
        &self,
        lock: Option<&str>,
        mut attempt: impl FnMut(Instant) -> Result<T>,
    ) -> Result<T> {
        let patience = &self.settings.patience;
        let end = Instant::now() + patience.whole;
        let mut tried = 0;
        loop {
            tried += 1;
            let result = {
                let _lock = lock.map(|name| self.lock(name)).transpose()?;
                attempt(end)
            };
            let Err(error) = result else { return result };
            let Some(wait) = patience.after(&error, tried) else {
                return Err(error);
            };
            if tried >= patience.tries || Instant::now() + wait >= end {
                return Err(error);
            }
            std::thread::sleep(wait);
        }
    }
}

impl Download<'_> {
    /// One attempt. Fills `part`, or removes it if it is not what is expected.
    pub fn attempt<'a>(&self, fetcher: &'a Fetcher, bar: &mut Option<Bar<'a>>) -> Result<Facts> {
        let resumed = length(self.part) > 0;
        let mut result = self.checked(fetcher, bar);
        // The beginning belonged to another file.
        if resumed && matches!(result, Err(Error::BadDownload { .. })) {
            result = self.checked(fetcher, bar);
        }
        result
    }

    fn checked<'a>(&self, fetcher: &'a Fetcher, bar: &mut Option<Bar<'a>>) -> Result<Facts> {
        let checked = self.transfer(fetcher, bar).and_then(|facts| {
            if let Some(sha256) = self.expected.sha256.or(facts.sha256()) {
                check_download(&self.url.to_string(), self.part, sha256)?;
            }
            Ok(facts)
        });
        if matches!(
            checked,
            Err(Error::BadDownload { .. } | Error::WebPage { .. })
        ) {
            remove(self.part)?;
            remove(&self.tag_file())?;
        }
        checked
    }

    /// Beside the part: the entity tag that its server gave it.
    fn tag_file(&self) -> PathBuf {
        let mut name = self.part.as_os_str().to_os_string();
        name.push(".etag");
        name.into()
    }

    /// One `GET`, from where `part` ends if the rest can only be the rest of the same bytes.
    fn transfer<'a>(&self, fetcher: &'a Fetcher, bar: &mut Option<Bar<'a>>) -> Result<Facts> {
        let url = self.url.to_string();
        let mut at = length(self.part);
        let tag = fs::read_to_string(self.tag_file()).ok();
        // Without a hash and without a tag nobody would notice that the rest came from another file.
        if at > 0 && tag.is_none() && self.expected.sha256.is_none() {
            remove(self.part)?;
            at = 0;
        }
        let mut headers = Vec::new();
        if at > 0 {
            headers.push(("Range", format!("bytes={at}-")));
            if let Some(tag) = &tag {
                headers.push(("If-Range", format!("\"{tag}\"")));
            }
        }
        let answer = self.client.get(self.url, &headers, |_| false)?;
        let response = &answer.response;
        let total = match response.status() {
            StatusCode::PARTIAL_CONTENT if at > 0 && self.is_the_rest(response, at, tag) => {
                range_total(response)
                    .or_else(|| header_number(response, "content-length").map(|rest| at + rest))
            }
            // The part is as long as the file or longer, or the answer is a part of something else: begin again.
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE if at > 0 => {
                remove(self.part)?;
                return Err(Error::Interrupted {
                    url,
                    got: 0,
                    reason: "the rest was refused".into(),
                });
            }
            _ => {
                check_status(&answer)?;
                at = 0;
                header_number(response, "content-length")
            }
        };
        let announced = self.announced(&answer, total)?;
        let known = announced.or(self.expected.bytes);
        let most = known.unwrap_or(self.client.patience.undeclared);
        self.room(most.saturating_sub(at), known)?;

        let strong = strong_tag(response);
        let kind = header(response, "content-type")
            .unwrap_or_default()
            .to_ascii_lowercase();
        let facts = answer.facts;
        let mut body = answer.response.into_body().into_reader();
        let mut pace = Pace::new(&self.client.patience, self.end);
        let mut first = Vec::new();
        if at == 0 {
            let broken = beginning(&mut body, &mut pace, &mut first);
            if self.expected.sha256.is_none() && is_web_page(&kind, &first, self.url) {
                return Err(Error::WebPage { url });
            }
            if let Err(reason) = broken {
                return Err(Error::Interrupted {
                    url,
                    got: 0,
                    reason,
                });
            }
            match strong {
                Some(tag) => fs::write(self.tag_file(), tag)
                    .map_err(|reason| cannot_write(&self.tag_file(), reason))?,
                None => remove(&self.tag_file())?,
            }
        }

        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.part)
            .and_then(|file| file.set_len(at).map(|()| file))
            .map_err(|reason| cannot_write(self.part, reason))?;
        let bar = bar.get_or_insert_with(|| fetcher.bar(self.label, known));
        bar.reach(at);
        let broken = copy(
            &mut first.as_slice().chain(&mut body),
            &mut file,
            self.part,
            most.saturating_sub(at),
            |more| {
                at += more;
                bar.reach(at);
                pace.step(more)
            },
        )?;
        let reason = match broken {
            Some(Stop::TooLong) => {
                return Err(Error::BadDownload {
                    url,
                    expected: match known {
                        Some(bytes) => format!("{bytes} bytes"),
                        None => format!("a declared length, or at most {most} bytes without"),
                    },
                    actual: "more bytes, without an end in sight".into(),
                });
            }
            Some(Stop::Broken(reason)) => reason,
            None if known.is_some_and(|known| at != known) => "it ended early".into(),
            None => {
                file.sync_all()
                    .map_err(|reason| cannot_write(self.part, reason))?;
                return Ok(facts);
            }
        };
        Err(Error::Interrupted {
            url,
            got: at,
            reason,
        })
    }

    /// Whether a partial answer goes on with the same file.
    fn is_the_rest(&self, response: &Response<Body>, at: u64, tag: Option<String>) -> bool {
        let same = match (tag, entity_tag(response)) {
            (Some(ours), Some(theirs)) => ours == theirs,
            (_, None) | (None, _) => self.expected.sha256.is_some(),
        };
        same && range_start(response) == Some(at)
    }

    /// The length that the server declares, if it is not another one than is expected.
    fn announced(&self, answer: &Answer, total: Option<u64>) -> Result<Option<u64>> {
        let known = self.expected.bytes.or(answer.facts.bytes);
        match (known, total) {
            (Some(known), Some(total)) if known != total => Err(Error::BadDownload {
                url: self.url.to_string(),
                expected: format!("{known} bytes"),
                actual: format!("{total} bytes"),
            }),
            _ => Ok(total.or(known)),
        }
    }

    fn room(&self, needed: u64, known: Option<u64>) -> Result<()> {
        let folder = self.part.parent().unwrap_or(Path::new("."));
        let free = fs4::available_space(folder).unwrap_or(u64::MAX);
        if known.is_some() && needed > free {
            return Err(Error::NoRoom {
                what: self.label.to_string(),
                needed,
                folder: folder.to_path_buf(),
                free,
            });
        }
        Ok(())
    }

    /// Gives the finished part its name.
    pub fn finish(&self, file: &Path) -> Result<()> {
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder).map_err(|reason| cannot_write(folder, reason))?;
        }
        fs::rename(self.part, file).map_err(|reason| cannot_write(file, reason))?;
        remove(&self.tag_file())
    }
}

/// A page for people where something else was asked for.
fn is_web_page(kind: &str, beginning: &[u8], url: &Address) -> bool {
    let name = url.to_string();
    let name = name.split('?').next().unwrap_or_default();
    if name.ends_with(".html") || name.ends_with(".htm") {
        return false;
    }
    let text = String::from_utf8_lossy(beginning);
    let text = text
        .trim_start_matches('\u{feff}')
        .trim_start()
        .to_ascii_lowercase();
    kind.starts_with("text/html") || text.starts_with("<!doctype html") || text.starts_with("<html")
}

/// Reads as much as tells what it is.
fn beginning(body: &mut impl Read, pace: &mut Pace<'_>, first: &mut Vec<u8>) -> Result<(), String> {
    let mut buffer = [0; 512];
    while first.len() < buffer.len() {
        match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => {
                first.extend_from_slice(&buffer[..n]);
                pace.step(n as u64)?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(())
}

enum Stop {
    /// There is more than there may be.
    TooLong,
    Broken(String),
}

/// Copies until the end, until `most` bytes are here and more come, or until the network fails. Those are returned as a
/// value, a failure of our disk as an error.
fn copy(
    from: &mut impl Read,
    to: &mut File,
    name: &Path,
    mut most: u64,
    mut count: impl FnMut(u64) -> Result<(), String>,
) -> Result<Option<Stop>> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(None),
            Ok(n) if n as u64 > most => return Ok(Some(Stop::TooLong)),
            Ok(n) => {
                to.write_all(&buffer[..n])
                    .map_err(|reason| cannot_write(name, reason))?;
                most -= n as u64;
                if let Err(reason) = count(n as u64) {
                    return Ok(Some(Stop::Broken(reason)));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Ok(Some(Stop::Broken(error.to_string()))),
        }
    }
}

/// A tag that names the bytes and not only their meaning.
fn strong_tag(response: &Response<Body>) -> Option<String> {
    let weak = header(response, "etag").is_some_and(|tag| tag.trim().starts_with("W/"));
    entity_tag(response).filter(|_| !weak)
}

fn header_number(response: &Response<Body>, name: &str) -> Option<u64> {
    header(response, name)?.trim().parse().ok()
}

/// `5` of `Content-Range: bytes 5-9/10`.
fn range_start(response: &Response<Body>) -> Option<u64> {
    let range = header(response, "content-range")?.strip_prefix("bytes ")?;
    range.split('-').next()?.trim().parse().ok()
}

/// `10` of `Content-Range: bytes 5-9/10`.
fn range_total(response: &Response<Body>) -> Option<u64> {
    let range = header(response, "content-range")?;
    range.rsplit('/').next()?.trim().parse().ok()
}
