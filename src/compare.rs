//! A comparison: one process per run, seed by seed with the methods interleaved, only what is missing.
//!
//! A process per run starts with fresh memory and thread pools, and a crash costs one record.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, IsTerminal, Write},
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressDrawTarget};
use reports::{
    record::{FORMAT, RunRecord, Status},
    store,
};

use crate::{
    measure,
    plan::{RunPlan, Trial},
    progress,
    run::{self, Setting},
    trainer::Event,
};

/// How a comparison ended.
pub struct Ended {
    /// Records of all planned runs that have one, in the order of the plan.
    pub records: Vec<RunRecord>,
    /// Runs that had a record already.
    pub reused: usize,
    /// Whether the user stopped it.
    pub interrupted: bool,
}

/// How much the comparison tells on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    /// A live line on a terminal, a line per run elsewhere.
    Normal,
    /// Nothing but errors.
    Quiet,
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
    telling: Telling,
    stop: &AtomicBool,
) -> Result<Ended> {
    let records = run::records_folder(&base.out);
    run::check_writable(&records)?;
    let setting = Setting::load(base)?;
    let mut base = base.clone();
    if let Some(asked_for) = &setting.data.stand_in_for {
        base.data.stand_in_for = Some(asked_for.clone());
        base.data.name = setting.data.dataset.name.clone();
    }
    let plans: Vec<RunPlan> = seeds
        .iter()
        .flat_map(|seed| {
            trials.iter().map(|trial| RunPlan {
                trial: trial.clone(),
                seed: *seed,
                ..base.clone()
            })
        })
        .collect();
    // Every plan is checked before the first run starts.
    let asked = plans
        .iter()
        .map(|plan| Ok(setting.asked(plan)?.0))
        .collect::<Result<Vec<_>>>()?;
    drop(setting);

    let mut ended = Ended {
        records: Vec::new(),
        reused: 0,
        interrupted: false,
    };
    let begun = Instant::now();
    let mut made = 0;
    for (i, (plan, asked)) in plans.iter().zip(asked).enumerate() {
        let id = run::id_of(&asked)?;
        if let Some(record) = find(&records, &id)?
            && matches!(record.status, Status::Ok | Status::Diverged { .. })
        {
            ended.reused += 1;
            ended.records.push(record);
            continue;
        }
        if stop.load(Ordering::Relaxed) {
            ended.interrupted = true;
            break;
        }
        let line = Line::new(plan, i + 1, plans.len(), telling);
        let circumstances = measure::circumstances();
        let error = spawn(plan, &line)?;
        let record = match find(&records, &id)? {
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
                    id,
                    asked,
                    status,
                    outcome: None,
                    cost: None,
                    circumstances,
                };
                store::write(&records, &record)?;
                record
            }
        };
        made += 1;
        let left = plans.len() - i - 1;
        line.finish(&record, begun.elapsed() / made * left as u32, left);
        let interrupted = record.status == Status::Interrupted;
        ended.records.push(record);
        if interrupted {
            ended.interrupted = true;
            break;
        }
    }
    Ok(ended)
}

/// The record of a run, if there is a sound one.
fn find(records: &Path, id: &str) -> Result<Option<RunRecord>> {
    Ok(store::read_dir(records)?
        .records
        .into_iter()
        .find(|record| record.id == id))
}

/// Runs a plan in a process of its own; returns what it said when it failed.
fn spawn(plan: &RunPlan, line: &Line) -> Result<Option<String>> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let mut child = Command::new(program)
        .arg("run-plan")
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
                line.tell(&event);
            }
        }
    }
    let status = child.wait()?;
    let said: Vec<String> = stderr
        .and_then(|t| t.join().ok())
        .unwrap_or_default()
        .into();
    for note in said.iter().filter(|l| l.starts_with("note: ")) {
        line.note(note);
    }
    Ok((!status.success()).then(|| {
        format!(
            "the run's process ended with {status}: {}",
            said.join(" / ")
        )
    }))
}

/// The live line of one run.
pub struct Line {
    bar: ProgressBar,
    title: String,
    plain: bool,
}

impl Line {
    /// A line for run `number` of `all`.
    pub fn new(plan: &RunPlan, number: usize, all: usize, telling: Telling) -> Self {
        let width = all.to_string().len();
        let title = format!(
            "[{number:width$}/{all}] {:<14} seed {}",
            plan.trial.method, plan.seed
        );
        let terminal = std::io::stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::hidden());
        if terminal && telling == Telling::Normal {
            bar.set_draw_target(ProgressDrawTarget::stderr());
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        bar.set_style(progress::style("{prefix} {bar:20} {msg}"));
        bar.set_prefix(title.clone());
        bar.set_message("starting");
        Self {
            bar,
            title,
            plain: !terminal && telling == Telling::Normal,
        }
    }

    /// Shows what the run tells.
    pub fn tell(&self, event: &Event) {
        match event {
            Event::Stage { name } => self.bar.set_message(name.clone()),
            Event::Step {
                step,
                steps,
                loss,
                examples_per_second,
            } => {
                self.bar.set_length(*steps as u64);
                self.bar.set_position(*step as u64);
                let eta = self.bar.eta().as_secs();
                let message = format!(
                    "{step}/{steps} loss {loss:.3} {examples_per_second:.0} examples/s, {} left",
                    duration(eta)
                );
                self.bar.set_message(message);
            }
            Event::Evaluated { .. } => {}
        }
    }

    fn note(&self, text: &str) {
        self.bar.suspend(|| eprintln!("{text}"));
    }

    fn finish(self, record: &RunRecord, remaining: Duration, left: usize) {
        self.bar.finish_and_clear();
        let result = summary(record);
        let eta = if left == 0 {
            String::new()
        } else {
            format!("; {left} to go, about {}", duration(remaining.as_secs()))
        };
        if self.plain || !self.bar.is_hidden() {
            eprintln!("{} {result}{eta}", self.title);
        }
    }

    /// Ends the line and says how the run ended.
    pub fn close(self, record: &RunRecord) {
        self.finish(record, Duration::ZERO, 0);
    }
}

/// One line about a record.
pub fn summary(record: &RunRecord) -> String {
    match (&record.status, &record.outcome, &record.cost) {
        (Status::Ok, Some(outcome), Some(cost)) => {
            let name = &record.asked.dataset.main_metric;
            let value = outcome
                .evaluations
                .last()
                .and_then(|e| e.metrics.get(name))
                .copied()
                .unwrap_or_default();
            let failed = outcome.checks.iter().filter(|c| !c.passed).count();
            let invalid = if failed == 0 {
                String::new()
            } else {
                format!(", INVALID: {failed} checks failed")
            };
            let how = if cost.examples == 0 {
                ", nothing trained".to_owned()
            } else {
                let rate = cost.examples as f64 / cost.training_seconds;
                format!(" in {:.0} s ({rate:.0} examples/s)", cost.training_seconds)
            };
            format!("{name} {:.1} %{how}{invalid}", value * 100.0)
        }
        (Status::Diverged { step, reason }, ..) => format!("diverged at step {step}: {reason}"),
        (Status::Failed { error }, ..) => format!("failed: {error}"),
        (Status::Interrupted, ..) => "interrupted".to_owned(),
        (Status::Ok, ..) => "ended without an outcome".to_owned(),
    }
}

fn duration(seconds: u64) -> String {
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}

/// The seeds 0 … n-1.
pub fn seeds(n: usize) -> Vec<u64> {
    (0..n as u64).collect()
}

/// The default folder of a data set's comparison.
pub fn default_out(dataset: &str) -> std::path::PathBuf {
    let name = Path::new(dataset)
        .file_stem()
        .map_or_else(|| dataset.to_owned(), |s| s.to_string_lossy().into_owned());
    Path::new("reports").join("out").join(name)
}
