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
//! A claim holds if every rule does: all must be shown, so each may be tested at 5 % (an intersection-union test, Berger 1982). It does
//! not hold if one of its rules does not: any may fail by chance, so for that the measurements are corrected together after Holm, by
//! intervals of the coverage 1 − 5 % / (how many are left). What was measured on several data sets is judged by the mean over them
//! ([`Combined`]), not by the worst. Methods are taken with their default configuration; tuned rows and variants do not count.
//!
//! Intervals: differences of the metric are [`Evidence`] over seeds and examples, from three seeds on; a mean over a learning curve is
//! one too, where the predictions on the way are kept; ratios of times are taken by seed, and the sitting (the process of a latency, the
//! hour of a training) is the replicate ([`Ratio`]), latencies over all settings that were timed; ratios of variances have the interval of
//! the F distribution. The distance to the best of the other points is the least of the differences to each: its lower end needs no
//! correction, for whichever is the best, its own interval holds; its upper end is that of all together. The best of each of two series is chosen
//! for one half of the examples on the other half, so that no number judges a choice that was made on it. The best place of a series is somewhere
//! among the points that are not shown to be worse than the highest.

use std::collections::{BTreeMap, BTreeSet};

use record::{RunRecord, Status};
use serde::{Deserialize, Serialize};
use statistics::{
    ALPHA, Combined, Estimate, Evidence, FEWEST_SEEDS, Family, Margin, Ratio, Scores, Timed,
};
use statrs::distribution::{ContinuousCDF, FisherSnedecor, StudentsT};

use crate::{
    Comparison, Error, Result, format, latency,
    row::{Row, curve_scores},
    studies::{Point, Series, Study, scored},
    table::markdown_text,
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
    pub at_least: Option<Bound>,
    /// Largest accepted value.
    pub at_most: Option<Bound>,
}

/// An accepted value.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Bound {
    /// A number.
    Number(f64),
    /// The declared margin.
    Margin(Signed),
}

/// The declared margin with its sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Signed {
    /// Above zero.
    #[serde(rename = "margin")]
    Plus,
    /// Below zero.
    #[serde(rename = "-margin")]
    Minus,
}

impl Bound {
    fn value(self, margin: Margin) -> f64 {
        match self {
            Self::Number(x) => x,
            Self::Margin(Signed::Plus) => margin.get(),
            Self::Margin(Signed::Minus) => -margin.get(),
        }
    }
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
    /// The main metric at the best point of one series minus that at another's; the best is chosen on other examples than it is judged on.
    Best {
        /// Name of the study.
        study: String,
        /// Label of the series.
        of: String,
        /// Label of the other series.
        minus: String,
    },
    /// Where the best point of one series stands on the x axis, over where another's does.
    Place {
        /// Name of the study.
        study: String,
        /// Label of the series.
        of: String,
        /// Label of the other series.
        over: String,
    },
    /// One difference between two points of a study minus another such difference.
    Interaction {
        /// Name of the study.
        study: String,
        /// A point.
        of: At,
        /// What is taken from it.
        minus: At,
        /// The point of the other difference.
        beside: At,
        /// What is taken from that.
        beside_minus: At,
    },
    /// Trained parameters, head apart, at a point of a study over the backbone's.
    Share {
        /// Name of the study.
        study: String,
        /// The point.
        of: At,
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
    /// Median latency, not merged, over all settings that were timed.
    Latency,
    /// Median latency, merged, over all settings that were timed.
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
    pub evidence: Vec<Measurement>,
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
pub struct Measurement {
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
    /// Whether it is judged; it is only shown where the mean over data sets is.
    pub judged: bool,
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
            let ends = [rule.at_least, rule.at_most].map(|b| b.map(|b| b.value(Margin::default())));
            match ends {
                [None, None] => return Err(bad("a rule needs at_least, at_most or both")),
                [Some(low), Some(high)] if low > high => {
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
    let judge = Judge {
        comparisons,
        studies,
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
}

/// How uncertain a value is.
#[derive(Clone, Debug)]
enum Spread {
    /// Not at all.
    Exact,
    /// Nothing is known of it.
    Unknown,
    /// Student's t with this standard error; of the value's logarithm where it is a ratio.
    T {
        standard_error: f64,
        df: f64,
        ratio: bool,
    },
    /// A ratio of variances of two samples of these sizes.
    F { first: usize, second: usize },
    /// The least of these differences.
    Least(Vec<Evidence>),
    /// Somewhere between these two, which hold at 95 % whatever is asked for.
    Between([f64; 2]),
}

/// A value with its uncertainty and the records behind it.
struct Measured {
    place: String,
    what: String,
    value: f64,
    spread: Spread,
    records: Vec<String>,
    show: fn(&str, f64) -> String,
    metric: String,
    /// The margin declared where it was measured.
    margin: Margin,
    /// Whether it is judged; it is only shown where the mean over data sets is.
    judged: bool,
}

impl Measured {
    /// The interval that covers the true value with this chance.
    fn interval(&self, coverage: f64) -> Option<[f64; 2]> {
        let tail = (1.0 - coverage) / 2.0;
        match &self.spread {
            Spread::Exact => Some([self.value; 2]),
            Spread::Unknown => None,
            Spread::T {
                standard_error,
                df,
                ratio,
            } => {
                let half =
                    StudentsT::new(0.0, 1.0, *df).ok()?.inverse_cdf(1.0 - tail) * standard_error;
                Some(match ratio {
                    true => [self.value.ln() - half, self.value.ln() + half].map(f64::exp),
                    false => [self.value - half, self.value + half],
                })
            }
            Spread::F { first, second } => {
                let f = FisherSnedecor::new((*first - 1) as f64, (*second - 1) as f64).ok()?;
                Some([
                    self.value / f.inverse_cdf(1.0 - tail),
                    self.value / f.inverse_cdf(tail),
                ])
            }
            Spread::Least(all) => {
                let together = 1.0 - (1.0 - coverage) / all.len().max(1) as f64;
                let ends = all
                    .iter()
                    .map(|e| [e.interval_at(coverage)[0], e.interval_at(together)[1]]);
                ends.reduce(|a, b| [a[0].min(b[0]), a[1].min(b[1])])
            }
            Spread::Between(ends) => Some(*ends),
        }
    }

    /// The mean of what was measured on several data sets, to be judged in their place; `None` if it cannot be taken.
    fn combined(all: &[Self]) -> Option<Self> {
        let estimates = all.iter().map(|m| match &m.spread {
            Spread::T {
                standard_error,
                ratio,
                ..
            } => Some(Estimate {
                difference: if *ratio { m.value.ln() } else { m.value },
                variance: standard_error * standard_error,
            }),
            _ => None,
        });
        let found = Combined::of(&estimates.collect::<Option<Vec<_>>>()?)?;
        let first = all.first()?;
        let ratio = matches!(first.spread, Spread::T { ratio: true, .. });
        Some(Self {
            place: format!("mean over {} data sets", all.len()),
            what: first.what.clone(),
            value: if ratio {
                found.difference.exp()
            } else {
                found.difference
            },
            spread: Spread::T {
                standard_error: found.standard_error,
                df: (all.len() - 1) as f64,
                ratio,
            },
            records: Vec::new(),
            show: first.show,
            metric: first.metric.clone(),
            margin: first.margin,
            judged: true,
        })
    }
}

/// Which measurements are shown to be outside what their rules accept, corrected together after Holm: each step leaves one fewer, so that
/// its intervals may be narrower.
fn failed(measured: &[(&Rule, Measured)]) -> Vec<bool> {
    let mut failed = vec![false; measured.len()];
    let mut left = measured.iter().filter(|(_, m)| m.judged).count();
    loop {
        let coverage = 1.0 - ALPHA / left.max(1) as f64;
        let outside = |i: &usize| {
            let (rule, m) = &measured[*i];
            let [low, high] = m.accepted(rule);
            let ends = m.interval(coverage).filter(|_| m.judged);
            ends.is_some_and(|[l, h]| h < low || high < l)
        };
        let Some(next) = (0..measured.len()).filter(|i| !failed[*i]).find(outside) else {
            return failed;
        };
        failed[next] = true;
        left -= 1;
    }
}

/// The spread of a difference of the metric; unknown below three seeds.
fn spread_of(evidence: Option<Evidence>) -> Spread {
    match evidence {
        Some(e) if e.components.seeds >= FEWEST_SEEDS => Spread::T {
            standard_error: e.standard_error,
            df: e.df,
            ratio: false,
        },
        _ => Spread::Unknown,
    }
}

/// The spread of a ratio of times.
fn spread_of_times(ratio: &Ratio) -> Spread {
    let df = (ratio.sittings.max(2) - 1) as f64;
    let t = StudentsT::new(0.0, 1.0, df).map_or(f64::NAN, |t| t.inverse_cdf(1.0 - ALPHA / 2.0));
    match ratio.interval {
        Some([low, high]) => Spread::T {
            standard_error: (high.ln() - low.ln()) / 2.0 / t,
            df,
            ratio: true,
        },
        None => Spread::Unknown,
    }
}

impl Judge<'_> {
    fn claim(&self, claim: &Claim) -> Judged {
        let mut missing = Vec::new();
        let mut measured: Vec<(&Rule, Measured)> = Vec::new();
        for rule in &claim.rules {
            let mut found = self.measure(&rule.measure);
            if found.is_empty() {
                missing.push(what_is_missing(&rule.measure));
            }
            if let Some(mean) = Measured::combined(&found) {
                found.iter_mut().for_each(|m| m.judged = false);
                found.push(mean);
            }
            measured.extend(found.into_iter().map(|m| (rule, m)));
        }
        let failed = failed(&measured);
        let evidence: Vec<Measurement> = measured
            .into_iter()
            .zip(failed)
            .map(|((rule, m), failed)| m.judged(rule, failed))
            .collect();
        let any = |v| evidence.iter().any(|e| e.judged && e.verdict == v);
        let verdict = if any(Verdict::DoesNotHold) {
            Verdict::DoesNotHold
        } else if missing.is_empty() && !any(Verdict::Undecided) {
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

    fn named<'b>(&'b self, study: &'b str) -> impl Iterator<Item = &'b Study> {
        self.studies.iter().filter(move |s| s.name == study)
    }

    fn measure(&self, measure: &Measure) -> Vec<Measured> {
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
            Measure::Study { study, of, minus } if minus.at == BEST => self
                .named(study)
                .filter_map(|s| minus_best(s, of, minus))
                .collect(),
            Measure::Study { study, of, minus } => {
                let one = |s: &Study| {
                    let (a, b) = (point(s, of)?, point(s, minus)?);
                    let d = a.scores.as_ref()?.minus(b.scores.as_ref()?)?;
                    let spread = spread_of(Evidence::of(&d));
                    Some(Measured::of_study(s, [of, minus], "−", d.mean(), spread))
                };
                self.named(study).filter_map(one).collect()
            }
            Measure::Best { study, of, minus } => self
                .named(study)
                .filter_map(|s| best_minus_best(s, of, minus))
                .collect(),
            Measure::Place { study, of, over } => self
                .named(study)
                .filter_map(|s| place_over_place(s, of, over))
                .collect(),
            Measure::Interaction {
                study,
                of,
                minus,
                beside,
                beside_minus,
            } => {
                let one = |s: &Study| {
                    let difference = |a, b| {
                        let (a, b) = (point(s, a)?, point(s, b)?);
                        a.scores.as_ref()?.minus(b.scores.as_ref()?)
                    };
                    let (first, second) =
                        (difference(of, minus)?, difference(beside, beside_minus)?);
                    let d = first.minus(&second)?;
                    let mut found = Measured::of_study(
                        s,
                        [of, minus],
                        "−",
                        d.mean(),
                        spread_of(Evidence::of(&d)),
                    );
                    let other =
                        Measured::of_study(s, [beside, beside_minus], "−", 0.0, Spread::Exact);
                    found.what = format!("({}) − ({})", found.what, other.what);
                    found.records.extend(other.records);
                    Some(found)
                };
                self.named(study).filter_map(one).collect()
            }
            Measure::Share { study, of } => {
                let one = |s: &Study| {
                    let records = s.records_of(point(s, of)?);
                    let found = records.first()?.outcome.as_ref()?.parameters;
                    let share = found.method as f64 / found.backbone.max(1) as f64;
                    let mut found = Measured::of_study(s, [of, of], "/", share, Spread::Exact);
                    found.what =
                        format!("trained parameters, {} at {} / backbone", of.series, of.at);
                    found.show = |_, x| format::share(x);
                    Some(found)
                };
                self.named(study).filter_map(one).collect()
            }
            Measure::Curve { study, of, minus } => self
                .named(study)
                .filter_map(|s| curve_minus_curve(s, of, minus))
                .collect(),
            Measure::Spread { study, of, over } => {
                let one = |s: &Study| {
                    let values = |at| point(s, at).and_then(|p| p.metric.as_ref());
                    let (a, b) = (values(of)?, values(over)?);
                    let (va, vb) = (a.sd?.powi(2), b.sd?.powi(2));
                    if vb == 0.0 {
                        return None;
                    }
                    let spread = Spread::F {
                        first: a.values.len(),
                        second: b.values.len(),
                    };
                    let mut found = Measured::of_study(s, [of, over], "/", va / vb, spread);
                    found.what = format!("variance over seeds, {}", found.what);
                    found.show = |_, x| format!("{x:.2}");
                    Some(found)
                };
                self.named(study).filter_map(one).collect()
            }
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
                    spread: Spread::Exact,
                    judged: true,
                    records: records.keys().map(|id| (*id).to_owned()).collect(),
                    show: |_, x| format!("{:.1} %", 100.0 * x),
                    metric: String::new(),
                    margin: Margin::default(),
                })
            })
            .collect()
    }
}

/// The label that stands for the best point of a series.
const BEST: &str = "best";

/// A point minus the best of the other points of its series.
fn minus_best(study: &Study, of: &At, minus: &At) -> Option<Measured> {
    let own = point(study, of)?;
    let series = study.series.iter().find(|s| s.label == minus.series)?;
    let (places, scores) = scored(&series.points);
    let place = places
        .iter()
        .position(|&i| series.points[i].label == own.label)?;
    let family = Family::new(&scores, study.margin);
    let others = (0..scores.len()).filter(|&k| k != place);
    let differences = others
        .clone()
        .filter_map(|k| Some(scores[place].minus(&scores[k])?.mean()));
    let value = differences.reduce(f64::min)?;
    let tested: Vec<Evidence> = others
        .clone()
        .filter_map(|k| family.pair(place, k))
        .filter(|p| p.corrected.is_some())
        .map(|p| p.evidence)
        .collect();
    let spread = match tested.len() == others.count() {
        true => Spread::Least(tested),
        false => Spread::Unknown,
    };
    let mut found = Measured::of_study(study, [of, of], "−", value, spread);
    found.what = format!("{} at {} − the best of the others", of.series, of.at);
    let runs = series.points.iter().flat_map(|p| p.runs.clone());
    found.records = runs.collect::<BTreeSet<_>>().into_iter().collect();
    Some(found)
}

/// The best point of one series minus that of another. For the even examples each is the one with the highest mean on the odd ones, and the
/// other way round.
fn best_minus_best(study: &Study, of: &str, minus: &str) -> Option<Measured> {
    let best = |label: &str| {
        let series = study.series.iter().find(|s| s.label == label)?;
        best_of_halves(&scored(&series.points).1)
    };
    let d = best(of)?.minus(&best(minus)?)?;
    let at = |series: &str| At {
        series: series.to_owned(),
        at: BEST.to_owned(),
    };
    let spread = spread_of(Evidence::of(&d));
    let mut found = Measured::of_study(study, [&at(of), &at(minus)], "−", d.mean(), spread);
    let own = |s: &&Series| s.label == of || s.label == minus;
    let runs = study.series.iter().filter(own).flat_map(|s| &s.points);
    found.records = runs.flat_map(|p| p.runs.clone()).collect();
    Some(found)
}

/// For each half of the examples the scores of the point that is best on the other half, on the seeds that all points have.
fn best_of_halves(points: &[Scores]) -> Option<Scores> {
    let first = points.first()?;
    let half = |scores: &Scores, odd: usize| -> f64 {
        let rows = scores.rows();
        rows.map(|r| r.iter().skip(odd).step_by(2).sum::<f64>())
            .sum::<f64>()
            / scores.seeds().count() as f64
    };
    let best = |odd: usize| {
        let by = |a: &&Scores, b: &&Scores| half(a, odd).total_cmp(&half(b, odd));
        points.iter().max_by(by)
    };
    let (for_even, for_odd) = (best(1)?, best(0)?);
    let seeds = first
        .seeds()
        .filter(|seed| points.iter().all(|p| p.seeds().any(|s| s == *seed)));
    let row = |scores: &Scores, seed: u64| -> Option<Vec<f64>> {
        let place = scores.seeds().position(|s| s == seed)?;
        Some(scores.rows().nth(place)?.to_vec())
    };
    let rows = seeds.map(|seed| {
        let (even, odd) = (row(for_even, seed)?, row(for_odd, seed)?);
        let mixed = even.iter().zip(&odd).enumerate();
        let mixed = mixed.map(|(j, (e, o))| if j % 2 == 0 { *e } else { *o });
        Some((seed, mixed.collect()))
    });
    Scores::new(rows.collect::<Option<Vec<_>>>()?).ok()
}

/// Where the best point of one series stands over where that of another does. Each may be any of the points that are not shown to be worse
/// than the highest of its series.
fn place_over_place(study: &Study, of: &str, over: &str) -> Option<Measured> {
    let places = |label: &str| -> Option<(f64, Option<[f64; 2]>)> {
        let series = study.series.iter().find(|s| s.label == label)?;
        let highest = series.points.iter().find(|p| p.highest)?.x?;
        let tested = |p: &&Point| p.highest || p.verdict.is_some();
        let possible = series.points.iter().filter(|p| p.metric.is_some());
        let range = possible.clone().all(|p| tested(&p)).then(|| {
            let left = possible.filter(|p| p.verdict != Some(statistics::Verdict::Worse));
            left.filter_map(|p| p.x)
                .fold([f64::INFINITY, 0.0], |[l, h], x| [x.min(l), x.max(h)])
        });
        (highest > 0.0).then_some((highest, range))
    };
    let ((a, range_a), (b, range_b)) = (places(of)?, places(over)?);
    let spread = match range_a.zip(range_b) {
        Some(([la, ha], [lb, hb])) => Spread::Between([la / hb, ha / lb]),
        None => Spread::Unknown,
    };
    let at = |series: &str| At {
        series: series.to_owned(),
        at: BEST.to_owned(),
    };
    let mut found = Measured::of_study(study, [&at(of), &at(over)], "/", a / b, spread);
    found.what = format!("best {}, {of} / {over}", study.axis.title);
    found.show = |_, x| format!("{x:.2}");
    let own = |s: &&Series| s.label == of || s.label == over;
    let runs = study.series.iter().filter(own).flat_map(|s| &s.points);
    found.records = runs.flat_map(|p| p.runs.clone()).collect();
    Some(found)
}

/// The mean over the learning curve at one point minus that at another: over seeds and examples where the predictions on the way are kept,
/// else over seeds alone.
fn curve_minus_curve(study: &Study, of: &At, minus: &At) -> Option<Measured> {
    let (a, b) = (point(study, of)?, point(study, minus)?);
    let scores = |p: &Point| curve_scores(&study.records_of(p));
    let (value, spread) = match scores(a).zip(scores(b)) {
        Some((a, b)) => {
            let d = a.minus(&b)?;
            (d.mean(), spread_of(Evidence::of(&d)))
        }
        None => {
            let means = |p: &Point| -> BTreeMap<u64, f64> {
                let records = study.records_of(p).into_iter();
                records
                    .filter_map(|r| Some((r.asked.seed, curve_mean(r)?)))
                    .collect()
            };
            let others = means(b);
            let differences: Vec<f64> = means(a)
                .into_iter()
                .filter_map(|(seed, a)| Some(a - others.get(&seed)?))
                .collect();
            let n = differences.len() as f64;
            let spread = match statistics::standard_deviation(&differences) {
                Some(sd) if differences.len() >= FEWEST_SEEDS => Spread::T {
                    standard_error: sd / n.sqrt(),
                    df: n - 1.0,
                    ratio: false,
                },
                _ => Spread::Unknown,
            };
            (statistics::mean(&differences)?, spread)
        }
    };
    let mut found = Measured::of_study(study, [of, minus], "−", value, spread);
    found.what = format!("mean over the learning curve, {}", found.what);
    Some(found)
}

impl Measured {
    fn of_study(study: &Study, points: [&At; 2], sign: &str, value: f64, spread: Spread) -> Self {
        let name = |at: &At| format!("{} at {}", at.series, at.at);
        let runs = points
            .iter()
            .filter_map(|at| point(study, at))
            .flat_map(|p| p.runs.clone());
        let records: BTreeSet<String> = runs.collect();
        Self {
            place: study.title.clone(),
            what: format!("{} {sign} {}", name(points[0]), name(points[1])),
            value,
            spread,
            records: records.into_iter().collect(),
            show: format::metric_difference,
            metric: study.metric().to_owned(),
            margin: study.margin,
            judged: true,
        }
    }

    /// The smallest and the largest value that a rule accepts.
    fn accepted(&self, rule: &Rule) -> [f64; 2] {
        let value = |bound: Option<Bound>| bound.map(|b| b.value(self.margin));
        [
            value(rule.at_least).unwrap_or(f64::NEG_INFINITY),
            value(rule.at_most).unwrap_or(f64::INFINITY),
        ]
    }

    fn judged(self, rule: &Rule, failed: bool) -> Measurement {
        let [low, high] = self.accepted(rule);
        let interval = self.interval(1.0 - ALPHA);
        let verdict = match interval {
            Some([l, h]) if low <= l && h <= high => Verdict::Holds,
            _ if failed => Verdict::DoesNotHold,
            _ => Verdict::Undecided,
        };
        let bounds = [low, high].map(|b| Some(b).filter(|b| b.is_finite()));
        let show = |x: f64| (self.show)(&self.metric, x);
        let shown = match interval {
            None => format!(" (no interval: fewer than {FEWEST_SEEDS} seeds, or one sitting)"),
            Some([l, h]) if l == h => String::new(),
            Some([l, h]) => format!(" (95 % interval {} to {})", show(l), show(h)),
        };
        let accepted = match (bounds[0], bounds[1]) {
            (Some(a), Some(b)) => format!("between {} and {}", show(a), show(b)),
            (Some(a), None) => format!("at least {}", show(a)),
            (None, Some(b)) => format!("at most {}", show(b)),
            (None, None) => "anything".to_owned(),
        };
        Measurement {
            text: format!(
                "{}: {}{shown}; claimed: {accepted}",
                self.what,
                show(self.value)
            ),
            place: self.place,
            what: self.what,
            value: self.value,
            interval,
            accepted: bounds,
            verdict,
            judged: self.judged,
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
    Some(Measured {
        place: comparison.name.clone(),
        what: format!("{name}, {of} / {over}"),
        value,
        spread,
        judged: true,
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
        margin: comparison.margin,
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
    Some(Measured {
        place: comparison.name.clone(),
        what: format!("{}, {of} − {minus}", comparison.metric()),
        value: if pair.first == a {
            pair.difference
        } else {
            -pair.difference
        },
        spread: spread_of(pair.evidence),
        judged: true,
        records: ids(vec![&comparison.rows[a], &comparison.rows[b]]),
        show: format::metric_difference,
        metric: comparison.metric().to_owned(),
        margin: comparison.margin,
    })
}

/// A point of a study, by its label.
fn point<'a>(study: &'a Study, at: &At) -> Option<&'a Point> {
    study.point(&at.series, &at.at)
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
        | Measure::Best { study, .. }
        | Measure::Place { study, .. }
        | Measure::Interaction { study, .. }
        | Measure::Share { study, .. }
        | Measure::Curve { study, .. }
        | Measure::Spread { study, .. } => format!(
            "the study {study} lacks runs for it; run `peftbench sweep DATASET --study {study} --seeds 3`"
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
            markdown_text(&claim.claim),
            markdown_text(&claim.source)
        );
        for e in &claim.evidence {
            let said = if e.judged {
                e.verdict.words()
            } else {
                "of this"
            };
            text += &format!(
                "  - {said}: {}: {}\n",
                markdown_text(&e.place),
                markdown_text(&e.text)
            );
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
    fn merged_weights_that_are_faster_than_the_backbone_keep_their_claim() {
        let claims = parse(CLAIMS).unwrap();
        let merged: Vec<Claim> = claims
            .into_iter()
            .filter(|c| c.id == "merged_latency")
            .collect();
        let records: Vec<RunRecord> = (0..3)
            .map(|seed| {
                let run = Sample::new("lora").seed(seed);
                let run = run.latency("backbone", 4.0 + 0.1 * seed as f64, 6.0);
                run.latency("merged", 3.7 + 0.09 * seed as f64, 6.0)
                    .record()
            })
            .collect();
        let judged = judge(&merged, &Comparison::from_records(&records), &[]).remove(0);
        assert!((judged.evidence[0].value - 0.925).abs() < 0.01);
        assert_eq!(judged.verdict, Verdict::Holds);
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
        assert!(judged.evidence[0].text.contains("fewer than 3 seeds"));
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
    fn the_interval_of_a_ratio_of_variances_is_that_of_the_f_distribution() {
        let measured = |first, second| Measured {
            place: String::new(),
            what: String::new(),
            value: 4.0,
            spread: Spread::F { first, second },
            records: vec![],
            show: |_, x| x.to_string(),
            metric: String::new(),
            margin: Margin::default(),
            judged: true,
        };
        // 4 / scipy.stats.f.ppf([0.975, 0.025], 2, 4)
        let [low, high] = measured(3, 5).interval(0.95).unwrap();
        assert!((low - 0.375_618_221_555_731_4).abs() < 1e-6, "{low}");
        assert!((high - 156.993_670_632_525_98).abs() < 1e-6, "{high}");
    }

    #[test]
    fn times_are_paired_by_seed_and_not_by_place() {
        // Seeds 0, 1, 2 of one method and 2, 3 of the other: only seed 2 is common, where the ratio is 2.
        let run = |method: &str, seed: u64, seconds| {
            Sample::new(method)
                .seed(seed)
                .training_seconds(seconds)
                .record()
        };
        let records = [
            run("lora", 0, 10.0),
            run("lora", 1, 10.0),
            run("lora", 2, 60.0),
            run("full", 2, 30.0),
            run("full", 3, 99.0),
        ];
        let rule =
            "{measure: {ratio: {quantity: training_time, of: lora, over: full}}, at_most: 1.0}";
        let judged = one(rule, &Comparison::from_records(&records));
        assert!(
            (judged.evidence[0].value - 2.0).abs() < 1e-12,
            "{:?}",
            judged.evidence
        );
        // One sitting shows nothing.
        assert_eq!(judged.verdict, Verdict::Undecided);
    }

    #[test]
    fn several_data_sets_are_judged_by_their_mean() {
        let mut all = Vec::new();
        for (k, name) in ["sst2", "rte", "cola", "mrpc"].into_iter().enumerate() {
            let found = comparison(&[("lora", 9, 100 + k), ("full", 99, 150)]);
            all.extend(found.into_iter().map(|mut c| {
                c.name = name.to_owned();
                c
            }));
        }
        let rule = "{measure: {difference: {of: lora, minus: full}}, at_least: -0.01}";
        let judged = one(rule, &all);
        assert_eq!(judged.evidence.len(), 5);
        let mean = judged.evidence.last().unwrap();
        assert!(mean.judged && mean.place == "mean over 4 data sets");
        assert!((mean.value - 0.0485).abs() < 1e-3, "{}", mean.value);
        assert!(judged.evidence[..4].iter().all(|e| !e.judged));
        assert_eq!(judged.verdict, Verdict::Holds);
    }

    /// A series: its label and points (x, first wrong example, number of wrong ones).
    type Line<'a> = (&'a str, &'a [(f64, usize, usize)]);

    /// A study of two series over x: each point has its wrong examples of 1,000, from `from` on, moved a little by each of five seeds.
    fn study(series: &[Line<'_>]) -> Study {
        use crate::studies::{Axis, Manifest, PointPlan, Position, SeriesPlan};
        let mut records = Vec::new();
        let mut plans = Vec::new();
        for (label, points) in series {
            let mut own = Vec::new();
            for &(x, from, wrong) in *points {
                let runs: Vec<RunRecord> = (0..5)
                    .map(|seed| {
                        let from = from + 2 * seed as usize;
                        Sample::new("lora")
                            .variant(
                                &format!("{label} {x}"),
                                serde_json::json!({ "x": x, "s": label }),
                            )
                            .seed(seed)
                            .parameters(226_080)
                            .predictions(&labels(), move |i| !(from..from + wrong).contains(&i))
                            .record()
                    })
                    .collect();
                own.push(PointPlan {
                    label: x.to_string(),
                    value: Some(x),
                    runs: runs.iter().map(|r| r.id.clone()).collect(),
                });
                records.extend(runs);
            }
            plans.push(SeriesPlan {
                label: (*label).to_owned(),
                method: "lora".into(),
                points: own,
            });
        }
        let manifest = Manifest {
            name: "some".into(),
            title: "Some".into(),
            question: "?".into(),
            reference: None,
            curves: false,
            axis: Axis {
                title: "x".into(),
                position: Position::Value,
                logarithmic: true,
            },
            series: plans,
            left_out: vec![],
            margin: Margin::POINT,
        };
        Study::new(&manifest, records).unwrap()
    }

    fn of_study(rules: &str, study: &Study) -> Judged {
        let yaml = format!("[{{id: x, claim: c, source: s, rules: [{rules}]}}]");
        judge(&parse(&yaml).unwrap(), &[], std::slice::from_ref(study)).remove(0)
    }

    #[test]
    fn the_best_of_two_series_is_judged_on_other_examples_than_it_is_chosen_on() {
        let found = study(&[
            ("a", &[(1.0, 0, 400), (2.0, 0, 100), (4.0, 0, 300)]),
            ("b", &[(1.0, 0, 500), (2.0, 0, 150), (4.0, 0, 200)]),
        ]);
        let rule = "{measure: {best: {study: some, of: a, minus: b}}, at_least: 0.02}";
        let judged = of_study(rule, &found);
        // On either half the best points are those at 2: 10 and 15 % wrong.
        assert!(
            (judged.evidence[0].value - 0.05).abs() < 1e-12,
            "{judged:?}"
        );
        assert_eq!(judged.verdict, Verdict::Holds);
        assert_eq!(judged.evidence[0].records.len(), 30);
        // Two points of which each is better on one half: neither half takes its own best.
        let right = |odd: bool| {
            let row: Vec<bool> = (0..100).map(|j| (j % 2 == 1) == odd).collect();
            Scores::right([(0, row)]).unwrap()
        };
        let chosen = best_of_halves(&[right(true), right(false)]).unwrap();
        assert_eq!(chosen.mean(), 0.0);
    }

    #[test]
    fn the_best_place_may_be_any_that_is_not_shown_to_be_worse() {
        let found = study(&[
            ("a", &[(10.0, 0, 400), (30.0, 0, 100), (100.0, 300, 104)]),
            ("b", &[(1.0, 0, 400), (3.0, 0, 100), (10.0, 0, 300)]),
        ]);
        let rule = |range: &str| {
            format!("{{measure: {{place: {{study: some, of: a, over: b}}}}, {range}}}")
        };
        let judged = of_study(&rule("at_least: 5.0, at_most: 40.0"), &found);
        // 30 / 3, and the point at 100 is undecided against it: 100 / 3.
        assert!((judged.evidence[0].value - 10.0).abs() < 1e-9);
        let [low, high] = judged.evidence[0].interval.unwrap();
        assert!((low - 10.0).abs() < 1e-9 && (high - 100.0 / 3.0).abs() < 1e-9);
        assert_eq!(judged.verdict, Verdict::Holds);
        assert_eq!(
            of_study(&rule("at_least: 5.0, at_most: 20.0"), &found).verdict,
            Verdict::Undecided
        );
        assert_eq!(
            of_study(&rule("at_most: 5.0"), &found).verdict,
            Verdict::DoesNotHold
        );
    }

    #[test]
    fn a_difference_of_differences_is_paired_by_seed_and_example() {
        // Behind by 2 points at 1, and by 20 at 8.
        let found = study(&[
            ("a", &[(1.0, 0, 120), (8.0, 0, 300)]),
            ("b", &[(1.0, 0, 100), (8.0, 0, 100)]),
        ]);
        let rule = "{measure: {interaction: {study: some, of: {series: a, at: '8'}, minus: {series: b, at: '8'}, \
                    beside: {series: a, at: '1'}, beside_minus: {series: b, at: '1'}}}, at_most: 0.0}";
        let judged = of_study(rule, &found);
        assert!(
            (judged.evidence[0].value + 0.18).abs() < 1e-12,
            "{judged:?}"
        );
        assert_eq!(judged.verdict, Verdict::Holds);
        assert!(
            judged.evidence[0]
                .text
                .contains("(a at 8 − b at 8) − (a at 1 − b at 1)")
        );
        let share = "{measure: {share: {study: some, of: {series: a, at: '1'}}}, at_least: 0.009, at_most: 0.011}";
        assert_eq!(of_study(share, &found).verdict, Verdict::Holds);
    }

    #[test]
    fn the_declared_margin_is_a_bound_and_a_point_near_the_best_needs_no_correction() {
        let found = study(&[("a", &[(1.0, 0, 101), (2.0, 0, 100), (4.0, 0, 400)])]);
        let rule = "{measure: {study: {study: some, of: {series: a, at: '1'}, minus: {series: a, at: best}}}, at_least: -margin}";
        let judged = of_study(rule, &found);
        assert_eq!(judged.verdict, Verdict::Holds, "{judged:?}");
        assert_eq!(judged.evidence[0].accepted, [Some(-0.01), None]);
        // 30 points behind the best: shown, with all pairs corrected together.
        let far = "{measure: {study: {study: some, of: {series: a, at: '4'}, minus: {series: a, at: best}}}, at_least: -margin}";
        assert_eq!(of_study(far, &found).verdict, Verdict::DoesNotHold);
    }

    #[test]
    fn what_speaks_against_a_claim_is_corrected_after_holm() {
        let interval = |value: f64, standard_error: f64| Measured {
            place: String::new(),
            what: String::new(),
            value,
            spread: Spread::T {
                standard_error,
                df: 1e6,
                ratio: false,
            },
            records: vec![],
            show: |_, x| x.to_string(),
            metric: String::new(),
            margin: Margin::default(),
            judged: true,
        };
        let rule = Rule {
            measure: Measure::Best {
                study: String::new(),
                of: String::new(),
                minus: String::new(),
            },
            at_least: Some(Bound::Number(0.0)),
            at_most: None,
        };
        let judge = |z: &[f64]| {
            let all: Vec<(&Rule, Measured)> =
                z.iter().map(|z| (&rule, interval(-z, 1.0))).collect();
            failed(&all)
        };
        // Two-sided: 1.96 alone, 2.24 as the first of two; once that is found, 1.96 is enough for the second.
        assert_eq!(judge(&[2.0]), [true]);
        assert_eq!(judge(&[2.0, 2.1]), [false, false]);
        assert_eq!(judge(&[2.0, 2.3]), [true, true]);
        assert_eq!(judge(&[1.9, 2.3]), [false, true]);
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
