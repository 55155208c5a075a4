//! One class of several: softmax and cross-entropy.

use candle_core::Tensor;
use datasets::{Encoded, Metric, Target};
use record::Predictions;
use statistics::{Counts, argmax};

use super::{Answered, Metrics, Objective, Prediction, named};
use crate::train::head::Head;

/// One class of several.
pub(super) struct Classification {
    pub labels: Vec<String>,
}

/// The classes of examples.
fn classes(examples: &Encoded) -> Vec<u32> {
    let classes = examples.labels.iter().filter_map(Target::class);
    classes.collect()
}

impl Objective for Classification {
    fn kind(&self) -> datasets::Objective {
        datasets::Objective::Classification
    }

    fn outputs(&self) -> usize {
        self.labels.len()
    }

    fn loss(
        &self,
        head: &Head,
        vectors: &Tensor,
        examples: &Encoded,
        indices: &[u32],
    ) -> candle_core::Result<Tensor> {
        let outputs = head.forward(vectors)?;
        let of = |i: &u32| examples.label(*i as usize).class();
        let labels: Vec<u32> = indices.iter().filter_map(of).collect();
        kernels::cross_entropy(&outputs, &labels)
    }

    fn mean_loss(&self, examples: &Encoded, outputs: &[Vec<f32>]) -> f64 {
        let labels = classes(examples);
        let losses = outputs.iter().zip(&labels);
        let sum: f64 = losses.map(|(row, label)| cross_entropy(row, *label)).sum();
        sum / labels.len() as f64
    }

    fn metrics(&self, metrics: &[Metric], examples: &Encoded, outputs: &[Vec<f32>]) -> Metrics {
        let predicted: Vec<u32> = outputs.iter().map(|row| argmax(row)).collect();
        let counts = Counts::of(&classes(examples), &predicted, self.labels.len());
        named(metrics, |m| {
            counts
                .as_ref()
                .map_or(f64::NAN, |counts| class_metric(m, counts))
        })
    }

    fn predictions(&self, examples: &Encoded, outputs: Vec<Vec<f32>>) -> Predictions {
        Predictions {
            labels: classes(examples),
            logits: outputs.into(),
            ..Predictions::default()
        }
    }

    /// The log frequencies of the labels; one is added to each count, so that no class is impossible.
    fn constant(&self, examples: &Encoded) -> Vec<f64> {
        let mut counts = vec![0usize; self.labels.len()];
        for class in classes(examples) {
            counts[class as usize] += 1;
        }
        let total = counts.iter().sum::<usize>() + counts.len();
        let logs = counts.iter().map(|n| ((n + 1) as f64 / total as f64).ln());
        logs.collect()
    }

    fn answer(&self, _: &Answered<'_>, logits: Vec<f32>) -> Prediction {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let exp: Vec<f32> = logits.iter().map(|v| (v - max).exp()).collect();
        let sum: f32 = exp.iter().sum();
        Prediction::Class {
            label: self.labels[argmax(&logits) as usize].clone(),
            probabilities: exp.into_iter().map(|e| e / sum).collect(),
            logits,
        }
    }
}

/// A metric by its name; none of a number for one of another objective, which no data set of classes may name.
pub fn class_metric(metric: Metric, counts: &Counts) -> f64 {
    let metric = statistics::Metric::named(metric.name());
    metric.map_or(f64::NAN, |metric| metric.value(counts))
}

/// `log Σ exp(row) − row[label]`.
pub(super) fn cross_entropy(row: &[f32], label: u32) -> f64 {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = row.iter().map(|v| f64::from(v - max).exp()).sum();
    sum.ln() - f64::from(row[label as usize] - max)
}
