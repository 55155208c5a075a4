//! Correlation of predicted with true numbers, and what each example adds to it.

use serde::{Deserialize, Serialize};

use crate::{Error, jackknife::pseudo_values, metric::named};

/// A correlation between predicted and true numbers. More is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Correlation {
    /// Of the numbers (Pearson 1895).
    Pearson,
    /// Of their ranks, equal numbers sharing the mean of theirs (Spearman 1904).
    Spearman,
}

impl Correlation {
    /// The correlation with this name in the records.
    pub fn named(name: &str) -> Option<Self> {
        named(name)
    }

    /// Its value; 0 where one side is constant. Both are of one length.
    pub fn value(self, truth: &[f64], predicted: &[f64]) -> f64 {
        match self {
            Self::Pearson => pearson(truth, predicted),
            Self::Spearman => pearson(&ranks(truth), &ranks(predicted)),
        }
    }

    /// Scores of one run: one per example, with the correlation as their mean ([`pseudo_values`]). Takes time in the square
    /// of the number of examples.
    ///
    /// # Errors
    /// If there are not equally many numbers on both sides.
    pub fn scores(self, truth: &[f64], predicted: &[f64]) -> Result<Vec<f64>, Error> {
        if truth.len() != predicted.len() {
            return Err(Error::Labels(format!(
                "{} true and {} predicted numbers; there must be one prediction for each",
                truth.len(),
                predicted.len()
            )));
        }
        let sides = match self {
            Self::Pearson => [truth.to_vec(), predicted.to_vec()],
            Self::Spearman => [ranks(truth), ranks(predicted)],
        };
        let without = (0..truth.len()).map(|out| {
            let [a, b] = sides.each_ref().map(|side| self.drop(side, out));
            pearson(&a, &b)
        });
        let whole = pearson(&sides[0], &sides[1]);
        Ok(pseudo_values(whole, &without.collect::<Vec<_>>()))
    }

    /// One side without an example. Ranks above it move down by one, ranks equal to it by a half.
    fn drop(self, side: &[f64], out: usize) -> Vec<f64> {
        let gone = side[out];
        let moved = |&x: &f64| match self {
            Self::Pearson => x,
            Self::Spearman if x > gone => x - 1.0,
            Self::Spearman if x == gone => x - 0.5,
            Self::Spearman => x,
        };
        let (before, after) = (&side[..out], &side[out + 1..]);
        before.iter().chain(after).map(moved).collect()
    }
}

/// Root of the mean squared error, in the unit of the numbers; 0 without any. Both are of one length.
pub fn root_mean_square_error(truth: &[f64], predicted: &[f64]) -> f64 {
    let squares = truth.iter().zip(predicted).map(|(t, p)| (t - p).powi(2));
    (squares.sum::<f64>() / truth.len().max(1) as f64).sqrt()
}

fn pearson(a: &[f64], b: &[f64]) -> f64 {
    let constant = |side: &[f64]| side.windows(2).all(|pair| pair[0] == pair[1]);
    if constant(a) || constant(b) {
        // A mean of equal numbers may be a hair off, and two hairs correlate.
        return 0.0;
    }
    let n = a.len() as f64;
    let (ma, mb) = (a.iter().sum::<f64>() / n, b.iter().sum::<f64>() / n);
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (a - ma, b - mb);
        ab += a * b;
        aa += a * a;
        bb += b * b;
    }
    let spread = (aa * bb).sqrt();
    if spread > 0.0 { ab / spread } else { 0.0 }
}

/// Ranks from 1; equal numbers share the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    for equal in order.chunk_by(|&a, &b| values[a] == values[b]) {
        for &i in equal {
            ranks[i] = start as f64 + (equal.len() + 1) as f64 / 2.0;
        }
        start += equal.len();
    }
    ranks
}
