//! `compare`: trains every method on identical data over one frozen backbone, and reports.

use std::process::ExitCode;

use anyhow::Result;
use reports::{Comparison, Findings, record::Status, tables};

use super::report;
use crate::{
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
    if let Some(code) = ended.say_end(trials.len() * seeds.len(), verbosity) {
        return Ok(code);
    }
    if verbosity == Verbosity::Json {
        let comparisons = Comparison::from_records(&ended.records);
        reports::write_report(&ended.records, &Findings::read(&base.out)?, &base.out)?;
        let all: Vec<_> = comparisons.iter().map(tables::json).collect();
        let event = serde_json::json!({ "event": "compared", "comparisons": all });
        say!("{event}")?;
    } else {
        let findings = Findings::read(&base.out)?;
        report::show(&ended.records, &findings, &base.out, false, verbosity)?;
    }
    Ok(exit::after(
        ended.records.iter().any(|r| r.status != Status::Ok),
    ))
}
