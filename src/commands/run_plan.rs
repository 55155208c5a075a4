//! `run-plan`: makes the run whose plan stands on standard input; events go to standard output.

use std::{
    io::{Read, Write},
    process::ExitCode,
    sync::atomic::Ordering,
    time::Instant,
};

use anyhow::{Context, Result};

use crate::{
    plan::RunPlan,
    signals,
    train::{run, trainer::Event},
};

/// `run-plan`: a plan on standard input, events on standard output.
///
/// # Errors
/// On bad input.
pub fn run_plan(started: Instant) -> Result<ExitCode> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let plan: RunPlan = serde_json::from_str(&text).context("the plan on standard input")?;
    let stop = signals::stop_flag()?;
    let record = run::run(&plan, started, &stop, &mut |event: Event| {
        let said = serde_json::to_string(&event).map(|line| writeln!(std::io::stdout(), "{line}"));
        if !matches!(said, Ok(Ok(()))) {
            // The comparison that started this run is gone.
            stop.store(true, Ordering::SeqCst);
        }
    })?;
    // The record says how the run ended.
    drop(record);
    Ok(ExitCode::SUCCESS)
}
