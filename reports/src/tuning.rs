//! Equal tuning budgets: how good a method becomes with how many trials of a random search.
//!
//! Every method gets the same number of configurations, drawn at random from the ranges that it declares and
//! judged on examples held out of the training split. The expected best of n trials is that of n draws with
//! replacement from the N results `v₁ ≤ … ≤ v_N` that there are (Dodge et al. 2019, arXiv:1909.03004):
//!
//! `E[best of n] = Σᵢ vᵢ ((i / N)ⁿ − ((i − 1) / N)ⁿ)`, and its variance is `Σᵢ vᵢ² (…) − E²`.
//!
//! It falls short of the truth for n near N (Tang et al. 2020, arXiv:2004.13705), so it is a floor there.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    Error, Result,
    comparison::{Run, dataset_label},
    format, plots,
    record::{DatasetFacts, RunRecord, Status},
    store,
    studies::{folders_with, write_json},
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

/// The expected best result of some trials.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Expected {
    /// Number of trials n.
    pub trials: usize,
    /// Expected largest of n results.
    pub mean: f64,
    /// Its standard deviation over draws of n results.
    pub sd: f64,
}

/// The expected largest of n = 1 … N draws with replacement from these N values.
pub fn expected_best(values: &[f64]) -> Vec<Expected> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let all = sorted.len() as f64;
    (1..=sorted.len())
        .map(|n| {
            let below = |i: usize| (i as f64 / all).powi(n as i32);
            let (mut mean, mut square) = (0.0, 0.0);
            for (i, v) in sorted.iter().enumerate() {
                let p = below(i + 1) - below(i);
                mean += p * v;
                square += p * v * v;
            }
            Expected {
                trials: n,
                mean,
                sd: (square - mean * mean).max(0.0).sqrt(),
            }
        })
        .collect()
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
                best,
                expected: expected_best(&values),
                trials,
            });
        }
        let mut notes = Vec::new();
        if let Some(name) = &asked.dataset.stand_in_for {
            notes.push(format!(
                "{name} could not be had. All numbers are from {}, which stands in for it.",
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
        let data = match &asked.dataset.stand_in_for {
            Some(wanted) => format!("{wanted}-stand-in-{}", asked.dataset.name),
            None => asked.dataset.name.clone(),
        };
        Some(Self {
            title: format!(
                "Equal tuning budget · {} · {}",
                dataset_label(&asked.dataset),
                asked.backbone.name
            ),
            slug: format!("tuning-{data}-{}", asked.backbone.name),
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
        (status, _) => Some(crate::comparison::status_text(status)),
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

/// Rows of the table: method, the expected best of each number of trials that is shown, best configuration.
fn cells(tuning: &Tuning) -> Vec<Vec<String>> {
    let metric = &tuning.dataset.main_metric;
    let none = || "–".to_owned();
    let row = |search: &Search| {
        let expected = shown(tuning.trials).into_iter().map(|n| {
            let found = search.expected.iter().find(|e| e.trials == n);
            found.map_or_else(none, |e| format::metric_spread(metric, e.mean, Some(e.sd)))
        });
        let best = search.best.map(|i| drawn_text(&search.trials[i].drawn));
        std::iter::once(search.method.clone())
            .chain(expected)
            .chain([best.unwrap_or_else(none)])
            .collect()
    };
    tuning.searches.iter().map(row).collect()
}

const EXPLANATION: &str = "It says how much tuning a method needs, not how good it is: for that see the rows marked as tuned.";

/// The search with its plot as SVG and its table's cells, as the page shows it.
///
/// # Errors
/// If the plot cannot be drawn; not expected.
pub fn page_view(tuning: &Tuning) -> Result<Value> {
    let plot = match plots::tuning_plot(tuning) {
        Some(plot) => json!({ "wide": plot.svg()?, "narrow": plot.narrow_svg()? }),
        None => Value::Null,
    };
    Ok(json!({
        "title": tuning.title,
        "metric": tuning.dataset.main_metric,
        "judged_by": tuning.judged_by,
        "explanation": EXPLANATION,
        "trials": shown(tuning.trials),
        "rows": cells(tuning),
        "notes": tuning.notes,
        "plot": plot,
    }))
}

/// A Markdown section: the expected best by number of trials, and the winners. Readable in a terminal too.
pub fn markdown(tuning: &Tuning) -> String {
    let shown = shown(tuning.trials);
    let mut text = format!(
        "## {}\n\nExpected best {} on {} by number of trials (Dodge et al. 2019), and the best configuration. \
         {EXPLANATION}\n\n| method |",
        tuning.title, tuning.dataset.main_metric, tuning.judged_by
    );
    for n in &shown {
        text += &format!(" {n} |");
    }
    text += " best configuration |\n| :-- |";
    text += &" --: |".repeat(shown.len());
    text += " :-- |\n";
    for row in cells(tuning) {
        text += &format!("| {} |\n", row.join(" | "));
    }
    text.push('\n');
    for note in &tuning.notes {
        text += &format!("- {note}\n");
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
    if let Some(plot) = plots::tuning_plot(tuning) {
        write(format!("{}-{}.png", tuning.slug, plot.name), &plot.png()?)?;
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
    fn the_expected_best_of_n_is_the_mean_over_all_draws_of_n() {
        let values = [0.9, 0.5, 0.7, 0.7];
        let found = expected_best(&values);
        // Every draw of n out of N with replacement, one by one.
        for (n, expected) in (1..=4u32).zip(&found) {
            let draws = 4usize.pow(n);
            let best: Vec<f64> = (0..draws)
                .map(|mut code| {
                    (0..n).fold(f64::NEG_INFINITY, |best, _| {
                        let v = values[code % 4];
                        code /= 4;
                        best.max(v)
                    })
                })
                .collect();
            let mean = best.iter().sum::<f64>() / draws as f64;
            let variance = best.iter().map(|b| (b - mean).powi(2)).sum::<f64>() / draws as f64;
            assert!((expected.mean - mean).abs() < 1e-12, "{n}");
            assert!((expected.sd - variance.sqrt()).abs() < 1e-9, "{n}");
        }
        assert!((found[0].mean - 0.7).abs() < 1e-12);
        assert!(expected_best(&[]).is_empty());
    }

    #[test]
    fn the_expected_best_of_evenly_spread_values_has_a_closed_form() {
        // Values 1 … N: E[best of 2] = Σ i (2 i − 1) / N² = (N + 1)(4 N − 1) / (6 N).
        let values: Vec<f64> = (1..=10).map(f64::from).collect();
        assert!((expected_best(&values)[1].mean - 11.0 * 39.0 / 60.0).abs() < 1e-12);
    }

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
        assert_eq!(view["trials"], json!([1, 2, 4]));
        assert_eq!(view["rows"][0][0], "lora");
        assert!(view["plot"]["wide"].as_str().unwrap().contains("<svg"));
        assert!(Tuning::new(&manifest, &[]).is_none());
    }
}
