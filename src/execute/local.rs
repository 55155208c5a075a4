//! A comparison: one process per run, seed by seed with the methods interleaved, only what is missing.
//!
//! A process per run starts with fresh memory and thread pools, and a crash costs one record.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::{Context, Result, anyhow};
use reports::{
    comparison::method_label,
    record::{Asked, FORMAT, RunRecord, Status},
    store,
};

use super::progress::{RunProgress, Verbosity};
use crate::{
    exit, folders, measure,
    plan::{RunPlan, Trial},
    train::{
        prepared::{Prepared, id_of},
        trainer::Event,
    },
};

/// How a comparison ended.
pub struct Executed {
    /// Records of all planned runs that have one, in the order of the plan.
    pub records: Vec<RunRecord>,
    /// Runs that had a record already.
    pub reused: usize,
    /// Whether the user stopped it.
    pub interrupted: bool,
}

impl Executed {
    /// Says what was reused and what is left; the exit code if the user stopped the runs.
    pub fn say_end(&self, all: usize, verbosity: Verbosity) -> Option<ExitCode> {
        if self.reused > 0 && verbosity == Verbosity::Normal {
            eprintln!("{} of {all} runs had a record already", self.reused);
        }
        self.interrupted.then(|| {
            eprintln!(
                "interrupted: {} of {all} runs have ended; the same command goes on with the rest",
                self.whole()
            );
            ExitCode::from(exit::INTERRUPTED)
        })
    }

    /// Runs that were not interrupted.
    pub fn whole(&self) -> usize {
        self.records
            .iter()
            .filter(|r| r.status != Status::Interrupted)
            .count()
    }
}

/// A run that has been checked and is ready to start.
pub struct Planned {
    /// Its plan.
    pub plan: RunPlan,
    /// What determines it.
    pub asked: Asked,
    /// Its name.
    pub id: String,
    /// What people call it: the method with what distinguishes it.
    pub label: String,
}

/// Makes the missing runs of a comparison. `base` gives everything but method and seed.
///
/// # Errors
/// If a plan is not valid, data or backbone cannot be had, or the output folder cannot be written.
/// A run that fails is a record, not an error.
pub fn compare(
    base: &RunPlan,
    trials: &[Trial],
    seeds: &[u64],
    verbosity: Verbosity,
    stop: &AtomicBool,
) -> Result<Executed> {
    folders::check_writable(&folders::records_folder(&base.out))?;
    let plans = seeds.iter().flat_map(|seed| {
        trials.iter().map(|trial| RunPlan {
            trial: trial.clone(),
            seed: *seed,
            ..base.clone()
        })
    });
    let planned = plan_all(plans).into_iter().collect::<Result<Vec<_>>>()?;
    run_all(&planned, &[], verbosity, stop)
}

/// Checks every plan before the first run starts.
pub fn plan_all(plans: impl Iterator<Item = RunPlan>) -> Vec<Result<Planned>> {
    // Runs over the same data and backbone share what is in memory, or why it cannot be had.
    let mut settings: BTreeMap<String, Result<Prepared, String>> = BTreeMap::new();
    plans
        .map(|mut plan| {
            let key = format!(
                "{:?} {} {:?}",
                plan.data, plan.backbone, plan.backbone_overrides
            );
            let setting = settings
                .entry(key)
                .or_insert_with(|| Prepared::load(&plan).map_err(|e| format!("{e:#}")))
                .as_ref()
                .map_err(|e| anyhow!("{e}"))?;
            if let Some(asked_for) = &setting.data.stand_in_for {
                plan.data.stand_in_for = Some(asked_for.clone());
                plan.data.name = setting.data.dataset.name.clone();
            }
            let (asked, resolved, _) = setting.asked(&plan)?;
            Ok(Planned {
                id: id_of(&asked)?,
                label: method_label(resolved.entry.name, &resolved.variant),
                plan,
                asked,
            })
        })
        .collect()
}

/// Makes the runs that have no record yet, neither in their own folder nor in one of `elsewhere`.
///
/// # Errors
/// If records cannot be read or written, or no process can be started.
pub fn run_all(
    planned: &[Planned],
    elsewhere: &[PathBuf],
    verbosity: Verbosity,
    stop: &AtomicBool,
) -> Result<Executed> {
    let mut ended = Executed {
        records: Vec::new(),
        reused: 0,
        interrupted: false,
    };
    let mut board = RunProgress::new(planned.iter().map(|p| p.label.clone()).collect(), verbosity);
    let mut seen = BTreeSet::new();
    for (i, run) in planned.iter().enumerate() {
        // Two plans can ask for the same run.
        if !seen.insert(&run.id) {
            board.skip(i, None);
            continue;
        }
        let records = folders::records_folder(&run.plan.out);
        if let Some(record) = finished(&records, elsewhere, &run.id)? {
            ended.reused += 1;
            board.skip(i, Some(&record));
            ended.records.push(record);
            continue;
        }
        if stop.load(Ordering::Relaxed) {
            ended.interrupted = true;
            break;
        }
        board.start(i, run.plan.seed, &run.id);
        let circumstances = measure::circumstances();
        let error = spawn(&run.plan, &mut board)?;
        let record = match store::find(&records, &run.id)? {
            Some(record) if record.circumstances.started >= circumstances.started => record,
            // The process ended without a record of its own.
            _ => {
                let status = if stop.load(Ordering::Relaxed) {
                    Status::Interrupted
                } else {
                    Status::Failed {
                        error: error.unwrap_or_else(|| "the run left no record".to_owned()),
                    }
                };
                let record = RunRecord {
                    format: FORMAT,
                    id: run.id.clone(),
                    asked: run.asked.clone(),
                    status,
                    outcome: None,
                    cost: None,
                    circumstances,
                };
                store::write(&records, &record)?;
                record
            }
        };
        board.finish(&record);
        let interrupted = record.status == Status::Interrupted;
        ended.records.push(record);
        if interrupted {
            ended.interrupted = true;
            break;
        }
    }
    board.close();
    Ok(ended)
}

/// The record of a run that need not be made again. One from elsewhere is copied.
fn finished(own: &Path, elsewhere: &[PathBuf], id: &str) -> Result<Option<RunRecord>> {
    let whole = |r: &RunRecord| matches!(r.status, Status::Ok | Status::Diverged { .. });
    if let Some(record) = store::find(own, id)?.filter(whole) {
        return Ok(Some(record));
    }
    for folder in elsewhere {
        if let Some(record) = store::find(folder, id)?.filter(whole) {
            store::write(own, &record)?;
            return Ok(Some(record));
        }
    }
    Ok(None)
}

/// Runs a plan in a process of its own; returns what it said when it failed.
fn spawn(plan: &RunPlan, board: &mut RunProgress) -> Result<Option<String>> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let mut child = Command::new(program)
        .args(["run-plan", "--threads", &kernels::threads().to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start a process for the run")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(&serde_json::to_vec(plan)?)?;
    }
    let stderr = child.stderr.take().map(|stderr| {
        thread::spawn(move || {
            let mut last = VecDeque::new();
            for text in BufReader::new(stderr).lines().map_while(Result::ok) {
                last.push_back(text);
                if last.len() > 20 {
                    last.pop_front();
                }
            }
            last
        })
    });
    if let Some(stdout) = child.stdout.take() {
        for text in BufReader::new(stdout).lines().map_while(Result::ok) {
            if let Ok(event) = serde_json::from_str::<Event>(&text) {
                board.tell(&event);
            }
        }
    }
    let status = child.wait()?;
    let said: Vec<String> = stderr
        .and_then(|t| t.join().ok())
        .unwrap_or_default()
        .into();
    for note in said.iter().filter(|l| l.starts_with("note: ")) {
        board.note(note);
    }
    Ok((!status.success()).then(|| {
        format!(
            "the run's process ended with {status}: {}",
            said.join(" / ")
        )
    }))
}
