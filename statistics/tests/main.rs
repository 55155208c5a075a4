//! One test binary: values against references, behaviour, and error rates by simulation.
#![allow(clippy::unwrap_used)]

mod error_rates;
mod objectives;
mod reference;
mod verdicts;
