//! A study with its results.

use std::{collections::BTreeMap, path::Path};

use record::{DatasetFacts, RunRecord, store};
use serde::Serialize;
use statistics::{FEWEST_SEEDS, Looks, Margin};

use super::{
    manifest::{Axis, Manifest, PointPlan, SeriesPlan},
    point::Point,
    series::{Series, compare_with_highest, finding, kind_of},
};
use crate::{
    Kept, Result,
    comparison::{dataset_label, dataset_slug, slug},
    costs::CostsOn,
    words,
};

/// A study with its results.
#[derive(Clone, Debug, Serialize)]
pub struct Study {
    /// Name of the study.
    pub name: String,
    /// Name for files: study and data set; a stand-in is said.
    pub slug: String,
    /// Heading: title, data set, backbone.
    pub title: String,
    /// What it asks.
    pub question: String,
    /// The paper that asked first, if any.
    pub reference: Option<String>,
    /// The declared margin: smaller differences do not matter.
    pub margin: Margin,
    /// Numbers of seeds at which it was looked at; absent where the number of seeds was fixed beforehand.
    pub looks: Option<Looks>,
    /// Whether the learning curves are of interest.
    pub curves: bool,
    /// The data of the first run.
    pub dataset: DatasetFacts,
    /// The backbone with its precision.
    pub backbone: String,
    /// The x axis.
    pub axis: Axis,
    /// The curves.
    pub series: Vec<Series>,
    /// What was found, a sentence per series.
    pub findings: Vec<String>,
    /// What a reader has to know before believing the numbers.
    pub notes: Vec<String>,
    /// The records behind it.
    #[serde(skip)]
    pub records: Vec<RunRecord>,
}

/// The studies below a comparison's folder, or below a folder of comparisons, by path. Damaged records are left out. A margin that is
/// asked for goes over the ones that were declared.
///
/// # Errors
/// If a manifest or a folder cannot be read.
pub fn read_all(folder: &Path, margin: Option<Margin>) -> Result<Vec<Study>> {
    let found = Manifest::read_below(folder)?.into_iter();
    found
        .map(|(folder, manifest)| Study::of(&folder, manifest, margin))
        .filter_map(Result::transpose)
        .collect()
}

impl Study {
    /// Reads the study in a folder; `None` if there is none or none of its runs has a record yet. A margin that is asked for goes over
    /// the declared one.
    ///
    /// # Errors
    /// If the manifest or the folder of records cannot be read.
    pub fn read(folder: &Path, margin: Option<Margin>) -> Result<Option<Self>> {
        match Manifest::read(folder)? {
            Some(manifest) => Self::of(folder, manifest, margin),
            None => Ok(None),
        }
    }

    /// What was asked with the records beside it.
    fn of(folder: &Path, mut manifest: Manifest, margin: Option<Margin>) -> Result<Option<Self>> {
        manifest.margin = margin.unwrap_or(manifest.margin);
        let records = store::read_dir(&folder.join("records"))?.records;
        Ok(Self::new(&manifest, records))
    }

    /// Joins what was asked with the records that there are; `None` without any.
    pub fn new(manifest: &Manifest, records: Vec<RunRecord>) -> Option<Self> {
        let wanted: Vec<&String> = manifest.runs().collect();
        let mut records = records;
        records.retain(|r| wanted.contains(&&r.id));
        let asked = records.first()?.asked.clone();
        let by_id: BTreeMap<&String, &RunRecord> = records.iter().map(|r| (&r.id, r)).collect();
        let points = manifest.series.iter().flat_map(|s| &s.points);
        let found = |p: &PointPlan| -> Vec<&RunRecord> {
            p.runs
                .iter()
                .flat_map(|id| by_id.get(id))
                .copied()
                .collect()
        };
        let trials: Vec<Vec<&RunRecord>> = points.map(found).collect();
        let costs = CostsOn::of(&trials, None);
        let joined = |plan: &SeriesPlan| {
            let points = plan.points.iter().enumerate();
            let points =
                points.map(|(i, p)| Point::new(p, i, manifest.axis.position, found(p), &costs));
            Series {
                label: plan.label.clone(),
                method: plan.method.clone(),
                kind: kind_of(&plan.method, &records),
                points: points.collect(),
            }
        };
        let mut series: Vec<Series> = manifest.series.iter().map(joined).collect();
        let looks = Looks::new(manifest.looks.clone())
            .ok()
            .filter(|looks| looks.seeds().len() > 1);
        for one in &mut series {
            compare_with_highest(&mut one.points, manifest.margin, looks.as_ref());
        }
        let backbone = backbone_of(&records);
        let metric = &asked.dataset.main_metric;
        let findings = series.iter();
        let findings = findings.filter_map(|s| finding(s, metric, manifest.margin));
        let findings = findings.collect();
        let missing = wanted.iter().filter(|id| !by_id.contains_key(*id));
        let (missing, all) = (missing.count(), wanted.len());
        let mut notes: Vec<String> = words::stand_in_note(&asked.dataset).into_iter().collect();
        if missing > 0 {
            notes.push(format!(
                "{missing} of {all} runs have no record yet; the same command goes on with them."
            ));
        }
        let most_seeds = most_seeds(&series);
        if (1..FEWEST_SEEDS).contains(&most_seeds) {
            notes.push(words::too_few_seeds(most_seeds));
        }
        notes.extend(looks.as_ref().map(words::looked_at));
        notes.extend(costs.notes);
        notes.extend(manifest.left_out.iter().map(|l| format!("Left out: {l}")));
        Some(Self {
            name: manifest.name.clone(),
            slug: slug(&format!(
                "study-{}-{}-{backbone}",
                manifest.name,
                dataset_slug(&asked.dataset)
            )),
            title: format!(
                "{} · {} · {backbone}",
                manifest.title,
                dataset_label(&asked.dataset)
            ),
            question: manifest.question.clone(),
            reference: manifest.reference.clone(),
            margin: manifest.margin,
            looks,
            curves: manifest.curves,
            dataset: asked.dataset,
            backbone,
            axis: manifest.axis.clone(),
            series,
            findings,
            notes,
            records,
        })
    }

    /// The most seeds that any point has.
    pub fn seeds(&self) -> usize {
        most_seeds(&self.series)
    }

    /// Name of the main metric.
    pub fn metric(&self) -> &str {
        &self.dataset.main_metric
    }

    /// The series with this label.
    pub fn series(&self, label: &str) -> Option<&Series> {
        self.series.iter().find(|s| s.label == label)
    }

    /// The point of a series with this label.
    pub fn point(&self, series: &str, label: &str) -> Option<&Point> {
        let mut points = self.series(series)?.points.iter();
        points.find(|p| p.label == label)
    }

    /// The records of a point, by seed.
    pub fn records_of(&self, point: &Point) -> Vec<&RunRecord> {
        let found = |id: &String| self.records.iter().find(|r| r.id == *id);
        point.runs.iter().filter_map(found).collect()
    }
}

fn most_seeds(series: &[Series]) -> usize {
    let points = series.iter().flat_map(|s| &s.points);
    points.map(|p| p.seeds.len()).max().unwrap_or(0)
}

/// The backbone with its precision; without it where the study varies it.
fn backbone_of(records: &[RunRecord]) -> String {
    let mut labels = records.iter().map(|r| r.asked.backbone.label());
    let first = labels.next().unwrap_or_default();
    match labels.all(|label| label == first) {
        true => first,
        false => records[0].asked.backbone.name.clone(),
    }
}
