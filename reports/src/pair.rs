//! Two rows of a comparison, and what is shown of their difference.

use record::RunRecord;
use serde::Serialize;
use statistics::{Corrected, Evidence, Sigma, Verdict, mcnemar_exact};

use crate::{needs::Needs, row::predictions, words};

/// Two ranked rows compared on the same examples and seeds.
#[derive(Clone, Debug, Serialize)]
pub struct Pair {
    /// Index of the row with the higher mean.
    pub first: usize,
    /// Index of the other.
    pub second: usize,
    /// Seeds that both have.
    pub seeds: usize,
    /// Mean of the first minus that of the second, over these seeds.
    pub difference: f64,
    /// Standard error, interval, p-value; absent with one seed, of which no test can be made.
    pub evidence: Option<Evidence>,
    /// Standard deviations that the uncertainty is made of; absent with one seed.
    pub sigma: Option<Sigma>,
    /// p-values corrected for all pairs; absent with fewer than three seeds.
    pub corrected: Option<Corrected>,
    /// What is shown of the first.
    pub verdict: Verdict,
    /// What would decide it; absent for a pair that is decided or was not tested.
    pub needs: Option<Needs>,
    /// Exact test of McNemar for each seed that both have.
    pub mcnemar: Vec<McNemar>,
}

/// The test of McNemar for one seed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct McNemar {
    /// Seed.
    pub seed: u64,
    /// Examples that only the first got right.
    pub only_first: u64,
    /// Examples that only the second got right.
    pub only_second: u64,
    /// Exact two-sided p-value, not corrected: of this seed's weights, not of the method.
    pub p: f64,
}

impl McNemar {
    /// Of two runs with one seed; `None` unless every example has one class of several.
    pub(crate) fn of(first: &RunRecord, second: &RunRecord) -> Option<Self> {
        let (a, b) = (predictions(first)?, predictions(second)?);
        let labels = &first.outcome.as_ref()?.predictions.labels;
        let (mut only_first, mut only_second) = (0, 0);
        for ((label, a), b) in labels.iter().zip(&a).zip(&b) {
            only_first += u64::from(a == label && b != label);
            only_second += u64::from(a != label && b == label);
        }
        Some(Self {
            seed: first.asked.seed,
            only_first,
            only_second,
            p: mcnemar_exact(only_first, only_second),
        })
    }
}

impl Pair {
    /// Whether there were seeds enough for a verdict.
    pub fn is_tested(&self) -> bool {
        self.corrected.is_some()
    }

    /// Whether a difference is shown.
    pub fn told_apart(&self) -> bool {
        matches!(self.verdict, Verdict::Better | Verdict::Worse)
    }

    /// The verdict in a cell, of the first or (`reversed`) of the second.
    pub fn verdict_text(&self, reversed: bool) -> &'static str {
        match (self.is_tested(), reversed) {
            (false, _) => words::NOT_TESTED,
            (true, false) => words::verdict(self.verdict),
            (true, true) => words::verdict(self.verdict.reversed()),
        }
    }
}
