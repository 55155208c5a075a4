//! `compare`: trains every method on identical data over one frozen backbone, and reports.

use std::process::ExitCode;

use anyhow::Result;
use record::Status;
use reports::tables;

use super::{report, suite::Asked};
use crate::{
    execute::{cost::Cost, local, progress::Verbosity},
    exit, plan,
    signals::Signals,
};

/// `compare`, of a data set or of a suite.
///
/// # Errors
/// On bad input.
pub fn compare(asked: &Asked<'_>) -> Result<ExitCode> {
    let Asked {
        shared,
        methods,
        seeds,
        how,
        dry_run,
    } = *asked;
    if let Some(suite) = crate::suite::find(&shared.data.name)? {
        return super::suite::suite(&suite, asked);
    }
    let verbosity = how.verbosity;
    let (base, overrides) = shared.plan()?;
    let trials = plan::trials(methods, &overrides)?;
    let seeds = plan::seeds(seeds, &base.budget)?;
    if dry_run {
        let planned = local::plan(&base, &trials, &seeds, verbosity)?;
        Cost::of(&planned, &base.out)?.show(verbosity)?;
        return Ok(ExitCode::SUCCESS);
    }
    let signals = Signals::handle()?;
    let ended = local::compare(&base, &trials, &seeds, how, &signals)?;
    if let Some(code) = ended.say_end(trials.len() * seeds.len(), verbosity) {
        return Ok(code);
    }
    // A part of the methods is made, all that was made under the same conditions is reported.
    let report = report::of_folder(&base.out)?;
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
