//! A tag for each word: cross-entropy over the first token of every word, entities by seqeval's definition.

use std::collections::BTreeMap;

use candle_core::Tensor;
use datasets::{Encoded, Metric, Target, Word};
use record::Predictions;
use serde::Serialize;
use statistics::{EntityCounts, argmax, entities};

use super::{
    Answered, Metrics, Objective, Part, Prediction, classification::cross_entropy, named, stored,
};
use crate::train::head::Head;

/// What a word has that belongs to no entity; a word that was not read is counted as one.
const OUTSIDE: &str = "O";

/// Words that belong together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entity {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its words with spaces between.
    pub text: String,
    /// Its first word, counted from 0.
    pub start: usize,
    /// The word after its last one.
    pub end: usize,
}

/// A tag for each word.
pub(super) struct Tokens {
    pub labels: Vec<String>,
}

impl Tokens {
    /// The predicted tag of each of so many words, given the outputs of those that were read; the others have none.
    fn tags(&self, count: usize, words: &[Word], outputs: &[f32]) -> Vec<Option<u32>> {
        let mut tags = vec![None; count];
        for (word, row) in words.iter().zip(outputs.chunks(self.labels.len())) {
            tags[word.word as usize] = Some(argmax(row));
        }
        tags
    }

    /// The true and the predicted tags of each example.
    fn both(&self, examples: &Encoded, outputs: &[Vec<f32>]) -> Vec<(Vec<u32>, Vec<u32>)> {
        let outside = self.labels.iter().position(|label| label == OUTSIDE);
        let outside = outside.unwrap_or(0) as u32;
        let both = (0..examples.len()).map(|i| {
            let truth = tags_of(examples.label(i));
            let words = &examples.words[i];
            let predicted = self.tags(truth.len(), words, &outputs[i]).into_iter();
            let predicted = predicted.map(|tag| tag.unwrap_or(outside)).collect();
            (truth.to_vec(), predicted)
        });
        both.collect()
    }

    fn names(&self, tags: &[u32]) -> Vec<&str> {
        let names = tags.iter().map(|tag| self.labels[*tag as usize].as_str());
        names.collect()
    }
}

fn tags_of(target: &Target) -> &[u32] {
    match target {
        Target::Tags(tags) => tags,
        _ => &[],
    }
}

/// The tags of an example's words that are read.
fn read(examples: &Encoded, i: usize) -> impl Iterator<Item = u32> {
    let tags = tags_of(examples.label(i));
    examples.words[i]
        .iter()
        .map(|word| tags[word.word as usize])
}

impl Objective for Tokens {
    fn kind(&self) -> datasets::Objective {
        datasets::Objective::Tokens
    }

    fn outputs(&self) -> usize {
        self.labels.len()
    }

    /// The mean over words, so that a long sentence counts for more than a short one, as in transformers.
    fn loss(
        &self,
        head: &Head,
        vectors: &Tensor,
        examples: &Encoded,
        indices: &[u32],
    ) -> candle_core::Result<Tensor> {
        let outputs = head.forward(vectors)?;
        let tags: Vec<u32> = indices
            .iter()
            .flat_map(|i| read(examples, *i as usize))
            .collect();
        kernels::cross_entropy(&outputs, &tags)
    }

    fn mean_loss(&self, examples: &Encoded, outputs: &[Vec<f32>]) -> f64 {
        let (mut sum, mut words) = (0.0, 0usize);
        for (i, outputs) in outputs.iter().enumerate() {
            for (tag, row) in read(examples, i).zip(outputs.chunks(self.labels.len())) {
                sum += cross_entropy(row, tag);
                words += 1;
            }
        }
        sum / words.max(1) as f64
    }

    fn metrics(&self, metrics: &[Metric], examples: &Encoded, outputs: &[Vec<f32>]) -> Metrics {
        let counts: EntityCounts = self
            .both(examples, outputs)
            .iter()
            .map(|(truth, predicted)| EntityCounts::of(&self.names(truth), &self.names(predicted)))
            .sum();
        named(metrics, |m| match m {
            Metric::EntityPrecision => counts.precision(),
            Metric::EntityRecall => counts.recall(),
            _ => counts.f1(),
        })
    }

    fn predictions(&self, examples: &Encoded, outputs: Vec<Vec<f32>>) -> Predictions {
        let both = self.both(examples, &outputs).into_iter();
        let predicted = both.map(|(_, tags)| tags.into_iter().map(f64::from).collect());
        stored(examples, predicted.collect())
    }

    fn parts(&self, examples: &Encoded, outputs: &[Vec<f32>]) -> Vec<Part> {
        let mut parts: BTreeMap<String, EntityCounts> = BTreeMap::new();
        for (truth, predicted) in self.both(examples, outputs) {
            let (truth, predicted) = (self.names(&truth), self.names(&predicted));
            for (kind, counts) in EntityCounts::by_type(&truth, &predicted) {
                let sum = parts.entry(kind).or_default();
                *sum = [*sum, counts].into_iter().sum();
            }
        }
        let parts = parts.into_iter();
        parts
            .map(|(kind, counts)| Part::new(kind, counts))
            .collect()
    }

    /// The log frequencies of the tags; one is added to each count, so that none is impossible.
    fn constant(&self, examples: &Encoded) -> Vec<f64> {
        let mut counts = vec![1usize; self.labels.len()];
        for tag in (0..examples.len()).flat_map(|i| read(examples, i)) {
            counts[tag as usize] += 1;
        }
        let total: usize = counts.iter().sum();
        counts
            .iter()
            .map(|n| (*n as f64 / total as f64).ln())
            .collect()
    }

    fn answer(&self, example: &Answered<'_>, outputs: Vec<f32>) -> Prediction {
        let tokens: Vec<String> = datasets::split_words(example.text)
            .map(str::to_owned)
            .collect();
        let tags = self.tags(tokens.len(), example.words, &outputs);
        let name = |tag: Option<u32>| tag.map(|tag| self.labels[tag as usize].as_str());
        let names: Vec<Option<&str>> = tags.into_iter().map(name).collect();
        let counted: Vec<&str> = names.iter().map(|name| name.unwrap_or(OUTSIDE)).collect();
        let entities = entities(&counted).into_iter().map(|found| Entity {
            kind: found.kind.to_owned(),
            text: tokens[found.start..found.end].join(" "),
            start: found.start,
            end: found.end,
        });
        Prediction::Tags {
            entities: entities.collect(),
            tags: names.iter().map(|name| name.map(str::to_owned)).collect(),
            tokens,
        }
    }
}
