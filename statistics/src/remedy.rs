//! What would decide a pair that is undecided: more seeds, more examples, or neither.
//!
//! A test that needs `t(1 − a)` standard errors finds a true difference with chance [`POWER`] if the distance between the two is
//! `(t(1 − a) + t(POWER))` standard errors. Taking the difference found for the true one, the standard error that is needed follows,
//! and from the components of the variance the number of seeds (or examples) that gives it. Example variance is a floor that no
//! number of seeds goes below, and seed variance one that no number of examples does. It is a plan, not a promise: the
//! difference found is itself uncertain.

use serde::Serialize;

use crate::{ALPHA, Components, Evidence, Margin, POWER, distribution::t_upper};

/// No plan asks for more seeds than this.
pub const MOST_SEEDS: usize = 1_000;
/// No plan asks for more examples than this.
pub const MOST_EXAMPLES: usize = 1_000_000;

/// What would decide a pair.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Remedy {
    /// Seeds in all, on the examples that there are; absent if no number of seeds is enough.
    pub seeds: Option<usize>,
    /// Examples in all, with the seeds that there are; absent if no number of examples is enough.
    pub examples: Option<usize>,
    /// Standard error that infinitely many seeds would leave: that of the examples.
    pub floor_of_examples: f64,
    /// Standard error that infinitely many examples would leave: that of the seeds.
    pub floor_of_seeds: f64,
}

impl Remedy {
    /// What would show a difference or equivalence, whichever needs less, where this many pairs are tested together.
    pub fn of(evidence: &Evidence, margin: Margin, pairs: usize) -> Self {
        let together = pairs.max(1) as f64;
        let distance = evidence.difference.abs();
        let differ = Goal::new(distance, ALPHA / 2.0 / together);
        // Equivalence may be missed on either side.
        let equivalent = Goal {
            miss: (1.0 - POWER) / 2.0,
            ..Goal::new(margin.get() - distance, ALPHA / together)
        };
        Self::any(&evidence.components, &[differ, equivalent])
    }

    /// What would show that the first is not worse than the second by the margin or more.
    pub fn of_non_inferiority(evidence: &Evidence, margin: Margin, tests: usize) -> Self {
        let distance = evidence.difference + margin.get();
        let goal = Goal::new(distance, ALPHA / tests.max(1) as f64);
        Self::any(&evidence.components, &[goal])
    }

    /// What would show on which side of a value the mean lies that is so far from what was found, where so many are tested together.
    pub fn of_distance(components: &Components, distance: f64, tests: usize) -> Self {
        let goal = Goal::new(distance, ALPHA / 2.0 / tests.max(1) as f64);
        Self::any(components, &[goal])
    }

    fn any(components: &Components, goals: &[Goal]) -> Self {
        let reached =
            |seeds, examples| goals.iter().any(|g| g.reached(components, seeds, examples));
        let (s, n) = (components.seeds, components.examples);
        let floor = |seeds, examples| components.variance_with(seeds, examples).sqrt();
        Self {
            seeds: fewest(s, MOST_SEEDS, |seeds| reached(seeds, n)),
            examples: fewest(n, MOST_EXAMPLES, |examples| reached(s, examples)),
            floor_of_examples: floor(usize::MAX, n),
            floor_of_seeds: floor(s, usize::MAX),
        }
    }
}

/// A distance that a test is to show.
struct Goal {
    /// From the true difference to what the test rejects.
    distance: f64,
    /// One-sided error rate of the test.
    tail: f64,
    /// Chance that it may fail to show.
    miss: f64,
}

impl Goal {
    /// To be shown with the chance [`POWER`].
    fn new(distance: f64, tail: f64) -> Self {
        Self {
            distance,
            tail,
            miss: 1.0 - POWER,
        }
    }

    fn reached(&self, components: &Components, seeds: usize, examples: usize) -> bool {
        let se = components.variance_with(seeds, examples).sqrt();
        let df = components.df_with(seeds, examples);
        self.distance > 0.0
            && self.distance >= (t_upper(self.tail, df) + t_upper(self.miss, df)) * se
    }
}

/// The smallest number from `from` to `to` that is enough, by halving; more is enough wherever fewer is.
fn fewest(from: usize, to: usize, enough: impl Fn(usize) -> bool) -> Option<usize> {
    if !enough(to) {
        return None;
    }
    let (mut low, mut high) = (from, to);
    while low < high {
        let middle = low + (high - low) / 2;
        if enough(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Some(low)
}
