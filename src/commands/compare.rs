//! `compare`: trains every method on identical data over one frozen backbone, and reports.

use std::process::ExitCode;

use anyhow::Result;
use record::{RunRecord, Status};
use reports::{Comparison, Findings, tables};

use super::report;
use crate::{
    execute::{
        local::{self, How},
        progress::Verbosity,
    },
    exit,
    plan::{self, Shared},
    records,
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
    if let Some(code) = ended.say_end(trials.len() * seeds.len(), verbosity) {
        return Ok(code);
    }
    // A part of the methods is made, all that was made under the same conditions is reported.
    let all = records::read(&base.out)?;
    let comparisons = of_these(&all, &ended.records);
    let written = reports::write_report(&all, &Findings::read(&base.out)?, &base.out)?;
    if verbosity == Verbosity::Json {
        let all: Vec<_> = comparisons.iter().map(tables::json).collect();
        let event = serde_json::json!({ "event": "compared", "comparisons": all });
        say!("{event}")?;
    } else {
        report::show(&comparisons, &written.files, verbosity)?;
    }
    Ok(exit::after(
        ended.records.iter().any(|r| r.status != Status::Ok),
    ))
}

/// The comparisons that one of these runs belongs to.
pub fn of_these(all: &[RunRecord], made: &[RunRecord]) -> Vec<Comparison> {
    let made = |id: &str| made.iter().any(|r| r.id == id);
    let comparisons = Comparison::from_records(all).into_iter();
    comparisons
        .filter(|c| c.records.iter().any(|r| made(&r.id)))
        .collect()
}
