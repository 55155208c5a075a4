//! Records of runs, and everything that is derived from them: statistics, tables, plots and the HTML page.
//!
//! A report never sees a tensor: it reads [`record::RunRecord`]s only.
#![forbid(unsafe_code)]

pub mod record;
