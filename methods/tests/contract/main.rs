//! What every method promises. The registry is iterated, so that no method can be left out.
#![allow(clippy::unwrap_used)]

mod batches;
mod configuration;
mod counts;
mod loading;
mod merging;
mod support;
mod training;

use peftbench_methods as methods;
