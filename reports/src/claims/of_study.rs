//! What a study says about a claim.

use std::collections::{BTreeMap, BTreeSet};

use record::RunRecord;
use statistics::{Evidence, FEWEST_SEEDS, Procedure, Scores};

use super::{
    claim::{At, BEST, Measure},
    measured::{Measured, Spread, spread_of},
};
use crate::{
    format,
    row::curve_scores,
    studies::{Point, Study, scored},
};

/// What a study says on this; `None` if it lacks runs for it, or it is not measured in studies.
pub(super) fn measure(study: &Study, measure: &Measure) -> Option<Measured> {
    match measure {
        Measure::Study { of, minus, .. } if minus.at == BEST => minus_best(study, of, minus),
        Measure::Study { of, minus, .. } => {
            let d = scores_minus(study, of, minus)?;
            Some(difference(study, [of, minus], &d))
        }
        Measure::Best { of, minus, .. } => best_minus_best(study, of, minus),
        Measure::Place { of, over, .. } => place_over_place(study, of, over),
        Measure::Interaction {
            of,
            minus,
            beside,
            beside_minus,
            ..
        } => {
            let first = scores_minus(study, of, minus)?;
            let second = scores_minus(study, beside, beside_minus)?;
            let mut found = difference(study, [of, minus], &first.minus(&second)?);
            let other = Measured::of_study(study, [beside, beside_minus], "−", 0.0, Spread::Exact);
            found.what = format!("({}) − ({})", found.what, other.what);
            found.records.extend(other.records);
            Some(found)
        }
        Measure::Share { of, .. } => {
            let records = study.records_of(point(study, of)?);
            let parameters = records.iter().find_map(|r| r.outcome.as_ref())?.parameters;
            let share = parameters.method as f64 / parameters.backbone.max(1) as f64;
            let mut found = Measured::of_study(study, [of, of], "/", share, Spread::Exact);
            found.what = format!("trained parameters, {} at {} / backbone", of.series, of.at);
            found.show = |_, x| format::share(x);
            Some(found)
        }
        Measure::Curve { of, minus, .. } => curve_minus_curve(study, of, minus),
        Measure::Spread { of, over, .. } => variance_over_variance(study, of, over),
        Measure::Ratio { .. } | Measure::Difference { .. } | Measure::Checks { .. } => None,
    }
}

/// A point of a study, by its label.
fn point<'a>(study: &'a Study, at: &At) -> Option<&'a Point> {
    study.point(&at.series, &at.at)
}

fn scores_minus(study: &Study, of: &At, minus: &At) -> Option<Scores> {
    let scores = |at| point(study, at)?.scores.as_ref();
    scores(of)?.minus(scores(minus)?)
}

/// These differences of two points, over seeds and examples.
fn difference(study: &Study, points: [&At; 2], d: &Scores) -> Measured {
    let evidence = Evidence::of(d);
    Measured::of_study(study, points, "−", d.mean(), spread_of(evidence))
        .looked_at(study.looks.as_ref(), d.seeds().count())
        .made_of(evidence.map(|e| e.components))
}

fn variance_over_variance(study: &Study, of: &At, over: &At) -> Option<Measured> {
    let values = |at| point(study, at).and_then(|p| p.metric.as_ref());
    let (a, b) = (values(of)?, values(over)?);
    let (va, vb) = (a.sd?.powi(2), b.sd?.powi(2));
    if vb == 0.0 {
        return None;
    }
    let (first, second) = (a.values.len(), b.values.len());
    let spread = Spread::F { first, second };
    let mut found = Measured::of_study(study, [of, over], "/", va / vb, spread)
        .looked_at(study.looks.as_ref(), first.min(second));
    found.what = format!("variance over seeds, {}", found.what);
    found.show = |_, x| format!("{x:.2}");
    Some(found)
}

/// A point minus the best of the other points of its series.
fn minus_best(study: &Study, of: &At, minus: &At) -> Option<Measured> {
    let own = point(study, of)?;
    let series = study.series(&minus.series)?;
    let (places, scores) = scored(&series.points);
    let is_own = |&i: &usize| series.points[i].label == own.label;
    let place = places.iter().position(is_own)?;
    let family = Procedure::family(&scores, study.margin, study.looks.as_ref());
    let others = (0..scores.len()).filter(|&k| k != place);
    let difference = |k| Some(scores[place].minus(&scores[k])?.mean());
    let value = others.clone().filter_map(difference).reduce(f64::min)?;
    let tested = others.clone().filter_map(|k| family.pair(place, k));
    let tested = tested.filter(|p| p.corrected.is_some());
    let tested: Vec<Evidence> = tested.map(|p| p.evidence).collect();
    let by_difference = |a: &&Evidence, b: &&Evidence| a.difference.total_cmp(&b.difference);
    let components = tested.iter().min_by(by_difference).map(|e| e.components);
    let spread = match tested.len() == others.count() {
        true => Spread::Least(tested),
        false => Spread::Unknown,
    };
    let seeds = own.scores.as_ref()?.seeds().count();
    let mut found = Measured::of_study(study, [of, of], "−", value, spread)
        .looked_at(study.looks.as_ref(), seeds)
        .made_of(components);
    found.what = format!("{} at {} − the best of the others", of.series, of.at);
    let runs = series.points.iter().flat_map(|p| p.runs.clone());
    found.records = runs.collect::<BTreeSet<_>>().into_iter().collect();
    Some(found)
}

/// The best point of one series minus that of another. For the even examples each is the one with the highest mean on the odd ones, and the
/// other way round.
fn best_minus_best(study: &Study, of: &str, minus: &str) -> Option<Measured> {
    let scores = |label: &str| best_of_halves(&scored(&study.series(label)?.points).1);
    let d = scores(of)?.minus(&scores(minus)?)?;
    let mut found = difference(study, [&best(of), &best(minus)], &d);
    found.records = runs_of(study, [of, minus]);
    Some(found)
}

/// The best point of a series.
fn best(series: &str) -> At {
    At {
        series: series.to_owned(),
        at: BEST.to_owned(),
    }
}

fn runs_of(study: &Study, labels: [&str; 2]) -> Vec<String> {
    let own = study
        .series
        .iter()
        .filter(|s| labels.contains(&s.label.as_str()));
    own.flat_map(|s| &s.points)
        .flat_map(|p| p.runs.clone())
        .collect()
}

/// For each half of the examples the scores of the point that is best on the other half, on the seeds that all points have.
pub(super) fn best_of_halves(points: &[Scores]) -> Option<Scores> {
    let first = points.first()?;
    let half = |scores: &Scores, odd: usize| -> f64 {
        let sums = scores
            .rows()
            .map(|r| r.iter().skip(odd).step_by(2).sum::<f64>());
        sums.sum::<f64>() / scores.seeds().count() as f64
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
        let series = study.series(label)?;
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
    let mut found = Measured::of_study(study, [&best(of), &best(over)], "/", a / b, spread);
    found.what = format!("best {}, {of} / {over}", study.axis.title);
    found.show = |_, x| format!("{x:.2}");
    found.records = runs_of(study, [of, over]);
    Some(found)
}

/// The mean over the learning curve at one point minus that at another: over seeds and examples where the predictions on the way are kept,
/// else over seeds alone.
fn curve_minus_curve(study: &Study, of: &At, minus: &At) -> Option<Measured> {
    let (a, b) = (point(study, of)?, point(study, minus)?);
    let (of_a, of_b) = (study.records_of(a), study.records_of(b));
    let scores = curve_scores(&of_a, &of_b).zip(curve_scores(&of_b, &of_a));
    let mut components = None;
    let (value, seeds, spread) = match scores {
        Some((a, b)) => {
            let d = a.minus(&b)?;
            let evidence = Evidence::of(&d);
            components = evidence.map(|e| e.components);
            (d.mean(), d.seeds().count(), spread_of(evidence))
        }
        None => {
            let means = |p: &Point| -> BTreeMap<u64, f64> {
                let of = |r: &RunRecord| Some((r.asked.seed, curve_mean(r)?));
                study.records_of(p).into_iter().filter_map(of).collect()
            };
            let (means, others) = (means(a).into_iter(), means(b));
            let differences = means.filter_map(|(seed, a)| Some(a - others.get(&seed)?));
            let differences: Vec<f64> = differences.collect();
            let n = differences.len() as f64;
            let spread = match statistics::standard_deviation(&differences) {
                Some(sd) if differences.len() >= FEWEST_SEEDS => {
                    Spread::t(sd / n.sqrt(), n - 1.0, false)
                }
                _ => Spread::Unknown,
            };
            (statistics::mean(&differences)?, differences.len(), spread)
        }
    };
    let mut found = Measured::of_study(study, [of, minus], "−", value, spread)
        .looked_at(study.looks.as_ref(), seeds)
        .made_of(components);
    found.what = format!("mean over the learning curve, {}", found.what);
    Some(found)
}

/// Mean of the main metric over the evaluations of a run.
fn curve_mean(record: &RunRecord) -> Option<f64> {
    let name = &record.asked.dataset.main_metric;
    let evaluations = record.outcome.as_ref()?.evaluations.iter();
    let values = evaluations.filter_map(|e| e.metrics.get(name).copied());
    statistics::mean(&values.collect::<Vec<_>>())
}
