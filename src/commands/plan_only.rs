//! `compare --plan-only`: checks everything and writes the runs that are missing for a scheduler to make.

use std::{
    fs,
    path::{Path, PathBuf, absolute},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result};
use record::{store, write_whole};
use reports::row::method_label;

use super::compare;
use crate::{
    execute::{
        local::Planned,
        plan_file,
        progress::Verbosity,
        submit::{MAX_ARRAY, Tasks},
    },
    folders,
};

/// Seconds that a run may take where no record tells.
const UNKNOWN_SECONDS: f64 = 3600.0;
/// How many times its measured seconds a run may take.
const MARGIN: f64 = 3.0;

/// What is written, and how its tasks are cut.
pub struct Asked {
    /// The folder of the plan file.
    pub folder: PathBuf,
    /// Runs that one task makes, one after the other.
    pub per_task: usize,
    /// Tasks at the same time at most.
    pub parallel: Option<usize>,
    /// Goes to sbatch as it is.
    pub more: Vec<String>,
}

/// `compare --plan-only`.
///
/// # Errors
/// On bad input, or if the folder cannot be written.
pub fn plan_only(comparison: &compare::Asked, asked: &Asked) -> Result<ExitCode> {
    folders::check_writable(&asked.folder, "--plan-only")?;
    let (base, planned) = comparison.planned(Verbosity::Normal)?;
    let records = folders::records_folder(&base.out);
    let mut missing: Vec<&Planned> = Vec::new();
    for run in &planned {
        if !store::find(&records, &run.id)?.is_some_and(|r| r.status.is_whole()) {
            missing.push(run);
        }
    }
    if missing.is_empty() {
        match planned.len() {
            0 => eprintln!("no method wants more seeds; there is nothing to make"),
            n => eprintln!("all {n} runs have a record already; there is nothing to make"),
        }
        return Ok(ExitCode::SUCCESS);
    }
    let folder = absolute(&asked.folder)?;
    let path = plan_file::write(&folder, missing.iter().copied())?;
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let tasks = Tasks {
        folder: &folder,
        program: &program,
        runs: missing.len(),
        per_task: asked.per_task,
        parallel: asked.parallel,
        seconds: (MARGIN * seconds(&records, &missing)? * asked.per_task as f64).max(600.0) as u64,
        max_array: max_array(),
    };
    let logs = folder.join("logs");
    fs::create_dir_all(&logs).with_context(|| logs.display().to_string())?;
    for (name, text) in [
        ("submit.sbatch", tasks.sbatch()),
        ("job.yaml", tasks.kubernetes()),
    ] {
        write_whole(&folder.join(name), text.as_bytes())?;
    }
    eprintln!(
        "{}: {} runs of {}",
        path.display(),
        missing.len(),
        planned.len()
    );
    for line in tasks.sbatch_lines(&asked.more) {
        say!("{line}")?;
    }
    say!("# or with HyperQueue: {}", tasks.hyperqueue())?;
    say!(
        "# or on machines that share the folder: peftbench work {}",
        folder.display()
    )?;
    say!(
        "# then: peftbench report --records {}",
        absolute(&base.out)?.display()
    )?;
    Ok(ExitCode::SUCCESS)
}

/// Seconds of the longest of these runs, by the records of like ones.
fn seconds(records: &Path, missing: &[&Planned]) -> Result<f64> {
    let known = store::read_dir(records)?.records;
    let of = |run: &Planned| {
        let method = &run.asked.method;
        let like = known.iter().filter(|r| {
            let asked = &r.asked.method;
            method_label(&asked.name, &asked.variant) == method_label(&method.name, &method.variant)
        });
        let costs = like.filter_map(|r| r.cost.as_ref());
        costs
            .map(|c| c.seconds_to_first_step + c.training_seconds + c.evaluation_seconds)
            .reduce(f64::max)
            .unwrap_or(UNKNOWN_SECONDS)
    };
    Ok(missing.iter().map(|run| of(run)).fold(0.0, f64::max))
}

/// Tasks of one array at most, as the cluster says.
fn max_array() -> usize {
    let asked = Command::new("scontrol").args(["show", "config"]).output();
    let text = asked.map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
    text.unwrap_or_default()
        .lines()
        .find_map(|line| {
            line.strip_prefix("MaxArraySize")?
                .split('=')
                .nth(1)?
                .trim()
                .parse()
                .ok()
        })
        .filter(|n| *n > 0)
        .unwrap_or(MAX_ARRAY)
}
