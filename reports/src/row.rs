//! One method configuration over its seeds: a row of the table.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use record::{Cost, Kind, Parameters, RunRecord, Status, Tuned, answers, head::CostHead};
use serde::Serialize;
use serde_json::Value;
use statistics::{Calibration, Ratio, Scores, Summary};

use crate::{
    costs::{CostsOn, MARK},
    format,
    latency::{self, LatencyCell, SENTENCE},
    objective, words,
};

/// Relative distance of a stored metric from the one that its predictions give that rounding explains.
const METRIC_TOLERANCE: f64 = 1e-9;
/// Name of the check that the report makes itself.
pub const METRIC_CHECK: &str = "metric_follows_from_predictions";
/// Family of the methods that learn nothing from the texts.
const FLOOR: &str = "floor";

/// One method configuration over its seeds.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Method and variant, unique in the comparison: `lora`, `lora rank=4`.
    pub label: String,
    /// Name of the method.
    pub method: String,
    /// What the registry says of the method, for its colour and mark; absent in older records.
    pub kind: Option<Kind>,
    /// What distinguishes it from the method's defaults.
    pub variant: String,
    /// The resolved configuration.
    pub config: Value,
    /// The search that found the configuration; absent for one that was given.
    pub tuned: Option<Tuned>,
    /// Whether it takes part in the ranking.
    pub standing: Standing,
    /// Letters: two rows without a common one differ. Empty unless ranked and compared on three seeds or more.
    pub letters: String,
    /// Its runs, by seed.
    pub runs: Vec<Run>,
    /// Parameter counts; absent unless a run ended well.
    pub parameters: Option<Parameters>,
    /// Main metric over seeds; the interval is over seeds and examples. A diverged seed counts as always answering the
    /// commonest class.
    pub metric: Option<Summary>,
    /// Standard error of the main metric's mean, over seeds and examples.
    pub standard_error: Option<f64>,
    /// All metrics over the seeds that ended well, by name.
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
    /// Seconds of a whole run: to the first step, training, evaluating.
    pub run_seconds: Option<Summary>,
    /// Peak resident memory, bytes.
    pub peak_memory_bytes: Option<Summary>,
    /// Saved weights, head included, bytes.
    pub file_bytes: Option<Summary>,
    /// Latency in every setting that was measured: batch sizes, lengths, and mixed with other tasks.
    pub latency: Vec<LatencyCell>,
    /// Whether times and latencies were measured while other work kept cores of the machine busy.
    pub busy: bool,
    /// Memory that what is loaded to predict takes beside the backbone, head included, bytes.
    pub resident_bytes: Option<Summary>,
    /// Whether every run gives the same answer whatever the text is.
    pub one_class: bool,
    /// Seeds and the scores of each example, for comparing rows; absent for a metric that cannot be taken apart.
    #[serde(skip)]
    pub scores: Option<Scores>,
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

impl Standing {
    /// In a word.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ranked => "ranked",
            Self::Invalid { .. } => "invalid",
            Self::Unfinished => "unfinished",
        }
    }
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

/// How a run ended, in words.
pub fn status_text(status: &Status) -> String {
    match status {
        Status::Ok => "ok".to_owned(),
        Status::Diverged { step, reason } => format!("diverged at step {step}: {reason}"),
        Status::Failed { error } => format!("failed: {error}"),
        Status::Interrupted => "interrupted".to_owned(),
    }
}

/// `method` or `method variant`.
pub fn method_label(method: &str, variant: &str) -> String {
    format!("{method} {variant}").trim_end().to_owned()
}

/// Predicted labels of a run; `None` unless every example has one class of several.
pub fn predictions(record: &RunRecord) -> Option<Vec<u32>> {
    objective::classes(&record.asked.dataset, &record.outcome.as_ref()?.predictions)
}

/// Scores of these runs by seed: of those that ended well, and of those that diverged as if they had learnt nothing. `None`
/// where the metric cannot be taken apart by example, or no run ended well.
pub fn scores(records: &[&RunRecord]) -> Option<Scores> {
    scores_of(records, None, &|record| {
        let predictions = &record.outcome.as_ref()?.predictions;
        objective::scores(&record.asked.dataset, predictions)
    })
}

/// The same of the mean over the evaluations on the way, on the examples that were judged at all of them, in these runs and in those
/// `beside` them; `None` too where a run does not keep the predictions of all of them.
pub fn curve_scores(records: &[&RunRecord], beside: &[&RunRecord]) -> Option<Scores> {
    let evaluations = |r: &RunRecord| r.outcome.as_ref().map_or(0, |o| o.evaluations.len());
    let all = records.iter().map(|r| evaluations(r)).max()?;
    let judged = judged(&[records, beside].concat(), |r| 0..evaluations(r))?;
    let each = (0..all).map(|k| Some((scores_on(records, k, &judged)?, 1.0 / all as f64)));
    Scores::weighted(&each.collect::<Option<Vec<_>>>()?)
}

/// Scores at one of the evaluations on the way, counted from 0, on the examples that all runs judged there; `None` too where a run
/// does not keep its predictions there.
pub fn scores_at(records: &[&RunRecord], evaluation: usize) -> Option<Scores> {
    let judged = judged(records, |_| evaluation..evaluation + 1)?;
    scores_on(records, evaluation, &judged)
}

/// What was predicted at an evaluation, none for examples that were not judged.
fn predicted_at(record: &RunRecord, evaluation: usize) -> Option<Vec<Option<u32>>> {
    let evaluations = &record.outcome.as_ref()?.evaluations;
    let text = &evaluations.get(evaluation)?.predicted;
    answers::read(text, record.asked.dataset.labels.len()).filter(|p| !p.is_empty())
}

/// Indices of the examples that all runs judged at all of these evaluations; `None` where a run does not keep its predictions there.
fn judged(
    records: &[&RunRecord],
    evaluations: impl Fn(&RunRecord) -> Range<usize>,
) -> Option<Vec<usize>> {
    let mut everywhere: Option<Vec<bool>> = None;
    for record in records.iter().filter(|r| r.outcome.is_some()) {
        for evaluation in evaluations(record) {
            let predicted = predicted_at(record, evaluation)?;
            let so_far = everywhere.get_or_insert_with(|| vec![true; predicted.len()]);
            if so_far.len() != predicted.len() {
                return None;
            }
            for (judged, label) in so_far.iter_mut().zip(predicted) {
                *judged &= label.is_some();
            }
        }
    }
    let everywhere = everywhere?.into_iter().enumerate();
    Some(everywhere.filter_map(|(i, all)| all.then_some(i)).collect())
}

/// Scores at an evaluation on the examples with these indices.
fn scores_on(records: &[&RunRecord], evaluation: usize, judged: &[usize]) -> Option<Scores> {
    let kept = |r: &RunRecord| {
        let labels = &r.outcome.as_ref()?.predictions.labels;
        let predicted = predicted_at(r, evaluation).filter(|p| p.len() == labels.len())?;
        let labels: Vec<u32> = judged.iter().map(|i| labels[*i]).collect();
        let predicted: Option<Vec<u32>> = judged.iter().map(|i| predicted[*i]).collect();
        objective::class_scores(&r.asked.dataset, &labels, &predicted?)
    };
    let found = scores_of(records, Some(judged), &kept)?;
    let well = records.iter().filter(|r| r.outcome.is_some()).count();
    (found.seeds().count() >= well).then_some(found)
}

fn scores_of(
    records: &[&RunRecord],
    judged: Option<&[usize]>,
    scores: &dyn Fn(&RunRecord) -> Option<Vec<f64>>,
) -> Option<Scores> {
    let first = records.iter().find(|r| r.outcome.is_some())?;
    let dataset = &first.asked.dataset;
    let like = &first.outcome.as_ref()?.predictions;
    let rows = records.iter().filter_map(|record| {
        let scores = match (&record.outcome, &record.status) {
            (Some(outcome), _) => {
                scores(record).filter(|_| objective::same_truth(&outcome.predictions, like))?
            }
            (None, Status::Diverged { .. }) => {
                let nothing = objective::scores_of_nothing(dataset, like)?;
                let at = |i: &usize| nothing.get(*i).copied();
                match judged {
                    Some(judged) => judged.iter().filter_map(at).collect(),
                    None => nothing,
                }
            }
            _ => return None,
        };
        Some((record.asked.seed, scores))
    });
    // Of a seed that comes twice the first counts.
    let rows: BTreeMap<u64, Vec<f64>> = rows.collect::<Vec<_>>().into_iter().rev().collect();
    Scores::new(rows).ok()
}

/// Something of the costs of these runs.
fn over(records: &[&RunRecord], of: impl Fn(&Cost) -> Option<f64>) -> Option<Summary> {
    Summary::of(records.iter().filter_map(|r| of(r.cost.as_ref()?)))
}

/// The values that a metric can take.
pub fn range(metric: &str) -> statistics::Range {
    match format::in_percent(metric) {
        true => statistics::Range::Share,
        false => statistics::Range::Correlation,
    }
}

/// Main metric over seeds with the interval over seeds and examples, and its standard error.
pub fn estimate(scores: &Scores, metric: &str) -> (Summary, f64) {
    let row = statistics::Row::of(scores, range(metric));
    let means = scores.rows().map(statistics::mean);
    let values: Vec<f64> = means.map(|mean| mean.unwrap_or(f64::NAN)).collect();
    let summary = Summary {
        sd: statistics::standard_deviation(&values),
        values,
        mean: row.mean,
        interval: Some(row.interval),
    };
    (summary, row.standard_error)
}

impl Row {
    /// Of the runs of one trial, by seed.
    pub fn of(records: &[&RunRecord], costs_on: &CostsOn) -> Self {
        let method = &records[0].asked.method;
        let main = &records[0].asked.dataset.main_metric;
        let runs: Vec<Run> = records.iter().map(|r| Run::of(r)).collect();
        let outcomes: Vec<_> = records.iter().filter_map(|r| r.outcome.as_ref()).collect();
        let counts = |r: &&RunRecord| costs_on.counts(r);
        let timed: Vec<&RunRecord> = records.iter().copied().filter(counts).collect();

        let failed = |r: &Run| -> Vec<String> {
            let checks = r.failed_checks.iter();
            checks.map(|c| format!("seed {}: {c}", r.seed)).collect()
        };
        let reasons: Vec<String> = runs.iter().flat_map(failed).collect();
        let standing = if !reasons.is_empty() {
            Standing::Invalid { reasons }
        } else if outcomes.is_empty() {
            Standing::Unfinished
        } else {
            Standing::Ranked
        };

        let last = outcomes.iter().filter_map(|o| o.evaluations.last());
        let last: Vec<_> = last.collect();
        let names: BTreeSet<&String> = last.iter().flat_map(|e| e.metrics.keys()).collect();
        let metrics = names.into_iter().filter_map(|name| {
            let values = last.iter().filter_map(|e| e.metrics.get(name).copied());
            Some((name.clone(), Summary::of(values)?))
        });
        let metrics: BTreeMap<String, Summary> = metrics.collect();
        let calibrations = outcomes
            .iter()
            .filter_map(|o| Calibration::of(&o.predictions.labels, o.predictions.logits.iter()));
        let calibrations: Vec<Calibration> = calibrations.collect();
        let mean = |f: fn(&Calibration) -> f64| {
            statistics::mean(&calibrations.iter().map(f).collect::<Vec<_>>())
        };
        let means = || {
            Some(Calibration {
                ece: mean(|c| c.ece)?,
                ece_floor: mean(|c| c.ece_floor)?,
                brier: mean(|c| c.brier)?,
                nll: mean(|c| c.nll)?,
            })
        };
        let calibration = means();
        let scores = scores(records);
        let estimated = scores.as_ref().map(|s| estimate(s, main));
        let per_second = |n: usize, seconds: f64| (seconds > 0.0).then(|| n as f64 / seconds);
        let one = |r: &&RunRecord| {
            let outcome = r.outcome.as_ref();
            outcome.is_none_or(|o| objective::is_constant(&r.asked.dataset, &o.predictions))
        };

        Self {
            label: format::visible(&match &method.tuned {
                None => method_label(&method.name, &method.variant),
                // What was found is in the configuration; all of it would be a long name.
                Some(_) => format!("{} (tuned)", method.name),
            }),
            tuned: method.tuned.clone(),
            method: format::visible(&method.name),
            kind: records.iter().find_map(|r| r.kind.clone()),
            variant: format::visible(&method.variant),
            config: method.config.clone(),
            standing,
            letters: String::new(),
            parameters: outcomes.first().map(|o| o.parameters),
            standard_error: estimated.as_ref().map(|(_, error)| *error),
            metric: estimated
                .map(|(summary, _)| summary)
                .or_else(|| metrics.get(main).cloned()),
            metrics,
            validation_loss: Summary::of(last.iter().map(|e| e.loss)),
            calibration,
            training_seconds: over(&timed, |c| Some(c.training_seconds)),
            examples_per_second: over(&timed, |c| per_second(c.examples, c.training_seconds)),
            tokens_per_second: over(&timed, |c| per_second(c.tokens, c.training_seconds)),
            seconds_to_first_step: over(&timed, |c| Some(c.seconds_to_first_step)),
            run_seconds: over(&timed, |c| Some(CostHead::from(c).seconds())),
            peak_memory_bytes: over(&timed, |c| c.peak_memory_bytes.map(|b| b as f64)),
            file_bytes: over(records, |c| Some(c.file_bytes as f64)),
            latency: latency::cells(&latency::of_records(&timed)),
            busy: costs_on.busy(records),
            resident_bytes: over(records, |c| c.resident_bytes.map(|b| b as f64)),
            one_class: !outcomes.is_empty() && records.iter().all(one),
            scores,
            runs,
        }
    }

    /// Whether it is shown to know where the bottom is, and never recommended: the registry calls it a floor, or it answers one class
    /// whatever the text is.
    pub fn is_floor(&self) -> bool {
        self.one_class || self.is_floor_by_name()
    }

    /// Whether the registry calls it a floor.
    pub fn is_floor_by_name(&self) -> bool {
        self.kind.as_ref().is_some_and(|k| k.family == FLOOR)
    }

    /// A time or latency with its mark, where it was measured on a busy machine.
    pub fn marked(&self, text: String) -> String {
        match self.busy {
            true => text + MARK,
            false => text,
        }
    }

    /// Mean of the main metric.
    pub fn mean(&self) -> Option<f64> {
        self.metric.as_ref().map(|m| m.mean)
    }

    /// Parameters that the method trains, divided by the backbone's.
    pub fn share_of_backbone(&self) -> Option<f64> {
        let p = self.parameters?;
        (p.backbone > 0).then(|| p.method as f64 / p.backbone as f64)
    }

    /// Latency of one real sentence.
    pub fn sentence(&self, variant: &str) -> Option<&LatencyCell> {
        let wanted = |c: &&LatencyCell| c.variant == variant && c.setting() == SENTENCE;
        self.latency.iter().find(wanted)
    }

    /// Latency of one real sentence over the bare backbone's of the same process.
    pub fn over_backbone(&self, variant: &str) -> Option<Ratio> {
        self.sentence(variant)?.over_backbone
    }

    /// Runs that ended well, and all runs.
    pub fn ended_well(&self) -> (usize, usize) {
        let well = self.runs.iter().filter(|r| r.status == Status::Ok).count();
        (well, self.runs.len())
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
        for run in self.runs.iter().filter(|r| r.status != Status::Ok) {
            // One class of several is what has a calibration.
            let counts = match (&run.status, &self.scores) {
                (Status::Diverged { .. }, Some(_)) => {
                    words::diverged_counts(self.calibration.is_some())
                }
                _ => "",
            };
            troubles.push(format::visible(&format!(
                "seed {} {}{counts}",
                run.seed,
                status_text(&run.status)
            )));
        }
        if self.one_class {
            let said = match self.calibration {
                Some(_) => "answers one class whatever the text is",
                None => "gives the same answer whatever the text is",
            };
            troubles.push(said.to_owned());
        }
        troubles
    }
}

impl Run {
    /// Of a record, with the report's own check of its metric.
    pub fn of(record: &RunRecord) -> Self {
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
        let computed = || objective::value(&record.asked.dataset, &outcome?.predictions);
        if let (Some(stored), Some(computed)) = (metric, computed())
            && (computed - stored).abs() > METRIC_TOLERANCE
        {
            failed_checks.push(format!(
                "{METRIC_CHECK} ({main} is stored as {stored}, the predictions give {computed})"
            ));
        }
        Self {
            id: record.id.clone(),
            seed: record.asked.seed,
            status: record.status.clone(),
            metric,
            failed_checks,
        }
    }

    /// Why its numbers do not count, in words; `None` if they do.
    pub fn trouble(&self) -> Option<String> {
        match (&self.status, self.failed_checks.as_slice()) {
            (Status::Ok, []) => None,
            (Status::Ok, checks) => Some(format!("invalid, check failed: {}", checks.join(", "))),
            (status, _) => Some(status_text(status)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sample::Sample;

    /// A run whose two evaluations predicted this; ten examples, every other one of class 1.
    fn curve(seed: u64, predicted: [&str; 2]) -> RunRecord {
        let of_run = Sample::new("lora").seed(seed).with(|r| {
            let evaluations = &mut r.outcome.as_mut().unwrap().evaluations;
            for (evaluation, text) in evaluations.iter_mut().zip(predicted) {
                evaluation.predicted = text.to_owned();
            }
        });
        of_run.record()
    }

    #[test]
    fn a_curve_is_judged_on_the_examples_that_all_runs_judged_at_all_of_its_evaluations() {
        let all_right = "0101010101";
        // Examples 1, 2, 5 and 8, of which two are right; and example 9, which one run judged alone.
        let runs = [
            curve(0, [".11..0..0.", all_right]),
            curve(1, [".11..0..01", all_right]),
        ];
        let runs: Vec<&RunRecord> = runs.iter().collect();
        let at_first = scores_at(&runs, 0).unwrap();
        assert_eq!(
            at_first.rows().collect::<Vec<_>>(),
            [[1.0, 0.0, 0.0, 1.0]; 2]
        );
        assert_eq!(scores_at(&runs, 1).unwrap().mean(), 1.0);
        let mean = curve_scores(&runs, &[]).unwrap();
        assert_eq!(mean.rows().collect::<Vec<_>>(), [[1.0, 0.5, 0.5, 1.0]; 2]);
        // Beside a run that judged all of them, and one that judged fewer.
        let whole = curve(0, [all_right; 2]);
        assert_eq!(curve_scores(&[&whole], &runs).unwrap().mean(), 1.0);
        let few = curve(0, [".1...0....", all_right]);
        let rows = curve_scores(&runs, &[&few]).unwrap();
        assert_eq!(rows.rows().collect::<Vec<_>>(), [[1.0, 0.5]; 2]);
        // What a run does not keep cannot be judged.
        let none = curve(0, ["", all_right]);
        assert!(curve_scores(&[&none], &[]).is_none() && scores_at(&[&none], 0).is_none());
    }
}
