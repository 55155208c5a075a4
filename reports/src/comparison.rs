//! From records to a comparison: the trials of one data set over one backbone under one recipe.
//!
//! Records are grouped by what must be equal for a fair comparison (data digest, backbone digest, pooling, recipe,
//! implementation, version of the numerics that all methods share): records that differ in any of it land in several
//! comparisons and are never mixed. Inside a comparison the runs of one method configuration over seeds are a trial,
//! shown as a [`Row`]; every two rows are a [`Pair`] with one of four verdicts.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use record::{BackboneFacts, DatasetFacts, RunRecord, Tuned};
use serde::Serialize;
use serde_json::Value;
use statistics::{Evidence, Family, Looks, Margin, Procedure, Remedy, Scores, Verdict, every_two};

use crate::{
    Judging,
    conditions::{conditions, distinctions, flat, shared_numerics},
    costs::CostsOn,
    format, latency,
    needs::Needs,
    notes,
    pair::{McNemar, Pair},
    row::{Row, Standing},
    words,
};

/// Bytes of a comparison's name in file names; what is written beside it adds an ending.
const SLUG: usize = 150;

/// The trials of one data set over one backbone under one recipe.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Heading: data set, backbone, and what sets it apart from the other comparisons.
    /// A stand-in is said: `sst2 → movie_snippets (stand-in) · minilm`.
    pub name: String,
    /// The same for file names.
    pub slug: String,
    /// The data.
    pub dataset: DatasetFacts,
    /// The frozen transformer.
    pub backbone: BackboneFacts,
    /// The recipe that all share.
    pub recipe: Value,
    /// `fast` or `reference`.
    pub op_path: String,
    /// Versions of the numerics that all methods share; empty for records of before they were kept.
    pub numerics: BTreeMap<String, u32>,
    /// All seeds, in order.
    pub seeds: Vec<u64>,
    /// The declared margin: smaller differences do not matter.
    pub margin: Margin,
    /// Numbers of seeds at which it is looked at; absent where the number of seeds was fixed beforehand.
    pub looks: Option<Looks>,
    /// One row per method configuration: ranked ones by their mean, then invalid and unfinished ones.
    pub rows: Vec<Row>,
    /// Every pair of ranked rows that share a seed.
    pub pairs: Vec<Pair>,
    /// Relative difference of latencies of one sentence that is noise: what two measurements of the bare backbone differ by in 19
    /// of 20 processes; absent where it was measured once only.
    pub latency_noise: Option<f64>,
    /// What a reader has to know before believing the numbers.
    pub notes: Vec<String>,
    /// The pairs as the statistics know them, by place of the ranked rows.
    #[serde(skip)]
    pub family: Family,
    /// Whose costs count.
    pub costs: CostsOn,
    /// The records behind it, in the order of the rows and seeds.
    #[serde(skip)]
    pub records: Vec<RunRecord>,
    /// Where the record of an id is among them.
    #[serde(skip)]
    places: BTreeMap<String, usize>,
}

/// The data set's name for headings; a stand-in is said.
pub fn dataset_label(dataset: &DatasetFacts) -> String {
    let text = match &dataset.stand_in_for {
        Some(asked) => format!("{asked} → {} (stand-in)", dataset.name),
        None => dataset.name.clone(),
    };
    format::visible(&text)
}

/// The data set's name for file names.
pub fn dataset_slug(dataset: &DatasetFacts) -> String {
    match &dataset.stand_in_for {
        Some(wanted) => format!("{wanted}-stand-in-{}", dataset.name),
        None => dataset.name.clone(),
    }
}

impl Comparison {
    /// Sorts records into comparisons, judged with a margin of one point.
    pub fn from_records(records: &[RunRecord]) -> Vec<Self> {
        Self::judged(records.to_vec(), &Judging::default())
    }

    /// Sorts records into comparisons: by data set, backbone and recipe; each is judged by what was declared for it. A record given twice
    /// (same id) counts once.
    pub fn judged(records: Vec<RunRecord>, judging: &Judging) -> Vec<Self> {
        // The key is text, so that the order of comparisons does not depend on the order of records.
        let mut groups: BTreeMap<String, BTreeMap<String, RunRecord>> = BTreeMap::new();
        for record in records {
            let conditions = flat(&conditions(&record));
            let group = groups.entry(format!("{conditions:?}")).or_default();
            group.insert(record.id.clone(), record);
        }
        let groups = groups.into_values();
        let mut groups: Vec<Vec<RunRecord>> =
            groups.map(|group| group.into_values().collect()).collect();
        // The comparison of the most runs stands first.
        groups.sort_by_key(|group| Reverse(group.len()));
        let firsts = groups.iter().filter_map(|group| group.first());
        let apart = distinctions(&firsts.collect::<Vec<_>>());
        let mut slugs = BTreeSet::new();
        groups
            .into_iter()
            .zip(apart)
            .map(|(group, apart)| {
                let mut comparison = Self::of_group(group, &apart, judging);
                let base = comparison.slug.clone();
                let mut n = 1;
                while !slugs.insert(comparison.slug.clone()) {
                    n += 1;
                    comparison.slug = format!("{base}-{n}");
                }
                comparison
            })
            .collect()
    }

    /// The comparison of records that share their conditions.
    fn of_group(group: Vec<RunRecord>, apart: &[String], judging: &Judging) -> Self {
        type Key = (String, String, Option<Tuned>, String);
        let mut trials: BTreeMap<Key, Vec<&RunRecord>> = BTreeMap::new();
        for record in &group {
            let m = &record.asked.method;
            let numerics = record.asked.numerics.get(&m.name);
            let key = (
                m.name.clone(),
                m.variant.clone(),
                m.tuned.clone(),
                format!("{:?} {numerics:?}", flat(&m.config)),
            );
            trials.entry(key).or_default().push(record);
        }
        let trials: Vec<Vec<&RunRecord>> = trials.into_values().collect();
        let costs = CostsOn::of(&trials, judging.costs_on());
        let mut used: BTreeMap<String, usize> = BTreeMap::new();
        let mut trials: Vec<(Row, Vec<&RunRecord>)> = trials
            .into_iter()
            .map(|mut records| {
                records.sort_by_key(|r| (r.asked.seed, r.id.clone()));
                let mut row = Row::of(&records, &costs);
                // The same variant with different configurations, e.g. of two versions of a default.
                let n = used.entry(row.label.clone()).or_default();
                *n += 1;
                let asked = &records[0].asked;
                match (*n, asked.numerics.get(&asked.method.name)) {
                    (1, _) => {}
                    (n, None) => row.label += &format!(" ({n})"),
                    (n, Some(version)) => row.label += &format!(" ({n}, numerics {version})"),
                }
                (row, records)
            })
            .collect();
        trials.sort_by(|(a, _), (b, _)| {
            let group = |row: &Row| match row.standing {
                Standing::Ranked => 0,
                Standing::Invalid { .. } => 1,
                Standing::Unfinished => 2,
            };
            let mean = |row: &Row| row.mean().unwrap_or(f64::NEG_INFINITY);
            let parameters = |row: &Row| row.parameters.map(|p| p.method);
            (group(a).cmp(&group(b)))
                .then(mean(b).total_cmp(&mean(a)))
                .then(parameters(a).cmp(&parameters(b)))
                .then(a.label.cmp(&b.label))
        });

        let asked = &group[0].asked;
        let joined = |dataset: String, of: &dyn Fn(&str) -> String, between: &str| {
            let place = [dataset, asked.backbone.label()];
            let parts = place.iter().chain(apart).map(|part| of(part));
            parts.collect::<Vec<_>>().join(between)
        };
        let slug = joined(dataset_slug(&asked.dataset), &slug, "-");
        let seeds: BTreeSet<u64> = group.iter().map(|r| r.asked.seed).collect();
        let (rows, ids): (Vec<Row>, Vec<Vec<&RunRecord>>) = trials.into_iter().unzip();
        let timed: Vec<&RunRecord> = group.iter().filter(|r| costs.counts(r)).collect();
        let timed = latency::of_records(&timed);
        let ids: Vec<String> = ids.into_iter().flatten().map(|r| r.id.clone()).collect();
        let mut comparison = Self {
            name: joined(dataset_label(&asked.dataset), &format::visible, " · "),
            slug: format::file_name(&slug, SLUG),
            dataset: asked.dataset.clone(),
            backbone: asked.backbone.clone(),
            recipe: asked.recipe.clone(),
            op_path: asked.op_path.clone(),
            numerics: shared_numerics(&group[0]),
            seeds: seeds.into_iter().collect(),
            margin: Margin::default(),
            looks: None,
            rows,
            pairs: Vec::new(),
            latency_noise: latency::noise_floor(&timed, Some(latency::SENTENCE)),
            notes: Vec::new(),
            family: Family::new(&[], Margin::default()),
            places: ids.iter().cloned().zip(0..).collect(),
            records: Vec::new(),
            costs,
        };
        let mut group: BTreeMap<String, RunRecord> =
            group.into_iter().map(|r| (r.id.clone(), r)).collect();
        comparison.records = ids.iter().filter_map(|id| group.remove(id)).collect();
        (comparison.margin, comparison.looks) = judging.of(&comparison);
        comparison.judge();
        comparison.notes = notes::of(&comparison);
        comparison
    }

    /// The scores of the ranked rows; `None` where the metric of one cannot be taken apart by example.
    pub(crate) fn ranked_scores(&self) -> Option<Vec<Scores>> {
        self.ranked().iter().map(|r| r.scores.clone()).collect()
    }

    /// How it goes on, if it is looked at more than once.
    pub fn procedure(&self) -> Option<Procedure> {
        Some(Procedure {
            looks: self.looks.clone()?,
            margin: self.margin,
        })
    }

    /// Compares every two ranked rows.
    fn judge(&mut self) {
        let Some(scores) = self.ranked_scores() else {
            return;
        };
        let family = Procedure::family(&scores, self.margin, self.looks.as_ref());
        let tested = family.pairs.iter().filter(|p| p.corrected.is_some());
        let tested = tested.count();
        let pairs = every_two(scores.len()).filter_map(|(first, second)| {
            let d = scores[first].minus(&scores[second])?;
            let found = family.pair(first, second);
            let open = found.filter(|p| p.corrected.is_some() && p.verdict == Verdict::Undecided);
            Some(Pair {
                first,
                second,
                seeds: d.seeds().count(),
                difference: d.mean(),
                evidence: found.map(|p| p.evidence),
                sigma: found.map(|p| p.evidence.components.sigma()),
                corrected: found.and_then(|p| p.corrected),
                verdict: found.map_or(Verdict::Undecided, |p| p.verdict),
                needs: open.map(|p| {
                    let remedy = Remedy::of(&p.evidence, self.margin, tested);
                    self.needs(&p.evidence, &remedy, &[first, second])
                }),
                mcnemar: self.mcnemar(first, second),
            })
        });
        self.pairs = pairs.collect();
        for (row, letters) in self.rows.iter_mut().zip(family.letters()) {
            row.letters = letters;
        }
        self.family = family;
    }

    /// A remedy in what it adds and how long that takes.
    pub(crate) fn needs(&self, evidence: &Evidence, remedy: &Remedy, rows: &[usize]) -> Needs {
        let there = &evidence.components;
        let more_seeds = remedy.seeds.map(|n| n.saturating_sub(there.seeds));
        let seconds = |&i: &usize| Some(self.rows[i].run_seconds.as_ref()?.mean);
        let each: Option<f64> = rows.iter().map(seconds).sum();
        Needs {
            more_seeds,
            more_examples: remedy.examples.map(|n| n.saturating_sub(there.examples)),
            seconds: more_seeds.zip(each).map(|(n, seconds)| n as f64 * seconds),
        }
    }

    fn mcnemar(&self, first: usize, second: usize) -> Vec<McNemar> {
        let others = self.records_of(&self.rows[second]);
        let others: BTreeMap<u64, &RunRecord> = others.map(|r| (r.asked.seed, r)).collect();
        let own = self.records_of(&self.rows[first]);
        own.filter_map(|r| McNemar::of(r, others.get(&r.asked.seed)?))
            .collect()
    }

    /// The ranked rows, highest mean first.
    pub fn ranked(&self) -> &[Row] {
        let ranked = |r: &&Row| r.standing == Standing::Ranked;
        &self.rows[..self.rows.iter().take_while(ranked).count()]
    }

    /// The record with this id.
    pub fn record(&self, id: &str) -> Option<&RunRecord> {
        self.records.get(*self.places.get(id)?)
    }

    /// The records of a row, by seed.
    pub fn records_of(&self, row: &Row) -> impl Iterator<Item = &RunRecord> {
        row.runs.iter().filter_map(|run| self.record(&run.id))
    }

    /// What a run cost, where that counts: see [`CostsOn`].
    pub fn timed<'a>(&self, record: &'a RunRecord) -> Option<&'a record::Cost> {
        record.cost.as_ref().filter(|_| self.costs.counts(record))
    }

    /// The pair of two rows, in either order.
    pub fn pair(&self, a: usize, b: usize) -> Option<&Pair> {
        let wanted = (a.min(b), a.max(b));
        self.pairs.iter().find(|p| (p.first, p.second) == wanted)
    }

    /// Whether a ranked row has the highest mean or is shown to be equivalent to it: what a table may set off. What is only undecided may not
    /// look as if it were as good.
    pub fn leads(&self, row: usize) -> bool {
        let equivalent = |pair: &Pair| pair.verdict == Verdict::Equivalent;
        self.is_tested() && (row == 0 || self.pair(0, row).is_some_and(equivalent))
    }

    /// What is shown of a ranked row against the one with the highest mean, in a table's cell.
    pub(crate) fn verdict_on(&self, row: usize) -> &'static str {
        match self.pair(0, row) {
            _ if row == 0 => words::HIGHEST,
            Some(pair) => pair.verdict_text(true),
            None => words::NOT_TESTED,
        }
    }

    /// Name of the main metric.
    pub fn metric(&self) -> &str {
        &self.dataset.main_metric
    }

    /// Whether any pair has seeds enough for a verdict.
    pub fn is_tested(&self) -> bool {
        self.pairs.iter().any(Pair::is_tested)
    }
}

/// A part of a file name.
pub fn slug(text: &str) -> String {
    format::file_name(text, SLUG / 2)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sample::{self, Sample};
    use record::Status;
    use serde_json::json;

    #[test]
    fn runs_of_one_configuration_become_a_row_over_seeds() {
        let run = |seed, seconds, right: usize| {
            Sample::new("lora")
                .seed(seed)
                .training_seconds(seconds)
                .right(100, move |i| i < right)
                .record()
        };
        let found =
            Comparison::from_records(&[run(1, 50.0, 84), run(0, 70.0, 80), run(2, 60.0, 85)]);
        assert_eq!(found.len(), 1);
        let row = &found[0].rows[0];
        assert_eq!(row.label, "lora");
        assert_eq!(
            row.runs.iter().map(|r| r.seed).collect::<Vec<_>>(),
            [0, 1, 2]
        );
        let metric = row.metric.as_ref().unwrap();
        assert_eq!(metric.values, [0.80, 0.84, 0.85]);
        assert!((metric.mean - 0.83).abs() < 1e-12);
        assert!((metric.sd.unwrap() - 0.026_457_513_110_645_9).abs() < 1e-12);
        assert_eq!(row.training_seconds.as_ref().unwrap().mean, 60.0);
        // 16,000 examples in 70, 50 and 60 s.
        let per_second = row.examples_per_second.as_ref().unwrap();
        assert_eq!(per_second.values, [16_000.0 / 70.0, 320.0, 16_000.0 / 60.0]);
        assert_eq!(row.share_of_backbone(), Some(73_728.0 / 22_713_216.0));
        assert_eq!(found[0].seeds, [0, 1, 2]);
    }

    #[test]
    fn the_order_of_records_changes_nothing() {
        let mut records: Vec<_> = (0..3)
            .flat_map(|s| {
                [("lora", 84), ("full", 86), ("head_only", 70)].map(|(m, right)| {
                    Sample::new(m)
                        .seed(s)
                        .right(100, move |i| i < right)
                        .record()
                })
            })
            .collect();
        let once = serde_json::to_string(&Comparison::from_records(&records)).unwrap();
        records.reverse();
        records.push(records[0].clone());
        assert_eq!(
            serde_json::to_string(&Comparison::from_records(&records)).unwrap(),
            once
        );
    }

    #[test]
    fn rows_stand_best_first_and_equal_ones_by_parameters() {
        let run = |m: &str, right: usize, parameters| {
            Sample::new(m)
                .parameters(parameters)
                .right(100, move |i| i < right)
                .record()
        };
        let found = Comparison::from_records(&[
            run("lora", 84, 9),
            run("full", 90, 99),
            run("adapter", 84, 5),
        ]);
        let order: Vec<_> = found[0].rows.iter().map(|r| r.label.as_str()).collect();
        assert_eq!(order, ["full", "adapter", "lora"]);
    }

    #[test]
    fn the_comparison_of_the_most_runs_stands_first_whatever_its_name() {
        for long in ["a", "z"] {
            let runs = |data: &str| {
                let seeds = 0..if data == long { 3 } else { 2 };
                let of = |seed| Sample::new("lora").seed(seed).record();
                sample::on_data(seeds.map(of).collect(), data, None)
            };
            let found = Comparison::from_records(&["a", "m", "z"].map(runs).concat());
            let order: Vec<_> = found.iter().map(|c| c.seeds.len()).collect();
            assert_eq!(order, [3, 2, 2]);
            assert!(found[0].name.starts_with(long), "{}", found[0].name);
        }
    }

    #[test]
    fn different_conditions_are_never_mixed_and_are_said() {
        let base = Sample::new("lora");
        let records = [
            base.clone().record(),
            base.clone()
                .with(|r| r.asked.recipe["steps"] = json!(150))
                .record(),
            base.clone()
                .with(|r| r.asked.dataset.digest = "e".repeat(64))
                .record(),
            base.clone()
                .with(|r| r.asked.backbone.pooling = "cls".into())
                .record(),
            base.clone()
                .with(|r| r.asked.op_path = "reference".into())
                .record(),
            base.clone()
                .with(|r| r.asked.backbone.name = "bert".into())
                .record(),
            base.clone()
                .with(|r| r.asked.backbone.precision = Some("bf16".into()))
                .record(),
        ];
        let found = Comparison::from_records(&records);
        assert_eq!(found.len(), 7);
        let names: BTreeSet<&str> = found.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names.len(), 7, "{names:?}");
        assert!(names.contains("sst2 · minilm (bf16)"), "{names:?}");
        assert!(names.contains("sst2 · bert"), "{names:?}");
        assert!(names.iter().any(|n| n.contains("steps 150")), "{names:?}");
        assert_eq!(
            found.iter().map(|c| &c.slug).collect::<BTreeSet<_>>().len(),
            7
        );

        // Truncation depends on the method and is no condition; the order of keys is none either.
        let same = base.with(|r| {
            r.asked.dataset.truncated = 7;
            r.asked.recipe = json!({"schedule": {"warmup": 0.1}, "steps": 500, "batch": 32});
        });
        assert_eq!(
            Comparison::from_records(&[records[0].clone(), same.seed(1).record()]).len(),
            1
        );
    }

    #[test]
    fn a_stand_in_is_said_in_the_name_and_the_file_name() {
        let found =
            &Comparison::from_records(&[Sample::new("lora").stand_in_for("sst2").record()])[0];
        assert_eq!(found.name, "sst2 → movie_snippets (stand-in) · minilm");
        assert_eq!(found.slug, "sst2-stand-in-movie_snippets-minilm");
        assert!(
            found.notes[0].starts_with("sst2 was not found."),
            "{:?}",
            found.notes
        );
    }

    #[test]
    fn a_failed_check_makes_the_row_invalid_and_unranked() {
        let good = Sample::new("lora").record();
        let best_but_wrong = Sample::new("full")
            .right(10, |_| true)
            .check("merged_equals_unmerged", false, "largest difference 0.3")
            .record();
        let found = &Comparison::from_records(&[best_but_wrong, good])[0];
        assert_eq!(found.rows[0].label, "lora");
        assert_eq!(found.ranked().len(), 1);
        assert_eq!(
            found.rows[1].troubles(),
            ["invalid, check failed: seed 0: merged_equals_unmerged (largest difference 0.3)"]
        );
        assert!(found.pairs.is_empty() && found.rows[1].letters.is_empty());
    }

    #[test]
    fn a_metric_that_its_predictions_do_not_give_is_invalid() {
        let record = Sample::new("lora")
            .with(|r| {
                let last = r.outcome.as_mut().unwrap().evaluations.last_mut().unwrap();
                last.metrics.insert("accuracy".into(), 0.99);
            })
            .record();
        let found = &Comparison::from_records(&[record])[0];
        assert!(found.ranked().is_empty());
        assert!(found.rows[0].troubles()[0].contains("stored as 0.99, the predictions give 0.9"));
        assert_eq!(found.answer(), ["No method has a valid result."]);
    }

    #[test]
    fn runs_that_did_not_end_well_are_rows_with_their_reason() {
        let found = &Comparison::from_records(&[
            Sample::new("lora").seed(0).record(),
            Sample::new("lora")
                .seed(1)
                .ended(Status::Diverged {
                    step: 12,
                    reason: "loss is NaN".into(),
                })
                .record(),
            Sample::new("full")
                .ended(Status::Failed {
                    error: "out of memory".into(),
                })
                .record(),
        ])[0];
        assert_eq!(found.rows[0].ended_well(), (1, 2));
        assert_eq!(
            found.rows[0].troubles(),
            [
                "seed 1 diverged at step 12: loss is NaN; it counts as always answering the commonest class"
            ]
        );
        // Nine of ten right, and five of ten.
        assert_eq!(found.rows[0].metric.as_ref().unwrap().values, [0.9, 0.5]);
        assert_eq!(found.rows[1].standing, Standing::Unfinished);
        assert_eq!(found.rows[1].troubles(), ["seed 0 failed: out of memory"]);
    }

    #[test]
    fn one_seed_gives_mcnemar_and_no_verdict_letter_or_order() {
        // Of 200: both right on 100..200; only the first on 0..30, only the second on 30..40.
        let first = Sample::new("full")
            .right(200, |i| !(30..40).contains(&i))
            .record();
        let second = Sample::new("lora").right(200, |i| i >= 30).record();
        let found = &Comparison::from_records(&[second, first])[0];
        let pair = found.pair(1, 0).unwrap();
        // scipy.stats.binomtest(10, 40, 0.5).pvalue
        let m = pair.mcnemar[0];
        assert_eq!((m.only_first, m.only_second), (30, 10));
        assert!((m.p - 0.002_221_433_773_229_364).abs() < 1e-12, "{}", m.p);
        assert!((pair.difference - 0.1).abs() < 1e-12);
        assert!(!pair.is_tested() && !pair.told_apart() && pair.evidence.is_none());
        assert_eq!(pair.verdict_text(false), "not tested");
        assert!(found.rows.iter().all(|r| r.letters.is_empty()));
        let answer = found.answer().join(" ");
        assert!(answer.contains("With 1 seed nothing is ranked"), "{answer}");
        for wrong in ["behind", "is best", "fewest", "equal"] {
            assert!(!answer.contains(wrong), "{answer}");
        }
    }

    #[test]
    fn records_of_other_numerics_are_never_mixed_and_named() {
        let made = |method: &str, seed, kernels: u32, own: u32| {
            Sample::new(method).seed(seed).with(|r| {
                let versions = [("kernels".to_owned(), kernels), (method.to_owned(), own)];
                r.asked.numerics = versions.into();
            })
        };
        let records = [
            made("lora", 0, 1, 1),
            made("lora", 1, 2, 1),
            made("full", 1, 2, 1),
            made("lora", 2, 2, 2),
        ]
        .map(Sample::record);
        let found = Comparison::from_records(&records);
        assert_eq!(found.len(), 2);
        let names: Vec<&str> = found.iter().map(|c| c.name.as_str()).collect();
        assert!(
            names.iter().any(|n| n.contains("numerics.kernels 1")),
            "{names:?}"
        );
        let two = found.iter().find(|c| c.numerics["kernels"] == 2).unwrap();
        let mut labels: Vec<&str> = two.rows.iter().map(|r| r.label.as_str()).collect();
        labels.sort_unstable();
        assert_eq!(labels, ["full", "lora", "lora (2, numerics 2)"]);
    }

    #[test]
    fn a_long_or_hostile_name_makes_a_file_name_that_systems_take() {
        let records = sample::on_data(
            vec![Sample::new("lora").record()],
            &"../评\x1b".repeat(200),
            None,
        );
        let found = &Comparison::from_records(&records)[0];
        assert!(
            found.slug.len() <= SLUG && !found.slug.contains('/'),
            "{}",
            found.slug
        );
        assert!(!found.name.contains('\x1b'));
    }

    #[test]
    fn methods_without_a_common_seed_are_not_compared() {
        let found = &Comparison::from_records(&[
            Sample::new("lora").seed(0).record(),
            Sample::new("full").seed(1).record(),
        ])[0];
        assert!(found.pairs.is_empty());
        assert!(
            found.notes.iter().any(|n| n.contains("no seed in common")),
            "{:?}",
            found.notes
        );
    }

    #[test]
    fn different_machines_and_unequal_conditions_are_noted() {
        let found = &Comparison::from_records(&[
            Sample::new("lora").record(),
            Sample::new("full")
                .with(|r| {
                    r.circumstances.threads = 8;
                    r.outcome.as_mut().unwrap().order_digest = "other".into();
                })
                .record(),
        ])[0];
        assert!(
            found.notes.iter().any(|n| n.contains("different machines")),
            "{:?}",
            found.notes
        );
        assert!(
            found
                .notes
                .iter()
                .any(|n| n.contains("conditions were not the same")),
            "{:?}",
            found.notes
        );
    }
}
