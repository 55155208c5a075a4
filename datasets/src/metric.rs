//! How data sets are judged: the metrics by name. They are computed where their scores by example are, in the crate
//! `statistics`.

use serde::{Deserialize, Serialize};

use crate::nearest::nearest;

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

    /// The unit of its values: a fraction is 0 … 1, a correlation −1 … 1.
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
}
