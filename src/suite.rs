//! A suite: comparisons over several data sets under one recipe, as one YAML says it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

/// The suites that come with the program.
const ALL: [(&str, &str); 4] = [
    ("glue", include_str!("../suites/glue.yaml")),
    ("glue-small", include_str!("../suites/glue-small.yaml")),
    ("registry", include_str!("../suites/registry.yaml")),
    ("sentiment", include_str!("../suites/sentiment.yaml")),
];

/// Names of the suites.
pub fn names() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|(name, _)| *name)
}

/// A suite as its YAML says it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suite {
    /// Its name, that of the file.
    #[serde(skip)]
    pub name: String,
    /// Heading.
    pub title: String,
    /// What it is, in a line.
    #[serde(default)]
    pub about: String,
    /// Its data sets.
    pub datasets: Vec<Entry>,
    /// Methods, where the command names none.
    #[serde(default)]
    pub methods: Vec<String>,
    /// What its runs set, by `owner.key`; the command's own settings come after.
    #[serde(default)]
    pub set: BTreeMap<String, Value>,
}

/// A data set of a suite.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Written")]
pub struct Entry {
    /// Its name, or the path of a file or YAML; in a YAML of the user's own it starts at the YAML's folder.
    pub dataset: String,
    /// The metrics whose mean is its part of the average; the main metric where there is none.
    pub average: Vec<String>,
}

/// A data set as it is written.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Name(String),
    With {
        name: String,
        #[serde(default)]
        average: Vec<String>,
    },
}

impl From<Written> for Entry {
    fn from(written: Written) -> Self {
        let (dataset, average) = match written {
            Written::Name(name) => (name, Vec::new()),
            Written::With { name, average } => (name, average),
        };
        Self { dataset, average }
    }
}

impl Entry {
    /// A short name: of a file, its own without folder and extension.
    pub fn name(&self) -> String {
        let known = datasets::names().any(|name| name == self.dataset);
        let stem = Path::new(&self.dataset).file_stem();
        match stem.filter(|_| !known) {
            Some(stem) => stem.to_string_lossy().into_owned(),
            None => self.dataset.clone(),
        }
    }
}

/// The suite of a name, or in a YAML with `datasets`; nothing where a name or path is of something else.
///
/// # Errors
/// If the YAML is a suite's and not valid.
pub fn find(choice: &str) -> Result<Option<Suite>> {
    if let Some((name, yaml)) = ALL.iter().find(|(name, _)| *name == choice) {
        return read(name, yaml, None, &format!("suites/{name}.yaml")).map(Some);
    }
    let path = Path::new(choice);
    let yaml = path.extension().is_some_and(|e| e == "yaml" || e == "yml");
    if !yaml || !path.is_file() {
        return Ok(None);
    }
    // What it is shows; a YAML that cannot be read is a data set's, whose reader says why.
    let text = match datasets::open_regular(path) {
        Ok(file) => std::io::read_to_string(std::io::Read::take(file, 1 << 20)).unwrap_or_default(),
        Err(_) => return Ok(None),
    };
    let keys = datasets::from_yaml::<serde_yaml::Mapping>(&text);
    if !keys.is_ok_and(|keys| keys.contains_key("datasets")) {
        return Ok(None);
    }
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let folder = path.parent().unwrap_or(Path::new(""));
    read(&name, &text, Some(folder), choice).map(Some)
}

fn read(name: &str, yaml: &str, folder: Option<&Path>, file: &str) -> Result<Suite> {
    let mut suite: Suite = datasets::from_yaml(yaml)
        .map_err(anyhow::Error::msg)
        .with_context(|| file.to_owned())?;
    suite.name = name.to_owned();
    ensure!(
        suite.datasets.len() >= 2,
        "{file}: datasets: a suite has two or more"
    );
    let names: Vec<String> = suite.datasets.iter().map(Entry::name).collect();
    for (i, name) in names.iter().enumerate() {
        ensure!(
            !names[..i].contains(name),
            "{file}: datasets: '{name}' is there twice"
        );
    }
    for entry in &suite.datasets {
        for name in &entry.average {
            let metric = datasets::Metric::of(name)
                .map_err(|what| anyhow::anyhow!("{file}: {}: average: {what}", entry.name()))?;
            ensure!(
                metric.higher_is_better(),
                "{file}: {}: average: {name}: less of it is better, so it has no place in a mean of metrics",
                entry.name()
            );
        }
    }
    if let Some(folder) = folder {
        for entry in &mut suite.datasets {
            let known = datasets::names().any(|name| name == entry.dataset);
            let path: PathBuf = folder.join(&entry.dataset);
            if !known && path.exists() {
                entry.dataset = path.display().to_string();
            }
        }
    }
    Ok(suite)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_suite_names_data_sets_and_metrics_that_there_are() {
        for name in names() {
            let suite = find(name).unwrap().unwrap();
            for entry in &suite.datasets {
                let spec = datasets::spec(&entry.dataset).unwrap_or_else(|e| panic!("{name}: {e}"));
                let metrics: Vec<_> = spec.metrics.iter().map(|m| m.name()).collect();
                for metric in &entry.average {
                    assert!(
                        metrics.contains(&metric.as_str()),
                        "{name}: {}: {metric}",
                        entry.dataset
                    );
                }
            }
        }
    }

    #[test]
    fn a_data_set_is_no_suite() {
        assert!(find("sst2").unwrap().is_none());
        assert!(find("no/such.yaml").unwrap().is_none());
    }
}
