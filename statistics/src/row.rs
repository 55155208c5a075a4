//! The uncertainty of one method's mean.

use serde::Serialize;

use crate::{
    ALPHA, Components, Scores, components::least_variance, distribution::t_upper,
    sample::standard_deviation,
};

/// The values that a metric can take. It keeps an interval inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// 0 to 1: accuracy, F1. The interval is Wilson's (1927) on as many examples as have this variance, `n' = p (1 − p) / V`.
    Share,
    /// −1 to 1: Matthews, Pearson, Spearman. The interval is symmetric after Fisher's (1915) transformation, artanh.
    Correlation,
    /// Any number. The interval is symmetric.
    Unbounded,
}

/// A method's mean over seeds and examples with its interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Mean over seeds and examples.
    pub mean: f64,
    /// Standard error of the mean, √V.
    pub standard_error: f64,
    /// 95 % interval: of the mean over all seeds and examples that there could be; with one seed over other examples, but no other
    /// seed.
    pub interval: [f64; 2],
}

impl Row {
    /// Of these scores, by the formula of [`Components`]. The least that a variance may be is for means near an end the variance of so
    /// many independent examples: else one wrong example would leave an interval many times as wide as none.
    pub fn of(scores: &Scores, range: Range) -> Self {
        let n = scores.examples() as f64;
        let (found, df) = match Components::of(scores) {
            Some(c) => (c.found_variance(), c.df()),
            None => {
                let sd = scores.rows().next().and_then(standard_deviation);
                (sd.map_or(0.0, |sd| sd * sd / n), n - 1.0)
            }
        };
        let mean = range.without_rounding(scores.mean());
        let least = match range.independent_variance(mean, n) {
            0.0 => least_variance(scores.examples()),
            independent => least_variance(scores.examples()).min(independent),
        };
        let (standard_error, t) = (found.max(least).sqrt(), t_upper(ALPHA / 2.0, df));
        Self {
            mean,
            standard_error,
            interval: range.interval(mean, standard_error, t, n),
        }
    }
}

/// Nearer than this to an end of its range, a mean is there: a mean of pseudo-values is rounded.
const ROUNDING: f64 = 1e-12;

impl Range {
    fn ends(self) -> [f64; 2] {
        match self {
            Self::Share => [0.0, 1.0],
            Self::Correlation => [-1.0, 1.0],
            Self::Unbounded => [f64::NEG_INFINITY, f64::INFINITY],
        }
    }

    /// The mean at the end of the range if only rounding keeps it away.
    fn without_rounding(self, mean: f64) -> f64 {
        let mut ends = self.ends().into_iter();
        ends.find(|end| (mean - end).abs() < ROUNDING)
            .unwrap_or(mean)
    }

    /// Variance of a mean of this size over `n` independent examples; that of a correlation near an end, or of normal numbers.
    fn independent_variance(self, mean: f64, n: f64) -> f64 {
        match self {
            Self::Share => (mean * (1.0 - mean)).max(0.0) / n,
            Self::Correlation => (1.0 - mean * mean).max(0.0).powi(2) / n,
            Self::Unbounded => f64::INFINITY,
        }
    }

    /// Interval of a mean with this standard error that reaches `t` of them to either side, of `n` examples.
    fn interval(self, mean: f64, standard_error: f64, t: f64, n: f64) -> [f64; 2] {
        match self {
            Self::Share if (0.0..=1.0).contains(&mean) => {
                let spread = mean * (1.0 - mean);
                match spread > 0.0 {
                    true => wilson(mean, spread / standard_error.powi(2), t),
                    false => wilson(mean, n, t),
                }
            }
            Self::Correlation if mean.abs() < 1.0 => {
                let half = t * standard_error / (1.0 - mean * mean);
                [mean.atanh() - half, mean.atanh() + half].map(f64::tanh)
            }
            _ => {
                let [low, high] = self.ends();
                [-t, t].map(|t| (mean + t * standard_error).clamp(low, high))
            }
        }
    }
}

/// Wilson's (1927) interval of a share (0 to 1) of `n` examples that reaches `z` standard errors to either side.
pub fn wilson(share: f64, n: f64, z: f64) -> [f64; 2] {
    let shrink = 1.0 + z * z / n;
    let middle = (share + z * z / (2.0 * n)) / shrink;
    let half = z / shrink * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt();
    // Rounding may leave a share of 0 or 1 a hair outside.
    [
        (middle - half).max(0.0).min(share),
        (middle + half).min(1.0).max(share),
    ]
}
