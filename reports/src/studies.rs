//! Studies: one thing is varied, and a curve of the main metric is drawn over it.
//!
//! A study's folder holds `study.json`, the [`Manifest`] of what was asked (series of points, each the ids of
//! its runs), and the records. [`Study`] joins the two: per point a mean with interval over seeds and examples, the learning
//! curve, and the verdict against the point of the highest mean. That point is a choice made on the same numbers, so all pairs
//! of a series are tested together ([`Family`]).

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use record::{DatasetFacts, Kind, RunRecord, Status, store, write_whole};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use statistics::{Evidence, Family, Margin, Scores, Summary, Verdict};

use crate::{
    Error, Result,
    comparison::{dataset_label, dataset_slug, slug},
    costs::{CostsOn, MARK},
    figures, format,
    row::{Run, estimate, scores, scores_at, status_text},
    table::{Cell, Column, Table, markdown_text, wrap},
    words,
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
    /// The margin that was declared; one point where none was.
    #[serde(default)]
    pub margin: Margin,
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
    /// The declared margin: smaller differences do not matter.
    pub margin: Margin,
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
    /// What the registry says of it; absent in older records.
    pub kind: Option<Kind>,
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
    /// Whether that was measured while other work kept cores of the machine busy.
    pub busy: bool,
    /// The metric on the way, over seeds.
    pub curve: Vec<CurvePoint>,
    /// Whether no other point of its series has a higher mean.
    pub highest: bool,
    /// The difference to the point of the highest mean; absent for that itself and with fewer than two common seeds.
    pub evidence: Option<Evidence>,
    /// What is shown of it against the point of the highest mean, corrected over all pairs of the series; absent with fewer than
    /// three common seeds.
    pub verdict: Option<Verdict>,
    /// Scores of each seed and example.
    #[serde(skip)]
    pub scores: Option<Scores>,
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

/// The studies below a comparison's folder, or below a folder of comparisons, by path. Damaged records are left out. A margin that is
/// asked for goes over the ones that were declared.
///
/// # Errors
/// If a manifest or a folder cannot be read.
pub fn read_all(folder: &Path, margin: Option<Margin>) -> Result<Vec<Study>> {
    folders_with(folder, MANIFEST)?
        .into_iter()
        .map(|found| Study::read(&found, margin))
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
    /// Reads the study in a folder; `None` if there is none or none of its runs has a record yet. A margin that is asked for goes over
    /// the declared one.
    ///
    /// # Errors
    /// If the manifest or the folder of records cannot be read.
    pub fn read(folder: &Path, margin: Option<Margin>) -> Result<Option<Self>> {
        let Some(mut manifest) = Manifest::read(folder)? else {
            return Ok(None);
        };
        manifest.margin = margin.unwrap_or(manifest.margin);
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
        let points = manifest.series.iter().flat_map(|s| &s.points);
        let trials: Vec<Vec<&RunRecord>> = points
            .map(|p| {
                p.runs
                    .iter()
                    .filter_map(|id| by_id.get(id.as_str()).copied())
                    .collect()
            })
            .collect();
        let costs = CostsOn::of(&trials, None);
        let mut series: Vec<Series> = manifest
            .series
            .iter()
            .map(|plan| Series {
                label: plan.label.clone(),
                method: plan.method.clone(),
                kind: kind_of(&plan.method, &records),
                points: plan
                    .points
                    .iter()
                    .enumerate()
                    .map(|(i, p)| Point::new(p, i, manifest.axis.position, &by_id, &costs))
                    .collect(),
            })
            .collect();
        for one in &mut series {
            compare_with_highest(&mut one.points, manifest.margin);
        }
        let metric = &asked.dataset.main_metric;
        let findings = series
            .iter()
            .filter_map(|s| finding(s, metric, manifest.margin))
            .collect();
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
        if let Some(n) = most_seeds.filter(|n| (1..statistics::FEWEST_SEEDS).contains(n)) {
            notes.push(words::too_few_seeds(n));
        }
        notes.extend(costs.notes);
        notes.extend(manifest.left_out.iter().map(|l| format!("Left out: {l}")));
        Some(Self {
            name: manifest.name.clone(),
            slug: slug(&format!(
                "study-{}-{}-{}",
                manifest.name,
                dataset_slug(&asked.dataset),
                asked.backbone.name
            )),
            title: format!(
                "{} · {} · {}",
                manifest.title,
                dataset_label(&asked.dataset),
                asked.backbone.name
            ),
            question: manifest.question.clone(),
            reference: manifest.reference.clone(),
            margin: manifest.margin,
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

/// What records say of a method's kind.
pub fn kind_of(method: &str, records: &[RunRecord]) -> Option<Kind> {
    let of = records.iter().filter(|r| r.asked.method.name == method);
    of.filter_map(|r| r.kind.clone()).next()
}

impl Point {
    fn new(
        plan: &PointPlan,
        index: usize,
        position: Position,
        by_id: &BTreeMap<&str, &RunRecord>,
        costs: &CostsOn,
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
                        [] => status_text(&record.status),
                        checks => format!("invalid, check failed: {}", checks.join(", ")),
                    };
                    troubles.push(format!("seed {} {reason}", run.seed));
                }
            }
        }
        let sound: Vec<&RunRecord> = well.iter().map(|(r, _)| *r).collect();
        let scores = scores(&sound);
        let estimated = scores
            .as_ref()
            .zip(sound.first())
            .map(|(s, r)| estimate(s, &r.asked.dataset.main_metric).0);
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
            metric: estimated.or_else(|| Summary::of(well.iter().map(|(_, m)| *m))),
            scores,
            parameters,
            training_seconds: Summary::of(
                well.iter()
                    .filter(|(r, _)| costs.counts(r))
                    .filter_map(|(r, _)| Some(r.cost.as_ref()?.training_seconds)),
            ),
            busy: costs.busy(&sound),
            curve: curve(&sound),
            highest: false,
            evidence: None,
            verdict: None,
            troubles,
        }
    }
}

/// The main metric at every step at which all these runs were evaluated; over seeds and examples where the predictions there are kept, else
/// over seeds.
fn curve(records: &[&RunRecord]) -> Vec<CurvePoint> {
    let Some(first) = records.first() else {
        return Vec::new();
    };
    let name = &first.asked.dataset.main_metric;
    let of = |r: &RunRecord| -> BTreeMap<usize, (usize, f64)> {
        let evaluations = r.outcome.iter().flat_map(|o| &o.evaluations).enumerate();
        evaluations
            .filter_map(|(k, e)| Some((e.step, (k, *e.metrics.get(name)?))))
            .collect()
    };
    let all: Vec<_> = records.iter().map(|r| of(r)).collect();
    all[0]
        .iter()
        .filter_map(|(step, (k, _))| {
            let values: Option<Vec<(usize, f64)>> =
                all.iter().map(|run| run.get(step).copied()).collect();
            let values = values?;
            let same_place = values.iter().all(|(place, _)| place == k);
            let estimated = scores_at(records, *k).filter(|_| same_place);
            Some(CurvePoint {
                step: *step,
                metric: match estimated {
                    Some(scores) => estimate(&scores, name).0,
                    None => Summary::of(values.into_iter().map(|(_, value)| value))?,
                },
            })
        })
        .collect()
}

/// The scores of points that have them, with their places.
pub fn scored(points: &[Point]) -> (Vec<usize>, Vec<Scores>) {
    let scored = points
        .iter()
        .enumerate()
        .filter_map(|(i, p)| Some((i, p.scores.clone()?)));
    scored.unzip()
}

/// Tests all pairs of a series together, and keeps what they say against the point of the highest mean.
fn compare_with_highest(points: &mut [Point], margin: Margin) {
    let mean = |p: &Point| p.metric.as_ref().map_or(f64::NEG_INFINITY, |m| m.mean);
    // Of equals the first.
    let highest = (0..points.len())
        .filter(|&i| points[i].metric.is_some())
        .max_by(|&a, &b| {
            mean(&points[a])
                .total_cmp(&mean(&points[b]))
                .then(b.cmp(&a))
        });
    let Some(highest) = highest else { return };
    points[highest].highest = true;
    let (places, scores) = scored(points);
    let Some(best) = places.iter().position(|&i| i == highest) else {
        return;
    };
    let family = Family::new(&scores, margin);
    for (k, &i) in places.iter().enumerate().filter(|(k, _)| *k != best) {
        let pair = family.pair(k, best);
        points[i].evidence = pair.map(|p| p.evidence);
        points[i].verdict = pair.filter(|p| p.corrected.is_some()).map(|p| p.verdict);
    }
}

/// One sentence about a series.
fn finding(series: &Series, metric: &str, margin: Margin) -> Option<String> {
    let highest = series.points.iter().find(|p| p.highest)?;
    let mean = highest.metric.as_ref()?.mean;
    let labels = |verdict: Option<Verdict>| -> Vec<&str> {
        let others = series
            .points
            .iter()
            .filter(|p| p.metric.is_some() && !p.highest);
        others
            .filter(|p| p.verdict == verdict)
            .map(|p| p.label.as_str())
            .collect()
    };
    let mut text = format!(
        "{}: highest mean at {} ({} {metric})",
        series.label,
        highest.label,
        format::metric(metric, mean)
    );
    for (verdict, said) in [
        (Verdict::Worse, "shown to be worse".to_owned()),
        (
            Verdict::Equivalent,
            format!(
                "shown to be {}",
                words::verdict_in_full(Verdict::Equivalent, metric, margin)
            ),
        ),
        (Verdict::Undecided, "undecided".to_owned()),
    ] {
        let found = labels(Some(verdict));
        if !found.is_empty() {
            text += &format!("; {said}: {}", format::list(&found));
        }
    }
    let untested = labels(None);
    if !untested.is_empty() {
        text += "; too few seeds for a verdict";
    }
    Some(text + ".")
}

/// The table of a study: a row per point.
fn table(study: &Study) -> Table {
    let metric = study.metric();
    let row = |series: &Series, p: &Point| {
        vec![
            Cell::text(series.label.clone()),
            Cell::text(p.label.clone()),
            Cell::of(p.metric.as_ref().map(|m| m.mean), || {
                p.metric
                    .as_ref()
                    .map_or_else(String::new, |m| format::metric_spread(metric, m.mean, m.sd))
            }),
            match (p.metric.is_some(), p.highest, p.verdict) {
                (false, ..) => Cell::of(None::<f64>, String::new),
                (_, true, _) => Cell::text("highest mean"),
                (.., Some(verdict)) => Cell::text(words::verdict(verdict)),
                (.., None) => Cell::text(words::NOT_TESTED),
            },
            Cell::of(p.metric.as_ref().and_then(|m| Some(m.interval?[0])), || {
                let interval = p
                    .metric
                    .as_ref()
                    .and_then(|m| m.interval)
                    .unwrap_or_default();
                format::metric_interval(metric, interval)
            }),
            Cell::of(p.parameters, || {
                format::count(p.parameters.unwrap_or_default())
            }),
            Cell::of(p.training_seconds.as_ref().map(|s| s.mean), || {
                let text = format::seconds(p.training_seconds.as_ref().map_or(0.0, |s| s.mean));
                if p.busy { text + MARK } else { text }
            }),
        ]
    };
    let title = format::metric_title(metric);
    Table {
        caption: String::new(),
        columns: vec![
            Column::text("series", "series", "series", 0),
            Column::text("point", &study.axis.title, &study.axis.title, 0),
            Column::number(metric, &title, &title, 0),
            Column::text("verdict", "verdict", "against the highest mean", 1),
            Column::number("low_95", "95 % interval", "95 % interval", 2),
            Column::number("parameters", "parameters", "parameters", 3),
            Column::number("training_seconds", "training", "training", 4),
        ],
        rows: study
            .series
            .iter()
            .flat_map(|s| s.points.iter().map(move |p| row(s, p)))
            .collect(),
    }
}

fn legend(study: &Study) -> String {
    format!(
        "Verdicts are against the highest mean of the series ({}), equivalent within {}. {}",
        words::TEST,
        format::metric_difference(study.metric(), study.margin.get()),
        words::UNDECIDED
    )
}

/// A table for a terminal.
pub fn terminal(study: &Study, width: usize) -> String {
    let mut text = format!(
        "{}\n{}\n\n",
        wrap(&study.title, width),
        wrap(&study.question, width)
    );
    text += &table(study).terminal(width);
    text += &format!("\n{}\n", wrap(&legend(study), width));
    let notes = remarks(study).into_iter().map(|r| format!("! {r}"));
    for line in study.findings.iter().cloned().chain(notes) {
        text += &(wrap(&line, width) + "\n");
    }
    text
}

/// Troubles and notes.
fn remarks(study: &Study) -> Vec<String> {
    let troubles = study.series.iter().flat_map(|s| {
        s.points.iter().flat_map(move |p| {
            p.troubles
                .iter()
                .map(move |t| format!("{} at {}: {t}", s.label, p.label))
        })
    });
    troubles.chain(study.notes.iter().cloned()).collect()
}

/// A Markdown section.
pub fn markdown(study: &Study) -> String {
    let mut text = format!(
        "## {}\n\n{}",
        markdown_text(&study.title),
        markdown_text(&study.question)
    );
    if let Some(reference) = &study.reference {
        text += &format!(" ({})", markdown_text(reference));
    }
    text += &format!(
        "\n\n{}\n\n{}\n{}\n\n",
        markdown_text(&study.findings.join(" ")),
        table(study).markdown(),
        legend(study)
    );
    for remark in remarks(study) {
        text += &format!("- {}\n", markdown_text(&remark));
    }
    text
}

/// One line per point and seed, in basic units.
///
/// # Errors
/// If the table cannot be built; not expected.
pub fn csv(study: &Study) -> Result<String> {
    let names = [
        "study",
        "dataset",
        "stand_in_for",
        "backbone",
        "series",
        "method",
        "point",
        "x",
        "seed",
        study.metric(),
        "parameters",
        "run",
    ];
    let mut rows = Vec::new();
    for series in &study.series {
        for p in &series.points {
            let values = p.metric.iter().flat_map(|m| &m.values);
            for ((seed, run), metric) in p.seeds.iter().zip(&p.runs).zip(values) {
                let values = [
                    json!(study.name),
                    json!(study.dataset.name),
                    json!(study.dataset.stand_in_for.as_deref().unwrap_or_default()),
                    json!(study.backbone),
                    json!(series.label),
                    json!(series.method),
                    json!(p.label),
                    json!(p.x),
                    json!(seed),
                    json!(metric),
                    json!(p.parameters),
                    json!(run),
                ];
                rows.push(values.map(|v| Cell::hidden(Some(v))).to_vec());
            }
        }
    }
    let columns = names.map(Column::hidden).to_vec();
    Table {
        caption: String::new(),
        columns,
        rows,
    }
    .csv(true)
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
    for plot in figures::study_plots(study) {
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
    let plots = figures::study_plots(study)
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
            margin: Margin::POINT,
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
    fn every_point_has_a_verdict_against_the_highest_mean() {
        let (manifest, records) = example();
        let study = Study::new(&manifest, records).unwrap();
        let points = &study.series[0].points;
        assert_eq!(points[0].verdict, Some(Verdict::Worse));
        assert_eq!(points[2].verdict, Some(Verdict::Undecided));
        assert!(points[1].highest && points[1].verdict.is_none());
        assert!((points[0].evidence.unwrap().difference + 0.3).abs() < 1e-12);
        assert_eq!(
            study.findings,
            [
                "prompt_tuning: highest mean at 10 (89.7 % accuracy); shown to be worse: 1; undecided: 100."
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
            text.contains("| prompt_tuning | 10 | 89.7 ± 0.3 | highest mean |"),
            "{text}"
        );
        assert!(
            text.contains("| prompt_tuning | 100 | 89.0 ± 0.3 | undecided |"),
            "{text}"
        );
    }

    #[test]
    fn a_study_is_plotted_with_its_stand_in_and_curves_where_they_are_asked_for() {
        let (mut manifest, mut records) = example();
        let metric = &figures::study_plots(&Study::new(&manifest, records.clone()).unwrap())[0];
        assert!(
            metric.description.contains("89.7 % at 10"),
            "{}",
            metric.description
        );
        assert_eq!(&metric.png().unwrap()[1..4], b"PNG");
        let says_what_is_behind = |svg: &str| svg.contains("Hollow: shown to be worse");
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
        let found = read_all(folder.path(), None).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].series[0].points.len(), 3);
        // A margin that is asked for goes over the declared one, and is said.
        let wide = read_all(folder.path(), Margin::new(0.2).ok()).unwrap();
        assert_eq!(
            wide[0].point("prompt_tuning", "100").unwrap().verdict,
            Some(Verdict::Equivalent)
        );
        assert!(markdown(&wide[0]).contains("equivalent within 20.0 points"));
        fs::write(below.join(MANIFEST), "{").unwrap();
        assert!(
            read_all(folder.path(), None)
                .unwrap_err()
                .to_string()
                .contains("study.json")
        );
    }
}
