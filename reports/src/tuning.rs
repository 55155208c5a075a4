//! Equal tuning budgets: how good a method becomes with how many trials of a random search.
//!
//! Every method gets the same number of configurations, drawn at random from the ranges that it declares and
//! judged on examples held out of the training split. The expected best of n trials is that of [`statistics::expected_best`].

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use record::{DatasetFacts, Kind, RunRecord, Status, store};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use statistics::{Expected, expected_best};

use crate::{
    Error, Result,
    comparison::{dataset_label, dataset_slug, slug},
    figures, format,
    row::{Run, status_text},
    studies::{folders_with, kind_of, write_json},
    table::{Cell, Column, Table, markdown_text},
};

/// Name of the file in a search's folder.
pub const MANIFEST: &str = "tuning.json";

/// What a search was asked to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Trials of every method.
    pub trials: usize,
    /// What they are judged by, in words.
    pub judged_by: String,
    /// The methods with the ids of their trials' runs, in the order they were drawn.
    pub methods: Vec<MethodTrials>,
    /// Methods that declare no ranges.
    pub left_out: Vec<String>,
}

/// The trials of one method.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MethodTrials {
    /// Name of the method.
    pub method: String,
    /// What was drawn, by key.
    pub drawn: Vec<BTreeMap<String, Value>>,
    /// Ids of the runs.
    pub runs: Vec<String>,
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
    /// Trials of every method.
    pub trials: usize,
    /// What they are judged by, in words.
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
    /// Its trials in the order they were drawn.
    pub trials: Vec<Trial>,
    /// Index of the best trial; absent while none has ended well.
    pub best: Option<usize>,
    /// The expected best result of 1, 2, … trials.
    pub expected: Vec<Expected>,
}

/// One trial.
#[derive(Clone, Debug, Serialize)]
pub struct Trial {
    /// What was drawn, by key.
    pub drawn: BTreeMap<String, Value>,
    /// Id of its run.
    pub run: String,
    /// The metric on the held-out examples; absent unless the run ended well.
    pub metric: Option<f64>,
    /// Why there is no metric.
    pub trouble: Option<String>,
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
        let json = fs::read(&path).map_err(|source| record::Error::Read {
            path: path.clone(),
            source,
        })?;
        let manifest: Manifest = serde_json::from_slice(&json).map_err(|e| Error::Manifest {
            path,
            problem: e.to_string(),
        })?;
        let records = store::read_dir(&found.join("records"))?.records;
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
            .flat_map(|m| &m.runs)
            .find_map(|id| by_id.get(id.as_str()))?;
        let asked = &first.asked;
        let (mut searches, mut bad) = (Vec::new(), 0);
        for method in &manifest.methods {
            let trials: Vec<Trial> = method
                .drawn
                .iter()
                .zip(&method.runs)
                .filter_map(|(drawn, id)| Some(trial(drawn, by_id.get(id.as_str())?)))
                .collect();
            bad += trials.iter().filter(|t| t.metric.is_none()).count();
            let values: Vec<f64> = trials.iter().map(|t| t.metric.unwrap_or(0.0)).collect();
            // Of equals the first.
            let best = (0..trials.len())
                .filter(|&i| trials[i].metric.is_some())
                .max_by(|&a, &b| values[a].total_cmp(&values[b]).then(b.cmp(&a)));
            searches.push(Search {
                method: method.method.clone(),
                kind: kind_of(&method.method, records),
                best,
                expected: expected_best(&values),
                trials,
            });
        }
        let mut notes = Vec::new();
        if let Some(name) = &asked.dataset.stand_in_for {
            notes.push(format!(
                "{name} was not found. All numbers are from {}, which stands in for it.",
                asked.dataset.name
            ));
        }
        if bad > 0 {
            notes.push(format!(
                "{} ended without a result and count as 0.",
                format::plural(bad, "trial")
            ));
        }
        for search in searches.iter().filter(|s| s.trials.len() < manifest.trials) {
            notes.push(format!(
                "{} has {} of {} trials.",
                search.method,
                search.trials.len(),
                manifest.trials
            ));
        }
        if !manifest.left_out.is_empty() {
            notes.push(format!(
                "Left out, as their YAML declares no ranges under `search`: {}.",
                manifest.left_out.join(", ")
            ));
        }
        Some(Self {
            title: format!(
                "Equal tuning budget · {} · {}",
                dataset_label(&asked.dataset),
                asked.backbone.name
            ),
            slug: slug(&format!(
                "tuning-{}-{}",
                dataset_slug(&asked.dataset),
                asked.backbone.name
            )),
            dataset: asked.dataset.clone(),
            backbone: asked.backbone.name.clone(),
            trials: manifest.trials,
            judged_by: manifest.judged_by.clone(),
            searches,
            notes,
        })
    }
}

fn trial(drawn: &BTreeMap<String, Value>, record: &RunRecord) -> Trial {
    let run = Run::of(record);
    let trouble = match (&record.status, run.failed_checks.as_slice()) {
        (Status::Ok, []) => None,
        (Status::Ok, checks) => Some(format!("invalid, check failed: {}", checks.join(", "))),
        (status, _) => Some(status_text(status)),
    };
    Trial {
        drawn: drawn.clone(),
        run: record.id.clone(),
        metric: run.metric.filter(|_| trouble.is_none()),
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

/// Numbers of trials that tables show: 1, 2, 4, … and all.
fn shown(trials: usize) -> Vec<usize> {
    let mut shown: Vec<usize> = (0..).map(|i| 1 << i).take_while(|n| *n < trials).collect();
    shown.push(trials);
    shown
}

/// The table: method, the expected best of each number of trials that is shown, best configuration.
fn table(tuning: &Tuning) -> Table {
    let metric = &tuning.dataset.main_metric;
    let numbers = shown(tuning.trials);
    let mut columns = vec![Column::text("method", "method", "method", 0)];
    columns.extend(numbers.iter().map(|n| {
        let title = format!("best of {n}");
        Column::number(&format!("best_of_{n}"), &title, &title, 1)
    }));
    columns.push(Column::text(
        "configuration",
        "best configuration",
        "best configuration",
        2,
    ));
    let row = |search: &Search| {
        let expected = numbers.iter().map(|n| {
            let found = search.expected.iter().find(|e| e.trials == *n);
            Cell::of(found.map(|e| e.mean), || {
                found.map_or_else(String::new, |e| {
                    format::metric_spread(metric, e.mean, e.standard_error)
                })
            })
        });
        let best = search.best.map(|i| drawn_text(&search.trials[i].drawn));
        std::iter::once(Cell::text(search.method.clone()))
            .chain(expected)
            .chain([Cell::of(best.clone(), || best.unwrap_or_default())])
            .collect()
    };
    Table {
        caption: String::new(),
        columns,
        rows: tuning.searches.iter().map(row).collect(),
    }
}

const EXPLANATION: &str = "± is the standard error over the trials that were drawn. It says how much tuning a method needs, not how good it is: for that see the rows marked as tuned.";

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
        "explanation": EXPLANATION,
        "table": table(tuning),
        "notes": tuning.notes,
        "plot": plot,
    }))
}

/// A Markdown section: the expected best by number of trials, and the winners. Readable in a terminal too.
pub fn markdown(tuning: &Tuning) -> String {
    let mut text = format!(
        "## {}\n\nExpected best {} on {} by number of trials (Dodge et al. 2019), and the best configuration. \
         {EXPLANATION}\n\n{}\n",
        markdown_text(&tuning.title),
        tuning.dataset.main_metric,
        tuning.judged_by,
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

    #[test]
    fn the_first_of_the_best_trials_wins_and_a_diverged_one_counts_as_nothing() {
        let labels: Vec<u32> = (0..10).map(|i| i % 2).collect();
        let run = |rate: f64, right: usize| {
            Sample::new("lora")
                .variant(
                    &format!("learning_rate={rate}"),
                    json!({"learning_rate": rate}),
                )
                .predictions(&labels, move |i| i < right)
        };
        let records = [
            run(0.1, 9).ended(Status::Diverged {
                step: 1,
                reason: "the loss is NaN".into(),
            }),
            run(0.01, 8),
            run(0.02, 8),
            run(0.03, 6),
        ]
        .map(Sample::record);
        let manifest = Manifest {
            trials: 4,
            judged_by: "10 % of the training split".into(),
            methods: vec![MethodTrials {
                method: "lora".into(),
                drawn: [0.1, 0.01, 0.02, 0.03]
                    .map(|r| [("learning_rate".to_owned(), json!(r))].into())
                    .to_vec(),
                runs: records.iter().map(|r| r.id.clone()).collect(),
            }],
            left_out: vec!["odd".into()],
        };
        let tuning = Tuning::new(&manifest, &records).unwrap();
        let search = &tuning.searches[0];
        assert_eq!(search.best, Some(1));
        // (0 + 0.8 + 0.8 + 0.6) / 4.
        assert!((search.expected[0].mean - 0.55).abs() < 1e-12);
        assert!(
            tuning.notes[0].starts_with("1 trial ended"),
            "{:?}",
            tuning.notes
        );
        assert!(tuning.notes[1].contains("odd"));
        let text = markdown(&tuning);
        assert!(text.contains("learning_rate=0.01"), "{text}");
        let view = page_view(&tuning).unwrap();
        assert_eq!(view["table"]["columns"][2]["name"], "best_of_2");
        assert_eq!(view["table"]["rows"][0][0]["text"], "lora");
        assert!(view["plot"]["wide"].as_str().unwrap().contains("<svg"));
        assert!(Tuning::new(&manifest, &[]).is_none());
    }
}
