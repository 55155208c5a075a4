//! One point of a study's curve: its runs, and what they reached.

use std::collections::BTreeMap;

use record::{CLASSIFICATION, RunRecord, Status};
use serde::Serialize;
use statistics::{Evidence, Scores, Summary, Verdict};

use super::manifest::{PointPlan, Position};
use crate::{
    costs::CostsOn,
    row::{Run, estimate, scores, scores_at},
    words,
};

/// One point of a curve.
#[derive(Clone, Debug, Serialize)]
pub struct Point {
    /// What is written at its place.
    pub label: String,
    /// Where it stands on the x axis; absent while no run has ended well and the place is measured.
    pub x: Option<f64>,
    /// Ids of the runs that count, by seed: those that ended well and, beside one of these, those that diverged.
    pub runs: Vec<String>,
    /// Their seeds.
    pub seeds: Vec<u64>,
    /// Main metric over seeds; absent unless a run ended well. A diverged seed counts as always answering the commonest class.
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

impl Point {
    pub(super) fn new(
        plan: &PointPlan,
        index: usize,
        position: Position,
        mut found: Vec<&RunRecord>,
        costs: &CostsOn,
    ) -> Self {
        found.sort_by_key(|r| r.asked.seed);
        let (mut tried, mut well) = (Vec::new(), Vec::new());
        let mut counted: Vec<&RunRecord> = Vec::new();
        for record in found {
            let run = Run::of(record);
            let diverged = matches!(run.status, Status::Diverged { .. });
            let metric = run.metric.filter(|_| run.trouble().is_none());
            well.extend(metric.map(|metric| (record, metric)));
            if diverged || metric.is_some() {
                counted.push(record);
            }
            tried.push((run, diverged));
        }
        let sound: Vec<&RunRecord> = well.iter().map(|(r, _)| *r).collect();
        let first = sound.first().copied();
        let scores = scores(&counted);
        if scores.is_none() {
            counted.clone_from(&sound);
        }
        let counts = |diverged: bool| match (diverged && scores.is_some(), first) {
            (true, Some(r)) => words::diverged_counts(r.asked.dataset.objective == CLASSIFICATION),
            _ => "",
        };
        let trouble = |(run, diverged): &(Run, bool)| {
            let trouble = run.trouble()?;
            Some(format!("seed {} {trouble}{}", run.seed, counts(*diverged)))
        };
        let troubles = tried.iter().filter_map(trouble).collect();
        let estimated = scores.as_ref().zip(first);
        let estimated = estimated.map(|(s, r)| estimate(s, &r.asked.dataset.main_metric).0);
        let outcome = first.and_then(|r| r.outcome.as_ref());
        let parameters = outcome.map(|o| o.parameters.method);
        let x = match position {
            Position::Value => plan.value,
            Position::Category => Some(index as f64),
            Position::Parameters => parameters.map(|p| p as f64),
            Position::TrainExamples => first.map(|r| r.asked.dataset.train_examples as f64),
        };
        let timed = sound.iter().filter(|r| costs.counts(r));
        let seconds = timed.filter_map(|r| Some(r.cost.as_ref()?.training_seconds));
        Self {
            label: plan.label.clone(),
            x,
            seeds: counted.iter().map(|r| r.asked.seed).collect(),
            runs: counted.iter().map(|r| r.id.clone()).collect(),
            metric: estimated.or_else(|| Summary::of(well.iter().map(|(_, m)| *m))),
            scores,
            parameters,
            training_seconds: Summary::of(seconds),
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
            let values = all.iter().map(|run| run.get(step).copied());
            let values: Vec<(usize, f64)> = values.collect::<Option<_>>()?;
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
