//! Equal tuning: how good a method becomes with how much compute of a random search.
//!
//! Every method gets the same compute: configurations are drawn at random, and by successive halving (Karnin et al. 2013; Jamieson and
//! Talwalkar 2016, arXiv:1502.07943) all are trained for a few steps, the best third of them for three times as many, and so on up to a whole
//! run ([`Manifest::rungs`]). They are judged on examples held out of the training split. The expected best of n configurations after
//! the first rung, which all of them have run, is that of [`statistics::expected_best`], with the variance of the same paper.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use record::{DatasetFacts, Kind, RunRecord, Status, store};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use statistics::{Expected, expected_best};

use crate::{
    Error, Result,
    comparison::{dataset_label, dataset_slug, slug},
    figures,
    files::{folders_with, write_json},
    format,
    row::{Run, estimate, scores, status_text},
    studies::kind_of,
    table::{Cell, Column, Table, markdown_text},
};

/// Name of the file in a search's folder.
pub const MANIFEST: &str = "tuning.json";
/// Of this many configurations one goes on to the next rung, with as many times the steps.
pub const HALVING: usize = 3;
/// After fewer steps a method has hardly left its start.
const FEWEST_STEPS: usize = 10;
/// Share of a range of learning rates, by their logarithm, that counts as its edge.
const EDGE: f64 = 0.1;

/// What a search was asked to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Steps of a trial at each rung, ascending; the last is a whole run.
    pub rungs: Vec<usize>,
    /// What they are judged by, in words.
    pub judged_by: String,
    /// The methods with their trials.
    pub methods: Vec<MethodTrials>,
    /// Methods that have nothing to search.
    pub left_out: Vec<String>,
}

/// The trials of one method.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MethodTrials {
    /// Name of the method.
    pub method: String,
    /// Range of the learning rates that were drawn; absent where the learning rate was set.
    pub learning_rates: Option<[f64; 2]>,
    /// Its trials in the order they were drawn.
    pub trials: Vec<TrialPlan>,
}

/// One configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrialPlan {
    /// What was drawn, by key.
    pub drawn: BTreeMap<String, Value>,
    /// Steps and id of each of its runs.
    pub runs: Vec<(usize, String)>,
    /// Whether it was added because the best learning rate was at the edge of the range.
    #[serde(default)]
    pub beyond_edge: bool,
}

/// A search with its results.
#[derive(Clone, Debug, Serialize)]
pub struct Tuning {
    /// Heading: data set and backbone; a stand-in is said.
    pub title: String,
    /// Name for files.
    pub slug: String,
    /// The data.
    pub dataset: DatasetFacts,
    /// Name of the backbone.
    pub backbone: String,
    /// Steps of a trial at each rung.
    pub rungs: Vec<usize>,
    /// What the trials are judged by, in words.
    pub judged_by: String,
    /// One search per method.
    pub searches: Vec<Search>,
    /// What a reader has to know before believing the numbers.
    pub notes: Vec<String>,
}

/// The search of one method.
#[derive(Clone, Debug, Serialize)]
pub struct Search {
    /// Name of the method.
    pub method: String,
    /// What the registry says of it; absent in older records.
    pub kind: Option<Kind>,
    /// Range of the learning rates that were drawn.
    pub learning_rates: Option<[f64; 2]>,
    /// Its trials in the order they were drawn.
    pub trials: Vec<Trial>,
    /// Index of the best trial: of those that ran the most steps. Absent while none has ended well.
    pub best: Option<usize>,
    /// The end of the range that the best learning rate lies at.
    pub edge: Option<Edge>,
    /// Steps of all trials together.
    pub steps: usize,
    /// Seconds of training of all trials together.
    pub seconds: f64,
    /// Mean seconds of training of a trial at the first rung.
    pub seconds_per_trial: f64,
    /// The expected best result of 1, 2, … trials at the first rung.
    pub expected: Vec<Expected>,
}

/// An end of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Edge {
    /// The lower one.
    Low,
    /// The upper one.
    High,
}

impl Edge {
    /// The end of a range that a learning rate lies at or beyond, if it does.
    pub fn of(rate: f64, [low, high]: [f64; 2]) -> Option<Self> {
        let share = (rate / low).ln() / (high / low).ln();
        if share <= EDGE {
            Some(Self::Low)
        } else if share >= 1.0 - EDGE {
            Some(Self::High)
        } else {
            None
        }
    }
}

/// One trial.
#[derive(Clone, Debug, Serialize)]
pub struct Trial {
    /// What was drawn, by key.
    pub drawn: BTreeMap<String, Value>,
    /// Its results, by rung.
    pub results: Vec<Tried>,
    /// Whether it was added because the best learning rate was at the edge of the range.
    pub beyond_edge: bool,
}

/// A trial's result at one rung.
#[derive(Clone, Debug, Serialize)]
pub struct Tried {
    /// Steps trained.
    pub steps: usize,
    /// Id of the run.
    pub run: String,
    /// The metric on the held-out examples; absent unless the run ended well.
    pub metric: Option<f64>,
    /// Its standard error over these examples; absent where the metric cannot be taken apart by example.
    pub standard_error: Option<f64>,
    /// Seconds of training.
    pub seconds: f64,
    /// Why there is no metric.
    pub trouble: Option<String>,
}

impl Trial {
    /// The metric after so many steps.
    fn metric_at(&self, steps: usize) -> Option<f64> {
        let found = self.results.iter().find(|r| r.steps == steps)?;
        found.metric
    }

    /// Its result after the most steps.
    pub fn last(&self) -> Option<&Tried> {
        self.results.last()
    }

    /// Its learning rate.
    pub fn learning_rate(&self) -> Option<f64> {
        self.drawn.get("learning_rate")?.as_f64()
    }
}

impl Search {
    /// Trials that go on from a rung, best first, as many as asked for; of equals the first. What ended without a result does not.
    pub fn survivors(&self, steps: usize, keep: usize) -> Vec<usize> {
        let mut ranked: Vec<(usize, f64)> = self
            .trials
            .iter()
            .enumerate()
            .filter_map(|(i, t)| Some((i, t.metric_at(steps)?)))
            .collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        ranked.into_iter().take(keep).map(|(i, _)| i).collect()
    }
}

/// The steps of each rung for so many trials of a whole run of `steps`: as many rungs as the trials can be divided, at most `most`, none
/// of fewer steps than `FEWEST_STEPS` but a whole run.
pub fn rungs(trials: usize, steps: usize, most: usize) -> Vec<usize> {
    let by_steps = (steps / FEWEST_STEPS).max(1).ilog(HALVING);
    let halvings = trials.max(1).ilog(HALVING).min(by_steps) as usize;
    let last = halvings.min(most.saturating_sub(1));
    (0..=last)
        .rev()
        .map(|k| steps / HALVING.pow(k as u32))
        .collect()
}

/// How many of so many trials run at each of so many rungs.
pub fn kept(trials: usize, rungs: usize) -> Vec<usize> {
    (0..rungs as u32)
        .map(|k| (trials / HALVING.pow(k)).max(1))
        .collect()
}

/// A manifest of earlier versions, whose trials were all whole runs.
#[derive(Deserialize)]
struct OldManifest {
    judged_by: String,
    methods: Vec<OldTrials>,
    left_out: Vec<String>,
}

#[derive(Deserialize)]
struct OldTrials {
    method: String,
    drawn: Vec<BTreeMap<String, Value>>,
    runs: Vec<String>,
}

impl OldManifest {
    /// The same with one rung, of as many steps as its records say.
    fn now(self, records: &[RunRecord]) -> Manifest {
        let steps = |id: &String| {
            let record = records.iter().find(|r| r.id == *id)?;
            record.asked.recipe.get("steps")?.as_u64()
        };
        let whole = self.methods.iter().flat_map(|m| &m.runs).find_map(steps);
        let whole = whole.unwrap_or_default() as usize;
        let methods = self.methods.into_iter().map(|m| MethodTrials {
            method: m.method,
            learning_rates: None,
            trials: m
                .drawn
                .into_iter()
                .zip(m.runs)
                .map(|(drawn, id)| TrialPlan {
                    drawn,
                    runs: vec![(whole, id)],
                    beyond_edge: false,
                })
                .collect(),
        });
        Manifest {
            rungs: vec![whole],
            judged_by: self.judged_by,
            methods: methods.collect(),
            left_out: self.left_out,
        }
    }
}

impl Manifest {
    /// Writes it into a search's folder.
    ///
    /// # Errors
    /// If that cannot be written.
    pub fn write(&self, folder: &Path) -> Result<PathBuf> {
        write_json(folder, MANIFEST, self)
    }
}

/// The searches below a comparison's folder, or below a folder of comparisons.
///
/// # Errors
/// If a manifest or a folder cannot be read.
pub fn read_all(folder: &Path) -> Result<Vec<Tuning>> {
    let mut all = Vec::new();
    for found in folders_with(folder, MANIFEST)? {
        let path = found.join(MANIFEST);
        let json = record::files::read(&path).map_err(|source| record::Error::Read {
            path: path.clone(),
            source,
        })?;
        let records = store::read_dir(&found.join("records"))?.records;
        let manifest: Manifest = match serde_json::from_slice::<OldManifest>(&json) {
            Ok(old) => old.now(&records),
            Err(_) => serde_json::from_slice(&json).map_err(|e| Error::Manifest {
                path,
                problem: e.to_string(),
            })?,
        };
        all.extend(Tuning::new(&manifest, &records));
    }
    Ok(all)
}

impl Tuning {
    /// Joins what was asked with the records that there are; `None` without any.
    pub fn new(manifest: &Manifest, records: &[RunRecord]) -> Option<Self> {
        let by_id: BTreeMap<&str, &RunRecord> =
            records.iter().map(|r| (r.id.as_str(), r)).collect();
        let first = manifest
            .methods
            .iter()
            .flat_map(|m| &m.trials)
            .flat_map(|t| &t.runs)
            .find_map(|(_, id)| by_id.get(id.as_str()))?;
        let asked = &first.asked;
        let searches: Vec<Search> = manifest
            .methods
            .iter()
            .map(|m| search(m, &manifest.rungs, &by_id, records))
            .collect();
        let mut notes = Vec::new();
        if let Some(name) = &asked.dataset.stand_in_for {
            notes.push(format!(
                "{name} was not found. All numbers are from {}, which stands in for it.",
                asked.dataset.name
            ));
        }
        let tried = || {
            searches
                .iter()
                .flat_map(|s| &s.trials)
                .flat_map(|t| &t.results)
        };
        let bad = tried().filter(|r| r.metric.is_none()).count();
        if bad > 0 {
            notes.push(format!(
                "{} ended without a result and count as 0.",
                format::plural(bad, "trial run")
            ));
        }
        let planned = manifest.methods.iter().flat_map(|m| &m.trials);
        let planned: usize = planned.map(|t| t.runs.len()).sum();
        if tried().count() < planned {
            notes.push(format!(
                "{} of {planned} trial runs have a record; the same command goes on with the others.",
                tried().count()
            ));
        }
        notes.extend(searches.iter().filter_map(edge_note));
        if !manifest.left_out.is_empty() {
            notes.push(format!(
                "Left out, as there is nothing to search: {}.",
                manifest.left_out.join(", ")
            ));
        }
        Some(Self {
            title: format!(
                "Equal tuning · {} · {}",
                dataset_label(&asked.dataset),
                asked.backbone.label()
            ),
            slug: slug(&format!(
                "tuning-{}-{}",
                dataset_slug(&asked.dataset),
                asked.backbone.label()
            )),
            dataset: asked.dataset.clone(),
            backbone: asked.backbone.label(),
            rungs: manifest.rungs.clone(),
            judged_by: manifest.judged_by.clone(),
            searches,
            notes,
        })
    }
}

fn search(
    plan: &MethodTrials,
    rungs: &[usize],
    by_id: &BTreeMap<&str, &RunRecord>,
    records: &[RunRecord],
) -> Search {
    let trials: Vec<Trial> = plan
        .trials
        .iter()
        .map(|t| Trial {
            drawn: t.drawn.clone(),
            beyond_edge: t.beyond_edge,
            results: t
                .runs
                .iter()
                .filter_map(|(steps, id)| Some(tried(*steps, by_id.get(id.as_str())?)))
                .collect(),
        })
        .collect();
    let results = || trials.iter().flat_map(|t| &t.results);
    let most = results()
        .filter(|r| r.metric.is_some())
        .map(|r| r.steps)
        .max();
    let first: Vec<&Tried> = trials
        .iter()
        .filter(|t| !t.beyond_edge)
        .filter_map(|t| t.results.iter().find(|r| rungs.first() == Some(&r.steps)))
        .collect();
    let values: Vec<f64> = first.iter().map(|r| r.metric.unwrap_or(0.0)).collect();
    let seconds: Vec<f64> = first.iter().map(|r| r.seconds).collect();
    let mut search = Search {
        method: plan.method.clone(),
        kind: kind_of(&plan.method, records),
        learning_rates: plan.learning_rates,
        best: None,
        edge: None,
        steps: results().map(|r| r.steps).sum(),
        seconds: results().map(|r| r.seconds).sum(),
        seconds_per_trial: statistics::mean(&seconds).unwrap_or_default(),
        expected: expected_best(&values),
        trials,
    };
    search.best = most.and_then(|steps| search.survivors(steps, 1).first().copied());
    let rate = search.best.and_then(|i| search.trials[i].learning_rate());
    search.edge = rate
        .zip(search.learning_rates)
        .and_then(|(rate, range)| Edge::of(rate, range));
    search
}

/// That the best learning rate lies at an edge of what was tried.
fn edge_note(search: &Search) -> Option<String> {
    let edge = search.edge?;
    let [low, high] = search.learning_rates?;
    let end = match edge {
        Edge::Low => "lower",
        Edge::High => "upper",
    };
    let best = search.trials.get(search.best?)?;
    let rate = best.learning_rate()?;
    let beyond: Vec<f64> = search
        .trials
        .iter()
        .filter(|t| t.beyond_edge)
        .filter_map(Trial::learning_rate)
        .collect();
    let farther = |r: &f64| match edge {
        Edge::Low => *r < rate,
        Edge::High => *r > rate,
    };
    let range = format!("{low:.1e} to {high:.1e}");
    Some(match (beyond.is_empty(), beyond.iter().any(farther)) {
        (true, _) => format!(
            "{}: the best learning rate, {rate:.1e}, lies at the {end} edge of what was drawn ({range}).",
            search.method
        ),
        (false, true) => format!(
            "{}: the best learning rate, {rate:.1e}, lies at the {end} edge of what was drawn ({range}); {} beyond it were tried too.",
            search.method,
            format::plural(beyond.len(), "learning rate")
        ),
        (false, false) => format!(
            "{}: the best learning rate, {rate:.1e}, is the last one beyond the {end} edge of what was drawn ({range}): a better one may lie further.",
            search.method
        ),
    })
}

fn tried(steps: usize, record: &RunRecord) -> Tried {
    let run = Run::of(record);
    let trouble = match (&record.status, run.failed_checks.as_slice()) {
        (Status::Ok, []) => None,
        (Status::Ok, checks) => Some(format!("invalid, check failed: {}", checks.join(", "))),
        (status, _) => Some(status_text(status)),
    };
    let estimated = scores(&[record]).map(|s| estimate(&s, &record.asked.dataset.main_metric).1);
    Tried {
        steps,
        run: record.id.clone(),
        metric: run.metric.filter(|_| trouble.is_none()),
        standard_error: estimated.filter(|_| trouble.is_none()),
        seconds: record.cost.as_ref().map_or(0.0, |c| c.training_seconds),
        trouble,
    }
}

/// What was drawn, as `key=value, …`.
pub fn drawn_text(drawn: &BTreeMap<String, Value>) -> String {
    let value = |v: &Value| match v {
        Value::String(s) => s.clone(),
        other => other.to_string(),
    };
    drawn
        .iter()
        .map(|(k, v)| format!("{k}={}", value(v)))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Numbers of trials that tables show: 1, 3, 9, … and all.
fn shown(trials: usize) -> Vec<usize> {
    let powers = (0..).map(|i| HALVING.pow(i));
    let mut shown: Vec<usize> = powers.take_while(|n| *n < trials).collect();
    shown.push(trials);
    shown
}

/// The table: method, the expected best of each number of trials that is shown, what it cost, and the best configuration.
fn table(tuning: &Tuning) -> Table {
    let metric = &tuning.dataset.main_metric;
    let most = tuning.searches.iter().map(|s| s.expected.len()).max();
    let numbers = shown(most.unwrap_or(1));
    let mut columns = vec![Column::text("method", "method", "method", 0)];
    columns.extend(numbers.iter().map(|n| {
        let title = format!("best of {n}");
        Column::number(&format!("best_of_{n}"), &title, &title, 2)
    }));
    columns.extend([
        Column::number("best", "winner", "winner ± standard error", 0),
        Column::number("steps", "steps", "steps of all trials", 3),
        Column::number("training_seconds", "training", "training of all trials", 3),
        Column::text(
            "configuration",
            "best configuration",
            "best configuration",
            1,
        ),
    ]);
    let row = |search: &Search| {
        let expected = numbers.iter().map(|n| {
            let found = search.expected.iter().find(|e| e.trials == *n);
            Cell::of(found.map(|e| e.mean), || {
                found.map_or_else(String::new, |e| {
                    format::metric_spread(metric, e.mean, Some(e.sd).filter(|_| *n > 1))
                })
            })
        });
        let best = search.best.map(|i| &search.trials[i]);
        let last = best.and_then(Trial::last);
        let drawn = best.map(|t| drawn_text(&t.drawn));
        std::iter::once(Cell::text(search.method.clone()))
            .chain(expected)
            .chain([
                Cell::of(last.and_then(|r| r.metric), || {
                    last.map_or_else(String::new, |r| {
                        format::metric_spread(
                            metric,
                            r.metric.unwrap_or_default(),
                            r.standard_error,
                        )
                    })
                }),
                Cell::of(Some(search.steps), || format::count(search.steps)),
                Cell::of(Some(search.seconds), || format::seconds(search.seconds)),
                Cell::of(drawn.clone(), || drawn.unwrap_or_default()),
            ])
            .collect()
    };
    Table {
        caption: String::new(),
        columns,
        rows: tuning.searches.iter().map(row).collect(),
    }
}

/// How to read the table.
fn explanation(tuning: &Tuning) -> String {
    let rungs: Vec<String> = tuning.rungs.iter().map(usize::to_string).collect();
    let first = rungs.first().cloned().unwrap_or_default();
    let halving = match rungs.len() {
        0 | 1 => String::new(),
        _ => format!(
            " Successive halving: all trials run {first} steps, and of those that ran so far the best third goes on, to {} steps.",
            rungs[1..].join(" and ")
        ),
    };
    format!(
        "Best of n: expected best of n trials after {first} steps, ± the standard deviation of that best over draws.{halving} The winner is \
         judged once, ± its standard error over the held-out examples, and as the best of several it is flattered. This says how much tuning a \
         method needs, not how good it is: for that see the rows marked as tuned."
    )
}

/// The search with its plot as SVG and its table's cells, as the page shows it.
///
/// # Errors
/// If the plot cannot be drawn; not expected.
pub fn page_view(tuning: &Tuning) -> Result<Value> {
    let plot = match figures::tuning_plot(tuning) {
        Some(plot) => json!({ "wide": plot.svg()?, "narrow": plot.narrow_svg()? }),
        None => Value::Null,
    };
    Ok(json!({
        "title": tuning.title,
        "metric": tuning.dataset.main_metric,
        "judged_by": tuning.judged_by,
        "explanation": explanation(tuning),
        "table": table(tuning),
        "notes": tuning.notes,
        "plot": plot,
    }))
}

/// A Markdown section: the expected best by number of trials, and the winners. Readable in a terminal too.
pub fn markdown(tuning: &Tuning) -> String {
    let mut text = format!(
        "## {}\n\nExpected best {} on {} (Dodge et al. 2019), and the best configuration. {}\n\n{}\n",
        markdown_text(&tuning.title),
        tuning.dataset.main_metric,
        tuning.judged_by,
        explanation(tuning),
        table(tuning).markdown()
    );
    for note in &tuning.notes {
        text += &format!("- {}\n", markdown_text(note));
    }
    text
}

/// Writes Markdown, JSON and plot of a search into a folder; returns the files.
///
/// # Errors
/// If a file cannot be written or the plot cannot be made.
pub fn write(tuning: &Tuning, out: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut write = |name: String, content: &[u8]| {
        let path = out.join(name);
        record::write_whole(&path, content)?;
        files.push(path);
        Ok::<_, Error>(())
    };
    write(format!("{}.md", tuning.slug), markdown(tuning).as_bytes())?;
    if let Some(plot) = figures::tuning_plot(tuning) {
        for (ending, content) in plot.files()? {
            write(format!("{}-{}.{ending}", tuning.slug, plot.name), &content)?;
        }
    }
    files.push(write_json(out, &format!("{}.json", tuning.slug), tuning)?);
    Ok(files)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sample::Sample;

    const STEPS: usize = 500;

    /// Trials of lora with these learning rates, each with its right answers of 100 after each rung.
    fn searched(range: [f64; 2], trials: &[(f64, &[usize], bool)]) -> (Manifest, Vec<RunRecord>) {
        let labels: Vec<u32> = (0..100).map(|i| i % 2).collect();
        let rungs = rungs(trials.len(), STEPS, 2);
        let mut records = Vec::new();
        let mut plans = Vec::new();
        for &(rate, right, beyond_edge) in trials {
            let mut plan = TrialPlan {
                drawn: [("learning_rate".to_owned(), json!(rate))].into(),
                beyond_edge,
                ..TrialPlan::default()
            };
            let own = match beyond_edge {
                true => &rungs[rungs.len() - 1..],
                false => &rungs[..],
            };
            for (&steps, &right) in own.iter().zip(right) {
                let record = Sample::new("lora")
                    .variant(
                        &format!("learning_rate={rate}"),
                        json!({"learning_rate": rate, "steps": steps}),
                    )
                    .training_seconds(steps as f64)
                    .predictions(&labels, move |i| i < right);
                let record = match right {
                    0 => record.ended(Status::Diverged {
                        step: 1,
                        reason: "the loss is NaN".into(),
                    }),
                    _ => record,
                }
                .record();
                plan.runs.push((steps, record.id.clone()));
                records.push(record);
            }
            plans.push(plan);
        }
        let manifest = Manifest {
            rungs,
            judged_by: "10 % of the training split".into(),
            methods: vec![MethodTrials {
                method: "lora".into(),
                learning_rates: Some(range),
                trials: plans,
            }],
            left_out: vec!["odd".into()],
        };
        (manifest, records)
    }

    #[test]
    fn rungs_divide_steps_and_trials_by_three_as_often_as_both_allow() {
        assert_eq!(rungs(9, 500, 9), [55, 166, 500]);
        assert_eq!(rungs(8, 500, 9), [166, 500]);
        assert_eq!(rungs(2, 500, 9), [500]);
        assert_eq!(rungs(27, 30, 9), [10, 30]);
        assert_eq!(rungs(27, 29, 9), [29]);
        assert_eq!(rungs(27, 500, 2), [166, 500]);
        assert_eq!(kept(9, 3), [9, 3, 1]);
        assert_eq!(kept(8, 2), [8, 2]);
    }

    #[test]
    fn the_first_of_the_best_after_the_most_steps_wins_and_a_diverged_one_counts_as_nothing() {
        let (manifest, records) = searched(
            [1e-4, 1e-1],
            &[
                (0.01, &[80, 85], false),
                (0.001, &[0], false),
                (0.003, &[80], false),
                (0.002, &[60], false),
            ],
        );
        let tuning = Tuning::new(&manifest, &records).unwrap();
        let search = &tuning.searches[0];
        assert_eq!((search.best, search.edge), (Some(0), None));
        assert_eq!(search.survivors(166, 2), [0, 2]);
        assert_eq!(search.survivors(166, 9), [0, 2, 3]);
        // (0.8 + 0 + 0.8 + 0.6) / 4.
        assert!((search.expected[0].mean - 0.55).abs() < 1e-12);
        assert_eq!(search.steps, 4 * 166 + 500);
        // √(0.85 · 0.15 / 99).
        let error = search.trials[0].last().unwrap().standard_error.unwrap();
        assert!((error - 0.035_887).abs() < 1e-5, "{error}");
        assert!(
            tuning.notes[0].starts_with("1 trial run ended"),
            "{:?}",
            tuning.notes
        );
        assert!(tuning.notes[1].contains("odd"));
        let text = markdown(&tuning);
        assert!(text.contains("learning_rate=0.01"), "{text}");
        let view = page_view(&tuning).unwrap();
        assert_eq!(view["table"]["columns"][2]["name"], "best_of_3");
        assert_eq!(view["table"]["rows"][0][0]["text"], "lora");
        assert!(view["plot"]["wide"].as_str().unwrap().contains("<svg"));
        assert!(Tuning::new(&manifest, &[]).is_none());
    }

    #[test]
    fn a_winner_at_an_edge_is_said_and_so_is_what_was_tried_beyond() {
        let note = |trials: &[(f64, &[usize], bool)]| {
            let (manifest, records) = searched([1e-4, 1e-1], trials);
            Tuning::new(&manifest, &records).unwrap().notes[0].clone()
        };
        let first = note(&[
            (0.09, &[80, 85], false),
            (0.01, &[70], false),
            (0.001, &[60], false),
        ]);
        assert!(first.contains("lies at the upper edge"), "{first}");
        let tried = note(&[
            (0.09, &[80, 85], false),
            (0.01, &[70], false),
            (0.001, &[60], false),
            (0.2, &[70], true),
        ]);
        assert!(tried.contains("1 learning rate beyond it"), "{tried}");
        let further = note(&[
            (0.09, &[80, 85], false),
            (0.01, &[70], false),
            (0.001, &[60], false),
            (0.2, &[90], true),
        ]);
        assert!(
            further.contains("a better one may lie further"),
            "{further}"
        );
    }
}
