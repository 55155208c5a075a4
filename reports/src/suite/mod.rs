//! The verdict over many data sets: comparisons under one recipe, taken together.
//!
//! The data sets are a sample of those that could be asked about, so a mean difference has an interval over data sets
//! ([`statistics::Combined`]: Hartung and Knapp), beside which stand the probability of improvement and the average rank with its critical
//! difference. Metrics of different kinds are averaged as boards do it: points of a fraction and of a correlation count alike.
//!
//! A suite's folder holds a [`Manifest`]; everything that is said of it follows from that and the records.

mod judged;
mod manifest;
mod pair;
mod places;
mod verdict;

#[cfg(test)]
mod tests;

pub use judged::Judged;
pub use manifest::{Manifest, Part, read_all};
pub use verdict::judge;
