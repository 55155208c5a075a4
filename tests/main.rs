//! All integration tests in one binary.
#![allow(clippy::unwrap_used)]

mod command_line;
mod formats;
mod fuzz;
mod parity;
mod support;
