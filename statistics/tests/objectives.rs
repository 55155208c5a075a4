//! Metrics of numbers, sets of classes, entities and texts against scipy, scikit-learn, seqeval and sacrebleu
//! (`fixtures/generate_objectives.py`, `fixtures/generate_texts.py`).

use serde_json::Value;
use statistics::*;

use crate::{cases_of, numbers};

fn cases(name: &str) -> Vec<Value> {
    cases_of(include_str!("fixtures/objectives.json"), name)
}

#[track_caller]
fn close(ours: f64, theirs: &Value) {
    let theirs = theirs.as_f64().unwrap();
    assert!((ours - theirs).abs() < 1e-10, "{ours}, reference {theirs}");
}

#[track_caller]
fn all_close(ours: &[f64], theirs: &Value) {
    let theirs = numbers(theirs);
    assert_eq!(ours.len(), theirs.len());
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert!((a - b).abs() < 1e-9, "{i}: {a}, reference {b}");
    }
}

#[test]
fn correlations_and_errors_of_numbers_are_those_of_scipy() {
    for case in cases("regression") {
        let (truth, predicted) = (numbers(&case["truth"]), numbers(&case["predicted"]));
        for (name, of) in [
            ("pearson", Correlation::Pearson),
            ("spearman", Correlation::Spearman),
        ] {
            close(of.value(&truth, &predicted), &case[name]);
            let scores = of.scores(&truth, &predicted).unwrap();
            all_close(&scores, &case[format!("{name}_scores")]);
            close(mean(&scores).unwrap(), &case[name]);
        }
        close(root_mean_square_error(&truth, &predicted), &case["rmse"]);
    }
}

#[test]
fn scores_of_sets_of_classes_are_those_of_scikit_learn() {
    let sets = |v: &Value| -> Vec<Vec<bool>> {
        let rows = v.as_array().unwrap().iter();
        rows.map(|row| numbers(row).iter().map(|x| *x == 1.0).collect())
            .collect()
    };
    for case in cases("multi_label") {
        let (truth, predicted) = (sets(&case["truth"]), sets(&case["predicted"]));
        for name in ["micro_f1", "macro_f1", "accuracy"] {
            let metric = MultiLabel::named(name).unwrap();
            close(metric.value(&truth, &predicted), &case[name]);
            all_close(
                &metric.scores(&truth, &predicted),
                &case[format!("{name}_scores")],
            );
        }
    }
}

fn sentences(v: &Value) -> Vec<Vec<&str>> {
    let rows = v.as_array().unwrap().iter();
    rows.map(|row| {
        row.as_array()
            .unwrap()
            .iter()
            .map(|t| t.as_str().unwrap())
            .collect()
    })
    .collect()
}

#[test]
fn entities_are_those_that_seqeval_finds_whatever_the_tags() {
    let cases = cases("entities");
    let mut checked = 0;
    for case in cases.iter().filter(|case| !case["found"].is_null()) {
        let rows = sentences(&case["truth"]);
        for (row, theirs) in rows.iter().zip(case["found"].as_array().unwrap()) {
            let ours: Vec<Value> = entities(row)
                .iter()
                .map(|e| serde_json::json!([e.kind, e.start, e.end - 1]))
                .collect();
            assert_eq!(Value::Array(ours), *theirs, "{row:?}");
            checked += 1;
        }
    }
    assert!(checked > 100);
}

#[test]
fn precision_recall_and_f1_of_entities_are_those_of_seqeval_in_all_and_by_type() {
    for case in cases("entities") {
        let (truth, predicted) = (sentences(&case["truth"]), sentences(&case["predicted"]));
        let pairs = || truth.iter().zip(&predicted);
        let counts: Vec<EntityCounts> = pairs().map(|(t, p)| EntityCounts::of(t, p)).collect();
        let all: EntityCounts = counts.iter().copied().sum();
        close(all.precision(), &case["precision"]);
        close(all.recall(), &case["recall"]);
        close(all.f1(), &case["f1"]);
        let mut types = std::collections::BTreeMap::<String, EntityCounts>::new();
        for (t, p) in pairs() {
            for (kind, found) in EntityCounts::by_type(t, p) {
                let sum = types.entry(kind).or_default();
                *sum = [*sum, found].into_iter().sum();
            }
        }
        let theirs = case["types"].as_object().unwrap();
        assert_eq!(types.keys().collect::<Vec<_>>(), {
            let mut names: Vec<_> = theirs.keys().collect();
            names.sort();
            names
        });
        for (kind, found) in &types {
            let [precision, recall, f1, support] = [0, 1, 2, 3].map(|i| &theirs[kind][i]);
            close(found.precision(), precision);
            close(found.recall(), recall);
            close(found.f1(), f1);
            close(found.truth as f64, support);
        }
        if !case["f1_scores"].is_null() {
            let scores = EntityCounts::scores("entity_f1", &counts).unwrap();
            all_close(&scores, &case["f1_scores"]);
            let mean = scores.iter().sum::<f64>() / scores.len() as f64;
            assert!((mean - all.f1()).abs() < 1e-12);
        }
    }
}

#[test]
fn without_entities_every_score_is_zero_and_not_nan() {
    let none = EntityCounts::of(&["O", "O"], &["O", "O"]);
    assert_eq!([none.precision(), none.recall(), none.f1()], [0.0; 3]);
    assert_eq!(
        EntityCounts::scores("entity_f1", &[none, none]),
        Some(vec![0.0; 2])
    );
    assert_eq!(EntityCounts::scores("accuracy", &[none]), None);
}

#[test]
fn the_critical_difference_of_average_ranks_equals_scipy() {
    for case in cases("nemenyi") {
        let rows = case["table"].as_array().unwrap().iter();
        let ours = Ranks::of(&rows.map(numbers).collect::<Vec<_>>()).unwrap();
        all_close(&ours.average, &case["average"]);
        let theirs = case["critical_difference"].as_f64().unwrap();
        assert!((ours.critical_difference / theirs - 1.0).abs() < 1e-6);
    }
    assert_eq!(Ranks::of(&[vec![0.1]]), None);
}

#[test]
fn the_probability_of_improvement_counts_the_runs_that_are_ahead() {
    let ahead = |pairs: &[(Vec<f64>, Vec<f64>)]| probability_of_improvement(pairs);
    // 3 of 4 pairs of runs are won; then a tie counts one half.
    assert_eq!(ahead(&[(vec![2.0, 4.0], vec![1.0, 3.0])]), Some(0.75));
    assert_eq!(
        ahead(&[(vec![1.0], vec![1.0]), (vec![1.0], vec![0.0])]),
        Some(0.75)
    );
    assert_eq!(ahead(&[]), None);
    assert_eq!(ahead(&[(vec![1.0], Vec::new())]), None);
}

#[test]
fn bleu_and_chrf_are_those_of_sacrebleu_with_any_number_of_references() {
    let fixture: Value = serde_json::from_str(include_str!("fixtures/texts.json")).unwrap();
    let corpora = fixture["corpora"].as_array().unwrap();
    assert!(corpora.len() >= 6);
    let texts = |v: &Value| -> Vec<String> {
        let list = v.as_array().unwrap().iter();
        list.map(|t| t.as_str().unwrap().to_owned()).collect()
    };
    for corpus in corpora {
        let written = texts(&corpus["texts"]);
        let references: Vec<Vec<String>> = corpus["references"]
            .as_array()
            .unwrap()
            .iter()
            .map(texts)
            .collect();
        let cases: Vec<TextCase<'_>> = written
            .iter()
            .zip(&references)
            .map(|(text, references)| (text.as_str(), references.as_slice()))
            .collect();
        for name in ["bleu", "chrf"] {
            let metric = TextMetric::named(name).unwrap();
            close(metric.value(&cases), &corpus[name]);
            all_close(&metric.scores(&cases), &corpus[format!("{name}_scores")]);
        }
        let scores = TextMetric::RougeL.scores(&cases);
        for (ours, theirs) in scores.iter().zip(corpus["rouge_l"].as_array().unwrap()) {
            if !theirs.is_null() {
                close(*ours, theirs);
            }
        }
    }
}

#[test]
fn a_text_is_right_if_it_is_one_of_its_references_or_has_their_number() {
    let references = ["two apples, 2".to_owned(), "#### 1,200".to_owned()];
    let value = |metric: TextMetric, text: &str| metric.value(&[(text, &references)]);
    let exact = TextMetric::ExactMatch;
    assert_eq!(value(exact, " two apples, 2\n"), 1.0);
    assert_eq!(value(exact, "Two apples, 2"), 0.0);
    let numeric = TextMetric::NumericMatch;
    assert_eq!(value(numeric, "1 + 1 = 2"), 1.0);
    assert_eq!(value(numeric, "so 1200.0"), 1.0);
    assert_eq!(value(numeric, "2 or 3"), 0.0);
}
