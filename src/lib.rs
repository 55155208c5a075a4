//! peftbench as a library: what the binary, the integration tests and the benches share.
//!
//! Data walks: [`plan`] → [`prepare`] (data and backbone in memory) → [`train`] (token ids, packed batch, backbone with
//! hooks, head, loss, step, record) → the reports crate. [`execute`] makes many runs, a process each; [`commands`] is
//! what a user asks for.
#![forbid(unsafe_code)]
// The standard library's would pass on what steers a terminal: what is said goes through `output`.
#![warn(clippy::print_stderr)]

// First: the others use its macro.
#[macro_use]
pub mod output;

pub mod backbone_settings;
pub mod backbones;
pub mod capabilities;
pub mod card;
pub mod chat;
pub mod cli;
pub mod columns;
pub mod commands;
pub mod digest_note;
pub mod download_bar;
pub mod examples;
pub mod execute;
pub mod exit;
pub mod folders;
pub mod formats;
pub mod generate;
pub mod gguf_tokenizer;
pub mod hub_id;
pub mod labels;
pub mod latency;
pub mod measure;
pub mod objective;
pub mod plan;
pub mod precision;
pub mod prepare;
pub mod records;
#[cfg(test)]
#[path = "../reports/tests/support/sample.rs"]
mod sample;
pub mod saved;
pub mod scheduler;
pub mod signals;
pub mod study;
pub mod suite;
pub mod task_library;
pub mod tensorboard;
pub mod texts;
pub mod train;
pub mod units;
pub mod weights;

pub use datasets::nearest;
