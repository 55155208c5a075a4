//! What the crate does with good files, bad files and real ones.
#![allow(clippy::unwrap_used)]

mod bad_input;
mod documented;
mod properties;
mod reading;
mod real;
#[path = "../../../tests/skip.rs"]
mod skip;
mod support;
mod tables;
mod tokenising;
mod tokenizer_files;
