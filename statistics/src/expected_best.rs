//! How good a method becomes with how many trials of a random search.
//!
//! The expected best of n trials is that of n draws with replacement from the N results `v₁ ≤ … ≤ v_N` that there are (Dodge
//! et al. 2019, arXiv:1909.03004):
//!
//! `E[best of n] = Σᵢ vᵢ ((i / N)ⁿ − ((i − 1) / N)ⁿ)`, and its variance over draws is `Σᵢ vᵢ² (…) − E²`.
//!
//! It falls short of the truth for n near N (Tang et al. 2020, arXiv:2004.13705), so it is a floor there.

use serde::Serialize;

/// The expected best result of some trials.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Expected {
    /// Number of trials n.
    pub trials: usize,
    /// Expected largest of n results.
    pub mean: f64,
    /// Standard deviation of the largest over draws of n results: what a searcher may meet.
    pub sd: f64,
}

/// The expected largest of n = 1 … N draws with replacement from these N values.
pub fn expected_best(values: &[f64]) -> Vec<Expected> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let all = sorted.len();
    let expected = |trials: usize| {
        let below = |i: usize| (i as f64 / all as f64).powi(trials as i32);
        let (mut mean, mut square) = (0.0, 0.0);
        for (i, v) in sorted.iter().enumerate() {
            let p = below(i + 1) - below(i);
            mean += p * v;
            square += p * v * v;
        }
        let sd = (square - mean * mean).max(0.0).sqrt();
        Expected { trials, mean, sd }
    };
    (1..=all).map(expected).collect()
}
