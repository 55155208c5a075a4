//! Common claims, tested on records.
//!
//! A claim is a list of rules in a YAML ([`CLAIMS`]): each measures one thing and says which values it accepts.
//! A measurement has a 95 % interval `[l, h]` (a point where the number is exact, such as a parameter count), and
//! a rule with the accepted range `[a, b]`
//!
//! - holds where `a ≤ l` and `h ≤ b`,
//! - does not hold where `h < a` or `b < l`,
//! - is undecided otherwise; then the seeds or examples that it lacks are said, where they are known ([`statistics::Remedy`]).
//!
//! A claim holds if every rule does: all must be shown, so each may be tested at 5 % (an intersection-union test, Berger 1982). It does
//! not hold if one of its rules does not: any may fail by chance, so for that the measurements are corrected together after Holm, by
//! intervals of the coverage 1 − 5 % / (how many are left). What was measured on several data sets is judged by the mean over them
//! ([`statistics::Combined`]), not by the worst. Several comparisons of one data set (under several budgets, precisions or backbones) are one data
//! set: they share their examples, so their mean is as uncertain as they are themselves. Where seeds were added between looks, the
//! intervals of the metric are those of the last look ([`statistics::Looks`]). Methods are taken with their default configuration; tuned rows
//! and variants do not count.
//!
//! Intervals: differences of the metric are [`statistics::Evidence`] over seeds and examples, from three seeds on; a mean over a learning curve is
//! one too, where the predictions on the way are kept; ratios of times are taken by seed, and the sitting (the process of a latency, the
//! hour of a training) is the replicate ([`statistics::Ratio`]), latencies over all settings that were timed; ratios of variances have the interval of
//! the F distribution. The distance to the best of the other points is the least of the differences to each: its lower end needs no
//! correction, for whichever is the best, its own interval holds; its upper end is that of all together. The best of each of two series is chosen
//! for one half of the examples on the other half, so that no number judges a choice that was made on it. The best place of a series is somewhere
//! among the points that are not shown to be worse than the highest.

mod claim;
mod judged;
mod measured;
mod of_comparison;
mod of_study;
#[cfg(test)]
mod tests;

pub use judged::{Judged, judge_all, markdown};
#[cfg(test)]
pub use measured::Measurement;
pub use measured::Verdict;
