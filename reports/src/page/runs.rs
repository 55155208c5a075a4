//! The runs of a method, each with its checks and its record.

use record::{RunRecord, Status};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    Comparison,
    costs::MARK,
    format, latency,
    row::{self, Row, Run},
    table::ABSENT,
};

#[derive(Serialize)]
pub(super) struct RunView {
    id: String,
    seed: u64,
    status: String,
    pub(super) ok: bool,
    valid: bool,
    metric: Option<String>,
    training_time: Option<String>,
    memory: Option<String>,
    latency: Option<String>,
    file: Option<String>,
    /// By the section's list of checks.
    pub(super) checks: Vec<Option<CheckView>>,
    /// The record without its long lists, where the page holds it.
    record: Option<String>,
}

#[derive(Clone, Serialize)]
pub(super) struct CheckView {
    pub(super) passed: bool,
    detail: String,
}

/// Names of all checks that any run made, in order of appearance, the report's own last.
pub(super) fn check_names(comparison: &Comparison) -> Vec<String> {
    let outcomes = comparison.records.iter().filter_map(|r| r.outcome.as_ref());
    let any = outcomes.clone().next().is_some();
    let mut names: Vec<String> = Vec::new();
    for check in outcomes.flat_map(|o| &o.checks) {
        if !names.contains(&check.name) {
            names.push(check.name.clone());
        }
    }
    names.extend(any.then(|| row::METRIC_CHECK.to_owned()));
    names
}

/// The runs of a row by the checks of these names, with their records or without.
pub(super) fn runs(
    comparison: &Comparison,
    row: &Row,
    names: &[String],
    records: bool,
) -> Vec<RunView> {
    let view = |run: &Run| {
        let record = comparison.record(&run.id)?;
        let cost = record.cost.as_ref();
        let mark = if record.circumstances.busy() {
            MARK
        } else {
            ""
        };
        let marked = |text: String| text + mark;
        let mut failed = run.failed_checks.iter();
        let own_failed = failed.find(|c| c.starts_with(row::METRIC_CHECK));
        let own = "the stored predictions give the stored metric";
        let check = |name: &String| {
            let outcome = record.outcome.as_ref()?;
            // Should a check be made twice, the failed one counts.
            let mut named = outcome.checks.iter().filter(|c| c.name == *name);
            let (passed, detail) = match name == row::METRIC_CHECK {
                true => (own_failed.is_none(), own_failed.map_or(own, String::as_str)),
                false => {
                    let check = named.clone().find(|c| !c.passed).or(named.next())?;
                    (check.passed, check.detail.as_str())
                }
            };
            let detail = detail.to_owned();
            Some(CheckView { passed, detail })
        };
        Some(RunView {
            id: run.id.clone(),
            seed: run.seed,
            status: row::status_text(&run.status),
            ok: run.status == Status::Ok,
            valid: run.failed_checks.is_empty(),
            metric: run.metric.map(|m| format::metric(comparison.metric(), m)),
            training_time: cost.map(|c| marked(format::seconds(c.training_seconds))),
            memory: cost.and_then(|c| Some(format::bytes(c.peak_memory_bytes? as f64))),
            latency: latency::sentence(record).map(|l| {
                let p99 = match l.samples >= latency::PASSES_FOR_P99 {
                    true => format::ms(l.p99_ms),
                    false => ABSENT.to_owned(),
                };
                marked(format!("{} / {p99}", format::ms(l.p50_ms)))
            }),
            file: cost.map(|c| format::bytes(c.file_bytes as f64)),
            checks: names.iter().map(check).collect(),
            record: records.then(|| shortened(record)),
        })
    };
    row.runs.iter().filter_map(view).collect()
}

/// The record as JSON; lists that only a program reads are counted instead of printed.
fn shortened(record: &RunRecord) -> String {
    const LONG: usize = 24;
    fn counted(n: usize, things: &str) -> Value {
        json!(format!(
            "… {} {things}, in the record's file",
            format::count(n)
        ))
    }
    fn shorten(value: &mut Value) {
        match value {
            Value::Array(list) if list.len() > LONG => *value = counted(list.len(), "values"),
            // Predicted labels; sentences have spaces.
            Value::String(text) if text.len() > 200 && !text.contains(' ') => {
                *value = counted(text.len(), "characters");
            }
            Value::Array(list) => list.iter_mut().for_each(shorten),
            Value::Object(map) => map.values_mut().for_each(shorten),
            _ => {}
        }
    }
    let mut value = serde_json::to_value(record).unwrap_or_default();
    shorten(&mut value);
    serde_json::to_string_pretty(&value).unwrap_or_default()
}
