//! All integration tests in one binary.
#![allow(clippy::unwrap_used)]

mod cards;
mod cluster;
mod command_line;
mod completion;
mod decoders;
mod doors;
mod examples;
mod family_parity;
mod features;
mod flops;
mod formats;
mod fuzz;
mod hub_ids;
mod kinds;
mod latency_and_domains;
mod objectives;
mod own_files;
mod parity;
mod precision;
mod predict;
mod processes;
mod real;
mod refusals;
#[path = "../reports/tests/support/sample.rs"]
mod sample;
mod scale;
mod serving;
mod soak;
mod studies;
mod suites;
mod support;
mod task_library;
mod wheel;
