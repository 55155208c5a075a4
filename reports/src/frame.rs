//! Records as one data frame: a row per run, for `list runs` and whoever asks their own questions of `records.parquet`.

use polars::prelude::{AnyValue, Column, DataFrame, ParquetWriter};
use record::{RunRecord, Status};
use serde::Serialize;
use serde_json::{Map, Value, json};

use self::Read::{Number, Text, Whole, YesNo};
use crate::{Result, latency};

/// How a column is read of a record.
pub enum Read {
    /// A text.
    Text(fn(&RunRecord) -> Option<String>),
    /// A number.
    Number(fn(&RunRecord) -> Option<f64>),
    /// A whole number.
    Whole(fn(&RunRecord) -> Option<u64>),
    /// Yes or no.
    YesNo(fn(&RunRecord) -> Option<bool>),
}

/// The columns: their names, what they hold (`docs/RECORDS.md`) and where it is. Absent values are null; units are seconds, bytes, milliseconds and
/// fractions.
#[rustfmt::skip]
pub const COLUMNS: &[(&str, &str, Read)] = &[
    ("id", "name of the record's file", Text(|r| Some(r.id.clone()))),
    ("dataset", "data set that was read", Text(|r| Some(r.asked.dataset.name.clone()))),
    ("stand_in_for", "data set that was asked for, where another stands in for it", Text(|r| r.asked.dataset.stand_in_for.clone())),
    ("data_digest", "SHA-256 of texts and labels", Text(|r| Some(r.asked.dataset.digest.clone()))),
    ("train_examples", "training examples", Whole(|r| Some(r.asked.dataset.train_examples as u64))),
    ("validation_examples", "examples that were judged on", Whole(|r| Some(r.asked.dataset.validation_examples as u64))),
    ("main_metric", "name of the metric that methods are compared by", Text(|r| Some(r.asked.dataset.main_metric.clone()))),
    ("backbone", "name of the frozen transformer", Text(|r| Some(r.asked.backbone.name.clone()))),
    ("backbone_digest", "SHA-256 of the frozen transformer", Text(|r| Some(r.asked.backbone.digest.clone()))),
    ("backbone_parameters", "its parameters", Whole(|r| Some(r.asked.backbone.parameters as u64))),
    ("pooling", "how an example's vector is read", Text(|r| Some(r.asked.backbone.pooling.clone()))),
    ("precision", "how the frozen weights are held: f32 or bf16", Text(|r| Some(r.asked.backbone.precision.clone().unwrap_or_else(|| "f32".into())))),
    ("method", "name of the method", Text(|r| Some(r.asked.method.name.clone()))),
    ("variant", "what distinguishes the configuration from the defaults", Text(|r| Some(r.asked.method.variant.clone()))),
    ("tuned", "whether a search found the configuration", YesNo(|r| Some(r.asked.method.tuned.is_some()))),
    ("config", "configuration as JSON", Text(|r| as_json(&r.asked.method.config))),
    ("recipe", "recipe as JSON", Text(|r| as_json(&r.asked.recipe))),
    ("numerics", "versions of the numerics as JSON", Text(|r| as_json(&r.asked.numerics))),
    ("op_path", "fast or reference operations", Text(|r| Some(r.asked.op_path.clone()))),
    ("seed", "seed of every random stream", Whole(|r| Some(r.asked.seed))),
    ("status", "ok, diverged, failed or interrupted", Text(|r| Some(r.status.name().to_owned()))),
    ("reason", "why the run did not end well", Text(reason)),
    ("metric", "final value of the main metric", Number(|r| last(r)?.metrics.get(&r.asked.dataset.main_metric).copied())),
    ("validation_loss", "final mean cross-entropy", Number(|r| Some(last(r)?.loss))),
    ("parameters", "parameters that the method trains", Whole(|r| Some(r.outcome.as_ref()?.parameters.method as u64))),
    ("head_parameters", "parameters of the classification head", Whole(|r| Some(r.outcome.as_ref()?.parameters.head as u64))),
    ("shipped_parameters", "parameters in the method's file", Whole(|r| Some(r.outcome.as_ref()?.parameters.shipped as u64))),
    ("checks_failed", "checks of the run that failed", Text(checks_failed)),
    ("steps", "optimiser steps done", Whole(|r| Some(r.outcome.as_ref()?.loss.len() as u64))),
    ("training_seconds", "seconds of training steps", Number(|r| Some(r.cost.as_ref()?.training_seconds))),
    ("evaluation_seconds", "seconds of all evaluations", Number(|r| Some(r.cost.as_ref()?.evaluation_seconds))),
    ("seconds_to_first_step", "seconds from the start of the process", Number(|r| Some(r.cost.as_ref()?.seconds_to_first_step))),
    ("tokens", "tokens trained on", Whole(|r| Some(r.cost.as_ref()?.tokens as u64))),
    ("peak_memory_bytes", "peak resident memory in training", Whole(|r| r.cost.as_ref()?.peak_memory_bytes)),
    ("file_bytes", "size of the saved weights, head included", Whole(|r| Some(r.cost.as_ref()?.file_bytes))),
    ("resident_bytes", "memory of what is loaded beside the backbone", Whole(|r| r.cost.as_ref()?.resident_bytes)),
    ("latency_p50_ms", "median latency of one sentence", Number(|r| Some(latency::sentence(r)?.p50_ms))),
    ("latency_over_backbone", "the same over the backbone's in the same process", Number(|r| over_backbone(r, "unmerged"))),
    ("merged_latency_over_backbone", "the same after merging", Number(|r| over_backbone(r, "merged"))),
    ("started", "start of the run, UTC", Text(|r| Some(r.circumstances.started.clone()))),
    ("processor", "processor model", Text(|r| Some(r.circumstances.processor.clone()))),
    ("threads", "threads", Whole(|r| Some(r.circumstances.threads as u64))),
    ("load", "cores that other work kept busy during the run", Number(|r| r.circumstances.load)),
];

fn as_json(value: &impl Serialize) -> Option<String> {
    serde_json::to_string(value).ok()
}

fn last(record: &RunRecord) -> Option<&record::Evaluation> {
    record.outcome.as_ref()?.evaluations.last()
}

fn reason(record: &RunRecord) -> Option<String> {
    match &record.status {
        Status::Diverged { reason, .. } => Some(reason.clone()),
        Status::Failed { error } => Some(error.clone()),
        Status::Ok | Status::Interrupted => None,
    }
}

fn checks_failed(record: &RunRecord) -> Option<String> {
    let failed = record.outcome.as_ref()?.checks.iter().filter(|c| !c.passed);
    let names: Vec<&str> = failed.map(|c| c.name.as_str()).collect();
    Some(names.join(", "))
}

fn over_backbone(record: &RunRecord, variant: &str) -> Option<f64> {
    let process = latency::of_records(&[record]);
    Some(latency::over_backbone(&process, variant, latency::SENTENCE)?.ratio)
}

/// The frame of these records, a row per run in their order.
///
/// # Errors
/// If it cannot be built; not expected.
pub fn frame(records: &[&RunRecord]) -> Result<DataFrame> {
    fn read<T>(records: &[&RunRecord], of: fn(&RunRecord) -> Option<T>) -> Vec<Option<T>> {
        records.iter().map(|r| of(r)).collect()
    }
    let column = |(name, _, values): &(&str, &str, Read)| match values {
        Text(of) => Column::new((*name).into(), read(records, *of)),
        Number(of) => Column::new((*name).into(), read(records, *of)),
        Whole(of) => Column::new((*name).into(), read(records, *of)),
        YesNo(of) => Column::new((*name).into(), read(records, *of)),
    };
    let columns = COLUMNS.iter().map(column).collect();
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
    use crate::sample::Sample;

    #[test]
    fn every_column_is_described_where_users_look() {
        let described = include_str!("../../docs/RECORDS.md");
        let rows = COLUMNS.iter();
        let rows = rows.map(|(name, about, _)| format!("| `{name}` | {about} |\n"));
        assert!(described.ends_with(&rows.collect::<String>()));
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
        assert_eq!(frame.shape(), (2, COLUMNS.len()));
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
