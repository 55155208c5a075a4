//! Equal tuning: how good a method becomes with how much compute of a random search.
//!
//! Every method gets the same compute: configurations are drawn at random, and by successive halving (Karnin et al. 2013; Jamieson and
//! Talwalkar 2016, arXiv:1502.07943) all are trained for a few steps, the best third of them for three times as many, and so on up to a whole
//! run ([`Manifest::rungs`]). They are judged on examples held out of the training split. The expected best of n configurations after
//! the first rung, which all of them have run, is that of [`statistics::expected_best`], with the variance of the same paper.

mod manifest;
mod search;
mod tables;
#[cfg(test)]
mod tests;

pub use manifest::{HALVING, Manifest, MethodTrials, TrialPlan, kept, rungs};
pub use search::{Edge, Search, Trial, Tried};
pub use tables::{markdown, page_view, write};

use std::{collections::BTreeMap, path::Path};

use record::{DatasetFacts, RunRecord, store};
use search::{edge_note, search};
use serde::Serialize;

use crate::{
    Kept, Result,
    comparison::{dataset_label, dataset_slug, slug},
    format, words,
};

/// A search with its results.
#[derive(Clone, Debug, Serialize)]
pub struct Tuning {
    /// Heading: data set and backbone; a stand-in is said.
    pub title: String,
    /// Name for files.
    pub slug: String,
    /// The data.
    pub dataset: DatasetFacts,
    /// Name of the backbone.
    pub backbone: String,
    /// Steps of a trial at each rung.
    pub rungs: Vec<usize>,
    /// What the trials are judged by, in words.
    pub judged_by: String,
    /// One search per method.
    pub searches: Vec<Search>,
    /// What a reader has to know before believing the numbers.
    pub notes: Vec<String>,
}

/// The searches below a comparison's folder, or below a folder of comparisons.
///
/// # Errors
/// If a manifest or a folder cannot be read.
pub fn read_all(folder: &Path) -> Result<Vec<Tuning>> {
    let mut all = Vec::new();
    for (found, manifest) in Manifest::read_below(folder)? {
        let records = store::read_dir(&found.join("records"))?.records;
        all.extend(Tuning::new(&manifest, &records));
    }
    Ok(all)
}

impl Tuning {
    /// Joins what was asked with the records that there are; `None` without any.
    pub fn new(manifest: &Manifest, records: &[RunRecord]) -> Option<Self> {
        let by_id: BTreeMap<&String, &RunRecord> = records.iter().map(|r| (&r.id, r)).collect();
        let trials = manifest.methods.iter().flat_map(|m| &m.trials);
        let mut runs = trials.flat_map(|t| &t.runs);
        let planned = runs.clone().count();
        let asked = &runs.find_map(|(_, id)| by_id.get(id))?.asked;
        let methods = manifest.methods.iter();
        let searches = methods.map(|m| search(m, &manifest.rungs, &by_id, records));
        let searches: Vec<Search> = searches.collect();
        let mut notes: Vec<String> = words::stand_in_note(&asked.dataset).into_iter().collect();
        let trials = searches.iter().flat_map(|s| &s.trials);
        let tried: Vec<&Tried> = trials.flat_map(|t| &t.results).collect();
        let bad = tried.iter().filter(|r| r.metric.is_none()).count();
        if bad > 0 {
            notes.push(format!(
                "{} ended without a result and count as 0.",
                format::plural(bad, "trial run")
            ));
        }
        if tried.len() < planned {
            notes.push(format!(
                "{} of {planned} trial runs have a record; the same command goes on with the others.",
                tried.len()
            ));
        }
        notes.extend(searches.iter().filter_map(edge_note));
        if !manifest.left_out.is_empty() {
            notes.push(format!(
                "Left out, as there is nothing to search: {}.",
                manifest.left_out.join(", ")
            ));
        }
        let (dataset, backbone) = (&asked.dataset, asked.backbone.label());
        Some(Self {
            title: format!("Equal tuning · {} · {backbone}", dataset_label(dataset)),
            slug: slug(&format!("tuning-{}-{backbone}", dataset_slug(dataset))),
            dataset: dataset.clone(),
            backbone,
            rungs: manifest.rungs.clone(),
            judged_by: manifest.judged_by.clone(),
            searches,
            notes,
        })
    }
}
