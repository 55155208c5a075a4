#![allow(clippy::unwrap_used)]

use record::RunRecord;
use statistics::{Looks, Margin, Scores};

use super::{
    claim::{Bound, CLAIMS, Claim, Measure, Rule, parse},
    judged::judge,
    measured::{Measured, Spread, failed},
    of_study::best_of_halves,
    *,
};
use crate::{Comparison, sample::Sample, studies::Study};

/// A comparison of three seeds: `wrong` examples of 1,000 are wrong, the same ones for every seed.
fn comparison(methods: &[(&str, usize, usize)]) -> Vec<Comparison> {
    let records: Vec<RunRecord> = (0..3)
        .flat_map(|seed| {
            methods.iter().map(move |(method, parameters, wrong)| {
                let wrong = *wrong;
                Sample::new(method)
                    .seed(seed)
                    .parameters(*parameters)
                    .right(1000, move |i| i >= wrong)
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
        let said: std::collections::BTreeSet<&String> = claim.missing.iter().collect();
        assert_eq!(said.len(), claim.missing.len(), "{:?}", claim.missing);
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
fn what_is_undecided_says_what_it_lacks_and_what_is_decided_does_not() {
    let rule = "{measure: {difference: {of: lora, minus: full}}, at_least: -0.01}";
    let said = |wrong: usize| {
        let judged = one(rule, &comparison(&[("lora", 9, wrong), ("full", 99, 100)]));
        (judged.verdict, judged.evidence[0].text.clone())
    };
    // 1.5 points behind, standard error 0.4, half a point from the limit; all seeds agree, so that only examples help.
    let (verdict, text) = said(115);
    assert_eq!(verdict, Verdict::Undecided);
    assert!(
        text.contains("claimed: at least -1.0 points; it needs about ")
            && text.ends_with("more examples; more seeds alone do not decide it"),
        "{text}"
    );
    let (verdict, text) = said(60);
    assert_eq!(verdict, Verdict::Holds);
    assert!(text.ends_with("claimed: at least -1.0 points"), "{text}");
    // Variances that differ by a factor of four: F(0.975) · F(0.8) of 18 and 18 degrees of freedom is 3.9, of 17 and 17 it is 4.0.
    let spread = Spread::F {
        first: 5,
        second: 5,
    };
    let text = Measured::of(4.0, spread)
        .judged(&at_least(1.0), false, 1)
        .text;
    assert!(
        text.contains("; it needs about 1") && text.ends_with(" more seeds"),
        "{text}"
    );
}

fn at_least(bound: f64) -> Rule {
    Rule {
        measure: Measure::Best {
            study: String::new(),
            of: String::new(),
            minus: String::new(),
        },
        at_least: Some(Bound::Number(bound)),
        at_most: None,
    }
}

#[test]
fn one_seed_leaves_a_difference_undecided() {
    let records = [("lora", 100), ("full", 400)]
        .map(|(m, wrong)| Sample::new(m).right(1000, move |i| i >= wrong).record());
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
    let measured = |first, second| Measured::of(4.0, Spread::F { first, second });
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
    let rule = "{measure: {ratio: {quantity: training_time, of: lora, over: full}}, at_most: 1.0}";
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
            c.dataset.name = name.to_owned();
            c
        }));
    }
    let rule = "{measure: {difference: {of: lora, minus: full}}, at_least: -0.01}";
    let judged = one(rule, &all);
    assert_eq!(judged.evidence.len(), 5);
    let mean = judged.evidence.last().unwrap();
    assert!(mean.judged && mean.place == "mean over 4 data sets");
    assert_eq!(mean.what, "accuracy, lora − full");
    assert!((mean.value - 0.0485).abs() < 1e-3, "{}", mean.value);
    assert!(judged.evidence[..4].iter().all(|e| !e.judged));
    assert_eq!(judged.verdict, Verdict::Holds);
    all[2].dataset.main_metric = "matthews".to_owned();
    let mean = one(rule, &all).evidence.pop().unwrap();
    assert_eq!(mean.what, "main metric, lora − full");
}

#[test]
fn comparisons_of_one_data_set_are_one_data_set() {
    let of = |value: f64, dataset: &str, standard_error: f64, df: f64| {
        let spread = Spread::t(standard_error, df, false);
        Measured {
            dataset: dataset.into(),
            ..Measured::of(value, spread)
        }
    };
    // The same data in f32 and in bf16: no narrower than either.
    let found = Measured::with_mean(vec![
        of(0.02, "sst2", 0.01, 8.0),
        of(0.04, "sst2", 0.02, 6.0),
    ]);
    let mean = &found[2];
    assert_eq!(mean.place, "mean over 2 comparisons of sst2");
    assert!((mean.value - 0.03).abs() < 1e-12);
    let [low, high] = mean.interval(0.95).unwrap();
    // scipy.stats.t.ppf(0.975, 6) × 0.015
    assert!(((high - low) / 2.0 - 2.446_911_848_791_68 * 0.015).abs() < 1e-9);
    assert!(mean.judged && found[..2].iter().all(|m| !m.judged));

    // With another data set there are two, however often the first was compared.
    let two = |of_sst2: Vec<Measured>| {
        let rte = of(0.07, "rte", 0.02, 8.0);
        let mean = Measured::with_mean([of_sst2, vec![rte]].concat())
            .pop()
            .unwrap();
        (mean.place.clone(), mean.interval(0.95).unwrap())
    };
    let once = two(vec![of(0.03, "sst2", 0.015, 6.0)]);
    let twice = two(vec![
        of(0.02, "sst2", 0.01, 8.0),
        of(0.04, "sst2", 0.02, 6.0),
    ]);
    assert_eq!(once.0, "mean over 2 data sets");
    assert_eq!(twice.0, once.0);
    for k in 0..2 {
        assert!((once.1[k] - twice.1[k]).abs() < 1e-12, "{once:?} {twice:?}");
    }
}

#[test]
fn f32_and_bf16_of_one_data_set_are_judged_as_one() {
    let records: Vec<RunRecord> = [None, Some("bf16")]
        .into_iter()
        .flat_map(|precision: Option<&str>| {
            (0..3).flat_map(move |seed| {
                [("lora", 100), ("full", 150)].map(|(method, wrong)| {
                    Sample::new(method)
                        .seed(seed)
                        .right(1000, move |i| i >= wrong)
                        .with(|r| r.asked.backbone.precision = precision.map(str::to_owned))
                        .record()
                })
            })
        })
        .collect();
    let comparisons = Comparison::from_records(&records);
    assert_eq!(comparisons.len(), 2);
    let rule = "{measure: {difference: {of: lora, minus: full}}, at_least: -0.01}";
    let both = one(rule, &comparisons);
    let mean = both.evidence.last().unwrap();
    assert_eq!(mean.place, "mean over 2 comparisons of sst2");
    // The same numbers twice: the interval of once.
    let alone = one(rule, &comparisons[..1]).evidence[0].interval.unwrap();
    let interval = mean.interval.unwrap();
    for k in 0..2 {
        assert!((interval[k] - alone[k]).abs() < 1e-12);
    }
}

#[test]
fn an_interval_at_one_of_several_looks_holds_at_all_of_them() {
    let spread = Spread::t(1.0, 1e6, false);
    let one = Measured::of(0.0, spread);
    let looks = Looks::default();
    // The bounds of METHODOLOGY for looks at 3, 5, 10 and 20 seeds.
    for (seeds, bound) in [(3, 5.06), (5, 3.92), (10, 2.77), (20, 1.98)] {
        let [low, high] = one
            .clone()
            .looked_at(Some(&looks), seeds)
            .interval(0.95)
            .unwrap();
        assert!(
            (high - bound).abs() < 0.01 && (low + bound).abs() < 0.01,
            "{seeds}: {high}"
        );
    }
    assert!((one.interval(0.95).unwrap()[1] - 1.96).abs() < 0.01);
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
                        .right(1000, move |i| !(from..from + wrong).contains(&i))
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
        looks: vec![],
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
    let rule =
        |range: &str| format!("{{measure: {{place: {{study: some, of: a, over: b}}}}, {range}}}");
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
    let interval = |value: f64, standard_error: f64| {
        let spread = Spread::t(standard_error, 1e6, false);
        Measured::of(value, spread)
    };
    let rule = at_least(0.0);
    let judge = |z: &[f64]| {
        let all: Vec<(&Rule, Measured)> = z.iter().map(|z| (&rule, interval(-z, 1.0))).collect();
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
    let rule = "{measure: {ratio: {quantity: parameters, of: lora, over: backbone}}, at_most: 1}";
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
