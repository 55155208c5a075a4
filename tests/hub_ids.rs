//! Models and data sets of the hub by their id, out of the cache that Python fills.

use std::fs;

use crate::support::{Place, tiny_backbone};

const COMMIT: &str = "1111111111111111111111111111111111111111";

/// Puts files where Python's huggingface_hub would have put them.
fn cached(place: &Place, repository: &str, files: &[(&str, Vec<u8>)]) {
    let folder = place.path().join("hf/hub").join(repository);
    let snapshot = folder.join("snapshots").join(COMMIT);
    fs::create_dir_all(folder.join("refs")).unwrap();
    fs::write(folder.join("refs/main"), COMMIT).unwrap();
    for (name, bytes) in files {
        let file = snapshot.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, bytes).unwrap();
    }
}

fn place() -> Place {
    let place = Place::new();
    let files = ["config.json", "tokenizer.json", "model.safetensors"];
    let net = files.map(|name| (name, fs::read(tiny_backbone().join(name)).unwrap()));
    cached(&place, "models--ada--net", &net);
    let rows = fs::read(place.reviews()).unwrap();
    cached(
        &place,
        "datasets--ada--reviews",
        &[("data/train.csv", rows)],
    );
    place
}

#[test]
fn a_run_over_a_model_and_a_data_set_of_the_hub_says_of_which_commits_they_are() {
    let place = place();
    let arguments = [
        "train",
        "hub:ada/reviews",
        "--text-column",
        "review",
        "--label-column",
        "stars",
        "--backbone",
        "ada/net",
        "--method",
        "lora",
        "--budget",
        "quick",
        "--set",
        "recipe.steps=2",
        "--out",
        "out",
    ];
    place.ok(&arguments);
    let records = place.path().join("out").join("records");
    let record = crate::support::record_files(&records).remove(0);
    let record: serde_json::Value = serde_json::from_slice(&fs::read(record).unwrap()).unwrap();
    assert_eq!(
        record["asked"]["backbone"]["name"],
        format!("ada/net@{COMMIT}")
    );
    assert_eq!(
        record["asked"]["dataset"]["name"],
        "ada--reviews@111111111111"
    );
}

#[test]
fn an_id_that_is_not_here_or_is_none_is_refused_with_what_is_accepted() {
    let place = place();
    let train = |data: &'static str, backbone: &'static str| {
        [
            "train",
            data,
            "--text-column",
            "review",
            "--label-column",
            "stars",
            "--backbone",
            backbone,
            "--method",
            "lora",
        ]
    };
    place.refused(
        &train("hub:ada/nothing", "ada/net"),
        &["not on this machine"],
    );
    place.refused(
        &train("hub:ada/re views", "ada/net"),
        &["is no id of the hub", "hub:owner/name/subset"],
    );
    place.refused(
        &train("hub:ada/reviews", "ada/none"),
        &["there is no folder of that name", "not on this machine"],
    );
}
