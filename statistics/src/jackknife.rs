//! Scores of single examples for metrics that are no mean over examples.
//!
//! The jackknife's pseudo-value of example j says how much the metric θ owes to it (Tukey 1958):
//! `θ + (n − 1) (mean of all θ₋ᵢ − θ₋ⱼ)`, with θ₋ⱼ the metric without example j. These are centred: their mean is θ itself, so a
//! mean of scores is the metric that is printed. Of accuracy they are 1 for right and 0 for wrong.

use crate::sample::ratio;

/// Scores for a metric that is a sum over examples divided by another (`above`, `below`), such as F1: one per example, with the
/// metric as their mean. What is divided by 0 is 0.
pub fn ratio_scores(parts: &[(f64, f64)]) -> Vec<f64> {
    let [above, below] = parts
        .iter()
        .fold([0.0, 0.0], |[a, b], p| [a + p.0, b + p.1]);
    let without = parts.iter().map(|p| ratio(above - p.0, below - p.1));
    pseudo_values(ratio(above, below), &without.collect::<Vec<_>>())
}

/// Pseudo-values of a statistic `whole`, given what it is without each example.
pub fn pseudo_values(whole: f64, without: &[f64]) -> Vec<f64> {
    let n = without.len() as f64;
    let mean = without.iter().sum::<f64>() / n;
    without
        .iter()
        .map(|w| whole + (n - 1.0) * (mean - w))
        .collect()
}
