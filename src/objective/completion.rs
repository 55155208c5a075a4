//! A text that goes on where a prompt ends: cross-entropy over the vocabulary on the tokens of the true completion, and what the
//! model writes by itself judged by all completions that the data has for the prompt.
//!
//! The outputs of an example are the loss of its completion in nats, summed over its tokens, and behind it the ids of what is
//! written behind its prompt; whole numbers of that size are exact in f32. Examples of one prompt are one case.

use std::collections::HashMap;

use candle_core::Tensor;
use datasets::{Encoded, Metric, TextTokenizer};
use record::{Predictions, Written};
use statistics::TextMetric;

use super::{Answered, Metrics, Objective, Prediction, named};
use crate::train::head::Head;

/// A text that goes on.
pub(super) struct Completion {
    pub tokenizer: TextTokenizer,
}

impl Completion {
    fn text(&self, ids: &[u32]) -> String {
        let text = self.tokenizer.decode(ids);
        // No tokenizer fails on its own ids; if one does, its message stands where the text should.
        text.unwrap_or_else(|error| error.to_string())
    }

    /// What is written behind each prompt, in the order in which prompts come.
    fn written(&self, examples: &Encoded, outputs: &[Vec<f32>]) -> Vec<Written> {
        let mut places: HashMap<&[u32], usize> = HashMap::new();
        let mut written: Vec<Written> = Vec::new();
        for (i, output) in outputs.iter().enumerate() {
            let prompt = examples.prompt(i);
            let place = *places.entry(prompt).or_insert_with(|| {
                let ids: Vec<u32> = output.iter().skip(1).map(|id| *id as u32).collect();
                written.push(Written {
                    prompt: self.text(prompt),
                    references: Vec::new(),
                    text: self.text(&ids),
                });
                written.len() - 1
            });
            let reference = examples.label(i).text().unwrap_or_default();
            written[place].references.push(reference.to_owned());
        }
        written
    }
}

impl Objective for Completion {
    fn kind(&self) -> datasets::Objective {
        datasets::Objective::Completion
    }

    /// None: there is no head.
    fn outputs(&self) -> usize {
        0
    }

    /// The mean over tokens, so that a long completion counts for more than a short one, as in transformers.
    fn loss(
        &self,
        head: &Head,
        vectors: &Tensor,
        examples: &Encoded,
        indices: &[u32],
    ) -> candle_core::Result<Tensor> {
        let Some(vocabulary) = head.vocabulary() else {
            candle_core::bail!("a completion needs the output matrix of a language model");
        };
        let tokens: Vec<u32> = indices
            .iter()
            .flat_map(|i| examples.completion(*i as usize))
            .copied()
            .collect();
        kernels::vocabulary_cross_entropy(vectors, vocabulary.table(), &tokens)
    }

    fn mean_loss(&self, examples: &Encoded, outputs: &[Vec<f32>]) -> f64 {
        let nats = outputs.iter().filter_map(|output| output.first());
        let nats: f64 = nats.map(|nats| f64::from(*nats)).sum();
        let tokens = (0..examples.len()).map(|i| examples.completion(i).len());
        nats / tokens.sum::<usize>().max(1) as f64
    }

    fn metrics(&self, metrics: &[Metric], examples: &Encoded, outputs: &[Vec<f32>]) -> Metrics {
        let written = self.written(examples, outputs);
        let cases = written
            .iter()
            .map(|w| (w.text.as_str(), w.references.as_slice()));
        let cases: Vec<_> = cases.collect();
        named(metrics, |m| match TextMetric::named(m.name()) {
            Some(metric) => metric.value(&cases),
            None => self.mean_loss(examples, outputs).exp(),
        })
    }

    fn predictions(&self, examples: &Encoded, outputs: Vec<Vec<f32>>) -> Predictions {
        Predictions {
            texts: self.written(examples, &outputs),
            ..Predictions::default()
        }
    }

    /// Nothing: no method without texts writes any.
    fn constant(&self, _: &Encoded) -> Vec<f64> {
        Vec::new()
    }

    fn answer(&self, _: &Answered<'_>, outputs: Vec<f32>) -> Prediction {
        let ids: Vec<u32> = outputs.iter().map(|id| *id as u32).collect();
        Prediction::Text {
            completion: self.text(&ids),
        }
    }
}
