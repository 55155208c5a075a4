//! One `GET` after another, as careful as a stranger's server needs.
//!
//! - Redirects are followed here, not by the library, because each one is a question of trust: what is secret goes to
//!   the scheme, host and port it belongs to and to no other, and nothing leads from `https` to `http`.
//! - No answer may take for ever: silence, slowness and the whole time have limits, and so have the bytes.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use ureq::config::RedirectAuthHeaders;
use ureq::http::Response;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, Proxy};

use crate::address::{Address, without_secrets};
use crate::patience::Patience;
use crate::{Error, Result};

/// As many redirects as browsers and Python follow, roughly.
const REDIRECTS: u32 = 10;

/// What one server, or a family of servers, is asked with.
pub(crate) struct Client {
    agent: Agent,
    /// The address whose origin may see the secret, and the secret header.
    secret: Option<(Address, String)>,
    pub patience: Patience,
}

/// How a [`Client`] reaches the network.
#[derive(Default)]
pub(crate) struct Ways<'a> {
    /// A file of certificates, and what named it.
    pub certificates: Option<(&'a str, &'a Path)>,
    /// Instead of the proxies that the environment names.
    pub proxy: Option<&'a str>,
    /// The certificates of servers are not looked at.
    pub unverified: bool,
}

/// What the first host says about a file; later hosts of a redirect are not believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// `X-Repo-Commit`.
    pub commit: Option<String>,
    /// The entity tag without quotes; for large files of the hub it is their sha256.
    pub etag: Option<String>,
    /// `X-Linked-Size`.
    pub bytes: Option<u64>,
}

impl Facts {
    /// The sha256 that the entity tag is, if it is one.
    pub fn sha256(&self) -> Option<&str> {
        self.etag.as_deref().filter(|etag| is_hex(etag, 64))
    }
}

pub(crate) fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// What is sent.
pub(crate) enum Sent<'a> {
    Text(&'a str),
    File(&'a File),
}

/// An answer whose body has not been read.
pub(crate) struct Answer {
    /// The address that gave it, after all redirects.
    pub url: Address,
    pub facts: Facts,
    pub response: Response<Body>,
}

impl Client {
    pub fn new(patience: &Patience, ways: &Ways<'_>) -> Result<Self> {
        let mut tls = TlsConfig::builder().disable_verification(ways.unverified);
        if let Some((name, path)) = ways.certificates {
            tls = tls.root_certs(certificates(name, path)?);
        }
        let mut config = Agent::config_builder()
            .user_agent(concat!("peftbench/", env!("CARGO_PKG_VERSION")))
            // Packed bytes would make lengths and ranges mean something else.
            .accept_encoding("identity")
            .redirect_auth_headers(RedirectAuthHeaders::Never)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .tls_config(tls.build())
            .timeout_resolve(Some(patience.connect))
            .timeout_connect(Some(patience.connect))
            .timeout_recv_response(Some(patience.silence))
            .timeout_per_read(Some(patience.silence));
        if let Some(proxy) = ways.proxy {
            let proxy = Proxy::new(proxy).map_err(|error| Error::Environment {
                name: "PIP_PROXY",
                value: without_secrets(proxy),
                problem: format!("is not the address of a proxy ({error}); write http://host:port"),
            })?;
            config = config.proxy(Some(proxy));
        }
        Ok(Self {
            agent: config.build().into(),
            secret: None,
            patience: patience.clone(),
        })
    }

    /// Sends `header` as `Authorization` to the origin of `of`, and nowhere else.
    pub fn with_secret(mut self, of: &Address, header: Option<String>) -> Self {
        self.secret = header.map(|header| (of.clone(), header));
        self
    }

    /// Asks for `url`. The redirects end early where `enough` is content with what is known.
    pub fn get(
        &self,
        url: &Address,
        headers: &[(&str, String)],
        enough: impl Fn(&Facts) -> bool,
    ) -> Result<Answer> {
        let mut at = url.clone();
        let mut facts = Facts::default();
        for _ in 0..=REDIRECTS {
            let response = self.ask(&at, headers)?;
            if at.origin() == url.origin() {
                facts.hear(&response);
            }
            let moved = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            if !moved || enough(&facts) {
                if facts.etag.is_none() && at.origin() == url.origin() {
                    facts.etag = entity_tag(&response);
                }
                return Ok(Answer {
                    url: at,
                    facts,
                    response,
                });
            }
            let to = header(&response, "location").unwrap_or_default();
            let next = follow(&at, to).map_err(|reason| Error::Redirect {
                url: at.to_string(),
                reason,
            })?;
            at = next;
        }
        Err(Error::Redirect {
            url: url.to_string(),
            reason: format!("more than {REDIRECTS} times"),
        })
    }

    /// Sends something, and returns the status and the first megabyte of the answer. Redirects are not followed.
    pub fn send(
        &self,
        method: &str,
        url: &Address,
        headers: &[(&str, String)],
        body: Sent<'_>,
    ) -> Result<(u16, Vec<u8>)> {
        let unreachable = |reason: String| Error::Unreachable {
            url: url.to_string(),
            reason,
        };
        let mut request = match method {
            "PUT" => self.agent.put(url.to_string()),
            _ => self.agent.post(url.to_string()),
        };
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        if let Some((of, secret)) = &self.secret
            && of.origin() == url.origin()
        {
            request = request.header("Authorization", secret);
        }
        let answer = match body {
            Sent::Text(text) => request.send(text),
            Sent::File(file) => request.send(file),
        };
        let answer = answer.map_err(|e| unreachable(e.to_string()))?;
        let status = answer.status().as_u16();
        let mut text = Vec::new();
        let reader = answer.into_body().into_reader();
        reader
            .take(1 << 20)
            .read_to_end(&mut text)
            .map_err(|e| unreachable(e.to_string()))?;
        Ok((status, text))
    }

    fn ask(&self, url: &Address, headers: &[(&str, String)]) -> Result<Response<Body>> {
        let mut request = self.agent.get(url.to_string());
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        if let Some((of, secret)) = &self.secret
            && of.origin() == url.origin()
        {
            request = request.header("Authorization", secret);
        }
        request.call().map_err(|error| Error::Unreachable {
            url: url.to_string(),
            reason: error.to_string(),
        })
    }

    /// A page of at most `most` bytes, with the address that gave it and its kind.
    pub fn page(&self, url: &Address, accept: &str, most: u64) -> Result<Page> {
        let answer = self.get(url, &[("Accept", accept.into())], |_| false)?;
        check_status(&answer)?;
        let kind = header(&answer.response, "content-type")
            .unwrap_or_default()
            .to_ascii_lowercase();
        let next = next_page(&answer);
        let mut text = Vec::new();
        let mut pace = Pace::new(&self.patience, Instant::now() + self.patience.whole);
        let mut body = answer.response.into_body().into_reader();
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let interrupted = |reason: String| Error::Interrupted {
                url: url.to_string(),
                got: 0,
                reason,
            };
            let n = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(interrupted(error.to_string())),
            };
            text.extend_from_slice(&buffer[..n]);
            if text.len() as u64 > most {
                return Err(Error::BadDownload {
                    url: url.to_string(),
                    expected: format!("a page of at most {most} bytes"),
                    actual: "more".into(),
                });
            }
            pace.step(n as u64).map_err(interrupted)?;
        }
        Ok(Page {
            url: answer.url,
            kind,
            next,
            text: String::from_utf8_lossy(&text).into_owned(),
        })
    }
}

/// Where a redirect leads, or why we do not go there.
fn follow(at: &Address, to: &str) -> Result<Address, String> {
    let next = at.join(to).ok_or_else(|| {
        format!(
            "to \"{}\", which is not an address",
            shown(&without_secrets(to))
        )
    })?;
    if at.is_secure() && !next.is_secure() {
        return Err(format!("from https to {next}, which is not https"));
    }
    Ok(next)
}

/// A text that was read whole.
pub(crate) struct Page {
    pub url: Address,
    /// `Content-Type` in lower case.
    pub kind: String,
    /// The page that goes on, from `Link: <…>; rel="next"`.
    pub next: Option<Address>,
    pub text: String,
}

fn next_page(answer: &Answer) -> Option<Address> {
    let links = header(&answer.response, "link")?;
    let next = links
        .split(',')
        .find(|link| link.contains("rel=\"next\"") || link.contains("rel=next"))?;
    let target = next.trim().strip_prefix('<')?.split('>').next()?;
    let next = answer.url.join(target)?;
    // Another host has no say in what a repository holds.
    (next.origin() == answer.url.origin()).then_some(next)
}

impl Facts {
    fn hear(&mut self, response: &Response<Body>) {
        let commit = header(response, "x-repo-commit").filter(|commit| is_hex(commit, 40));
        self.commit = self.commit.take().or(commit.map(str::to_string));
        let linked = header(response, "x-linked-etag").and_then(tag);
        self.etag = self.etag.take().or(linked);
        let bytes = header(response, "x-linked-size").and_then(|size| size.trim().parse().ok());
        self.bytes = self.bytes.or(bytes);
    }
}

/// The status of a file or a page, or what is wrong with it.
pub(crate) fn check_status(answer: &Answer) -> Result<()> {
    match answer.response.status().as_u16() {
        200 => Ok(()),
        status => Err(Error::Http {
            url: answer.url.to_string(),
            status,
            wait: header(&answer.response, "retry-after")
                .and_then(|wait| pause(wait, header(&answer.response, "date"))),
        }),
    }
}

/// `Retry-After` in seconds, or as a date, which counts from the server's own.
fn pause(wait: &str, now: Option<&str>) -> Option<Duration> {
    if let Ok(seconds) = wait.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let seconds = since_1970(wait)?.checked_sub(since_1970(now?)?)?;
    Some(Duration::from_secs(seconds.try_into().unwrap_or(0)))
}

/// Seconds to a date of HTTP: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn since_1970(date: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let parts: Vec<&str> = date.split_ascii_whitespace().collect();
    let [_, day, month, year, clock, "GMT"] = parts.as_slice() else {
        return None;
    };
    let number = |text: &str| text.parse::<u16>().ok().map(i64::from);
    let month = 1 + MONTHS.iter().position(|known| known == month)? as i64;
    let (day, year) = (number(day)?, number(year)?);
    let mut clock = clock.split(':').map(number);
    let (hours, minutes, seconds) = (clock.next()??, clock.next()??, clock.next()??);
    // Days of the Gregorian calendar, with years that begin in March.
    let years = if month <= 2 { year - 1 } else { year };
    let before = years * 365 + years / 4 - years / 100 + years / 400;
    let days = before + (153 * ((month + 9) % 12) + 2) / 5 + day - 1 - 719_468;
    Some(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
}

pub(crate) fn header<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

/// The entity tag without quotes.
pub(crate) fn entity_tag(response: &Response<Body>) -> Option<String> {
    header(response, "etag").and_then(tag)
}

fn tag(text: &str) -> Option<String> {
    let text = text.trim();
    let text = text
        .strip_prefix("W/")
        .unwrap_or(text)
        .trim_matches('"')
        .trim();
    let good = !text.is_empty() && text.len() <= 256 && text.bytes().all(|b| b.is_ascii_graphic());
    good.then(|| text.to_string())
}

/// Where a transfer would end if it got no faster.
pub(crate) struct Pace<'a> {
    patience: &'a Patience,
    end: Instant,
    window: Instant,
    bytes: u64,
}

impl<'a> Pace<'a> {
    pub fn new(patience: &'a Patience, end: Instant) -> Self {
        Self {
            patience,
            end,
            window: Instant::now(),
            bytes: 0,
        }
    }

    /// So many more bytes are here; an error says why that is not enough.
    pub fn step(&mut self, bytes: u64) -> Result<(), String> {
        self.bytes += bytes;
        let (now, patience) = (Instant::now(), self.patience);
        if now > self.end {
            return Err(format!("it took longer than {:?}", patience.whole));
        }
        let passed = now - self.window;
        if passed < patience.window {
            return Ok(());
        }
        if (self.bytes as f64) < patience.slowest as f64 * passed.as_secs_f64() {
            return Err(format!(
                "it came slower than {} bytes per second for {:?}",
                patience.slowest, patience.window
            ));
        }
        (self.window, self.bytes) = (now, 0);
        Ok(())
    }
}

/// Words of a stranger for a message: short, and without control characters.
pub(crate) fn shown(text: &str) -> String {
    text.chars()
        .take(200)
        .flat_map(|c| {
            let plain = !c.is_control();
            let escaped = (!plain).then(|| c.escape_default());
            plain
                .then_some(c)
                .into_iter()
                .chain(escaped.into_iter().flatten())
        })
        .collect()
}

/// The certificates of a file, or of the files of a folder.
fn certificates(name: &str, path: &Path) -> Result<RootCerts> {
    let refused = |problem: String| Error::Certificates {
        name: name.to_string(),
        file: path.to_path_buf(),
        problem,
    };
    let mut files = vec![path.to_path_buf()];
    if path.is_dir() {
        let entries = std::fs::read_dir(path).map_err(|error| refused(error.to_string()))?;
        files = entries.flatten().map(|entry| entry.path()).collect();
        files.retain(|file| file.is_file());
        files.sort();
    }
    let mut roots: Vec<Certificate<'static>> = Vec::new();
    for file in files {
        let pem = crate::verify::read_whole(&file, 64 << 20)
            .map_err(|error| refused(error.to_string()))?;
        roots.extend(parse_pem(&pem).filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        }));
    }
    if roots.is_empty() {
        return Err(refused("it holds no certificate in PEM form".into()));
    }
    Ok(RootCerts::from(roots))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_redirect_leads_from_https_to_http_or_out_of_the_web() {
        let secure = Address::parse("https://hub.example/a").unwrap();
        let plain = Address::parse("http://hub.example/a").unwrap();
        for to in [
            "http://hub.example/a",
            "http://other.example/",
            "HTTP://hub.example:443/",
        ] {
            assert!(
                follow(&secure, to)
                    .unwrap_err()
                    .contains("which is not https"),
                "{to}"
            );
            assert!(follow(&plain, to).is_ok(), "{to}");
        }
        for to in [
            "file:///etc/passwd",
            "ftp://u:s3cret@x/",
            "javascript:x",
            "https://",
            "http://a\\@b/",
        ] {
            let refused = follow(&plain, to).unwrap_err();
            assert!(
                refused.contains("which is not an address") && !refused.contains("s3cret"),
                "{to}: {refused}"
            );
        }
        assert_eq!(
            follow(&secure, "//cdn.example/b").unwrap().to_string(),
            "https://cdn.example/b"
        );
    }

    #[test]
    fn a_server_names_a_pause_in_seconds_or_by_a_date() {
        // Python: calendar.timegm((1994, 11, 6, 8, 49, 37)) and others.
        for (date, seconds) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
            ("Tue, 29 Feb 2000 23:59:59 GMT", 951_868_799),
            ("Fri, 01 Mar 2024 00:00:00 GMT", 1_709_251_200),
        ] {
            assert_eq!(since_1970(date), Some(seconds), "{date}");
        }
        let now = Some("Sun, 06 Nov 1994 08:49:37 GMT");
        let wait = |text: &str| pause(text, now).map(|wait| wait.as_secs());
        assert_eq!(wait("120"), Some(120));
        assert_eq!(wait("Sun, 06 Nov 1994 08:50:37 GMT"), Some(60));
        assert_eq!(wait("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
        for none in [
            "",
            "-1",
            "soon",
            "Sun, 06 Nov 1994 08:49 GMT",
            "Sun, 06 Xyz 1994 08:49:37 GMT",
            "Sun, 06 Nov 99999 08:49:37 GMT",
        ] {
            assert_eq!(wait(none), None, "{none}");
        }
        assert_eq!(pause("Sun, 06 Nov 1994 08:50:37 GMT", None), None);
    }

    #[test]
    fn words_of_strangers_are_shown_short_and_harmless() {
        assert_eq!(shown("a\u{1b}[2J\nb"), "a\\u{1b}[2J\\nb");
        assert_eq!(shown(&"x".repeat(1000)).len(), 200);
    }
}
