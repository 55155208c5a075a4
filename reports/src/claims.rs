//! Common claims, tested on records.
//!
//! A claim is a list of rules in a YAML ([`CLAIMS`]): each measures one thing and says which values it accepts.
//! A measurement has a 95 % interval `[l, h]` (a point where the number is exact, such as a parameter count), and
//! a rule with the accepted range `[a, b]`
//!
//! - holds where `a ≤ l` and `h ≤ b`,
//! - does not hold where `h < a` or `b < l`,
//! - is undecided otherwise.
//!
//! A claim holds if every measurement of every rule holds, does not hold if one does not, and is undecided
//! otherwise. Methods are taken with their default configuration; tuned rows and variants do not count.
//!
//! Intervals: ratios of times are paired by seed and have a t-interval of their logarithm; differences of the metric
//! are a paired bootstrap over examples and seeds; a mean over a learning curve is paired by seed with a
//! t-interval; ratios of variances have the interval of the F distribution.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, FisherSnedecor};

use crate::{
    Comparison, Error, Result,
    comparison::Row,
    format,
    quantity::Quantity,
    record::{RunRecord, Status},
    statistics::{self, ALPHA},
    studies::{Paired, Point, Study},
};

/// The claims that come with the program.
pub const CLAIMS: &str = include_str!("../claims.yaml");

/// A claim as its YAML says it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Short name.
    pub id: String,
    /// The claim in words.
    pub claim: String,
    /// Who makes it.
    pub source: String,
    /// What must be so if it is right.
    pub rules: Vec<Rule>,
}

/// One thing to measure, and the values that the claim accepts.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What is measured.
    pub measure: Measure,
    /// Smallest accepted value.
    pub at_least: Option<f64>,
    /// Largest accepted value.
    pub at_most: Option<f64>,
}

/// What a rule measures.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Measure {
    /// A quantity of one method over that of another, or of the `backbone`.
    Ratio {
        /// The quantity.
        quantity: RatioOf,
        /// The method.
        of: String,
        /// Another method, or `backbone`.
        over: String,
    },
    /// The main metric of one method minus another's.
    Difference {
        /// The method.
        of: String,
        /// The other method.
        minus: String,
    },
    /// The main metric at one point of a study minus another's.
    Study {
        /// Name of the study.
        study: String,
        /// The point.
        of: At,
        /// The other point.
        minus: At,
    },
    /// The mean of the main metric over the learning curve at one point of a study minus another's.
    Curve {
        /// Name of the study.
        study: String,
        /// The point.
        of: At,
        /// The other point.
        minus: At,
    },
    /// The variance over seeds at one point of a study over another's.
    Spread {
        /// Name of the study.
        study: String,
        /// The point.
        of: At,
        /// The other point.
        over: At,
    },
    /// Share of a method's runs that passed some checks.
    Checks {
        /// The method.
        method: String,
        /// Names of the checks.
        checks: Vec<String>,
        /// On at least so many data sets.
        datasets: usize,
    },
}

/// A quantity of which ratios are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RatioOf {
    /// Trained parameters, head apart.
    Parameters,
    /// Median latency, not merged.
    Latency,
    /// Median latency, merged.
    MergedLatency,
    /// Seconds of training.
    TrainingTime,
    /// Peak memory in training.
    PeakMemory,
    /// Size of the saved weights.
    FileSize,
}

/// A point of a study.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct At {
    /// Label of the series.
    pub series: String,
    /// Label of the point, or `best`.
    pub at: String,
}

/// What records say about a claim.
#[derive(Clone, Debug, Serialize)]
pub struct Judged {
    /// Short name.
    pub id: String,
    /// The claim in words.
    pub claim: String,
    /// Who makes it.
    pub source: String,
    /// What the measurements together say.
    pub verdict: Verdict,
    /// The measurements.
    pub evidence: Vec<Evidence>,
    /// What could not be measured, and why.
    pub missing: Vec<String>,
}

/// Whether something holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It does.
    Holds,
    /// It does not.
    DoesNotHold,
    /// The records do not tell.
    Undecided,
}

impl Verdict {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::DoesNotHold => "does not hold",
            Self::Undecided => "undecided",
        }
    }
}

/// One measurement of a rule.
#[derive(Clone, Debug, Serialize)]
pub struct Evidence {
    /// Where: the comparison or study.
    pub place: String,
    /// What was measured, in words.
    pub what: String,
    /// The value.
    pub value: f64,
    /// Its 95 % interval; absent where the records do not give one. Equal ends for an exact number.
    pub interval: Option<[f64; 2]>,
    /// The accepted values: at least, at most.
    pub accepted: [Option<f64>; 2],
    /// What it says about the rule.
    pub verdict: Verdict,
    /// Value, interval and accepted values as people read them.
    pub text: String,
    /// Ids of the records behind it.
    pub records: Vec<String>,
}

/// The claims in a YAML.
///
/// # Errors
/// If it is not valid; the message says where.
pub fn parse(yaml: &str) -> Result<Vec<Claim>> {
    // By way of JSON values: YAML itself would want a tag where a measure is chosen.
    let values: Vec<serde_json::Value> =
        serde_yaml::from_str(yaml).map_err(|e| Error::Claims(e.to_string()))?;
    let claims = values
        .into_iter()
        .map(|value| {
            let id = value["id"]
                .as_str()
                .unwrap_or("a claim without id")
                .to_owned();
            serde_json::from_value(value).map_err(|e| Error::Claims(format!("{id}: {e}")))
        })
        .collect::<Result<Vec<Claim>>>()?;
    for claim in &claims {
        let bad = |what: &str| Error::Claims(format!("{}: {what}", claim.id));
        if claim.rules.is_empty() {
            return Err(bad("no rules; give at least one"));
        }
        for rule in &claim.rules {
            match (rule.at_least, rule.at_most) {
                (None, None) => return Err(bad("a rule needs at_least, at_most or both")),
                (Some(low), Some(high)) if low > high => {
                    return Err(bad(&format!("at_least {low} is above at_most {high}")));
                }
                _ => {}
            }
        }
    }
    Ok(claims)
}

/// Judges claims by what has been run.
pub fn judge(claims: &[Claim], comparisons: &[Comparison], studies: &[Study]) -> Vec<Judged> {
    let mut judge = Judge {
        comparisons,
        studies,
        paired: Paired::default(),
    };
    claims.iter().map(|c| judge.claim(c)).collect()
}

/// Judges the claims that come with the program.
///
/// # Errors
/// If their YAML is not valid.
pub fn judge_all(comparisons: &[Comparison], studies: &[Study]) -> Result<Vec<Judged>> {
    Ok(judge(&parse(CLAIMS)?, comparisons, studies))
}

struct Judge<'a> {
    comparisons: &'a [Comparison],
    studies: &'a [Study],
    paired: Paired,
}

/// A value with its interval and the records behind it.
struct Measured {
    place: String,
    what: String,
    value: f64,
    interval: Option<[f64; 2]>,
    records: Vec<String>,
    show: fn(&str, f64) -> String,
    metric: String,
}

impl Judge<'_> {
    fn claim(&mut self, claim: &Claim) -> Judged {
        let (mut evidence, mut missing) = (Vec::new(), Vec::new());
        let mut every_rule = true;
        for rule in &claim.rules {
            let found = self.measure(&rule.measure);
            if found.is_empty() {
                every_rule = false;
                missing.push(what_is_missing(&rule.measure));
            }
            evidence.extend(found.into_iter().map(|m| m.judged(rule)));
        }
        let any = |v| evidence.iter().any(|e| e.verdict == v);
        let verdict = if any(Verdict::DoesNotHold) {
            Verdict::DoesNotHold
        } else if every_rule && !any(Verdict::Undecided) {
            Verdict::Holds
        } else {
            Verdict::Undecided
        };
        Judged {
            id: claim.id.clone(),
            claim: claim.claim.clone(),
            source: claim.source.clone(),
            verdict,
            evidence,
            missing,
        }
    }

    fn measure(&mut self, measure: &Measure) -> Vec<Measured> {
        match measure {
            Measure::Ratio { quantity, of, over } => self
                .comparisons
                .iter()
                .filter_map(|c| ratio(c, *quantity, of, over))
                .collect(),
            Measure::Difference { of, minus } => self
                .comparisons
                .iter()
                .filter_map(|c| difference(c, of, minus))
                .collect(),
            Measure::Study { study, of, minus } => {
                let studies = self.studies;
                let named = studies.iter().filter(|s| s.name == *study);
                named
                    .filter_map(|s| {
                        let (a, b) = (point(s, of)?, point(s, minus)?);
                        let (first, second) = (s.records_of(a), s.records_of(b));
                        let same = a.runs == b.runs;
                        let found = self.paired.difference(&first, &second)?;
                        let interval = if same {
                            // The point is the best one itself.
                            Some([0.0, 0.0])
                        } else {
                            (first.len().min(second.len()) > 1).then_some(found.interval)
                        };
                        Some(Measured::of_study(
                            s,
                            of,
                            minus,
                            "−",
                            found.difference,
                            interval,
                        ))
                    })
                    .collect()
            }
            Measure::Curve { study, of, minus } => self
                .studies
                .iter()
                .filter(|s| s.name == *study)
                .filter_map(|s| {
                    let mean = |p: &Point| -> BTreeMap<u64, f64> {
                        s.records_of(p)
                            .into_iter()
                            .filter_map(|r| Some((r.asked.seed, curve_mean(r)?)))
                            .collect()
                    };
                    let (a, b) = (mean(point(s, of)?), mean(point(s, minus)?));
                    let differences: Vec<f64> = a
                        .iter()
                        .filter_map(|(seed, a)| Some(a - b.get(seed)?))
                        .collect();
                    let value = statistics::mean(&differences)?;
                    let interval = statistics::interval_95(&differences);
                    let mut found = Measured::of_study(s, of, minus, "−", value, interval);
                    found.what = format!("mean over the learning curve, {}", found.what);
                    Some(found)
                })
                .collect(),
            Measure::Spread { study, of, over } => self
                .studies
                .iter()
                .filter(|s| s.name == *study)
                .filter_map(|s| {
                    let values = |at| point(s, at).and_then(|p| p.metric.as_ref());
                    let (a, b) = (values(of)?, values(over)?);
                    let (va, vb) = (a.sd?.powi(2), b.sd?.powi(2));
                    if vb == 0.0 {
                        return None;
                    }
                    let interval = variance_ratio_interval(va / vb, a.values.len(), b.values.len());
                    let mut found = Measured::of_study(s, of, over, "/", va / vb, interval);
                    found.what = format!("variance over seeds, {}", found.what);
                    found.show = |_, x| format!("{x:.2}");
                    Some(found)
                })
                .collect(),
            Measure::Checks {
                method,
                checks,
                datasets,
            } => self.checks(method, checks, *datasets),
        }
    }

    /// Of all runs of a method that ended well, by backbone: studies count too.
    fn checks(&self, method: &str, checks: &[String], datasets: usize) -> Vec<Measured> {
        let mut by_backbone: BTreeMap<&str, BTreeMap<&str, &RunRecord>> = BTreeMap::new();
        let compared = self.comparisons.iter().flat_map(|c| &c.records);
        for record in compared.chain(self.studies.iter().flat_map(|s| &s.records)) {
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
                    value: share,
                    interval: Some([share, share]),
                    records: records.keys().map(|id| (*id).to_owned()).collect(),
                    show: |_, x| format!("{:.1} %", 100.0 * x),
                    metric: String::new(),
                })
            })
            .collect()
    }
}

impl Measured {
    fn of_study(
        study: &Study,
        of: &At,
        other: &At,
        sign: &str,
        value: f64,
        interval: Option<[f64; 2]>,
    ) -> Self {
        let name = |at: &At| match at.at.as_str() {
            "best" => format!(
                "{} at its best ({})",
                at.series,
                point(study, at).map_or("", |p| p.label.as_str())
            ),
            label => format!("{} at {label}", at.series),
        };
        let records = [of, other]
            .iter()
            .filter_map(|at| point(study, at))
            .flat_map(|p| p.runs.clone())
            .collect::<BTreeSet<_>>();
        Self {
            place: study.title.clone(),
            what: format!("{} {sign} {}", name(of), name(other)),
            value,
            interval,
            records: records.into_iter().collect(),
            show: format::metric_difference,
            metric: study.metric().to_owned(),
        }
    }

    fn judged(self, rule: &Rule) -> Evidence {
        let (low, high) = (
            rule.at_least.unwrap_or(f64::NEG_INFINITY),
            rule.at_most.unwrap_or(f64::INFINITY),
        );
        let verdict = match self.interval {
            Some([l, h]) if low <= l && h <= high => Verdict::Holds,
            Some([l, h]) if h < low || high < l => Verdict::DoesNotHold,
            _ => Verdict::Undecided,
        };
        let show = |x: f64| (self.show)(&self.metric, x);
        let interval = match self.interval {
            None => " (no interval: one seed)".to_owned(),
            Some([l, h]) if l == h => String::new(),
            Some([l, h]) => format!(" (95 % interval {} to {})", show(l), show(h)),
        };
        let accepted = match (rule.at_least, rule.at_most) {
            (Some(a), Some(b)) => format!("between {} and {}", show(a), show(b)),
            (Some(a), None) => format!("at least {}", show(a)),
            (None, Some(b)) => format!("at most {}", show(b)),
            (None, None) => "anything".to_owned(),
        };
        Evidence {
            text: format!(
                "{}: {}{interval}; claimed: {accepted}",
                self.what,
                show(self.value)
            ),
            place: self.place,
            what: self.what,
            value: self.value,
            interval: self.interval,
            accepted: [rule.at_least, rule.at_most],
            verdict,
            records: self.records,
        }
    }
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
    let exact = |a: f64, b: f64| (b > 0.0).then(|| (a / b, Some([a / b, a / b])));
    let summary = |q: Quantity, row: &Row| q.of(row).map(|s| s.values);
    let (value, interval) = match quantity {
        RatioOf::Parameters => {
            let parameters = own.parameters?;
            exact(
                parameters.method as f64,
                if backbone {
                    parameters.backbone as f64
                } else {
                    other.parameters?.method as f64
                },
            )?
        }
        _ => {
            let q = match quantity {
                RatioOf::Parameters | RatioOf::Latency => Quantity::Latency,
                RatioOf::MergedLatency => Quantity::MergedLatency,
                RatioOf::TrainingTime => Quantity::TrainingTime,
                RatioOf::PeakMemory => Quantity::PeakMemory,
                RatioOf::FileSize => Quantity::FileSize,
            };
            let a = summary(q, own)?;
            let b = match (backbone, q) {
                // The same process measured both.
                (true, Quantity::Latency | Quantity::MergedLatency) => {
                    own.latency.get("backbone")?.p50_ms.values.clone()
                }
                (true, _) => return None,
                (false, _) => summary(q, other)?,
            };
            paired_ratio(&a, &b)?
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
    Some(Measured {
        place: comparison.name.clone(),
        what: format!("{name}, {of} / {over}"),
        value,
        interval,
        records: ids(if backbone {
            vec![own]
        } else {
            vec![own, other]
        }),
        show: match quantity {
            RatioOf::Parameters if backbone => |_, x| format::share(x),
            _ => |_, x| format!("{x:.3}"),
        },
        metric: String::new(),
    })
}

/// Geometric mean of the ratios of values that belong together, with the t-interval of their logarithms.
pub(crate) fn paired_ratio(a: &[f64], b: &[f64]) -> Option<(f64, Option<[f64; 2]>)> {
    let logs: Vec<f64> = a
        .iter()
        .zip(b)
        .filter(|(a, b)| **a > 0.0 && **b > 0.0)
        .map(|(a, b)| (a / b).ln())
        .collect();
    let value = statistics::mean(&logs)?.exp();
    Some((
        value,
        statistics::interval_95(&logs).map(|i| i.map(f64::exp)),
    ))
}

/// The main metric of one method minus another's: the comparison's own bootstrap.
fn difference(comparison: &Comparison, of: &str, minus: &str) -> Option<Measured> {
    let place = |method: &str| {
        let row = default_row(comparison, method)?;
        comparison.rows.iter().position(|r| r.label == row.label)
    };
    let (a, b) = (place(of)?, place(minus)?);
    let pair = comparison.pair(a, b)?;
    let sign = if pair.first == a { 1.0 } else { -1.0 };
    let [low, high] = pair.bootstrap.interval;
    let interval = if sign > 0.0 {
        [low, high]
    } else {
        [-high, -low]
    };
    // One seed says nothing about seeds.
    let seeds = pair.mcnemar.len();
    Some(Measured {
        place: comparison.name.clone(),
        what: format!("{}, {of} − {minus}", comparison.metric()),
        value: sign * pair.bootstrap.difference,
        interval: (seeds > 1).then_some(interval),
        records: ids(vec![&comparison.rows[a], &comparison.rows[b]]),
        show: format::metric_difference,
        metric: comparison.metric().to_owned(),
    })
}

/// A point of a study: by its label, or the best of the series.
fn point<'a>(study: &'a Study, at: &At) -> Option<&'a Point> {
    if at.at != "best" {
        return study.point(&at.series, &at.at);
    }
    let series = study.series.iter().find(|s| s.label == at.series)?;
    series
        .points
        .iter()
        .find(|p| p.metric.is_some() && p.behind_best.is_none())
}

/// Mean of the main metric over the evaluations of a run.
fn curve_mean(record: &RunRecord) -> Option<f64> {
    let name = &record.asked.dataset.main_metric;
    let values: Vec<f64> = record
        .outcome
        .as_ref()?
        .evaluations
        .iter()
        .filter_map(|e| e.metrics.get(name).copied())
        .collect();
    statistics::mean(&values)
}

/// Ends of the 95 % interval of a ratio of variances of two normal samples of these sizes:
/// `ratio / F(1 − α/2; n − 1, m − 1)` to `ratio / F(α/2; n − 1, m − 1)` (Snedecor and Cochran 1989).
fn variance_ratio_interval(ratio: f64, n: usize, m: usize) -> Option<[f64; 2]> {
    if n < 2 || m < 2 {
        return None;
    }
    let f = FisherSnedecor::new((n - 1) as f64, (m - 1) as f64).ok()?;
    Some([
        ratio / f.inverse_cdf(1.0 - ALPHA / 2.0),
        ratio / f.inverse_cdf(ALPHA / 2.0),
    ])
}

fn what_is_missing(measure: &Measure) -> String {
    match measure {
        Measure::Ratio { of, over, .. } if over == "backbone" => {
            format!("no valid run of {of} with its defaults; run `peftbench compare DATASET`")
        }
        Measure::Ratio {
            of, over: other, ..
        }
        | Measure::Difference { of, minus: other } => format!(
            "no comparison has valid runs of {of} and {other} with their defaults; run `peftbench compare DATASET`"
        ),
        Measure::Study { study, .. }
        | Measure::Curve { study, .. }
        | Measure::Spread { study, .. } => format!(
            "the study {study} has not the runs for it; run `peftbench sweep DATASET --study {study}`, with more than one seed"
        ),
        Measure::Checks {
            method, datasets, ..
        } => format!(
            "{method} has no valid runs on {datasets} data sets over one backbone; run `peftbench compare` on another data set"
        ),
    }
}

/// A Markdown section of judged claims.
pub fn markdown(claims: &[Judged]) -> String {
    let mut text = String::from("## Claims, tested here\n\n");
    for claim in claims {
        text += &format!(
            "- **{}**: {} ({})\n",
            claim.verdict.words(),
            claim.claim,
            claim.source
        );
        for e in &claim.evidence {
            text += &format!("  - {}: {}: {}\n", e.verdict.words(), e.place, e.text);
        }
        for missing in &claim.missing {
            text += &format!("  - {missing}\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sample::Sample;

    fn labels() -> Vec<u32> {
        (0..1000).map(|i| i % 2).collect()
    }

    /// A comparison of three seeds: `wrong` examples of 1,000 are wrong, the same ones for every seed.
    fn comparison(methods: &[(&str, usize, usize)]) -> Vec<Comparison> {
        let records: Vec<RunRecord> = (0..3)
            .flat_map(|seed| {
                methods.iter().map(move |(method, parameters, wrong)| {
                    let wrong = *wrong;
                    Sample::new(method)
                        .seed(seed)
                        .parameters(*parameters)
                        .predictions(&labels(), move |i| i >= wrong)
                        .latency("backbone", 4.0 + 0.1 * seed as f64, 6.0)
                        .latency("unmerged", 5.0 + 0.12 * seed as f64, 7.0)
                        .latency("merged", 4.01 + 0.1 * seed as f64, 6.0)
                        .record()
                })
            })
            .collect();
        Comparison::from_records(&records)
    }

    fn one(rule: &str, comparisons: &[Comparison]) -> Judged {
        let yaml = format!("[{{id: x, claim: c, source: s, rules: [{rule}]}}]");
        judge(&parse(&yaml).unwrap(), comparisons, &[]).remove(0)
    }

    #[test]
    fn the_claims_that_come_with_the_program_are_valid_and_undecided_without_records() {
        let judged = judge_all(&[], &[]).unwrap();
        assert!(judged.len() >= 8);
        for claim in judged {
            assert_eq!(claim.verdict, Verdict::Undecided, "{}", claim.id);
            assert!(claim.missing.iter().all(|m| m.contains("run `peftbench")));
            assert!(claim.evidence.is_empty() && !claim.missing.is_empty());
        }
    }

    #[test]
    fn a_share_of_parameters_is_exact() {
        // 73,728 / 22,713,216 is 0.32 %.
        let found = comparison(&[("lora", 73_728, 100)]);
        let rule = |range: &str| {
            format!(
                "{{measure: {{ratio: {{quantity: parameters, of: lora, over: backbone}}}}, {range}}}"
            )
        };
        let holds = one(&rule("at_least: 0.001, at_most: 0.01"), &found);
        assert_eq!(holds.verdict, Verdict::Holds);
        assert_eq!(holds.evidence[0].records.len(), 3);
        assert!(
            holds.evidence[0]
                .text
                .contains("0.32 %; claimed: between 0.10 % and 1.00 %"),
            "{}",
            holds.evidence[0].text
        );
        assert_eq!(
            one(&rule("at_least: 0.01"), &found).verdict,
            Verdict::DoesNotHold
        );
    }

    #[test]
    fn a_difference_is_undecided_while_its_interval_lies_across_the_limit() {
        let rule = "{measure: {difference: {of: lora, minus: full}}, at_least: -0.01}";
        // 5 points behind: standard error about √50 / 1000 = 0.007.
        let behind = comparison(&[("lora", 9, 150), ("full", 99, 100)]);
        assert_eq!(one(rule, &behind).verdict, Verdict::DoesNotHold);
        let ahead = comparison(&[("lora", 9, 100), ("full", 99, 150)]);
        assert_eq!(one(rule, &ahead).verdict, Verdict::Holds);
        let value = one(rule, &ahead).evidence[0].value;
        assert!((value - 0.05).abs() < 1e-12, "{value}");
        let near = comparison(&[("lora", 9, 110), ("full", 99, 100)]);
        assert_eq!(one(rule, &near).verdict, Verdict::Undecided);
    }

    #[test]
    fn one_seed_leaves_a_difference_undecided() {
        let records = [("lora", 100), ("full", 400)].map(|(m, wrong)| {
            Sample::new(m)
                .predictions(&labels(), move |i| i >= wrong)
                .record()
        });
        let rule = "{measure: {difference: {of: lora, minus: full}}, at_least: -0.01}";
        let judged = one(rule, &Comparison::from_records(&records));
        assert_eq!(judged.verdict, Verdict::Undecided);
        assert!(judged.evidence[0].text.contains("one seed"));
    }

    #[test]
    fn latencies_are_compared_within_their_process() {
        let found = comparison(&[("lora", 9, 100)]);
        let rule = |q: &str, range: &str| {
            format!("{{measure: {{ratio: {{quantity: {q}, of: lora, over: backbone}}}}, {range}}}")
        };
        let merged = one(
            &rule("merged_latency", "at_least: 0.95, at_most: 1.05"),
            &found,
        );
        assert_eq!(merged.verdict, Verdict::Holds);
        let unmerged = one(&rule("latency", "at_most: 1.05"), &found);
        assert_eq!(unmerged.verdict, Verdict::DoesNotHold);
    }

    #[test]
    fn a_paired_ratio_is_the_geometric_mean_with_the_interval_of_the_logarithms() {
        // scipy.stats.t.interval(0.95, 2, loc=mean(log r), scale=sem(log r)) of r = 1.1, 1.2, 1.3, exponentiated.
        let (value, interval) = paired_ratio(&[1.1, 2.4, 3.9], &[1.0, 2.0, 3.0]).unwrap();
        assert!((value - (1.1f64 * 1.2 * 1.3).cbrt()).abs() < 1e-12);
        let [low, high] = interval.unwrap();
        assert!(
            (low - 0.972_821_975_613_704_8).abs() < 1e-9
                && (high - 1.473_368_847_848_907).abs() < 1e-9,
            "{low} {high}"
        );
        assert!(paired_ratio(&[1.0], &[1.0]).unwrap().1.is_none());
    }

    #[test]
    fn the_interval_of_a_ratio_of_variances_is_that_of_the_f_distribution() {
        // 4 / scipy.stats.f.ppf([0.975, 0.025], 2, 4)
        let [low, high] = variance_ratio_interval(4.0, 3, 5).unwrap();
        assert!((low - 0.375_618_221_555_731_4).abs() < 1e-6, "{low}");
        assert!((high - 156.993_670_632_525_98).abs() < 1e-6, "{high}");
        assert!(variance_ratio_interval(4.0, 1, 5).is_none());
    }

    #[test]
    fn variants_and_tuned_rows_are_not_the_method_that_a_claim_is_about() {
        let tuned = Sample::new("lora")
            .parameters(999)
            .variant("rank=64", serde_json::json!({"rank": 64}))
            .record();
        let rule =
            "{measure: {ratio: {quantity: parameters, of: lora, over: backbone}}, at_most: 1}";
        let judged = one(rule, &Comparison::from_records(&[tuned]));
        assert!(judged.evidence.is_empty(), "{:?}", judged.evidence);
    }

    #[test]
    fn checks_count_over_data_sets_of_one_backbone() {
        let record = |dataset: &str, passed| {
            Sample::new("prompt_tuning")
                .with(|r| r.asked.dataset.name = dataset.into())
                .check("backbone_unchanged", passed, "")
                .record()
        };
        let rule = "{measure: {checks: {method: prompt_tuning, checks: [backbone_unchanged], datasets: 2}}, at_least: 1.0}";
        let judged = |records: &[RunRecord]| one(rule, &Comparison::from_records(records)).verdict;
        assert_eq!(judged(&[record("sst2", true)]), Verdict::Undecided);
        assert_eq!(
            judged(&[record("sst2", true), record("cola", true)]),
            Verdict::Holds
        );
        assert_eq!(
            judged(&[record("sst2", true), record("cola", false)]),
            Verdict::DoesNotHold
        );
    }

    #[test]
    fn a_rule_that_is_none_is_refused_with_the_claim() {
        for (yaml, says) in [
            ("[{id: a, claim: c, source: s, rules: []}]", "a: no rules"),
            (
                "[{id: b, claim: c, source: s, rules: [{measure: {difference: {of: x, minus: y}}}]}]",
                "b: a rule needs",
            ),
            ("[{id: c}]", "c: missing field `claim`"),
        ] {
            let message = parse(yaml).unwrap_err().to_string();
            assert!(message.contains(says), "{message}");
        }
    }
}
