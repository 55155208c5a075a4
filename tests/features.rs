//! What the bare backbone makes of the validation split is computed once for all seeds and methods.

use std::fs;

use serde_json::Value;

use crate::support::{Place, record_files, tiny_backbone};

/// What each run over the bare backbone predicts, by its method and seed.
fn predictions(place: &Place, out: &str, more: &[&str]) -> Vec<(String, Value)> {
    let (data, backbone) = (place.reviews(), tiny_backbone());
    let mut arguments = vec![
        "compare",
        data.to_str().unwrap(),
        "--text-column=review",
        "--label-column=stars",
        "--backbone",
        backbone.to_str().unwrap(),
        "--methods=head_only,linear_probe,random_features,lora",
        "--seeds=2",
        "--set=recipe.steps=3",
        "--set=recipe.evaluations=2",
        "--out",
        out,
    ];
    arguments.extend(more);
    place.ok(&arguments);
    let mut all: Vec<(String, Value)> = record_files(&place.path().join(out).join("records"))
        .into_iter()
        .map(|file| {
            let record: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
            assert_eq!(record["status"]["is"], "ok", "{record}");
            let asked = &record["asked"];
            let name = format!("{} {}", asked["method"]["name"], asked["seed"]);
            (name, record["outcome"]["predictions"].clone())
        })
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

#[test]
fn runs_over_the_bare_backbone_share_its_vectors_and_predict_what_they_would_alone() {
    let place = Place::new();
    let kept = || record_count(&place, "cache/features");
    let first = predictions(&place, "first", &[]);
    assert_eq!(first.len(), 8);
    assert_eq!(kept(), 1, "one file for all seeds and methods");
    // With the vectors that others have left, and again without them.
    assert_eq!(predictions(&place, "second", &[]), first);
    fs::remove_dir_all(place.path().join("cache/features")).unwrap();
    assert_eq!(predictions(&place, "third", &[]), first);
    // What gives other vectors has a file of its own.
    predictions(&place, "cls", &["--set=backbone.pooling=cls"]);
    predictions(&place, "half", &["--set=backbone.precision=bf16"]);
    predictions(&place, "short", &["--set=recipe.max_tokens=4"]);
    assert_eq!(kept(), 4);
}

fn record_count(place: &Place, folder: &str) -> usize {
    let entries = fs::read_dir(place.path().join(folder)).unwrap();
    entries
        .filter(|e| e.as_ref().unwrap().path().is_file())
        .count()
}
