//! The search of one method: its trials, and which of them is the best.

use std::collections::BTreeMap;

use record::{Kind, RunRecord};
use serde::Serialize;
use serde_json::Value;
use statistics::{Expected, expected_best};

use super::manifest::MethodTrials;
use crate::{
    format,
    row::{Run, estimate, scores},
    studies::kind_of,
};

/// Share of a range of learning rates, by their logarithm, that counts as its edge.
const EDGE: f64 = 0.1;

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
        self.results.iter().find(|r| r.steps == steps)?.metric
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
        let trials = self.trials.iter().enumerate();
        let ranked = trials.filter_map(|(i, t)| Some((i, t.metric_at(steps)?)));
        let mut ranked: Vec<(usize, f64)> = ranked.collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        ranked.into_iter().take(keep).map(|(i, _)| i).collect()
    }
}

pub(super) fn search(
    plan: &MethodTrials,
    rungs: &[usize],
    by_id: &BTreeMap<&String, &RunRecord>,
    records: &[RunRecord],
) -> Search {
    let ran = |(steps, id): &(usize, String)| Some(tried(*steps, by_id.get(id)?));
    let trials = plan.trials.iter().map(|t| Trial {
        drawn: t.drawn.clone(),
        beyond_edge: t.beyond_edge,
        results: t.runs.iter().filter_map(ran).collect(),
    });
    let trials: Vec<Trial> = trials.collect();
    let results = || trials.iter().flat_map(|t| &t.results);
    let well = results().filter(|r| r.metric.is_some());
    let most = well.map(|r| r.steps).max();
    let drawn = trials.iter().filter(|t| !t.beyond_edge);
    let is_first = |r: &&Tried| rungs.first() == Some(&r.steps);
    let first = drawn.filter_map(|t| t.results.iter().find(is_first));
    let first: Vec<&Tried> = first.collect();
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
    let drawn = rate.zip(search.learning_rates);
    search.edge = drawn.and_then(|(rate, range)| Edge::of(rate, range));
    search
}

/// That the best learning rate lies at an edge of what was tried.
pub(super) fn edge_note(search: &Search) -> Option<String> {
    let edge = search.edge?;
    let [low, high] = search.learning_rates?;
    let (end, farther): (&str, fn(&f64, &f64) -> bool) = match edge {
        Edge::Low => ("lower", f64::lt),
        Edge::High => ("upper", f64::gt),
    };
    let best = search.trials.get(search.best?)?;
    let rate = best.learning_rate()?;
    let beyond = search.trials.iter().filter(|t| t.beyond_edge);
    let beyond: Vec<f64> = beyond.filter_map(Trial::learning_rate).collect();
    let best = format!("{}: the best learning rate, {rate:.1e},", search.method);
    let edge = format!("{end} edge of what was drawn ({low:.1e} to {high:.1e})");
    let is_farther = beyond.iter().any(|other| farther(other, &rate));
    Some(match (beyond.is_empty(), is_farther) {
        (true, _) => format!("{best} lies at the {edge}."),
        (false, true) => format!(
            "{best} lies at the {edge}; {} beyond it were tried too.",
            format::plural(beyond.len(), "learning rate")
        ),
        (false, false) => {
            format!("{best} is the last one beyond the {edge}: a better one may lie further.")
        }
    })
}

fn tried(steps: usize, record: &RunRecord) -> Tried {
    let run = Run::of(record);
    let trouble = run.trouble();
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
