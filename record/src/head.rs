//! What lists and states of runs need of a record, read without its long parts.
//!
//! In a record's file the short parts stand before the long ones (steps, predictions), so the first few kilobytes are enough.

use std::fmt;
use std::io::{ErrorKind, Read};
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::error::Result;
use crate::record_file::{bytes_of, check_format, id_in, is_compressed};
use crate::{Asked, Circumstances, Cost, FORMAT, RunRecord, Status};

/// Bytes that are read first: more than the short parts of a record take.
const FIRST: u64 = 16 << 10;

/// The short parts of a record.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// The run's name.
    pub id: String,
    /// How it ended.
    pub status: Status,
    /// Everything that determines it.
    pub asked: Asked,
    /// Under what circumstances it ran.
    pub circumstances: Circumstances,
    /// What it cost; absent unless it ended well.
    pub cost: Option<CostHead>,
}

/// Of [`Cost`].
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub struct CostHead {
    /// Seconds of training steps.
    pub training_seconds: f64,
    /// Seconds of all evaluations together.
    pub evaluation_seconds: f64,
    /// Seconds from the start of the process to the end of the first step.
    pub seconds_to_first_step: f64,
    /// Peak resident memory, in bytes.
    pub peak_memory_bytes: Option<u64>,
    /// Size of the saved weights, in bytes.
    pub file_bytes: u64,
}

impl From<&Cost> for CostHead {
    fn from(cost: &Cost) -> Self {
        Self {
            training_seconds: cost.training_seconds,
            evaluation_seconds: cost.evaluation_seconds,
            seconds_to_first_step: cost.seconds_to_first_step,
            peak_memory_bytes: cost.peak_memory_bytes,
            file_bytes: cost.file_bytes,
        }
    }
}

impl CostHead {
    /// Seconds of the whole run as far as a record tells; what a run checks and times of itself comes on top.
    pub fn seconds(&self) -> f64 {
        self.seconds_to_first_step + self.training_seconds + self.evaluation_seconds
    }
}

impl From<&RunRecord> for Head {
    fn from(record: &RunRecord) -> Self {
        Self {
            id: record.id.clone(),
            status: record.status.clone(),
            asked: record.asked.clone(),
            circumstances: record.circumstances.clone(),
            cost: record.cost.as_ref().map(CostHead::from),
        }
    }
}

impl Head {
    /// Of the record in a file, or the reason why there is none.
    ///
    /// # Errors
    /// When it has another [`FORMAT`].
    pub fn read(path: &Path) -> Result<std::result::Result<Self, String>> {
        let (mut json, whole) = match read(path) {
            Ok(read) => read,
            Err(e) => return Ok(Err(format!("cannot be read ({e})"))),
        };
        let mut parts = parts(&json);
        if parts.head().is_none() && !whole {
            json = match bytes_of(path) {
                Ok(json) => json,
                Err(e) => return Ok(Err(format!("cannot be read ({e})"))),
            };
            parts = self::parts(&json);
        }
        if parts.format != Some(FORMAT) {
            return Ok(check_format(path, &json)?.and(Err("not a record".to_owned())));
        }
        Ok(match parts.head() {
            Some(head) if id_in(path) == Some(head.id.as_str()) => Ok(head),
            Some(head) => Err(format!("its id is {}", head.id)),
            None => Err("not a whole record".to_owned()),
        })
    }
}

/// The first bytes of a file, and whether they are all of it.
fn read(path: &Path) -> std::io::Result<(Vec<u8>, bool)> {
    if is_compressed(path) {
        return Ok((bytes_of(path)?, true));
    }
    let mut json = Vec::with_capacity(FIRST as usize);
    match crate::files::open(path).and_then(|file| file.take(FIRST).read_to_end(&mut json)) {
        Ok(read) => Ok((json, (read as u64) < FIRST)),
        Err(e) if e.kind() == ErrorKind::StaleNetworkFileHandle => {
            Ok((crate::files::read(path)?, true))
        }
        Err(e) => Err(e),
    }
}

/// What was read so far.
#[derive(Default)]
struct Parts {
    format: Option<u32>,
    id: Option<String>,
    status: Option<Status>,
    asked: Option<Asked>,
    circumstances: Option<Circumstances>,
    cost: Option<Option<CostHead>>,
}

impl Parts {
    fn head(&self) -> Option<Head> {
        Some(Head {
            id: self.id.clone()?,
            status: self.status.clone()?,
            asked: self.asked.clone()?,
            circumstances: self.circumstances.clone()?,
            cost: self.cost?,
        })
    }
}

/// The parts that stand before the text ends or all are there.
fn parts(json: &[u8]) -> Parts {
    let mut parts = Parts::default();
    // Reading stops with an error on purpose: the rest is not of interest.
    let _ = serde_json::Deserializer::from_slice(json).deserialize_map(&mut parts);
    parts
}

impl<'de> Visitor<'de> for &mut Parts {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a record")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "format" => self.format = Some(map.next_value()?),
                "id" => self.id = Some(map.next_value()?),
                "status" => self.status = Some(map.next_value()?),
                "asked" => self.asked = Some(map.next_value()?),
                "circumstances" => self.circumstances = Some(map.next_value()?),
                "cost" => self.cost = Some(map.next_value()?),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            let other = self.format.is_some_and(|format| format != FORMAT);
            if other || (self.format.is_some() && self.head().is_some()) {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sample::Sample;
    use crate::store;

    #[test]
    fn a_head_is_that_of_the_record_and_is_read_from_its_first_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let mut record = Sample::new("lora").seed(3).record();
        let outcome = record.outcome.as_mut().unwrap();
        // Longer than what is read first.
        outcome.loss = vec![0.123_456_79; 20_000];
        store::write(dir.path(), &record).unwrap();
        let failed = Sample::new("adapter")
            .ended(Status::Failed {
                error: "no room".into(),
            })
            .record();
        store::write(dir.path(), &failed).unwrap();
        let mut expected = vec![Head::from(&record), Head::from(&failed)];
        expected.sort_by(|a, b| a.id.cmp(&b.id));
        assert_eq!(store::heads(dir.path()).unwrap(), expected);

        // What follows the head may even be missing: a list needs no more.
        let path = store::path_of(dir.path(), &record.id);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..FIRST as usize + 1]).unwrap();
        assert_eq!(Head::read(&path).unwrap().unwrap(), Head::from(&record));
    }

    #[test]
    fn a_record_of_an_older_version_with_its_parts_in_another_order_has_the_same_head() {
        let dir = tempfile::tempdir().unwrap();
        let mut record = Sample::new("lora").record();
        record.outcome.as_mut().unwrap().loss = vec![0.5; 20_000];
        // The long parts first.
        let value = serde_json::to_value(&record).unwrap();
        let reversed: serde_json::Map<_, _> = value
            .as_object()
            .unwrap()
            .clone()
            .into_iter()
            .rev()
            .collect();
        let text = serde_json::to_string(&reversed).unwrap();
        let path = store::path_of(dir.path(), &record.id);
        std::fs::write(&path, text).unwrap();
        assert_eq!(Head::read(&path).unwrap().unwrap(), Head::from(&record));
    }

    #[test]
    fn another_format_is_refused_and_what_is_no_record_has_no_head() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.json");
        std::fs::write(&path, r#"{"format": 2, "id": "run"}"#).unwrap();
        assert!(Head::read(&path).is_err());
        for text in [
            "",
            "{",
            "[]",
            r#"{"id": "run"}"#,
            r#"{"format": 1, "id": "run"}"#,
        ] {
            std::fs::write(&path, text).unwrap();
            assert!(Head::read(&path).unwrap().is_err(), "{text}");
        }
    }
}
