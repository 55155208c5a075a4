//! Records of runs, and everything that is derived from them: statistics, tables, plots and the HTML page.
//!
//! A report never sees a tensor: it reads [`record::RunRecord`]s only.
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate self as peftbench_reports;

pub mod comparison;
pub mod error;
pub mod format;
pub mod quantity;
pub mod record;
pub mod statistics;
pub mod store;
pub mod tables;

#[cfg(test)]
#[path = "../tests/support/sample.rs"]
mod sample;

pub use comparison::Comparison;
pub use error::{Error, Result};
