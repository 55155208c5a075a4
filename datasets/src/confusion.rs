//! The confusion matrix, and what is read from it per class.

use serde::Serialize;

/// Predictions against labels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Confusion {
    /// Examples by label, then prediction: `[C][C]`.
    pub matrix: Vec<Vec<u64>>,
}

/// How well one class is found, as scikit-learn's `precision_recall_fscore_support` has it: 0 where nothing is divided by
/// nothing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ClassScores {
    /// Of the examples predicted as this class, the fraction that is of it.
    pub precision: f64,
    /// Of the examples of this class, the fraction predicted as it.
    pub recall: f64,
    /// The harmonic mean of both.
    pub f1: f64,
    /// Examples of this class.
    pub support: u64,
}

impl Confusion {
    /// Counts `predictions` against `labels`, both below `classes`.
    ///
    /// # Panics
    /// If there is not one prediction per label, or one is not below `classes`.
    pub fn new(labels: &[u32], predictions: &[u32], classes: usize) -> Self {
        assert_eq!(labels.len(), predictions.len(), "one prediction per label");
        let mut matrix = vec![vec![0; classes]; classes];
        for (label, prediction) in labels.iter().zip(predictions) {
            matrix[*label as usize][*prediction as usize] += 1;
        }
        Self { matrix }
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.matrix.len()
    }

    /// Examples of a class predicted as it.
    pub(crate) fn hits(&self, class: usize) -> f64 {
        self.matrix[class][class] as f64
    }

    /// Examples of a class.
    pub(crate) fn labelled(&self, class: usize) -> f64 {
        self.matrix[class].iter().sum::<u64>() as f64
    }

    /// Examples predicted as a class.
    pub(crate) fn predicted(&self, class: usize) -> f64 {
        self.matrix.iter().map(|row| row[class]).sum::<u64>() as f64
    }

    /// Scores of a class.
    ///
    /// # Panics
    /// If there is no such class.
    pub fn scores(&self, class: usize) -> ClassScores {
        let (hits, labelled, predicted) = (
            self.hits(class),
            self.labelled(class),
            self.predicted(class),
        );
        ClassScores {
            precision: ratio(hits, predicted),
            recall: ratio(hits, labelled),
            f1: ratio(2.0 * hits, labelled + predicted),
            support: labelled as u64,
        }
    }

    /// Scores of all classes.
    pub fn all_scores(&self) -> Vec<ClassScores> {
        (0..self.classes())
            .map(|class| self.scores(class))
            .collect()
    }
}

pub(crate) fn ratio(above: f64, below: f64) -> f64 {
    if below == 0.0 { 0.0 } else { above / below }
}
