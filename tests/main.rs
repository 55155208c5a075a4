//! All integration tests in one binary.
#![allow(clippy::unwrap_used)]

mod command_line;
mod parity;
mod studies;
mod support;
