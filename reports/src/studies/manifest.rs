//! What a study was asked to do.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use statistics::{FEWEST_SEEDS, Margin};

use crate::Kept;

/// What a study was asked to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Name of the study, e.g. `prompt_length`.
    pub name: String,
    /// Heading.
    pub title: String,
    /// What it asks.
    pub question: String,
    /// The paper that asked first, if any.
    pub reference: Option<String>,
    /// Whether the learning curves are of interest, and not the last point alone.
    pub curves: bool,
    /// The x axis.
    pub axis: Axis,
    /// The curves.
    pub series: Vec<SeriesPlan>,
    /// Points that this data or backbone cannot have, with the reason.
    pub left_out: Vec<String>,
    /// The margin that was declared; one point where none was.
    #[serde(default)]
    pub margin: Margin,
    /// Numbers of seeds at which it was looked at and is now, ascending; empty where there was one look only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub looks: Vec<usize>,
}

/// The x axis of a study.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Axis {
    /// Title with the unit.
    pub title: String,
    /// Where a point stands on it.
    pub position: Position,
    /// Whether it is logarithmic.
    pub logarithmic: bool,
}

/// Where a point stands on the x axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Position {
    /// At its declared number.
    Value,
    /// One place per label, in order.
    Category,
    /// At the number of parameters that the method trains.
    Parameters,
    /// At the number of training examples.
    TrainExamples,
}

/// One planned curve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeriesPlan {
    /// Name of the curve.
    pub label: String,
    /// The method, which has its colour everywhere.
    pub method: String,
    /// Its points in order.
    pub points: Vec<PointPlan>,
}

/// One planned point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PointPlan {
    /// What is written at its place.
    pub label: String,
    /// Its declared number, if it has one.
    pub value: Option<f64>,
    /// Ids of its runs, one per seed.
    pub runs: Vec<String>,
}

impl Kept for Manifest {
    const FILE: &'static str = "study.json";
}

impl Manifest {
    /// Ids of all its runs.
    pub fn runs(&self) -> impl Iterator<Item = &String> {
        let points = self.series.iter().flat_map(|s| &s.points);
        points.flat_map(|p| &p.runs)
    }

    /// Seeds that it asks for.
    fn seeds(&self) -> usize {
        let points = self.series.iter().flat_map(|s| &s.points);
        points.map(|p| p.runs.len()).max().unwrap_or(0)
    }

    /// Takes over the looks of the study that stood here before and had results of so many seeds: that was a look, too, if it shares
    /// runs with this one and this one asks for more seeds.
    pub fn go_on_from(&mut self, earlier: &Self, seen: usize) {
        let known: BTreeSet<&String> = earlier.runs().collect();
        if !self.runs().any(|id| known.contains(id)) {
            return;
        }
        let mut looks = earlier.looks.clone();
        if self.seeds() > earlier.seeds() {
            looks.extend([seen, self.seeds()]);
        }
        looks.retain(|&seeds| seeds >= FEWEST_SEEDS);
        looks.sort_unstable();
        looks.dedup();
        if looks.len() > 1 {
            self.looks = looks;
        }
    }
}
