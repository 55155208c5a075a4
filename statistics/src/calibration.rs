//! How well probabilities match outcomes.

use serde::Serialize;

/// Bins of the expected calibration error.
pub const CALIBRATION_BINS: usize = 15;

/// Index of the largest value, the first of equals.
pub fn argmax(row: &[f32]) -> u32 {
    let mut best = 0;
    for (i, &x) in row.iter().enumerate() {
        if x > row[best] {
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
    /// The error that a calibrated model is expected to show on these examples by chance alone, `Σ over bins of √(2/π · Σ p (1 − p)) / n`: an
    /// error near it says nothing against the model, nor does a difference of two that are.
    pub ece_floor: f64,
    /// Mean squared distance of the probability vector from the truth (Brier 1950), summed over
    /// labels: 0 is best, 2 is worst.
    pub brier: f64,
    /// Mean negative log-likelihood of the true label, in nats; 0 is best.
    pub nll: f64,
}

impl Calibration {
    /// Of these rows of logits; `None` without examples, or where a label is none of its row.
    pub fn of<'a>(labels: &[u32], logits: impl IntoIterator<Item = &'a [f32]>) -> Option<Self> {
        let n = labels.len() as f64;
        let (mut brier, mut nll) = (0.0, 0.0);
        let mut bins = [(0.0, 0.0, 0.0); CALIBRATION_BINS];
        for (&label, row) in labels.iter().zip(logits) {
            let own = *row.get(label as usize)?;
            let largest = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
            let below = |x: f32| f64::from(x) - largest;
            let exp: Vec<f64> = row.iter().map(|&x| below(x).exp()).collect();
            let sum: f64 = exp.iter().sum();
            nll += sum.ln() - below(own);
            let truth = |k: usize| f64::from(u8::from(k == label as usize));
            let off = exp.iter().enumerate().map(|(k, e)| e / sum - truth(k));
            brier += off.map(|off| off.powi(2)).sum::<f64>();
            // The largest probability has exp = 1. Bin b covers (b / 15, (b + 1) / 15].
            let confidence = 1.0 / sum;
            let bin = (confidence * CALIBRATION_BINS as f64).ceil() as usize;
            let (right, sure, variance) = &mut bins[bin.clamp(1, CALIBRATION_BINS) - 1];
            *right += f64::from(u8::from(argmax(row) == label));
            *sure += confidence;
            *variance += confidence * (1.0 - confidence);
        }
        let ece: f64 = bins
            .iter()
            .map(|(right, sure, _): &(f64, f64, f64)| (right - sure).abs())
            .sum();
        // Mean absolute deviation of a normal number with the variance of so many coins.
        let ece_floor: f64 = bins
            .iter()
            .map(|(.., variance)| (variance * std::f64::consts::FRAC_2_PI).sqrt())
            .sum();
        (n > 0.0).then(|| Self {
            ece: ece / n,
            ece_floor: ece_floor / n,
            brier: brier / n,
            nll: nll / n,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_floor_is_the_mean_error_of_a_calibrated_model_over_all_that_can_happen() {
        // Twelve examples of two classes, the first class with a probability of 0.61 to 0.66: one bin. Every outcome with its probability.
        let p: Vec<f64> = (0..12).map(|i| 0.61 + 0.004 * f64::from(i)).collect();
        let logits: Vec<Vec<f32>> = p
            .iter()
            .map(|p| vec![(p / (1.0 - p)).ln() as f32, 0.0])
            .collect();
        let (mut expected, mut floor) = (0.0, 0.0);
        for outcome in 0..1u32 << p.len() {
            let labels: Vec<u32> = (0..p.len()).map(|i| outcome >> i & 1).collect();
            let chance: f64 = labels
                .iter()
                .zip(&p)
                .map(|(&label, p)| if label == 0 { *p } else { 1.0 - p })
                .product();
            let found = Calibration::of(&labels, logits.iter().map(Vec::as_slice)).unwrap();
            expected += chance * found.ece;
            floor = found.ece_floor;
        }
        assert!((floor / expected - 1.0).abs() < 0.03, "{floor} {expected}");
    }
}
