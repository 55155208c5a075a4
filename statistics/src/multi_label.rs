//! Metrics of predictions that may give an example several classes, by scikit-learn's definitions.

use serde::Deserialize;

use crate::{
    jackknife::{pseudo_values, ratio_scores},
    metric::named,
    sample::ratio,
};

/// A metric of sets of classes. More is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MultiLabel {
    /// F1 over all classes of all examples together.
    MicroF1,
    /// Unweighted mean of the classes' F1.
    MacroF1,
    /// Share of examples of which all classes are right.
    Accuracy,
}

/// Of a class: right, true and predicted examples.
type Counts = [f64; 3];

fn add(counts: &mut [Counts], truth: &[bool], predicted: &[bool], times: f64) {
    for (counts, (t, p)) in counts.iter_mut().zip(truth.iter().zip(predicted)) {
        let [both, t, p] = [*t && *p, *t, *p].map(|is| times * f64::from(u8::from(is)));
        *counts = [counts[0] + both, counts[1] + t, counts[2] + p];
    }
}

fn f1([right, truth, predicted]: Counts) -> f64 {
    ratio(2.0 * right, truth + predicted)
}

fn macro_f1(counts: &[Counts]) -> f64 {
    counts.iter().map(|c| f1(*c)).sum::<f64>() / counts.len().max(1) as f64
}

impl MultiLabel {
    /// The metric with this name in the records.
    pub fn named(name: &str) -> Option<Self> {
        named(name)
    }

    /// Its value on examples with as many classes each; 0 of none.
    pub fn value(self, truth: &[Vec<bool>], predicted: &[Vec<bool>]) -> f64 {
        let scores = self.scores(truth, predicted);
        scores.iter().sum::<f64>() / scores.len().max(1) as f64
    }

    /// Scores of one run: one per example, with the metric as their mean ([`pseudo_values`]).
    pub fn scores(self, truth: &[Vec<bool>], predicted: &[Vec<bool>]) -> Vec<f64> {
        let both = || truth.iter().zip(predicted);
        match self {
            Self::Accuracy => both().map(|(t, p)| f64::from(u8::from(t == p))).collect(),
            Self::MicroF1 => {
                let parts = both().map(|(t, p)| {
                    let count = |of: &[bool]| of.iter().filter(|is| **is).count();
                    let right = t.iter().zip(p).filter(|(t, p)| **t && **p).count();
                    (2.0 * right as f64, (count(t) + count(p)) as f64)
                });
                ratio_scores(&parts.collect::<Vec<_>>())
            }
            Self::MacroF1 => {
                let mut counts = vec![[0.0; 3]; truth.first().map_or(0, Vec::len)];
                for (t, p) in both() {
                    add(&mut counts, t, p, 1.0);
                }
                let without: Vec<f64> = both()
                    .map(|(t, p)| {
                        let mut fewer = counts.clone();
                        add(&mut fewer, t, p, -1.0);
                        macro_f1(&fewer)
                    })
                    .collect();
                pseudo_values(macro_f1(&counts), &without)
            }
        }
    }
}
