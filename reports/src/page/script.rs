//! What the page's script draws: quantities of the ranked rows, and predictions.

use std::collections::BTreeSet;

use record::answers;
use serde_json::{Value, json};
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
    let quantities: Vec<Value> = Quantity::ALL
        .into_iter()
        .map(|q| {
            json!({
                "key": q.key(),
                "title": q.title(metric),
                "higher": q.higher_is_better(),
                "log": q.logarithmic(),
            })
        })
        .collect();
    let eligible = comparison.eligible();
    let points: Vec<Value> = comparison
        .ranked()
        .iter()
        .enumerate()
        .map(|(i, row)| {
            let values: serde_json::Map<String, Value> = Quantity::ALL
                .into_iter()
                .filter_map(|q| {
                    let s = q.of(row)?;
                    let factor = q.axis_factor(metric);
                    let value = json!({
                        "mean": s.mean * factor,
                        "sd": s.sd.map(|sd| sd * factor),
                        "interval": s.interval.map(|i| i.map(|v| v * factor)),
                        "text": q.show(metric, s.mean),
                    });
                    Some((q.key().to_owned(), value))
                })
                .collect();
            json!({
                "row": format!("{id}-r{i}"),
                "label": row.label,
                "floor": row.is_floor(),
                "eligible": eligible.contains(&i),
                "ink": style_of(row).ink.key(),
                "outline": style_of(row).marker.outline(),
                "values": values,
                "overhead": overhead(row),
            })
        })
        .collect();
    // p-values of "the first is worse than the second by the margin or more", where a verdict could be given.
    let n = comparison.ranked().len();
    let p_worse = |a: usize, b: usize| comparison.family.p_non_inferior(a, b);
    let worse: Vec<Vec<Option<f64>>> = (0..n)
        .map(|a| (0..n).map(|b| p_worse(a, b)).collect())
        .collect();
    // What would show the first not to be worse than the second by the margin.
    let tests = eligible.len();
    let wants = |a: usize, b: usize| {
        let evidence = comparison.family.pair(a, b)?.evidence;
        let remedy = Remedy::of_non_inferiority(&evidence, comparison.margin, tests);
        let needs = comparison.needs(&evidence, &remedy, &[a, b]);
        Some(json!({ "seeds": needs.more_seeds, "text": words::needs(&needs) }))
    };
    let wants: Vec<Vec<Option<Value>>> = (0..n)
        .map(|a| (0..n).map(|b| wants(a, b).filter(|_| a != b)).collect())
        .collect();
    let margin = format::metric_difference(metric, comparison.margin.get());
    json!({
        "id": id,
        "quantities": quantities,
        "points": points,
        "worse": worse,
        "wants": wants,
        "none": words::none_near_best(metric, comparison.margin),
        "margin": margin,
        "limit": figures::scale_limit(comparison) * Quantity::Metric.axis_factor(metric),
        "examples": examples(comparison),
    })
}

/// Latency over the bare backbone's of the same process, minus 1, in percent; merged where the method merges.
fn overhead(row: &Row) -> Option<Value> {
    let ratio = row
        .over_backbone("merged")
        .or(row.over_backbone("unmerged"))?;
    let percent = |ratio: f64| 100.0 * (ratio - 1.0);
    Some(
        json!({ "mean": percent(ratio.ratio), "interval": ratio.interval.map(|i| i.map(percent)) }),
    )
}

/// True labels and the predictions of each ranked run, these as a short text ([`answers`]): there is one for each run and example.
/// Runs whose examples differ are left out.
fn examples(comparison: &Comparison) -> Value {
    let outcomes = comparison.ranked().iter().enumerate().flat_map(|(i, row)| {
        row.runs.iter().filter_map(move |run| {
            let record = comparison.record(&run.id)?;
            Some((
                i,
                run.seed,
                &record.outcome.as_ref()?.predictions,
                predictions(record)?,
            ))
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
