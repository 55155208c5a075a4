//! What a person or a program sees while runs go on: a row per finished run, the live line of the current
//! one, and how long all of them will take.
//!
//! The time left is the sum over the runs to come, each expected to take as long as the finished runs of the
//! same name did (or, before there is one, as all finished runs did on average).

use std::{
    collections::{BTreeMap, BTreeSet},
    io::IsTerminal,
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget};
use record::{Head, RunRecord, Status};
use reports::format;
use serde_json::{Value, json};

use crate::{download_bar, train::trainer::Event};

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

/// The table of finished runs and the live lines under it.
pub struct RunProgress {
    verbosity: Verbosity,
    bars: MultiProgress,
    /// All runs.
    total: ProgressBar,
    labels: Vec<String>,
    /// Whether a run is still to come.
    waiting: Vec<bool>,
    /// Seconds that finished runs of a label took.
    took: BTreeMap<String, Vec<f64>>,
    begun: Instant,
    /// Runs on their way.
    current: BTreeMap<usize, Current>,
    /// How many runs go on at the same time.
    jobs: usize,
    last_event: Option<Instant>,
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
}

impl RunProgress {
    /// A board for runs with these labels.
    ///
    /// `jobs` of them go on at the same time.
    pub fn new(labels: Vec<String>, verbosity: Verbosity, jobs: usize) -> Self {
        let live = verbosity == Verbosity::Normal && std::io::stderr().is_terminal();
        let bars = MultiProgress::with_draw_target(if live {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        });
        let total = bars.add(ProgressBar::new(labels.len() as u64));
        total.set_style(download_bar::style("{pos}/{len} runs {bar:12} {wide_msg}"));
        let board = Self {
            verbosity,
            bars,
            total,
            waiting: vec![true; labels.len()],
            labels,
            took: BTreeMap::new(),
            begun: Instant::now(),
            current: BTreeMap::new(),
            jobs,
            last_event: None,
            header: false,
            noted: BTreeSet::new(),
        };
        board.event(json!({ "event": "planned", "runs": board.labels.len() }));
        board
    }

    /// A run that is not made: it has this record already, or stands in the plan twice.
    pub fn skip(&mut self, run: usize, record: Option<&Head>) {
        self.waiting[run] = false;
        self.total.inc(1);
        if let Some(record) = record {
            if let Some(cost) = &record.cost {
                self.took
                    .entry(self.labels[run].clone())
                    .or_default()
                    .push(cost.seconds());
            }
            self.event(json!({
                "event": "reused", "run": run + 1, "label": self.labels[run], "id": record.id,
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
        line.set_prefix(format!("{} seed {seed}", cut(&self.labels[run], 24)));
        line.set_message("starting");
        let current = Current {
            line,
            seed,
            id: id.to_owned(),
            begun: Instant::now(),
            left: None,
        };
        self.current.insert(run, current);
        self.event(json!({
            "event": "started", "run": run + 1, "label": self.labels[run], "seed": seed, "id": id,
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
                current.line.set_message(format!(
                    "{step}/{steps} loss {loss:.3} {examples_per_second:.0} ex/s, {} left",
                    format::seconds(left.ceil())
                ));
                current.left = Some(left);
                self.show_total();
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
        if self.verbosity == Verbosity::Normal && self.noted.insert(text.to_owned()) {
            self.print(text);
        }
    }

    /// A run on its way has ended.
    pub fn finish(&mut self, run: usize, record: &RunRecord) {
        let Some(current) = self.current.remove(&run) else {
            return;
        };
        let seconds = current.begun.elapsed().as_secs_f64();
        let label = self.labels[run].clone();
        self.took.entry(label.clone()).or_default().push(seconds);
        if record.status != Status::Interrupted {
            self.total.inc(1);
        }
        current.line.finish_and_clear();
        self.bars.remove(&current.line);
        if self.verbosity == Verbosity::Normal {
            if !self.header {
                self.header = true;
                self.print(&row(
                    self.labels.len(),
                    ["run", "method", "seed", "result", "training", "examples/s"],
                ));
            }
            self.print(&finished_row(
                self.labels.len(),
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
    pub fn close(self) {
        // Finishing the bar moves it to its end.
        let ended = self.total.position();
        self.total.finish_and_clear();
        if self.header && self.labels.len() > 1 {
            let time = format::seconds(self.begun.elapsed().as_secs_f64());
            self.print(&format!("{ended} of {} runs in {time}", self.labels.len()));
        }
    }

    /// Expected seconds of the runs to come; `None` before anything is known.
    pub fn remaining(&self) -> Option<f64> {
        let labels = self.labels.iter().zip(&self.waiting);
        let waiting = labels.filter(|(_, w)| **w).map(|(l, _)| l.as_str());
        Some(remaining(waiting, &self.took)? / self.jobs as f64)
    }

    fn show_total(&self) {
        let on_the_way = self.current.values().filter_map(|c| c.left);
        let current = on_the_way.reduce(f64::max);
        let so_far = format::seconds(self.begun.elapsed().as_secs_f64().floor());
        let left = match (self.remaining(), current) {
            (None, None) => String::new(),
            (rest, own) => format!(
                ", about {} left",
                format::seconds((rest.unwrap_or(0.0) + own.unwrap_or(0.0)).ceil())
            ),
        };
        self.total.set_message(format!("{so_far} so far{left}"));
    }

    fn print(&self, text: &str) {
        if self.total.is_hidden() {
            eprintln!("{text}");
        } else {
            self.bars.println(text).ok();
        }
    }

    fn event(&self, value: Value) {
        if self.verbosity == Verbosity::Json {
            // What cannot be written now shows at the next write of a result.
            say!("{value}").ok();
        }
    }
}

/// Expected seconds of runs with these labels, from what finished ones took.
fn remaining<'a>(
    labels: impl Iterator<Item = &'a str>,
    took: &BTreeMap<String, Vec<f64>>,
) -> Option<f64> {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let all: Vec<f64> = took.values().flatten().copied().collect();
    if all.is_empty() {
        return None;
    }
    let overall = mean(&all);
    Some(
        labels
            .map(|label| took.get(label).map_or(overall, |t| mean(t)))
            .sum(),
    )
}

/// A row of the table; fits 80 columns.
fn row(runs: usize, [number, label, seed, result, time, speed]: [&str; 6]) -> String {
    let width = 2 * runs.to_string().len() + 1;
    format!(
        "{number:>width$}  {:<30} {seed:>4}  {result:>8} {time:>12} {speed:>10}",
        cut(label, 30)
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

/// A text cut to `width` characters.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars()
        .take(width.saturating_sub(1))
        .chain(['…'])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_is_that_of_like_runs_and_of_all_where_there_is_none() {
        let took = BTreeMap::from([
            ("lora".to_owned(), vec![10.0, 20.0]),
            ("full".to_owned(), vec![60.0]),
        ]);
        // 15 for lora, and 30, the mean of all, for the one that has not run yet.
        assert_eq!(
            remaining(["lora", "adapter"].into_iter(), &took),
            Some(45.0)
        );
        assert_eq!(remaining(["lora"].into_iter(), &BTreeMap::new()), None);
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
