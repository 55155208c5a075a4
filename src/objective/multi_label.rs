//! Any number of several classes: a sigmoid for each, and binary cross-entropy over all of them.

use candle_core::Tensor;
use datasets::{Encoded, Metric, Target};
use record::Predictions;
use statistics::{EntityCounts, MultiLabel as Scores};

use super::{Answered, Metrics, Objective, Part, Prediction, named, stored};
use crate::train::head::Head;

/// Any number of several classes.
pub(super) struct MultiLabel {
    pub labels: Vec<String>,
}

/// Whether a class is taken to be an example's: its probability is above one half.
fn predicted(outputs: &[Vec<f32>]) -> Vec<Vec<bool>> {
    let rows = outputs
        .iter()
        .map(|row| row.iter().map(|x| *x > 0.0).collect());
    rows.collect()
}

fn truth(examples: &Encoded) -> Vec<Vec<bool>> {
    let of = |target: &Target| match target {
        Target::Classes(classes) => classes.clone(),
        _ => Vec::new(),
    };
    examples.labels.iter().map(of).collect()
}

impl Objective for MultiLabel {
    fn kind(&self) -> datasets::Objective {
        datasets::Objective::MultiLabel
    }

    fn outputs(&self) -> usize {
        self.labels.len()
    }

    /// As torch's `BCEWithLogitsLoss`: the mean over examples and classes. Of one class it is the cross-entropy of the logits
    /// 0 and x, which is computed so that it neither overflows nor loses digits.
    fn loss(
        &self,
        head: &Head,
        vectors: &Tensor,
        examples: &Encoded,
        indices: &[u32],
    ) -> candle_core::Result<Tensor> {
        let outputs = head.forward(vectors)?;
        let truth: Vec<u32> = indices
            .iter()
            .flat_map(|i| examples.label(*i as usize).numbers())
            .map(|is| is as u32)
            .collect();
        let yes = outputs.reshape((truth.len(), 1))?;
        let no = yes.zeros_like()?;
        kernels::cross_entropy(&Tensor::cat(&[no, yes], 1)?, &truth)
    }

    fn mean_loss(&self, examples: &Encoded, outputs: &[Vec<f32>]) -> f64 {
        let truth = truth(examples);
        let pairs = truth.iter().flatten().zip(outputs.iter().flatten());
        let loss = |(is, x): (&bool, &f32)| {
            let x = f64::from(*x);
            let sign = if *is { -x } else { x };
            sign.max(0.0) + (-sign.abs()).exp().ln_1p()
        };
        pairs.map(loss).sum::<f64>() / truth.iter().flatten().count().max(1) as f64
    }

    fn metrics(&self, metrics: &[Metric], examples: &Encoded, outputs: &[Vec<f32>]) -> Metrics {
        let (truth, predicted) = (truth(examples), predicted(outputs));
        named(metrics, |m| {
            let scores = Scores::named(m.name());
            scores.map_or(f64::NAN, |scores| scores.value(&truth, &predicted))
        })
    }

    fn predictions(&self, examples: &Encoded, outputs: Vec<Vec<f32>>) -> Predictions {
        let logits = outputs
            .into_iter()
            .map(|row| row.into_iter().map(f64::from).collect());
        stored(examples, logits.collect())
    }

    fn parts(&self, examples: &Encoded, outputs: &[Vec<f32>]) -> Vec<Part> {
        let (truth, predicted) = (truth(examples), predicted(outputs));
        let count = |of: &dyn Fn(usize) -> bool| (0..truth.len()).filter(|i| of(*i)).count();
        let part = |(class, name): (usize, &String)| {
            let counts = EntityCounts {
                right: count(&|i| truth[i][class] && predicted[i][class]),
                truth: count(&|i| truth[i][class]),
                predicted: count(&|i| predicted[i][class]),
            };
            Part::new(name.clone(), counts)
        };
        self.labels.iter().enumerate().map(part).collect()
    }

    /// The log odds of each class; one is added to both counts, so that none is impossible.
    fn constant(&self, examples: &Encoded) -> Vec<f64> {
        let truth = truth(examples);
        let odds = |class: usize| {
            let yes = truth.iter().filter(|of| of[class]).count();
            ((yes + 1) as f64 / (truth.len() - yes + 1) as f64).ln()
        };
        (0..self.labels.len()).map(odds).collect()
    }

    fn answer(&self, _: &Answered<'_>, logits: Vec<f32>) -> Prediction {
        let own = self.labels.iter().zip(&logits).filter(|(_, x)| **x > 0.0);
        Prediction::Classes {
            labels: own.map(|(label, _)| label.clone()).collect(),
            probabilities: logits.iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect(),
            logits,
        }
    }
}
