//! Verdicts over data sets whose differences are known in closed form.
#![allow(clippy::unwrap_used)]

use statistics::{Looks, Margin};

use super::*;
use crate::{
    Comparison, Kept,
    measurement::Measurement,
    sample::{self, Sample},
};

/// Comparisons over so many data sets, in which `lora` is right more often than `bitfit` by the shares given.
fn comparisons(ahead: &[i64]) -> Vec<(String, Comparison)> {
    let of = |(i, ahead): (usize, &i64)| {
        let mut records = Vec::new();
        for seed in 0..5 {
            for (method, wrong) in [("lora", (60 - ahead) as usize), ("bitfit", 60)] {
                let from = seed as usize * 3 + i;
                let right = move |j: usize| !(from..from + wrong).contains(&j);
                records.push(Sample::new(method).seed(seed).right(400, right).record());
            }
        }
        let name = format!("data{i}");
        let records = sample::on_data(records, &name, None);
        (name, Comparison::from_records(&records).remove(0))
    };
    ahead.iter().enumerate().map(of).collect()
}

/// The mean difference over the data sets of [`comparisons`], in closed form.
///
/// Of n = 400 examples `a` differ, the same for each of s = 5 seeds but moved by three from one to the next. So the seeds'
/// means are all a/n; within a seed the sum of squares is a − a²/n; and two seeds share a − 3 |i − k| of the examples,
/// a − 6 on average. The variance of the difference is C + W/s with C = (a − 6 − a²/n) / (n (n − 1)) and
/// C + W = (a − a²/n) / (n (n − 1)). The data sets differ by less than that, so τ² = 0 and each counts by 1 over its
/// variance.
fn weighted_mean(ahead: &[f64]) -> f64 {
    let (n, s) = (400.0, 5.0);
    let precision = |a: f64| {
        let shared = a - 6.0 - a * a / n;
        n * (n - 1.0) / (shared + 6.0 / s)
    };
    let all: f64 = ahead.iter().map(|a| precision(*a)).sum();
    let mean = ahead.iter().map(|a| precision(*a) * a / n).sum::<f64>() / all;
    let spread: f64 = ahead
        .iter()
        .map(|a| precision(*a) * (a / n - mean).powi(2))
        .sum();
    assert!(spread < ahead.len() as f64 - 1.0, "τ² is not 0: {spread}");
    mean
}

fn judged(comparisons: &[(String, Comparison)]) -> Measurement {
    let judged: Vec<Judged<'_>> = comparisons
        .iter()
        .map(|(name, comparison)| Judged {
            name,
            average: &[],
            weight: 1.0,
            comparison,
        })
        .collect();
    judge("Four", "", &judged, false, Margin::POINT)
}

fn verdict(ahead: &[i64]) -> Measurement {
    judged(&comparisons(ahead))
}

#[test]
fn a_method_that_is_ahead_on_every_data_set_is_better_over_all_of_them() {
    let found = verdict(&[40, 36, 44, 40]);
    assert!(
        found.sentences[0]
            .contains("Over 4 data sets these are shown to be better: lora than bitfit"),
        "{:?}",
        found.sentences
    );
    let cells: Vec<&str> = found.tables[1].rows[0]
        .iter()
        .map(|c| c.text.as_str())
        .collect();
    // The first wins every run.
    assert_eq!(cells[..3], ["lora", "bitfit", "better"]);
    assert_eq!(cells[6], "100 %");
    let mean = weighted_mean(&[40.0, 36.0, 44.0, 40.0]);
    assert_eq!(cells[3], format!("{:.2}", 100.0 * mean));
    // Which is another number than the plain mean.
    assert_eq!(format!("{:.2}", 100.0 * mean), "9.95");
    let matrix = &found.tables[0];
    assert!(matrix.rows[0][0].text == "lora" && matrix.rows[0][3].text.ends_with('★'));
    assert!(matrix.rows[1][3].text.ends_with('▽'));
}

#[test]
fn the_average_is_of_each_data_sets_own_metrics_by_its_weight() {
    // LoRA is right on 380 of 400, BitFit on 340; F1 is said to be 0.7 of both.
    let mut comparisons = comparisons(&[40, 40, 40]);
    for (_, comparison) in &mut comparisons {
        let records = comparison.records.clone();
        let with_f1 = records.into_iter().map(|mut record| {
            let evaluations = &mut record.outcome.as_mut().unwrap().evaluations;
            for evaluation in evaluations {
                evaluation.metrics.insert("f1".to_owned(), 0.7);
            }
            record
        });
        let with_f1: Vec<_> = with_f1.collect();
        *comparison = Comparison::from_records(&with_f1).remove(0);
    }
    let own = ["f1".to_owned(), "accuracy".to_owned()];
    let found = |weights: [f64; 3]| {
        let judged: Vec<Judged<'_>> = comparisons
            .iter()
            .zip(weights)
            .enumerate()
            .map(|(i, ((name, comparison), weight))| Judged {
                name,
                average: if i == 0 { &own[..] } else { &[] },
                weight,
                comparison,
            })
            .collect();
        judge("Three", "", &judged, false, Margin::POINT)
    };
    let averages = |found: &Measurement| -> Vec<String> {
        let rows = found.tables[0].rows.iter();
        rows.map(|row| format!("{} {}", row[0].text, row[1].text))
            .collect()
    };
    // The first counts by the mean of 0.7 and 0.95, or 0.85: 0.825 and 0.775. The others by 0.95 and 0.85.
    let alike = found([1.0; 3]);
    assert_eq!(averages(&alike), ["lora 90.8", "bitfit 82.5"]);
    assert!(!alike.sentences.join(" ").contains("weights"));
    // (0.825 + 3 · 0.95) / 4 and (0.775 + 3 · 0.85) / 4; the last one is left out.
    let weighted = found([1.0, 3.0, 0.0]);
    assert_eq!(averages(&weighted), ["lora 91.9", "bitfit 83.1"]);
    let said = weighted.sentences.join(" ");
    assert!(
        said.contains("these weights: data0 1, data1 3 and data2 0;"),
        "{said}"
    );
    // What is tested, and the ranks, are not weighted.
    assert_eq!(weighted.tables[1], alike.tables[1]);
}

#[test]
fn methods_that_do_not_differ_are_not_called_better() {
    let found = verdict(&[0, 0, 0, 0]);
    assert!(
        !found.sentences[0].contains("shown to be better:"),
        "{:?}",
        found.sentences
    );
}

#[test]
fn average_ranks_that_differ_by_more_than_the_critical_difference_are_named() {
    // Two methods on four data sets: 1.960 √(2 · 3 / (6 · 4)).
    let said = verdict(&[40, 36, 44, 40]).sentences.join(" ");
    assert!(
        said.contains("more than 0.98 apart (Nemenyi): lora before bitfit."),
        "{said}"
    );
    let said = verdict(&[40, -40, 40, -40]).sentences.join(" ");
    assert!(said.contains("(Nemenyi): no two do."), "{said}");
}

#[test]
fn several_looks_at_any_of_the_data_sets_share_the_error_rate() {
    // p is about 0.00015: enough for an only look, too much for the second of four.
    let mut comparisons = comparisons(&[40, 36, 44, 40]);
    comparisons[3].1.looks = Some(Looks::default());
    let said = judged(&comparisons).sentences;
    assert!(said[0].contains("no method is shown"), "{said:?}");
    assert!(
        said.last()
            .unwrap()
            .starts_with("Looks at 3, 5, 10 and 20 seeds"),
        "{said:?}"
    );
    comparisons[3].1.looks = Some(Looks::new(vec![3, 5]).unwrap());
    let said = judged(&comparisons).sentences;
    assert!(said[0].contains("lora than bitfit"), "{said:?}");
}

#[test]
fn methods_that_change_places_are_named_with_the_property_that_goes_with_it() {
    let mut comparisons = comparisons(&[40, 30, 20, -30, -40]);
    for ((_, comparison), examples) in comparisons.iter_mut().zip([50_000, 9_000, 8_000, 70, 60]) {
        comparison.dataset.train_examples = examples;
    }
    let said = judged(&comparisons).sentences.join("\n");
    for part in [
        "lora and bitfit change places: the first is ahead on data0, data1 and data2, the second on data3 and data4",
        "What goes with it most is the training examples: the more, the better for lora (rank correlation 1.00 over 5 data sets",
    ] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    // Four data sets are too few for a correlation, and methods that keep their places change none.
    comparisons.remove(1);
    let said = judged(&comparisons).sentences.join("\n");
    assert!(
        said.contains("change places") && !said.contains("goes with it"),
        "{said}"
    );
    let said = verdict(&[40, 30, 20, 30, 40]).sentences.join("\n");
    assert!(!said.contains("change places"), "{said}");
}

#[test]
fn a_manifest_and_the_records_give_the_same_verdict_again() {
    let comparisons = comparisons(&[40, 36, 44, 40]);
    let part = |(name, comparison): &(String, Comparison)| Part {
        name: name.clone(),
        average: Vec::new(),
        weight: 1.0,
        runs: comparison.records.iter().map(|r| r.id.clone()).collect(),
    };
    let manifest = Manifest {
        name: "four".to_owned(),
        title: "Four".to_owned(),
        about: String::new(),
        margin: Margin::POINT,
        ended: false,
        datasets: comparisons.iter().map(part).collect(),
    };
    let place = tempfile::tempdir().unwrap();
    manifest.write(&place.path().join("four")).unwrap();
    let read = read_all(place.path(), None).unwrap();
    assert_eq!(read, [manifest]);
    // In whatever order comparisons come.
    let mut all: Vec<Comparison> = comparisons.iter().map(|(_, c)| c.clone()).collect();
    all.reverse();
    assert_eq!(read[0].verdict(&all).unwrap(), judged(&comparisons));
    all.pop();
    let said = read[0].verdict(&all).unwrap().sentences;
    assert!(
        said.last()
            .unwrap()
            .starts_with("Without data0, of which no run has a record"),
        "{said:?}"
    );
    assert_eq!(read[0].verdict(&[]), None);
    let asked = Margin::new(0.3).unwrap();
    assert_eq!(
        read_all(place.path(), Some(asked)).unwrap()[0].margin,
        asked
    );
    std::fs::write(place.path().join("four").join(Manifest::FILE), "{}").unwrap();
    let message = read_all(place.path(), None).unwrap_err().to_string();
    assert!(message.contains(Manifest::FILE), "{message}");
}
