//! What runs will cost, before they start: how many are missing, and the minutes by earlier records of this machine, or else by
//! their operations.

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

/// What runs cost: by what runs of this machine cost before, and of methods without any by what is counted of them.
pub struct Cost {
    /// Runs in all.
    pub runs: usize,
    /// Runs that are to be made.
    pub missing: usize,
    /// Seconds of those.
    pub seconds: f64,
    /// Bytes of their weights.
    pub bytes: f64,
    /// How many of them no earlier run of this machine tells of.
    pub counted: usize,
}

impl Cost {
    /// Of these runs, by the records in and beside `out`.
    ///
    /// # Errors
    /// If the folder of a run's records cannot be read.
    pub fn of(runs: &[Planned], out: &Path) -> Result<Self> {
        let measured = Measured::on_this_machine(&record_folders(out))?;
        let missing = planned::missing(runs, &[])?;
        let told = missing.iter().map(|run| measured.roughly(&run.asked));
        let told: Vec<Option<(f64, f64)>> = told.collect();
        let counted: Vec<&Planned> = missing
            .iter()
            .zip(&told)
            .filter_map(|(run, told)| told.is_none().then_some(*run))
            .collect();
        let operations: f64 = counted.iter().map(|run| run.operations).sum();
        // So few that nobody waits for them are not timed.
        let per_operation = estimate::seconds_per_operation(operations).unwrap_or(0.0);
        let counts = counted.iter().map(|run| {
            let seconds = estimate::seconds(run.operations, per_operation);
            (seconds, run.weight_bytes)
        });
        let all = told.iter().flatten().copied().chain(counts);
        let (seconds, bytes) = all.fold((0.0, 0.0), |sum, run| (sum.0 + run.0, sum.1 + run.1));
        Ok(Self {
            runs: runs.len(),
            missing: missing.len(),
            seconds,
            bytes,
            counted: counted.len(),
        })
    }

    /// In words.
    pub fn sentence(&self) -> String {
        let mut said = format!(
            "{} of {} to make",
            self.missing,
            format::plural(self.runs, "run")
        );
        if self.missing > 0 {
            said += &format!(
                ", about {} and {} of weights",
                format::seconds(self.seconds),
                format::bytes(self.bytes)
            );
            said += &match self.counted {
                0 => " by earlier runs of this machine".to_owned(),
                all if all == self.missing => {
                    ", counted by their operations: no earlier run of this machine tells".to_owned()
                }
                some => format!(
                    " by earlier runs of this machine, {some} of them counted by their operations"
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
                "bytes": self.bytes, "counted": self.counted,
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
