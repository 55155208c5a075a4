#![allow(clippy::unwrap_used)]

use std::fs;

use record::{RunRecord, Status, store};
use serde_json::json;
use statistics::{Margin, Verdict};

use super::{tables::csv, *};
use crate::{Kept, figures, sample::Sample};

fn run(p: usize, seed: u64, wrong: std::ops::Range<usize>) -> RunRecord {
    Sample::new("prompt_tuning")
        .variant(&format!("virtual_tokens={p}"), json!({"virtual_tokens": p}))
        .parameters(384 * p)
        .seed(seed)
        .right(300, move |i| !wrong.contains(&i))
        .record()
}

/// One series: P = 1 is much worse than 10, and 100 like it.
fn example() -> (Manifest, Vec<RunRecord>) {
    let mut records = Vec::new();
    let mut points = Vec::new();
    for (p, wrong) in [(1, 0..120), (10, 0..30), (100, 2..34)] {
        let runs: Vec<RunRecord> = (0..3)
            .map(|s| run(p, s, wrong.start..wrong.end + s as usize))
            .collect();
        points.push(PointPlan {
            label: p.to_string(),
            value: Some(p as f64),
            runs: runs.iter().map(|r| r.id.clone()).collect(),
        });
        records.extend(runs);
    }
    let manifest = Manifest {
        name: "prompt_length".into(),
        title: "Prompt length".into(),
        question: "How many virtual tokens?".into(),
        reference: None,
        curves: false,
        axis: Axis {
            title: "virtual tokens".into(),
            position: Position::Value,
            logarithmic: true,
        },
        series: vec![SeriesPlan {
            label: "prompt_tuning".into(),
            method: "prompt_tuning".into(),
            points,
        }],
        left_out: vec![],
        margin: Margin::POINT,
        looks: vec![],
    };
    (manifest, records)
}

#[test]
fn points_stand_at_their_values_with_mean_and_interval_over_seeds() {
    let (manifest, records) = example();
    let study = Study::new(&manifest, records).unwrap();
    let point = study.point("prompt_tuning", "10").unwrap();
    assert_eq!((point.x, point.parameters), (Some(10.0), Some(3840)));
    // 270, 269 and 268 of 300 right.
    let metric = point.metric.as_ref().unwrap();
    assert!((metric.mean - 269.0 / 300.0).abs() < 1e-12);
    assert!((metric.sd.unwrap() - 1.0 / 300.0).abs() < 1e-12);
    // The curve has the two evaluations of the sample.
    assert_eq!(
        point.curve.iter().map(|c| c.step).collect::<Vec<_>>(),
        [2, 4]
    );
    assert_eq!(study.slug, "study-prompt_length-sst2-minilm");
}

#[test]
fn a_flat_series_has_no_best_point() {
    let (mut manifest, _) = example();
    let all: Vec<Vec<RunRecord>> = [1, 10, 100]
        .map(|p| (0..3).map(|s| run(p, s, 0..30)).collect())
        .into();
    for (point, runs) in manifest.series[0].points.iter_mut().zip(&all) {
        point.runs = runs.iter().map(|r| r.id.clone()).collect();
    }
    let mut study = Study::new(&manifest, all.concat()).unwrap();
    assert_eq!(
        study.findings,
        [
            "prompt_tuning: the same mean at every point (90.0 % accuracy), which alone does not show that they are equal."
        ]
    );
    let series = &mut study.series[0];
    for point in &mut series.points {
        point.verdict = Some(Verdict::Equivalent);
    }
    let margin = Margin::new(0.01).unwrap();
    assert_eq!(
        super::series::finding(series, "accuracy", margin).unwrap(),
        "prompt_tuning: the same mean at every point (90.0 % accuracy), and shown to be equivalent within 1.0 points."
    );
}

#[test]
fn the_only_point_of_a_series_is_not_called_the_highest() {
    let (mut manifest, records) = example();
    manifest.series[0].points.truncate(1);
    let study = Study::new(&manifest, records).unwrap();
    assert_eq!(
        study.findings,
        ["prompt_tuning: 59.7 % accuracy at 1; no other point."]
    );
    let text = markdown(&study);
    assert!(text.contains("| no other point |"), "{text}");
}

#[test]
fn every_point_has_a_verdict_against_the_highest_mean() {
    let (manifest, records) = example();
    let study = Study::new(&manifest, records).unwrap();
    let points = &study.series[0].points;
    assert_eq!(points[0].verdict, Some(Verdict::Worse));
    assert_eq!(points[2].verdict, Some(Verdict::Undecided));
    assert!(points[1].highest && points[1].verdict.is_none());
    assert!((points[0].evidence.unwrap().difference + 0.3).abs() < 1e-12);
    assert_eq!(
        study.findings,
        [
            "prompt_tuning: highest mean at 10 (89.7 % accuracy); shown to be worse: 1; undecided: 100."
        ]
    );
}

#[test]
fn a_study_half_done_says_how_many_runs_are_missing_and_a_bad_run_is_a_trouble() {
    let (manifest, mut records) = example();
    records.truncate(7);
    records[0].status = Status::Diverged {
        step: 3,
        reason: "the loss is NaN".into(),
    };
    (records[0].outcome, records[0].cost) = (None, None);
    let study = Study::new(&manifest, records).unwrap();
    assert!(
        study.notes.iter().any(|n| n.starts_with("2 of 9 runs")),
        "{:?}",
        study.notes
    );
    // A diverged seed does not vanish: half of the examples are of the commonest class, and the others have 179 and 178 of 300 right.
    let point = &study.series[0].points[0];
    assert_eq!(point.seeds, [0, 1, 2]);
    let mean = point.metric.as_ref().unwrap().mean;
    assert!((mean - (150.0 + 179.0 + 178.0) / 900.0).abs() < 1e-12);
    assert_eq!(
        point.troubles,
        [
            "seed 0 diverged at step 3: the loss is NaN; it counts as always answering the commonest class"
        ]
    );
    assert!(Study::new(&manifest, vec![]).is_none());
}

#[test]
fn tables_hold_every_point_and_fit_the_terminal() {
    let (manifest, records) = example();
    let study = Study::new(&manifest, records).unwrap();
    for line in terminal(&study, 80).lines().skip(2).take(5) {
        assert!(line.chars().count() <= 80, "{line}");
    }
    assert_eq!(csv(&study).unwrap().lines().count(), 1 + 9);
    let text = markdown(&study);
    assert!(
        text.contains("| prompt_tuning | 10 | 89.7 ± 0.3 | highest mean |"),
        "{text}"
    );
    assert!(
        text.contains("| prompt_tuning | 100 | 89.0 ± 0.3 | undecided |"),
        "{text}"
    );
}

#[test]
fn a_study_is_plotted_with_its_stand_in_and_curves_where_they_are_asked_for() {
    let (mut manifest, mut records) = example();
    let metric = &figures::study_plots(&Study::new(&manifest, records.clone()).unwrap())[0];
    assert!(
        metric.description.contains("89.7 % at 10"),
        "{}",
        metric.description
    );
    assert_eq!(&metric.png().unwrap()[1..4], b"PNG");
    let says_what_is_behind = |svg: &str| svg.contains("Hollow: shown to be worse");
    assert!(says_what_is_behind(&metric.svg().unwrap()));
    manifest.curves = true;
    for record in &mut records {
        record.asked.dataset.stand_in_for = Some("sst2".into());
        record.asked.dataset.name = "movie_snippets".into();
    }
    let study = Study::new(&manifest, records).unwrap();
    let view = page_view(&study).unwrap();
    assert!(
        view["legend"]
            .as_str()
            .unwrap()
            .contains("Undecided is not equal")
    );
    // The metric over x, and a curve for each of three points.
    assert_eq!(view["plots"].as_array().unwrap().len(), 4);
    let curve = view["plots"][1]["wide"].as_str().unwrap();
    assert!(!says_what_is_behind(curve));
    for plot in view["plots"].as_array().unwrap() {
        let svg = plot["narrow"].as_str().unwrap();
        assert!(svg.contains("stand-in"), "{svg}");
    }
}

#[test]
fn a_manifest_is_read_back_as_it_was_written_and_a_broken_one_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let below = folder.path().join("sst2/studies/prompt_length");
    let (manifest, records) = example();
    manifest.write(&below).unwrap();
    for record in &records {
        store::write(&below.join("records"), record).unwrap();
    }
    assert_eq!(Manifest::read(&below).unwrap(), Some(manifest));
    let found = read_all(folder.path(), None).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].series[0].points.len(), 3);
    // A margin that is asked for goes over the declared one, and is said.
    let wide = read_all(folder.path(), Margin::new(0.2).ok()).unwrap();
    assert_eq!(
        wide[0].point("prompt_tuning", "100").unwrap().verdict,
        Some(Verdict::Equivalent)
    );
    assert!(markdown(&wide[0]).contains("equivalent within 20.0 points"));
    fs::write(below.join(Manifest::FILE), "{").unwrap();
    assert!(
        read_all(folder.path(), None)
            .unwrap_err()
            .to_string()
            .contains("study.json")
    );
}

#[test]
fn seeds_added_after_looking_are_counted_as_looks_and_the_verdicts_spend_their_error_rate_over_them()
 {
    let (before, _) = example();
    let mut after = before.clone();
    for (point, (p, wrong)) in
        after.series[0]
            .points
            .iter_mut()
            .zip([(1, 0..120), (10, 0..30), (100, 2..34)])
    {
        let more = (3..5).map(|s| run(p, s, wrong.start..wrong.end + s as usize).id);
        point.runs.extend(more);
    }
    let looks = |earlier: &Manifest, seen, now: &Manifest| {
        let mut now = now.clone();
        now.go_on_from(earlier, seen);
        now.looks
    };
    assert_eq!(looks(&before, 3, &after), [3, 5]);
    // With two seeds there was no verdict to see, and a study of other runs is another study.
    assert!(looks(&before, 2, &after).is_empty());
    let mut other = before.clone();
    other.series[0]
        .points
        .iter_mut()
        .flat_map(|p| &mut p.runs)
        .for_each(|id| id.push('x'));
    assert!(looks(&other, 3, &after).is_empty());
    // What was interrupted and goes on as planned is one look.
    assert!(looks(&after, 3, &after).is_empty());
    // Earlier looks stay.
    after.looks = vec![3, 5];
    assert_eq!(looks(&after, 5, &after), [3, 5]);

    // Wrong on 25 and on 20 of the same examples, p = 0.025: shown where three seeds were fixed, not as the first look of two, which may spend 0.011.
    let runs = |p: usize, wrong: usize| -> Vec<RunRecord> {
        let one = |seed: u64| {
            Sample::new("prompt_tuning")
                .variant(&format!("virtual_tokens={p}"), json!({"virtual_tokens": p}))
                .seed(seed)
                .right(300, move |i| i >= wrong)
                .record()
        };
        (0..3).map(one).collect()
    };
    let (mut manifest, _) = example();
    manifest.series[0].points.truncate(2);
    let all = [runs(1, 25), runs(10, 20)];
    for (point, runs) in manifest.series[0].points.iter_mut().zip(&all) {
        point.runs = runs.iter().map(|r| r.id.clone()).collect();
    }
    let verdict = |manifest: &Manifest| {
        let study = Study::new(manifest, all.concat()).unwrap();
        (
            study.point("prompt_tuning", "1").unwrap().verdict,
            study.notes,
        )
    };
    assert_eq!(verdict(&manifest).0, Some(Verdict::Worse));
    manifest.looks = vec![3, 5];
    let (found, notes) = verdict(&manifest);
    assert_eq!(found, Some(Verdict::Undecided));
    assert!(
        notes
            .iter()
            .any(|n| n.starts_with("Looks at 3 and 5 seeds")),
        "{notes:?}"
    );
}
