//! The four things that can be said of two methods.

use serde::Serialize;

/// What is shown of the first of two methods. *Undecided* does not say "equal".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is better.
    Better,
    /// It is worse.
    Worse,
    /// The two differ by less than the margin, and no difference is shown.
    Equivalent,
    /// Neither a difference nor equivalence is shown.
    Undecided,
}

impl Verdict {
    /// The verdict on this difference, given whether one is shown and whether it is shown to be below the margin. A shown difference
    /// comes first, however small.
    pub fn of(difference: f64, differs: bool, within_margin: bool) -> Self {
        match (differs, within_margin) {
            (true, _) if difference > 0.0 => Self::Better,
            (true, _) => Self::Worse,
            (false, true) => Self::Equivalent,
            (false, false) => Self::Undecided,
        }
    }

    /// The verdict as seen from the second method.
    #[must_use]
    pub fn reversed(self) -> Self {
        match self {
            Self::Better => Self::Worse,
            Self::Worse => Self::Better,
            same => same,
        }
    }
}
