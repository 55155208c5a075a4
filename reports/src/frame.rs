//! Records as one data frame: a row per run, for tables, pivots and whoever asks their own questions of `records.parquet`.

use polars::prelude::{AnyValue, Column, DataFrame, ParquetWriter};
use record::{RunRecord, Status};
use serde_json::{Map, Value, json};

use crate::{Result, latency};

/// The columns with what they hold. Absent values are null; units are seconds, bytes, milliseconds and fractions.
pub const COLUMNS: &[(&str, &str)] = &[
    ("id", "name of the record's file"),
    ("dataset", "data set that was read"),
    (
        "stand_in_for",
        "data set that was asked for, where another stands in for it",
    ),
    ("data_digest", "SHA-256 of texts and labels"),
    ("train_examples", "training examples"),
    ("validation_examples", "examples that were judged on"),
    (
        "main_metric",
        "name of the metric that methods are compared by",
    ),
    ("backbone", "name of the frozen transformer"),
    ("backbone_digest", "SHA-256 of the frozen transformer"),
    ("backbone_parameters", "its parameters"),
    ("pooling", "how an example's vector is read"),
    ("precision", "how the frozen weights are held: f32 or bf16"),
    ("method", "name of the method"),
    (
        "variant",
        "what distinguishes the configuration from the defaults",
    ),
    ("tuned", "whether a search found the configuration"),
    ("config", "configuration as JSON"),
    ("recipe", "recipe as JSON"),
    ("numerics", "versions of the numerics as JSON"),
    ("op_path", "fast or reference operations"),
    ("seed", "seed of every random stream"),
    ("status", "ok, diverged, failed or interrupted"),
    ("reason", "why the run did not end well"),
    ("metric", "final value of the main metric"),
    ("validation_loss", "final mean cross-entropy"),
    ("parameters", "parameters that the method trains"),
    ("head_parameters", "parameters of the classification head"),
    ("shipped_parameters", "parameters in the method's file"),
    ("checks_failed", "checks of the run that failed"),
    ("steps", "optimiser steps done"),
    ("training_seconds", "seconds of training steps"),
    ("evaluation_seconds", "seconds of all evaluations"),
    (
        "seconds_to_first_step",
        "seconds from the start of the process",
    ),
    ("tokens", "tokens trained on"),
    ("peak_memory_bytes", "peak resident memory in training"),
    ("file_bytes", "size of the saved weights, head included"),
    (
        "resident_bytes",
        "memory of what is loaded beside the backbone",
    ),
    ("latency_p50_ms", "median latency of one sentence"),
    (
        "latency_over_backbone",
        "the same over the backbone's in the same process",
    ),
    ("merged_latency_over_backbone", "the same after merging"),
    ("started", "start of the run, UTC"),
    ("processor", "processor model"),
    ("threads", "threads"),
    ("load", "cores that other work kept busy during the run"),
];

/// The frame of these records, a row per run in their order.
///
/// # Errors
/// If it cannot be built; not expected.
pub fn frame(records: &[&RunRecord]) -> Result<DataFrame> {
    let text = |name: &str, f: &dyn Fn(&RunRecord) -> Option<String>| {
        Column::new(
            name.into(),
            records
                .iter()
                .map(|r| f(r))
                .collect::<Vec<Option<String>>>(),
        )
    };
    let number = |name: &str, f: &dyn Fn(&RunRecord) -> Option<f64>| {
        Column::new(
            name.into(),
            records.iter().map(|r| f(r)).collect::<Vec<Option<f64>>>(),
        )
    };
    let whole = |name: &str, f: &dyn Fn(&RunRecord) -> Option<u64>| {
        Column::new(
            name.into(),
            records.iter().map(|r| f(r)).collect::<Vec<Option<u64>>>(),
        )
    };
    fn as_json(value: &impl serde::Serialize) -> Option<String> {
        serde_json::to_string(value).ok()
    }
    let parameters = |name: &str, f: fn(&record::Parameters) -> usize| {
        whole(name, &move |r| {
            Some(f(&r.outcome.as_ref()?.parameters) as u64)
        })
    };
    let last = |r: &RunRecord| r.outcome.as_ref()?.evaluations.last().cloned();
    let over = |name: &str, variant: &'static str| {
        number(name, &move |r| {
            let process = latency::of_records(&[r]);
            Some(latency::over_backbone(&process, variant, latency::SENTENCE)?.ratio)
        })
    };
    let columns = vec![
        text("id", &|r| Some(r.id.clone())),
        text("dataset", &|r| Some(r.asked.dataset.name.clone())),
        text("stand_in_for", &|r| r.asked.dataset.stand_in_for.clone()),
        text("data_digest", &|r| Some(r.asked.dataset.digest.clone())),
        whole("train_examples", &|r| {
            Some(r.asked.dataset.train_examples as u64)
        }),
        whole("validation_examples", &|r| {
            Some(r.asked.dataset.validation_examples as u64)
        }),
        text("main_metric", &|r| {
            Some(r.asked.dataset.main_metric.clone())
        }),
        text("backbone", &|r| Some(r.asked.backbone.name.clone())),
        text("backbone_digest", &|r| {
            Some(r.asked.backbone.digest.clone())
        }),
        whole("backbone_parameters", &|r| {
            Some(r.asked.backbone.parameters as u64)
        }),
        text("pooling", &|r| Some(r.asked.backbone.pooling.clone())),
        text("precision", &|r| {
            let own = r.asked.backbone.precision.clone();
            Some(own.unwrap_or_else(|| "f32".into()))
        }),
        text("method", &|r| Some(r.asked.method.name.clone())),
        text("variant", &|r| Some(r.asked.method.variant.clone())),
        Column::new(
            "tuned".into(),
            records
                .iter()
                .map(|r| r.asked.method.tuned.is_some())
                .collect::<Vec<bool>>(),
        ),
        text("config", &|r| as_json(&r.asked.method.config)),
        text("recipe", &|r| as_json(&r.asked.recipe)),
        text("numerics", &|r| as_json(&r.asked.numerics)),
        text("op_path", &|r| Some(r.asked.op_path.clone())),
        whole("seed", &|r| Some(r.asked.seed)),
        text("status", &|r| {
            let status = match r.status {
                Status::Ok => "ok",
                Status::Diverged { .. } => "diverged",
                Status::Failed { .. } => "failed",
                Status::Interrupted => "interrupted",
            };
            Some(status.to_owned())
        }),
        text("reason", &|r| match &r.status {
            Status::Diverged { reason, .. } => Some(reason.clone()),
            Status::Failed { error } => Some(error.clone()),
            _ => None,
        }),
        number("metric", &|r| {
            last(r)?.metrics.get(&r.asked.dataset.main_metric).copied()
        }),
        number("validation_loss", &|r| Some(last(r)?.loss)),
        parameters("parameters", |p| p.method),
        parameters("head_parameters", |p| p.head),
        parameters("shipped_parameters", |p| p.shipped),
        text("checks_failed", &|r| {
            let failed = r.outcome.as_ref()?.checks.iter().filter(|c| !c.passed);
            Some(
                failed
                    .map(|c| c.name.as_str())
                    .collect::<Vec<_>>()
                    .join(", "),
            )
        }),
        whole("steps", &|r| Some(r.outcome.as_ref()?.loss.len() as u64)),
        number("training_seconds", &|r| {
            Some(r.cost.as_ref()?.training_seconds)
        }),
        number("evaluation_seconds", &|r| {
            Some(r.cost.as_ref()?.evaluation_seconds)
        }),
        number("seconds_to_first_step", &|r| {
            Some(r.cost.as_ref()?.seconds_to_first_step)
        }),
        whole("tokens", &|r| Some(r.cost.as_ref()?.tokens as u64)),
        whole("peak_memory_bytes", &|r| r.cost.as_ref()?.peak_memory_bytes),
        whole("file_bytes", &|r| Some(r.cost.as_ref()?.file_bytes)),
        whole("resident_bytes", &|r| r.cost.as_ref()?.resident_bytes),
        number("latency_p50_ms", &|r| {
            let of = |l: &&record::Latency| {
                l.variant == "unmerged" && (l.batch, l.length) == latency::SENTENCE
            };
            Some(r.cost.as_ref()?.latency.iter().find(of)?.p50_ms)
        }),
        over("latency_over_backbone", "unmerged"),
        over("merged_latency_over_backbone", "merged"),
        text("started", &|r| Some(r.circumstances.started.clone())),
        text("processor", &|r| Some(r.circumstances.processor.clone())),
        whole("threads", &|r| Some(r.circumstances.threads as u64)),
        number("load", &|r| r.circumstances.load),
    ];
    Ok(DataFrame::new(records.len(), columns)?)
}

/// The rows of a frame as JSON objects, a key per column.
///
/// # Errors
/// If a column cannot be read; not expected.
pub fn rows(frame: &DataFrame) -> Result<Vec<Map<String, Value>>> {
    let mut rows = vec![Map::new(); frame.height()];
    for column in frame.columns() {
        for (row, object) in rows.iter_mut().enumerate() {
            let value = match column.get(row)? {
                AnyValue::Null => Value::Null,
                AnyValue::Boolean(value) => json!(value),
                AnyValue::UInt64(value) => json!(value),
                AnyValue::Float64(value) => json!(value),
                AnyValue::String(value) => json!(value),
                other => json!(other.to_string()),
            };
            object.insert(column.name().to_string(), value);
        }
    }
    Ok(rows)
}

/// The frame as a Parquet file.
///
/// # Errors
/// If it cannot be built; not expected.
pub fn parquet(records: &[&RunRecord]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    ParquetWriter::new(&mut bytes).finish(&mut frame(records)?)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sample::{self, Sample};

    #[test]
    fn every_run_is_a_row_and_every_column_is_documented() {
        let records = sample::troubled_comparison(2);
        let records: Vec<&RunRecord> = records.iter().collect();
        let frame = frame(&records).unwrap();
        assert_eq!(frame.height(), records.len());
        let documented: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
        let names: Vec<&str> = frame
            .get_column_names()
            .into_iter()
            .map(|n| n.as_str())
            .collect();
        assert_eq!(names, documented);
    }

    #[test]
    fn values_are_those_of_the_records_and_absent_ones_are_null() {
        let records = [
            Sample::new("lora")
                .seed(7)
                .training_seconds(12.5)
                .latency("backbone", 2.0, 3.0)
                .record(),
            Sample::new("full")
                .ended(Status::Failed {
                    error: "no room".into(),
                })
                .record(),
        ];
        let records: Vec<&RunRecord> = records.iter().collect();
        let frame = frame(&records).unwrap();
        let at = |name: &str, row: usize| frame.column(name).unwrap().get(row).unwrap().to_string();
        assert_eq!(at("seed", 0), "7");
        assert_eq!(at("training_seconds", 0), "12.5");
        assert_eq!(at("latency_over_backbone", 0), "2.0");
        assert_eq!(at("training_seconds", 1), "null");
        assert!(at("reason", 1).contains("no room"));
        assert_eq!(&parquet(&records).unwrap()[..4], b"PAR1");
        let rows = rows(&frame).unwrap();
        assert_eq!(rows[0]["seed"], 7);
        assert_eq!(rows[0]["training_seconds"], 12.5);
        assert_eq!(rows[0]["method"], "lora");
        assert_eq!(rows[1]["training_seconds"], Value::Null);
        assert_eq!(rows[1]["status"], "failed");
    }
}
