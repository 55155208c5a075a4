//! `compare`: trains every method on identical data over one frozen backbone, and reports.

use std::process::ExitCode;

use anyhow::Result;
use record::Status;
use reports::tables;

use super::report;
use crate::{
    card,
    execute::{
        local::{self, How},
        progress::Verbosity,
    },
    exit,
    plan::{self, Shared},
    signals::Signals,
};

/// `compare`.
///
/// # Errors
/// On bad input.
pub fn compare(
    shared: &Shared,
    methods: &[String],
    seeds: Option<usize>,
    how: How,
) -> Result<ExitCode> {
    let verbosity = how.verbosity;
    let (base, overrides) = shared.plan()?;
    let trials = plan::trials(methods, &overrides)?;
    let seeds = plan::seeds(seeds, &base.budget)?;
    let signals = Signals::handle()?;
    let ended = local::compare(&base, &trials, &seeds, how, &signals)?;
    shared.write_events(&ended.records)?;
    if let Some(code) = ended.say_end(trials.len() * seeds.len(), verbosity) {
        return Ok(code);
    }
    // A part of the methods is made, all that was made under the same conditions is reported.
    let report = report::of_folder(&base.out)?;
    let files = report.write(&base.out, true)?;
    let ids: Vec<&str> = ended.records.iter().map(|r| r.id.as_str()).collect();
    let comparisons: Vec<_> = report.about(&ids).collect();
    for comparison in &comparisons {
        card::write_all(comparison, &base.out)?;
    }
    if verbosity == Verbosity::Json {
        let all: Vec<_> = comparisons.iter().map(|c| tables::json(c)).collect();
        crate::output::event(serde_json::json!({ "event": "compared", "comparisons": all }))?;
    } else {
        report::show(&comparisons, &files, verbosity)?;
    }
    Ok(exit::after(
        ended.records.iter().any(|r| r.status != Status::Ok),
    ))
}
