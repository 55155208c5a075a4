//! What a suite was asked to compare.

use std::{collections::BTreeSet, path::Path};

use serde::{Deserialize, Serialize};
use statistics::Margin;

use super::{Judged, judge};
use crate::{Comparison, Kept, Result, format, measurement::Measurement};

/// What a suite was asked to compare.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Its name.
    pub name: String,
    /// Heading.
    pub title: String,
    /// What it is, in a line.
    pub about: String,
    /// The margin that was declared.
    pub margin: Margin,
    /// Whether all data sets went on until nothing was left to do, so that no look is to come.
    #[serde(default)]
    pub ended: bool,
    /// Its data sets.
    pub datasets: Vec<Part>,
}

/// A data set of a suite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// The metrics whose mean is its part of the average; the main metric where there is none.
    pub average: Vec<String>,
    /// How much that part counts in the average, 0 or more.
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub weight: f64,
    /// Ids of all runs that it may come to.
    pub runs: Vec<String>,
}

/// What a data set counts whose suite says nothing else.
fn once() -> f64 {
    1.0
}

fn is_once(weight: &f64) -> bool {
    *weight == once()
}

impl Kept for Manifest {
    const FILE: &'static str = "suite.json";
}

impl Manifest {
    /// The verdict over its data sets, as far as comparisons hold runs of them; `None` where none does.
    pub fn verdict(&self, comparisons: &[Comparison]) -> Option<Measurement> {
        let (mut judged, mut missing) = (Vec::new(), Vec::new());
        for part in &self.datasets {
            let runs: BTreeSet<&str> = part.runs.iter().map(String::as_str).collect();
            let holds = |c: &&Comparison| c.records.iter().any(|r| runs.contains(r.id.as_str()));
            match comparisons.iter().find(holds) {
                Some(comparison) => judged.push(Judged {
                    name: &part.name,
                    average: &part.average,
                    weight: part.weight,
                    comparison,
                }),
                None => missing.push(&part.name),
            }
        }
        if judged.is_empty() {
            return None;
        }
        let mut verdict = judge(&self.title, &self.about, &judged, self.ended, self.margin);
        if !missing.is_empty() {
            verdict.sentences.push(format!(
                "Without {}, of which no run has a record yet.",
                format::list(&missing)
            ));
        }
        Some(verdict)
    }
}

/// The suites below a folder, by path. A margin that is asked for goes over the ones that were declared.
///
/// # Errors
/// If a manifest or a folder cannot be read.
pub fn read_all(folder: &Path, margin: Option<Margin>) -> Result<Vec<Manifest>> {
    let found = Manifest::read_below(folder)?.into_iter();
    let judged = found.map(|(_, manifest)| Manifest {
        margin: margin.unwrap_or(manifest.margin),
        ..manifest
    });
    Ok(judged.collect())
}
