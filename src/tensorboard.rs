//! TensorBoard's event files, one folder per run: loss, learning rate, speed, validation metrics and the hyperparameters.
//!
//! A file is a row of records (length, checksum, bytes, checksum; CRC-32C masked as TensorFlow does), each a protocol buffer
//! `Event`. Only the few fields that are needed are written, by hand: no library for protocol buffers is worth three messages.
//! Everything comes from the run's record, so that runs that were made before have their files too.

use std::path::{Path, PathBuf};

use anyhow::Result;
use record::{RunRecord, Status};
use serde_json::Value;

use crate::train::recipe::Recipe;

/// Writes the events of runs that ended well or diverged; returns the folders.
///
/// # Errors
/// If a folder cannot be written.
pub fn write_all<'a>(
    folder: &Path,
    records: impl IntoIterator<Item = &'a RunRecord>,
) -> Result<Vec<PathBuf>> {
    let mut written = Vec::new();
    for record in records.into_iter().filter(|r| r.status.is_whole()) {
        let asked = &record.asked;
        let parts = [
            asked.dataset.name.as_str(),
            &asked.backbone.name,
            &asked.method.name,
            &asked.method.variant,
            &format!("seed{}", asked.seed),
            &record.id[..record.id.len().min(6)],
        ];
        let parts: Vec<&str> = parts.into_iter().filter(|p| !p.is_empty()).collect();
        let name = reports::format::file_name(&parts.join("-"), 150);
        let place = folder.join(name);
        std::fs::create_dir_all(&place)?;
        // The same file again where the run is written again.
        let file = place.join(format!("events.out.tfevents.0.{}", record.id));
        record::write_whole(&file, &events(record)?)?;
        written.push(place);
    }
    Ok(written)
}

/// All events of a run.
fn events(record: &RunRecord) -> Result<Vec<u8>> {
    let started = humantime::parse_rfc3339(&record.circumstances.started).ok();
    let started = started.and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
    let mut clock = started.map_or(0.0, |t| t.as_secs_f64());
    let mut file = Vec::new();
    let mut add = |time: f64, step: usize, message: &dyn Fn(&mut Message)| {
        let mut event = Message::default();
        event.double(1, time);
        event.integer(2, step as u64);
        message(&mut event);
        frame(&mut file, &event.0);
    };
    add(clock, 0, &|event| event.text(3, "brain.Event:2"));
    add(clock, 0, &|event| {
        event.nested(5, &hyperparameters(record, clock))
    });
    let rates = learning_rates(record)?;
    let (outcome, cost) = (record.outcome.as_ref(), record.cost.as_ref());
    let losses = outcome.map_or(&[][..], |o| &o.loss);
    let seconds = cost.map_or(&[][..], |c| &c.step_seconds);
    let tokens = cost.map_or(0.0, |c| c.tokens as f64 / losses.len().max(1) as f64);
    let mut evaluations = outcome
        .map_or(&[][..], |o| &o.evaluations)
        .iter()
        .peekable();
    for step in 1..=losses.len() {
        let took = f64::from(seconds.get(step - 1).copied().unwrap_or(0.0));
        clock += took;
        let mut values = vec![
            ("train/loss".to_owned(), f64::from(losses[step - 1])),
            ("train/learning_rate".to_owned(), rates(step - 1)),
        ];
        if took > 0.0 {
            values.push(("train/tokens_per_second".to_owned(), tokens / took));
        }
        add(clock, step, &|event| event.nested(5, &summary(&values)));
        while evaluations.peek().is_some_and(|e| e.step <= step) {
            let Some(evaluation) = evaluations.next() else {
                break;
            };
            let values = metrics(evaluation);
            add(clock, evaluation.step, &|event| {
                event.nested(5, &summary(&values))
            });
        }
    }
    for evaluation in evaluations {
        let values = metrics(evaluation);
        add(clock, evaluation.step, &|event| {
            event.nested(5, &summary(&values))
        });
    }
    add(clock, losses.len(), &|event| {
        event.nested(5, &session_end(record, clock))
    });
    Ok(file)
}

fn metrics(evaluation: &record::Evaluation) -> Vec<(String, f64)> {
    let named = evaluation.metrics.iter();
    let named = named.map(|(name, value)| (format!("validation/{name}"), *value));
    named
        .chain([("validation/loss".to_owned(), evaluation.loss)])
        .collect()
}

/// The method's learning rate by step, counted from 0.
fn learning_rates(record: &RunRecord) -> Result<impl Fn(usize) -> f64> {
    let asked = &record.asked;
    let recipe: Recipe = serde_json::from_value(asked.recipe.clone())?;
    let config = asked.method.config.as_object().cloned().unwrap_or_default();
    let peak = methods::resolve_values(&asked.method.name, config)?
        .optimiser()
        .learning_rate;
    Ok(move |step| peak * recipe.schedule(step))
}

/// A record with its length and checksums.
fn frame(file: &mut Vec<u8>, bytes: &[u8]) {
    let length = (bytes.len() as u64).to_le_bytes();
    file.extend(length);
    file.extend(masked(&length).to_le_bytes());
    file.extend(bytes);
    file.extend(masked(bytes).to_le_bytes());
}

/// TensorFlow's masked CRC-32C.
fn masked(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

/// `Summary` of plain numbers.
fn summary(values: &[(String, f64)]) -> Message {
    let mut summary = Message::default();
    for (tag, value) in values {
        let mut one = Message::default();
        one.text(1, tag);
        one.float(2, *value as f32);
        summary.nested(1, &one);
    }
    summary
}

/// `Summary` with content for the plug-in of hyperparameters.
fn for_hparams(tag: &str, field: u32, content: &Message) -> Message {
    let mut data = Message::default();
    data.integer(1, 0);
    data.nested(field, content);
    let mut plugin = Message::default();
    plugin.text(1, "hparams");
    plugin.nested(2, &data);
    let mut metadata = Message::default();
    metadata.nested(1, &plugin);
    let mut value = Message::default();
    value.text(1, tag);
    value.nested(9, &metadata);
    let mut summary = Message::default();
    summary.nested(1, &value);
    summary
}

/// `SessionStartInfo`: what was asked for.
fn hyperparameters(record: &RunRecord, started: f64) -> Message {
    let asked = &record.asked;
    let mut info = Message::default();
    let mut add = |name: &str, value: &Value| {
        let mut written = Message::default();
        match value {
            Value::Number(n) => written.double(2, n.as_f64().unwrap_or(f64::NAN)),
            Value::Bool(b) => written.integer(4, u64::from(*b)),
            Value::String(s) => written.text(3, s),
            other => written.text(3, &other.to_string()),
        }
        let mut entry = Message::default();
        entry.text(1, name);
        entry.nested(2, &written);
        info.nested(1, &entry);
    };
    add("dataset", &asked.dataset.name.clone().into());
    add("backbone", &asked.backbone.name.clone().into());
    add("method", &asked.method.name.clone().into());
    add("seed", &asked.seed.into());
    for (key, value) in asked.method.config.as_object().into_iter().flatten() {
        add(&format!("{}.{key}", asked.method.name), value);
    }
    for (key, value) in asked.recipe.as_object().into_iter().flatten() {
        add(&format!("recipe.{key}"), value);
    }
    info.double(5, started);
    for_hparams("_hparams_/session_start_info", 3, &info)
}

/// `SessionEndInfo`.
fn session_end(record: &RunRecord, ended: f64) -> Message {
    let mut info = Message::default();
    // STATUS_SUCCESS, STATUS_FAILURE.
    info.integer(1, if record.status == Status::Ok { 1 } else { 2 });
    info.double(2, ended);
    for_hparams("_hparams_/session_end_info", 4, &info)
}

/// The bytes of a protocol buffer.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn key(&mut self, field: u32, wire: u32) {
        self.varint((field << 3 | wire).into());
    }

    fn integer(&mut self, field: u32, value: u64) {
        self.key(field, 0);
        self.varint(value);
    }

    fn double(&mut self, field: u32, value: f64) {
        self.key(field, 1);
        self.0.extend(value.to_le_bytes());
    }

    fn float(&mut self, field: u32, value: f32) {
        self.key(field, 5);
        self.0.extend(value.to_le_bytes());
    }

    fn bytes(&mut self, field: u32, value: &[u8]) {
        self.key(field, 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
    }

    fn text(&mut self, field: u32, value: &str) {
        self.bytes(field, value.as_bytes());
    }

    fn nested(&mut self, field: u32, value: &Self) {
        self.bytes(field, &value.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_framed_as_tensorflow_does() {
        // From tensorboard.summary.writer.record_writer.RecordWriter: b"hello".
        let mut file = Vec::new();
        frame(&mut file, b"hello");
        assert_eq!(file.len(), 8 + 4 + 5 + 4);
        assert_eq!(&file[..8], &5u64.to_le_bytes());
        // The check value of CRC-32C, masked.
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(
            masked(b"123456789"),
            0xe306_9283_u32.rotate_right(15).wrapping_add(0xa282_ead8)
        );
    }

    #[test]
    fn numbers_of_protocol_buffers_are_written_in_sevens_of_bits() {
        let mut message = Message::default();
        message.integer(2, 300);
        assert_eq!(message.0, [0x10, 0xac, 0x02]);
    }
}
