//! What is predicted of a text, by name.

use serde::{Deserialize, Serialize};

use crate::Metric;

/// What is predicted of a text.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// One of several classes.
    #[default]
    Classification,
    /// Any number of several classes.
    MultiLabel,
    /// A number.
    Regression,
    /// A tag for each word, such as the parts of named entities.
    Tokens,
    /// A text that goes on where another ends.
    Completion,
}

impl Objective {
    /// All objectives.
    pub const ALL: [Objective; 5] = [
        Objective::Classification,
        Objective::MultiLabel,
        Objective::Regression,
        Objective::Tokens,
        Objective::Completion,
    ];

    /// Its name in YAML and records.
    pub fn name(self) -> &'static str {
        match self {
            Objective::Classification => "classification",
            Objective::MultiLabel => "multi_label",
            Objective::Regression => "regression",
            Objective::Tokens => "tokens",
            Objective::Completion => "completion",
        }
    }

    /// The objective of a name.
    ///
    /// # Errors
    /// If the name is not known; the error lists those that are.
    pub fn of(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|o| o.name() == name);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("unknown objective '{name}' (known: {names})")
        })
    }

    /// Whether it is the one of records and weights that name none.
    pub fn is_classification(&self) -> bool {
        *self == Self::Classification
    }

    /// The metrics that judge it, the default ones first.
    pub fn metrics(self) -> &'static [Metric] {
        match self {
            Self::Classification => &[
                Metric::Accuracy,
                Metric::F1,
                Metric::MacroF1,
                Metric::WeightedF1,
                Metric::Matthews,
            ],
            Self::MultiLabel => &[Metric::MicroF1, Metric::MacroF1, Metric::Accuracy],
            Self::Regression => &[Metric::Pearson, Metric::Spearman, Metric::Rmse],
            Self::Tokens => &[
                Metric::EntityF1,
                Metric::EntityPrecision,
                Metric::EntityRecall,
            ],
            Self::Completion => &[
                Metric::RougeL,
                Metric::ExactMatch,
                Metric::Bleu,
                Metric::Chrf,
                Metric::Perplexity,
                Metric::NumericMatch,
            ],
        }
    }

    /// What a data set is judged by that does not say it, the main metric first.
    pub fn default_metrics(self) -> Vec<Metric> {
        match self {
            Self::Classification => vec![Metric::Accuracy],
            // Few texts end in a number.
            other => {
                let all = other.metrics().iter().copied();
                all.filter(|m| *m != Metric::NumericMatch).collect()
            }
        }
    }
}
