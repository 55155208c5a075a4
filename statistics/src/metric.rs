//! Metrics of classification by scikit-learn's definitions, computed from counts, so that one example can be taken out of them.
//!
//! With the confusion matrix `K[label][prediction]` over `n` examples:
//! - accuracy = `Σ K[c][c] / n`
//! - F1 of a class = `2 tp / (2 tp + fp + fn)`. A class that is neither among the labels nor among the predictions has
//!   none, and counts in no mean. Without one example the same classes count as with it.
//! - Matthews = `(c s − Σ p_k t_k) / √((s² − Σ p_k²)(s² − Σ t_k²))` with `c` hits, `s` examples, `p_k` predictions and `t_k`
//!   labels of class k: Gorodkin's form for any number of classes (2004, doi:10.1016/j.compbiolchem.2004.09.006); for two
//!   it is Matthews' own (1975).

use serde::{
    Deserialize, Serialize,
    de::{IntoDeserializer, value},
};

use crate::{EntityCounts, Error, jackknife::pseudo_values, sample::ratio};

/// How often each label was predicted as each label, the confusion matrix: `counts[label * classes + predicted]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Counts {
    classes: usize,
    counts: Vec<f64>,
    /// How many classes count in a mean: those among the labels or the predictions.
    present: f64,
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
        let mut found = Self {
            classes,
            counts,
            present: 0.0,
        };
        let present = (0..classes).filter(|&k| found.labelled(k) + found.predicted(k) > 0.0);
        found.present = present.count() as f64;
        Ok(found)
    }

    /// The matrix, by label and then by prediction.
    pub fn matrix(&self) -> Vec<Vec<u64>> {
        let rows = self.counts.chunks(self.classes.max(1));
        rows.map(|row| row.iter().map(|n| *n as u64).collect())
            .collect()
    }

    /// How often each class is predicted, is there, and is both.
    pub fn by_class(&self) -> Vec<EntityCounts> {
        let of = |k: usize| EntityCounts {
            right: self.at(k, k) as usize,
            truth: self.labelled(k) as usize,
            predicted: self.predicted(k) as usize,
        };
        (0..self.classes).map(of).collect()
    }

    /// The same without one example.
    fn without(&self, label: u32, predicted: u32) -> Self {
        let mut fewer = self.clone();
        fewer.counts[label as usize * self.classes + predicted as usize] -= 1.0;
        fewer
    }

    fn total(&self) -> f64 {
        self.counts.iter().sum()
    }

    fn right(&self) -> f64 {
        (0..self.classes).map(|k| self.at(k, k)).sum()
    }

    fn labelled(&self, k: usize) -> f64 {
        (0..self.classes).map(|j| self.at(k, j)).sum()
    }

    fn predicted(&self, k: usize) -> f64 {
        (0..self.classes).map(|j| self.at(j, k)).sum()
    }

    fn at(&self, label: usize, predicted: usize) -> f64 {
        self.counts[label * self.classes + predicted]
    }

    /// F1 of one label, `2 tp / (2 tp + fp + fn)`.
    fn f1(&self, k: usize) -> f64 {
        ratio(2.0 * self.at(k, k), self.labelled(k) + self.predicted(k))
    }
}

/// The value that has this name where it is written as data; `None` if there is none.
pub(crate) fn named<'a, T: Deserialize<'a>>(name: &'a str) -> Option<T> {
    let name: value::StrDeserializer<'_, value::Error> = name.into_deserializer();
    T::deserialize(name).ok()
}

/// A metric of predicted labels. More is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Share of right predictions.
    Accuracy,
    /// F1 of the class with index 1 where there are two; else the mean over the classes (macro).
    F1,
    /// Mean of F1 over the classes.
    MacroF1,
    /// Mean of F1 over the classes, weighted by how many examples have each.
    WeightedF1,
    /// Matthews' correlation, for any number of labels as Gorodkin (2004) extends it.
    Matthews,
}

impl Metric {
    /// The metric with this name in the records.
    pub fn named(name: &str) -> Option<Self> {
        named(name)
    }

    /// Its value on these counts; 0 where the formula divides by 0.
    pub fn value(self, counts: &Counts) -> f64 {
        let classes = counts.classes;
        let macro_f1 = || ratio((0..classes).map(|k| counts.f1(k)).sum(), counts.present);
        match self {
            Self::Accuracy => ratio(counts.right(), counts.total()),
            Self::F1 if classes == 2 => counts.f1(1),
            Self::F1 | Self::MacroF1 => macro_f1(),
            Self::WeightedF1 => {
                let weighted = (0..classes).map(|k| counts.labelled(k) * counts.f1(k));
                ratio(weighted.sum(), counts.total())
            }
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

    /// Scores of one run's predicted labels: one per example, with the metric as their mean ([`pseudo_values`]).
    ///
    /// # Errors
    /// As [`Counts::of`].
    pub fn scores(
        self,
        labels: &[u32],
        predicted: &[u32],
        classes: usize,
    ) -> Result<Vec<f64>, Error> {
        let counts = Counts::of(labels, predicted, classes)?;
        // Examples with the same label and prediction leave the same counts.
        let mut known = vec![None; classes * classes];
        let without = labels.iter().zip(predicted).map(|(&l, &p)| {
            *known[l as usize * classes + p as usize]
                .get_or_insert_with(|| self.value(&counts.without(l, p)))
        });
        let without: Vec<f64> = without.collect();
        Ok(pseudo_values(self.value(&counts), &without))
    }
}
