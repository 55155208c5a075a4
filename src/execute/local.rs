//! A comparison: one process per run, seed by seed with the methods interleaved, only what is missing.
//!
//! A process per run starts with fresh memory and thread pools, and a crash costs one record.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use record::{FORMAT, Head, RunRecord, Status, store};
use reports::format;

use super::{
    claim::{Claim, Claimed, Claims, Owner},
    estimate,
    measured::Measured,
    planned::{self, Planned, copied},
    progress::{RunProgress, ToCome, Verbosity},
};
use crate::{
    folders, measure,
    plan::{RunPlan, Trial},
    signals::Signals,
    train::trainer::Event,
};

/// Pause between two looks at runs that other processes make.
const WAIT: Duration = Duration::from_millis(500);
/// Pause between two looks at the flag that asks to stop.
const POLL: Duration = Duration::from_millis(50);
/// What a run has to stop in before it is killed: more than [`crate::train::run::GRACE`], which it takes for itself.
const GRACE: Duration = Duration::from_millis(1600);

/// How a comparison ended.
#[derive(Default)]
pub struct Executed {
    /// Of the records of all planned runs that have one, in the order of the plan.
    pub records: Vec<Head>,
    /// Runs that had a record already.
    pub reused: usize,
    /// The exit code of the signal that stopped it, if one did.
    pub interrupted: Option<u8>,
}

impl Executed {
    /// What was made next.
    pub fn add(&mut self, next: Self) {
        self.records.extend(next.records);
        self.reused += next.reused;
        self.interrupted = next.interrupted;
    }

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

/// Makes the missing runs of a comparison. `base` gives everything but method and seed.
///
/// # Errors
/// If a plan is not valid, data or backbone are not found, or the output folder cannot be written.
/// A run that fails is a record, not an error.
pub fn compare(
    base: &RunPlan,
    trials: &[Trial],
    seeds: &[u64],
    how: How,
    signals: &Signals,
) -> Result<Executed> {
    folders::check_writable(&folders::records_folder(&base.out), "--out")?;
    run_all(
        &planned::plan(base, trials, seeds, how.verbosity)?,
        &[],
        how,
        signals,
    )
}

/// Makes the runs that have no record yet, neither in their own folder nor in one of `elsewhere`, `jobs` at the same
/// time, each with its share of the threads. A run that another process is making is waited for; the others are made
/// meanwhile.
///
/// # Errors
/// If records cannot be read or written.
pub fn run_all(
    planned: &[Planned],
    elsewhere: &[PathBuf],
    how: How,
    signals: &Signals,
) -> Result<Executed> {
    let (how, note) = fitting(planned, how)?;
    let runs = planned.iter().map(|p| ToCome {
        label: p.label.clone(),
        operations: p.operations,
    });
    let mut progress = RunProgress::new(runs.collect(), how.verbosity, how.jobs);
    if let Some(note) = note {
        progress.note(&note);
    }
    // Two plans can ask for the same run.
    let (mut seen, mut missing) = (BTreeSet::new(), VecDeque::new());
    for (i, run) in planned.iter().enumerate() {
        if seen.insert(&run.id) {
            missing.push_back(i);
        } else {
            progress.skip(i, None);
        }
    }
    if how.verbosity != Verbosity::Quiet {
        let mut unmade = Vec::new();
        for &i in &missing {
            let records = folders::records_folder(&planned[i].plan.out);
            if !store::path_of(&records, &planned[i].id).exists() {
                unmade.push(i);
            }
        }
        let operations = unmade.iter().map(|&i| planned[i].operations).sum();
        progress.expect(&unmade, estimate::seconds_per_operation(operations));
    }
    if how.jobs > 1 {
        progress.note(&format!(
            "note: {} runs share the machine, so their times, memory and latencies are not those of an idle machine",
            how.jobs
        ));
    }
    let execution = Execution {
        planned,
        elsewhere,
        signals,
        threads: (kernels::threads() / how.jobs).max(1),
        state: Mutex::new(State {
            missing,
            progress,
            claims: Claims::default(),
            held: BTreeMap::new(),
            records: BTreeMap::new(),
            reused: 0,
            interrupted: false,
        }),
    };
    signals.flagged();
    let ended: Result<Vec<()>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..how.jobs)
            .map(|_| scope.spawn(|| execution.work()))
            .collect();
        let ended = workers.into_iter().map(|worker| match worker.join() {
            Ok(ended) => ended,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        // All of them are waited for.
        ended.collect::<Vec<_>>().into_iter().collect()
    });
    signals.at_once();
    ended?;
    let state = execution
        .state
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    state.progress.close();
    Ok(Executed {
        records: state.records.into_values().collect(),
        reused: state.reused,
        interrupted: state.interrupted.then(|| signals.code()),
    })
}

/// As many runs at the same time as fit into memory by the records of like runs; and what there is to say of it.
fn fitting(planned: &[Planned], how: How) -> Result<(How, Option<String>)> {
    let memory = measure::available_memory();
    let (Some(memory), 2..) = (memory, how.jobs) else {
        return Ok((how, None));
    };
    let measured = Measured::of(planned, None)?;
    let of_each = planned.iter().filter_map(|run| measured.memory(&run.asked));
    let Some(most) = of_each.reduce(f64::max) else {
        return Ok((how, None));
    };
    let jobs = fit(how.jobs, memory as f64, most);
    let note = (jobs < how.jobs).then(|| {
        format!(
            "note: {jobs} at a time instead of {}: by the records of like runs one takes up to {}, and {} are free",
            how.jobs,
            format::bytes(most),
            format::bytes(memory as f64)
        )
    });
    Ok((How { jobs, ..how }, note))
}

/// Runs at the same time that fit, at least one; a tenth of the memory stays free.
fn fit(jobs: usize, memory: f64, most: f64) -> usize {
    ((0.9 * memory / most) as usize).clamp(1, jobs)
}

/// How runs are made.
#[derive(Clone, Copy)]
pub struct How {
    /// How much is told.
    pub verbosity: Verbosity,
    /// Runs at the same time.
    pub jobs: usize,
}

/// Runs on their way.
struct Execution<'a> {
    planned: &'a [Planned],
    elsewhere: &'a [PathBuf],
    signals: &'a Signals,
    /// Of each run.
    threads: usize,
    state: Mutex<State>,
}

/// What the workers share. Runs are named by their place in the plan.
struct State {
    missing: VecDeque<usize>,
    progress: RunProgress,
    claims: Claims,
    /// Who is making a run of ours.
    held: BTreeMap<usize, Owner>,
    records: BTreeMap<usize, Head>,
    reused: usize,
    interrupted: bool,
}

impl Execution<'_> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes what is missing until there is nothing left or the user stops it.
    fn work(&self) -> Result<()> {
        // Runs in a row that others were making.
        let mut held = 0;
        loop {
            let mut state = self.state();
            if self.signals.load(Ordering::Relaxed) || state.interrupted {
                state.interrupted = true;
                return Ok(());
            }
            let Some(i) = state.missing.pop_front() else {
                return Ok(());
            };
            let run = &self.planned[i];
            let Some(claim) = state.claim(i, run, self.elsewhere)? else {
                if !state.records.contains_key(&i) {
                    state.missing.push_back(i);
                    held += 1;
                    let all = held >= state.missing.len();
                    drop(state);
                    if all {
                        held = 0;
                        thread::sleep(WAIT);
                    }
                }
                continue;
            };
            held = 0;
            state.progress.start(i, run.plan.seed, &run.id);
            drop(state);
            let record = self.make(i, run, &claim)?;
            drop(claim);
            let mut state = self.state();
            state.progress.finish(i, &record);
            state.interrupted |= record.status == Status::Interrupted;
            state.records.insert(i, Head::from(&record));
        }
    }

    /// Makes a run in a process of its own, and the record that the process did not leave.
    fn make(&self, i: usize, run: &Planned, claim: &Claim) -> Result<RunRecord> {
        let circumstances = measure::circumstances(Some(claim.nonce()));
        let mut tell = |told: Told<'_>| {
            let mut state = self.state();
            match told {
                Told::Event(event) => {
                    claim.tell(event);
                    state.progress.tell(i, event);
                }
                Told::Note(note) => state.progress.note(note),
                Told::Nothing => state.progress.beat(),
            }
        };
        let ended = run_plan(claim.nonce(), self.threads)
            .and_then(|command| spawn(command, &run.plan, &mut tell, self.signals))
            .unwrap_or_else(|e| ProcessEnd {
                stopped: false,
                error: Some(format!("{e:#}")),
            });
        let records = folders::records_folder(&run.plan.out);
        // Of two records of one run the first stays, whoever made it.
        let own = |r: &RunRecord| {
            r.status.is_whole() || r.circumstances.claim.as_deref() == Some(claim.nonce())
        };
        if let Some(record) = store::find(&records, &run.id)?.filter(own) {
            return Ok(record);
        }
        let status = if ended.stopped || self.signals.load(Ordering::Relaxed) {
            Status::Interrupted
        } else {
            let error = ended.error;
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
            kind: None,
        };
        store::write(&records, &record)?;
        Ok(record)
    }
}

impl State {
    /// Claims a run that has no record; without a claim it has one now, or another process is making it.
    fn claim(&mut self, i: usize, run: &Planned, elsewhere: &[PathBuf]) -> Result<Option<Claim>> {
        let records = folders::records_folder(&run.plan.out);
        let left = self.left(i, &records, &run.id)?;
        if let Some(record) = match left {
            None => copied(&records, elsewhere, &run.id)?,
            left => left,
        } {
            self.found(i, &record);
            return Ok(None);
        }
        match self.claims.take(&records, &run.id)? {
            Some(Claimed::Own(claim)) => return Ok(Some(claim)),
            None => {
                if let Some(record) = store::find(&records, &run.id)? {
                    self.found(i, &record);
                }
            }
            Some(Claimed::Other(owner)) => {
                if self.held.get(&i) != Some(&owner) {
                    self.progress.note(&format!(
                        "note: {owner} is making {} with seed {}; its record will be used",
                        run.label, run.plan.seed
                    ));
                    self.held.insert(i, owner);
                }
            }
        }
        Ok(None)
    }

    /// The record that the process that was waited for has left, where the run failed.
    fn left(&self, i: usize, records: &Path, id: &str) -> Result<Option<RunRecord>> {
        let Some(owner) = self.held.get(&i) else {
            return Ok(None);
        };
        let of_owner = |r: &RunRecord| {
            r.circumstances.claim.as_ref() == Some(&owner.nonce) && r.status != Status::Interrupted
        };
        Ok(store::find(records, id)?.filter(of_owner))
    }

    /// A run need not be made: it has this record.
    fn found(&mut self, i: usize, record: &RunRecord) {
        self.reused += usize::from(!self.held.contains_key(&i));
        let head = Head::from(record);
        self.progress.skip(i, Some(&head));
        self.records.insert(i, head);
    }
}

/// Exit codes of a process that INT, TERM, HUP or USR1 ended.
const STOPPED: [i32; 4] = [130, 143, 129, 138];

/// What a run's process tells.
enum Told<'a> {
    /// How far it is.
    Event(&'a Event),
    /// Something that the user has to know.
    Note(&'a str),
    /// It is still at work.
    Nothing,
}

/// How a run's process ended.
struct ProcessEnd {
    /// Whether a signal to stop ended it.
    stopped: bool,
    /// What it said when it failed.
    error: Option<String>,
}

/// The command that makes a run under a claim.
fn run_plan(nonce: &str, threads: usize) -> Result<Command> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let threads = threads.to_string();
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
    tell: &mut dyn FnMut(Told<'_>),
    stop: &AtomicBool,
) -> Result<ProcessEnd> {
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
            Ok(event) => tell(Told::Event(&event)),
            Err(RecvTimeoutError::Timeout) => tell(Told::Nothing),
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
        tell(Told::Note(note));
    }
    let stopped = status.code().is_some_and(|code| STOPPED.contains(&code));
    Ok(ProcessEnd {
        stopped,
        error: (!status.success()).then(|| {
            format!(
                "the run's process ended with {status}: {}",
                match said.is_empty() {
                    true => UNSAID.to_owned(),
                    false => said.join(" / "),
                }
            )
        }),
    })
}

/// What to think of a process that ended without a word.
const UNSAID: &str = "it said nothing; if the system ran out of memory, a smaller recipe.batch or fewer runs at the same \
                      time take less";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{backbone_settings::BackboneSettings, train::recipe::RecipeChoice};

    #[test]
    fn as_many_runs_go_on_as_fit_into_memory_and_at_least_one() {
        assert_eq!(fit(4, 10e9, 1e9), 4);
        assert_eq!(fit(4, 10e9, 3e9), 3);
        assert_eq!(fit(4, 10e9, 3.1e9), 2);
        assert_eq!(fit(4, 1e9, 3e9), 1);
    }

    #[cfg(unix)]
    #[test]
    fn a_process_that_dies_before_it_reads_its_plan_is_one_failed_run() {
        let plan = RunPlan {
            // Longer than a pipe holds, so that writing it fails.
            data: crate::plan::DataChoice::of("x".repeat(1 << 20), Default::default()),
            backbone: String::new(),
            backbone_settings: BackboneSettings::default(),
            trial: Trial::of("lora").unwrap(),
            recipe: RecipeChoice::new("quick", &BTreeMap::new()).unwrap(),
            seed: 0,
            offline: true,
            out: PathBuf::new(),
            keep_weights: false,
        };
        let mut command = Command::new("sh");
        command.args(["-c", "echo 'cannot start' >&2; exit 3"]);
        let ended = spawn(command, &plan, &mut |_| (), &AtomicBool::new(false)).unwrap();
        assert!(!ended.stopped);
        let error = ended.error.unwrap();
        assert!(error.contains("cannot start"), "{error}");
    }
}
