//! Metrics of classification, computed from counts, so that one example can be taken out of them.

use serde::Serialize;

use crate::Error;

/// How often each label was predicted as each label: `counts[label * classes + predicted]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Counts {
    classes: usize,
    counts: Vec<f64>,
}

impl Counts {
    /// Counts these predictions against the labels.
    ///
    /// # Errors
    /// If there are not equally many, or one is not below `classes`.
    pub fn of(labels: &[u32], predicted: &[u32], classes: usize) -> Result<Self, Error> {
        if labels.len() != predicted.len() {
            return Err(Error::Labels(format!(
                "{} labels and {} predictions; there must be one prediction for each label",
                labels.len(),
                predicted.len()
            )));
        }
        let mut counts = vec![0.0; classes * classes];
        for (example, (&l, &p)) in labels.iter().zip(predicted).enumerate() {
            if l as usize >= classes || p as usize >= classes {
                return Err(Error::Labels(format!(
                    "example {example} has label {l} and prediction {p}; with {classes} classes both must be below {classes}"
                )));
            }
            counts[l as usize * classes + p as usize] += 1.0;
        }
        Ok(Self { classes, counts })
    }

    /// The same without one example.
    pub(crate) fn without(&self, label: u32, predicted: u32) -> Self {
        let mut fewer = self.clone();
        fewer.counts[label as usize * self.classes + predicted as usize] -= 1.0;
        fewer
    }

    fn total(&self) -> f64 {
        self.counts.iter().sum()
    }

    fn right(&self) -> f64 {
        (0..self.classes)
            .map(|k| self.counts[k * self.classes + k])
            .sum()
    }

    fn labelled(&self, k: usize) -> f64 {
        self.counts[k * self.classes..(k + 1) * self.classes]
            .iter()
            .sum()
    }

    fn predicted(&self, k: usize) -> f64 {
        (0..self.classes)
            .map(|j| self.counts[j * self.classes + k])
            .sum()
    }

    /// F1 of one label, `2 tp / (2 tp + fp + fn)`.
    fn f1(&self, k: usize) -> f64 {
        let hits = self.counts[k * self.classes + k];
        ratio(2.0 * hits, self.labelled(k) + self.predicted(k))
    }
}

/// A ratio without denominator is 0, as scikit-learn has it.
fn ratio(above: f64, below: f64) -> f64 {
    if below == 0.0 { 0.0 } else { above / below }
}

/// A metric of predicted labels. More is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Share of right predictions.
    Accuracy,
    /// F1 of the label with index 1 where there are two labels; else the mean over the labels (macro).
    F1,
    /// Mean of F1 over the labels.
    MacroF1,
    /// Mean of F1 over the labels, weighted by how many examples have each.
    WeightedF1,
    /// Matthews' correlation, for any number of labels as Gorodkin (2004) extends it.
    Matthews,
}

impl Metric {
    /// The metric with this name in the records.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "accuracy" => Some(Self::Accuracy),
            "f1" => Some(Self::F1),
            "macro_f1" => Some(Self::MacroF1),
            "weighted_f1" => Some(Self::WeightedF1),
            "matthews" => Some(Self::Matthews),
            _ => None,
        }
    }

    /// Its value on these counts.
    pub fn value(self, counts: &Counts) -> f64 {
        let classes = counts.classes;
        let macro_f1 = || ratio((0..classes).map(|k| counts.f1(k)).sum(), classes as f64);
        match self {
            Self::Accuracy => ratio(counts.right(), counts.total()),
            Self::F1 if classes == 2 => counts.f1(1),
            Self::F1 | Self::MacroF1 => macro_f1(),
            Self::WeightedF1 => ratio(
                (0..classes)
                    .map(|k| counts.labelled(k) * counts.f1(k))
                    .sum(),
                counts.total(),
            ),
            Self::Matthews => {
                let (mut both, mut of_true, mut of_predicted) = (0.0, 0.0, 0.0);
                for k in 0..classes {
                    let (t, p) = (counts.labelled(k), counts.predicted(k));
                    both += t * p;
                    of_true += t * t;
                    of_predicted += p * p;
                }
                let total = counts.total();
                let spread = (total * total - of_predicted) * (total * total - of_true);
                ratio(counts.right() * total - both, spread.sqrt())
            }
        }
    }
}
