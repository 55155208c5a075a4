//! Studies: one thing is varied, and a curve of the main metric is drawn over it.
//!
//! A study's folder holds `study.json`, the [`Manifest`] of what was asked (series of points, each the ids of
//! its runs), and the records. [`Study`] joins the two: per point a mean with interval over seeds, the learning
//! curve, and how far the point is behind the best one of its series (paired bootstrap over examples and seeds,
//! Holm within the series, as between the methods of a comparison).

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use polars::prelude::{Column, CsvWriter, DataFrame, SerWriter};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use record::{store, write_whole};

use crate::{
    Error, Result,
    comparison::{Run, dataset_label},
    format, plots,
    record::{DatasetFacts, RunRecord, Status},
    statistics::{self, ALPHA, Difference, Metric, Resamples, Summary},
};

/// Name of the file in a study's folder.
pub const MANIFEST: &str = "study.json";

/// What a study was asked to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Name of the study, e.g. `prompt_length`.
    pub name: String,
    /// Heading.
    pub title: String,
    /// What it asks.
    pub question: String,
    /// The paper that asked first, if any.
    pub reference: Option<String>,
    /// Whether the learning curves are of interest, and not the last point alone.
    pub curves: bool,
    /// The x axis.
    pub axis: Axis,
    /// The curves.
    pub series: Vec<SeriesPlan>,
    /// Points that this data or backbone cannot have, with the reason.
    pub left_out: Vec<String>,
}

/// The x axis of a study.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Axis {
    /// Title with the unit.
    pub title: String,
    /// Where a point stands on it.
    pub position: Position,
    /// Whether it is logarithmic.
    pub logarithmic: bool,
}

/// Where a point stands on the x axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Position {
    /// At its declared number.
    Value,
    /// One place per label, in order.
    Category,
    /// At the number of parameters that the method trains.
    Parameters,
    /// At the number of training examples.
    TrainExamples,
}

/// One planned curve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeriesPlan {
    /// Name of the curve.
    pub label: String,
    /// The method, which has its colour everywhere.
    pub method: String,
    /// Its points in order.
    pub points: Vec<PointPlan>,
}

/// One planned point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PointPlan {
    /// What is written at its place.
    pub label: String,
    /// Its declared number, if it has one.
    pub value: Option<f64>,
    /// Ids of its runs, one per seed.
    pub runs: Vec<String>,
}

/// A study with its results.
#[derive(Clone, Debug, Serialize)]
pub struct Study {
    /// Name of the study.
    pub name: String,
    /// Name for files: study and data set; a stand-in is said.
    pub slug: String,
    /// Heading: title, data set, backbone.
    pub title: String,
    /// What it asks.
    pub question: String,
    /// The paper that asked first, if any.
    pub reference: Option<String>,
    /// Whether the learning curves are of interest.
    pub curves: bool,
    /// The data of the first run.
    pub dataset: DatasetFacts,
    /// Name of the backbone.
    pub backbone: String,
    /// The x axis.
    pub axis: Axis,
    /// The curves.
    pub series: Vec<Series>,
    /// What was found, a sentence per series.
    pub findings: Vec<String>,
    /// What a reader has to know before believing the numbers.
    pub notes: Vec<String>,
    /// The records behind it.
    #[serde(skip)]
    pub records: Vec<RunRecord>,
}

/// One curve.
#[derive(Clone, Debug, Serialize)]
pub struct Series {
    /// Name of the curve.
    pub label: String,
    /// The method.
    pub method: String,
    /// Its points in order.
    pub points: Vec<Point>,
}

/// One point of a curve.
#[derive(Clone, Debug, Serialize)]
pub struct Point {
    /// What is written at its place.
    pub label: String,
    /// Where it stands on the x axis; absent while no run has ended well and the place is measured.
    pub x: Option<f64>,
    /// Ids of the runs that ended well, by seed.
    pub runs: Vec<String>,
    /// Their seeds.
    pub seeds: Vec<u64>,
    /// Main metric over seeds; absent unless a run ended well.
    pub metric: Option<Summary>,
    /// Trained parameters of the method, head apart.
    pub parameters: Option<usize>,
    /// Seconds of training.
    pub training_seconds: Option<Summary>,
    /// The metric on the way, over seeds.
    pub curve: Vec<CurvePoint>,
    /// How far the best point of the series is ahead; absent for the best one itself.
    pub behind_best: Option<Difference>,
    /// Whether it can be told apart from the best point of its series (Holm within the series).
    pub told_apart: bool,
    /// What went wrong with its runs, in words.
    pub troubles: Vec<String>,
}

/// The metric at one step of training.
#[derive(Clone, Debug, Serialize)]
pub struct CurvePoint {
    /// Optimiser steps done.
    pub step: usize,
    /// Main metric over seeds.
    pub metric: Summary,
}

impl Manifest {
    /// Reads the manifest of a study's folder; `None` if it holds none.
    ///
    /// # Errors
    /// If the file is there but not readable.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(MANIFEST);
        match fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(record::Error::Read { path, source }.into()),
            Ok(json) => serde_json::from_slice(&json)
                .map(Some)
                .map_err(|e| Error::Manifest {
                    path,
                    problem: e.to_string(),
                }),
        }
    }

    /// Writes it into a study's folder.
    ///
    /// # Errors
    /// If that cannot be written.
    pub fn write(&self, folder: &Path) -> Result<PathBuf> {
        write_json(folder, MANIFEST, self)
    }
}

/// Writes a value as JSON into a folder, whole or not at all.
pub(crate) fn write_json(folder: &Path, name: &str, value: &impl Serialize) -> Result<PathBuf> {
    let path = folder.join(name);
    let mut json = serde_json::to_vec_pretty(value)?;
    json.push(b'\n');
    write_whole(&path, &json)?;
    Ok(path)
}

/// The studies below a comparison's folder, or below a folder of comparisons, by path. Damaged records are left out.
///
/// # Errors
/// If a manifest or a folder cannot be read.
pub fn read_all(folder: &Path) -> Result<Vec<Study>> {
    folders_with(folder, MANIFEST)?
        .into_iter()
        .map(|found| Study::read(&found))
        .filter_map(Result::transpose)
        .collect()
}

/// Folders at most three levels below `folder` (`…/DATASET/studies/NAME`) that hold a file of this name.
pub(crate) fn folders_with(folder: &Path, name: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut level = vec![folder.to_owned()];
    for _ in 0..4 {
        let mut next = Vec::new();
        for folder in level {
            if folder.join(name).is_file() {
                found.push(folder.clone());
            }
            let Ok(entries) = fs::read_dir(&folder) else {
                continue;
            };
            let below = entries.flatten().map(|e| e.path());
            // Records and weights are many and hold no studies.
            next.extend(
                below.filter(|p| p.is_dir() && !p.ends_with("records") && !p.ends_with("weights")),
            );
        }
        level = next;
    }
    found.sort();
    Ok(found)
}

impl Study {
    /// Reads the study in a folder; `None` if there is none or none of its runs has a record yet.
    ///
    /// # Errors
    /// If the manifest or the folder of records cannot be read.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let Some(manifest) = Manifest::read(folder)? else {
            return Ok(None);
        };
        let records = store::read_dir(&folder.join("records"))?.records;
        Ok(Self::new(&manifest, records))
    }

    /// Joins what was asked with the records that there are; `None` without any.
    pub fn new(manifest: &Manifest, records: Vec<RunRecord>) -> Option<Self> {
        let wanted: Vec<&String> = manifest
            .series
            .iter()
            .flat_map(|s| &s.points)
            .flat_map(|p| &p.runs)
            .collect();
        let records: Vec<RunRecord> = records
            .into_iter()
            .filter(|r| wanted.contains(&&r.id))
            .collect();
        let asked = records.first()?.asked.clone();
        let by_id: BTreeMap<&str, &RunRecord> =
            records.iter().map(|r| (r.id.as_str(), r)).collect();
        let mut paired = Paired::default();
        let mut series: Vec<Series> = manifest
            .series
            .iter()
            .map(|plan| Series {
                label: plan.label.clone(),
                method: plan.method.clone(),
                points: plan
                    .points
                    .iter()
                    .enumerate()
                    .map(|(i, p)| Point::new(p, i, manifest.axis.position, &by_id))
                    .collect(),
            })
            .collect();
        for one in &mut series {
            compare_with_best(&mut one.points, &by_id, &mut paired);
        }
        let metric = &asked.dataset.main_metric;
        let findings = series.iter().filter_map(|s| finding(s, metric)).collect();
        let missing = wanted.iter().filter(|id| !by_id.contains_key(id.as_str()));
        let (missing, all) = (missing.count(), wanted.len());
        let mut notes = Vec::new();
        if let Some(name) = &asked.dataset.stand_in_for {
            notes.push(format!(
                "{name} could not be had. All numbers are from {}, which stands in for it.",
                asked.dataset.name
            ));
        }
        if missing > 0 {
            notes.push(format!(
                "{missing} of {all} runs have no record yet; the same command goes on with them."
            ));
        }
        let most_seeds = series
            .iter()
            .flat_map(|s| &s.points)
            .map(|p| p.seeds.len())
            .max();
        if most_seeds == Some(1) {
            notes.push("One seed only: there is no spread over seeds.".to_owned());
        }
        notes.extend(manifest.left_out.iter().map(|l| format!("Left out: {l}")));
        let data = match &asked.dataset.stand_in_for {
            Some(wanted) => format!("{wanted}-stand-in-{}", asked.dataset.name),
            None => asked.dataset.name.clone(),
        };
        Some(Self {
            name: manifest.name.clone(),
            slug: format!("study-{}-{data}-{}", manifest.name, asked.backbone.name),
            title: format!(
                "{} · {} · {}",
                manifest.title,
                dataset_label(&asked.dataset),
                asked.backbone.name
            ),
            question: manifest.question.clone(),
            reference: manifest.reference.clone(),
            curves: manifest.curves,
            dataset: asked.dataset,
            backbone: asked.backbone.name,
            axis: manifest.axis.clone(),
            series,
            findings,
            notes,
            records,
        })
    }

    /// Name of the main metric.
    pub fn metric(&self) -> &str {
        &self.dataset.main_metric
    }

    /// The point of a series with this label.
    pub fn point(&self, series: &str, label: &str) -> Option<&Point> {
        let series = self.series.iter().find(|s| s.label == series)?;
        series.points.iter().find(|p| p.label == label)
    }

    /// The records of a point, by seed.
    pub fn records_of(&self, point: &Point) -> Vec<&RunRecord> {
        point
            .runs
            .iter()
            .filter_map(|id| self.records.iter().find(|r| r.id == *id))
            .collect()
    }
}

impl Point {
    fn new(
        plan: &PointPlan,
        index: usize,
        position: Position,
        by_id: &BTreeMap<&str, &RunRecord>,
    ) -> Self {
        let mut found: Vec<&RunRecord> = plan
            .runs
            .iter()
            .filter_map(|id| by_id.get(id.as_str()).copied())
            .collect();
        found.sort_by_key(|r| r.asked.seed);
        let mut troubles = Vec::new();
        let mut well: Vec<(&RunRecord, f64)> = Vec::new();
        for record in found {
            let run = Run::of(record);
            match run.metric {
                Some(metric) if record.status == Status::Ok && run.failed_checks.is_empty() => {
                    well.push((record, metric));
                }
                _ => {
                    let reason = match run.failed_checks.as_slice() {
                        [] => crate::comparison::status_text(&record.status),
                        checks => format!("invalid, check failed: {}", checks.join(", ")),
                    };
                    troubles.push(format!("seed {} {reason}", run.seed));
                }
            }
        }
        let outcome = well.first().and_then(|(r, _)| r.outcome.as_ref());
        let parameters = outcome.map(|o| o.parameters.method);
        let x = match position {
            Position::Value => plan.value,
            Position::Category => Some(index as f64),
            Position::Parameters => parameters.map(|p| p as f64),
            Position::TrainExamples => well
                .first()
                .map(|(r, _)| r.asked.dataset.train_examples as f64),
        };
        Self {
            label: plan.label.clone(),
            x,
            seeds: well.iter().map(|(r, _)| r.asked.seed).collect(),
            runs: well.iter().map(|(r, _)| r.id.clone()).collect(),
            metric: Summary::of(well.iter().map(|(_, m)| *m)),
            parameters,
            training_seconds: Summary::of(
                well.iter()
                    .filter_map(|(r, _)| Some(r.cost.as_ref()?.training_seconds)),
            ),
            curve: curve(&well.iter().map(|(r, _)| *r).collect::<Vec<_>>()),
            behind_best: None,
            told_apart: false,
            troubles,
        }
    }
}

/// The main metric at every step at which all these runs were evaluated.
fn curve(records: &[&RunRecord]) -> Vec<CurvePoint> {
    let mut steps: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for record in records {
        let name = &record.asked.dataset.main_metric;
        for e in record.outcome.iter().flat_map(|o| &o.evaluations) {
            if let Some(value) = e.metrics.get(name) {
                steps.entry(e.step).or_default().push(*value);
            }
        }
    }
    steps
        .into_iter()
        .filter(|(_, values)| values.len() == records.len())
        .filter_map(|(step, values)| {
            Some(CurvePoint {
                step,
                metric: Summary::of(values)?,
            })
        })
        .collect()
}

/// Compares the points of a series with its best one.
fn compare_with_best(
    points: &mut [Point],
    by_id: &BTreeMap<&str, &RunRecord>,
    paired: &mut Paired,
) {
    let mean = |p: &Point| p.metric.as_ref().map(|m| m.mean);
    let Some(best) = (0..points.len())
        .filter(|&i| points[i].metric.is_some())
        .max_by(|&a, &b| {
            // Of equals the first.
            mean(&points[a])
                .partial_cmp(&mean(&points[b]))
                .unwrap_or(std::cmp::Ordering::Equal)
                .then(b.cmp(&a))
        })
    else {
        return;
    };
    let records = |p: &Point| -> Vec<&RunRecord> {
        p.runs
            .iter()
            .filter_map(|id| by_id.get(id.as_str()).copied())
            .collect()
    };
    let ahead = records(&points[best]);
    let differences: Vec<(usize, Difference)> = (0..points.len())
        .filter(|&i| i != best)
        .filter_map(|i| Some((i, paired.difference(&ahead, &records(&points[i]))?)))
        .collect();
    let p: Vec<f64> = differences.iter().map(|(_, d)| d.p).collect();
    for ((i, difference), adjusted) in differences.into_iter().zip(statistics::holm(&p)) {
        points[i].behind_best = Some(difference);
        points[i].told_apart = adjusted < ALPHA;
    }
}

/// Paired differences of runs on the same validation examples; keeps the draws that runs share.
#[derive(Default)]
pub struct Paired {
    resamples: BTreeMap<usize, Resamples>,
}

impl Paired {
    /// Mean main metric of the first runs minus that of the second, over the seeds that both have;
    /// `None` if they have none in common or were not judged by the same examples.
    pub fn difference(
        &mut self,
        first: &[&RunRecord],
        second: &[&RunRecord],
    ) -> Option<Difference> {
        let pairs: Vec<(&RunRecord, &RunRecord)> = first
            .iter()
            .filter_map(|a| {
                let same = |b: &&&RunRecord| {
                    b.asked.seed == a.asked.seed && labels(a).is_some() && labels(a) == labels(b)
                };
                Some((*a, *second.iter().find(same)?))
            })
            .collect();
        let examples = labels(pairs.first()?.0)?.len();
        let kind = Metric::named(&pairs.first()?.0.asked.dataset.main_metric)?;
        let resamples = self
            .resamples
            .entry(examples)
            .or_insert_with(|| Resamples::new(examples));
        let judged: Vec<_> = pairs
            .iter()
            .filter_map(|(a, b)| {
                let of = |r: &RunRecord| {
                    let predictions = &r.outcome.as_ref()?.predictions;
                    let classes = r.asked.dataset.labels.len();
                    let predicted: Vec<u32> = predictions
                        .logits
                        .iter()
                        .map(|l| statistics::predicted(l))
                        .collect();
                    Some((
                        statistics::metric(kind, &predictions.labels, &predicted, classes),
                        resamples.apply(kind, &predictions.labels, &predicted, classes),
                    ))
                };
                Some((of(a)?, of(b)?))
            })
            .collect();
        let pairs: Vec<_> = judged
            .iter()
            .map(|((a, drawn_a), (b, drawn_b))| ([*a, *b], [drawn_a, drawn_b]))
            .collect();
        resamples.difference(&pairs)
    }
}

fn labels(record: &RunRecord) -> Option<&[u32]> {
    Some(&record.outcome.as_ref()?.predictions.labels)
}

/// One sentence about a series.
fn finding(series: &Series, metric: &str) -> Option<String> {
    let measured: Vec<&Point> = series
        .points
        .iter()
        .filter(|p| p.metric.is_some())
        .collect();
    let best = measured.iter().find(|p| p.behind_best.is_none())?;
    let mean = best.metric.as_ref()?.mean;
    let worse: Vec<&str> = measured
        .iter()
        .filter(|p| p.told_apart)
        .map(|p| p.label.as_str())
        .collect();
    let like: Vec<&str> = measured
        .iter()
        .filter(|p| !p.told_apart && p.label != best.label)
        .map(|p| p.label.as_str())
        .collect();
    let mut text = format!(
        "{}: best at {} ({} {metric})",
        series.label,
        best.label,
        format::metric(metric, mean)
    );
    if !like.is_empty() {
        text += &format!("; {} can't be told apart from it", format::list(&like));
    }
    if !worse.is_empty() {
        text += &format!(
            "; {} {} behind it by more than chance explains",
            format::list(&worse),
            if worse.len() == 1 { "is" } else { "are" }
        );
    }
    Some(text + ".")
}

/// The columns of a study's table.
fn cells(study: &Study, series: &Series, point: &Point) -> [String; 6] {
    let metric = study.metric();
    let absent = || "–".to_owned();
    [
        series.label.clone(),
        point.label.clone(),
        point.metric.as_ref().map_or_else(absent, |m| {
            format::metric_spread(metric, m.mean, m.sd)
                + if point.behind_best.is_none() {
                    " *"
                } else if point.told_apart {
                    ""
                } else {
                    " ="
                }
        }),
        point
            .metric
            .as_ref()
            .and_then(|m| m.interval)
            .map_or_else(absent, |[low, high]| {
                format!(
                    "{} … {}",
                    format::metric_spread(metric, low, None),
                    format::metric_spread(metric, high, None)
                )
            }),
        point.parameters.map_or_else(absent, format::count),
        point
            .training_seconds
            .as_ref()
            .map_or_else(absent, |s| format::seconds(s.mean)),
    ]
}

fn titles(study: &Study) -> [String; 6] {
    [
        "series".to_owned(),
        study.axis.title.clone(),
        format::metric_title(study.metric()),
        "95 % interval".to_owned(),
        "parameters".to_owned(),
        "training".to_owned(),
    ]
}

/// What the marks in the tables mean.
const LEGEND: &str =
    "* best of its series · = can't be told apart from the best (paired bootstrap, Holm, 5 %)";

/// A table for a terminal.
pub fn terminal(study: &Study, width: usize) -> String {
    let mut rows = vec![titles(study)];
    for series in &study.series {
        rows.extend(series.points.iter().map(|p| cells(study, series, p)));
    }
    let chars = |s: &String| s.chars().count();
    let widths: Vec<usize> = (0..6)
        .map(|c| rows.iter().map(|r| chars(&r[c])).max().unwrap_or(0))
        .collect();
    // Columns from the right are left out until the table fits.
    let mut shown = 6;
    while shown > 3 && widths[..shown].iter().sum::<usize>() + 2 * (shown - 1) > width {
        shown -= 1;
    }
    let wrap = crate::tables::wrap;
    let mut text = format!(
        "{}\n{}\n\n",
        wrap(&study.title, width),
        wrap(&study.question, width)
    );
    for row in &rows {
        let padded: Vec<String> = (0..shown)
            .map(|c| {
                let pad = " ".repeat(widths[c] - chars(&row[c]));
                if c < 2 {
                    format!("{}{pad}", row[c])
                } else {
                    format!("{pad}{}", row[c])
                }
            })
            .collect();
        text += padded.join("  ").trim_end();
        text.push('\n');
    }
    text += &format!("\n{}\n", wrap(LEGEND, width));
    for line in study.findings.iter().chain(&remarks(study)) {
        text += &(wrap(line, width) + "\n");
    }
    text
}

/// Troubles and notes.
fn remarks(study: &Study) -> Vec<String> {
    let troubles = study.series.iter().flat_map(|s| {
        s.points.iter().flat_map(move |p| {
            p.troubles
                .iter()
                .map(move |t| format!("! {} at {}: {t}", s.label, p.label))
        })
    });
    let notes = study.notes.iter().map(|n| format!("! {n}"));
    troubles.chain(notes).collect()
}

/// A Markdown section.
pub fn markdown(study: &Study) -> String {
    let escape = |s: &str| s.replace('|', "\\|").replace('\n', " ");
    let mut text = format!("## {}\n\n{}", study.title, study.question);
    if let Some(reference) = &study.reference {
        text += &format!(" ({reference})");
    }
    text += &format!(
        "\n\n{}\n\n| {} |\n| :-- | :-- | --: | --: | --: | --: |\n",
        study.findings.join(" "),
        titles(study).map(|t| escape(&t)).join(" | ")
    );
    for series in &study.series {
        for point in &series.points {
            text += &format!(
                "| {} |\n",
                cells(study, series, point).map(|c| escape(&c)).join(" | ")
            );
        }
    }
    text += &format!("\n{LEGEND}\n\n");
    for remark in remarks(study) {
        text += &format!("- {}\n", escape(remark.trim_start_matches("! ")));
    }
    text
}

/// One line per point and seed, in basic units.
///
/// # Errors
/// If the table cannot be built; not expected.
pub fn csv(study: &Study) -> Result<String> {
    struct Line<'a> {
        series: &'a Series,
        point: &'a Point,
        seed: u64,
        run: &'a str,
        metric: f64,
    }
    let mut lines = Vec::new();
    for series in &study.series {
        for point in &series.points {
            let values = point.metric.iter().flat_map(|m| &m.values);
            for ((seed, run), metric) in point.seeds.iter().zip(&point.runs).zip(values) {
                lines.push(Line {
                    series,
                    point,
                    seed: *seed,
                    run,
                    metric: *metric,
                });
            }
        }
    }
    let text = |name: &str, f: &dyn Fn(&Line) -> String| {
        Column::new(name.into(), lines.iter().map(f).collect::<Vec<_>>())
    };
    let columns = vec![
        text("study", &|_| study.name.clone()),
        text("dataset", &|_| study.dataset.name.clone()),
        text("stand_in_for", &|_| {
            study.dataset.stand_in_for.clone().unwrap_or_default()
        }),
        text("backbone", &|_| study.backbone.clone()),
        text("series", &|l| l.series.label.clone()),
        text("method", &|l| l.series.method.clone()),
        text("point", &|l| l.point.label.clone()),
        Column::new(
            "x".into(),
            lines.iter().map(|l| l.point.x).collect::<Vec<_>>(),
        ),
        Column::new(
            "seed".into(),
            lines.iter().map(|l| l.seed).collect::<Vec<_>>(),
        ),
        Column::new(
            study.metric().into(),
            lines.iter().map(|l| l.metric).collect::<Vec<_>>(),
        ),
        Column::new(
            "parameters".into(),
            lines
                .iter()
                .map(|l| l.point.parameters.map(|p| p as u64))
                .collect::<Vec<_>>(),
        ),
        text("run", &|l| l.run.to_owned()),
    ];
    let mut frame = DataFrame::new(lines.len(), columns)?;
    let mut bytes = Vec::new();
    CsvWriter::new(&mut bytes).finish(&mut frame)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Writes Markdown, CSV, JSON and the plots of a study into a folder; returns the files.
///
/// # Errors
/// If a file cannot be written.
pub fn write(study: &Study, out: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for (ending, content) in [
        ("md", markdown(study)),
        ("csv", csv(study)?),
        ("json", serde_json::to_string_pretty(study)?),
    ] {
        let path = out.join(format!("{}.{ending}", study.slug));
        write_whole(&path, content.as_bytes())?;
        files.push(path);
    }
    for plot in plots::study_plots(study) {
        let path = out.join(format!("{}-{}.png", study.slug, plot.name));
        write_whole(&path, &plot.png()?)?;
        files.push(path);
    }
    Ok(files)
}

/// The study with its plots as SVG, as the page shows it.
///
/// # Errors
/// If a plot cannot be drawn; not expected.
pub fn page_view(study: &Study) -> Result<Value> {
    let mut view = serde_json::to_value(study)?;
    let plots = plots::study_plots(study)
        .iter()
        .map(|plot| Ok(json!({ "wide": plot.svg()?, "narrow": plot.narrow_svg()? })))
        .collect::<Result<Vec<_>>>()?;
    view["plots"] = plots.into();
    Ok(view)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sample::Sample;

    fn labels(n: u32) -> Vec<u32> {
        (0..n).map(|i| i % 2).collect()
    }

    fn run(p: usize, seed: u64, wrong: std::ops::Range<usize>) -> RunRecord {
        Sample::new("prompt_tuning")
            .variant(&format!("virtual_tokens={p}"), json!({"virtual_tokens": p}))
            .parameters(384 * p)
            .seed(seed)
            .predictions(&labels(300), move |i| !wrong.contains(&i))
            .record()
    }

    /// One series: P = 1 is much worse than 10, and 100 like it.
    fn example() -> (Manifest, Vec<RunRecord>) {
        let mut records = Vec::new();
        let mut points = Vec::new();
        for (p, wrong) in [(1, 0..120), (10, 0..30), (100, 2..34)] {
            let runs: Vec<RunRecord> = (0..3)
                .map(|s| run(p, s, wrong.start..wrong.end + s as usize))
                .collect();
            points.push(PointPlan {
                label: p.to_string(),
                value: Some(p as f64),
                runs: runs.iter().map(|r| r.id.clone()).collect(),
            });
            records.extend(runs);
        }
        let manifest = Manifest {
            name: "prompt_length".into(),
            title: "Prompt length".into(),
            question: "How many virtual tokens?".into(),
            reference: None,
            curves: false,
            axis: Axis {
                title: "virtual tokens".into(),
                position: Position::Value,
                logarithmic: true,
            },
            series: vec![SeriesPlan {
                label: "prompt_tuning".into(),
                method: "prompt_tuning".into(),
                points,
            }],
            left_out: vec![],
        };
        (manifest, records)
    }

    #[test]
    fn points_stand_at_their_values_with_mean_and_interval_over_seeds() {
        let (manifest, records) = example();
        let study = Study::new(&manifest, records).unwrap();
        let point = study.point("prompt_tuning", "10").unwrap();
        assert_eq!((point.x, point.parameters), (Some(10.0), Some(3840)));
        // 270, 269 and 268 of 300 right.
        let metric = point.metric.as_ref().unwrap();
        assert!((metric.mean - 269.0 / 300.0).abs() < 1e-12);
        assert!((metric.sd.unwrap() - 1.0 / 300.0).abs() < 1e-12);
        // The curve has the two evaluations of the sample.
        assert_eq!(
            point.curve.iter().map(|c| c.step).collect::<Vec<_>>(),
            [2, 4]
        );
        assert_eq!(study.slug, "study-prompt_length-sst2-minilm");
    }

    #[test]
    fn points_that_chance_explains_are_not_told_apart_from_the_best() {
        let (manifest, records) = example();
        let study = Study::new(&manifest, records).unwrap();
        let points = &study.series[0].points;
        assert!(points[0].told_apart && !points[2].told_apart);
        assert!(points[1].behind_best.is_none());
        assert!((points[0].behind_best.unwrap().difference - 0.3).abs() < 1e-12);
        assert_eq!(
            study.findings,
            [
                "prompt_tuning: best at 10 (89.7 % accuracy); 100 can't be told apart from it; \
              1 is behind it by more than chance explains."
            ]
        );
    }

    #[test]
    fn a_study_half_done_says_how_many_runs_are_missing_and_a_bad_run_is_a_trouble() {
        let (manifest, mut records) = example();
        records.truncate(7);
        records[0].status = Status::Diverged {
            step: 3,
            reason: "the loss is NaN".into(),
        };
        (records[0].outcome, records[0].cost) = (None, None);
        let study = Study::new(&manifest, records).unwrap();
        assert!(
            study.notes.iter().any(|n| n.starts_with("2 of 9 runs")),
            "{:?}",
            study.notes
        );
        let point = &study.series[0].points[0];
        assert_eq!(point.seeds, [1, 2]);
        assert_eq!(
            point.troubles,
            ["seed 0 diverged at step 3: the loss is NaN"]
        );
        assert!(Study::new(&manifest, vec![]).is_none());
    }

    #[test]
    fn tables_hold_every_point_and_fit_the_terminal() {
        let (manifest, records) = example();
        let study = Study::new(&manifest, records).unwrap();
        for line in terminal(&study, 80).lines().skip(2).take(5) {
            assert!(line.chars().count() <= 80, "{line}");
        }
        assert_eq!(csv(&study).unwrap().lines().count(), 1 + 9);
        let text = markdown(&study);
        assert!(
            text.contains("| prompt_tuning | 10 | 89.7 ± 0.3 * |"),
            "{text}"
        );
        assert!(
            text.contains("| prompt_tuning | 100 | 89.0 ± 0.3 = |"),
            "{text}"
        );
    }

    #[test]
    fn a_study_is_plotted_with_its_stand_in_and_curves_where_they_are_asked_for() {
        let (mut manifest, mut records) = example();
        let metric = &plots::study_plots(&Study::new(&manifest, records.clone()).unwrap())[0];
        assert!(
            metric.description.contains("89.7 % at 10"),
            "{}",
            metric.description
        );
        assert_eq!(&metric.png().unwrap()[1..4], b"PNG");
        let says_what_is_behind = |svg: &str| svg.contains("Hollow: behind the best");
        assert!(says_what_is_behind(&metric.svg().unwrap()));
        manifest.curves = true;
        for record in &mut records {
            record.asked.dataset.stand_in_for = Some("sst2".into());
            record.asked.dataset.name = "movie_snippets".into();
        }
        let study = Study::new(&manifest, records).unwrap();
        let view = page_view(&study).unwrap();
        // The metric over x, and a curve for each of three points.
        assert_eq!(view["plots"].as_array().unwrap().len(), 4);
        let curve = view["plots"][1]["wide"].as_str().unwrap();
        assert!(!says_what_is_behind(curve));
        for plot in view["plots"].as_array().unwrap() {
            let svg = plot["narrow"].as_str().unwrap();
            assert!(svg.contains("stand-in"), "{svg}");
        }
    }

    #[test]
    fn a_manifest_is_read_back_as_it_was_written_and_a_broken_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("sst2/studies/prompt_length");
        let (manifest, records) = example();
        manifest.write(&below).unwrap();
        for record in &records {
            store::write(&below.join("records"), record).unwrap();
        }
        assert_eq!(Manifest::read(&below).unwrap(), Some(manifest));
        let found = read_all(folder.path()).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].series[0].points.len(), 3);
        fs::write(below.join(MANIFEST), "{").unwrap();
        assert!(
            read_all(folder.path())
                .unwrap_err()
                .to_string()
                .contains("study.json")
        );
    }
}
