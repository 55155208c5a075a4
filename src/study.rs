//! A study varies one thing and draws a curve of the main metric over it.
//!
//! A study is one YAML: an x axis, series (a method with what it sets), and points that override any key of the
//! method, the recipe or the backbone. Its runs go through the same machinery as a comparison's.

use std::{
    collections::BTreeMap,
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use reports::{
    format,
    studies::{Axis, Position},
};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    backbone_settings::BackboneSettings,
    nearest,
    plan::{Overrides, RunPlan, Trial},
    precision,
    train::recipe::RecipeChoice,
};

macro_rules! studies {
    ($($name:literal)*) => {
        &[$(($name, include_str!(concat!("../studies/", $name, ".yaml")))),*]
    };
}

/// The studies that come with the program.
const ALL: &[(&str, &str)] = studies!(
    "prompt_length"
    "prompt_init"
    "pooling"
    "precision"
    "lora_rank"
    "lora_targets"
    "adapter_size"
    "matched_parameters"
    "train_size"
    "regularisation"
    "learning_rate"
    "learning_rate_ratio"
    "batch_size"
    "lora_targets_matched"
    "lora_rank_scaling"
    "lora_variants"
);

/// Names of the studies.
pub fn names() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|(name, _)| *name)
}

/// Settings by `owner.key`; the owner `method` is the series' own method.
type Settings = BTreeMap<String, Value>;

/// A study as its YAML says it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudySpec {
    /// Its name, that of the file.
    #[serde(skip)]
    pub name: String,
    /// Heading.
    pub title: String,
    /// What it asks.
    pub question: String,
    /// The series that others are compared with.
    pub reference: Option<String>,
    /// Whether the learning curves are drawn too.
    #[serde(default)]
    pub curves: bool,
    x: AxisSpec,
    #[serde(default)]
    set: Settings,
    #[serde(default)]
    points: Vec<PointSpec>,
    /// Its series.
    pub series: Vec<SeriesSpec>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AxisSpec {
    title: String,
    key: Option<String>,
    #[serde(default)]
    values: Vec<Value>,
    position: Option<Position>,
    #[serde(default)]
    logarithmic: bool,
}

/// A method with what it sets.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeriesSpec {
    label: Option<String>,
    /// Its method.
    pub method: String,
    #[serde(default)]
    set: Settings,
    #[serde(default)]
    values: Vec<Value>,
    #[serde(default)]
    points: Vec<PointSpec>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PointSpec {
    label: Value,
    set: Settings,
}

/// A value as people and YAML write it; null is `all`.
pub fn plain(value: &Value) -> String {
    match value {
        Value::Null => "all".to_owned(),
        other => format::value(other),
    }
}

/// The most that is read of a file, in bytes.
const LARGEST: u64 = 4 << 20;

fn is_yaml(path: &Path) -> bool {
    path.extension()
        .is_some_and(|end| end == "yaml" || end == "yml")
}

/// A message with what it quotes of a file cut to 80 characters.
fn excerpt(message: &str) -> String {
    let quoted = |(i, part): (usize, &str)| match i % 2 == 1 && part.chars().count() > 80 {
        true => part.chars().take(80).chain(['…']).collect(),
        false => part.to_owned(),
    };
    let parts: Vec<String> = message.split('"').enumerate().map(quoted).collect();
    parts.join("\"")
}

/// The study with this name, or in this file.
///
/// # Errors
/// If there is none, or it is not valid.
pub fn study(name: &str) -> Result<StudySpec> {
    let path = Path::new(name);
    let text = match ALL.iter().find(|(known, _)| *known == name) {
        Some((_, text)) => (*text).to_owned(),
        None if is_yaml(path) && path.exists() => {
            let mut text = String::new();
            datasets::open_regular(path)?
                .take(LARGEST)
                .read_to_string(&mut text)
                .context(name.to_owned())?;
            text
        }
        None => bail!(
            "unknown study '{name}'; {}; or the path of a YAML",
            nearest::known(name, &names().collect::<Vec<_>>())
        ),
    };
    let mut spec: StudySpec = datasets::from_yaml(&text)
        .map_err(|e| anyhow::anyhow!("study {name}: {}", excerpt(&e.to_string())))?;
    spec.name = path
        .file_stem()
        .map_or_else(|| name.to_owned(), |s| s.to_string_lossy().into_owned());
    spec.check().with_context(|| format!("study {name}"))?;
    Ok(spec)
}

impl StudySpec {
    fn check(&self) -> Result<()> {
        ensure!(!self.series.is_empty(), "series: name at least one method");
        for (i, series) in self.series.iter().enumerate() {
            let label = series.label();
            ensure!(
                !self.series[..i].iter().any(|s| s.label() == label),
                "series: two are called '{label}'"
            );
            let points = self.points_of(series)?;
            ensure!(
                !points.is_empty(),
                "series {label}: no points; give x.key with values, or points"
            );
            for (i, point) in points.iter().enumerate() {
                let known = |p: &PointSpec| plain(&p.label) == plain(&point.label);
                ensure!(
                    !points[..i].iter().any(known),
                    "series {label}: two points are called '{}'",
                    plain(&point.label)
                );
                let mut merged = Overrides::new();
                for settings in [&self.set, &series.set, &point.set] {
                    add(&mut merged, settings, &series.method)?;
                }
                let own = merged.get(&series.method).cloned().unwrap_or_default();
                methods::resolve(&series.method, &own)?;
            }
        }
        Ok(())
    }

    /// The points of a series: its own, the study's, or one per value of the axis' key.
    fn points_of(&self, series: &SeriesSpec) -> Result<Vec<PointSpec>> {
        if let Some(points) = [&series.points, &self.points]
            .into_iter()
            .find(|p| !p.is_empty())
        {
            return Ok(points.clone());
        }
        let values = match series.values.as_slice() {
            [] => &self.x.values,
            _ => &series.values,
        };
        let Some(key) = &self.x.key else {
            ensure!(values.is_empty(), "x: values need a key that takes them");
            return Ok(Vec::new());
        };
        let point = |value: &Value| PointSpec {
            label: value.clone(),
            set: [(key.clone(), value.clone())].into(),
        };
        Ok(values.iter().map(point).collect())
    }

    /// The axis: at numbers where all points are numbers, else by category.
    ///
    /// # Errors
    /// If a series has values but no key that takes them.
    pub fn axis(&self) -> Result<Axis> {
        let mut numbers = true;
        for series in &self.series {
            let points = self.points_of(series)?;
            numbers &= points.iter().all(|p| p.label.is_number());
        }
        Ok(Axis {
            title: self.x.title.clone(),
            position: self.x.position.unwrap_or(if numbers {
                Position::Value
            } else {
                Position::Category
            }),
            logarithmic: self.x.logarithmic,
        })
    }

    /// How many runs it makes with this many seeds.
    pub fn runs(&self, seeds: usize) -> usize {
        let points = |s| self.points_of(s).map_or(0, |p| p.len());
        seeds * self.series.iter().map(points).sum::<usize>()
    }
}

impl SeriesSpec {
    /// Its name: its own, or the method's.
    pub fn label(&self) -> &str {
        self.label.as_deref().unwrap_or(&self.method)
    }
}

/// Adds settings of a series of `method`.
fn add(into: &mut Overrides, settings: &Settings, method: &str) -> Result<()> {
    for (name, value) in settings {
        let Some((owner, key)) = name.split_once('.') else {
            bail!("set: '{name}': expected owner.key, e.g. method.learning_rate or recipe.steps");
        };
        let owner = if owner == "method" { method } else { owner };
        ensure!(
            owner == method || owner == "recipe" || owner == "backbone",
            "set: '{name}': the owner must be method, {method}, recipe or backbone"
        );
        // JSON is YAML.
        into.entry(owner.to_owned())
            .or_default()
            .insert(key.to_owned(), value.to_string());
    }
    Ok(())
}

/// A point with the plans of its runs, one per seed.
pub struct PlannedPoint {
    /// Index of its series.
    pub series: usize,
    /// Where it stands.
    pub label: Value,
    /// A plan per seed.
    pub plans: Vec<RunPlan>,
}

/// All points of a study over the seeds. What the user sets goes over what the study sets, but a point's own
/// settings are what is studied.
///
/// # Errors
/// If the user sets what the study varies, or a value is not valid.
pub fn points(
    spec: &StudySpec,
    base: &RunPlan,
    user: &Overrides,
    seeds: &[u64],
) -> Result<Vec<PlannedPoint>> {
    let mut all = Vec::new();
    // What `auto` stands for is found out once.
    let mut auto = None;
    for (index, series) in spec.series.iter().enumerate() {
        let method = &series.method;
        for point in spec.points_of(series)? {
            let mut merged = Overrides::new();
            add(&mut merged, &spec.set, method)?;
            add(&mut merged, &series.set, method)?;
            let mut own = Overrides::new();
            add(&mut own, &point.set, method)?;
            for (owner, keys) in user {
                for (key, value) in keys {
                    ensure!(
                        !own.get(owner).is_some_and(|o| o.contains_key(key)),
                        "--set {owner}.{key}: this is what the study varies"
                    );
                    merged
                        .entry(owner.clone())
                        .or_default()
                        .insert(key.clone(), value.clone());
                }
            }
            for (owner, keys) in own {
                merged.entry(owner).or_default().extend(keys);
            }
            let of = |owner: &str| merged.get(owner).cloned().unwrap_or_default();
            let mut backbone = of("backbone");
            if backbone
                .get("precision")
                .is_some_and(|p| p.trim_matches('"') == "auto")
            {
                let settled = auto.get_or_insert_with(|| {
                    let mut asked = BTreeMap::from([("precision".to_owned(), "auto".to_owned())]);
                    precision::settle(&mut asked);
                    asked
                });
                backbone.extend(settled.clone());
            }
            let plan = RunPlan {
                trial: Trial::new(methods::resolve(method, &of(method))?),
                recipe: RecipeChoice::new(base.recipe.budget(), &of("recipe"))?,
                backbone_settings: BackboneSettings::parse(&backbone)?,
                // A study is its records: the weights of all its runs would fill the disk.
                keep_weights: false,
                ..base.clone()
            };
            let seeded = |seed: &u64| RunPlan {
                seed: *seed,
                ..plan.clone()
            };
            all.push(PlannedPoint {
                series: index,
                label: point.label,
                plans: seeds.iter().map(seeded).collect(),
            });
        }
    }
    Ok(all)
}

/// Folder of a study of a data set.
pub fn folder(out: &Path, name: &str) -> PathBuf {
    out.join("studies").join(name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_study_is_valid() {
        for name in names() {
            let spec = study(name).unwrap_or_else(|e| panic!("{e:#}"));
            assert!(spec.runs(3) >= 6, "{name}");
            spec.axis().unwrap();
        }
    }

    #[test]
    fn only_a_yaml_is_read_as_a_study_and_little_of_it_is_quoted() {
        for path in ["/etc/passwd", "../../etc/passwd"] {
            let message = format!("{:#}", study(path).unwrap_err());
            assert!(message.contains("unknown study"), "{message}");
        }
        let cut = excerpt(&format!(
            "invalid type: string \"{}\", expected",
            "x".repeat(500)
        ));
        assert!(cut.len() < 130 && cut.ends_with("\", expected"), "{cut}");
    }

    fn spec(text: &str) -> Result<StudySpec> {
        let spec: StudySpec = serde_yaml::from_str(text)?;
        spec.check()?;
        Ok(spec)
    }

    #[test]
    fn a_study_is_refused_with_the_key_that_is_wrong() {
        let series = |s: &str| {
            format!(
                "{{title: t, question: q, x: {{title: x, key: lora.rank, values: [1]}}, series: [{s}]}}"
            )
        };
        assert!(spec(&series("{method: lora}")).is_ok());
        for (text, says) in [
            (series(""), "at least one method"),
            (series("{method: lorra}"), "lorra"),
            (series("{method: lora, values: [1, 1]}"), "two points"),
            (series("{method: lora, set: {lora.rnak: 1}}"), "rnak"),
            (series("{method: lora, set: {rank: 1}}"), "owner.key"),
            (series("{method: adapter}"), "lora.rank"),
            (series("{method: lora}, {method: lora}"), "two are called"),
            (series("{method: lora, values: [many]}"), "rank"),
        ] {
            let message = format!("{:#}", spec(&text).unwrap_err());
            assert!(message.contains(says), "{text}: {message}");
        }
    }

    #[test]
    fn a_point_is_numbered_where_all_are_numbers_and_null_reads_as_all() {
        let axis = |values: &str| {
            let text = format!(
                "{{title: t, question: q, x: {{title: x, key: recipe.train_examples, values: {values}}}, \
                 series: [{{method: lora}}]}}"
            );
            let spec = spec(&text).unwrap();
            let labels: Vec<String> = spec
                .points_of(&spec.series[0])
                .unwrap()
                .iter()
                .map(|p| plain(&p.label))
                .collect();
            (spec.axis().unwrap().position, labels.join(" "))
        };
        assert_eq!(axis("[16, 64]"), (Position::Value, "16 64".to_owned()));
        assert_eq!(
            axis("[16, null]"),
            (Position::Category, "16 all".to_owned())
        );
    }
}
