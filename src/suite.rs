//! A suite: comparisons over several data sets under one recipe, as one YAML says it.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};
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

/// A data set of a suite: its name alone, or keys with values.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name, or the path of a file or YAML; in a YAML of the user's own it starts at the YAML's folder.
    pub dataset: String,
    /// The metrics whose mean is its part of the average; the main metric where there is none.
    pub average: Vec<String>,
    /// How much that part counts in the average, 0 or more.
    pub weight: f64,
}

/// A data set as it is written with keys.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    #[serde(default)]
    average: Vec<String>,
    #[serde(default)]
    weight: Option<f64>,
}

// (An untagged enum would not say which key is wrong.)
impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Written;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name, or keys with values: name, average, weight")
            }

            fn visit_str<E>(self, name: &str) -> Result<Written, E> {
                Ok(Written {
                    name: name.to_owned(),
                    average: Vec::new(),
                    weight: None,
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, keys: A) -> Result<Written, A::Error> {
                Written::deserialize(MapAccessDeserializer::new(keys))
            }
        }
        let written = deserializer.deserialize_any(Either)?;
        Ok(Self {
            dataset: written.name,
            average: written.average,
            weight: written.weight.unwrap_or(1.0),
        })
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
pub fn find(choice: &str) -> anyhow::Result<Option<Suite>> {
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

fn read(name: &str, yaml: &str, folder: Option<&Path>, file: &str) -> anyhow::Result<Suite> {
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
        ensure!(
            entry.weight.is_finite() && entry.weight >= 0.0,
            "{file}: {}: weight: {}; accepted: a number from 0, which leaves the data set out of the average",
            entry.name(),
            entry.weight
        );
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
    ensure!(
        suite.datasets.iter().any(|entry| entry.weight > 0.0),
        "{file}: datasets: every weight is 0, so there is no average; leave out that of one at least"
    );
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
    fn the_registrys_suite_needs_no_hub() {
        for entry in find("registry").unwrap().unwrap().datasets {
            let places = datasets::spec(&entry.dataset).unwrap().source.places;
            let package = |place: &sources::Place| matches!(place, sources::Place::Package(_));
            assert!(places.iter().all(package), "{}", entry.dataset);
        }
    }

    #[test]
    fn data_sets_have_metrics_and_weights_in_the_average_and_wrong_ones_are_named() {
        let suite = |datasets: &str| {
            let yaml = format!("title: Mine\ndatasets: [sst2, {datasets}]\n");
            read("mine", &yaml, None, "mine.yaml")
        };
        let mine = suite("{ name: mrpc, average: [f1, accuracy], weight: 0.5 }").unwrap();
        let [sst2, mrpc] = &mine.datasets[..] else {
            panic!("{:?}", mine.datasets)
        };
        assert_eq!((sst2.dataset.as_str(), sst2.weight), ("sst2", 1.0));
        assert_eq!((mrpc.dataset.as_str(), mrpc.weight), ("mrpc", 0.5));
        assert_eq!(mrpc.average, ["f1", "accuracy"]);
        for (datasets, says) in [
            (
                "{ name: mrpc, avrage: [f1] }",
                &["'avrage'", "'average'"][..],
            ),
            (
                "{ name: mrpc, weight: -1 }",
                &["mrpc: weight: -1", "from 0"],
            ),
            ("{ name: mrpc, weight: .nan }", &["mrpc: weight: NaN"]),
            ("{ name: mrpc, weight: much }", &["much"]),
            ("{ name: mrpc, average: [f2] }", &["mrpc: average", "'f2'"]),
            (
                "{ name: stsb, average: [rmse] }",
                &["rmse: less of it is better"],
            ),
            ("{ weight: 2 }", &["'name'"]),
            ("7", &["a name, or keys with values"]),
        ] {
            let error = format!("{:#}", suite(datasets).unwrap_err());
            for part in says.iter().chain(&["mine.yaml"]) {
                assert!(error.contains(part), "{part} is not in {error}");
            }
        }
        let none = "title: Mine\ndatasets: [{ name: sst2, weight: 0 }, { name: rte, weight: 0 }]\n";
        let error = read("mine", none, None, "mine.yaml").unwrap_err();
        assert!(error.to_string().contains("every weight is 0"), "{error}");
    }

    #[test]
    fn a_data_set_is_no_suite() {
        assert!(find("sst2").unwrap().is_none());
        assert!(find("no/such.yaml").unwrap().is_none());
    }
}
