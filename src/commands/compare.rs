//! `compare`: trains every method on identical data over one frozen backbone, and reports.

use std::process::ExitCode;

use anyhow::Result;
use record::Status;
use reports::tables;

use super::{
    plan_only::{Elsewhere, Then},
    report,
};
use crate::{
    execute::{
        local::{self, How},
        progress::Verbosity,
    },
    exit,
    plan::{self, Shared},
    signals::Signals,
};

/// `compare`; the runs are made here, or `elsewhere`.
///
/// # Errors
/// On bad input.
pub fn compare(
    shared: &Shared,
    methods: &[String],
    seeds: Option<usize>,
    how: How,
    elsewhere: Option<&Elsewhere>,
) -> Result<ExitCode> {
    let verbosity = how.verbosity;
    let (base, overrides) = shared.plan()?;
    let trials = plan::trials(methods, &overrides)?;
    let seeds = plan::seeds(seeds, &base.budget)?;
    if let Some(elsewhere) = elsewhere {
        let planned = local::plan(&base, &trials, &seeds, verbosity)?;
        if let Some(code) = elsewhere.make(&planned, &base.out, Then::Report)? {
            return Ok(code);
        }
    }
    let signals = Signals::handle()?;
    let ended = local::compare(&base, &trials, &seeds, how, &signals)?;
    if let Some(code) = ended.say_end(trials.len() * seeds.len(), verbosity) {
        return Ok(code);
    }
    // A part of the methods is made, all that was made under the same conditions is reported.
    let report = report::of_folder(&base.out, None)?;
    let files = report.write(&base.out, true)?;
    let ids: Vec<&str> = ended.records.iter().map(|r| r.id.as_str()).collect();
    let comparisons: Vec<_> = report.about(&ids).collect();
    if verbosity == Verbosity::Json {
        let all: Vec<_> = comparisons.iter().map(|c| tables::json(c)).collect();
        let event = serde_json::json!({ "event": "compared", "comparisons": all });
        say!("{event}")?;
    } else {
        report::show(&comparisons, &files, verbosity)?;
    }
    Ok(exit::after(
        ended.records.iter().any(|r| r.status != Status::Ok),
    ))
}
