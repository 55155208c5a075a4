//! A comparison: one process per run, seed by seed with the methods interleaved, only what is missing.
//!
//! A process per run starts with fresh memory and thread pools, and a crash costs one record.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use reports::{
    comparison::method_label,
    record::{Asked, FORMAT, RunRecord, Status},
    store,
};

use super::{
    claim::{Claimed, Claims, Owner},
    progress::{RunProgress, Verbosity},
};
use crate::{
    folders, measure,
    plan::{RunPlan, Trial},
    signals::Signals,
    train::{
        prepared::{Prepared, id_of},
        trainer::Event,
    },
};

/// Pause between two looks at runs that other processes make.
const WAIT: Duration = Duration::from_millis(500);
/// Pause between two looks at the flag that asks to stop.
const POLL: Duration = Duration::from_millis(50);
/// What a run has to stop in before it is killed: more than [`crate::train::run::GRACE`], which it takes for itself.
const GRACE: Duration = Duration::from_millis(1600);

/// How a comparison ended.
pub struct Executed {
    /// Records of all planned runs that have one, in the order of the plan.
    pub records: Vec<RunRecord>,
    /// Runs that had a record already.
    pub reused: usize,
    /// The exit code of the signal that stopped it, if one did.
    pub interrupted: Option<u8>,
}

impl Executed {
    /// Says what was reused and what is left; the exit code if the user stopped the runs.
    pub fn say_end(&self, all: usize, verbosity: Verbosity) -> Option<ExitCode> {
        if self.reused > 0 && verbosity == Verbosity::Normal {
            eprintln!("{} of {all} runs had a record already", self.reused);
        }
        self.interrupted.map(|code| {
            eprintln!(
                "interrupted: {} of {all} runs have ended; the same command goes on with the rest",
                self.whole()
            );
            ExitCode::from(code)
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
    signals: &Signals,
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
    run_all(&planned, &[], verbosity, signals)
}

/// Checks every plan before the first run starts.
pub fn plan_all(plans: impl Iterator<Item = RunPlan>) -> Vec<Result<Planned>> {
    // Runs over the same data and backbone share what is in memory, or why it cannot be had.
    let mut prepared: BTreeMap<String, Result<Prepared, String>> = BTreeMap::new();
    plans
        .map(|mut plan| {
            let key = format!(
                "{:?} {} {:?}",
                plan.data, plan.backbone, plan.backbone_overrides
            );
            let shared = prepared
                .entry(key)
                .or_insert_with(|| Prepared::load(&plan).map_err(|e| format!("{e:#}")))
                .as_ref()
                .map_err(|e| anyhow!("{e}"))?;
            if let Some(asked_for) = &shared.data.stand_in_for {
                plan.data.stand_in_for = Some(asked_for.clone());
                plan.data.name = shared.data.dataset.name.clone();
            }
            let (asked, resolved, _) = shared.asked(&plan)?;
            Ok(Planned {
                id: id_of(&asked)?,
                label: method_label(resolved.entry.name, &resolved.variant),
                plan,
                asked,
            })
        })
        .collect()
}

/// Makes the runs that have no record yet, neither in their own folder nor in one of `elsewhere`. A run that another
/// process is making is waited for; the others are made meanwhile.
///
/// # Errors
/// If records cannot be read or written, or no process can be started.
pub fn run_all(
    planned: &[Planned],
    elsewhere: &[PathBuf],
    verbosity: Verbosity,
    signals: &Signals,
) -> Result<Executed> {
    let labels = planned.iter().map(|p| p.label.clone()).collect();
    let mut all = Execution {
        elsewhere,
        signals,
        progress: RunProgress::new(labels, verbosity),
        claims: Claims::default(),
        held: BTreeMap::new(),
        records: BTreeMap::new(),
        reused: 0,
    };
    signals.flagged();
    let ended = all.make(planned);
    signals.at_once();
    let interrupted = ended?;
    all.progress.close();
    Ok(Executed {
        records: all.records.into_values().collect(),
        reused: all.reused,
        interrupted: interrupted.then(|| signals.code()),
    })
}

/// Runs on their way.
struct Execution<'a> {
    elsewhere: &'a [PathBuf],
    signals: &'a Signals,
    progress: RunProgress,
    claims: Claims,
    /// Who is making a run of ours, by the run's place.
    held: BTreeMap<usize, Owner>,
    /// By the run's place.
    records: BTreeMap<usize, RunRecord>,
    reused: usize,
}

impl Execution<'_> {
    /// Makes what is missing; whether the user stopped it.
    fn make(&mut self, planned: &[Planned]) -> Result<bool> {
        // Two plans can ask for the same run.
        let mut seen = BTreeSet::new();
        let (mut missing, twice): (Vec<usize>, Vec<usize>) =
            (0..planned.len()).partition(|i| seen.insert(&planned[*i].id));
        for i in twice {
            self.progress.skip(i, None);
        }
        while !missing.is_empty() {
            let mut waiting = Vec::new();
            let before = missing.len();
            for i in missing {
                if self.signals.load(Ordering::Relaxed) {
                    return Ok(true);
                }
                match self.one(i, &planned[i])? {
                    Some(Status::Interrupted) => return Ok(true),
                    Some(_) => {}
                    None => waiting.push(i),
                }
            }
            if waiting.len() == before {
                thread::sleep(WAIT);
            }
            missing = waiting;
        }
        Ok(false)
    }

    /// Finds or makes the record of a run; `None` while another process makes it.
    fn one(&mut self, i: usize, run: &Planned) -> Result<Option<Status>> {
        let records = folders::records_folder(&run.plan.out);
        if let Some(status) = self.found(i, run, &records)? {
            return Ok(Some(status));
        }
        let claim = match self.claims.claim(&records, &run.id)? {
            Claimed::Own(claim) => claim,
            Claimed::Other(owner) => {
                if self.held.get(&i) != Some(&owner) {
                    self.progress.note(&format!(
                        "note: {owner} is making {} with seed {}; its record will be used",
                        run.label, run.plan.seed
                    ));
                    self.held.insert(i, owner);
                }
                return Ok(None);
            }
        };
        // It may have been made between the look and the claim.
        if let Some(status) = self.found(i, run, &records)? {
            return Ok(Some(status));
        }
        self.progress.start(i, run.plan.seed, &run.id);
        let circumstances = measure::circumstances(Some(claim.nonce()));
        let ended = run_plan(claim.nonce())
            .and_then(|command| spawn(command, &run.plan, &mut self.progress, self.signals))
            .unwrap_or_else(|e| Ended {
                stopped: false,
                error: Some(format!("{e:#}")),
            });
        let own = |r: &RunRecord| r.circumstances.claim.as_deref() == Some(claim.nonce());
        let record = match store::find(&records, &run.id)?.filter(own) {
            Some(record) => record,
            // The process ended without a record of its own.
            None => {
                let status = if ended.stopped || self.signals.load(Ordering::Relaxed) {
                    Status::Interrupted
                } else {
                    Status::Failed {
                        error: ended
                            .error
                            .unwrap_or_else(|| "the run left no record".to_owned()),
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
        self.progress.finish(&record);
        let status = record.status.clone();
        self.records.insert(i, record);
        Ok(Some(status))
    }

    /// The record of a run that need not be made: a whole one, or what the process that was waited for has left.
    fn found(&mut self, i: usize, run: &Planned, records: &Path) -> Result<Option<Status>> {
        let left = |r: &RunRecord| {
            let nonce = self.held.get(&i).map(|owner| owner.nonce.as_str());
            nonce.is_some()
                && r.circumstances.claim.as_deref() == nonce
                && r.status != Status::Interrupted
        };
        let mut record = finished(records, self.elsewhere, &run.id)?;
        if record.is_none() {
            record = store::find(records, &run.id)?.filter(left);
        }
        let Some(record) = record else {
            return Ok(None);
        };
        if !self.held.contains_key(&i) {
            self.reused += 1;
        }
        self.progress.skip(i, Some(&record));
        let status = record.status.clone();
        self.records.insert(i, record);
        Ok(Some(status))
    }
}

/// The record of a run that need not be made again. One from elsewhere is copied.
fn finished(own: &Path, elsewhere: &[PathBuf], id: &str) -> Result<Option<RunRecord>> {
    let whole = |r: &RunRecord| r.status.is_whole();
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

/// Exit codes of a process that INT, TERM or HUP ended.
const STOPPED: [i32; 3] = [130, 143, 129];

/// How a run's process ended.
struct Ended {
    /// Whether a signal to stop ended it.
    stopped: bool,
    /// What it said when it failed.
    error: Option<String>,
}

/// The command that makes a run under a claim.
fn run_plan(nonce: &str) -> Result<Command> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let threads = kernels::threads().to_string();
    let mut command = Command::new(program);
    command.args(["run-plan", "--claim", nonce, "--threads", &threads]);
    Ok(command)
}

/// Runs a plan in a process of its own.
///
/// The plan is the first line of its standard input, which stays open while this process lives: a run that sees its end
/// stops by itself.
fn spawn(
    mut command: Command,
    plan: &RunPlan,
    progress: &mut RunProgress,
    stop: &AtomicBool,
) -> Result<Ended> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start a process for the run")?;
    let mut stdin = child.stdin.take();
    if let Some(stdin) = &mut stdin {
        let mut line = serde_json::to_vec(plan)?;
        line.push(b'\n');
        // A process that ended before it read its plan says more by how it ended.
        let _ = stdin.write_all(&line).and_then(|()| stdin.flush());
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
    let (sender, events) = mpsc::channel();
    let stdout = child.stdout.take();
    thread::spawn(move || {
        let lines = stdout.into_iter().flat_map(|s| BufReader::new(s).lines());
        for text in lines.map_while(Result::ok) {
            if let Ok(event) = serde_json::from_str::<Event>(&text)
                && sender.send(event).is_err()
            {
                break;
            }
        }
    });
    let mut asked_to_stop = None;
    loop {
        match events.recv_timeout(POLL) {
            Ok(event) => progress.tell(&event),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if stop.load(Ordering::Relaxed) {
            stdin = None;
            let since = *asked_to_stop.get_or_insert_with(Instant::now);
            if since.elapsed() > GRACE {
                child.kill().ok();
            }
        }
    }
    let status = child.wait()?;
    drop(stdin);
    let said: Vec<String> = stderr
        .and_then(|t| t.join().ok())
        .unwrap_or_default()
        .into();
    for note in said.iter().filter(|l| l.starts_with("note: ")) {
        progress.note(note);
    }
    let stopped = status.code().is_some_and(|code| STOPPED.contains(&code));
    Ok(Ended {
        stopped,
        error: (!status.success()).then(|| {
            format!(
                "the run's process ended with {status}: {}",
                said.join(" / ")
            )
        }),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_process_that_dies_before_it_reads_its_plan_is_one_failed_run() {
        let plan = RunPlan {
            data: crate::plan::DataChoice {
                // Longer than a pipe holds, so that writing it fails.
                name: "x".repeat(1 << 20),
                text_columns: Vec::new(),
                label_column: None,
                stand_in: false,
                stand_in_for: None,
            },
            backbone: String::new(),
            backbone_overrides: BTreeMap::new(),
            trial: Trial {
                method: "lora".into(),
                overrides: BTreeMap::new(),
                tuned: None,
            },
            recipe: BTreeMap::new(),
            budget: "quick".into(),
            seed: 0,
            offline: true,
            out: PathBuf::new(),
            keep_weights: false,
        };
        let mut command = Command::new("sh");
        command.args(["-c", "echo 'cannot start' >&2; exit 3"]);
        let mut progress = RunProgress::new(vec!["lora".into()], Verbosity::Quiet);
        let ended = spawn(command, &plan, &mut progress, &AtomicBool::new(false)).unwrap();
        assert!(!ended.stopped);
        let error = ended.error.unwrap();
        assert!(error.contains("cannot start"), "{error}");
    }
}
