//! What is predicted and how it is judged: target, outputs of the head, loss, metrics, prediction. One file for each objective;
//! methods never see it.
//!
//! A head gives a row of **outputs** for every vector that it reads: one vector for each example, or one for each word
//! ([`Encoded::words`]). The outputs of an example are its rows one after the other. A completion has no head of its own: its
//! outputs are what the model writes (`completion.rs`).

mod classification;
mod completion;
mod multi_label;
mod regression;
mod tokens;

use std::collections::BTreeMap;

use backbone::HeadKind;
use candle_core::Tensor;
use datasets::{Dataset, Encoded, Metric, Target, TextTokenizer};
use record::{Predictions, Rows};
use serde::Serialize;
use statistics::EntityCounts;

use crate::{output::csv_cell, train::head::Head};

pub use classification::class_metric;
pub use regression::Scale;
pub use tokens::Entity;

/// What stands in a table for the tag of a word that was not read, as in CoNLL-U.
const NO_TAG: &str = "_";

/// Values of metrics by name.
pub type Metrics = BTreeMap<String, f64>;

/// What is predicted, and how.
pub trait Objective: Send + Sync {
    /// Its name.
    fn kind(&self) -> datasets::Objective;

    /// Outputs of the head for each vector it reads.
    fn outputs(&self) -> usize;

    /// Mean loss of these examples, given the vectors `[rows, H]` that the head reads.
    ///
    /// # Errors
    /// If a tensor operation fails.
    fn loss(
        &self,
        head: &Head,
        vectors: &Tensor,
        examples: &Encoded,
        indices: &[u32],
    ) -> candle_core::Result<Tensor>;

    /// The same loss over all examples, without a tensor.
    fn mean_loss(&self, examples: &Encoded, outputs: &[Vec<f32>]) -> f64;

    /// Metrics of the outputs of all examples by name.
    fn metrics(&self, metrics: &[Metric], examples: &Encoded, outputs: &[Vec<f32>]) -> Metrics;

    /// What a record keeps of the outputs of all examples.
    fn predictions(&self, examples: &Encoded, outputs: Vec<Vec<f32>>) -> Predictions;

    /// How well each class or type is found; nothing for numbers, nor for one class of several, of which there is the whole
    /// confusion matrix.
    fn parts(&self, _examples: &Encoded, _outputs: &[Vec<f32>]) -> Vec<Part> {
        Vec::new()
    }

    /// The outputs with the least loss of a head that says the same of every text: its bias.
    fn constant(&self, examples: &Encoded) -> Vec<f64>;

    /// The answer to a text: outputs of one example.
    fn answer(&self, example: &Answered<'_>, outputs: Vec<f32>) -> Prediction;
}

/// How well one class or type is found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Part {
    /// Its name.
    #[serde(rename = "class")]
    pub name: String,
    /// Of what is predicted as it, the fraction that is it.
    pub precision: f64,
    /// Of what is it, the fraction that is predicted as it.
    pub recall: f64,
    /// The harmonic mean of both.
    pub f1: f64,
    /// How many there are: examples of a class, entities of a type.
    #[serde(rename = "examples")]
    pub support: usize,
}

impl Part {
    /// Of the counts of this class or type.
    pub fn new(name: String, counts: EntityCounts) -> Self {
        Self {
            name,
            precision: counts.precision(),
            recall: counts.recall(),
            f1: counts.f1(),
            support: counts.truth,
        }
    }
}

/// What an answer is about.
pub struct Answered<'a> {
    /// The text.
    pub text: &'a str,
    /// Its words that were read; none where it was read as a whole.
    pub words: &'a [datasets::Word],
}

/// What is said of a text.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Prediction {
    /// One of several classes.
    Class {
        /// The label of the largest logit.
        label: String,
        /// Softmax of the logits, C values in the order of the task's labels.
        probabilities: Vec<f32>,
        /// C logits.
        logits: Vec<f32>,
    },
    /// Any number of several classes.
    Classes {
        /// The labels whose probability is above one half.
        labels: Vec<String>,
        /// Sigmoid of the logits, C values in the order of the task's labels.
        probabilities: Vec<f32>,
        /// C logits.
        logits: Vec<f32>,
    },
    /// A number in the unit of the training data.
    Number {
        /// The number.
        prediction: f64,
    },
    /// A tag for each word.
    Tags {
        /// The words.
        tokens: Vec<String>,
        /// Their tags; none of a word that was not read, since it was cut off or the tokenizer has no token for it.
        tags: Vec<Option<String>>,
        /// Entities: words that belong together.
        entities: Vec<Entity>,
    },
    /// A text that goes on.
    Text {
        /// What is written behind the prompt.
        completion: String,
    },
}

impl Prediction {
    /// The answer in a cell of a table, and its probability where it has one.
    pub fn cells(&self) -> (String, Option<f32>) {
        match self {
            Self::Class {
                label,
                probabilities,
                ..
            } => {
                let largest = probabilities.iter().copied().fold(0f32, f32::max);
                (label.clone(), Some(largest))
            }
            Self::Classes { labels, .. } => (side_by_side(labels, ';'), None),
            Self::Number { prediction } => (prediction.to_string(), None),
            Self::Tags { tags, .. } => {
                let tags = tags.iter().map(|tag| tag.as_deref().unwrap_or(NO_TAG));
                (side_by_side(tags, ' '), None)
            }
            Self::Text { completion } => (completion.clone(), None),
        }
    }
}

/// Names in one cell, in which a name that holds the separator can be told from two.
fn side_by_side(names: impl IntoIterator<Item: AsRef<str>>, separator: char) -> String {
    let cells = names.into_iter();
    let cells = cells.map(|name| csv_cell(name.as_ref(), separator));
    cells.collect::<Vec<_>>().join(&separator.to_string())
}

/// The objective of a data set's runs, or of saved weights; the backbone's tokenizer makes texts of what is written.
pub fn of(
    kind: datasets::Objective,
    labels: &[String],
    scale: Option<Scale>,
    tokenizer: &TextTokenizer,
) -> Box<dyn Objective> {
    let labels = labels.to_vec();
    match kind {
        datasets::Objective::Classification => Box::new(classification::Classification { labels }),
        datasets::Objective::MultiLabel => Box::new(multi_label::MultiLabel { labels }),
        datasets::Objective::Regression => Box::new(regression::Regression {
            scale: scale.unwrap_or_default(),
        }),
        datasets::Objective::Tokens => Box::new(tokens::Tokens { labels }),
        datasets::Objective::Completion => Box::new(completion::Completion {
            tokenizer: tokenizer.clone(),
        }),
    }
}

/// The scale that a data set's numbers are learnt on, from those of the training examples; absent where there are none.
pub fn scale(dataset: &Dataset, train: &Encoded) -> Option<Scale> {
    let numbers: Vec<f64> = train.labels.iter().filter_map(Target::number).collect();
    (dataset.objective == datasets::Objective::Regression).then(|| Scale::of(&numbers))
}

/// The head that an objective has over a backbone: of words always one linear layer, as transformers' classes have it; of
/// completions the language model's own output.
pub fn head(kind: datasets::Objective, of_backbone: HeadKind) -> HeadKind {
    match kind {
        datasets::Objective::Tokens => HeadKind::Linear,
        datasets::Objective::Completion => HeadKind::Vocabulary,
        _ => of_backbone,
    }
}

/// Predictions of an objective other than classification, as a record keeps them.
fn stored(examples: &Encoded, outputs: Rows<f64>) -> Predictions {
    Predictions {
        targets: examples.labels.iter().map(Target::numbers).collect(),
        outputs,
        ..Predictions::default()
    }
}

/// Computes each metric by its name.
fn named(metrics: &[Metric], value: impl Fn(Metric) -> f64) -> Metrics {
    let named = metrics.iter().map(|m| (m.name().to_owned(), value(*m)));
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_hold_the_separator_of_a_cell_are_told_from_two() {
        let names = |names: &[&str]| -> Vec<String> {
            names.iter().map(|name| (*name).to_owned()).collect()
        };
        let cell = |labels: &[&str]| {
            let answer = Prediction::Classes {
                labels: names(labels),
                probabilities: Vec::new(),
                logits: Vec::new(),
            };
            answer.cells().0
        };
        assert_eq!(cell(&["nice", "tale"]), "nice;tale");
        assert_eq!(cell(&["nice;tale", "odd"]), r#""nice;tale";odd"#);
        assert_eq!(cell(&[r#"a "b""#]), r#""a ""b""""#);
        let tags = Prediction::Tags {
            tokens: names(&["New", "York", "is"]),
            tags: vec![Some("B-big city".to_owned()), Some("O".to_owned()), None],
            entities: Vec::new(),
        };
        assert_eq!(tags.cells().0, r#""B-big city" O _"#);
    }
}
