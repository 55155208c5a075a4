//! The statistics of a comparison: numbers in, numbers out.
//!
//! Two things vary when a method is run again: the seed, and the examples that it is judged on. [`Scores`] hold a number per seed and
//! example (right or wrong, or a pseudo-value of the [`jackknife`]); [`Components`] says how much of the uncertainty of their mean
//! comes from seeds, from examples and from neither; [`Row`] is one method's mean with its interval, [`Evidence`] the difference
//! of two, and a [`Family`] all pairs of a comparison with the four verdicts ([`Verdict`]) under one correction.
//!
//! A [`Procedure`] says which methods want more seeds until all is decided, [`recommend`] which method to take. [`Combined`], [`overall_verdicts`] and [`Ranks`] are for
//! many data sets, [`Ratio`] for times, [`expected_best`] for searches.
//!
//! ```
//! use statistics::{Family, Margin, Scores, Verdict};
//!
//! // Three seeds of two methods on 500 examples: the first is right on 90 % of them, the second on 80 %.
//! let right = |examples: usize| (0..500).map(|j| j < examples).collect::<Vec<bool>>();
//! let first = Scores::right((0..3).map(|seed| (seed, right(450))))?;
//! let second = Scores::right((0..3).map(|seed| (seed, right(400))))?;
//! let family = Family::new(&[first, second], Margin::POINT);
//! assert_eq!(family.pairs[0].verdict, Verdict::Better);
//! assert_eq!(family.letters(), ["a", "b"]);
//! # Ok::<(), statistics::Error>(())
//! ```
//!
//! No words, no files, no plots. Every formula names its source, is checked against an independent computation
//! (`tests/fixtures/generate_statistics.py`), and what a verdict promises is checked by simulation with known truth
//! (`tests/support/study.rs`, `just error-rates`).

mod best;
mod bisection;
mod calibration;
mod combined;
mod components;
mod correlation;
mod distribution;
mod entities;
mod error;
mod evidence;
mod expected_best;
mod family;
mod holm;
pub mod jackknife;
mod letters;
mod looks;
mod margin;
mod mcnemar;
mod metric;
mod multi_label;
mod overall;
mod procedure;
mod ranks;
mod remedy;
mod row;
mod sample;
mod scores;
mod sitting;
mod text_metric;
mod verdict;

pub use best::{Recommendation, p_near_best, recommend};
pub use calibration::{CALIBRATION_BINS, Calibration, argmax};
pub use combined::{Combined, Estimate, probability_of_improvement};
pub use components::{Components, Sigma};
pub use correlation::{Correlation, root_mean_square_error};
pub use entities::{Entity, EntityCounts, entities};
pub use error::Error;
pub use evidence::Evidence;
pub use expected_best::{Expected, expected_best};
pub use family::{Corrected, FEWEST_SEEDS, Family, Pair, every_two};
pub use holm::holm;
pub use letters::letters;
pub use looks::Looks;
pub use margin::Margin;
pub use mcnemar::mcnemar_exact;
pub use metric::{Counts, Metric};
pub use multi_label::MultiLabel;
pub use overall::overall_verdicts;
pub use procedure::{Open, Procedure, Standing, State, with_best_or_neighbours};
pub use ranks::Ranks;
pub use remedy::{MOST_EXAMPLES, MOST_SEEDS, Remedy};
pub use row::{Range, Row, wilson};
pub use sample::{Summary, interval_95, mean, percentile, standard_deviation};
pub use scores::Scores;
pub use sitting::{Ratio, Timed};
pub use text_metric::{TextCase, TextMetric};
pub use verdict::Verdict;

/// Error rate of every test and interval, two-sided; of equivalence and non-inferiority, one-sided.
pub const ALPHA: f64 = 0.05;
/// Chance with which a plan wants a true difference to be found.
pub const POWER: f64 = 0.8;
