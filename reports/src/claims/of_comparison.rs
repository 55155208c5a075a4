//! What comparisons say about a claim.

use std::collections::{BTreeMap, BTreeSet};

use record::{RunRecord, Status};
use statistics::{Ratio, Timed};

use super::{
    claim::Measure,
    measured::{Measured, Spread, spread_of, spread_of_times},
};
use crate::{Comparison, costs::sitting, format, latency, quantity::Quantity, row::Row};

/// What a comparison says on this; `None` if it lacks runs for it, or it is not measured in comparisons.
pub(super) fn measure(comparison: &Comparison, measure: &Measure) -> Option<Measured> {
    match measure {
        Measure::Ratio { quantity, of, over } => ratio(comparison, *quantity, of, over),
        Measure::Difference { of, minus } => difference(comparison, of, minus),
        _ => None,
    }
}

/// The share of a method's runs that passed these checks, by backbone, where it ran on so many data sets.
pub(super) fn checks<'a>(
    records: impl Iterator<Item = &'a RunRecord>,
    method: &str,
    checks: &[String],
    datasets: usize,
) -> Vec<Measured> {
    let mut by_backbone: BTreeMap<&str, BTreeMap<&str, &RunRecord>> = BTreeMap::new();
    let ended_well = |r: &&RunRecord| r.asked.method.name == method && r.status == Status::Ok;
    for record in records.filter(ended_well) {
        let own = by_backbone.entry(&record.asked.backbone.digest);
        own.or_default().insert(&record.id, record);
    }
    let measured = |records: BTreeMap<&str, &RunRecord>| {
        let names = records.values().map(|r| r.asked.dataset.name.as_str());
        let names: Vec<&str> = names.collect::<BTreeSet<_>>().into_iter().collect();
        if names.len() < datasets {
            return None;
        }
        let passed = |r: &&&RunRecord| {
            let own = r.outcome.iter().flat_map(|o| &o.checks);
            let is_passed = |name: &String| own.clone().any(|c| c.name == *name && c.passed);
            checks.iter().all(is_passed)
        };
        let share = records.values().filter(passed).count() as f64 / records.len() as f64;
        let runs = format::plural(records.len(), &format!("{method} run"));
        let backbone = &records.values().next()?.asked.backbone.name;
        Some(Measured {
            place: format!("{} · {backbone}", format::list(&names)),
            what: format!("share of {runs} that passed {}", checks.join(" and ")),
            records: records.keys().map(|id| (*id).to_owned()).collect(),
            show: |_, x| format!("{:.1} %", 100.0 * x),
            ..Measured::of(share, Spread::Exact)
        })
    };
    by_backbone.into_values().filter_map(measured).collect()
}

/// The ranked row of a method with its default configuration.
fn default_row<'a>(comparison: &'a Comparison, method: &str) -> Option<&'a Row> {
    let ranked = comparison.ranked().iter();
    ranked
        .filter(|r| r.method == method && r.variant.is_empty() && r.tuned.is_none())
        .max_by_key(|r| r.ended_well().0)
}

fn ids<'a>(rows: impl Iterator<Item = &'a Row>) -> Vec<String> {
    let runs = rows.flat_map(|r| &r.runs);
    runs.filter(|r| r.status == Status::Ok)
        .map(|r| r.id.clone())
        .collect()
}

fn ratio(comparison: &Comparison, quantity: Quantity, of: &str, over: &str) -> Option<Measured> {
    let own = default_row(comparison, of)?;
    let other = match over {
        "backbone" => None,
        method => Some(default_row(comparison, method)?),
    };
    let over_grid = |records: &[&RunRecord]| {
        latency::over_grid(&latency::of_records(records), quantity.variant()?)
    };
    let timed = |ratio: Ratio| (ratio.ratio, spread_of_times(&ratio));
    let (value, spread) = match (quantity, other) {
        (Quantity::Parameters, other) => {
            let under = match other {
                None => own.parameters?.backbone,
                Some(other) => other.parameters?.method,
            };
            let share = own.parameters?.method as f64 / under as f64;
            (Some(share).filter(|_| under > 0)?, Spread::Exact)
        }
        (Quantity::Latency | Quantity::MergedLatency, None) => {
            timed(over_grid(&comparison.records_of(own).collect::<Vec<_>>())?)
        }
        (_, None) => return None,
        (Quantity::FileSize, Some(other)) => {
            // A size is no sample: it has no sitting.
            let of = |r: &RunRecord| Some(r.cost.as_ref()?.file_bytes as f64);
            let ratio = paired_ratio(comparison, own, other, of)?;
            (ratio.ratio, Spread::Exact)
        }
        (_, Some(other)) => {
            let of = |r: &RunRecord| {
                let cost = comparison.timed(r)?;
                match quantity {
                    Quantity::TrainingTime => Some(cost.training_seconds),
                    Quantity::PeakMemory => cost.peak_memory_bytes.map(|b| b as f64),
                    // Over the backbone of the own process, so that two processes can be compared.
                    _ => Some(over_grid(&[r])?.ratio),
                }
            };
            timed(paired_ratio(comparison, own, other, of)?)
        }
    };
    let name = match quantity {
        Quantity::Metric => return None,
        Quantity::Parameters => "trained parameters",
        Quantity::Latency => "latency",
        Quantity::MergedLatency => "latency after merging",
        Quantity::TrainingTime => "training time",
        Quantity::PeakMemory => "peak memory",
        Quantity::FileSize => "size of the saved weights",
    };
    let what = format!("{name}, {of} / {over}");
    Some(Measured {
        records: ids(std::iter::once(own).chain(other)),
        show: match (quantity, other) {
            (Quantity::Parameters, None) => |_, x| format::share(x),
            _ => |_, x| format!("{x:.3}"),
        },
        ..Measured::of_comparison(comparison, what, value, spread)
    })
}

/// Ratio of two rows' values, paired by seed, over sittings.
fn paired_ratio(
    comparison: &Comparison,
    own: &Row,
    other: &Row,
    of: impl Fn(&RunRecord) -> Option<f64>,
) -> Option<Ratio> {
    let by_seed = |row: &Row| -> BTreeMap<u64, &RunRecord> {
        let records = comparison.records_of(row);
        records.map(|r| (r.asked.seed, r)).collect()
    };
    let others = by_seed(other);
    let pairs = by_seed(own).into_iter().filter_map(|(seed, a)| {
        Some(Timed {
            sitting: sitting(a).to_owned(),
            first: of(a)?,
            second: of(others.get(&seed)?)?,
        })
    });
    Ratio::of(&pairs.collect::<Vec<_>>())
}

/// The main metric of one method minus another's.
fn difference(comparison: &Comparison, of: &str, minus: &str) -> Option<Measured> {
    let place = |method: &str| {
        let row = default_row(comparison, method)?;
        comparison.rows.iter().position(|r| r.label == row.label)
    };
    let (a, b) = (place(of)?, place(minus)?);
    let pair = comparison.pair(a, b)?;
    let what = format!(
        "{}, {of} − {minus}",
        format::metric_name(comparison.metric())
    );
    let sign = if pair.first == a { 1.0 } else { -1.0 };
    let value = sign * pair.difference;
    let found = Measured::of_comparison(comparison, what, value, spread_of(pair.evidence));
    Some(Measured {
        records: ids([a, b].into_iter().map(|i| &comparison.rows[i])),
        ..found
            .looked_at(comparison.looks.as_ref(), pair.seeds)
            .made_of(pair.evidence.map(|e| e.components))
    })
}
