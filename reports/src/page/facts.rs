//! Everything that was measured of a method, for its own table.

use serde::Serialize;
use statistics::Summary;

use crate::{Comparison, format, latency::SENTENCE, row::Row};

/// A number with its spread.
#[derive(Serialize)]
pub(super) struct Fact {
    name: String,
    mean: String,
    sd: Option<String>,
    interval: Option<String>,
    seeds: usize,
}

/// The facts of a method in the making.
struct Facts(Vec<Fact>);

impl Facts {
    /// A number, where it was measured.
    fn add(&mut self, name: &str, summary: Option<&Summary>, show: impl Fn(f64) -> String) {
        self.0.extend(summary.map(|summary| Fact {
            name: name.to_owned(),
            mean: show(summary.mean),
            sd: summary.sd.map(&show),
            interval: summary.interval.map(|ends| ends.map(&show).join(" – ")),
            seeds: summary.values.len(),
        }));
    }
}

/// Everything that was measured of a method, for its own table.
pub(super) fn facts(comparison: &Comparison, row: &Row) -> Vec<Fact> {
    let mut facts = Facts(Vec::new());
    for (name, summary) in &row.metrics {
        let title = match name == comparison.metric() {
            true => format!("{name} (ranks the methods)"),
            false => name.clone(),
        };
        facts.add(&title, Some(summary), |v| format::metric(name, v));
    }
    let nats = |v: f64| format!("{v:.3}");
    let loss = match comparison.dataset.objective.as_str() {
        "regression" => "validation loss (squared error over the variance)",
        _ => "validation loss (nats)",
    };
    facts.add(loss, row.validation_loss.as_ref(), nats);
    if let Some(c) = row.calibration {
        let chance = "what chance alone gives a calibrated model of that error";
        let calibration = [
            ("expected calibration error", c.ece),
            (chance, c.ece_floor),
            ("Brier score", c.brier),
            ("negative log-likelihood (nats)", c.nll),
        ];
        // Means over seeds; their spread is not kept.
        facts.0.extend(calibration.map(|(name, value)| Fact {
            name: name.into(),
            mean: nats(value),
            sd: None,
            interval: None,
            seeds: row.ended_well().0,
        }));
    }
    let rate = |unit: &'static str| move |v: f64| format!("{} {unit}", format::count_short(v));
    let (examples, tokens) = (rate("examples/s"), rate("tokens/s"));
    let time = |v: f64| row.marked(format::seconds(v));
    type Show<'a> = &'a dyn Fn(f64) -> String;
    let numbers: [(&str, &Option<Summary>, Show<'_>); 6] = [
        ("training time", &row.training_seconds, &time),
        ("training speed", &row.examples_per_second, &examples),
        (
            "training speed in real tokens",
            &row.tokens_per_second,
            &tokens,
        ),
        (
            "time to the first step",
            &row.seconds_to_first_step,
            &format::seconds,
        ),
        ("peak memory", &row.peak_memory_bytes, &format::bytes),
        ("file, head included", &row.file_bytes, &format::bytes),
    ];
    for (name, summary, show) in numbers {
        facts.add(name, summary.as_ref(), show);
    }
    let ms = |v: f64| row.marked(format!("{} ms", format::ms(v)));
    for l in row.latency.iter().filter(|l| l.setting() == SENTENCE) {
        let name = |percentile: &str| format!("latency {percentile}, {}", l.variant);
        facts.add(&name("p50"), Some(&l.p50_ms), ms);
        facts.add(&name("p99"), l.p99_ms.as_ref(), ms);
    }
    facts.0
}
