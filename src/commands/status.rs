//! `status`: how far the runs of a plan file, or of a comparison's folder, are.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use record::{RunRecord, Status, store};
use reports::{format, row::method_label};
use serde::Serialize;

use crate::{
    execute::{
        claim::{self, Owner},
        plan_file,
    },
    folders,
};

/// Where a run is.
#[derive(Serialize)]
#[serde(tag = "is", rename_all = "snake_case")]
enum State {
    Done,
    Diverged,
    Running { by: Owner },
    Failed { error: String },
    Interrupted,
    Waiting,
}

#[derive(Serialize)]
struct Run {
    id: String,
    label: String,
    seed: u64,
    #[serde(flatten)]
    state: State,
    /// Seconds of training and evaluation, of a run that is done.
    seconds: Option<f64>,
}

/// `status`: reads the plan file, records and claims; nothing else is asked.
///
/// # Errors
/// If the folder is not there, or holds neither a plan file nor records.
pub fn status(folder: &Path, json: bool) -> Result<ExitCode> {
    let runs = runs(folder)?;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for run in &runs {
        *counts.entry(word(&run.state)).or_default() += 1;
    }
    let seconds: Vec<f64> = runs.iter().filter_map(|r| r.seconds).collect();
    // The sum of nothing is −0.0.
    let cost = 0.0 + seconds.iter().sum::<f64>();
    let count = |word: &str| counts.get(word).copied().unwrap_or(0);
    let left = count("waiting") + count("running") + count("failed") + count("interrupted");
    // As many at the same time as now.
    let eta = (!seconds.is_empty() && count("running") > 0)
        .then(|| left as f64 * cost / seconds.len() as f64 / count("running") as f64);
    if json {
        let all = serde_json::json!({
            "runs": runs, "counts": counts, "training_seconds": cost, "remaining_seconds": eta,
        });
        say!("{all}")?;
        return Ok(ExitCode::SUCCESS);
    }
    let parts: Vec<String> = counts
        .iter()
        .map(|(word, n)| format!("{n} {word}"))
        .collect();
    say!("{} runs: {}", runs.len(), parts.join(", "))?;
    for run in &runs {
        let what = match &run.state {
            State::Running { by } => format!("running: {by}"),
            State::Failed { error } => format!("failed: {}", error.lines().last().unwrap_or("")),
            State::Interrupted => "interrupted; it is made again by whoever comes next".to_owned(),
            _ => continue,
        };
        say!("{} seed {} ({}): {what}", run.label, run.seed, run.id)?;
    }
    let left = eta.map_or_else(String::new, |s| {
        format!(", about {} left", format::seconds(s.ceil()))
    });
    say!("{} of training so far{left}", format::seconds(cost))?;
    Ok(ExitCode::SUCCESS)
}

fn word(state: &State) -> &'static str {
    match state {
        State::Done => "done",
        State::Diverged => "diverged",
        State::Running { .. } => "running",
        State::Failed { .. } => "failed",
        State::Interrupted => "interrupted",
        State::Waiting => "waiting",
    }
}

fn runs(folder: &Path) -> Result<Vec<Run>> {
    let plan = folder.join(plan_file::NAME);
    if !plan.is_file() {
        return of_records(&folders::records_folder(folder));
    }
    let lines = plan_file::read(&plan)?;
    let folders: BTreeSet<PathBuf> = lines
        .iter()
        .map(|line| folders::records_folder(&line.plan.out))
        .collect();
    let mut records = BTreeMap::new();
    for folder in &folders {
        let read = store::read_dir(folder)?.records;
        records.extend(read.into_iter().map(|r| (r.id.clone(), r)));
    }
    let run = |line: plan_file::Line| {
        let owner = claim::owner(&folders::records_folder(&line.plan.out), &line.id);
        let record = records.get(&line.id);
        Run {
            state: state(record, owner),
            seconds: record.and_then(seconds),
            id: line.id,
            label: line.label,
            seed: line.plan.seed,
        }
    };
    Ok(lines.into_iter().map(run).collect())
}

/// Without a plan file: the runs that have a record or a claim.
fn of_records(folder: &Path) -> Result<Vec<Run>> {
    let entries = fs::read_dir(folder).with_context(|| {
        format!(
            "{}: no such folder; name the folder of --plan-only, or that of a comparison",
            folder.display()
        )
    })?;
    let mut claimed: BTreeMap<String, Owner> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let id = name.strip_suffix(".claim")?.to_owned();
            Some((id.clone(), claim::owner(folder, &id)?))
        })
        .collect();
    let mut runs: Vec<Run> = store::read_dir(folder)?
        .records
        .iter()
        .map(|r| Run {
            id: r.id.clone(),
            label: method_label(&r.asked.method.name, &r.asked.method.variant),
            seed: r.asked.seed,
            state: state(Some(r), claimed.remove(&r.id)),
            seconds: seconds(r),
        })
        .collect();
    runs.extend(claimed.into_iter().map(|(id, by)| Run {
        label: "a run".to_owned(),
        id,
        seed: 0,
        state: State::Running { by },
        seconds: None,
    }));
    Ok(runs)
}

fn state(record: Option<&RunRecord>, owner: Option<Owner>) -> State {
    match (record.map(|r| &r.status), owner) {
        (Some(Status::Ok), _) => State::Done,
        (Some(Status::Diverged { .. }), _) => State::Diverged,
        (_, Some(by)) => State::Running { by },
        (Some(Status::Failed { error }), _) => State::Failed {
            error: error.clone(),
        },
        (Some(Status::Interrupted), _) => State::Interrupted,
        (None, None) => State::Waiting,
    }
}

fn seconds(record: &RunRecord) -> Option<f64> {
    let cost = record.cost.as_ref()?;
    Some(cost.training_seconds + cost.evaluation_seconds)
}
