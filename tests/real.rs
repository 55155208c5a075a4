//! The main job on the real backbone and real data, where they can be had.

use std::{fs, path::Path, process::Command};

use serde_json::Value;

use crate::support::skip;

/// Runs the command with the caches of this machine; `None` with a printed reason if it fails.
fn peftbench(folder: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_peftbench"))
        .current_dir(folder)
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        skip("real", format!("{arguments:?}: {said}"));
        return None;
    }
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn all_methods_train_on_the_real_backbone_with_the_published_numbers_of_parameters() {
    if kernels::reference_path() {
        skip("reference", "the reference path takes minutes for it");
        return;
    }
    let place = tempfile::tempdir().unwrap();
    if peftbench(place.path(), &["fetch", "minilm", "movie_snippets"]).is_none() {
        return;
    }
    // From here on nothing may fail: everything that comes from elsewhere is there.
    let table = peftbench(
        place.path(),
        &[
            "compare",
            "sst2",
            "--methods",
            "prompt_tuning,lora,adapter,head_only",
            "--seeds",
            "1",
            "--out",
            "out",
            "--set",
            "recipe.steps=3",
            "--set",
            "recipe.evaluations=1",
            "--set",
            "backbone.pooling=cls",
        ],
    )
    .expect("the comparison ends well");
    let mut found = 0;
    for file in crate::support::record_files(&place.path().join("out/records")) {
        let record: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
        assert_eq!(record["status"]["is"], "ok", "{record}");
        let checks = record["outcome"]["checks"].as_array().unwrap();
        assert!(checks.iter().all(|c| c["passed"] == true), "{checks:?}");
        let parameters = &record["outcome"]["parameters"];
        let (name, expected) = match record["asked"]["method"]["name"].as_str().unwrap() {
            "prompt_tuning" => ("prompt_tuning", 20 * 384),
            "lora" => ("lora", 6 * 2 * 2 * 8 * 384),
            "adapter" => ("adapter", 12 * (2 * 384 * 24 + 24 + 384)),
            "head_only" => ("head_only", 0),
            _ => continue,
        };
        found += 1;
        assert_eq!(parameters["method"], expected, "{name}");
        assert_eq!(parameters["head"], 770, "{name}");
        assert!(table.contains(name), "{table}");
        let stand_in = !record["asked"]["dataset"]["stand_in_for"].is_null();
        assert_eq!(table.contains("stand-in"), stand_in, "{table}");
    }
    assert_eq!(found, 4);
}
