//! What an undecided pair lacks.

use serde::Serialize;

/// What would decide an undecided pair, taking the difference found for the true one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Needs {
    /// Seeds beside those that there are; absent if no number of seeds is enough.
    pub more_seeds: Option<usize>,
    /// Examples beside those that there are; absent if no number of examples is enough.
    pub more_examples: Option<usize>,
    /// Seconds that the runs of these seeds take, as long as those that there are.
    pub seconds: Option<f64>,
}
