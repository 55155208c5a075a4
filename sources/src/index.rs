//! Where the archive of a package is: the simple API of the user's package index.
//!
//! pip is not asked to bring the archive, because pip builds: for a source distribution `pip download` runs whatever
//! build system the archive names. pip is asked for its *configuration* only (`pip config list`), which no package can
//! change; the index is asked here (PEP 503 in HTML, PEP 691 in JSON), and the archive is chosen by its sha256.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::address::{Address, percent_decoded, percent_encoded, without_secrets};
use crate::fetch::Fetcher;
use crate::http::{Client, Page, Ways, is_hex, shown};
use crate::pip_index::Index;
use crate::spec::{Package, PackageKind};
use crate::{Error, Result};

/// The longest page of a project; the largest that are known have about 40 MB.
const PAGE: u64 = 256 << 20;

/// JSON is preferred because it knows lengths.
const ACCEPT: &str = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1";

/// An archive that was found.
pub(crate) enum Found {
    /// A file of this machine, in a folder of `find-links`.
    Here(PathBuf),
    /// A file of an index.
    There {
        url: Address,
        client: Box<Client>,
        bytes: Option<u64>,
        /// Why the project took it back, if it did.
        yanked: Option<String>,
    },
}

/// One file of a project, as a page lists it.
#[derive(Debug, Default, PartialEq)]
struct Listed {
    name: String,
    link: String,
    sha256: Option<String>,
    bytes: Option<u64>,
    yanked: Option<String>,
}

impl Fetcher {
    /// Finds the archive of `package` by its sha256.
    pub(crate) fn find_archive(&self, package: &Package) -> Result<Found> {
        let asked;
        let index = match &self.settings.index {
            Some(index) => index,
            None => {
                asked = Index::of_pip(&self.settings.pip_environment)?;
                &asked
            }
        };
        let mut looked = Vec::new();
        let mut failed = None;
        for place in &index.find_links {
            let place = place.strip_prefix("file://").unwrap_or(place);
            if place.starts_with("http") && place.contains("://") {
                continue;
            }
            let folder = Path::new(place);
            match in_folder(folder, package) {
                Some(file) => return Ok(Found::Here(file)),
                None => looked.push(format!("{} has no such file", folder.display())),
            }
        }
        let project = percent_encoded(&normalised(&package.name)) + "/";
        let links = index
            .find_links
            .iter()
            .filter(|place| place.starts_with("http"));
        let pages = links
            .map(|page| (page, None))
            .chain(index.urls.iter().map(|url| (url, Some(project.as_str()))));
        for (url, project) in pages {
            match self.on_page(index, url, project, package) {
                Ok(Ok(found)) => return Ok(found),
                Ok(Err(instead)) => looked.push(instead),
                Err(Error::Http {
                    url, status: 404, ..
                }) => looked.push(format!("{url} does not know the package")),
                // Another index may have it.
                Err(error) => {
                    looked.push(error.to_string());
                    failed = failed.or(Some(error));
                }
            }
        }
        match failed {
            Some(error) if looked.len() == 1 => Err(error),
            _ => Err(Error::NotInIndex {
                package: format!("{} {}", package.name, package.version),
                sha256: package.sha256.clone(),
                looked,
            }),
        }
    }

    fn on_page(
        &self,
        index: &Index,
        url: &str,
        project: Option<&str>,
        package: &Package,
    ) -> Result<Result<Found, String>> {
        let base = Address::parse(url).ok_or_else(|| Error::PipConfiguration {
            key: "index-url",
            value: without_secrets(url),
            problem: "is not accepted; write http:// or https:// and the address of the index"
                .into(),
        })?;
        let certificates = match &index.certificates {
            Some(file) => Some(("pip's option cert", file.as_path())),
            None => self
                .settings
                .certificates
                .as_ref()
                .map(|(name, file)| (name.as_str(), file.as_path())),
        };
        let ways = Ways {
            certificates,
            proxy: index.proxy.as_deref(),
            unverified: index.trusts(&base),
        };
        let client = Client::new(&self.settings.patience, &ways)?;
        let client = client.with_secret(&base, base.authorization());
        let page = project.map_or(base.clone(), |project| base.below(project));
        let page = self.patiently(None, |_| client.page(&page, ACCEPT, PAGE))?;
        let listed = listed(&page)?;
        Ok(match choose(&listed, package) {
            Ok(file) => {
                let base = base_of(&page);
                match base.join(&file.link) {
                    Some(url) => Ok(Found::There {
                        url,
                        client: Box::new(client),
                        bytes: file.bytes,
                        yanked: file.yanked.clone(),
                    }),
                    None => Err(format!(
                        "{} has the link \"{}\", which is not an address",
                        page.url,
                        shown(&without_secrets(&file.link))
                    )),
                }
            }
            Err(instead) => Err(format!("{} {instead}", page.url)),
        })
    }
}

/// The file with the right hash; or one with the right name of which the page gives no hash: that is checked later.
fn choose<'a>(files: &'a [Listed], package: &Package) -> Result<&'a Listed, String> {
    let is_wanted = |file: &&Listed| file.sha256.as_deref() == Some(&package.sha256);
    if let Some(file) = files.iter().find(is_wanted) {
        return Ok(file);
    }
    let mut named = files.iter().filter(|file| is_named(&file.name, package));
    let Some(file) = named.clone().find(|file| file.sha256.is_none()) else {
        return Err(match named.next() {
            Some(other) => format!(
                "has {} with another sha256 ({})",
                shown(&other.name),
                shown(other.sha256.as_deref().unwrap_or_default())
            ),
            None => format!(
                "lists {} files, and none of them is version {} as {}",
                files.len(),
                package.version,
                package.kind
            ),
        });
    };
    Ok(file)
}

/// Whether a file of this name is the archive that is meant.
fn is_named(name: &str, package: &Package) -> bool {
    let stem = match package.kind {
        PackageKind::Wheel => name.strip_suffix(".whl"),
        PackageKind::Sdist => [".tar.gz", ".tgz", ".zip"]
            .into_iter()
            .find_map(|end| name.strip_suffix(end)),
    };
    let Some(stem) = stem else { return false };
    let named = match package.kind {
        // name-version-python-abi-platform
        PackageKind::Wheel => {
            let mut parts = stem.split('-');
            parts.next().zip(parts.next())
        }
        PackageKind::Sdist => stem.rsplit_once('-'),
    };
    named.is_some_and(|(name, version)| {
        normalised(name) == normalised(&package.name) && version == package.version
    })
}

/// PEP 503: `Foo._bar` and `foo-bar` are one name.
fn normalised(name: &str) -> String {
    let mut normal = String::new();
    for c in name.chars() {
        match c {
            '-' | '_' | '.' if normal.ends_with('-') => {}
            '-' | '_' | '.' => normal.push('-'),
            c => normal.extend(c.to_lowercase()),
        }
    }
    normal
}

fn in_folder(folder: &Path, package: &Package) -> Option<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .filter(|file| {
            is_named(
                &file.file_name().unwrap_or_default().to_string_lossy(),
                package,
            )
        })
        .collect();
    files.sort();
    files.into_iter().find(|file| {
        crate::verify::regular(file).is_ok()
            && crate::verify::sha256_of(file).is_ok_and(|hash| hash == package.sha256)
    })
}

#[derive(Deserialize)]
struct Project {
    files: Vec<ProjectFile>,
}

#[derive(Deserialize)]
struct ProjectFile {
    filename: String,
    url: String,
    #[serde(default)]
    hashes: BTreeMap<String, String>,
    size: Option<u64>,
    /// `true`, `false` or the reason.
    yanked: Option<serde_json::Value>,
}

/// The files of a page in either of its forms.
fn listed(page: &Page) -> Result<Vec<Listed>> {
    let refused = |problem: String| Error::Listing {
        url: page.url.to_string(),
        wanted: "list of a package's files",
        problem,
    };
    if page.kind.contains("json") {
        let project: Project =
            serde_json::from_str(&page.text).map_err(|error| refused(error.to_string()))?;
        let files = project.files.into_iter().map(|mut file| Listed {
            name: file.filename,
            link: file.url,
            sha256: file.hashes.remove("sha256"),
            bytes: file.size,
            yanked: match file.yanked {
                None | Some(serde_json::Value::Bool(false) | serde_json::Value::Null) => None,
                Some(serde_json::Value::String(reason)) => Some(reason),
                Some(_) => Some(String::new()),
            },
        });
        return Ok(files.collect());
    }
    let files: Vec<Listed> = anchors(&page.text)
        .filter_map(|anchor| {
            let link = anchor.attribute("href")?;
            let (link, fragment) = match link.split_once('#') {
                Some((link, fragment)) => (link.to_string(), fragment.to_string()),
                None => (link, String::new()),
            };
            let path = link.split('?').next().unwrap_or_default();
            let name = path.rsplit('/').next().unwrap_or_default();
            let name = String::from_utf8_lossy(&percent_decoded(name)).into_owned();
            Some(Listed {
                name,
                sha256: fragment
                    .split('&')
                    .find_map(|part| part.strip_prefix("sha256="))
                    .map(str::to_ascii_lowercase),
                bytes: None,
                yanked: anchor.attribute("data-yanked"),
                link,
            })
        })
        .filter(|file| {
            [".whl", ".zip", ".tgz", ".gz", ".bz2", ".egg"]
                .iter()
                .any(|end| file.name.ends_with(end))
        })
        .collect();
    if files.is_empty() {
        return Err(refused(
            "it is a page without a link to any archive: is it the login page of your network, or not the address of an \
             index (…/simple)?"
                .into(),
        ));
    }
    for file in &files {
        if let Some(sha256) = &file.sha256
            && !is_hex(sha256, 64)
        {
            return Err(refused(format!("\"{}\" is not a sha256", shown(sha256))));
        }
    }
    Ok(files)
}

/// What links on the page start at: `<base href>`, or the page.
fn base_of(page: &Page) -> Address {
    tags(&page.text, "base")
        .find_map(|tag| page.url.join(&tag.attribute("href")?))
        .unwrap_or_else(|| page.url.clone())
}

/// The inside of a tag: `href="x" data-yanked`.
struct Tag<'a>(&'a str);

fn anchors(html: &str) -> impl Iterator<Item = Tag<'_>> {
    tags(html, "a")
}

/// All opening tags of a name. Pages of indexes are plain enough for this; what is not understood is not found, and what
/// is found is held against its sha256.
fn tags<'a>(html: &'a str, name: &'a str) -> impl Iterator<Item = Tag<'a>> {
    html.split('<').filter_map(move |tag| {
        let start = tag.get(..name.len())?;
        let rest = tag.get(name.len()..)?;
        let named = start.eq_ignore_ascii_case(name) && rest.starts_with(char::is_whitespace);
        named.then_some(Tag(rest))
    })
}

impl Tag<'_> {
    fn attribute(&self, wanted: &str) -> Option<String> {
        let mut rest = self.0.trim_start();
        while !rest.is_empty() && !rest.starts_with('>') {
            let end = rest
                .find(|c: char| c.is_whitespace() || "=>".contains(c))
                .unwrap_or(rest.len());
            let (name, after) = rest.split_at(end);
            let after = after.trim_start();
            let (value, after) = match after.strip_prefix('=').map(str::trim_start) {
                None => ("", after),
                Some(value) => match value.chars().next() {
                    Some(quote @ ('"' | '\'')) => {
                        let inner = &value[1..];
                        let end = inner.find(quote)?;
                        (&inner[..end], &inner[end + 1..])
                    }
                    _ => {
                        let end = value
                            .find(|c: char| c.is_whitespace() || c == '>')
                            .unwrap_or(value.len());
                        value.split_at(end)
                    }
                },
            };
            if name.eq_ignore_ascii_case(wanted) {
                return Some(unescaped(value));
            }
            // A letter that is no name must not stop the search.
            rest = match name.is_empty() && after.len() == rest.len() {
                true => after.get(1..).unwrap_or_default().trim_start(),
                false => after.trim_start(),
            };
        }
        None
    }
}

fn unescaped(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&#39;", "'")
        .replace("&#x27;", "'")
        .replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, version: &str, kind: PackageKind) -> Package {
        Package {
            name: name.into(),
            version: version.into(),
            kind,
            sha256: "a".repeat(64),
            bytes: None,
            files: BTreeMap::new(),
            hashes: BTreeMap::new(),
        }
    }

    #[test]
    fn an_archive_is_known_by_its_name() {
        for (file, name, version, kind, is) in [
            (
                "tiny_net-1.0-py3-none-any.whl",
                "tiny-net",
                "1.0",
                PackageKind::Wheel,
                true,
            ),
            (
                "Tiny.Net-1.0-py3-none-any.whl",
                "tiny_net",
                "1.0",
                PackageKind::Wheel,
                true,
            ),
            (
                "tiny_net-1.0.1-py3-none-any.whl",
                "tiny-net",
                "1.0",
                PackageKind::Wheel,
                false,
            ),
            (
                "tiny_net_more-1.0-py3-none-any.whl",
                "tiny-net",
                "1.0",
                PackageKind::Wheel,
                false,
            ),
            (
                "tiny-net-1.0.tar.gz",
                "tiny-net",
                "1.0",
                PackageKind::Sdist,
                true,
            ),
            (
                "tiny_net-1.0.zip",
                "tiny-net",
                "1.0",
                PackageKind::Sdist,
                true,
            ),
            (
                "tiny-net-1.0.tar.gz",
                "tiny-net",
                "1.0",
                PackageKind::Wheel,
                false,
            ),
            (
                "tiny-net-1.0.post1.tar.gz",
                "tiny-net",
                "1.0",
                PackageKind::Sdist,
                false,
            ),
        ] {
            assert_eq!(is_named(file, &package(name, version, kind)), is, "{file}");
        }
    }

    #[test]
    fn attributes_are_read_in_all_their_spellings() {
        let html = "<A class=x HREF = 'a-1.zip#sha256=0&amp;x' data-yanked=\"it&#39;s\">a</A><a href=b.whl>b</a>\
                    <abbr href=no.whl></abbr><a data-yanked href=\"c.whl\"/><a x = 1 href=d.whl><a href='unclosed";
        let seen: Vec<_> = anchors(html)
            .map(|tag| (tag.attribute("href"), tag.attribute("data-yanked")))
            .collect();
        let some = |text: &str| Some(text.to_string());
        assert_eq!(
            seen,
            [
                (some("a-1.zip#sha256=0&x"), some("it's")),
                (some("b.whl"), None),
                (some("c.whl"), some("")),
                (some("d.whl"), None),
                (None, None),
            ]
        );
    }
}
