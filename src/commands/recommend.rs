//! `recommend`: which method fits these limits, by the records that there are.

use std::{path::Path, process::ExitCode};

use anyhow::{Result, bail};
use reports::{
    Comparison, Judging, Margin,
    recommend::{self, Wishes},
    studies,
};

use crate::records;

/// `recommend`.
///
/// # Errors
/// If there are no records of the data set.
pub fn recommend(
    wishes: &Wishes,
    folder: &Path,
    margin: Option<Margin>,
    json: bool,
) -> Result<ExitCode> {
    let mut records = records::read(folder)?;
    for study in studies::read_all(folder, margin)? {
        records.extend(study.records);
    }
    let comparisons = Comparison::judged(records, &Judging::read(folder, margin)?);
    let Some(found) = recommend::recommend(&comparisons, wishes) else {
        let mut known: Vec<&str> = comparisons
            .iter()
            .map(|c| c.dataset.name.as_str())
            .collect();
        known.sort_unstable();
        known.dedup();
        bail!(
            "{}: no valid records of the data set '{}'; there are: {}. Run `peftbench compare {}` first",
            folder.display(),
            wishes.dataset,
            if known.is_empty() {
                "none".to_owned()
            } else {
                known.join(", ")
            },
            wishes.dataset
        );
    };
    if json {
        say!("{}", serde_json::to_string_pretty(&found)?)?;
    } else {
        say!("{}", recommend::terminal(&found).trim_end())?;
    }
    Ok(ExitCode::SUCCESS)
}
