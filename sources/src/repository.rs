//! Any model or data set of the hub by its id: which files it has, and which of them are wanted.
//!
//! The hub lists the files of a commit with their lengths and, for large ones, their sha256. So an id becomes a
//! [`Source`] like that of a YAML: pinned to a commit, every byte of it checked. What was listed once is kept, and without
//! the network that list, or what Python's cache has of the commit, is used.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use hf_hub::{Cache, Repo};
use serde::{Deserialize, Serialize};

use crate::address::Address;
use crate::configs::{self, CARD, Subset};
use crate::fetch::{Fetched, Fetcher};
use crate::files::cannot_write;
use crate::http::is_hex;
use crate::hub::{Hubs, is_no_answer, repository};
use crate::spec::{FileSpec, Hub, HubKind, Place, Source};
use crate::{Error, Result};

/// The longest page of a list of files.
const PAGE: u64 = 64 << 20;
/// The longest card.
const LONGEST_CARD: u64 = 4 << 20;
/// More pages of a list than any repository has.
const PAGES: usize = 200;
/// The branch on which the hub keeps data sets of any form as Parquet.
const CONVERTED: &str = "refs/convert/parquet";

/// A repository as people write it: `owner/name`, `owner/name@revision`, for data sets also `owner/name/subset`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// `owner/name`, or the `name` of an old repository without an owner.
    pub repo: String,
    /// The part of a data set that has several.
    pub subset: Option<String>,
    /// A branch, a tag or a commit.
    pub revision: Option<String>,
}

impl Reference {
    /// Reads an id, with or without `hub:` before it.
    ///
    /// # Errors
    /// [`Error::Reference`] when it is not one.
    pub fn parse(text: &str, kind: HubKind) -> Result<Self> {
        let refused = || Error::Reference {
            text: text.to_string(),
            form: match kind {
                HubKind::Dataset => {
                    "hub:owner/name, hub:owner/name/subset, hub:owner/name@revision"
                }
                HubKind::Model => "owner/name, owner/name@revision",
            },
        };
        let id = text.strip_prefix("hub:").unwrap_or(text);
        let (id, revision) = match id.split_once('@') {
            Some((id, revision)) => (id, Some(revision.to_string())),
            None => (id, None),
        };
        let mut parts = id.splitn(3, '/');
        let owner = parts.next().unwrap_or_default();
        let repo = match parts.next() {
            Some(name) => format!("{owner}/{name}"),
            None => owner.to_string(),
        };
        let subset = parts.next().map(str::to_string);
        let hub = Hub {
            repo: repo.clone(),
            kind,
            revision: revision.clone().unwrap_or_else(|| "main".into()),
            files: BTreeMap::new(),
            hashes: BTreeMap::new(),
        };
        let whole = Source {
            files: BTreeMap::from([("any".into(), optional())]),
            places: vec![Place::Hub(hub)],
        };
        if !whole.problems().is_empty() || (kind == HubKind::Model && subset.is_some()) {
            return Err(refused());
        }
        Ok(Self {
            repo,
            subset: subset.filter(|subset| !subset.is_empty()),
            revision,
        })
    }
}

fn optional() -> FileSpec {
    FileSpec {
        optional: true,
        ..FileSpec::default()
    }
}

/// A data set of the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubData {
    /// Its files, pinned to a commit.
    pub source: Source,
    /// `train`, `validation`, `test` → the names in [`Source::files`] of the files that make it up, in order.
    pub splits: BTreeMap<&'static str, Vec<String>>,
    /// The extension that all files have: `parquet`, `jsonl`, `csv`, `tsv`.
    pub extension: String,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// A model of the hub, on this machine.
#[derive(Clone, Debug)]
pub struct HubModel {
    /// The folder that holds `config.json`, the weights and the tokenizer's files.
    pub folder: PathBuf,
    /// As [`Fetcher::fetch`] gives it.
    pub fetched: Fetched,
}

/// One file of a commit.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Listed {
    path: String,
    #[serde(default)]
    bytes: Option<u64>,
    #[serde(default)]
    sha256: Option<String>,
}

/// The files of a commit.
struct Tree {
    hub: Hub,
    files: Vec<Listed>,
    warnings: Vec<String>,
}

/// As the hub's API writes it.
#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    size: Option<u64>,
    #[serde(default)]
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    oid: String,
    #[serde(default)]
    size: Option<u64>,
}

#[derive(Deserialize)]
struct Info {
    sha: String,
}

impl Fetcher {
    /// The commit that a model's id stands for now; without the network, the one it was last.
    ///
    /// # Errors
    /// As [`Fetcher::fetch`].
    pub fn model_commit(&self, reference: &Reference) -> Result<String> {
        let tree = self.tree(reference, HubKind::Model, reference.revision.as_deref())?;
        Ok(tree.hub.revision)
    }

    /// Brings the files of a model that a backbone is read from.
    ///
    /// # Errors
    /// [`Error::NoFiles`] when the repository has no weights as safetensors, and as [`Fetcher::fetch`].
    pub fn model(&self, reference: &Reference) -> Result<HubModel> {
        let tree = self.tree(reference, HubKind::Model, reference.revision.as_deref())?;
        let names: BTreeSet<&str> = tree.files.iter().map(|file| file.path.as_str()).collect();
        let shard = |name: &str| {
            let shards = name.starts_with("model-") && name.ends_with(".safetensors");
            shards || name == "model.safetensors.index.json"
        };
        let weights = |name: &str| match names.contains("model.safetensors") {
            true => name == "model.safetensors",
            false => shard(name),
        };
        const BESIDE: [&str; 12] = [
            "config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "chat_template.jinja",
            "special_tokens_map.json",
            "added_tokens.json",
            "vocab.txt",
            "vocab.json",
            "merges.txt",
            "sentence_bert_config.json",
            "modules.json",
            "1_Pooling/config.json",
        ];
        let missing = |what: &str| Error::NoFiles {
            repo: tree.hub.repo.clone(),
            problem: match names
                .iter()
                .find(|name| name.ends_with(".bin") || name.ends_with(".h5"))
            {
                Some(other) => format!(
                    "it has no {what} but {other}, which can run code when it is read; a branch like @refs/pr/1 may have the \
                     weights as safetensors, or convert them with transformers: \
                     AutoModel.from_pretrained(\"{}\").save_pretrained(\"FOLDER\")",
                    tree.hub.repo
                ),
                None => format!("it has no {what}; it has: {}", some(names.iter().copied())),
            },
        };
        if !names.contains("config.json") {
            return Err(missing("config.json"));
        }
        if !names.iter().any(|name| weights(name)) {
            return Err(missing("model.safetensors"));
        }
        let wanted: Vec<&Listed> = tree
            .files
            .iter()
            .filter(|file| weights(&file.path) || BESIDE.contains(&file.path.as_str()))
            .collect();
        let source = source_of(
            &tree.hub,
            wanted.iter().map(|file| (file.path.clone(), *file)),
        );
        let what = format!("model {}", tree.hub.repo);
        let mut fetched = self.fetch(&what, &source)?;
        fetched.warnings.splice(0..0, tree.warnings);
        let folder = self.one_folder(&repository(&tree.hub), &fetched.files)?;
        Ok(HubModel { folder, fetched })
    }

    /// The folder that all files are in; where some lie in Python's cache and some in ours, ours gets the others as well.
    fn one_folder(&self, repo: &Repo, files: &BTreeMap<String, PathBuf>) -> Result<PathBuf> {
        let root = |(name, file): (&String, &PathBuf)| {
            let depth = name.split('/').count();
            file.ancestors().nth(depth).map(Path::to_path_buf)
        };
        let roots: BTreeSet<_> = files.iter().filter_map(root).collect();
        if let (1, Some(only)) = (roots.len(), roots.first()) {
            return Ok(only.clone());
        }
        let own = Cache::new(self.cache().join("hub")).repo(repo.clone());
        let own = own.pointer_path(repo.revision());
        for (name, file) in files {
            let target = own.join(name);
            let folder = target.parent().unwrap_or(&own);
            let place = || -> std::io::Result<()> {
                if target.exists() {
                    return Ok(());
                }
                fs::create_dir_all(folder)?;
                let real = file.canonicalize()?;
                fs::hard_link(&real, &target).or_else(|_| fs::copy(&real, &target).map(drop))
            };
            place().map_err(|reason| cannot_write(&target, reason))?;
        }
        Ok(own)
    }

    /// Finds the files of a data set's splits, as its card says or by their names: in the repository itself, else in its
    /// conversion to Parquet by the hub.
    ///
    /// # Errors
    /// [`Error::NoFiles`] when neither has a training split, or has several subsets and none is named; and as
    /// [`Fetcher::fetch`].
    pub fn data(&self, reference: &Reference) -> Result<HubData> {
        let mut tree = self.tree(reference, HubKind::Dataset, reference.revision.as_deref())?;
        let refused = |problem: String| Error::NoFiles {
            repo: reference.repo.clone(),
            problem,
        };
        let card = self.card(&mut tree)?;
        let named = reference.subset.as_deref();
        let described = configs::chosen(&card, named, &reference.repo).map_err(refused)?;
        let found = match described {
            Some(subset) => splits_by_card(&tree, subset),
            None => splits_of(&tree, "", named),
        };
        let first = match found {
            Ok(data) => return Ok(data),
            Err(first) => first,
        };
        if reference.revision.is_some() {
            return Err(refused(first));
        }
        let converted = self.tree(reference, HubKind::Dataset, Some(CONVERTED));
        let converted = match converted {
            Ok(tree) => tree,
            Err(Error::Http { status: 404, .. } | Error::NoPlace { .. }) => {
                return Err(refused(first));
            }
            Err(error) => return Err(error),
        };
        let subset = described.map(|subset| subset.name.as_str()).or(named);
        splits_of(&converted, "", subset).map_err(refused)
    }

    /// The subsets that a data set's card describes.
    fn card(&self, tree: &mut Tree) -> Result<Vec<Subset>> {
        let Some(file) = tree.files.iter().find(|file| file.path == CARD) else {
            return Ok(Vec::new());
        };
        let source = source_of(&tree.hub, [(CARD.to_owned(), file)].into_iter());
        let what = format!("the card of {}", tree.hub.repo);
        let text = match self.fetch(&what, &source) {
            Ok(fetched) => crate::verify::read_whole(&fetched.files[CARD], LONGEST_CARD),
            Err(_) if self.settings.offline => {
                tree.warnings.push(format!(
                    "its {CARD} is not on this machine, so what that says of its files is not followed"
                ));
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        };
        let refused = |problem: String| Error::NoFiles {
            repo: tree.hub.repo.clone(),
            problem,
        };
        let text = text.map_err(|error| refused(format!("{CARD}: {error}")))?;
        configs::subsets(&String::from_utf8_lossy(&text)).map_err(refused)
    }

    /// The files of a repository as it is now, or was when it was last looked at.
    fn tree(&self, reference: &Reference, kind: HubKind, revision: Option<&str>) -> Result<Tree> {
        let hub = Hub {
            repo: reference.repo.clone(),
            kind,
            revision: revision.unwrap_or("main").to_string(),
            files: BTreeMap::new(),
            hashes: BTreeMap::new(),
        };
        let repo = repository(&hub);
        let at = |commit: String| Hub {
            revision: commit,
            ..hub.clone()
        };
        let error = match self.settings.offline {
            true => None,
            false => match self.tree_from_hub(&hub) {
                Ok((commit, files)) => {
                    return Ok(Tree {
                        hub: at(commit),
                        files,
                        warnings: Vec::new(),
                    });
                }
                Err(error) if is_no_answer(&error) => Some(error),
                Err(error) => return Err(error),
            },
        };
        let named = is_hex(&hub.revision, 40).then(|| hub.revision.clone());
        let commits = self
            .remembered(&repo)
            .into_iter()
            .map(|(_, commit)| commit)
            .chain(named);
        for commit in commits {
            let Some(files) = self.tree_here(&repo, &commit) else {
                continue;
            };
            let warnings = error.iter().map(|error| {
                format!(
                    "the list of files of {} is that of the last time, because the hub gave none: {error}",
                    hub.repo
                )
            });
            return Ok(Tree {
                hub: at(commit),
                files,
                warnings: warnings.collect(),
            });
        }
        Err(error.unwrap_or_else(|| {
            let looked = vec![self.settings.hub_cache.clone(), self.cache().join("hub")];
            let what = match kind {
                HubKind::Dataset => "data set",
                HubKind::Model => "model",
            };
            Error::NoPlace {
                what: format!("{what} {} of the Hugging Face hub", hub.repo),
                attempts: vec![(Place::Hub(hub).to_string(), Error::NotHere { looked })],
                offline: true,
            }
        }))
    }

    fn tree_from_hub(&self, hub: &Hub) -> Result<(String, Vec<Listed>)> {
        let repo = &repository(hub);
        let hubs = Hubs::new(self)?;
        let page = |url: &Address| {
            self.patiently(None, |_| hubs.client.page(url, "application/json", PAGE))
        };
        let url = hubs.endpoint.below(&format!("api/{}", repo.api_url()));
        let listing = |url: &Address, problem: String| Error::Listing {
            url: url.to_string(),
            wanted: "list of files",
            problem,
        };
        let info = page(&url)?;
        let info: Info = serde_json::from_str(&info.text)
            .map_err(|error| listing(&url, not_json(&info, &error)))?;
        if !is_hex(&info.sha, 40) {
            return Err(listing(
                &url,
                format!("\"{}\" is not a commit", crate::http::shown(&info.sha)),
            ));
        }
        let names = match hub.kind {
            HubKind::Dataset => "datasets",
            HubKind::Model => "models",
        };
        let mut next = Some(hubs.endpoint.below(&format!(
            "api/{names}/{}/tree/{}?recursive=true",
            hub.repo, info.sha
        )));
        let mut files = Vec::new();
        for _ in 0..PAGES {
            let Some(url) = next else { break };
            let answer = page(&url)?;
            let entries: Vec<Entry> = serde_json::from_str(&answer.text)
                .map_err(|error| listing(&url, not_json(&answer, &error)))?;
            files.extend(
                entries
                    .into_iter()
                    .filter(|entry| entry.kind == "file")
                    .map(|entry| {
                        let lfs = entry.lfs.filter(|lfs| is_hex(&lfs.oid, 64));
                        Listed {
                            bytes: lfs.as_ref().and_then(|lfs| lfs.size).or(entry.size),
                            sha256: lfs.map(|lfs| lfs.oid),
                            path: entry.path,
                        }
                    }),
            );
            next = answer.next;
        }
        let file = self.list_file(repo, &info.sha);
        let write = || -> std::io::Result<()> {
            let folder = file.parent().unwrap_or(Path::new("."));
            fs::create_dir_all(folder)?;
            let new = tempfile::NamedTempFile::new_in(folder)?;
            fs::write(new.path(), serde_json::to_vec(&files)?)?;
            new.persist(&file).map(drop).map_err(|error| error.error)
        };
        write().map_err(|reason| cannot_write(&file, reason))?;
        self.remember(repo, &info.sha)?;
        Ok((info.sha, files))
    }

    fn list_file(&self, repo: &Repo, commit: &str) -> PathBuf {
        let folder = self.cache().join("hub").join(repo.folder_name());
        folder.join("lists").join(format!("{commit}.json"))
    }

    /// The list that was kept, or what Python's cache has of the commit.
    fn tree_here(&self, repo: &Repo, commit: &str) -> Option<Vec<Listed>> {
        let kept = crate::verify::read_whole(&self.list_file(repo, commit), PAGE).ok();
        if let Some(files) = kept.and_then(|kept| serde_json::from_slice(&kept).ok()) {
            return Some(files);
        }
        let theirs = Cache::new(self.settings.hub_cache.clone()).repo(repo.clone());
        let root = theirs.pointer_path(commit);
        let mut files = Vec::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                // Links to files are what the cache is made of; a link to a folder is not walked into.
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                    _ => {
                        let path = entry.path();
                        let name = path.strip_prefix(&root).ok()?.to_str()?.replace('\\', "/");
                        files.push(Listed {
                            path: name,
                            bytes: None,
                            sha256: None,
                        });
                    }
                }
            }
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        (!files.is_empty()).then_some(files)
    }
}

fn not_json(page: &crate::http::Page, error: &serde_json::Error) -> String {
    if page.kind.starts_with("text/html") || page.text.trim_start().starts_with('<') {
        return "it is a web page (HTML); is it the login page of your network?".into();
    }
    error.to_string()
}

fn source_of<'a>(hub: &Hub, files: impl Iterator<Item = (String, &'a Listed)>) -> Source {
    let mut source = Source {
        files: BTreeMap::new(),
        places: Vec::new(),
    };
    let mut hub = hub.clone();
    for (name, file) in files {
        source.files.insert(
            name.clone(),
            FileSpec {
                sha256: file.sha256.clone(),
                bytes: file.bytes,
                optional: false,
            },
        );
        hub.files.insert(name, file.path.clone());
    }
    source.places.push(Place::Hub(hub));
    source
}

/// The first names of a list, and how many more there are.
fn some<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    let shown = names[..names.len().min(12)].join(", ");
    match names.len() {
        0 => "nothing".into(),
        n if n > 12 => format!("{} and {} more", crate::http::shown(&shown), n - 12),
        _ => crate::http::shown(&shown),
    }
}

/// Forms of data in order of preference: the first knows most about its columns.
const EXTENSIONS: [&str; 5] = ["parquet", "jsonl", "ndjson", "csv", "tsv"];

/// The words by which the hub, too, knows a split.
const WORDS: [(&str, &[&str]); 3] = [
    ("train", &["train", "training"]),
    ("validation", &["validation", "valid", "dev", "val"]),
    ("test", &["test", "testing", "eval", "evaluation"]),
];

/// The form of a file, by its place in [`EXTENSIONS`].
fn form_of(path: &str) -> Option<usize> {
    let extension = path.rsplit('.').next().unwrap_or_default();
    EXTENSIONS.iter().position(|known| *known == extension)
}

/// The splits of a subset that a card describes. Of other splits than those for training, validation and test it is said that
/// they are left out.
fn splits_by_card(tree: &Tree, subset: &Subset) -> Result<HubData, String> {
    if subset.splits.is_empty() {
        return splits_of(tree, &subset.folder, None);
    }
    let mut found: BTreeMap<&'static str, Vec<&Listed>> = BTreeMap::new();
    let (mut forms, mut others) = (BTreeSet::new(), Vec::new());
    for (split, patterns) in &subset.splits {
        let lower = split.to_lowercase();
        let known = WORDS
            .iter()
            .find(|(_, words)| words.contains(&lower.as_str()));
        let Some((known, _)) = known.filter(|(known, _)| !found.contains_key(known)) else {
            others.push(split.as_str());
            continue;
        };
        let files: Vec<&Listed> = tree
            .files
            .iter()
            .filter(|file| {
                patterns
                    .iter()
                    .any(|pattern| configs::matches(pattern, &file.path))
            })
            .filter(|file| {
                let name = file.path.rsplit('/').next().unwrap_or_default();
                !name.starts_with(['.', '_']) && name != CARD
            })
            .collect();
        if files.is_empty() {
            return Err(format!(
                "its card says {} for the split \"{split}\" of \"{}\", but it has no such file; it has: {}",
                patterns.join(", "),
                subset.name,
                some(tree.files.iter().map(|file| file.path.as_str()))
            ));
        }
        forms.extend(files.iter().map(|file| form_of(&file.path)));
        found.insert(*known, files);
    }
    if !found.contains_key("train") {
        return Err(format!(
            "its card names no training split of \"{}\"; it has: {}",
            subset.name,
            some(subset.splits.iter().map(|(split, _)| split.as_str()))
        ));
    }
    let (1, Some(Some(form))) = (forms.len(), forms.first()) else {
        return Err(format!(
            "its card names files of several forms, or of another than .parquet, .jsonl, .csv and .tsv: {}",
            some(found.values().flatten().map(|file| file.path.as_str()))
        ));
    };
    let mut data = with_splits(tree, &found, *form);
    if !others.is_empty() {
        data.warnings.push(format!(
            "its splits {} are left out: what is for training, validation and test is read",
            some(others.into_iter())
        ));
    }
    Ok(data)
}

/// What a file has in common with the others of its split: its path without the number of the part.
fn without_number(path: &str) -> &str {
    let stem = path.split('.').next().unwrap_or(path);
    let stem = stem.find("-of-").map_or(stem, |at| &stem[..at]);
    stem.trim_end_matches(|c: char| c.is_ascii_digit() || "-_/".contains(c))
}

/// The splits of the files below a folder (empty, or with a slash at its end), by their names.
fn splits_of(tree: &Tree, folder: &str, subset: Option<&str>) -> Result<HubData, String> {
    // subset → extension → split → files
    let mut found: BTreeMap<String, BTreeMap<usize, BTreeMap<&str, Vec<&Listed>>>> =
        BTreeMap::new();
    let mut unsplit: Vec<&Listed> = Vec::new();
    for file in &tree.files {
        let Some(path) = file.path.strip_prefix(folder) else {
            continue;
        };
        let Some(form) = form_of(path) else {
            continue;
        };
        match split_of(path) {
            Some((subset, split)) => found
                .entry(subset)
                .or_default()
                .entry(form)
                .or_default()
                .entry(split)
                .or_default()
                .push(file),
            None => unsplit.push(file),
        }
    }
    // One file and no word: its rows are all there is.
    if found.is_empty()
        && let [only] = unsplit.as_slice()
    {
        let form = form_of(&only.path).unwrap_or(0);
        found.insert(
            "default".into(),
            BTreeMap::from([(form, BTreeMap::from([("train", vec![*only])]))]),
        );
    }
    found.retain(|_, forms| {
        forms.retain(|_, splits| splits.contains_key("train"));
        !forms.is_empty()
    });
    let names = || some(found.keys().map(String::as_str));
    let chosen = match subset {
        Some(subset) => found
            .get(subset)
            .ok_or_else(|| format!("it has no subset \"{subset}\"; it has: {}", names()))?,
        None => match (found.len(), found.get("default")) {
            (1, _) => found.values().next().ok_or("nothing")?,
            (_, Some(default)) => default,
            (0, None) => {
                let all = tree.files.iter().map(|file| file.path.as_str());
                return Err(format!(
                    "no file of it is a training split as .parquet, .jsonl, .csv or .tsv; it has: {}",
                    some(all)
                ));
            }
            (_, None) => {
                return Err(format!(
                    "it has several subsets; name one as hub:{}/SUBSET: {}",
                    tree.hub.repo,
                    names()
                ));
            }
        },
    };
    let (form, splits) = chosen.iter().next().ok_or("nothing")?;
    let mut data = with_splits(tree, splits, *form);
    let others: Vec<&str> = found.keys().map(String::as_str).collect();
    if subset.is_none() && others.len() > 1 {
        let others = others.into_iter().filter(|name| *name != "default");
        data.warnings.push(format!(
            "its subsets {} are left out; hub:{}/SUBSET names one",
            some(others),
            tree.hub.repo
        ));
    }
    for (split, files) in splits {
        let kinds: BTreeSet<&str> = files
            .iter()
            .map(|file| without_number(&file.path))
            .collect();
        if kinds.len() > 1 {
            data.warnings.push(format!(
                "its {split} split is made of all of {}",
                some(kinds.into_iter())
            ));
        }
    }
    Ok(data)
}

/// The data of these splits, whose files have one form.
fn with_splits(tree: &Tree, splits: &BTreeMap<&str, Vec<&Listed>>, form: usize) -> HubData {
    let mut named: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
    let mut files = Vec::new();
    for (split, _) in WORDS {
        let Some(parts) = splits.get(split) else {
            continue;
        };
        let mut parts = parts.clone();
        parts.sort_by(|a, b| a.path.cmp(&b.path));
        for (number, file) in parts.iter().enumerate() {
            let name = match parts.len() {
                1 => split.to_string(),
                _ => format!("{split}-{number:05}"),
            };
            named.entry(split).or_default().push(name.clone());
            files.push((name, *file));
        }
    }
    HubData {
        source: source_of(&tree.hub, files.into_iter()),
        splits: named,
        extension: EXTENSIONS[form].to_string(),
        warnings: tree.warnings.clone(),
    }
}

/// The subset and the split that a path speaks of, if it does.
fn split_of(path: &str) -> Option<(String, &'static str)> {
    let word = |name: &str| {
        let name = name.split('.').next().unwrap_or_default().to_lowercase();
        let tokens: Vec<String> = name
            .split(|c: char| !c.is_alphanumeric())
            .map(str::to_string)
            .collect();
        WORDS
            .iter()
            .find(|(_, words)| tokens.iter().any(|token| words.contains(&token.as_str())))
            .map(|(split, _)| *split)
    };
    let parts: Vec<&str> = path.split('/').collect();
    let (file, folders) = parts.split_last()?;
    let (split, above) = match word(file) {
        Some(split) => (split, folders),
        None => {
            let (last, above) = folders.split_last()?;
            (word(last)?, above)
        }
    };
    let subset: Vec<&str> = above
        .iter()
        .copied()
        .filter(|part| *part != "data")
        .collect();
    Some(match subset.is_empty() {
        true => ("default".into(), split),
        false => (subset.join("/"), split),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_says_its_subset_and_split() {
        let cases = [
            ("train.csv", Some(("default", "train"))),
            (
                "data/train-00000-of-00001-abc.parquet",
                Some(("default", "train")),
            ),
            (
                "plain_text/test-00000-of-00001.parquet",
                Some(("plain_text", "test")),
            ),
            ("plain_text/unsupervised-00000-of-00001.parquet", None),
            ("sst2/dev.tsv", Some(("sst2", "validation"))),
            ("default/train/0000.parquet", Some(("default", "train"))),
            ("sst2/partial-train/0000.parquet", Some(("sst2", "train"))),
            ("en/val/part-1.jsonl", Some(("en", "validation"))),
            ("Training_Set.csv", Some(("default", "train"))),
            ("trainer.csv", None),
            ("contest.csv", None),
            ("rows.csv", None),
        ];
        for (path, wanted) in cases {
            let wanted = wanted.map(|(subset, split)| (subset.to_string(), split));
            assert_eq!(split_of(path), wanted, "{path}");
        }
    }

    #[test]
    fn an_id_is_read_with_subset_and_revision() {
        let read = |text: &str| Reference::parse(text, HubKind::Dataset).ok();
        let whole = |repo: &str, subset: Option<&str>, revision: Option<&str>| {
            Some(Reference {
                repo: repo.into(),
                subset: subset.map(str::to_string),
                revision: revision.map(str::to_string),
            })
        };
        assert_eq!(
            read("hub:stanfordnlp/imdb"),
            whole("stanfordnlp/imdb", None, None)
        );
        assert_eq!(
            read("hub:nyu-mll/glue/sst2"),
            whole("nyu-mll/glue", Some("sst2"), None)
        );
        assert_eq!(
            read("hub:a/b/c/d@refs/pr/1"),
            whole("a/b", Some("c/d"), Some("refs/pr/1"))
        );
        assert_eq!(read("hub:squad"), whole("squad", None, None));
        for bad in [
            "hub:",
            "hub:/x",
            "hub:a/../b",
            "hub:a/b@",
            "hub:a b/c",
            "hub:a/b@x y",
            "hub:a/b@../x",
            "hub:-a/b",
        ] {
            assert!(read(bad).is_none(), "{bad}");
        }
        assert!(Reference::parse("a/b/c", HubKind::Model).is_err());
    }
}
