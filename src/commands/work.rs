//! `work`: makes the runs of a plan file; any number of machines may do so over one shared folder.

use std::{path::Path, process::ExitCode};

use anyhow::{Result, ensure};
use record::Status;

use crate::{
    execute::{
        local::{self, How, Planned},
        plan_file::{self, Line},
        submit::task_from,
    },
    exit,
    signals::Signals,
};

/// `work`: all runs of the plan file in a folder that nobody else makes.
///
/// # Errors
/// If the plan file is not valid, or data or backbone are not found.
pub fn work(folder: &Path, how: How) -> Result<ExitCode> {
    let lines = plan_file::read(&folder.join(plan_file::NAME))?;
    make(&plan_file::check(&lines)?, how)
}

/// `run-plan --from`: the runs of one task of a plan file. The exit code is 0 where every run has a record (diverged
/// too), 42 where trying again cannot help, and another one where it can.
///
/// # Errors
/// If records cannot be read or written, which another try may find mended.
pub fn task(from: &Path, task: Option<usize>, per_task: usize, how: How) -> Result<ExitCode> {
    let planned = lines_of(from, task, per_task).and_then(|lines| plan_file::check(&lines));
    match planned {
        Ok(planned) => make(&planned, how),
        Err(error) => {
            eprintln!("error: {error:#}");
            Ok(ExitCode::from(exit::NEVER_AGAIN))
        }
    }
}

/// The lines of a task.
fn lines_of(from: &Path, task: Option<usize>, per_task: usize) -> Result<Vec<Line>> {
    let lines = plan_file::read(from)?;
    let named = || task_from(|name| std::env::var(name).ok()).map_err(anyhow::Error::msg);
    let task = match task {
        Some(task) => Some(task),
        None => named()?,
    };
    let tasks = lines.len().div_ceil(per_task);
    ensure!(
        task.is_some_and(|task| task < tasks),
        "{}: it has the tasks 0 to {}, {}; give --task, or start it as a task of Slurm (SLURM_ARRAY_TASK_ID), \
         Kubernetes (JOB_COMPLETION_INDEX) or HyperQueue (HQ_TASK_ID)",
        from.display(),
        tasks - 1,
        task.map_or_else(
            || "but none is named".to_owned(),
            |task| format!("but no task {task}")
        )
    );
    let first = task.unwrap_or(0) * per_task;
    Ok(lines.into_iter().skip(first).take(per_task).collect())
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
