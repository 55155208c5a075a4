//! How data sets are judged; and the metrics of classification, by scikit-learn's definitions. (Those of the other objectives
//! are computed where their pseudo-values are, in the crate `statistics`.)
//!
//! With the confusion matrix `K[label][prediction]` over `n` examples:
//! - accuracy = `Σ K[c][c] / n`
//! - F1 of a class = `2 tp / (2 tp + fp + fn)`. A class that is neither among the labels nor among the predictions has
//!   none, and counts in no mean.
//! - Matthews = `(c s − Σ p_k t_k) / √((s² − Σ p_k²)(s² − Σ t_k²))` with `c` hits, `s` examples, `p_k` predictions and `t_k`
//!   labels of class k: Gorodkin's form for any number of classes (2004, doi:10.1016/j.compbiolchem.2004.09.006); for two
//!   it is Matthews' own (1975).

use serde::{Deserialize, Serialize};

use crate::{Confusion, confusion::ratio, nearest::nearest};

/// How a data set is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Fraction of right predictions.
    Accuracy,
    /// F1 of class 1 when there are two classes, else the unweighted mean over the classes (macro).
    F1,
    /// Unweighted mean of the classes' F1.
    MacroF1,
    /// Mean of the classes' F1, each with the number of its labels.
    WeightedF1,
    /// Matthews correlation coefficient.
    Matthews,
    /// F1 over all classes of all examples together (several classes to an example).
    MicroF1,
    /// Pearson's correlation of predicted with true numbers.
    Pearson,
    /// Spearman's correlation: Pearson's of the ranks.
    Spearman,
    /// Root of the mean squared error, in the unit of the numbers; less is better, so it is shown and never ranked by.
    Rmse,
    /// F1 of whole entities, by seqeval's definition.
    EntityF1,
    /// Of the entities predicted, the fraction that is right.
    EntityPrecision,
    /// Of the entities there are, the fraction that is found.
    EntityRecall,
    /// F of the longest common subsequence of words (Lin 2004), the mean over texts.
    RougeL,
    /// Fraction of texts that are one of those asked for, to the letter.
    ExactMatch,
    /// BLEU of all texts together, by sacrebleu's definition, as a fraction.
    Bleu,
    /// chrF of all texts together, by sacrebleu's definition, as a fraction.
    Chrf,
    /// What the model gives a token of the true completion, as the number of equally likely ones; less is better, so it is shown
    /// and never ranked by.
    Perplexity,
    /// Fraction of texts whose last number is the one asked for.
    NumericMatch,
}

impl Metric {
    /// All metrics.
    pub const ALL: [Metric; 18] = [
        Metric::Accuracy,
        Metric::F1,
        Metric::MacroF1,
        Metric::WeightedF1,
        Metric::Matthews,
        Metric::MicroF1,
        Metric::Pearson,
        Metric::Spearman,
        Metric::Rmse,
        Metric::EntityF1,
        Metric::EntityPrecision,
        Metric::EntityRecall,
        Metric::RougeL,
        Metric::ExactMatch,
        Metric::Bleu,
        Metric::Chrf,
        Metric::Perplexity,
        Metric::NumericMatch,
    ];

    /// Its name in YAML and records.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Accuracy => "accuracy",
            Metric::F1 => "f1",
            Metric::MacroF1 => "macro_f1",
            Metric::WeightedF1 => "weighted_f1",
            Metric::Matthews => "matthews",
            Metric::MicroF1 => "micro_f1",
            Metric::Pearson => "pearson",
            Metric::Spearman => "spearman",
            Metric::Rmse => "rmse",
            Metric::EntityF1 => "entity_f1",
            Metric::EntityPrecision => "entity_precision",
            Metric::EntityRecall => "entity_recall",
            Metric::RougeL => "rouge_l",
            Metric::ExactMatch => "exact_match",
            Metric::Bleu => "bleu",
            Metric::Chrf => "chrf",
            Metric::Perplexity => "perplexity",
            Metric::NumericMatch => "numeric_match",
        }
    }

    /// The metric of a name.
    ///
    /// # Errors
    /// If the name is not known; the error lists those that are.
    pub fn of(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|metric| metric.name() == name);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Metric::name);
            // What scikit-learn and evaluate call them.
            let elsewhere = match name.to_lowercase().as_str() {
                "f1_macro" => Some("macro_f1"),
                "f1_weighted" => Some("weighted_f1"),
                "mcc" | "matthews_corrcoef" | "matthews_correlation" => Some("matthews"),
                "acc" | "accuracy_score" => Some("accuracy"),
                "rouge" | "rougel" | "rouge-l" => Some("rouge_l"),
                "em" => Some("exact_match"),
                "sacrebleu" => Some("bleu"),
                _ => None,
            };
            let near = elsewhere
                .or_else(|| nearest(name, names))
                .map_or_else(String::new, |name| format!("; did you mean '{name}'?"));
            format!(
                "unknown metric '{name}'{near} (known: {})",
                names.join(", ")
            )
        })
    }

    /// The unit of [`Metric::compute`]: a fraction is 0 … 1, a correlation −1 … 1.
    pub fn unit(self) -> &'static str {
        match self {
            Metric::Matthews | Metric::Pearson | Metric::Spearman => "correlation",
            Metric::Rmse => "unit of the data",
            Metric::Perplexity => "tokens",
            _ => "fraction",
        }
    }

    /// Whether more is better.
    pub fn higher_is_better(self) -> bool {
        !matches!(self, Metric::Rmse | Metric::Perplexity)
    }

    /// The metric of `predictions` against `labels`, both below `classes` and of the same length.
    ///
    /// Where the formula divides by zero (no examples, a class that nobody has or predicts) the value is 0.
    pub fn compute(self, labels: &[u32], predictions: &[u32], classes: usize) -> f64 {
        self.of_confusion(&Confusion::new(labels, predictions, classes))
    }

    /// The metric of a confusion matrix; NaN for one of another objective, which no data set of classes may name.
    pub fn of_confusion(self, confusion: &Confusion) -> f64 {
        let classes = 0..confusion.classes();
        let sum = |of: &dyn Fn(usize) -> f64| classes.clone().map(of).sum::<f64>();
        let n = sum(&|c| confusion.labelled(c));
        let right = sum(&|c| confusion.hits(c));
        let f1 = |c: usize| confusion.scores(c).f1;
        match self {
            Metric::Accuracy => ratio(right, n),
            Metric::F1 if confusion.classes() == 2 => f1(1),
            Metric::F1 | Metric::MacroF1 => {
                let present = |c: usize| {
                    f64::from(u8::from(
                        confusion.labelled(c) + confusion.predicted(c) > 0.0,
                    ))
                };
                ratio(sum(&f1), sum(&present))
            }
            Metric::WeightedF1 => ratio(sum(&|c| f1(c) * confusion.labelled(c)), n),
            Metric::Matthews => {
                let (labelled, predicted) = (|c| confusion.labelled(c), |c| confusion.predicted(c));
                let covariance = right * n - sum(&|c| predicted(c) * labelled(c));
                let variances = (n * n - sum(&|c| predicted(c) * predicted(c)))
                    * (n * n - sum(&|c| labelled(c) * labelled(c)));
                ratio(covariance, variances.sqrt())
            }
            Metric::MicroF1
            | Metric::Pearson
            | Metric::Spearman
            | Metric::Rmse
            | Metric::EntityF1
            | Metric::EntityPrecision
            | Metric::EntityRecall
            | Metric::RougeL
            | Metric::ExactMatch
            | Metric::Bleu
            | Metric::Chrf
            | Metric::Perplexity
            | Metric::NumericMatch => f64::NAN,
        }
    }
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
