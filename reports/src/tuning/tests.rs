#![allow(clippy::unwrap_used)]

use record::{RunRecord, Status};
use serde_json::json;

use super::*;
use crate::sample::Sample;

const STEPS: usize = 500;

/// Trials of lora with these learning rates, each with its right answers of 100 after each rung.
fn searched(range: [f64; 2], trials: &[(f64, &[usize], bool)]) -> (Manifest, Vec<RunRecord>) {
    let rungs = rungs(trials.len(), STEPS, 2);
    let mut records = Vec::new();
    let mut plans = Vec::new();
    for &(rate, right, beyond_edge) in trials {
        let mut plan = TrialPlan {
            drawn: [("learning_rate".to_owned(), json!(rate))].into(),
            beyond_edge,
            ..TrialPlan::default()
        };
        let own = match beyond_edge {
            true => &rungs[rungs.len() - 1..],
            false => &rungs[..],
        };
        for (&steps, &right) in own.iter().zip(right) {
            let record = Sample::new("lora")
                .variant(
                    &format!("learning_rate={rate}"),
                    json!({"learning_rate": rate, "steps": steps}),
                )
                .training_seconds(steps as f64)
                .right(100, move |i| i < right);
            let record = match right {
                0 => record.ended(Status::Diverged {
                    step: 1,
                    reason: "the loss is NaN".into(),
                }),
                _ => record,
            }
            .record();
            plan.runs.push((steps, record.id.clone()));
            records.push(record);
        }
        plans.push(plan);
    }
    let manifest = Manifest {
        rungs,
        judged_by: "10 % of the training split".into(),
        methods: vec![MethodTrials {
            method: "lora".into(),
            learning_rates: Some(range),
            trials: plans,
        }],
        left_out: vec!["odd".into()],
    };
    (manifest, records)
}

#[test]
fn rungs_divide_steps_and_trials_by_three_as_often_as_both_allow() {
    assert_eq!(rungs(9, 500, 9), [55, 166, 500]);
    assert_eq!(rungs(8, 500, 9), [166, 500]);
    assert_eq!(rungs(2, 500, 9), [500]);
    assert_eq!(rungs(27, 30, 9), [10, 30]);
    assert_eq!(rungs(27, 29, 9), [29]);
    assert_eq!(rungs(27, 500, 2), [166, 500]);
    assert_eq!(kept(9, 3), [9, 3, 1]);
    assert_eq!(kept(8, 2), [8, 2]);
}

#[test]
fn the_first_of_the_best_after_the_most_steps_wins_and_a_diverged_one_counts_as_nothing() {
    let (manifest, records) = searched(
        [1e-4, 1e-1],
        &[
            (0.01, &[80, 85], false),
            (0.001, &[0], false),
            (0.003, &[80], false),
            (0.002, &[60], false),
        ],
    );
    let tuning = Tuning::new(&manifest, &records).unwrap();
    let search = &tuning.searches[0];
    assert_eq!((search.best, search.edge), (Some(0), None));
    assert_eq!(search.survivors(166, 2), [0, 2]);
    assert_eq!(search.survivors(166, 9), [0, 2, 3]);
    // (0.8 + 0 + 0.8 + 0.6) / 4.
    assert!((search.expected[0].mean - 0.55).abs() < 1e-12);
    assert_eq!(search.steps, 4 * 166 + 500);
    // √(0.85 · 0.15 / 99).
    let error = search.trials[0].last().unwrap().standard_error.unwrap();
    assert!((error - 0.035_887).abs() < 1e-5, "{error}");
    assert!(
        tuning.notes[0].starts_with("1 trial run ended"),
        "{:?}",
        tuning.notes
    );
    assert!(tuning.notes[1].contains("odd"));
    let text = markdown(&tuning);
    assert!(text.contains("learning_rate=0.01"), "{text}");
    let view = page_view(&tuning).unwrap();
    assert_eq!(view["table"]["columns"][2]["name"], "best_of_3");
    assert_eq!(view["table"]["rows"][0][0]["text"], "lora");
    assert!(view["plot"]["wide"].as_str().unwrap().contains("<svg"));
    assert!(Tuning::new(&manifest, &[]).is_none());
}

#[test]
fn a_winner_at_an_edge_is_said_and_so_is_what_was_tried_beyond() {
    let note = |trials: &[(f64, &[usize], bool)]| {
        let (manifest, records) = searched([1e-4, 1e-1], trials);
        Tuning::new(&manifest, &records).unwrap().notes[0].clone()
    };
    let first = note(&[
        (0.09, &[80, 85], false),
        (0.01, &[70], false),
        (0.001, &[60], false),
    ]);
    assert!(first.contains("lies at the upper edge"), "{first}");
    let tried = note(&[
        (0.09, &[80, 85], false),
        (0.01, &[70], false),
        (0.001, &[60], false),
        (0.2, &[70], true),
    ]);
    assert!(tried.contains("1 learning rate beyond it"), "{tried}");
    let further = note(&[
        (0.09, &[80, 85], false),
        (0.01, &[70], false),
        (0.001, &[60], false),
        (0.2, &[90], true),
    ]);
    assert!(
        further.contains("a better one may lie further"),
        "{further}"
    );
}
