//! peftbench as a library: what the binary, the integration tests and the benches share.
//!
//! Data walks: [`plan`] → [`prepare`] (token ids, backbone) → [`trainer`] (packed batch, backbone with hooks,
//! head, loss, step) → [`run`] (record) → the reports crate.
#![forbid(unsafe_code)]

// First: the others use its macro.
#[macro_use]
pub mod output;

pub mod augmenter;
pub mod board;
pub mod capabilities;
pub mod cli;
pub mod commands;
pub mod compare;
pub mod domains;
pub mod exchange;
pub mod formats;
pub mod head;
pub mod hub_id;
pub mod latency;
pub mod measure;
pub mod optimiser;
pub mod plan;
pub mod prepare;
pub mod progress;
pub mod recipe;
pub mod recommend;
pub mod run;
pub mod serve;
pub mod sweep;
pub mod task_library;
pub mod trainer;
pub mod tune;
pub mod weights;
