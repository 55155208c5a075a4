//! `train`: one method with one seed.

use std::{process::ExitCode, time::Instant};

use anyhow::{Context, Result};
use reports::record::{RunRecord, Status};

use crate::{
    execute::progress::{RunProgress, Verbosity},
    exit, folders,
    plan::{self, Shared},
    signals,
    train::run,
};

/// `train`.
///
/// # Errors
/// On bad input.
pub fn train(
    shared: &Shared,
    method: &str,
    seed: u64,
    json: bool,
    started: Instant,
) -> Result<ExitCode> {
    let (mut plan, overrides) = shared.plan()?;
    let trials = plan::trials(&[method.to_owned()], &overrides)?;
    plan.trial = trials.into_iter().next().context("one method")?;
    plan.seed = seed;
    let stop = signals::stop_flag()?;
    folders::check_writable(&folders::records_folder(&plan.out))?;
    let mut board = RunProgress::new(vec![plan.trial.method.clone()], Verbosity::Normal);
    board.start(0, plan.seed, "");
    let record = run::run(&plan, started, &stop, &mut |event| board.tell(&event))?;
    board.finish(&record);
    board.close();
    if json {
        say!("{}", serde_json::to_string_pretty(&record)?)?;
    } else if record.status == Status::Ok {
        say!(
            "{}",
            folders::weights_folder(&plan.out, &record.id).display()
        )?;
    }
    Ok(code_of(&record))
}

fn code_of(record: &RunRecord) -> ExitCode {
    match record.status {
        Status::Ok => ExitCode::SUCCESS,
        Status::Interrupted => ExitCode::from(exit::INTERRUPTED),
        Status::Diverged { .. } | Status::Failed { .. } => ExitCode::from(exit::SOME_FAILED),
    }
}
