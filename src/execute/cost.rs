//! What runs will cost, before they start: how many are missing, and the minutes by earlier records of this machine.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::Result;
use record::{RunRecord, store};
use reports::format;
use serde_json::{Value, json};

use super::{planned::Planned, progress::Verbosity};
use crate::{folders, measure};

/// What runs cost, by what runs of this machine cost before.
pub struct Cost {
    /// Runs in all.
    pub runs: usize,
    /// Runs that are to be made.
    pub missing: usize,
    /// Seconds of those that can be foretold.
    pub seconds: f64,
    /// Bytes of weights of those.
    pub bytes: f64,
    /// Methods that no earlier run of this machine tells of.
    pub unknown: Vec<String>,
}

impl Cost {
    /// Of these runs, by the records in and beside `out`.
    ///
    /// # Errors
    /// If the folder of a run's records cannot be read.
    pub fn of(runs: &[Planned], out: &Path) -> Result<Self> {
        let processor = measure::circumstances(None).processor;
        let mut known: Vec<RunRecord> = Vec::new();
        for folder in record_folders(out) {
            known.extend(store::read_dir(&folder)?.records);
        }
        known.retain(|r| r.circumstances.processor == processor && r.cost.is_some());
        let mut cost = Self {
            runs: runs.len(),
            missing: 0,
            seconds: 0.0,
            bytes: 0.0,
            unknown: Vec::new(),
        };
        let mut there: BTreeMap<PathBuf, Vec<String>> = BTreeMap::new();
        for run in runs {
            let folder = folders::records_folder(&run.plan.out);
            if !there.contains_key(&folder) {
                let found = match folder.is_dir() {
                    true => store::read_dir(&folder)?.records,
                    false => Vec::new(),
                };
                let whole = found.into_iter().filter(|r| r.status.is_whole());
                there.insert(folder.clone(), whole.map(|r| r.id).collect());
            }
            if there[&folder].contains(&run.id) {
                continue;
            }
            cost.missing += 1;
            match foretold(run, &known) {
                Some((seconds, bytes)) => {
                    cost.seconds += seconds;
                    cost.bytes += bytes;
                }
                None => {
                    let method = run.asked.method.name.clone();
                    if !cost.unknown.contains(&method) {
                        cost.unknown.push(method);
                    }
                }
            }
        }
        Ok(cost)
    }

    /// In words.
    pub fn sentence(&self) -> String {
        let mut said = format!(
            "{} of {} to make",
            self.missing,
            format::plural(self.runs, "run")
        );
        if self.missing > 0 && self.seconds > 0.0 {
            said += &format!(
                ", about {} and {} of weights by earlier runs of this machine",
                format::seconds(self.seconds),
                format::bytes(self.bytes)
            );
        }
        if !self.unknown.is_empty() {
            said += &format!(
                "; how long {} takes is not known, as no record of this machine tells",
                format::list(&self.unknown)
            );
        }
        said
    }

    /// Prints it.
    ///
    /// # Errors
    /// If standard output cannot be written.
    pub fn show(&self, verbosity: Verbosity) -> Result<()> {
        if verbosity == Verbosity::Json {
            let event = json!({
                "event": "cost", "runs": self.runs, "missing": self.missing, "seconds": self.seconds,
                "bytes": self.bytes, "unknown_methods": self.unknown,
            });
            say!("{event}")?;
        } else {
            say!("{}", self.sentence())?;
        }
        Ok(())
    }
}

/// The folders of records in a comparison's or a suite's folder, and in those beside it.
fn record_folders(out: &Path) -> Vec<PathBuf> {
    let below = |folder: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    };
    let mut level: Vec<PathBuf> = vec![out.to_owned()];
    level.extend(out.parent().into_iter().flat_map(below));
    let deeper: Vec<PathBuf> = level.iter().flat_map(|folder| below(folder)).collect();
    let mut found: Vec<PathBuf> = level
        .into_iter()
        .chain(deeper)
        .map(|folder| folders::records_folder(&folder))
        .filter(|folder| folder.is_dir())
        .collect();
    found.sort();
    found.dedup();
    found
}

/// Seconds and bytes of weights of a run, by runs of the same method over the same backbone: the same run of another seed
/// first, then others of the same data, then any, each by the examples that it read.
fn foretold(run: &Planned, known: &[RunRecord]) -> Option<(f64, f64)> {
    let asked = &run.asked;
    let alike = |r: &&RunRecord| {
        r.asked.method.name == asked.method.name && r.asked.backbone.digest == asked.backbone.digest
    };
    let alike: Vec<&RunRecord> = known.iter().filter(alike).collect();
    let same_data = |r: &&&RunRecord| r.asked.dataset.digest == asked.dataset.digest;
    let nearer: Vec<&RunRecord> = alike.iter().filter(same_data).copied().collect();
    let from = if nearer.is_empty() { alike } else { nearer };
    let number = |recipe: &Value, key: &str| recipe.get(key).and_then(Value::as_f64);
    // Examples that a run reads: trained on, and evaluated.
    let examples = |steps: f64, asked: &record::Asked| {
        let batch = number(&asked.recipe, "batch").unwrap_or(32.0);
        let evaluations = number(&asked.recipe, "evaluations").unwrap_or(1.0);
        // A step goes forth and back, which is three passes.
        3.0 * steps * batch + evaluations * asked.dataset.validation_examples as f64
    };
    let wanted = examples(number(&asked.recipe, "steps")?, asked);
    let mut seconds = Vec::new();
    let mut bytes = Vec::new();
    for record in from {
        let (Some(cost), Some(steps)) = (&record.cost, number(&record.asked.recipe, "steps"))
        else {
            continue;
        };
        let own = examples(steps, &record.asked);
        let busy = cost.training_seconds + cost.evaluation_seconds;
        seconds.push(cost.seconds_to_first_step + busy * wanted / own.max(1.0));
        bytes.push(cost.file_bytes as f64);
    }
    Some((statistics::mean(&seconds)?, statistics::mean(&bytes)?))
}
