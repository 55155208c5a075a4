//! Timing saved weights without training, and the study of domains, on a tiny backbone.

use std::fs;

use serde_json::Value;

use crate::{
    decoders::model,
    support::{Place, few_steps, record_files, tiny_backbone},
};

#[test]
fn saved_weights_are_timed_side_by_side_with_the_backbone_measured_twice() {
    let place = Place::new();
    let (lora, prompt) = (
        place.trained("lora", &[]),
        place.trained("prompt_tuning", &[]),
    );
    let arguments = [
        "latency",
        "--weights",
        &lora,
        &prompt,
        "--batches=1,5",
        "--lengths=8,60",
        "--seconds=0.01",
        "--no-sentences",
    ];
    let json: Value =
        serde_json::from_str(&place.ok(&[&arguments[..], &["--json"]].concat())).unwrap();
    let cells = json["cells"].as_array().unwrap();
    let of = |weights: &str, batch: u64, length: u64| -> Vec<&str> {
        cells
            .iter()
            .filter(|c| c["weights"] == weights && c["batch"] == batch && c["length"] == length)
            .map(|c| c["variant"].as_str().unwrap())
            .collect()
    };
    assert_eq!(of("–", 1, 8), ["backbone", "backbone_again"]);
    // One row has no room for four tasks, and 60 tokens none for 20 virtual ones among 64 positions.
    assert_eq!(of("lora", 1, 60), ["unmerged", "merged"]);
    assert_eq!(of("lora", 5, 60), ["unmerged", "merged", "mixed_4"]);
    assert_eq!(of("prompt_tuning", 5, 8), ["unmerged", "mixed_4"]);
    assert!(of("prompt_tuning", 5, 60).is_empty());
    assert_eq!(of("all of them", 5, 8), ["mixed_2"]);
    for cell in cells {
        let at = |p: &str| cell[p].as_f64().unwrap();
        assert!(0.0 < at("p50_ms") && at("p50_ms") <= at("p90_ms") && at("p90_ms") <= at("p99_ms"));
        assert!(cell["samples"].as_u64().unwrap() >= 5, "{cell}");
    }
    assert!(json["noise_floor"].as_f64().unwrap() >= 0.0);
    for weights in json["weights"].as_array().unwrap() {
        assert!(
            weights["resident_bytes"].as_u64().unwrap() < weights["file_bytes"].as_u64().unwrap()
        );
    }
    let table = place.ok(&[&arguments[..], &["--out=out"]].concat());
    assert!(
        table.contains("batch 5") && table.contains("noise floor"),
        "{table}"
    );
    place.ok(&["report", "--records=out"]);
    let page = fs::read_to_string(place.path().join("out/report.html")).unwrap();
    assert!(page.contains("Latency by batch and length") && page.contains("mixed_4"));
    place.refused(
        &format!("latency --weights {lora} --batches=0"),
        &["--batches", "accepted: 1 to"],
    );
    place.refused(&["latency", "--weights", "nowhere"], &["nowhere"]);

    // A record keeps a part of the grid, from the same passes.
    let id = lora.rsplit('/').next().unwrap();
    let record = fs::read(place.path().join(format!("out/records/{id}.json"))).unwrap();
    let record: Value = serde_json::from_slice(&record).unwrap();
    let latency = record["cost"]["latency"].as_array().unwrap();
    for (batch, variants) in [
        (1, vec!["backbone", "backbone_again", "unmerged", "merged"]),
        (
            8,
            vec![
                "backbone",
                "backbone_again",
                "unmerged",
                "merged",
                "mixed_4",
            ],
        ),
    ] {
        let found: Vec<_> = latency
            .iter()
            .filter(|l| l["batch"] == batch)
            .map(|l| l["variant"].as_str().unwrap())
            .collect();
        assert_eq!(found, variants);
    }
    // Rank 8 on the default modules of two layers, and a head of 2 × 32 + 2 numbers.
    let resident = record["cost"]["resident_bytes"].as_u64().unwrap();
    let parameters = &record["outcome"]["parameters"];
    let numbers = parameters["method"].as_u64().unwrap() + parameters["head"].as_u64().unwrap();
    assert_eq!(resident, 4 * numbers);
}

#[test]
fn sentences_that_begin_with_a_template_are_timed_with_its_beginning_read_beforehand_too() {
    let place = Place::new();
    let data = place.reviews();
    let (data, model) = (data.to_str().unwrap(), model(&place, "llama_scaled"));
    let words = ["--template=review : {text} is", "--words=down,up"];
    let train = few_steps("train", data, model.to_str().unwrap(), &words);
    let weights = place.ok(&[&train[..], &["--method=lora"]].concat());
    let json = place.ok(&[
        "latency",
        "--weights",
        weights.trim(),
        "--batches=1,5",
        "--lengths=8",
        "--seconds=0.01",
        "--dataset",
        data,
        "--text-column=review",
        "--label-column=stars",
        "--json",
    ]);
    let json: Value = serde_json::from_str(&json).unwrap();
    let cells = json["cells"].as_array().unwrap();
    for batch in [1, 5] {
        let of = |length: Value| -> Vec<&str> {
            cells
                .iter()
                .filter(|c| c["batch"] == batch && c["length"] == length)
                .map(|c| c["variant"].as_str().unwrap())
                .collect()
        };
        assert!(of(Value::Null).contains(&"prefix_cached"), "{json}");
        // Tokens drawn at random begin in no common way.
        let fixed = of(8.into());
        assert!(fixed.contains(&"unmerged") && !fixed.contains(&"prefix_cached"));
    }
}

#[test]
fn every_domains_weights_are_tried_on_every_domain_and_only_what_is_missing_is_done_again() {
    let place = Place::new();
    for (name, good, bad) in [
        ("films", "good fine", "bad poor"),
        ("books", "great", "awful"),
    ] {
        let mut text = String::from("text,label\n");
        for i in 0..160 {
            let (words, label) = if i % 2 == 0 {
                (good, "up")
            } else {
                (bad, "down")
            };
            text += &format!("{words} number {i},{label}\n");
        }
        place.file(&format!("{name}.csv"), text);
    }
    let backbone = tiny_backbone();
    let arguments = [
        "domains",
        "--datasets=films.csv,books.csv",
        "--methods=lora,prompt_tuning",
        "--backbone",
        backbone.to_str().unwrap(),
        "--set=recipe.steps=4",
        "--set=recipe.evaluations=1",
        "--set=recipe.batch=8",
        "--out=study",
        "--json",
    ];
    let json: Value = serde_json::from_str(&place.ok(&arguments)).unwrap();
    let crossed = json["crossed"].as_array().unwrap();
    // Two methods, three sets of weights, two domains.
    assert_eq!(crossed.len(), 12);
    let record_of = |folder: &str, method: &str| -> Value {
        record_files(&place.path().join("study").join(folder).join("records"))
            .iter()
            .map(|p| serde_json::from_slice::<Value>(&fs::read(p).unwrap()).unwrap())
            .find(|r| r["asked"]["method"]["name"] == method)
            .unwrap()
    };
    for c in crossed {
        if c["trained_on"] == c["evaluated_on"] {
            let folder = c["trained_on"].as_str().unwrap().replace('.', "_");
            let record = record_of(&folder, c["method"].as_str().unwrap());
            let last = record["outcome"]["evaluations"]
                .as_array()
                .unwrap()
                .last()
                .unwrap();
            assert_eq!(c["value"], last["metrics"]["accuracy"], "{c}");
        }
    }
    // The one set is trained on the training rows of all and on no row that a domain validates on.
    let facts = |folder: &str| record_of(folder, "lora")["asked"]["dataset"].clone();
    for split in ["train_examples", "validation_examples"] {
        let sum: u64 = ["films_csv", "books_csv"]
            .iter()
            .map(|f| facts(f)[split].as_u64().unwrap())
            .sum();
        assert_eq!(facts("all_domains")[split], sum, "{split}");
    }
    let lines = json["lines"].as_array().unwrap();
    let weights: Vec<_> = lines
        .iter()
        .map(|l| l["weights"].as_str().unwrap())
        .collect();
    assert_eq!(weights[..3], ["own", "other domains'", "one for all"]);
    assert_eq!(lines.len(), 6);
    let markdown = fs::read_to_string(place.path().join("study/domains.md")).unwrap();
    assert!(markdown.contains("| lora | own |"), "{markdown}");
    assert_eq!(
        fs::read_to_string(place.path().join("study/domains.csv"))
            .unwrap()
            .lines()
            .count(),
        13
    );

    let again = place.run(&arguments);
    assert!(again.status.success());
    let again: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(again, json);

    place.file(
        "other.csv",
        "text,label\n".to_owned()
            + &(0..60)
                .map(|i| format!("text {i},{}\n", i % 3))
                .collect::<String>(),
    );
    place.refused(
        &format!(
            "domains --datasets=films.csv,other.csv --backbone {}",
            backbone.display()
        ),
        &["other.csv", "down, up", "0, 1, 2"],
    );
    place.refused(&["domains", "--datasets=films.csv"], &["at least two"]);
}
