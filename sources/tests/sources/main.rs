//! Tests of fetching, over a hub on loopback, caches in temporary folders and a local pip folder.
#![allow(clippy::unwrap_used)]

mod folders;
mod hub;
mod packages;
mod settings;
#[path = "../../../tests/skip.rs"]
mod skip;
mod spec;
mod support;
