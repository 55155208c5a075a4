//! peftbench as a library: what the binary, the integration tests and the benches share.
//!
//! Data walks: [`plan`] → [`prepare`] (token ids, backbone) → [`trainer`] (packed batch, backbone with hooks,
//! head, loss, step) → [`run`] (record) → the reports crate.
#![forbid(unsafe_code)]

pub mod capabilities;
pub mod cli;
pub mod commands;
pub mod compare;
pub mod head;
pub mod measure;
pub mod optimiser;
pub mod plan;
pub mod prepare;
pub mod progress;
pub mod recipe;
pub mod run;
pub mod trainer;
pub mod weights;
