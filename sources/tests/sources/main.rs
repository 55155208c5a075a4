//! Tests of fetching, over a hub on loopback, caches in temporary folders, package indexes on loopback and archives that lie.
#![allow(clippy::unwrap_used)]

mod archives;
mod folders;
mod hub;
mod lies;
mod packages;
mod repositories;
mod settings;
#[path = "../../../tests/skip.rs"]
mod skip;
mod spec;
mod support;
