//! Models and data sets of the Hugging Face hub by their id, as `--backbone owner/name` and `hub:owner/name` name them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde_json::json;
use sources::{Fetcher, HubKind, HubModel, Place, Reference, Source};

/// Whether a data set is named by its id.
pub fn is_data(name: &str) -> bool {
    name.starts_with("hub:")
}

/// Whether a backbone is named by its id: `hub:…`, or `owner/name` where no folder has that name.
pub fn is_model(name: &str) -> bool {
    let path = Path::new(name);
    let id = Reference::parse(name, HubKind::Model).is_ok_and(|id| id.repo.contains('/'));
    name.starts_with("hub:") || (id && !path.exists())
}

/// A model of the hub: its name with the commit, and its files. `note` is told what the user should know.
///
/// # Errors
/// If the id is none, or the files are not found.
pub fn model(fetcher: &Fetcher, id: &str, note: impl Fn(&str)) -> Result<(String, HubModel)> {
    let reference = Reference::parse(id, HubKind::Model)?;
    let model = fetcher.model(&reference).with_context(|| unknown(id))?;
    say(id, &model.fetched.warnings, note);
    let name = match &model.fetched.commit {
        Some(commit) => at(&reference.repo, commit),
        None => reference.repo,
    };
    Ok((name, model))
}

fn unknown(id: &str) -> String {
    format!(
        "backbone '{id}': there is no folder of that name, and as a model of the Hugging Face hub"
    )
}

/// A model's id at a commit. Without an owner it would be taken for the name of a backbone of ours.
fn at(repo: &str, commit: &str) -> String {
    match repo.contains('/') {
        true => format!("{repo}@{commit}"),
        false => format!("hub:{repo}@{commit}"),
    }
}

/// The hub's repository and revision of a backbone that [`model`] named.
pub fn repository(name: &str) -> Option<(String, String)> {
    let name = name.strip_prefix("hub:").unwrap_or(name);
    let (repo, revision) = name.split_once('@')?;
    Some((repo.to_owned(), revision.to_owned()))
}

/// A data set of the hub as a YAML like those of the program, with a commit in place of a branch. Its files are fetched.
///
/// # Errors
/// If the id is none, or the files are not found.
pub fn data(fetcher: &Fetcher, id: &str, note: impl Fn(&str)) -> Result<PathBuf> {
    let reference = Reference::parse(id, HubKind::Dataset)?;
    let found = fetcher.data(&reference)?;
    let fetched = fetcher.fetch(id, &found.source)?;
    say(id, &[found.warnings, fetched.warnings].concat(), note);
    let commit = commit(&found.source);
    let subset = reference.subset.iter().map(String::as_str);
    let name: Vec<&str> = std::iter::once(reference.repo.as_str())
        .chain(subset)
        .collect();
    let name = format!("{}@{commit:.12}", name.join("/").replace('/', "--"));

    let part = |file: &str, called: &str| part(&found.source, file, called);
    let mut first: Option<Source> = None;
    let (mut splits, mut also) = (BTreeMap::new(), Vec::new());
    for (split, files) in &found.splits {
        for (number, file) in files.iter().enumerate() {
            if number == 0 {
                splits.insert(*split, split);
                let own = part(file, split);
                first = Some(match first {
                    None => own,
                    Some(all) => joined(all, own),
                });
            } else {
                also.push(json!({ "name": file, "split": split, "source": part(file, "rows") }));
            }
        }
    }
    let mut yaml = json!({
        "name": name,
        "about": format!("{} of the Hugging Face hub at {commit}", reference.repo),
        "homepage": format!("https://huggingface.co/datasets/{}", reference.repo),
        "source": first,
        "splits": splits,
        "format": match found.extension.as_str() { "ndjson" => "jsonl", other => other },
        "text": ["text"],
        "label": { "column": "label" },
    });
    if !also.is_empty() {
        yaml["also"] = also.into();
    }
    let folder = fetcher.cache().join("hub-data");
    let file = folder.join(format!("{name}.yaml"));
    let write = || -> std::io::Result<()> {
        std::fs::create_dir_all(&folder)?;
        // Whole or not at all, and each process by itself.
        let new = folder.join(format!(".{name}.{}", std::process::id()));
        std::fs::write(&new, serde_json::to_vec_pretty(&yaml)?)?;
        std::fs::rename(&new, &file)
    };
    write().with_context(|| file.display().to_string())?;
    Ok(file)
}

/// The names of a data set and a backbone, ids of the hub with the commits that they stand for now, so that every run of a
/// comparison reads the same bytes.
///
/// # Errors
/// If an id is none, or is not found.
pub fn pinned(data: &str, backbone: &str, offline: bool) -> Result<(String, String)> {
    let (mut data, mut backbone) = (data.to_owned(), backbone.to_owned());
    if is_data(&data) {
        let reference = Reference::parse(&data, HubKind::Dataset)?;
        let found = Fetcher::from_env(offline)?.data(&reference)?;
        let subset = reference.subset.map(|subset| format!("/{subset}"));
        data = format!(
            "hub:{}{}@{}",
            reference.repo,
            subset.unwrap_or_default(),
            commit(&found.source)
        );
    }
    if is_model(&backbone) {
        let reference = Reference::parse(&backbone, HubKind::Model)?;
        let commit = Fetcher::from_env(offline)?.model_commit(&reference);
        backbone = at(
            &reference.repo,
            &commit.with_context(|| unknown(&backbone))?,
        );
    }
    Ok((data, backbone))
}

fn say(id: &str, warnings: &[String], note: impl Fn(&str)) {
    for warning in warnings {
        note(&format!("{id}: {warning}"));
    }
}

fn commit(source: &Source) -> &str {
    match source.places.first() {
        Some(Place::Hub(hub)) => &hub.revision,
        _ => "",
    }
}

/// The source of one file, under another name.
fn part(source: &Source, file: &str, called: &str) -> Source {
    let mut part = source.clone();
    let one = |all: &mut BTreeMap<String, String>| {
        let path = all.remove(file);
        all.clear();
        all.extend(path.map(|path| (called.to_owned(), path)));
    };
    let spec = part.files.remove(file).unwrap_or_default();
    part.files = BTreeMap::from([(called.to_owned(), spec)]);
    for place in &mut part.places {
        if let Place::Hub(hub) = place {
            one(&mut hub.files);
        }
    }
    part
}

/// Two sources of one repository as one.
fn joined(mut all: Source, more: Source) -> Source {
    all.files.extend(more.files);
    for (place, other) in all.places.iter_mut().zip(more.places) {
        if let (Place::Hub(hub), Place::Hub(other)) = (place, other) {
            hub.files.extend(other.files);
        }
    }
    all
}
