//! One curve of a study, and what is shown of its points.

use record::{Kind, RunRecord};
use serde::Serialize;
use statistics::{Looks, Margin, Procedure, Scores, Verdict};

use super::point::Point;
use crate::{format, words};

/// One curve.
#[derive(Clone, Debug, Serialize)]
pub struct Series {
    /// Name of the curve.
    pub label: String,
    /// The method.
    pub method: String,
    /// What the registry says of it; absent in older records.
    pub kind: Option<Kind>,
    /// Its points in order.
    pub points: Vec<Point>,
}

impl Series {
    /// Whether one point alone has a result, so that there is nothing to compare it with.
    pub(super) fn is_one_point(&self) -> bool {
        self.points.iter().filter(|p| p.metric.is_some()).count() == 1
    }
}

/// What records say of a method's kind.
pub fn kind_of(method: &str, records: &[RunRecord]) -> Option<Kind> {
    let mut of = records.iter().filter(|r| r.asked.method.name == method);
    of.find_map(|r| r.kind.clone())
}

/// The scores of points that have them, with their places.
pub fn scored(points: &[Point]) -> (Vec<usize>, Vec<Scores>) {
    let points = points.iter().enumerate();
    points
        .filter_map(|(i, p)| Some((i, p.scores.clone()?)))
        .unzip()
}

/// Tests all pairs of a series together, and keeps what they say against the point of the highest mean; at the last of these looks,
/// where there were several.
pub(super) fn compare_with_highest(points: &mut [Point], margin: Margin, looks: Option<&Looks>) {
    let means = points.iter().enumerate();
    let means = means.filter_map(|(i, p)| Some((i, p.metric.as_ref()?.mean)));
    // Of equals the first.
    let highest = means.rev().max_by(|(_, a), (_, b)| a.total_cmp(b));
    let Some((highest, _)) = highest else { return };
    points[highest].highest = true;
    let (places, scores) = scored(points);
    let Some(best) = places.iter().position(|&i| i == highest) else {
        return;
    };
    let family = Procedure::family(&scores, margin, looks);
    for (k, &i) in places.iter().enumerate().filter(|(k, _)| *k != best) {
        let pair = family.pair(k, best);
        points[i].evidence = pair.map(|p| p.evidence);
        points[i].verdict = pair.filter(|p| p.corrected.is_some()).map(|p| p.verdict);
    }
}

/// One sentence about a series.
pub(super) fn finding(series: &Series, metric: &str, margin: Margin) -> Option<String> {
    let highest = series.points.iter().find(|p| p.highest)?;
    let mean = highest.metric.as_ref()?.mean;
    if series.is_one_point() {
        return Some(format!(
            "{}: {} {metric} at {}; {}.",
            series.label,
            format::metric(metric, mean),
            highest.label,
            words::ALONE
        ));
    }
    let others = || {
        let points = series.points.iter();
        points.filter(|p| p.metric.is_some() && !p.highest)
    };
    let labels = |verdict: Option<Verdict>| -> Vec<&str> {
        let of = others().filter(|p| p.verdict == verdict);
        of.map(|p| p.label.as_str()).collect()
    };
    // A flat series has no best point.
    let same = |p: &&Point| p.metric.as_ref().is_some_and(|m| m.mean == mean);
    let alike = std::iter::once(highest).chain(others().filter(same));
    let alike: Vec<&str> = alike.map(|p| p.label.as_str()).collect();
    let (label, reached) = (&series.label, format::metric(metric, mean));
    if alike.len() > 1 && alike.len() == others().count() + 1 {
        let equivalent = Verdict::Equivalent;
        let alone = "which alone does not show that they are equal";
        let shown = match others().all(|p| p.verdict == Some(equivalent)) {
            true => {
                "and shown to be ".to_owned() + &words::verdict_in_full(equivalent, metric, margin)
            }
            false => alone.to_owned(),
        };
        return Some(format!(
            "{label}: the same mean at every point ({reached} {metric}), {shown}."
        ));
    }
    let mut text = format!(
        "{label}: highest mean at {} ({reached} {metric})",
        format::list(&alike)
    );
    for (verdict, shown) in [
        (Verdict::Worse, "shown to be "),
        (Verdict::Equivalent, "shown to be "),
        (Verdict::Undecided, ""),
    ] {
        let found = labels(Some(verdict));
        if !found.is_empty() {
            let said = words::verdict_in_full(verdict, metric, margin);
            text += &format!("; {shown}{said}: {}", format::list(&found));
        }
    }
    if !labels(None).is_empty() {
        text += "; too few seeds for a verdict";
    }
    Some(text + ".")
}
