//! From records to a comparison: the trials of one data set over one backbone under one recipe.
//!
//! Records are grouped by what must be equal for a fair comparison (data digest, backbone digest,
//! pooling, recipe, implementation): records that differ in any of it land in several comparisons
//! and are never mixed. Inside a comparison the runs of one method configuration over seeds are a
//! trial, shown as a [`Row`].

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use crate::format;
use crate::latency::{self, LatencyCell};
use crate::record::{BackboneFacts, DatasetFacts, Parameters, RunRecord, Status, Tuned};
use crate::statistics::{
    self, ALPHA, Calibration, Difference, Metric, Resampled, Resamples, Summary,
};

/// Relative distance of a stored metric from the one that its predictions give that rounding explains.
const METRIC_TOLERANCE: f64 = 1e-9;
/// Name of the check that the report makes itself.
pub(crate) const METRIC_CHECK: &str = "metric_follows_from_predictions";

/// The trials of one data set over one backbone under one recipe.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Heading: data set, backbone, and what sets it apart from the other comparisons.
    /// A stand-in is said: `sst2 → movie_snippets (stand-in) · minilm`.
    pub name: String,
    /// The same for file names.
    pub slug: String,
    /// The data.
    pub dataset: DatasetFacts,
    /// The frozen transformer.
    pub backbone: BackboneFacts,
    /// The recipe that all share.
    pub recipe: Value,
    /// `fast` or `reference`.
    pub op_path: String,
    /// All seeds, in order.
    pub seeds: Vec<u64>,
    /// One row per method configuration: ranked ones best first, then invalid and unfinished ones.
    pub rows: Vec<Row>,
    /// Every pair of ranked rows.
    pub pairs: Vec<Pair>,
    /// The smallest true difference of the main metric that this comparison would have detected
    /// between neighbours of the table (median over them) with probability 0.8.
    pub smallest_detectable: Option<f64>,
    /// Relative difference of latencies that is noise: what two measurements of the bare backbone differ by in 19 of 20
    /// settings; absent where it was measured once only.
    pub latency_noise: Option<f64>,
    /// What a reader has to know before believing the numbers.
    pub notes: Vec<String>,
    /// The records behind it, in the order of the rows and seeds.
    #[serde(skip)]
    pub records: Vec<RunRecord>,
}

/// One method configuration over its seeds.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Method and variant, unique in the comparison: `lora`, `lora rank=4`.
    pub label: String,
    /// Name of the method.
    pub method: String,
    /// What distinguishes it from the method's defaults.
    pub variant: String,
    /// The resolved configuration.
    pub config: Value,
    /// The search that found the configuration; absent for one that was given.
    pub tuned: Option<Tuned>,
    /// Whether it takes part in the ranking.
    pub standing: Standing,
    /// Letters of its tie groups: rows that share one can't be told apart. Empty unless ranked.
    pub tie: String,
    /// Its runs, by seed.
    pub runs: Vec<Run>,
    /// Parameter counts; absent unless a run ended well.
    pub parameters: Option<Parameters>,
    /// Main metric over seeds.
    pub metric: Option<Summary>,
    /// All metrics over seeds, by name.
    pub metrics: BTreeMap<String, Summary>,
    /// Mean cross-entropy on the validation split over seeds.
    pub validation_loss: Option<Summary>,
    /// Calibration on the validation split, means over seeds.
    pub calibration: Option<Calibration>,
    /// Seconds of training steps.
    pub training_seconds: Option<Summary>,
    /// Examples trained on per second of training.
    pub examples_per_second: Option<Summary>,
    /// Real tokens trained on per second of training.
    pub tokens_per_second: Option<Summary>,
    /// Seconds from the start of the process to the end of the first step.
    pub seconds_to_first_step: Option<Summary>,
    /// Peak resident memory, bytes.
    pub peak_memory_bytes: Option<Summary>,
    /// Saved weights, head included, bytes.
    pub file_bytes: Option<Summary>,
    /// Latency of one real sentence (batch 1) by variant: `unmerged`, `merged`, `backbone`, `backbone_again`.
    pub latency: BTreeMap<String, RowLatency>,
    /// Latency in every setting that was measured: batch sizes, lengths, and mixed with other tasks.
    pub latency_cells: Vec<LatencyCell>,
    /// Memory that the loaded task takes beside the backbone, head included, bytes.
    pub resident_bytes: Option<Summary>,
}

/// Latency over seeds, in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RowLatency {
    /// Medians.
    pub p50_ms: Summary,
    /// 99th percentiles.
    pub p99_ms: Summary,
}

/// Whether a row takes part in the ranking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Standing {
    /// At least one run ended well and all of those passed their checks.
    Ranked,
    /// A run failed a check, so its numbers mean nothing.
    Invalid {
        /// Seed, check and what was measured.
        reasons: Vec<String>,
    },
    /// No run ended well.
    Unfinished,
}

/// One run of a row, as far as tables need it.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// Id of the record.
    pub id: String,
    /// Seed.
    pub seed: u64,
    /// How it ended.
    pub status: Status,
    /// Final value of the main metric.
    pub metric: Option<f64>,
    /// Checks that failed; with one of them the run is invalid.
    pub failed_checks: Vec<String>,
}

/// Two ranked rows compared on the same examples and seeds.
#[derive(Clone, Debug, Serialize)]
pub struct Pair {
    /// Index of the better row.
    pub first: usize,
    /// Index of the other.
    pub second: usize,
    /// Exact test of McNemar for each seed that both have.
    pub mcnemar: Vec<McNemar>,
    /// Bootstrap over examples and seeds.
    pub bootstrap: Difference,
    /// The bootstrap's p-value corrected for all pairs of the comparison (Holm).
    pub p_holm: f64,
    /// Whether the two can be told apart: `p_holm` below 0.05.
    pub told_apart: bool,
}

/// The test of McNemar for one seed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct McNemar {
    /// Seed.
    pub seed: u64,
    /// Examples that only the first got right.
    pub only_first: u64,
    /// Examples that only the second got right.
    pub only_second: u64,
    /// Exact two-sided p-value, not corrected.
    pub p: f64,
}

/// The data set's name for headings; a stand-in is said.
pub fn dataset_label(dataset: &DatasetFacts) -> String {
    match &dataset.stand_in_for {
        Some(asked) => format!("{asked} → {} (stand-in)", dataset.name),
        None => dataset.name.clone(),
    }
}

/// `method` or `method variant`.
pub fn method_label(method: &str, variant: &str) -> String {
    format!("{method} {variant}").trim_end().to_owned()
}

/// How a run ended, in words.
pub fn status_text(status: &Status) -> String {
    match status {
        Status::Ok => "ok".to_owned(),
        Status::Diverged { step, reason } => format!("diverged at step {step}: {reason}"),
        Status::Failed { error } => format!("failed: {error}"),
        Status::Interrupted => "interrupted".to_owned(),
    }
}

impl Comparison {
    /// Sorts records into comparisons: by data set, backbone and recipe. A record given twice
    /// (same id) counts once.
    pub fn from_records(records: &[RunRecord]) -> Vec<Self> {
        // The key is text, so that the order of comparisons does not depend on the order of records.
        let mut groups: BTreeMap<String, BTreeMap<&str, &RunRecord>> = BTreeMap::new();
        for record in records {
            let conditions = flat(&conditions(record));
            groups
                .entry(format!("{conditions:?}"))
                .or_default()
                .insert(&record.id, record);
        }
        let groups: Vec<Vec<&RunRecord>> = groups
            .into_values()
            .map(|group| group.into_values().collect())
            .collect();
        let apart = distinctions(&groups);
        let mut slugs = BTreeSet::new();
        groups
            .iter()
            .zip(apart)
            .map(|(group, apart)| {
                let mut comparison = Self::of_group(group, &apart);
                let base = comparison.slug.clone();
                let mut n = 1;
                while !slugs.insert(comparison.slug.clone()) {
                    n += 1;
                    comparison.slug = format!("{base}-{n}");
                }
                comparison
            })
            .collect()
    }

    /// The comparison of records that share their conditions.
    fn of_group(group: &[&RunRecord], apart: &[String]) -> Self {
        type Key = (String, String, Option<Tuned>, String);
        let mut trials: BTreeMap<Key, Vec<&RunRecord>> = BTreeMap::new();
        for record in group {
            let m = &record.asked.method;
            let key = (
                m.name.clone(),
                m.variant.clone(),
                m.tuned.clone(),
                format!("{:?}", flat(&m.config)),
            );
            trials.entry(key).or_default().push(record);
        }
        let mut used = BTreeMap::new();
        let mut trials: Vec<(Row, Vec<&RunRecord>)> = trials
            .into_values()
            .map(|mut records| {
                records.sort_by_key(|r| (r.asked.seed, r.id.clone()));
                let mut row = Row::of(&records);
                // The same variant with different configurations, e.g. of two versions of a default.
                let n = used
                    .entry(row.label.clone())
                    .and_modify(|n| *n += 1)
                    .or_insert(1);
                if *n > 1 {
                    row.label = format!("{} ({n})", row.label);
                }
                (row, records)
            })
            .collect();
        trials.sort_by(|(a, _), (b, _)| {
            let group = |row: &Row| match row.standing {
                Standing::Ranked => 0,
                Standing::Invalid { .. } => 1,
                Standing::Unfinished => 2,
            };
            let mean = |row: &Row| row.metric.as_ref().map_or(f64::NEG_INFINITY, |m| m.mean);
            let parameters = |row: &Row| row.parameters.map(|p| p.method);
            (group(a).cmp(&group(b)))
                .then(mean(b).total_cmp(&mean(a)))
                .then(parameters(a).cmp(&parameters(b)))
                .then(a.label.cmp(&b.label))
        });

        let asked = &group[0].asked;
        let (pairs, unpaired) = pairs(
            &trials,
            asked.dataset.labels.len(),
            &asked.dataset.main_metric,
        );
        // Of neighbours: their differences are what a reader has to decide on, and a floor far below is noisier than
        // any of them.
        let errors: Vec<f64> = pairs
            .iter()
            .filter(|p| p.second == p.first + 1)
            .map(|p| p.bootstrap.standard_error)
            .collect();
        let smallest_detectable = statistics::percentile(&errors, 50.0)
            .map(|se| statistics::smallest_detectable(se, pairs.len()));

        let ranked = trials
            .iter()
            .filter(|(row, _)| row.standing == Standing::Ranked)
            .count();
        let differ: Vec<_> = pairs
            .iter()
            .filter(|p| p.told_apart)
            .map(|p| (p.first, p.second))
            .collect();
        let letters = statistics::tie_groups(ranked, &differ);
        for ((row, _), letters) in trials.iter_mut().zip(letters) {
            row.tie = letters;
        }

        let place = [dataset_label(&asked.dataset), asked.backbone.name.clone()];
        let slug_parts = [
            match &asked.dataset.stand_in_for {
                Some(wanted) => format!("{wanted}-stand-in-{}", asked.dataset.name),
                None => asked.dataset.name.clone(),
            },
            asked.backbone.name.clone(),
        ];
        let seeds: BTreeSet<u64> = group.iter().map(|r| r.asked.seed).collect();
        let mut comparison = Self {
            name: place
                .iter()
                .chain(apart)
                .cloned()
                .collect::<Vec<_>>()
                .join(" · "),
            slug: slug_parts
                .iter()
                .chain(apart)
                .map(|p| slug(p))
                .collect::<Vec<_>>()
                .join("-"),
            dataset: asked.dataset.clone(),
            backbone: asked.backbone.clone(),
            recipe: asked.recipe.clone(),
            op_path: asked.op_path.clone(),
            seeds: seeds.into_iter().collect(),
            rows: Vec::new(),
            pairs,
            smallest_detectable,
            latency_noise: latency::noise_floor(
                &group
                    .iter()
                    .filter_map(|r| Some(&*r.cost.as_ref()?.latency))
                    .collect::<Vec<_>>(),
            ),
            notes: Vec::new(),
            records: Vec::new(),
        };
        for (row, records) in trials {
            comparison.rows.push(row);
            comparison.records.extend(records.into_iter().cloned());
        }
        comparison.notes = notes(&comparison, unpaired);
        comparison
    }

    /// The ranked rows, best first.
    pub fn ranked(&self) -> &[Row] {
        let n = self
            .rows
            .iter()
            .take_while(|r| r.standing == Standing::Ranked)
            .count();
        &self.rows[..n]
    }

    /// The record with this id.
    pub fn record(&self, id: &str) -> Option<&RunRecord> {
        self.records.iter().find(|r| r.id == id)
    }

    /// The pair of two rows, in either order.
    pub fn pair(&self, a: usize, b: usize) -> Option<&Pair> {
        self.pairs
            .iter()
            .find(|p| (p.first, p.second) == (a.min(b), a.max(b)))
    }

    /// Name of the main metric.
    pub fn metric(&self) -> &str {
        &self.dataset.main_metric
    }

    /// The answer in words, a sentence per entry: who leads, how sure that is, what is cheapest among the leaders.
    pub fn answer(&self) -> Vec<String> {
        let metric = self.metric();
        let ranked = self.ranked();
        let Some(best) = ranked.first() else {
            return vec!["No method has a valid result.".to_owned()];
        };
        let mean = |row: &Row| row.metric.as_ref().map_or(f64::NAN, |m| m.mean);
        let value = |row: &Row| format::metric(metric, mean(row));
        if ranked.len() == 1 {
            return vec![format!(
                "{} reached {} {metric}; there is no other valid result to compare it with.",
                best.label,
                value(best)
            )];
        }
        let behind = |i: &usize| self.pair(0, *i).is_some_and(|p| p.told_apart);
        let (worse, leaders): (Vec<usize>, Vec<usize>) =
            (0..ranked.len()).partition(|i| *i > 0 && behind(i));
        let mut text = Vec::new();
        if leaders.len() == 1 {
            text.push(format!(
                "{} is best with {} {metric}: every other method is behind it by more than chance explains.",
                best.label,
                value(best)
            ));
        } else {
            let names: Vec<&str> = leaders.iter().map(|&i| ranked[i].label.as_str()).collect();
            let lowest = leaders
                .iter()
                .map(|&i| mean(&ranked[i]))
                .fold(f64::INFINITY, f64::min);
            let every = if worse.is_empty() {
                "No method can be told apart from the best: "
            } else {
                ""
            };
            text.push(format!(
                "{every}{} can't be told apart ({} to {} {metric}).",
                format::list(&names),
                format::metric(metric, lowest),
                value(best)
            ));
        }
        if let Some(pair) = worse.first().and_then(|&i| self.pair(0, i)) {
            let row = &ranked[pair.second];
            let [low, high] = pair.bootstrap.interval;
            text.push(format!(
                "{} is {} behind {} (95 % interval {} to {}, {}).",
                row.label,
                format::metric_difference(metric, pair.bootstrap.difference),
                best.label,
                format::metric_difference(metric, low).trim_end_matches(" points"),
                format::metric_difference(metric, high),
                format::p_value(pair.p_holm),
            ));
        }
        let fewest = leaders
            .iter()
            .map(|&i| &ranked[i])
            .min_by_key(|r| r.parameters.map(|p| p.method));
        if let Some((row, p)) = fewest.and_then(|r| Some((r, r.parameters?)))
            && leaders.len() > 1
        {
            text.push(format!(
                "Among these, {} trains the fewest parameters: {}, {} of the backbone.",
                row.label,
                format::count(p.method),
                format::share(row.share_of_backbone().unwrap_or(0.0))
            ));
        }
        if let Some(d) = self.smallest_detectable {
            text.push(format!(
                "With {} and {}, differences between neighbours below about {} stay undetected.",
                format::plural(self.seeds.len(), "seed"),
                format::plural(self.dataset.validation_examples, "validation example"),
                format::metric_difference(metric, d)
            ));
        }
        text
    }
}

impl Row {
    /// Of the runs of one trial, by seed.
    fn of(records: &[&RunRecord]) -> Self {
        let method = &records[0].asked.method;
        let main = &records[0].asked.dataset.main_metric;
        let runs: Vec<Run> = records.iter().map(|r| Run::of(r)).collect();
        let outcomes: Vec<_> = records.iter().filter_map(|r| r.outcome.as_ref()).collect();
        let costs: Vec<_> = records.iter().filter_map(|r| r.cost.as_ref()).collect();

        let reasons: Vec<String> = runs
            .iter()
            .flat_map(|r| {
                r.failed_checks
                    .iter()
                    .map(|c| format!("seed {}: {c}", r.seed))
            })
            .collect();
        let standing = if !reasons.is_empty() {
            Standing::Invalid { reasons }
        } else if outcomes.is_empty() {
            Standing::Unfinished
        } else {
            Standing::Ranked
        };

        let last: Vec<_> = outcomes
            .iter()
            .filter_map(|o| o.evaluations.last())
            .collect();
        let names: BTreeSet<&String> = last.iter().flat_map(|e| e.metrics.keys()).collect();
        let metrics: BTreeMap<String, Summary> = names
            .into_iter()
            .filter_map(|name| {
                let values = last.iter().filter_map(|e| e.metrics.get(name).copied());
                Some((name.clone(), Summary::of(values)?))
            })
            .collect();
        let calibrations: Vec<Calibration> = outcomes
            .iter()
            .filter_map(|o| Calibration::of(&o.predictions.labels, &o.predictions.logits))
            .collect();
        let mean = |f: fn(&Calibration) -> f64| {
            statistics::mean(&calibrations.iter().map(f).collect::<Vec<_>>())
        };
        let calibration = match (mean(|c| c.ece), mean(|c| c.brier), mean(|c| c.nll)) {
            (Some(ece), Some(brier), Some(nll)) => Some(Calibration { ece, brier, nll }),
            _ => None,
        };

        let latencies = || {
            costs
                .iter()
                .flat_map(|c| &c.latency)
                .filter(|l| l.batch == 1 && l.length.is_none())
        };
        let variants: BTreeSet<&String> = latencies().map(|l| &l.variant).collect();
        let of_one_sentence = variants
            .into_iter()
            .filter_map(|variant| {
                let of = || latencies().filter(|l| l.variant == *variant);
                let p50_ms = Summary::of(of().map(|l| l.p50_ms))?;
                let p99_ms = Summary::of(of().map(|l| l.p99_ms))?;
                Some((variant.clone(), RowLatency { p50_ms, p99_ms }))
            })
            .collect();
        let per_second = |n: usize, seconds: f64| (seconds > 0.0).then(|| n as f64 / seconds);

        Self {
            label: match &method.tuned {
                None => method_label(&method.name, &method.variant),
                // What was found is in the configuration; all of it would be a long name.
                Some(_) => format!("{} (tuned)", method.name),
            },
            tuned: method.tuned.clone(),
            method: method.name.clone(),
            variant: method.variant.clone(),
            config: method.config.clone(),
            standing,
            tie: String::new(),
            parameters: outcomes.first().map(|o| o.parameters),
            metric: metrics.get(main).cloned(),
            metrics,
            validation_loss: Summary::of(last.iter().map(|e| e.loss)),
            calibration,
            training_seconds: Summary::of(costs.iter().map(|c| c.training_seconds)),
            examples_per_second: Summary::of(
                costs
                    .iter()
                    .filter_map(|c| per_second(c.examples, c.training_seconds)),
            ),
            tokens_per_second: Summary::of(
                costs
                    .iter()
                    .filter_map(|c| per_second(c.tokens, c.training_seconds)),
            ),
            seconds_to_first_step: Summary::of(costs.iter().map(|c| c.seconds_to_first_step)),
            peak_memory_bytes: Summary::of(
                costs
                    .iter()
                    .filter_map(|c| c.peak_memory_bytes)
                    .map(|b| b as f64),
            ),
            file_bytes: Summary::of(costs.iter().map(|c| c.file_bytes as f64)),
            latency: of_one_sentence,
            latency_cells: latency::cells(&costs.iter().map(|c| &*c.latency).collect::<Vec<_>>()),
            resident_bytes: Summary::of(
                costs
                    .iter()
                    .filter_map(|c| c.resident_bytes)
                    .map(|b| b as f64),
            ),
            runs,
        }
    }

    /// Parameters that the method trains, divided by the backbone's.
    pub fn share_of_backbone(&self) -> Option<f64> {
        let p = self.parameters?;
        (p.backbone > 0).then(|| p.method as f64 / p.backbone as f64)
    }

    /// Median latency of this variant over the bare backbone's, minus 1.
    pub fn latency_overhead(&self, variant: &str) -> Option<f64> {
        let own = self.latency.get(variant)?.p50_ms.mean;
        latency::overhead(own, self.latency.get(latency::BACKBONE)?.p50_ms.mean)
    }

    /// Runs that ended well, and all runs.
    pub fn ended_well(&self) -> (usize, usize) {
        (
            self.runs.iter().filter(|r| r.status == Status::Ok).count(),
            self.runs.len(),
        )
    }

    /// What is wrong with its runs, in words; empty if nothing is.
    pub fn troubles(&self) -> Vec<String> {
        let mut troubles = match &self.standing {
            Standing::Invalid { reasons } => reasons
                .iter()
                .map(|r| format!("invalid, check failed: {r}"))
                .collect(),
            _ => Vec::new(),
        };
        let bad = self.runs.iter().filter(|r| r.status != Status::Ok);
        troubles.extend(bad.map(|r| format!("seed {} {}", r.seed, status_text(&r.status))));
        troubles
    }
}

impl Run {
    /// Of a record, with the report's own check of its metric.
    pub(crate) fn of(record: &RunRecord) -> Self {
        let main = &record.asked.dataset.main_metric;
        let outcome = record.outcome.as_ref();
        let metric = outcome.and_then(|o| o.evaluations.last()?.metrics.get(main).copied());
        let mut failed_checks: Vec<String> = outcome
            .iter()
            .flat_map(|o| &o.checks)
            .filter(|c| !c.passed)
            .map(|c| format!("{} ({})", c.name, c.detail))
            .collect();
        // The report's own check: the metric is what the stored predictions give.
        if let (Some(o), Some(stored), Some(kind)) = (outcome, metric, Metric::named(main)) {
            let predicted: Vec<u32> = o
                .predictions
                .logits
                .iter()
                .map(|l| statistics::predicted(l))
                .collect();
            let classes = record.asked.dataset.labels.len();
            let computed = statistics::metric(kind, &o.predictions.labels, &predicted, classes);
            if (computed - stored).abs() > METRIC_TOLERANCE {
                failed_checks.push(format!(
                    "{METRIC_CHECK} ({main} is stored as {stored}, the predictions give {computed})"
                ));
            }
        }
        Self {
            id: record.id.clone(),
            seed: record.asked.seed,
            status: record.status.clone(),
            metric,
            failed_checks,
        }
    }
}

/// What must be equal for a fair comparison.
pub(crate) fn conditions(record: &RunRecord) -> Value {
    let asked = &record.asked;
    let (d, b) = (&asked.dataset, &asked.backbone);
    // `truncated` is left out: it depends on the method (virtual tokens take room).
    serde_json::json!({
        "dataset": d.name,
        "stand_in_for": d.stand_in_for,
        "backbone": b.name,
        "train_examples": d.train_examples,
        "validation_examples": d.validation_examples,
        "metric": d.main_metric,
        "labels": d.labels,
        "pooling": b.pooling,
        "recipe": asked.recipe,
        "op_path": asked.op_path,
        "data": d.digest,
        "weights": b.digest,
    })
}

/// The leaves of a JSON value by path, so that the order of keys does not matter.
pub(crate) fn flat(value: &Value) -> BTreeMap<String, Value> {
    fn walk(path: &str, value: &Value, into: &mut BTreeMap<String, Value>) {
        let Value::Object(map) = value else {
            into.insert(path.to_owned(), value.clone());
            return;
        };
        for (key, value) in map {
            let path = if path.is_empty() {
                key.clone()
            } else {
                format!("{path}.{key}")
            };
            walk(&path, value, into);
        }
    }
    let mut leaves = BTreeMap::new();
    walk("", value, &mut leaves);
    leaves
}

/// For each group of records what sets it apart from the groups with the same data set and backbone.
fn distinctions(groups: &[Vec<&RunRecord>]) -> Vec<Vec<String>> {
    let all: Vec<_> = groups.iter().map(|g| flat(&conditions(g[0]))).collect();
    let place = |c: &BTreeMap<String, Value>| {
        ["dataset", "stand_in_for", "backbone"].map(|k| c.get(k).cloned())
    };
    let text = |v: Option<&Value>| match v {
        None | Some(Value::Null) => "none".to_owned(),
        Some(Value::String(s)) => s.clone(),
        Some(v) => v.to_string(),
    };
    all.iter()
        .map(|own| {
            let siblings: Vec<_> = all.iter().filter(|c| place(c) == place(own)).collect();
            let keys: BTreeSet<&String> = siblings.iter().flat_map(|c| c.keys()).collect();
            let mut vary: Vec<&String> = keys
                .into_iter()
                .filter(|k| siblings.iter().any(|c| c.get(*k) != own.get(*k)))
                .collect();
            // A budget decides the steps, another number of examples the digest: name the cause only.
            let has = |k: &str, vary: &[&String]| vary.iter().any(|v| *v == k);
            if has("recipe.budget", &vary) {
                vary.retain(|k| *k != "recipe.steps");
            }
            if has("train_examples", &vary) {
                vary.retain(|k| *k != "data" && *k != "recipe.steps");
            }
            vary.iter()
                .map(|k| {
                    let (name, value) = (k.trim_start_matches("recipe."), text(own.get(*k)));
                    match name {
                        "data" | "weights" => {
                            format!("{name} {}", value.get(..8).unwrap_or(&value))
                        }
                        "train_examples" => format!("train {value}"),
                        _ => format!("{} {value}", name.replace('_', " ")),
                    }
                })
                .collect()
        })
        .collect()
}

/// Letters, digits, `-`, `_` and `.` only.
pub(crate) fn slug(text: &str) -> String {
    let keep = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    let slug: String = text
        .chars()
        .map(|c| if keep(c) { c } else { '-' })
        .collect();
    slug.trim_matches(['-', '.']).to_owned()
}

/// Every pair of ranked rows, and the pairs of labels that can't be paired.
fn pairs(
    trials: &[(Row, Vec<&RunRecord>)],
    classes: usize,
    main_metric: &str,
) -> (Vec<Pair>, Vec<[String; 2]>) {
    struct Paired<'a> {
        labels: &'a [u32],
        predicted: Vec<u32>,
        metric: f64,
        resampled: Resampled,
    }
    let ranked: Vec<_> = trials
        .iter()
        .filter(|(row, _)| row.standing == Standing::Ranked)
        .collect();
    let examples = ranked
        .iter()
        .flat_map(|(_, records)| records.iter().filter_map(|r| r.outcome.as_ref()))
        .map(|o| o.predictions.labels.len())
        .max()
        .unwrap_or(0);
    let Some(kind) = Metric::named(main_metric) else {
        return Default::default();
    };
    if ranked.len() < 2 || examples == 0 {
        return Default::default();
    }
    let resamples = Resamples::new(examples);
    let runs: Vec<BTreeMap<u64, Paired>> = ranked
        .iter()
        .map(|(_, records)| {
            let outcomes = records
                .iter()
                .filter_map(|r| Some((r.asked.seed, &r.outcome.as_ref()?.predictions)));
            outcomes
                .map(|(seed, p)| {
                    let predicted: Vec<u32> =
                        p.logits.iter().map(|l| statistics::predicted(l)).collect();
                    let paired = Paired {
                        labels: &p.labels,
                        metric: statistics::metric(kind, &p.labels, &predicted, classes),
                        resampled: resamples.apply(kind, &p.labels, &predicted, classes),
                        predicted,
                    };
                    (seed, paired)
                })
                .collect()
        })
        .collect();

    let (mut pairs, mut unpaired) = (Vec::new(), Vec::new());
    for first in 0..ranked.len() {
        for second in first + 1..ranked.len() {
            let common: Vec<(u64, &Paired, &Paired)> = runs[first]
                .iter()
                .filter_map(|(seed, a)| Some((*seed, a, runs[second].get(seed)?)))
                .filter(|(_, a, b)| a.labels == b.labels)
                .collect();
            let with_draws: Vec<_> = common
                .iter()
                .map(|(_, a, b)| ([a.metric, b.metric], [&a.resampled, &b.resampled]))
                .collect();
            let Some(bootstrap) = resamples.difference(&with_draws) else {
                unpaired.push([
                    ranked[first].0.label.clone(),
                    ranked[second].0.label.clone(),
                ]);
                continue;
            };
            let mcnemar = common
                .iter()
                .map(|&(seed, a, b)| {
                    let (mut only_first, mut only_second) = (0, 0);
                    for ((label, a), b) in a.labels.iter().zip(&a.predicted).zip(&b.predicted) {
                        only_first += u64::from(a == label && b != label);
                        only_second += u64::from(a != label && b == label);
                    }
                    McNemar {
                        seed,
                        only_first,
                        only_second,
                        p: statistics::mcnemar_exact(only_first, only_second),
                    }
                })
                .collect();
            pairs.push(Pair {
                first,
                second,
                mcnemar,
                bootstrap,
                p_holm: 1.0,
                told_apart: false,
            });
        }
    }
    let p: Vec<f64> = pairs.iter().map(|pair| pair.bootstrap.p).collect();
    for (pair, adjusted) in pairs.iter_mut().zip(statistics::holm(&p)) {
        pair.p_holm = adjusted;
        pair.told_apart = adjusted < ALPHA;
    }
    (pairs, unpaired)
}

/// What a reader has to know before believing the numbers.
fn notes(comparison: &Comparison, unpaired: Vec<[String; 2]>) -> Vec<String> {
    let records = &comparison.records;
    let mut notes = Vec::new();
    if let Some(asked) = &comparison.dataset.stand_in_for {
        notes.push(format!(
            "{asked} could not be had. All numbers are from {}, which stands in for it; they are not results on {asked}.",
            comparison.dataset.name
        ));
    }
    let ranked = comparison.ranked();
    let well: BTreeSet<usize> = ranked.iter().map(|r| r.ended_well().0).collect();
    if comparison.seeds.len() == 1 && !ranked.is_empty() {
        notes.push("One seed only: there is no spread over seeds, and another seed may give another order.".to_owned());
    } else if well.len() > 1 {
        notes.push(format!(
            "The methods have unequal numbers of finished seeds ({}); pairs are compared on the seeds that both have.",
            ranked.iter().map(|r| format!("{} {}", r.label, r.ended_well().0)).collect::<Vec<_>>().join(", ")
        ));
    }
    for [a, b] in unpaired {
        notes.push(format!(
            "{a} and {b} have no seed in common and are not compared with each other."
        ));
    }

    let mut orders: BTreeMap<u64, BTreeSet<[&str; 2]>> = BTreeMap::new();
    for record in records {
        if let Some(o) = &record.outcome {
            orders
                .entry(record.asked.seed)
                .or_default()
                .insert([&o.order_digest, &o.head_digest]);
        }
    }
    let uneven: Vec<String> = orders
        .iter()
        .filter(|(_, d)| d.len() > 1)
        .map(|(seed, _)| seed.to_string())
        .collect();
    if !uneven.is_empty() {
        notes.push(format!(
            "The order of examples or the initial head differs between methods at seed {}: the conditions were not the same.",
            format::list(&uneven)
        ));
    }

    let distinct = |f: fn(&RunRecord) -> String| -> Vec<String> {
        records
            .iter()
            .map(f)
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect()
    };
    let machines = distinct(|r| {
        let c = &r.circumstances;
        format!(
            "{}, {}, {}",
            c.processor,
            format::plural(c.threads, "thread"),
            c.system
        )
    });
    if machines.len() > 1 {
        notes.push(format!(
            "Runs were made on different machines or with different numbers of threads: times, memory and latencies can't be compared ({}).",
            machines.join("; ")
        ));
    }
    let versions = distinct(|r| {
        let c = &r.circumstances;
        let revision = c
            .revision
            .as_ref()
            .map(|r| format!(" ({r})"))
            .unwrap_or_default();
        format!("{}{revision}", c.version)
    });
    if versions.len() > 1 {
        notes.push(format!(
            "Runs were made by different versions of peftbench: {}.",
            versions.join(", ")
        ));
    }
    let dirty = |r: &RunRecord| {
        r.circumstances
            .revision
            .as_ref()
            .is_some_and(|r| r.ends_with("-dirty"))
    };
    if records.iter().any(dirty) {
        notes.push("Some runs were made by a program with uncommitted changes.".to_owned());
    }
    let truncated = records
        .iter()
        .map(|r| r.asked.dataset.truncated)
        .max()
        .unwrap_or(0);
    if truncated > 0 {
        notes.push(format!(
            "Up to {} training examples were longer than the position table and were cut.",
            format::count(truncated)
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sample::Sample;
    use serde_json::json;

    /// `n` examples with alternating labels.
    fn labels(n: u32) -> Vec<u32> {
        (0..n).map(|i| i % 2).collect()
    }

    #[test]
    fn runs_of_one_configuration_become_a_row_over_seeds() {
        let run = |seed, seconds, right: usize| {
            Sample::new("lora")
                .seed(seed)
                .training_seconds(seconds)
                .predictions(&labels(100), move |i| i < right)
                .record()
        };
        let found =
            Comparison::from_records(&[run(1, 50.0, 84), run(0, 70.0, 80), run(2, 60.0, 85)]);
        assert_eq!(found.len(), 1);
        let row = &found[0].rows[0];
        assert_eq!(row.label, "lora");
        assert_eq!(
            row.runs.iter().map(|r| r.seed).collect::<Vec<_>>(),
            [0, 1, 2]
        );
        let metric = row.metric.as_ref().unwrap();
        assert_eq!(metric.values, [0.80, 0.84, 0.85]);
        assert!((metric.mean - 0.83).abs() < 1e-12);
        assert!((metric.sd.unwrap() - 0.026_457_513_110_645_9).abs() < 1e-12);
        assert_eq!(row.training_seconds.as_ref().unwrap().mean, 60.0);
        // 16,000 examples in 70, 50 and 60 s.
        let per_second = row.examples_per_second.as_ref().unwrap();
        assert_eq!(per_second.values, [16_000.0 / 70.0, 320.0, 16_000.0 / 60.0]);
        assert_eq!(row.share_of_backbone(), Some(73_728.0 / 22_713_216.0));
        assert_eq!(found[0].seeds, [0, 1, 2]);
    }

    #[test]
    fn the_order_of_records_changes_nothing() {
        let mut records: Vec<_> = (0..3)
            .flat_map(|s| {
                [("lora", 84), ("full", 86), ("head_only", 70)].map(|(m, right)| {
                    Sample::new(m)
                        .seed(s)
                        .predictions(&labels(100), move |i| i < right)
                        .record()
                })
            })
            .collect();
        let once = serde_json::to_string(&Comparison::from_records(&records)).unwrap();
        records.reverse();
        records.push(records[0].clone());
        assert_eq!(
            serde_json::to_string(&Comparison::from_records(&records)).unwrap(),
            once
        );
    }

    #[test]
    fn rows_stand_best_first_and_equal_ones_by_parameters() {
        let run = |m: &str, right: usize, parameters| {
            Sample::new(m)
                .parameters(parameters)
                .predictions(&labels(100), move |i| i < right)
                .record()
        };
        let found = Comparison::from_records(&[
            run("lora", 84, 9),
            run("full", 90, 99),
            run("adapter", 84, 5),
        ]);
        let order: Vec<_> = found[0].rows.iter().map(|r| r.label.as_str()).collect();
        assert_eq!(order, ["full", "adapter", "lora"]);
    }

    #[test]
    fn different_conditions_are_never_mixed_and_are_said() {
        let base = Sample::new("lora");
        let records = [
            base.clone().record(),
            base.clone()
                .with(|r| r.asked.recipe["steps"] = json!(150))
                .record(),
            base.clone()
                .with(|r| r.asked.dataset.digest = "e".repeat(64))
                .record(),
            base.clone()
                .with(|r| r.asked.backbone.pooling = "cls".into())
                .record(),
            base.clone()
                .with(|r| r.asked.op_path = "reference".into())
                .record(),
            base.clone()
                .with(|r| r.asked.backbone.name = "bert".into())
                .record(),
        ];
        let found = Comparison::from_records(&records);
        assert_eq!(found.len(), 6);
        let names: BTreeSet<&str> = found.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names.len(), 6, "{names:?}");
        assert!(names.contains("sst2 · bert"), "{names:?}");
        assert!(names.iter().any(|n| n.contains("steps 150")), "{names:?}");
        assert_eq!(
            found.iter().map(|c| &c.slug).collect::<BTreeSet<_>>().len(),
            6
        );

        // Truncation depends on the method and is no condition; the order of keys is none either.
        let same = base.with(|r| {
            r.asked.dataset.truncated = 7;
            r.asked.recipe = json!({"schedule": {"warmup": 0.1}, "steps": 500, "batch": 32});
        });
        assert_eq!(
            Comparison::from_records(&[records[0].clone(), same.seed(1).record()]).len(),
            1
        );
    }

    #[test]
    fn a_stand_in_is_said_in_the_name_and_the_file_name() {
        let found =
            &Comparison::from_records(&[Sample::new("lora").stand_in_for("sst2").record()])[0];
        assert_eq!(found.name, "sst2 → movie_snippets (stand-in) · minilm");
        assert_eq!(found.slug, "sst2-stand-in-movie_snippets-minilm");
        assert!(
            found.notes[0].starts_with("sst2 could not be had."),
            "{:?}",
            found.notes
        );
    }

    #[test]
    fn a_failed_check_makes_the_row_invalid_and_unranked() {
        let good = Sample::new("lora").record();
        let best_but_wrong = Sample::new("full")
            .predictions(&labels(10), |_| true)
            .check("merged_equals_unmerged", false, "largest difference 0.3")
            .record();
        let found = &Comparison::from_records(&[best_but_wrong, good])[0];
        assert_eq!(found.rows[0].label, "lora");
        assert_eq!(found.ranked().len(), 1);
        assert_eq!(
            found.rows[1].troubles(),
            ["invalid, check failed: seed 0: merged_equals_unmerged (largest difference 0.3)"]
        );
        assert!(found.pairs.is_empty() && found.rows[1].tie.is_empty());
    }

    #[test]
    fn a_metric_that_its_predictions_do_not_give_is_invalid() {
        let record = Sample::new("lora")
            .with(|r| {
                let last = r.outcome.as_mut().unwrap().evaluations.last_mut().unwrap();
                last.metrics.insert("accuracy".into(), 0.99);
            })
            .record();
        let found = &Comparison::from_records(&[record])[0];
        assert!(found.ranked().is_empty());
        assert!(found.rows[0].troubles()[0].contains("stored as 0.99, the predictions give 0.9"));
        assert_eq!(found.answer(), ["No method has a valid result."]);
    }

    #[test]
    fn runs_that_did_not_end_well_are_rows_with_their_reason() {
        let found = &Comparison::from_records(&[
            Sample::new("lora").seed(0).record(),
            Sample::new("lora")
                .seed(1)
                .ended(Status::Diverged {
                    step: 12,
                    reason: "loss is NaN".into(),
                })
                .record(),
            Sample::new("full")
                .ended(Status::Failed {
                    error: "out of memory".into(),
                })
                .record(),
        ])[0];
        assert_eq!(found.rows[0].ended_well(), (1, 2));
        assert_eq!(
            found.rows[0].troubles(),
            ["seed 1 diverged at step 12: loss is NaN"]
        );
        assert_eq!(found.rows[1].standing, Standing::Unfinished);
        assert_eq!(found.rows[1].troubles(), ["seed 0 failed: out of memory"]);
    }

    #[test]
    fn pairs_count_the_examples_that_one_of_two_got_right() {
        // Of 200: both right on 100..200; only the first on 0..30, only the second on 30..40.
        let first = Sample::new("full")
            .predictions(&labels(200), |i| !(30..40).contains(&i))
            .record();
        let second = Sample::new("lora")
            .predictions(&labels(200), |i| i >= 30)
            .record();
        let found = &Comparison::from_records(&[second, first])[0];
        let pair = found.pair(1, 0).unwrap();
        // scipy.stats.binomtest(10, 40, 0.5).pvalue
        let m = pair.mcnemar[0];
        assert_eq!((m.only_first, m.only_second), (30, 10));
        assert!((m.p - 0.002_221_433_773_229_364).abs() < 1e-12, "{}", m.p);
        assert!((pair.bootstrap.difference - 0.1).abs() < 1e-12);
        // One seed: the standard error has a closed form, √(b + c - (b - c)² / n) / n.
        let exact = (40.0f64 - 400.0 / 200.0).sqrt() / 200.0;
        assert!((pair.bootstrap.standard_error / exact - 1.0).abs() < 0.03);
        assert!(pair.told_apart);
        assert_eq!([&found.rows[0].tie, &found.rows[1].tie], ["a", "b"]);
    }

    #[test]
    fn methods_that_differ_by_chance_share_a_letter_and_the_answer_says_so() {
        let run = |m: &str, parameters, wrong: std::ops::Range<usize>| {
            Sample::new(m)
                .parameters(parameters)
                .predictions(&labels(300), move |i| !wrong.contains(&i))
                .record()
        };
        let found = &Comparison::from_records(&[
            run("full", 22_713_216, 0..30),
            run("lora", 73_728, 10..42),
            run("head_only", 0, 100..200),
        ])[0];
        let ties: Vec<_> = found
            .rows
            .iter()
            .map(|r| (r.label.as_str(), r.tie.as_str()))
            .collect();
        assert_eq!(ties, [("full", "a"), ("lora", "a"), ("head_only", "b")]);
        let answer = found.answer();
        assert_eq!(
            answer[0],
            "full and lora can't be told apart (89.3 % to 90.0 % accuracy)."
        );
        assert!(
            answer[1].starts_with("head_only is 23.3 points behind full (95 % interval "),
            "{answer:?}"
        );
        assert!(
            answer[2]
                .contains("lora trains the fewest parameters: 73,728, 0.32 % of the backbone."),
            "{answer:?}"
        );
        assert!(found.notes.iter().any(|n| n.starts_with("One seed only")));
    }

    #[test]
    fn methods_without_a_common_seed_are_not_compared() {
        let found = &Comparison::from_records(&[
            Sample::new("lora").seed(0).record(),
            Sample::new("full").seed(1).record(),
        ])[0];
        assert!(found.pairs.is_empty());
        assert!(
            found.notes.iter().any(|n| n.contains("no seed in common")),
            "{:?}",
            found.notes
        );
    }

    #[test]
    fn different_machines_and_unequal_conditions_are_noted() {
        let found = &Comparison::from_records(&[
            Sample::new("lora").record(),
            Sample::new("full")
                .with(|r| {
                    r.circumstances.threads = 8;
                    r.outcome.as_mut().unwrap().order_digest = "other".into();
                })
                .record(),
        ])[0];
        assert!(
            found.notes.iter().any(|n| n.contains("different machines")),
            "{:?}",
            found.notes
        );
        assert!(
            found
                .notes
                .iter()
                .any(|n| n.contains("conditions were not the same")),
            "{:?}",
            found.notes
        );
    }
}
