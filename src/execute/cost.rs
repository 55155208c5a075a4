//! What runs will cost, before they start: how many are missing, and the minutes by earlier records of this machine, or by their
//! operations where none tells.

use std::path::{Path, PathBuf};

use anyhow::Result;
use reports::format;
use serde_json::json;

use super::{
    estimate,
    measured::Measured,
    planned::{self, Planned},
    progress::Verbosity,
};
use crate::{folders, output};

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
    /// Seconds of their runs, counted by their operations; `None` where these are few.
    pub counted: Option<f64>,
}

impl Cost {
    /// Of these runs, by the records in and beside `out`.
    ///
    /// # Errors
    /// If the folder of a run's records cannot be read.
    pub fn of(runs: &[Planned], out: &Path) -> Result<Self> {
        let measured = Measured::on_this_machine(&record_folders(out))?;
        let missing = planned::missing(runs, &[])?;
        let mut cost = Self {
            runs: runs.len(),
            missing: missing.len(),
            seconds: 0.0,
            bytes: 0.0,
            unknown: Vec::new(),
            counted: None,
        };
        let mut uncharted = Vec::new();
        for run in missing {
            match measured.roughly(&run.asked) {
                Some((seconds, bytes)) => {
                    cost.seconds += seconds;
                    cost.bytes += bytes;
                }
                None => {
                    uncharted.push(run.operations);
                    let method = run.asked.method.name.clone();
                    if !cost.unknown.contains(&method) {
                        cost.unknown.push(method);
                    }
                }
            }
        }
        let each = estimate::seconds_per_operation(uncharted.iter().sum());
        cost.counted = each.map(|each| uncharted.iter().map(|n| estimate::seconds(*n, each)).sum());
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
            let methods = format::list(&self.unknown);
            said += &match self.counted {
                Some(seconds) => format!(
                    "; no record of this machine tells of {methods}: counted by their operations, about {}",
                    format::seconds(seconds.round())
                ),
                None => format!(
                    "; how long runs of {methods} take is not known, as no record of this machine tells"
                ),
            };
        }
        said
    }

    /// Prints it.
    ///
    /// # Errors
    /// If standard output cannot be written.
    pub fn show(&self, verbosity: Verbosity) -> Result<()> {
        if verbosity == Verbosity::Json {
            output::event(json!({
                "event": "cost", "runs": self.runs, "missing": self.missing, "seconds": self.seconds,
                "bytes": self.bytes, "unknown_methods": self.unknown, "counted_seconds": self.counted,
            }))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_record_tells_is_counted_by_its_operations_or_said_not_to_be_known() {
        let cost = |seconds, counted| Cost {
            runs: 6,
            missing: 4,
            seconds,
            bytes: 1e6,
            unknown: vec!["lora".into(), "adapter".into()],
            counted,
        };
        assert_eq!(
            cost(0.0, Some(240.3)).sentence(),
            "4 of 6 runs to make; no record of this machine tells of lora and adapter: counted by their operations, about 4 min 00 s"
        );
        assert_eq!(
            cost(60.0, None).sentence(),
            "4 of 6 runs to make, about 60.0 s and 1.00 MB of weights by earlier runs of this machine; how long runs of lora and adapter \
             take is not known, as no record of this machine tells"
        );
    }
}
