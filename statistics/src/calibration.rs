//! How well probabilities match outcomes.

use serde::Serialize;

/// Bins of the expected calibration error.
pub const CALIBRATION_BINS: usize = 15;

/// Index of the largest logit, the first of equals.
pub fn predicted(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (i, &x) in logits.iter().enumerate() {
        if x > logits[best] {
            best = i;
        }
    }
    best as u32
}

/// How well probabilities match outcomes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Calibration {
    /// Expected calibration error over [`CALIBRATION_BINS`] equal bins of the largest probability
    /// (Guo et al. 2017), as a fraction; 0 is best.
    pub ece: f64,
    /// Mean squared distance of the probability vector from the truth (Brier 1950), summed over
    /// labels: 0 is best, 2 is worst.
    pub brier: f64,
    /// Mean negative log-likelihood of the true label, in nats; 0 is best.
    pub nll: f64,
}

impl Calibration {
    /// Of these rows of logits; `None` without examples.
    pub fn of<'a>(labels: &[u32], logits: impl IntoIterator<Item = &'a [f32]>) -> Option<Self> {
        let n = labels.len() as f64;
        let (mut brier, mut nll) = (0.0, 0.0);
        let mut bins = [(0.0, 0.0); CALIBRATION_BINS];
        for (&label, row) in labels.iter().zip(logits) {
            let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let exp: Vec<f64> = row
                .iter()
                .map(|&x| (f64::from(x) - f64::from(largest)).exp())
                .collect();
            let sum: f64 = exp.iter().sum();
            nll += sum.ln() - (f64::from(row[label as usize]) - f64::from(largest));
            brier += exp
                .iter()
                .enumerate()
                .map(|(k, e)| (e / sum - f64::from(u8::from(k == label as usize))).powi(2))
                .sum::<f64>();
            // The largest probability has exp = 1. Bin b covers (b / 15, (b + 1) / 15].
            let confidence = 1.0 / sum;
            let bin = (confidence * CALIBRATION_BINS as f64).ceil() as usize;
            let (right, sure) = &mut bins[bin.clamp(1, CALIBRATION_BINS) - 1];
            *right += f64::from(u8::from(predicted(row) == label));
            *sure += confidence;
        }
        let ece = bins
            .iter()
            .map(|(right, sure): &(f64, f64)| (right - sure).abs())
            .sum::<f64>();
        (n > 0.0).then(|| Self {
            ece: ece / n,
            brier: brier / n,
            nll: nll / n,
        })
    }
}
