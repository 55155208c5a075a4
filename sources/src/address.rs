//! Addresses of the web, with their credentials kept apart so that no message shows them.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// An `http` or `https` address.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Address {
    secure: bool,
    host: String,
    port: u16,
    /// With its `/` and its query, without a fragment.
    path: String,
    /// `user:password` as written.
    credentials: Option<String>,
}

impl Address {
    /// Reads an absolute address; `None` for one that is not accepted. A fragment is dropped.
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.trim().split_once("://")?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let rest = rest.split('#').next()?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        // Read in two ways by different programs, so by us in none.
        if authority.contains('\\') {
            return None;
        }
        let (credentials, place) = match authority.rsplit_once('@') {
            Some((credentials, place)) => (Some(credentials.to_string()), place),
            None => (None, authority),
        };
        let (host, port) = match place.rsplit_once(':') {
            // The colons of `[::1]` are its own.
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
            _ => (place, if secure { 443 } else { 80 }),
        };
        let bracketed = host.starts_with('[') && host.ends_with(']');
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let known = if bracketed {
            host[1..host.len() - 1]
                .chars()
                .all(|c| c.is_ascii_hexdigit() || ":.".contains(c))
        } else {
            host.chars().all(plain)
        };
        if host.is_empty() || !known {
            return None;
        }
        let path = if path.starts_with('/') {
            path.to_string()
        } else {
            format!("/{path}")
        };
        Some(Self {
            secure,
            host: host.to_ascii_lowercase(),
            port,
            path: printable(&path),
            credentials,
        })
    }

    /// Scheme, host and port: what may see the same secrets.
    pub fn origin(&self) -> (bool, &str, u16) {
        (self.secure, &self.host, self.port)
    }

    pub fn is_secure(&self) -> bool {
        self.secure
    }

    pub fn host(&self) -> &str {
        &self.host
    }

    /// The header that the credentials of this address ask for.
    pub fn authorization(&self) -> Option<String> {
        let credentials = percent_decoded(self.credentials.as_deref()?);
        Some(format!("Basic {}", STANDARD.encode(credentials)))
    }

    /// The same place with `more` behind its path.
    pub fn below(&self, more: &str) -> Self {
        Self {
            path: format!("{}/{more}", self.path.trim_end_matches('/')),
            ..self.clone()
        }
    }

    /// What a link on the page of this address means.
    pub fn join(&self, link: &str) -> Option<Self> {
        let link = link.trim().split('#').next()?;
        let scheme = link.find(':').filter(|end| {
            let mut letters = link[..*end].chars();
            letters.next().is_some_and(|c| c.is_ascii_alphabetic())
                && letters.all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
        });
        if scheme.is_some() {
            return Self::parse(link);
        }
        if let Some(rest) = link.strip_prefix("//") {
            let scheme = if self.secure { "https" } else { "http" };
            return Self::parse(&format!("{scheme}://{rest}"));
        }
        let own = self.path.split('?').next().unwrap_or("/");
        let (link, query) = match link.split_once('?') {
            Some((link, query)) => (link, format!("?{query}")),
            None => (link, String::new()),
        };
        let whole = if link.is_empty() {
            own.to_string()
        } else if link.starts_with('/') {
            link.to_string()
        } else {
            let folder = own.rfind('/').map_or("/", |end| &own[..=end]);
            format!("{folder}{link}")
        };
        let mut parts: Vec<&str> = Vec::new();
        for part in whole.split('/').skip(1) {
            match part {
                "." => {}
                ".." => {
                    parts.pop();
                }
                part => parts.push(part),
            }
        }
        if matches!(whole.rsplit('/').next(), Some("." | "..")) {
            parts.push("");
        }
        Some(Self {
            path: printable(&format!("/{}{query}", parts.join("/"))),
            credentials: None,
            ..self.clone()
        })
    }
}

/// Without the credentials.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, usual) = if self.secure {
            ("https", 443)
        } else {
            ("http", 80)
        };
        write!(f, "{scheme}://{}", self.host)?;
        if self.port != usual {
            write!(f, ":{}", self.port)?;
        }
        f.write_str(&self.path)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An address as a message may show it: what stands before an `@` of its host is a secret.
pub(crate) fn without_secrets(text: &str) -> String {
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let end = rest.find('/').unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) if scheme.is_empty() => format!("***{}", &rest[at..]),
        Some(at) => format!("{scheme}://***{}", &rest[at..]),
        None => text.to_string(),
    }
}

/// Everything but letters, digits and `-_.~/` as `%XX`.
pub(crate) fn percent_encoded(path: &str) -> String {
    path.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

pub(crate) fn percent_decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = bytes
            .get(at + 1..at + 3)
            .filter(|_| bytes[at] == b'%')
            .and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        decoded.push(code.unwrap_or(bytes[at]));
        at += if code.is_some() { 3 } else { 1 };
    }
    decoded
}

/// What cannot stand in a request line as `%XX`; what is written so already stays.
fn printable(path: &str) -> String {
    path.bytes()
        .map(|byte| match byte {
            b'!'..=b'~' if !b"\"<>\\^`{|}".contains(&byte) => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_kept_apart_and_never_shown() {
        let address = Address::parse("https://ada:p%40ss@Mirror.example:8443/simple").unwrap();
        assert_eq!(address.to_string(), "https://mirror.example:8443/simple");
        // base64 of `ada:p@ss`
        assert_eq!(
            address.authorization().as_deref(),
            Some("Basic YWRhOnBAc3M=")
        );
        assert_eq!(
            without_secrets("https://ada:p@ss@mirror/x@y"),
            "https://***@mirror/x@y"
        );
        assert_eq!(without_secrets("ada:pass@mirror"), "***@mirror");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "mirror.example",
            "ftp://mirror.example/",
            "https://",
            "https:///simple",
            "https://good\\@evil/",
            "https://a b/",
            "https://host:99999/",
            "https://host:/",
            "https://[::1/",
            "javascript:alert(1)",
        ] {
            assert!(Address::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn links_are_joined_as_rfc_3986_says() {
        let base = Address::parse("http://a/b/c/d?q").unwrap();
        for (link, whole) in [
            ("g", "http://a/b/c/g"),
            ("./g", "http://a/b/c/g"),
            ("g/", "http://a/b/c/g/"),
            ("/g", "http://a/g"),
            ("//g", "http://g/"),
            ("?y", "http://a/b/c/d?y"),
            ("g?y", "http://a/b/c/g?y"),
            ("#s", "http://a/b/c/d"),
            ("g#s", "http://a/b/c/g"),
            ("..", "http://a/b/"),
            ("../g", "http://a/b/g"),
            ("../../g", "http://a/g"),
            ("../../../../g", "http://a/g"),
            ("https://x:80/y", "https://x:80/y"),
            ("a b/ü", "http://a/b/c/a%20b/%C3%BC"),
        ] {
            assert_eq!(base.join(link).unwrap().to_string(), whole, "{link}");
        }
        assert!(base.join("file:///etc/passwd").is_none());
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let origin = |text: &str| Address::parse(text).unwrap();
        assert_eq!(
            origin("https://Hub/").origin(),
            origin("https://hub:443/x").origin()
        );
        for other in ["http://hub/", "https://hub:8443/", "https://hub.evil/"] {
            assert_ne!(
                origin("https://hub/").origin(),
                origin(other).origin(),
                "{other}"
            );
        }
    }
}
