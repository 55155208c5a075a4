//! Metrics of classification.
//!
//! With the confusion matrix `K[label][prediction]` over `n` examples:
//! - accuracy = `Σ K[c][c] / n`
//! - F1 of a class = `2 tp / (2 tp + fp + fn)`
//! - Matthews = `(c s − Σ p_k t_k) / √((s² − Σ p_k²)(s² − Σ t_k²))` with `c` hits, `s` examples, `p_k` predictions and `t_k`
//!   labels of class k: Gorodkin's form for any number of classes (2004, doi:10.1016/j.compbiolchem.2004.09.006); for two
//!   it is Matthews' own (1975).

use serde::{Deserialize, Serialize};

/// How a data set is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Fraction of right predictions.
    Accuracy,
    /// F1 of class 1 when there are two classes, else the unweighted mean over the classes (macro).
    F1,
    /// Matthews correlation coefficient.
    Matthews,
}

impl Metric {
    /// Its name in YAML and records.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Accuracy => "accuracy",
            Metric::F1 => "f1",
            Metric::Matthews => "matthews",
        }
    }

    /// The unit of [`Metric::compute`]: a fraction is 0 … 1, a correlation −1 … 1.
    pub fn unit(self) -> &'static str {
        match self {
            Metric::Accuracy | Metric::F1 => "fraction",
            Metric::Matthews => "correlation",
        }
    }

    /// Whether more is better.
    pub fn higher_is_better(self) -> bool {
        true
    }

    /// The metric of `predictions` against `labels`, both below `classes` and of the same length.
    ///
    /// Where the formula divides by zero (no examples, a class that nobody has or predicts) the value is 0.
    pub fn compute(self, labels: &[u32], predictions: &[u32], classes: usize) -> f64 {
        assert_eq!(labels.len(), predictions.len(), "one prediction per label");
        let (mut hits, mut labelled, mut predicted) =
            (vec![0.0; classes], vec![0.0; classes], vec![0.0; classes]);
        for (label, prediction) in labels.iter().zip(predictions) {
            labelled[*label as usize] += 1.0;
            predicted[*prediction as usize] += 1.0;
            if label == prediction {
                hits[*label as usize] += 1.0;
            }
        }
        let n = labels.len() as f64;
        let right: f64 = hits.iter().sum();
        match self {
            Metric::Accuracy => ratio(right, n),
            Metric::F1 => {
                let f1 = |c: usize| ratio(2.0 * hits[c], labelled[c] + predicted[c]);
                match classes {
                    2 => f1(1),
                    _ => ratio((0..classes).map(f1).sum(), classes as f64),
                }
            }
            Metric::Matthews => {
                let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
                let covariance = right * n - dot(&predicted, &labelled);
                let variances =
                    (n * n - dot(&predicted, &predicted)) * (n * n - dot(&labelled, &labelled));
                ratio(covariance, variances.sqrt())
            }
        }
    }
}

fn ratio(above: f64, below: f64) -> f64 {
    if below == 0.0 { 0.0 } else { above / below }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(labels: &[u32], predictions: &[u32], classes: usize, expected: [f64; 3]) {
        for (metric, expected) in [Metric::Accuracy, Metric::F1, Metric::Matthews]
            .into_iter()
            .zip(expected)
        {
            let value = metric.compute(labels, predictions, classes);
            assert!(
                (value - expected).abs() < 1e-15,
                "{metric:?}: {value}, expected {expected}"
            );
        }
    }
    // Expected values: accuracy_score, f1_score (average "binary", for three classes "macro") and matthews_corrcoef of
    // scikit-learn 1.9.1.
    #[test]
    fn two_classes_agree_with_scikit_learn() {
        check(
            &[1, 0, 1, 1, 0, 1, 0, 0, 1, 1, 1, 0],
            &[1, 0, 0, 1, 1, 1, 0, 1, 1, 1, 0, 0],
            2,
            [0.6666666666666666, 0.7142857142857143, 0.3142857142857143],
        );
        check(
            &[1, 0, 1, 1],
            &[1, 1, 1, 1],
            2,
            [0.75, 0.8571428571428571, 0.0],
        );
        check(&[0, 0, 1], &[0, 0, 0], 2, [0.6666666666666666, 0.0, 0.0]);
        check(&[0, 1, 0, 1], &[1, 0, 1, 0], 2, [0.0, 0.0, -1.0]);
    }

    #[test]
    fn three_classes_agree_with_scikit_learn() {
        check(
            &[0, 2, 1, 1, 2, 0, 2, 1, 0, 2, 2, 1, 0],
            &[0, 2, 2, 1, 2, 1, 2, 0, 0, 1, 2, 1, 2],
            3,
            [0.6153846153846154, 0.5995670995670995, 0.41825095628565206],
        );
    }

    #[test]
    fn no_examples_give_zero_and_not_nan() {
        check(&[], &[], 2, [0.0, 0.0, 0.0]);
    }
}
