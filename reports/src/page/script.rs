//! What the page's script draws: quantities of the ranked rows, and predictions.

use std::collections::BTreeSet;

use record::answers;
use serde_json::{Map, Value, json};
use statistics::Remedy;

use crate::{
    Comparison, figures,
    figures::style_of,
    format,
    quantity::Quantity,
    row::{Row, predictions},
    words,
};

/// Of one comparison.
pub(super) fn script_data(comparison: &Comparison, id: &str) -> Value {
    let metric = comparison.metric();
    let quantities = Quantity::ALL.map(|q| {
        json!({
            "key": q.key(),
            "title": q.title(metric),
            "higher": q.higher_is_better(),
            "log": q.logarithmic(),
        })
    });
    let eligible = comparison.eligible();
    let value = |row: &Row, q: Quantity| {
        let s = q.of(row)?;
        let factor = q.axis_factor(metric);
        Some(json!({
            "mean": s.mean * factor,
            "sd": s.sd.map(|sd| sd * factor),
            "interval": s.interval.map(|i| i.map(|v| v * factor)),
            "text": q.show(metric, s.mean),
        }))
    };
    let point = |(i, row): (usize, &Row)| {
        let values = Quantity::ALL.into_iter();
        let values = values.filter_map(|q| Some((q.key().to_owned(), value(row, q)?)));
        json!({
            "row": format!("{id}-r{i}"),
            "label": row.label,
            "floor": row.is_floor(),
            "eligible": eligible.contains(&i),
            "ink": style_of(row).ink.key(),
            "outline": style_of(row).marker.outline(),
            "values": values.collect::<Map<_, _>>(),
            "overhead": overhead(row),
        })
    };
    let points = comparison.ranked().iter().enumerate().map(point);
    // p-values of "the first is worse than the second by the margin or more", where a verdict could be given.
    let p_worse = |a: usize, b: usize| comparison.family.p_non_inferior(a, b);
    // What would show the first not to be worse than the second by the margin.
    let tests = eligible.len();
    let wants = |a: usize, b: usize| {
        if a == b {
            return None;
        }
        let evidence = comparison.family.pair(a, b)?.evidence;
        let remedy = Remedy::of_non_inferiority(&evidence, comparison.margin, tests);
        let needs = comparison.needs(&evidence, &remedy, &[a, b]);
        Some(json!({ "seeds": needs.more_seeds, "text": words::needs(&needs) }))
    };
    let n = comparison.ranked().len();
    let margin = format::metric_difference(metric, comparison.margin.get());
    json!({
        "id": id,
        "quantities": quantities,
        "points": points.collect::<Vec<_>>(),
        "worse": of_pairs(n, p_worse),
        "wants": of_pairs(n, wants),
        "none": words::none_near_best(metric, comparison.margin),
        "margin": margin,
        "limit": figures::scale_limit(comparison) * Quantity::Metric.axis_factor(metric),
        "examples": examples(comparison),
    })
}

/// What is said of the first of two by the second, for each two of so many.
fn of_pairs<T>(n: usize, of: impl Fn(usize, usize) -> T) -> Vec<Vec<T>> {
    let line = |a| (0..n).map(|b| of(a, b)).collect();
    (0..n).map(line).collect()
}

/// Latency over the bare backbone's of the same process, minus 1, in percent; merged where the method merges.
fn overhead(row: &Row) -> Option<Value> {
    let merged = row.over_backbone("merged");
    let ratio = merged.or(row.over_backbone("unmerged"))?;
    let percent = |ratio: f64| 100.0 * (ratio - 1.0);
    let interval = ratio.interval.map(|i| i.map(percent));
    Some(json!({ "mean": percent(ratio.ratio), "interval": interval }))
}

/// True labels and the predictions of each ranked run, these as a short text ([`answers`]): there is one for each run and example.
/// Runs whose examples differ are left out.
fn examples(comparison: &Comparison) -> Value {
    let outcomes = comparison.ranked().iter().enumerate().flat_map(|(i, row)| {
        row.runs.iter().filter_map(move |run| {
            let record = comparison.record(&run.id)?;
            let stored = &record.outcome.as_ref()?.predictions;
            Some((i, run.seed, stored, predictions(record)?))
        })
    });
    let mut truth: Option<&Vec<u32>> = None;
    let mut runs = Vec::new();
    let mut seeds = BTreeSet::new();
    for (row, seed, stored, predicted) in outcomes {
        if **truth.get_or_insert(&stored.labels) != stored.labels {
            continue;
        }
        seeds.insert(seed);
        let predicted = answers::write(&predicted, comparison.dataset.labels.len());
        runs.push(json!({ "row": row, "seed": seed, "predicted": predicted }));
    }
    json!({
        "labels": comparison.dataset.labels,
        "truth": truth.cloned().unwrap_or_default(),
        "seeds": seeds,
        "runs": runs,
    })
}
