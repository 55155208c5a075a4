//! What scores say on a difference: how large it is, and how sure that is.

use serde::Serialize;

use crate::{
    ALPHA, Components, Margin, Scores,
    distribution::{t_tail, t_upper},
};

/// A mean difference with its uncertainty, by [`Components`]. Every number is of the metric's unit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Evidence {
    /// Mean difference D over seeds and examples.
    pub difference: f64,
    /// Its standard error √V.
    pub standard_error: f64,
    /// Degrees of freedom of the standard error.
    pub df: f64,
    /// 95 % interval, `D ± t(0.975, df) √V`.
    pub interval: [f64; 2],
    /// Two-sided p-value of "no difference".
    pub p: f64,
    /// Where the uncertainty comes from.
    pub components: Components,
}

impl Evidence {
    /// Of a method's scores minus another's ([`Scores::minus`]); `None` with one seed, of which no test can be made.
    pub fn of(differences: &Scores) -> Option<Self> {
        Some(Self::with(differences.mean(), Components::of(differences)?))
    }

    /// A difference with these components of its variance.
    pub fn with(difference: f64, components: Components) -> Self {
        let (standard_error, df) = (components.standard_error(), components.df());
        let mut evidence = Self {
            difference,
            standard_error,
            df,
            interval: [0.0; 2],
            p: (2.0 * t_tail(difference.abs() / standard_error, df)).min(1.0),
            components,
        };
        evidence.interval = evidence.interval_at(1.0 - ALPHA);
        evidence
    }

    /// Interval that covers the true difference with this chance.
    pub fn interval_at(&self, coverage: f64) -> [f64; 2] {
        let half = t_upper((1.0 - coverage) / 2.0, self.df) * self.standard_error;
        [self.difference - half, self.difference + half]
    }

    /// One-sided p-value of "the first is worse than the second by the margin or more": small if the first is shown non-inferior.
    pub fn p_non_inferior(&self, margin: Margin) -> f64 {
        let room = self.difference + margin.get();
        t_tail(room / self.standard_error, self.df)
    }

    /// One-sided p-value of "the first is better than the second by the margin or more": small if the second is shown non-inferior.
    pub fn p_not_better(&self, margin: Margin) -> f64 {
        let room = margin.get() - self.difference;
        t_tail(room / self.standard_error, self.df)
    }

    /// p-value of two one-sided tests (Schuirmann 1987) of "they differ by the margin or more": at most 5 % exactly if
    /// the 90 % interval lies inside ± the margin.
    pub fn p_equivalent(&self, margin: Margin) -> f64 {
        self.p_non_inferior(margin).max(self.p_not_better(margin))
    }
}
