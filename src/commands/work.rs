//! `work`: makes the runs of a plan file; any number of machines may do so over one shared folder.

use std::{path::Path, process::ExitCode};

use anyhow::{Result, bail};
use record::Status;

use crate::{
    execute::{
        local::{self, How},
        plan_file::{self, Line, Refused},
        planned::Planned,
    },
    exit, folders, scheduler,
    signals::Signals,
};

/// `work`: all runs of the plan file in a folder that nobody else makes.
///
/// # Errors
/// If the plan file is not valid, or data or backbone are not found.
pub fn work(folder: &Path, how: How) -> Result<ExitCode> {
    let lines = plan_file::read(&folder.join(plan_file::NAME))?;
    let mut planned = plan_file::check(&lines)?;
    // Every worker begins elsewhere, so that few want the same run.
    let first = u64::from_str_radix(&folders::nonce(), 16).unwrap_or(0) % planned.len() as u64;
    planned.rotate_left(first as usize);
    make(&planned, how)
}

/// Which task of a plan file.
pub struct Task {
    /// Counted from 0; absent where the scheduler tells.
    pub index: Option<usize>,
    /// What is added to the scheduler's.
    pub offset: usize,
    /// Runs that one task makes.
    pub per_task: usize,
}

/// `run-plan --from`: the runs of one task of a plan file. The exit code is 0 where every run has a record (diverged
/// too), 42 where trying again cannot help, and another one where it can.
///
/// # Errors
/// If this machine does not see the file, or data or backbone are not found here; or if records cannot be read or written.
pub fn task(from: &Path, task: &Task, how: How) -> Result<ExitCode> {
    let planned = plan_file::read(from)
        .and_then(|lines| lines_of(from, lines, task).map_err(Refused::Never))
        .and_then(|lines| plan_file::check(&lines));
    match planned {
        Ok(planned) => make(&planned, how),
        Err(Refused::NotHere(error)) => Err(error),
        Err(Refused::Never(error)) => {
            eprintln!("error: {error:#}");
            Ok(ExitCode::from(exit::NEVER_AGAIN))
        }
    }
}

/// The lines of a task.
fn lines_of(from: &Path, lines: Vec<Line>, task: &Task) -> Result<Vec<Line>> {
    let index = match task.index {
        Some(index) => Some(index),
        None => scheduler::task_index(|name| std::env::var(name).ok())
            .map_err(anyhow::Error::msg)?
            .map(|index| index.saturating_add(task.offset)),
    };
    let tasks = lines.len().div_ceil(task.per_task);
    let Some(index) = index.filter(|index| *index < tasks) else {
        bail!(
            "{}: it has the tasks 0 to {}, {}; give --task, or start it as a task of Slurm (SLURM_ARRAY_TASK_ID), \
             Kubernetes (JOB_COMPLETION_INDEX) or HyperQueue (HQ_TASK_ID)",
            from.display(),
            tasks - 1,
            index.map_or_else(
                || "but none is named".to_owned(),
                |index| format!("but no task {index}")
            )
        );
    };
    let first = index * task.per_task;
    Ok(lines.into_iter().skip(first).take(task.per_task).collect())
}

fn make(planned: &[Planned], how: How) -> Result<ExitCode> {
    let signals = Signals::handle()?;
    let ended = local::run_all(planned, &[], how, &signals)?;
    if let Some(code) = ended.say_end(planned.len(), how.verbosity) {
        return Ok(code);
    }
    let failed = |status: &Status| matches!(status, Status::Failed { .. });
    Ok(exit::after(ended.records.iter().any(|r| failed(&r.status))))
}
