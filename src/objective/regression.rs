//! A number: mean squared error on a scale of mean 0 and standard deviation 1, read back in the number's own unit.

use candle_core::Tensor;
use datasets::{Encoded, Metric, Target};
use record::Predictions;
use serde::{Deserialize, Serialize};
use statistics::{Correlation, root_mean_square_error};

use super::{Answered, Metrics, Objective, Prediction, named, stored};
use crate::train::head::Head;

/// What an output is multiplied by and shifted by to be a number of the data: `mean + deviation · output`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// Mean of the training split's numbers.
    pub mean: f64,
    /// Their standard deviation, above 0.
    pub deviation: f64,
}

/// The scale that changes nothing: of weights that were trained on the numbers themselves.
impl Default for Scale {
    fn default() -> Self {
        Self {
            mean: 0.0,
            deviation: 1.0,
        }
    }
}

impl Scale {
    /// Of these numbers; of equal ones, only their mean.
    pub fn of(numbers: &[f64]) -> Self {
        let n = numbers.len().max(1) as f64;
        let mean = numbers.iter().sum::<f64>() / n;
        let squares: f64 = numbers.iter().map(|x| (x - mean).powi(2)).sum();
        let deviation = (squares / n).sqrt();
        Self {
            mean,
            deviation: if deviation > 0.0 { deviation } else { 1.0 },
        }
    }

    /// A number on the scale.
    fn scaled(self, number: f64) -> f64 {
        (number - self.mean) / self.deviation
    }

    /// The number of an output.
    pub fn number(self, output: f32) -> f64 {
        self.mean + self.deviation * f64::from(output)
    }
}

/// A number.
pub(super) struct Regression {
    pub scale: Scale,
}

impl Regression {
    fn numbers(&self, outputs: &[Vec<f32>]) -> Vec<f64> {
        outputs
            .iter()
            .flatten()
            .map(|x| self.scale.number(*x))
            .collect()
    }
}

fn truth(examples: &Encoded) -> Vec<f64> {
    let numbers = examples.labels.iter().filter_map(Target::number);
    numbers.collect()
}

impl Objective for Regression {
    fn kind(&self) -> datasets::Objective {
        datasets::Objective::Regression
    }

    fn outputs(&self) -> usize {
        1
    }

    fn loss(
        &self,
        head: &Head,
        vectors: &Tensor,
        examples: &Encoded,
        indices: &[u32],
    ) -> candle_core::Result<Tensor> {
        let outputs = head.forward(vectors)?;
        let of = |i: &u32| examples.label(*i as usize).number();
        let scaled: Vec<f64> = indices
            .iter()
            .filter_map(of)
            .map(|x| self.scale.scaled(x))
            .collect();
        let truth = Tensor::new(scaled, outputs.device())?.to_dtype(outputs.dtype())?;
        outputs.flatten_all()?.sub(&truth)?.sqr()?.mean_all()
    }

    fn mean_loss(&self, examples: &Encoded, outputs: &[Vec<f32>]) -> f64 {
        let error = root_mean_square_error(&truth(examples), &self.numbers(outputs));
        (error / self.scale.deviation).powi(2)
    }

    fn metrics(&self, metrics: &[Metric], examples: &Encoded, outputs: &[Vec<f32>]) -> Metrics {
        let (truth, predicted) = (truth(examples), self.numbers(outputs));
        named(metrics, |m| match Correlation::named(m.name()) {
            Some(correlation) => correlation.value(&truth, &predicted),
            None => root_mean_square_error(&truth, &predicted),
        })
    }

    fn predictions(&self, examples: &Encoded, outputs: Vec<Vec<f32>>) -> Predictions {
        let numbers = self.numbers(&outputs).into_iter().map(|x| vec![x]);
        stored(examples, numbers.collect())
    }

    /// The mean, which is 0 on the scale.
    fn constant(&self, examples: &Encoded) -> Vec<f64> {
        let truth = truth(examples);
        let mean = truth.iter().sum::<f64>() / truth.len().max(1) as f64;
        vec![self.scale.scaled(mean)]
    }

    fn answer(&self, _: &Answered<'_>, outputs: Vec<f32>) -> Prediction {
        Prediction::Number {
            prediction: outputs.first().map_or(f64::NAN, |x| self.scale.number(*x)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_comes_back_from_the_scale_in_its_own_unit() {
        let scale = Scale::of(&[100.0, 200.0, 300.0, 400.0]);
        assert_eq!(scale.mean, 250.0);
        assert!((scale.deviation - 12_500f64.sqrt()).abs() < 1e-12);
        let there = scale.scaled(320.0);
        assert!((scale.mean + scale.deviation * there - 320.0).abs() < 1e-9);
        assert_eq!(Scale::of(&[7.0, 7.0]).number(0.0), 7.0);
        assert_eq!(Scale::default().number(2.5), 2.5);
    }
}
