//! What a person or a program sees while runs go on: a row per finished run, the live line of the current
//! one, and how long all of them will take.
//!
//! The time left is that of the runs on their way and of all runs to come. One to come is expected to take as long as the
//! finished runs of the same name did; before there is one, its operations count, at the speed of the runs so far; before
//! any, at the speed of a product on this machine ([`super::estimate`]).
//!
//! Outside a terminal there is a line per run, and at least one a minute. The events of `--json` are described in
//! `docs/EVENTS.md`.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::IsTerminal,
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget};
use record::{Head, RunRecord, Status};
use reports::format;
use serde_json::{Value, json};

use super::estimate;
use crate::{download_bar, output, train::trainer::Event};

/// How much is told while runs go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verbosity {
    /// Rows of finished runs on standard error, with live lines under them on a terminal.
    Normal,
    /// Nothing but errors.
    Quiet,
    /// Events as JSON lines on standard output.
    Json,
}

impl Verbosity {
    /// The choice of `--quiet` and `--json`.
    pub fn of(quiet: bool, json: bool) -> Self {
        match (quiet, json) {
            (_, true) => Self::Json,
            (true, false) => Self::Quiet,
            (false, false) => Self::Normal,
        }
    }
}

/// Seconds between two step events of the JSON stream.
const EVENT_SECONDS: f64 = 1.0;
/// The longest silence outside a terminal.
const SILENCE: Duration = Duration::from_secs(60);

/// A run that may have to be made.
#[derive(Clone, Debug)]
pub struct ToCome {
    /// What people call it.
    pub label: String,
    /// Its operations, roughly; 0 where nobody counted them.
    pub operations: f64,
}

/// The table of finished runs and the live lines under it.
pub struct RunProgress {
    verbosity: Verbosity,
    bars: MultiProgress,
    /// All runs.
    total: ProgressBar,
    runs: Vec<ToCome>,
    /// Whether a run is still to come.
    waiting: Vec<bool>,
    pace: Pace,
    begun: Instant,
    /// Runs on their way.
    current: BTreeMap<usize, Current>,
    /// How many runs go on at the same time.
    jobs: usize,
    last_event: Option<Instant>,
    last_line: Instant,
    header: bool,
    /// What was said already: every run may say the same.
    noted: BTreeSet<String>,
}

struct Current {
    line: ProgressBar,
    seed: u64,
    id: String,
    begun: Instant,
    /// Expected seconds to its last step.
    left: Option<f64>,
    /// The last step that it told of, of how many, and its loss.
    last: Option<(usize, usize, f64)>,
}

impl RunProgress {
    /// A board for these runs, of which `jobs` go on at the same time.
    pub fn new(runs: Vec<ToCome>, verbosity: Verbosity, jobs: usize) -> Self {
        let live = verbosity == Verbosity::Normal && std::io::stderr().is_terminal();
        let bars = MultiProgress::with_draw_target(if live {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        });
        let total = bars.add(ProgressBar::new(runs.len() as u64));
        total.set_style(download_bar::style("{pos}/{len} runs {bar:12} {wide_msg}"));
        let board = Self {
            verbosity,
            bars,
            total,
            waiting: vec![true; runs.len()],
            runs,
            pace: Pace::default(),
            begun: Instant::now(),
            current: BTreeMap::new(),
            jobs,
            last_event: None,
            last_line: Instant::now(),
            header: false,
            noted: BTreeSet::new(),
        };
        board.event(json!({ "event": "planned", "runs": board.runs.len() }));
        board
    }

    /// Says what these runs, which have no record, will take by their operations, where the machine was measured.
    pub fn expect(&mut self, missing: &[usize], seconds_per_operation: Option<f64>) {
        self.pace.per_operation = seconds_per_operation;
        let seconds = missing.iter().map(|&i| self.pace.seconds(&self.runs[i]));
        let Some(seconds) = seconds.sum::<Option<f64>>().filter(|s| *s > 0.0) else {
            return;
        };
        let seconds = seconds / self.jobs as f64;
        self.event(json!({ "event": "estimated", "runs": missing.len(), "seconds": seconds }));
        if self.verbosity == Verbosity::Normal {
            self.print(&format!(
                "{} to make; counted by their operations, that takes about {}",
                format::plural(missing.len(), "run"),
                roughly(seconds)
            ));
        }
    }

    /// A run that is not made: it has this record already, or stands in the plan twice.
    pub fn skip(&mut self, run: usize, record: Option<&Head>) {
        self.waiting[run] = false;
        self.total.inc(1);
        if let Some(record) = record {
            if let Some(cost) = &record.cost {
                self.pace.add(&self.runs[run], cost.seconds());
            }
            self.event(json!({
                "event": "reused", "run": run + 1, "label": self.runs[run].label, "id": record.id,
                "seed": record.asked.seed,
            }));
        }
    }

    /// A run begins.
    pub fn start(&mut self, run: usize, seed: u64, id: &str) {
        self.waiting[run] = false;
        let line = self.bars.insert_before(&self.total, ProgressBar::new(1));
        line.set_style(download_bar::style("{prefix} {bar:12} {wide_msg}"));
        line.enable_steady_tick(Duration::from_millis(200));
        line.set_prefix(format!(
            "{} seed {seed}",
            format::cut(&self.runs[run].label, 24)
        ));
        line.set_message("starting");
        let current = Current {
            line,
            seed,
            id: id.to_owned(),
            begun: Instant::now(),
            left: None,
            last: None,
        };
        self.current.insert(run, current);
        self.event(json!({
            "event": "started", "run": run + 1, "label": self.runs[run].label, "seed": seed, "id": id,
        }));
        self.show_total();
    }

    /// Shows what a run on its way tells.
    pub fn tell(&mut self, run: usize, event: &Event) {
        let Some(current) = self.current.get_mut(&run) else {
            return;
        };
        match event {
            Event::Stage { name } => current.line.set_message(name.clone()),
            Event::Step {
                step,
                steps,
                loss,
                examples_per_second,
            } => {
                current.line.set_length(*steps as u64);
                current.line.set_position(*step as u64);
                let left =
                    current.begun.elapsed().as_secs_f64() / *step as f64 * (steps - step) as f64;
                current.line.set_message(match steps - step {
                    // What follows has no steps.
                    0 => format!("{step}/{steps} loss {loss:.3}, evaluating and checking"),
                    _ => format!(
                        "{step}/{steps} loss {loss:.3} {examples_per_second:.0} ex/s, {} left",
                        roughly(left)
                    ),
                });
                current.left = Some(left);
                current.last = Some((*step, *steps, f64::from(*loss)));
                self.show_total();
                self.beat();
            }
            Event::Evaluated { .. } => {}
        }
        if self.verbosity == Verbosity::Json {
            let step = matches!(event, Event::Step { .. });
            let soon = |t: &Instant| t.elapsed().as_secs_f64() < EVENT_SECONDS;
            if step && self.last_event.as_ref().is_some_and(soon) {
                return;
            }
            if step {
                self.last_event = Some(Instant::now());
            }
            let mut value = serde_json::to_value(event).unwrap_or_default();
            if let Some(current) = self.current.get(&run) {
                value["run"] = json!(run + 1);
                value["id"] = json!(current.id);
            }
            self.event(value);
        }
    }

    /// Something that the user has to know; it is said once.
    pub fn note(&mut self, text: &str) {
        if !self.noted.insert(text.to_owned()) {
            return;
        }
        self.event(json!({ "event": "note", "text": text }));
        if self.verbosity == Verbosity::Normal {
            self.print(text);
        }
    }

    /// Time goes by. Outside a terminal, says how far it is where nothing was said for a minute.
    pub fn beat(&mut self) {
        if self.verbosity == Verbosity::Normal
            && self.total.is_hidden()
            && self.last_line.elapsed() >= SILENCE
        {
            let line = self.how_far();
            self.print(&line);
        }
    }

    /// How far the runs on their way and all of them are, in a line.
    fn how_far(&self) -> String {
        let on_the_way = self.current.iter().map(|(run, current)| {
            let name = format!("{} seed {}", self.runs[*run].label, current.seed);
            match current.last {
                Some((step, steps, loss)) => {
                    format!("{name} at step {step}/{steps}, loss {loss:.3}")
                }
                None => format!("{name} is starting"),
            }
        });
        format!(
            "{}; {}/{} runs, {}",
            on_the_way.collect::<Vec<_>>().join("; "),
            self.total.position(),
            self.runs.len(),
            self.so_far()
        )
    }

    /// A run on its way has ended.
    pub fn finish(&mut self, run: usize, record: &RunRecord) {
        let Some(current) = self.current.remove(&run) else {
            return;
        };
        let seconds = current.begun.elapsed().as_secs_f64();
        let label = self.runs[run].label.clone();
        self.pace.add(&self.runs[run], seconds);
        if record.status != Status::Interrupted {
            self.total.inc(1);
        }
        current.line.finish_and_clear();
        self.bars.remove(&current.line);
        if self.verbosity == Verbosity::Normal {
            if !self.header {
                self.header = true;
                self.print(&row(
                    self.runs.len(),
                    ["run", "method", "seed", "result", "training", "examples/s"],
                ));
            }
            self.print(&finished_row(
                self.runs.len(),
                run,
                &label,
                current.seed,
                record,
            ));
        }
        // Nothing left is 0.0, not −0.0.
        let remaining = self.remaining().map(|seconds| seconds + 0.0);
        self.event(json!({
            "event": "finished", "run": run + 1, "label": label, "seed": current.seed, "id": current.id,
            "status": record.status, "metric": final_metric(record).map(|(name, value)| json!({ name: value })),
            "seconds": seconds, "remaining_seconds": remaining,
        }));
        self.show_total();
    }

    /// All runs have ended.
    pub fn close(mut self) {
        // Finishing the bar moves it to its end.
        let ended = self.total.position();
        self.total.finish_and_clear();
        if self.header && self.runs.len() > 1 {
            let time = format::seconds(self.begun.elapsed().as_secs_f64());
            self.print(&format!("{ended} of {} runs in {time}", self.runs.len()));
        }
    }

    /// Expected seconds of the runs on their way and of those to come; `None` before anything is known.
    pub fn remaining(&self) -> Option<f64> {
        let mut pace = self.pace.clone();
        let mut left = 0.0;
        for (run, current) in &self.current {
            let gone = current.begun.elapsed().as_secs_f64();
            match current.left {
                // What it is about to take is the best that is known where none like it has ended.
                Some(rest) => {
                    left += rest;
                    if !pace.knows(&self.runs[*run]) {
                        pace.add(&self.runs[*run], gone + rest);
                    }
                }
                None => left += (pace.seconds(&self.runs[*run])? - gone).max(0.0),
            }
        }
        let waiting = self.runs.iter().zip(&self.waiting).filter(|(_, w)| **w);
        let waiting: Option<f64> = waiting.map(|(run, _)| pace.seconds(run)).sum();
        Some((left + waiting?) / self.jobs as f64)
    }

    fn so_far(&self) -> String {
        let so_far = format::seconds(self.begun.elapsed().as_secs_f64().floor());
        let unfinished = !self.current.is_empty() || self.waiting.contains(&true);
        match self.remaining() {
            Some(left) if unfinished => format!("{so_far} so far, about {} left", roughly(left)),
            _ => format!("{so_far} so far"),
        }
    }

    fn show_total(&self) {
        self.total.set_message(self.so_far());
    }

    fn print(&mut self, text: &str) {
        self.last_line = Instant::now();
        if self.total.is_hidden() {
            eprintln!("{text}");
        } else {
            self.bars.println(text).ok();
        }
    }

    fn event(&self, value: Value) {
        if self.verbosity == Verbosity::Json {
            // What cannot be written now shows at the next write of a result.
            output::event(value).ok();
        }
    }
}

/// What finished runs took.
#[derive(Clone, Debug, Default)]
struct Pace {
    /// Seconds by label.
    took: BTreeMap<String, Vec<f64>>,
    /// Seconds of all of them, and their operations.
    all: (f64, f64),
    /// Seconds of an operation, measured before the first run.
    per_operation: Option<f64>,
}

impl Pace {
    fn add(&mut self, run: &ToCome, seconds: f64) {
        let took = self.took.entry(run.label.clone()).or_default();
        took.push(seconds);
        self.all.0 += seconds;
        self.all.1 += run.operations;
    }

    fn knows(&self, run: &ToCome) -> bool {
        self.took.contains_key(&run.label)
    }

    /// Expected seconds of a run.
    fn seconds(&self, run: &ToCome) -> Option<f64> {
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        if let Some(took) = self.took.get(&run.label) {
            return Some(mean(took));
        }
        let (seconds, operations) = self.all;
        if operations > 0.0 && run.operations > 0.0 {
            return Some(seconds * run.operations / operations);
        }
        let all: Vec<f64> = self.took.values().flatten().copied().collect();
        if !all.is_empty() {
            return Some(mean(&all));
        }
        Some(estimate::seconds(run.operations, self.per_operation?))
    }
}

/// A time to come: nobody can know its parts of a second, and what is not over takes some.
fn roughly(seconds: f64) -> String {
    match seconds {
        s if s < 1.0 => "less than 1 s".to_owned(),
        s if s < 99.5 => format!("{s:.0} s"),
        s => format::seconds(s),
    }
}

/// A row of the table; fits 80 columns.
fn row(runs: usize, [number, label, seed, result, time, speed]: [&str; 6]) -> String {
    let width = 2 * runs.to_string().len() + 1;
    format!(
        "{number:>width$}  {:<30} {seed:>4}  {result:>8} {time:>12} {speed:>10}",
        format::cut(label, 30)
    )
    .trim_end()
    .to_owned()
}

fn finished_row(runs: usize, run: usize, label: &str, seed: u64, record: &RunRecord) -> String {
    let number = format!("{}/{runs}", run + 1);
    let seed = seed.to_string();
    match (&record.status, &record.cost, final_metric(record)) {
        (Status::Ok, Some(cost), Some((name, value))) => {
            let mut text = row(
                runs,
                [
                    &number,
                    label,
                    &seed,
                    &format::metric(name, value),
                    &format::seconds(cost.training_seconds),
                    &rate(cost.examples, cost.training_seconds),
                ],
            );
            let failed: Vec<&str> = record
                .outcome
                .iter()
                .flat_map(|o| &o.checks)
                .filter(|c| !c.passed)
                .map(|c| c.name.as_str())
                .collect();
            if !failed.is_empty() {
                text += &format!("\n    INVALID, failed its check of {}", failed.join(", "));
            }
            text
        }
        (status, ..) => {
            let result = match status {
                Status::Ok => "empty",
                Status::Diverged { .. } => "diverged",
                Status::Failed { .. } => "failed",
                Status::Interrupted => "stopped",
            };
            let text = row(runs, [&number, label, &seed, result, "", ""]);
            match status {
                Status::Diverged { step, reason } => {
                    format!("{text}\n    at step {step}: {reason}")
                }
                Status::Failed { error } => format!("{text}\n    {error}"),
                _ => text,
            }
        }
    }
}

/// How a run ended, in a few words.
pub fn summary(record: &RunRecord) -> String {
    match (&record.status, final_metric(record)) {
        (Status::Ok, Some((name, value))) => format!("{name} {}", format::metric(name, value)),
        (status, _) => reports::row::status_text(status),
    }
}

/// Name and final value of the main metric.
fn final_metric(record: &RunRecord) -> Option<(&str, f64)> {
    let name = &record.asked.dataset.main_metric;
    let last = record.outcome.as_ref()?.evaluations.last()?;
    Some((name.as_str(), *last.metrics.get(name)?))
}

/// Examples per second; a dash where nothing was trained.
fn rate(examples: usize, seconds: f64) -> String {
    match examples {
        0 => "–".to_owned(),
        n => format!("{:.0}", n as f64 / seconds),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn run(label: &str, operations: f64) -> ToCome {
        ToCome {
            label: label.to_owned(),
            operations,
        }
    }

    #[test]
    fn a_run_is_expected_to_take_what_like_ones_took_and_before_that_what_its_operations_take() {
        let mut pace = Pace::default();
        assert_eq!(pace.seconds(&run("lora", 1e9)), None);
        pace.per_operation = Some(1e-9);
        let guessed = pace.seconds(&run("lora", 6e9)).unwrap();
        assert!((6.0..20.0).contains(&guessed), "{guessed}");
        pace.add(&run("lora", 1e9), 10.0);
        pace.add(&run("lora", 1e9), 20.0);
        pace.add(&run("full", 4e9), 60.0);
        assert_eq!(pace.seconds(&run("lora", 1e9)), Some(15.0));
        // 90 s for 6e9 operations so far.
        assert_eq!(pace.seconds(&run("adapter", 2e9)), Some(30.0));
        // Nobody counted its operations: the mean of all.
        assert_eq!(pace.seconds(&run("adapter", 0.0)), Some(30.0));
    }

    #[test]
    fn there_is_always_time_left_while_runs_are_to_come() {
        let runs = vec![run("lora", 1e9), run("adapter", 1e9), run("full", 2e9)];
        let mut board = RunProgress::new(runs, Verbosity::Quiet, 1);
        board.start(0, 0, "id");
        let step = Event::Step {
            step: 500,
            steps: 500,
            loss: 0.3,
            examples_per_second: 100.0,
        };
        board.tell(0, &step);
        // The first is at its last step, and two are to come that take as long and twice as long.
        let so_far = board.so_far();
        assert!(so_far.contains("left"), "{so_far}");
        let gone = board.current[&0].begun.elapsed().as_secs_f64();
        let left = board.remaining().unwrap();
        assert!(left > 0.0 && left <= 3.0 * gone + 1.0, "{left} of {gone}");
        assert_eq!(roughly(0.0), "less than 1 s");
        let line = board.how_far();
        assert!(
            line.starts_with("lora seed 0 at step 500/500, loss 0.300; 0/3 runs"),
            "{line}"
        );
    }

    #[test]
    fn outside_a_terminal_there_is_a_line_after_a_minute_of_silence_and_none_before() {
        let mut board = RunProgress::new(vec![run("lora", 1e9)], Verbosity::Normal, 1);
        board.total = ProgressBar::hidden();
        let now = Instant::now();
        board.last_line = now;
        board.beat();
        assert_eq!(board.last_line, now);
        board.last_line = now.checked_sub(SILENCE).unwrap();
        board.beat();
        assert!(board.last_line >= now);
    }

    #[test]
    fn every_event_is_described_in_the_documentation() {
        let described = include_str!("../../docs/EVENTS.md");
        let sources = [
            include_str!("progress.rs"),
            include_str!("cost.rs"),
            include_str!("../commands/compare.rs"),
            include_str!("../commands/suite.rs"),
            include_str!("../commands/sweep.rs"),
            include_str!("../commands/tune.rs"),
        ];
        let mut names: Vec<&str> = sources
            .iter()
            .flat_map(|source| source.split("\"event\": \"").skip(1))
            .filter_map(|rest| rest.split('"').next())
            .filter(|name| name.chars().all(|c| c.is_alphabetic()))
            .collect();
        names.extend(["stage", "step", "evaluated"]);
        assert!(names.len() >= 14, "{names:?}");
        for name in names {
            assert!(described.contains(&format!("`{name}`")), "{name}");
        }
    }

    #[test]
    fn a_row_fits_80_columns_whatever_the_label() {
        let long = row(
            100,
            [
                "100/100",
                &"virtual_tokens=".repeat(9),
                "1000",
                "84.2 %",
                "59 min 59 s",
                "12345",
            ],
        );
        assert!(long.chars().count() <= 80, "{long}");
        assert!(long.contains('…'));
    }
}
