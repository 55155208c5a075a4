//! Everything that was measured of a method, for its own table.

use serde::Serialize;
use statistics::Summary;

use crate::{Comparison, format, row::Row};

/// A number with its spread.
#[derive(Serialize)]
pub(super) struct Fact {
    name: String,
    mean: String,
    sd: Option<String>,
    interval: Option<String>,
    seeds: usize,
}

impl Fact {
    fn of(name: &str, summary: &Summary, show: &dyn Fn(f64) -> String) -> Self {
        Self {
            name: name.to_owned(),
            mean: show(summary.mean),
            sd: summary.sd.map(show),
            interval: summary
                .interval
                .map(|[low, high]| format!("{} – {}", show(low), show(high))),
            seeds: summary.values.len(),
        }
    }
}

/// Everything that was measured of a method, for its own table.
pub(super) fn facts(comparison: &Comparison, row: &Row) -> Vec<Fact> {
    let main = comparison.metric();
    let mut facts = Vec::new();
    let mut push = |name: &str, summary: &Option<Summary>, show: &dyn Fn(f64) -> String| {
        facts.extend(summary.as_ref().map(|s| Fact::of(name, s, show)));
    };
    for (name, summary) in &row.metrics {
        let title = match name == main {
            true => format!("{name} (ranks the methods)"),
            false => name.clone(),
        };
        push(&title, &Some(summary.clone()), &|v| format::metric(name, v));
    }
    let nats = |v: f64| format!("{v:.3}");
    let loss = match comparison.dataset.objective.as_str() {
        "regression" => "validation loss (squared error over the variance)",
        _ => "validation loss (nats)",
    };
    push(loss, &row.validation_loss, &nats);
    if let Some(c) = row.calibration {
        for (name, value) in [
            ("expected calibration error", c.ece),
            (
                "what chance alone gives a calibrated model of that error",
                c.ece_floor,
            ),
            ("Brier score", c.brier),
            ("negative log-likelihood (nats)", c.nll),
        ] {
            // Means over seeds; their spread is not kept.
            facts.push(Fact {
                name: name.into(),
                mean: nats(value),
                sd: None,
                interval: None,
                seeds: row.ended_well().0,
            });
        }
    }
    let mut push = |name: &str, summary: &Option<Summary>, show: &dyn Fn(f64) -> String| {
        facts.extend(summary.as_ref().map(|s| Fact::of(name, s, show)));
    };
    let rate = |unit: &'static str| move |v: f64| format!("{} {unit}", format::count_short(v));
    let time = |v: f64| row.marked(format::seconds(v));
    push("training time", &row.training_seconds, &time);
    push(
        "training speed",
        &row.examples_per_second,
        &rate("examples/s"),
    );
    push(
        "training speed in real tokens",
        &row.tokens_per_second,
        &rate("tokens/s"),
    );
    push(
        "time to the first step",
        &row.seconds_to_first_step,
        &format::seconds,
    );
    push("peak memory", &row.peak_memory_bytes, &format::bytes);
    push("file, head included", &row.file_bytes, &format::bytes);
    let ms = |v: f64| row.marked(format!("{} ms", format::ms(v)));
    for l in row
        .latency
        .iter()
        .filter(|l| l.setting() == crate::latency::SENTENCE)
    {
        push(
            &format!("latency p50, {}", l.variant),
            &Some(l.p50_ms.clone()),
            &ms,
        );
        push(&format!("latency p99, {}", l.variant), &l.p99_ms, &ms);
    }
    facts
}
