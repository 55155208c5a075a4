//! A measured value with its uncertainty, and what it says about a rule.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use statistics::{
    ALPHA, Combined, Components, Estimate, Evidence, FEWEST_SEEDS, Looks, MOST_SEEDS, Margin,
    POWER, Ratio, Remedy,
};
use statrs::distribution::{ContinuousCDF, FisherSnedecor, StudentsT};

use super::claim::{At, Bound, Rule};
use crate::{Comparison, format, needs::Needs, studies::Study, words};

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

/// How uncertain a value is.
#[derive(Clone, Debug)]
pub(super) enum Spread {
    /// Not at all.
    Exact,
    /// Nothing is known of it.
    Unknown,
    /// Student's t.
    T(StudentsSpread),
    /// A ratio of variances of two samples of these sizes.
    F { first: usize, second: usize },
    /// The least of these differences.
    Least(Vec<Evidence>),
    /// Somewhere between these two, which hold at 95 % whatever is asked for.
    Between([f64; 2]),
}

/// Student's t with this standard error; of the value's logarithm where it is a ratio.
#[derive(Clone, Copy, Debug)]
pub(super) struct StudentsSpread {
    pub standard_error: f64,
    pub df: f64,
    pub ratio: bool,
}

impl Spread {
    /// Student's t.
    pub fn t(standard_error: f64, df: f64, ratio: bool) -> Self {
        Self::T(StudentsSpread {
            standard_error,
            df,
            ratio,
        })
    }
}

/// A value with its uncertainty and the records behind it.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    pub place: String,
    /// Name of the data set: comparisons of one data set are no sample of data sets.
    pub dataset: String,
    pub what: String,
    pub value: f64,
    pub spread: Spread,
    /// The parts of its variance, which say what it lacks; absent where it is no mean over seeds and examples.
    pub components: Option<Components>,
    /// Where seeds were added between looks: these, and the seeds that there are now.
    pub looks: Option<(Looks, usize)>,
    pub records: Vec<String>,
    pub show: fn(&str, f64) -> String,
    pub metric: String,
    /// The margin declared where it was measured.
    pub margin: Margin,
    /// Whether it is judged; it is only shown where a mean is judged in its place.
    pub judged: bool,
}

impl Measured {
    /// A value of which nothing else is known.
    pub fn of(value: f64, spread: Spread) -> Self {
        Self {
            place: String::new(),
            dataset: String::new(),
            what: String::new(),
            value,
            spread,
            components: None,
            looks: None,
            records: Vec::new(),
            show: format::metric_difference,
            metric: String::new(),
            margin: Margin::default(),
            judged: true,
        }
    }

    /// A value of a comparison.
    pub fn of_comparison(
        comparison: &Comparison,
        what: String,
        value: f64,
        spread: Spread,
    ) -> Self {
        Self {
            place: comparison.name.clone(),
            dataset: comparison.dataset.name.clone(),
            what,
            metric: comparison.metric().to_owned(),
            margin: comparison.margin,
            ..Self::of(value, spread)
        }
    }

    /// A value of two points of a study, which are named with this sign between them.
    pub fn of_study(
        study: &Study,
        points: [&At; 2],
        sign: &str,
        value: f64,
        spread: Spread,
    ) -> Self {
        let name = |at: &At| format!("{} at {}", at.series, at.at);
        let shown = points
            .iter()
            .filter_map(|at| study.point(&at.series, &at.at));
        let records: BTreeSet<String> = shown.flat_map(|p| p.runs.clone()).collect();
        Self {
            place: study.title.clone(),
            dataset: study.dataset.name.clone(),
            what: format!("{} {sign} {}", name(points[0]), name(points[1])),
            records: records.into_iter().collect(),
            metric: study.metric().to_owned(),
            margin: study.margin,
            ..Self::of(value, spread)
        }
    }

    /// The same at the last of these looks, with so many seeds.
    #[must_use]
    pub fn looked_at(mut self, looks: Option<&Looks>, seeds: usize) -> Self {
        self.looks = looks.map(|looks| (looks.clone(), seeds));
        self
    }

    /// The same with the parts of its variance.
    #[must_use]
    pub fn made_of(mut self, components: Option<Components>) -> Self {
        self.components = components;
        self
    }

    /// The interval that covers the true value with this chance; at one of several looks, the wider one that does so at all of them.
    pub fn interval(&self, coverage: f64) -> Option<[f64; 2]> {
        let coverage = match &self.looks {
            None => coverage,
            Some((looks, seeds)) => {
                let made = looks.made(*seeds).max(1);
                1.0 - looks.levels(1.0 - coverage)[made - 1]
            }
        };
        let tail = (1.0 - coverage) / 2.0;
        match &self.spread {
            Spread::Exact => Some([self.value; 2]),
            Spread::Unknown => None,
            Spread::T(t) => {
                let half = -StudentsT::new(0.0, 1.0, t.df).ok()?.inverse_cdf(tail);
                let half = half * t.standard_error;
                Some(match t.ratio {
                    true => [self.value.ln() - half, self.value.ln() + half].map(f64::exp),
                    false => [self.value - half, self.value + half],
                })
            }
            Spread::F { first, second } => {
                let f = FisherSnedecor::new((*first - 1) as f64, (*second - 1) as f64).ok()?;
                Some([1.0 - tail, tail].map(|p| self.value / f.inverse_cdf(p)))
            }
            Spread::Least(all) => {
                let together = 1.0 - (1.0 - coverage) / all.len().max(1) as f64;
                let of = |e: &Evidence| [e.interval_at(coverage)[0], e.interval_at(together)[1]];
                let ends = all.iter().map(of);
                ends.reduce(|a, b| [a[0].min(b[0]), a[1].min(b[1])])
            }
            Spread::Between(ends) => Some(*ends),
        }
    }

    /// With the mean that is judged in the place of several: over data sets, or over the comparisons of one.
    pub fn with_mean(mut found: Vec<Self>) -> Vec<Self> {
        if let Some(mean) = Self::mean(&found) {
            found.iter_mut().for_each(|m| m.judged = false);
            found.push(mean);
        }
        found
    }

    /// `None` with one, or where the mean of what was found has no interval.
    fn mean(found: &[Self]) -> Option<Self> {
        if found.len() < 2 {
            return None;
        }
        let mut by_dataset: BTreeMap<&str, Vec<Estimated>> = BTreeMap::new();
        for m in found {
            let own = by_dataset.entry(&m.dataset).or_default();
            own.push(Estimated::of(m)?);
        }
        let means = by_dataset
            .values()
            .filter_map(|own| Estimated::of_one_dataset(own));
        let means: Vec<Estimated> = means.collect();
        let first = found.first()?;
        let (mean, over) = match means.as_slice() {
            [only] => (
                *only,
                format!("{} comparisons of {}", found.len(), first.dataset),
            ),
            several => (
                Estimated::over_datasets(several)?,
                format!("{} data sets", several.len()),
            ),
        };
        let ratio = matches!(first.spread, Spread::T(t) if t.ratio);
        let value = if ratio { mean.value.exp() } else { mean.value };
        let t = StudentsSpread { ratio, ..mean.t };
        // Where data sets have several, it is the main metric of each.
        let what = match found.iter().all(|m| m.metric == first.metric) {
            true => first.what.clone(),
            false => {
                let name = format::metric_name(&first.metric);
                first.what.replacen(&name, "main metric", 1)
            }
        };
        Some(Self {
            place: format!("mean over {over}"),
            what,
            looks: found.iter().find_map(|m| m.looks.clone()),
            show: first.show,
            metric: first.metric.clone(),
            margin: first.margin,
            ..Self::of(value, Spread::T(t))
        })
    }

    /// The smallest and the largest value that a rule accepts.
    pub fn accepted(&self, rule: &Rule) -> [f64; 2] {
        let value = |bound: Bound| bound.value(self.margin);
        [
            rule.at_least.map_or(f64::NEG_INFINITY, value),
            rule.at_most.map_or(f64::INFINITY, value),
        ]
    }

    /// What would show whether a rule with these bounds accepts it, taking the value found for the true one, where so many measurements are
    /// judged together; `None` where that is not known. That it is accepted needs no correction.
    fn needs(&self, [low, high]: [f64; 2], tests: usize) -> Option<Needs> {
        let distance = |bound: f64| (self.value - bound).abs();
        let is_low_nearer = distance(low) <= distance(high);
        let nearest = if is_low_nearer { low } else { high };
        let is_accepted = (low..=high).contains(&self.value);
        let tests = if is_accepted { 1 } else { tests };
        let (more_seeds, more_examples) = match self.spread {
            Spread::F { first, second } => {
                let there = first.min(second);
                let seeds = seeds_for_variances(self.value / nearest, there, tests)?;
                (Some(seeds - there), None)
            }
            _ => {
                let there = self.components?;
                let remedy = Remedy::of_distance(&there, distance(nearest), tests);
                let examples = remedy.examples.map(|n| n.saturating_sub(there.examples));
                let seeds = remedy.seeds.map(|n| n.saturating_sub(there.seeds));
                (seeds, examples)
            }
        };
        Some(Needs {
            more_seeds,
            more_examples,
            seconds: None,
        })
    }

    /// What it says about a rule, of which all measurements together say whether it failed; so many are judged.
    pub fn judged(self, rule: &Rule, failed: bool, tests: usize) -> Measurement {
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
            None => format!(
                " (no interval: fewer than {FEWEST_SEEDS} seeds, or all made in one sitting)"
            ),
            Some([l, h]) if l == h => String::new(),
            Some([l, h]) => {
                let over = self.looks.as_ref().map_or("", |_| " over all looks");
                format!(" (95 % interval{over} {} to {})", show(l), show(h))
            }
        };
        let accepted = match bounds.map(|bound| bound.map(show)) {
            [Some(a), Some(b)] => format!("between {a} and {b}"),
            [Some(a), None] => format!("at least {a}"),
            [None, Some(b)] => format!("at most {b}"),
            [None, None] => "anything".to_owned(),
        };
        let open = self.judged && verdict == Verdict::Undecided && interval.is_some();
        let needs = open.then(|| self.needs([low, high], tests)).flatten();
        let needs = needs.map_or_else(String::new, |n| format!("; it {}", words::needs(&n)));
        let value = show(self.value);
        Measurement {
            text: format!("{}: {value}{shown}; claimed: {accepted}{needs}", self.what),
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

/// A value (of a ratio its logarithm) with Student's t.
#[derive(Clone, Copy)]
struct Estimated {
    value: f64,
    t: StudentsSpread,
}

impl Estimated {
    fn of(measured: &Measured) -> Option<Self> {
        let Spread::T(t) = measured.spread else {
            return None;
        };
        let value = measured.value;
        let value = if t.ratio { value.ln() } else { value };
        Some(Self { value, t })
    }

    /// The mean over comparisons of one data set. They share its examples and may share their seeds' initial weights, so the standard error is that of values
    /// which vary together, the largest that a mean can have.
    fn of_one_dataset(own: &[Self]) -> Option<Self> {
        let mean = |of: fn(&Self) -> f64| statistics::mean(&own.iter().map(of).collect::<Vec<_>>());
        Some(Self {
            value: mean(|e| e.value)?,
            t: StudentsSpread {
                standard_error: mean(|e| e.t.standard_error)?,
                df: own.iter().map(|e| e.t.df).fold(f64::INFINITY, f64::min),
                ratio: own.first()?.t.ratio,
            },
        })
    }

    fn over_datasets(all: &[Self]) -> Option<Self> {
        let estimates = all.iter().map(|e| Estimate {
            difference: e.value,
            variance: e.t.standard_error * e.t.standard_error,
        });
        let found = Combined::of(&estimates.collect::<Vec<_>>())?;
        Some(Self {
            value: found.difference,
            t: StudentsSpread {
                standard_error: found.standard_error,
                df: (all.len() - 1) as f64,
                ..all.first()?.t
            },
        })
    }
}

/// Which measurements are shown to be outside what their rules accept, corrected together after Holm: each step leaves one fewer, so that
/// its intervals may be narrower.
pub(super) fn failed(measured: &[(&Rule, Measured)]) -> Vec<bool> {
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

/// Seeds of each of two variances with which a test finds that they differ by this factor, but no fewer than there are; `None` where more
/// would be needed than anybody makes.
fn seeds_for_variances(factor: f64, there: usize, tests: usize) -> Option<usize> {
    let factor = factor.max(1.0 / factor);
    let tail = ALPHA / 2.0 / tests.max(1) as f64;
    (there.max(2)..=MOST_SEEDS).find(|&seeds| {
        let df = (seeds - 1) as f64;
        FisherSnedecor::new(df, df)
            .is_ok_and(|f| f.inverse_cdf(1.0 - tail) * f.inverse_cdf(POWER) <= factor)
    })
}

/// The spread of a difference of the metric; unknown below three seeds.
pub(super) fn spread_of(evidence: Option<Evidence>) -> Spread {
    match evidence {
        Some(e) if e.components.seeds >= FEWEST_SEEDS => Spread::t(e.standard_error, e.df, false),
        _ => Spread::Unknown,
    }
}

/// The spread of a ratio of times.
pub(super) fn spread_of_times(ratio: &Ratio) -> Spread {
    let df = (ratio.sittings.max(2) - 1) as f64;
    let t = StudentsT::new(0.0, 1.0, df).map_or(f64::NAN, |t| t.inverse_cdf(1.0 - ALPHA / 2.0));
    match ratio.interval {
        Some([low, high]) => Spread::t((high.ln() - low.ln()) / 2.0 / t, df, true),
        None => Spread::Unknown,
    }
}
