//! What changed between two sets of records, and which changes exceed the noise.
//!
//! Rows are matched by their conditions and configuration. The metric is compared on the same examples and seeds ([`Evidence`]),
//! with the four verdicts. Times and memory are compared by the t-test of Welch (1947),
//!
//! `t = (m₁ − m₂) / √(s₁²/n₁ + s₂²/n₂)`, degrees of freedom after Satterthwaite (1946);
//!
//! the replicate of a time is the sitting (an hour of measuring), not the seed, for a machine changes from hour to hour: with one
//! sitting on a side a change of a time is undecided. Latencies are compared as ratios to the backbone's of the same process.
//! Sizes are exact, so every change of one is a change. All p-values are corrected together (Holm).

use std::collections::BTreeMap;

use record::RunRecord;
use serde::Serialize;
use serde_json::Value;
use statistics::{ALPHA, Evidence, FEWEST_SEEDS, Margin, Summary, Verdict};
use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::{
    Comparison,
    conditions::{conditions, flat},
    costs::sitting,
    format,
    latency::{SENTENCE, of_records, over_backbone},
    quantity::Quantity,
    row::Row,
    words,
};

/// What changed between two sets of records.
#[derive(Clone, Debug, Serialize)]
pub struct Changes {
    /// One entry per comparison, method and quantity that both sets have.
    pub changes: Vec<Change>,
    /// Smaller changes of the metric do not matter.
    pub margin: Margin,
    /// What only one of the sets has, and conditions that differ.
    pub notes: Vec<String>,
}

/// One quantity of one method, before and after.
#[derive(Clone, Debug, Serialize)]
pub struct Change {
    /// Name of the comparison.
    pub comparison: String,
    /// Method and variant.
    pub label: String,
    /// What.
    pub quantity: Quantity,
    /// Name of the main metric.
    pub metric: String,
    /// In the first set.
    pub before: Summary,
    /// In the second set.
    pub after: Summary,
    /// Mean after minus mean before.
    pub difference: f64,
    /// p-value corrected for all tests of the report (Holm); absent where no test is possible or needed.
    pub p_holm: Option<f64>,
    /// What it amounts to.
    pub verdict: ChangeVerdict,
}

/// What a change amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeVerdict {
    /// Nothing changed at all.
    Same,
    /// Better or worse, by more than noise explains; equivalent, where the change is shown to be smaller than the margin;
    /// undecided, where neither a change nor equivalence is shown.
    #[serde(untagged)]
    Judged(Verdict),
}

/// Two-sided p-value of Welch's t-test; `None` unless both have two values.
pub fn welch(a: &[f64], b: &[f64]) -> Option<f64> {
    let (ma, mb) = (statistics::mean(a)?, statistics::mean(b)?);
    let part = |values: &[f64]| {
        let sd = statistics::standard_deviation(values)?;
        Some(sd * sd / values.len() as f64)
    };
    let (va, vb) = (part(a)?, part(b)?);
    let error = (va + vb).sqrt();
    if error == 0.0 {
        return Some(f64::from(u8::from(ma == mb)));
    }
    let freedom =
        (va + vb).powi(2) / (va * va / (a.len() - 1) as f64 + vb * vb / (b.len() - 1) as f64);
    let t = StudentsT::new(0.0, 1.0, freedom).ok()?;
    Some(2.0 * t.sf(((ma - mb) / error).abs()))
}

/// Compares two sets of records; smaller changes of the metric than the margin do not matter.
pub fn changes(before: &[RunRecord], after: &[RunRecord], margin: Margin) -> Changes {
    let [a, b] = [before, after].map(Comparison::from_records);
    let (matched, mut notes) = matches(&a, &b);
    let mut changes: Vec<Change> = Vec::new();
    let (mut tests, mut tests_of_margin): (Vec<Option<f64>>, Vec<Option<f64>>) = Default::default();
    for (a, b) in matched {
        for old in a.ranked() {
            let same = |new: &&Row| {
                (&new.method, &new.variant, &new.tuned) == (&old.method, &old.variant, &old.tuned)
            };
            let Some(new) = b.ranked().iter().find(same) else {
                notes.push(format!(
                    "{}: {} is in the first set only.",
                    a.name, old.label
                ));
                continue;
            };
            if flat(&old.config) != flat(&new.config) {
                notes.push(format!(
                    "{}: the defaults of {} differ between the sets.",
                    a.name, old.label
                ));
            }
            for quantity in Quantity::ALL {
                let (Some(before), Some(after)) = (quantity.of(old), quantity.of(new)) else {
                    continue;
                };
                let evidence = match quantity {
                    Quantity::Metric => paired(old, new),
                    _ => None,
                };
                tests.push(match &evidence {
                    Some(e) => Some(e.p),
                    None => p_of_cost(quantity, [(a, old, &before), (b, new, &after)]),
                });
                tests_of_margin.push(evidence.map(|e| e.p_equivalent(margin)));
                changes.push(Change {
                    comparison: b.name.clone(),
                    label: new.label.clone(),
                    quantity,
                    metric: b.metric().to_owned(),
                    difference: after.mean - before.mean,
                    before,
                    after,
                    p_holm: None,
                    verdict: ChangeVerdict::Same,
                });
            }
        }
        for new in b.ranked() {
            if !a.ranked().iter().any(|old| old.label == new.label) {
                notes.push(format!(
                    "{}: {} is in the second set only.",
                    b.name, new.label
                ));
            }
        }
    }
    let corrected = |tests: Vec<Option<f64>>| {
        let made: Vec<f64> = tests.iter().flatten().copied().collect();
        let mut adjusted = statistics::holm(&made).into_iter();
        tests
            .into_iter()
            .map(move |p| p.and_then(|_| adjusted.next()))
    };
    let corrected = corrected(tests).zip(corrected(tests_of_margin));
    for (change, (p, p_equivalent)) in changes.iter_mut().zip(corrected) {
        change.p_holm = p;
        change.verdict = verdict(change, p_equivalent);
    }
    Changes {
        changes,
        margin,
        notes,
    }
}

/// The metric's change on the same examples and seeds; `None` with fewer than three common seeds.
fn paired(old: &Row, new: &Row) -> Option<Evidence> {
    let difference = new.scores.as_ref()?.minus(old.scores.as_ref()?)?;
    Evidence::of(&difference).filter(|e| e.components.seeds >= FEWEST_SEEDS)
}

/// p-value of a change of what runs cost; `None` where no test is possible or needed.
fn p_of_cost(quantity: Quantity, sides: [(&Comparison, &Row, &Summary); 2]) -> Option<f64> {
    let [before, after] = sides.map(|(comparison, row, summary)| -> Vec<f64> {
        let records = comparison.records_of(row);
        match quantity {
            Quantity::Metric | Quantity::Parameters | Quantity::FileSize => Vec::new(),
            Quantity::PeakMemory => summary.values.clone(),
            Quantity::TrainingTime => sittings(records),
            Quantity::Latency | Quantity::MergedLatency => {
                let ratio =
                    |r: &RunRecord| over_backbone(&of_records(&[r]), quantity.variant()?, SENTENCE);
                records.filter_map(|r| Some(ratio(r)?.ratio.ln())).collect()
            }
        }
    });
    welch(&before, &after)
}

/// Means of the logarithms of training times by sitting.
fn sittings<'a>(records: impl Iterator<Item = &'a RunRecord>) -> Vec<f64> {
    let mut by_sitting: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for record in records {
        let seconds = record.cost.iter().map(|cost| cost.training_seconds.ln());
        let logs = by_sitting.entry(sitting(record)).or_default();
        logs.extend(seconds);
    }
    let logs = by_sitting.values();
    logs.filter_map(|logs| statistics::mean(logs)).collect()
}

fn verdict(change: &Change, p_equivalent: Option<f64>) -> ChangeVerdict {
    if change.before.values == change.after.values {
        return ChangeVerdict::Same;
    }
    let exact = matches!(change.quantity, Quantity::Parameters | Quantity::FileSize);
    let better = (change.difference > 0.0) == change.quantity.higher_is_better();
    let is_small = |p: Option<f64>| p.is_some_and(|p| p < ALPHA);
    let differs = exact || is_small(change.p_holm);
    let sign = if better { 1.0 } else { -1.0 };
    ChangeVerdict::Judged(Verdict::of(sign, differs, is_small(p_equivalent)))
}

type Matched<'a> = Vec<(&'a Comparison, &'a Comparison)>;

/// Comparisons under the same conditions, then single ones of the same data set and backbone whose conditions differ.
fn matches<'a>(a: &'a [Comparison], b: &'a [Comparison]) -> (Matched<'a>, Vec<String>) {
    let key = |c: &Comparison| -> BTreeMap<String, Value> {
        let first = c.records.first();
        first.map(|r| flat(&conditions(r))).unwrap_or_default()
    };
    let place = |c: &Comparison| {
        (
            c.dataset.name.clone(),
            c.dataset.stand_in_for.clone(),
            c.backbone.label(),
        )
    };
    let (mut matched, mut notes): (Matched, Vec<String>) = Default::default();
    let taken = |matched: &Matched, c: &Comparison| {
        let mut both = matched.iter().flat_map(|(x, y)| [x, y]);
        both.any(|known| std::ptr::eq(*known, c))
    };
    for x in a {
        let same = b.iter().find(|y| key(x) == key(y));
        matched.extend(same.map(|y| (x, y)));
    }
    for x in a {
        if taken(&matched, x) {
            continue;
        }
        let same = |c: &&Comparison| place(c) == place(x) && !taken(&matched, c);
        let alone = a.iter().filter(same).count() == 1;
        let mut others = b.iter().filter(same);
        match (others.next(), others.next()) {
            (Some(y), None) if alone => {
                let (old, new) = (key(x), key(y));
                let differ: Vec<String> = old
                    .keys()
                    .chain(new.keys().filter(|k| !old.contains_key(*k)))
                    .filter(|k| old.get(*k) != new.get(*k))
                    .cloned()
                    .collect();
                notes.push(format!(
                    "{} was made under other conditions: {} differ.",
                    y.name,
                    differ.join(", ")
                ));
                matched.push((x, y));
            }
            _ => notes.push(format!("{} is in the first set only.", x.name)),
        }
    }
    for y in b {
        if !taken(&matched, y) {
            notes.push(format!("{} is in the second set only.", y.name));
        }
    }
    (matched, notes)
}

/// The changes for a terminal; those that are not shown are counted only.
pub fn terminal(changes: &Changes) -> String {
    let mut text = String::new();
    let mut last = "";
    for c in &changes.changes {
        let ChangeVerdict::Judged(verdict @ (Verdict::Better | Verdict::Worse)) = c.verdict else {
            continue;
        };
        if c.comparison != last {
            text += &format!("{}\n", c.comparison);
            last = &c.comparison;
        }
        let show = |x| c.quantity.show(&c.metric, x);
        let name = match c.quantity {
            Quantity::Metric => c.metric.clone(),
            q => q.key().replace('_', " "),
        };
        let relative = match c.quantity {
            Quantity::Metric => format::metric_difference(&c.metric, c.difference),
            _ if c.before.mean != 0.0 => {
                format!("{:+.1} %", 100.0 * c.difference / c.before.mean)
            }
            _ => String::new(),
        };
        let p = c
            .p_holm
            .map_or_else(String::new, |p| format!(", {}", format::p_value(p)));
        text += &format!(
            "  {:<20} {name:<14} {} → {} ({relative}{p}) {}\n",
            c.label,
            show(c.before.mean),
            show(c.after.mean),
            words::verdict(verdict)
        );
    }
    let of = |v| changes.changes.iter().filter(|c| c.verdict == v).count();
    let judged = |v| of(ChangeVerdict::Judged(v));
    text += &format!(
        "{} better, {} worse, {} equivalent (metric within {:.1} points), {} the same, {} undecided\n",
        judged(Verdict::Better),
        judged(Verdict::Worse),
        judged(Verdict::Equivalent),
        100.0 * changes.margin.get(),
        of(ChangeVerdict::Same),
        judged(Verdict::Undecided)
    );
    if judged(Verdict::Undecided) > 0 {
        text += &format!("{}\n", words::UNDECIDED);
    }
    for note in &changes.notes {
        text += &format!("! {note}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sample::Sample;

    #[test]
    fn welchs_test_equals_scipy() {
        // scipy.stats.ttest_ind([10, 11, 12.5], [12, 13.5, 15.1, 13], equal_var=False).pvalue
        let p = welch(&[10.0, 11.0, 12.5], &[12.0, 13.5, 15.1, 13.0]).unwrap();
        assert!((p - 0.075_574_665_758_561_44).abs() < 1e-9, "{p}");
        assert_eq!(welch(&[1.0], &[2.0, 3.0]), None);
        assert_eq!(welch(&[2.0, 2.0], &[2.0, 2.0]), Some(1.0));
        assert_eq!(welch(&[2.0, 2.0], &[3.0, 3.0]), Some(0.0));
    }

    fn set(wrong: usize, seconds: f64, bytes: u64, seeds: u64) -> Vec<RunRecord> {
        (0..seeds)
            .map(|seed| {
                Sample::new("lora")
                    .seed(seed)
                    .training_seconds(seconds + seed as f64)
                    .file_bytes(bytes)
                    .right(500, move |i| i >= wrong)
                    // Two hours of measuring.
                    .with(|r| r.circumstances.started = format!("2026-01-02T0{}:00:00Z", seed % 2))
                    .record()
            })
            .collect()
    }

    fn verdicts(before: &[RunRecord], after: &[RunRecord]) -> BTreeMap<Quantity, ChangeVerdict> {
        let found = changes(before, after, Margin::POINT);
        found
            .changes
            .iter()
            .map(|c| (c.quantity, c.verdict))
            .collect()
    }

    #[test]
    fn a_set_compared_with_itself_has_not_changed() {
        let records = set(50, 60.0, 300_000, 3);
        assert!(
            verdicts(&records, &records)
                .values()
                .all(|v| *v == ChangeVerdict::Same)
        );
    }

    #[test]
    fn changes_beyond_the_noise_are_told_from_those_within_it() {
        let found = verdicts(&set(50, 60.0, 300_000, 4), &set(150, 30.0, 310_000, 4));
        assert_eq!(
            found[&Quantity::Metric],
            ChangeVerdict::Judged(Verdict::Worse)
        );
        assert_eq!(
            found[&Quantity::TrainingTime],
            ChangeVerdict::Judged(Verdict::Better)
        );
        assert_eq!(
            found[&Quantity::FileSize],
            ChangeVerdict::Judged(Verdict::Worse)
        );
        assert_eq!(found[&Quantity::Parameters], ChangeVerdict::Same);
        let found = verdicts(&set(50, 60.0, 1, 4), &set(52, 60.5, 1, 4));
        assert_eq!(
            found[&Quantity::Metric],
            ChangeVerdict::Judged(Verdict::Equivalent)
        );
        assert_eq!(
            found[&Quantity::TrainingTime],
            ChangeVerdict::Judged(Verdict::Undecided)
        );
    }

    #[test]
    fn one_seed_tells_nothing_about_times() {
        let found = verdicts(&set(50, 60.0, 1, 1), &set(50, 30.0, 1, 1));
        assert_eq!(
            found[&Quantity::TrainingTime],
            ChangeVerdict::Judged(Verdict::Undecided)
        );
        assert_eq!(found[&Quantity::Metric], ChangeVerdict::Same);
    }

    #[test]
    fn seeds_of_one_hour_do_not_show_that_a_time_has_changed() {
        let of_one_hour = |seconds| {
            let mut records = set(50, seconds, 1, 4);
            let started =
                |r: &mut RunRecord| r.circumstances.started = "2026-01-02T00:00:00Z".into();
            records.iter_mut().for_each(started);
            records
        };
        let found = verdicts(&of_one_hour(60.0), &of_one_hour(30.0));
        assert_eq!(
            found[&Quantity::TrainingTime],
            ChangeVerdict::Judged(Verdict::Undecided)
        );
    }

    #[test]
    fn what_only_one_set_has_and_other_conditions_are_said() {
        let mut after = set(50, 60.0, 1, 2);
        for record in &mut after {
            record.asked.recipe["steps"] = serde_json::json!(150);
        }
        after.push(
            Sample::new("full")
                .with(|r| r.asked.recipe["steps"] = 150.into())
                .with(|r| r.asked.dataset.validation_examples = 500)
                .record(),
        );
        let found = changes(&set(50, 60.0, 1, 2), &after, Margin::POINT);
        assert!(
            found
                .notes
                .iter()
                .any(|n| n.contains("recipe.steps differ")),
            "{:?}",
            found.notes
        );
        let text = terminal(&found);
        assert!(text.contains("the same"), "{text}");
    }
}
