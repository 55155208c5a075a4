//! Many data sets: the mean difference over them, and how often one method is ahead.

use std::cmp::Ordering;

use serde::Serialize;

use crate::{
    ALPHA, Margin,
    bisection::bisect,
    distribution::{t_tail, t_upper, two_sided},
};

/// A difference on one data set with the variance of its estimate ([`Components::variance`](crate::Components::variance)).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The difference.
    pub difference: f64,
    /// Its variance, above 0.
    pub variance: f64,
}

/// The mean difference over data sets, of which these are a sample: `δ_k ~ N(μ, τ² + V_k)`.
///
/// τ² is that of Paule and Mandel (1982), the interval of μ that of Hartung and Knapp (2001) with k − 1 degrees of freedom.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Combined {
    /// Number of data sets k.
    pub datasets: usize,
    /// Mean difference μ.
    pub difference: f64,
    /// Its standard error.
    pub standard_error: f64,
    /// 95 % interval of μ.
    pub interval: [f64; 2],
    /// Two-sided p-value of "no difference on the mean".
    pub p: f64,
    /// Standard deviation τ of the true difference between data sets.
    pub between: f64,
}

impl Combined {
    /// Of these data sets; `None` unless there are two or more, all numbers are finite and all variances above 0.
    pub fn of(estimates: &[Estimate]) -> Option<Self> {
        let sound =
            |e: &Estimate| e.difference.is_finite() && e.variance.is_finite() && e.variance > 0.0;
        if estimates.len() < 2 || !estimates.iter().all(sound) {
            return None;
        }
        let df = (estimates.len() - 1) as f64;
        let between = between(estimates, df);
        let (difference, weight, spread) = weighted(estimates, between);
        let standard_error = (spread / df / weight).sqrt();
        let half = t_upper(ALPHA / 2.0, df) * standard_error;
        Some(Self {
            datasets: estimates.len(),
            difference,
            standard_error,
            interval: [difference - half, difference + half],
            p: two_sided(difference, standard_error, df),
            between: between.sqrt(),
        })
    }

    /// p-value of two one-sided tests (Schuirmann 1987) of "on the mean they differ by the margin or more".
    pub fn p_equivalent(&self, margin: Margin) -> f64 {
        let room = margin.get() - self.difference.abs();
        match self.standard_error > 0.0 {
            true => t_tail(room / self.standard_error, (self.datasets - 1) as f64),
            false => f64::from(u8::from(room <= 0.0)),
        }
    }
}

/// Weighted mean, sum of weights and weighted sum of squares, with weights `1 / (τ² + V)`.
fn weighted(estimates: &[Estimate], between: f64) -> (f64, f64, f64) {
    let weight = |e: &Estimate| 1.0 / (between + e.variance);
    let sum: f64 = estimates.iter().map(weight).sum();
    let differences = estimates.iter().map(|e| weight(e) * e.difference);
    let mean = differences.sum::<f64>() / sum;
    let squares = estimates.iter().map(|e| (e, (e.difference - mean).powi(2)));
    (
        mean,
        sum,
        squares.map(|(e, square)| weight(e) * square).sum(),
    )
}

/// τ² at which the weighted sum of squares is as large as expected; 0 if it is smaller already.
fn between(estimates: &[Estimate], df: f64) -> f64 {
    let spread = |between| weighted(estimates, between).2;
    if spread(0.0) <= df {
        return 0.0;
    }
    let mut high = estimates.iter().map(|e| e.variance).fold(0.0, f64::max);
    while spread(high) > df {
        high *= 2.0;
    }
    bisect([0.0, high], 200, |between| spread(between) > df)
}

/// Probability of improvement (Agarwal et al. 2021): the mean over data sets of the chance that a run of the first method beats a
/// run of the second, ties counting one half. Each data set has the metrics of both methods' seeds. A description, not a test. `None` without
/// data sets, or where one has no runs of a method.
pub fn probability_of_improvement(datasets: &[(Vec<f64>, Vec<f64>)]) -> Option<f64> {
    let chance = |(a, b): &(Vec<f64>, Vec<f64>)| {
        let runs = a.iter().flat_map(|x| b.iter().map(move |y| (x, y)));
        let won = runs.map(|(x, y)| match x.partial_cmp(y) {
            Some(Ordering::Greater) => 1.0,
            Some(Ordering::Equal) => 0.5,
            _ => 0.0,
        });
        crate::mean(&won.collect::<Vec<_>>())
    };
    let chances: Vec<f64> = datasets.iter().map(chance).collect::<Option<_>>()?;
    crate::mean(&chances)
}
