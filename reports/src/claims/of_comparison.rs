//! What comparisons say about a claim.

use std::collections::{BTreeMap, BTreeSet};

use record::{RunRecord, Status};
use statistics::{Ratio, Timed};

use super::{
    claim::{Measure, RatioOf},
    measured::{Measured, Spread, spread_of, spread_of_times},
};
use crate::{Comparison, format, latency, row::Row};

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
    for record in records {
        if record.asked.method.name == method && record.status == Status::Ok {
            by_backbone
                .entry(&record.asked.backbone.digest)
                .or_default()
                .insert(&record.id, record);
        }
    }
    by_backbone
        .into_values()
        .filter_map(|records| {
            let names: BTreeSet<&str> = records
                .values()
                .map(|r| r.asked.dataset.name.as_str())
                .collect();
            let passed = |r: &&&RunRecord| {
                let own = r.outcome.iter().flat_map(|o| &o.checks);
                checks
                    .iter()
                    .all(|name| own.clone().any(|c| c.name == *name && c.passed))
            };
            if names.len() < datasets {
                return None;
            }
            let share = records.values().filter(passed).count() as f64 / records.len() as f64;
            let names: Vec<&str> = names.into_iter().collect();
            let first = records.values().next()?;
            Some(Measured {
                place: format!("{} · {}", format::list(&names), first.asked.backbone.name),
                what: format!(
                    "share of {} that passed {}",
                    format::plural(records.len(), &format!("{method} run")),
                    checks.join(" and ")
                ),
                dataset: String::new(),
                value: share,
                spread: Spread::Exact,
                looks: None,
                judged: true,
                records: records.keys().map(|id| (*id).to_owned()).collect(),
                show: |_, x| format!("{:.1} %", 100.0 * x),
                metric: String::new(),
                margin: statistics::Margin::default(),
            })
        })
        .collect()
}

/// The ranked row of a method with its default configuration.
fn default_row<'a>(comparison: &'a Comparison, method: &str) -> Option<&'a Row> {
    let ranked = comparison.ranked().iter();
    ranked
        .filter(|r| r.method == method && r.variant.is_empty() && r.tuned.is_none())
        .max_by_key(|r| r.ended_well().0)
}

fn ids(rows: Vec<&Row>) -> Vec<String> {
    let runs = rows.into_iter().flat_map(|r| &r.runs);
    runs.filter(|r| r.status == Status::Ok)
        .map(|r| r.id.clone())
        .collect()
}

fn ratio(comparison: &Comparison, quantity: RatioOf, of: &str, over: &str) -> Option<Measured> {
    let own = default_row(comparison, of)?;
    let backbone = over == "backbone";
    let other = if backbone {
        own
    } else {
        default_row(comparison, over)?
    };
    let (value, spread) = match quantity {
        RatioOf::Parameters => {
            let own = own.parameters?;
            let under = if backbone {
                own.backbone
            } else {
                other.parameters?.method
            };
            (
                (under > 0).then(|| own.method as f64 / under as f64)?,
                Spread::Exact,
            )
        }
        RatioOf::Latency | RatioOf::MergedLatency if backbone => {
            let variant = if quantity == RatioOf::Latency {
                "unmerged"
            } else {
                "merged"
            };
            let records = own.runs.iter().filter_map(|run| comparison.record(&run.id));
            let processes = latency::of_records(&records.collect::<Vec<_>>());
            let ratio = latency::over_grid(&processes, variant)?;
            (ratio.ratio, spread_of_times(&ratio))
        }
        _ if backbone => return None,
        _ => {
            let of = |r: &RunRecord| -> Option<f64> {
                let cost = match quantity {
                    RatioOf::FileSize => r.cost.as_ref()?,
                    _ => comparison.timed(r)?,
                };
                match quantity {
                    RatioOf::TrainingTime => Some(cost.training_seconds),
                    RatioOf::PeakMemory => cost.peak_memory_bytes.map(|b| b as f64),
                    RatioOf::FileSize => Some(cost.file_bytes as f64),
                    // Over the backbone of the own process, so that two processes can be compared.
                    RatioOf::Latency => {
                        Some(latency::over_grid(&latency::of_records(&[r]), "unmerged")?.ratio)
                    }
                    _ => Some(latency::over_grid(&latency::of_records(&[r]), "merged")?.ratio),
                }
            };
            let ratio = paired_ratio(comparison, own, other, of)?;
            // A size is no sample: it has no sitting.
            let exact = quantity == RatioOf::FileSize;
            (
                ratio.ratio,
                if exact {
                    Spread::Exact
                } else {
                    spread_of_times(&ratio)
                },
            )
        }
    };
    let name = match quantity {
        RatioOf::Parameters => "trained parameters",
        RatioOf::Latency => "latency",
        RatioOf::MergedLatency => "latency after merging",
        RatioOf::TrainingTime => "training time",
        RatioOf::PeakMemory => "peak memory",
        RatioOf::FileSize => "size of the saved weights",
    };
    let what = format!("{name}, {of} / {over}");
    Some(Measured {
        records: ids(if backbone {
            vec![own]
        } else {
            vec![own, other]
        }),
        show: match quantity {
            RatioOf::Parameters if backbone => |_, x| format::share(x),
            _ => |_, x| format!("{x:.3}"),
        },
        ..Measured::of_comparison(comparison, what, value, spread)
    })
}

/// Ratio of two rows' values, paired by seed; runs of one hour are one sitting.
fn paired_ratio(
    comparison: &Comparison,
    own: &Row,
    other: &Row,
    of: impl Fn(&RunRecord) -> Option<f64>,
) -> Option<Ratio> {
    let by_seed = |row: &Row| -> BTreeMap<u64, &RunRecord> {
        let records = row.runs.iter().filter_map(|run| comparison.record(&run.id));
        records.map(|r| (r.asked.seed, r)).collect()
    };
    let others = by_seed(other);
    let pairs = by_seed(own).into_iter().filter_map(|(seed, a)| {
        let started = &a.circumstances.started;
        Some(Timed {
            sitting: started.get(..13).unwrap_or(started).to_owned(),
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
    let what = format!("{}, {of} − {minus}", comparison.metric());
    let value = if pair.first == a {
        pair.difference
    } else {
        -pair.difference
    };
    let found = Measured::of_comparison(comparison, what, value, spread_of(pair.evidence));
    Some(Measured {
        records: ids(vec![&comparison.rows[a], &comparison.rows[b]]),
        ..found.looked_at(comparison.looks.as_ref(), pair.seeds)
    })
}
