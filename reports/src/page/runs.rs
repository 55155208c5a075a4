//! The runs of a method, each with its checks and its record.

use record::{RunRecord, Status};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    Comparison,
    costs::MARK,
    format, latency,
    row::{self, Row},
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
    let mut names: Vec<String> = Vec::new();
    let checks = comparison
        .records
        .iter()
        .filter_map(|r| r.outcome.as_ref())
        .flat_map(|o| &o.checks);
    for check in checks {
        if !names.contains(&check.name) {
            names.push(check.name.clone());
        }
    }
    if comparison.records.iter().any(|r| r.outcome.is_some()) {
        names.push(row::METRIC_CHECK.to_owned());
    }
    names
}

/// The runs of a row by the checks of these names, with their records or without.
pub(super) fn runs(
    comparison: &Comparison,
    row: &Row,
    names: &[String],
    records: bool,
) -> Vec<RunView> {
    row.runs
        .iter()
        .filter_map(|run| {
            let record = comparison.record(&run.id)?;
            let cost = record.cost.as_ref();
            let mark = match record.circumstances.busy() {
                true => MARK,
                false => "",
            };
            let marked = |text: String| text + mark;
            let own_failed = run
                .failed_checks
                .iter()
                .find(|c| c.starts_with(row::METRIC_CHECK));
            let checks = names
                .iter()
                .map(|name| {
                    let outcome = record.outcome.as_ref()?;
                    if name == row::METRIC_CHECK {
                        return Some(CheckView {
                            passed: own_failed.is_none(),
                            detail: own_failed.cloned().unwrap_or_else(|| {
                                "the stored predictions give the stored metric".into()
                            }),
                        });
                    }
                    // Should a check be made twice, the failed one counts.
                    let mut named = outcome.checks.iter().filter(|c| c.name == *name);
                    let check = named.clone().find(|c| !c.passed).or(named.next())?;
                    Some(CheckView {
                        passed: check.passed,
                        detail: check.detail.clone(),
                    })
                })
                .collect();
            Some(RunView {
                id: run.id.clone(),
                seed: run.seed,
                status: row::status_text(&run.status),
                ok: run.status == Status::Ok,
                valid: run.failed_checks.is_empty(),
                metric: run.metric.map(|m| format::metric(comparison.metric(), m)),
                training_time: cost.map(|c| marked(format::seconds(c.training_seconds))),
                memory: cost
                    .and_then(|c| c.peak_memory_bytes)
                    .map(|b| format::bytes(b as f64)),
                latency: latency::sentence(record).map(|l| {
                    let p99 = match l.samples >= latency::PASSES_FOR_P99 {
                        true => format::ms(l.p99_ms),
                        false => ABSENT.to_owned(),
                    };
                    marked(format!("{} / {p99}", format::ms(l.p50_ms)))
                }),
                file: cost.map(|c| format::bytes(c.file_bytes as f64)),
                checks,
                record: records.then(|| shortened(record)),
            })
        })
        .collect()
}

/// The record as JSON; lists that only a program reads are counted instead of printed.
fn shortened(record: &RunRecord) -> String {
    const LONG: usize = 24;
    fn shorten(value: &mut Value) {
        match value {
            Value::Array(list) if list.len() > LONG => {
                *value = json!(format!(
                    "… {} values, in the record's file",
                    format::count(list.len())
                ));
            }
            // Predicted labels; sentences have spaces.
            Value::String(text) if text.len() > 200 && !text.contains(' ') => {
                *value = json!(format!(
                    "… {} characters, in the record's file",
                    format::count(text.len())
                ));
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
