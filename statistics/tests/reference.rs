//! Every value against scipy, statsmodels, scikit-learn, numpy or a plain enumeration (`fixtures/generate_statistics.py`).

use serde_json::Value;
use statistics::*;

use crate::{cases_of, numbers};

fn cases(name: &str) -> Vec<Value> {
    cases_of(include_str!("fixtures/statistics.json"), name)
}

fn labels(v: &Value) -> Vec<u32> {
    numbers(v).iter().map(|&x| x as u32).collect()
}

fn scores(v: &Value) -> Scores {
    let rows = v.as_array().unwrap().iter().map(numbers);
    Scores::new((0..).zip(rows)).unwrap()
}

#[track_caller]
fn close(ours: f64, theirs: &Value) {
    within(ours, theirs, 1e-9);
}

#[track_caller]
fn within(ours: f64, theirs: &Value, tolerance: f64) {
    let theirs = theirs.as_f64().unwrap();
    assert!(
        (ours - theirs).abs() <= tolerance * theirs.abs().max(1e-3),
        "{ours} but the reference has {theirs}"
    );
}

#[track_caller]
fn all_close(ours: &[f64], theirs: &Value) {
    all_within(ours, theirs, 1e-9);
}

#[track_caller]
fn all_within(ours: &[f64], theirs: &Value, tolerance: f64) {
    let theirs = theirs.as_array().unwrap();
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(theirs) {
        within(*ours, theirs, tolerance);
    }
}

#[test]
fn means_and_t_intervals_equal_scipy() {
    for case in cases("intervals") {
        let s = Summary::of(numbers(&case["values"])).unwrap();
        close(s.mean, &case["mean"]);
        close(s.sd.unwrap(), &case["standard_deviation"]);
        let [low, high] = s.interval.unwrap();
        close(low, &case["low"]);
        close(high, &case["high"]);
    }
}

#[test]
fn one_value_has_a_mean_but_no_spread_and_none_has_nothing() {
    let one = Summary::of([0.5]).unwrap();
    assert_eq!((one.mean, one.sd, one.interval), (0.5, None, None));
    assert_eq!(Summary::of([]), None);
}

#[test]
fn percentiles_equal_numpy() {
    for case in cases("percentiles") {
        for (q, expected) in case["p"].as_object().unwrap() {
            let ours = percentile(&numbers(&case["values"]), q.parse().unwrap());
            close(ours.unwrap(), expected);
        }
    }
    assert_eq!(percentile(&[], 50.0), None);
}

#[test]
fn mcnemar_equals_statsmodels() {
    for case in cases("mcnemar") {
        let count = |k: &str| case[k].as_u64().unwrap();
        let ours = mcnemar_exact(count("only_first"), count("only_second"));
        // Relative to the value: one of the cases is 1e-60.
        assert!((ours / case["p"].as_f64().unwrap() - 1.0).abs() < 1e-9);
    }
}

#[test]
fn holm_equals_statsmodels() {
    for case in cases("holm") {
        all_close(&holm(&numbers(&case["p"])), &case["adjusted"]);
    }
    assert!(holm(&[]).is_empty());
}

#[test]
fn calibration_equals_numpy() {
    for case in cases("calibration") {
        let truth = labels(&case["labels"]);
        let rows = case["logits"].as_array().unwrap().iter();
        let logits: Vec<Vec<f32>> = rows
            .map(|row| numbers(row).iter().map(|&x| x as f32).collect())
            .collect();
        let ours = Calibration::of(&truth, logits.iter().map(Vec::as_slice)).unwrap();
        close(ours.nll, &case["nll"]);
        close(ours.brier, &case["brier"]);
        close(ours.ece, &case["ece"]);
        let mut another = truth.clone();
        another[0] = logits[0].len() as u32;
        assert!(Calibration::of(&another, logits.iter().map(Vec::as_slice)).is_none());
    }
}

#[test]
fn a_metric_without_a_denominator_is_zero() {
    // Only label 0, always predicted as 0.
    let counts = Counts::of(&[0, 0], &[0, 0], 2).unwrap();
    assert_eq!(Metric::F1.value(&counts), 0.0);
    assert_eq!(Metric::Matthews.value(&counts), 0.0);
    let nothing = Counts::of(&[], &[], 2).unwrap();
    for name in METRICS {
        assert_eq!(Metric::named(name).unwrap().value(&nothing), 0.0, "{name}");
    }
}

const METRICS: [&str; 5] = ["accuracy", "f1", "macro_f1", "weighted_f1", "matthews"];

/// `fixtures/generate_metrics.py`.
#[test]
fn metrics_and_scores_per_class_are_those_of_scikit_learn_whichever_classes_are_absent() {
    let all: Value = serde_json::from_str(include_str!("fixtures/metrics.json")).unwrap();
    let all = all.as_array().unwrap();
    assert_eq!(all.len(), 40);
    let near = |a: f64, b: &Value| (a - b.as_f64().unwrap()).abs() < 1e-12;
    for case in all {
        let (truth, guessed) = (labels(&case["labels"]), labels(&case["predictions"]));
        let classes = case["classes"].as_u64().unwrap() as usize;
        let counts = Counts::of(&truth, &guessed, classes).unwrap();
        for name in METRICS {
            let metric = Metric::named(name).unwrap();
            let value = metric.value(&counts);
            assert!(near(value, &case[name]), "{name}: {value} in {case}");
            // A mean of scores is the metric that is printed.
            let scores = metric.scores(&truth, &guessed, classes).unwrap();
            let mean = mean(&scores).unwrap();
            assert!((mean - value).abs() < 1e-12, "{name}: {mean} in {case}");
        }
        assert_eq!(serde_json::json!(counts.matrix()), case["confusion"]);
        for (k, own) in counts.by_class().into_iter().enumerate() {
            assert!(near(own.precision(), &case["precision"][k]), "{case}");
            assert!(near(own.recall(), &case["recall"][k]), "{case}");
            assert!(near(own.f1(), &case["class_f1"][k]), "{case}");
            assert_eq!(own.truth as u64, case["support"][k].as_u64().unwrap());
        }
    }
}

#[test]
fn pseudo_values_equal_leaving_examples_out_of_scikit_learn() {
    for case in cases("jackknife") {
        let (truth, guessed) = (labels(&case["labels"]), labels(&case["predicted"]));
        let classes = case["classes"].as_u64().unwrap() as usize;
        for (name, expected) in case["scores"].as_object().unwrap() {
            let metric = Metric::named(name).unwrap();
            let ours = metric.scores(&truth, &guessed, classes).unwrap();
            all_close(&ours, expected);
        }
    }
}

#[test]
fn pseudo_values_of_accuracy_are_right_and_wrong() {
    let (truth, guessed) = ([0, 1, 2, 1, 0, 2], [0, 1, 1, 1, 2, 2]);
    let right = Metric::Accuracy.scores(&truth, &guessed, 3).unwrap();
    for (score, expected) in right.iter().zip([1.0, 1.0, 0.0, 1.0, 0.0, 1.0]) {
        assert!((score - expected).abs() < 1e-12);
    }
}

#[test]
fn what_is_constant_correlates_with_nothing() {
    let rising: Vec<f64> = (0..7).map(f64::from).collect();
    for correlation in [Correlation::Pearson, Correlation::Spearman] {
        // Means of seven tenths are a hair off a tenth.
        for (a, b) in [
            ([0.1; 7].to_vec(), [0.7; 7].to_vec()),
            (rising.clone(), [0.1; 7].to_vec()),
        ] {
            assert_eq!(correlation.value(&a, &b), 0.0);
            assert_eq!(correlation.scores(&a, &b).unwrap(), [0.0; 7]);
        }
    }
}

#[test]
fn labels_without_predictions_and_unknown_classes_are_refused() {
    assert!(matches!(
        Counts::of(&[0, 1], &[0], 2),
        Err(Error::Labels(_))
    ));
    assert!(matches!(
        Counts::of(&[0, 2], &[0, 1], 2),
        Err(Error::Labels(_))
    ));
    assert!(Correlation::Pearson.scores(&[1.0], &[]).is_err());
}

#[test]
fn evidence_equals_the_covariance_matrix_of_seeds() {
    for case in cases("crossed") {
        let d = scores(&case["first"])
            .minus(&scores(&case["second"]))
            .unwrap();
        let e = Evidence::of(&d).unwrap();
        let margin = Margin::new(case["margin"].as_f64().unwrap()).unwrap();
        close(e.difference, &case["difference"]);
        close(e.standard_error, &case["standard_error"]);
        within(e.df, &case["df"], 1e-8);
        let c = e.components;
        for (ours, name) in [
            (c.sigma().seed, "sigma_seed"),
            (c.sigma().example, "sigma_example"),
            (c.sigma().residual, "sigma_residual"),
        ] {
            // A component of zero is the square root of what rounding leaves.
            assert!(
                (ours - case[name].as_f64().unwrap()).abs() < 1e-8,
                "{name} {ours}"
            );
        }
        // statrs' quantile of Student's t has eight digits.
        all_within(&e.interval, &case["interval"], 1e-7);
        all_within(&e.interval_at(0.9), &case["interval_90"], 1e-7);
        close(e.p, &case["p"]);
        close(e.p_equivalent(margin), &case["p_equivalent"]);
        close(e.p_non_inferior(margin), &case["p_non_inferior"]);
    }
}

#[test]
fn few_seeds_are_moderated_by_the_mean_square_of_method_and_seed() {
    for case in cases("moderated") {
        let methods: Vec<Scores> = case["right"]
            .as_array()
            .unwrap()
            .iter()
            .map(scores)
            .collect();
        let family = Family::new(&methods, Margin::POINT);
        let pairs = case["pairs"].as_array().unwrap();
        assert_eq!(family.pairs.len(), pairs.len());
        for (ours, theirs) in family.pairs.iter().zip(pairs) {
            close(ours.evidence.standard_error, &theirs["standard_error"]);
            within(ours.evidence.df, &theirs["df"], 1e-8);
            close(ours.evidence.p, &theirs["p"]);
            close(ours.corrected.unwrap().p, &theirs["p_holm"]);
        }
    }
}

#[test]
fn intervals_of_shares_equal_statsmodels() {
    for case in cases("wilson") {
        let (right, n) = (
            case["right"].as_f64().unwrap(),
            case["examples"].as_f64().unwrap(),
        );
        all_close(
            &wilson(right / n, n, case["z"].as_f64().unwrap()),
            &case["interval"],
        );
    }
}

#[test]
fn many_data_sets_equal_statsmodels() {
    for case in cases("combined") {
        let estimates: Vec<Estimate> = numbers(&case["differences"])
            .into_iter()
            .zip(numbers(&case["variances"]))
            .map(|(difference, variance)| Estimate {
                difference,
                variance,
            })
            .collect();
        let ours = Combined::of(&estimates).unwrap();
        // statsmodels stops its iteration for τ² at 1e-14.
        within(ours.difference, &case["difference"], 1e-7);
        within(ours.standard_error, &case["standard_error"], 1e-7);
        within(ours.between, &case["between"], 1e-7);
        within(ours.p, &case["p"], 1e-7);
        all_within(&ours.interval, &case["interval"], 1e-7);
    }
    assert_eq!(
        Combined::of(&[Estimate {
            difference: 0.1,
            variance: 1e-4
        }]),
        None
    );
}

#[test]
fn levels_of_looks_equal_an_integral_on_a_finer_grid() {
    for case in cases("spending") {
        let looks = labels(&case["looks"]).iter().map(|&s| s as usize).collect();
        let levels = Looks::new(looks)
            .unwrap()
            .levels(case["alpha"].as_f64().unwrap());
        for (ours, theirs) in levels.iter().zip(case["levels"].as_array().unwrap()) {
            assert!(
                (ours / theirs.as_f64().unwrap() - 1.0).abs() < 1e-4,
                "{ours} {theirs}"
            );
        }
    }
}

#[test]
fn ratios_of_times_are_tested_over_sittings_as_scipy_does() {
    for case in cases("sittings") {
        let rows = case["rows"].as_array().unwrap().iter();
        let times: Vec<Timed> = rows
            .map(|row| Timed {
                sitting: row[0].as_str().unwrap().to_owned(),
                first: row[1].as_f64().unwrap(),
                second: row[2].as_f64().unwrap(),
            })
            .collect();
        let ours = Ratio::of(&times).unwrap();
        close(ours.ratio, &case["ratio"]);
        within(ours.p.unwrap(), &case["p"], 1e-8);
        all_within(&ours.interval.unwrap(), &case["interval"], 1e-7);
        // All seeds of one sitting are one value, however many they are.
        let one: Vec<Timed> = times
            .iter()
            .map(|t| Timed {
                sitting: "one".to_owned(),
                ..t.clone()
            })
            .collect();
        assert_eq!(Ratio::of(&one).unwrap().interval, None);
    }
}

#[test]
fn the_expected_best_equals_listing_every_draw() {
    for case in cases("expected_best") {
        let ours = expected_best(&numbers(&case["values"]));
        for (ours, theirs) in ours.iter().zip(case["expected"].as_array().unwrap()) {
            close(ours.mean, &theirs["mean"]);
            within(ours.sd, &theirs["sd"], 1e-7);
        }
    }
    assert!(expected_best(&[]).is_empty());
}
