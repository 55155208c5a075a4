//! Error rates by simulation, from fixed streams: a small part of `just error-rates`, in a few seconds.

use statistics::Metric;

use crate::study::{
    self, Bar, Drawings,
    Likeness::{Close, Distant},
};

#[track_caller]
fn keeps(what: &str, rate: f64, bar: Bar) {
    assert!(bar.holds(rate), "{what}: {rate} is outside {bar:?}");
}

#[test]
fn pairs_are_wrong_as_rarely_as_they_promise() {
    for (sd, likeness) in [(0.003, Close), (0.02, Distant)] {
        let [three, five] = study::pairs([3, 5], sd, likeness, 400, Drawings::of(1_000));
        keeps(
            "false difference at 3",
            three.false_difference,
            Bar::FALSE_AT_3,
        );
        keeps("false difference at 5", five.false_difference, Bar::FALSE);
        for rates in [three, five] {
            keeps("coverage", rates.coverage, Bar::COVERAGE);
            keeps(
                "false equivalence",
                rates.false_equivalence,
                Bar::EQUIVALENCE,
            );
        }
        keeps(
            "found of what knowing the variances finds",
            five.found / five.found_by_knowing,
            Bar::FOUND,
        );
    }
}

#[test]
fn pseudo_values_are_wrong_as_rarely_as_they_promise() {
    for metric in [Metric::F1, Metric::Matthews] {
        let [three, five] = study::metric_pairs(metric, [3, 5], 0.007, 400, Drawings::of(1_000));
        keeps("false difference at 3", three, Bar::FALSE_AT_3);
        keeps("false difference at 5", five, Bar::FALSE);
    }
}

#[test]
fn rows_are_covered_by_their_intervals() {
    for (accuracy, sd) in [(0.85, 0.003), (0.95, 0.02)] {
        for rate in study::rows([3, 5], accuracy, sd, 200, Drawings::of(1_000)) {
            keeps("coverage", rate, Bar::COVERAGE);
        }
    }
}

#[test]
fn equal_methods_rarely_get_different_letters() {
    for methods in [3, 5] {
        let sds = vec![0.02; methods];
        let [three, five] = study::families([3, 5], sds, Distant, 200, Drawings::of(600));
        keeps("any difference at 3", three, Bar::FAMILY_MODERATED);
        keeps("any difference at 5", five, Bar::FAMILY);
    }
}

#[test]
fn going_on_until_it_is_decided_keeps_its_error_rate() {
    let rates = study::sequential(3, 0.02, Distant, 200, Drawings::of(300));
    keeps("any difference", rates.false_difference, Bar::SEQUENTIAL);
    keeps("any equivalence", rates.false_equivalence, Bar::SEQUENTIAL);
    keeps("a worse one chosen", rates.worse_choice, Bar::SEQUENTIAL);
}

#[test]
fn less_data_does_not_recommend_worse_methods() {
    let behind = [0.0, 0.0, 0.03, 0.08];
    let [few, many] = [100, 800].map(|n| study::choices(&behind, 5, 0.003, n, Drawings::of(300)));
    keeps("worse, 100 examples", few.worse, Bar::CHOICE);
    keeps("worse, 800 examples", many.worse, Bar::CHOICE);
    assert!(few.worse_untold > 0.5, "what was done before: {few:?}");
    assert!(many.any > few.any, "{few:?} {many:?}");
}

#[test]
fn data_sets_and_sittings_are_combined_at_the_promised_rate() {
    keeps(
        "data sets",
        study::datasets(4, 0.01, Drawings::of(500)),
        Bar::COMBINED,
    );
    for between in [0.0, 0.02] {
        keeps(
            "data sets that go on",
            study::datasets_going_on(4, between, Drawings::of(200)),
            Bar::SEQUENTIAL,
        );
    }
    keeps(
        "sittings",
        study::sittings(5, Drawings::of(2_000)),
        Bar::COMBINED,
    );
}
