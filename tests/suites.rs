//! Suites: a comparison per data set, and the verdict over all of them.

use serde_json::Value;

use crate::support::{Place, record_files, tiny_backbone};

/// A suite of two files of the user's own; the second is about the words' other half.
fn suite(place: &Place) -> String {
    let rows = |a: &str, b: &str| {
        let row = |i: usize| match i % 2 {
            0 => format!("{a} number {i},up\n"),
            _ => format!("{b} number {i},down\n"),
        };
        format!("text,label\n{}", (0..200).map(row).collect::<String>())
    };
    place.file("films.csv", rows("good fine great", "bad poor awful"));
    place.file("tales.csv", rows("short story", "long film"));
    let yaml = "title: Two kinds of texts\nabout: Films and tales.\ndatasets: [films.csv, tales.csv]\n\
                methods: [majority, head_only, lora]\nset: { recipe.steps: 12, recipe.batch: 8 }\n";
    place.file("mine.yaml", yaml).display().to_string()
}

fn arguments<'a>(suite: &'a str, backbone: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec![
        "compare",
        suite,
        "--backbone",
        backbone,
        "--budget",
        "quick",
        "--seeds",
        "3",
        "--out",
        "out",
    ];
    arguments.extend(more);
    arguments
}

#[test]
fn a_suite_compares_every_data_set_and_says_what_holds_over_all_of_them() {
    let place = Place::new();
    let (suite, backbone) = (suite(&place), tiny_backbone());
    let backbone = backbone.to_str().unwrap();
    let before = place.ok(&arguments(&suite, backbone, &["--dry-run"]));
    assert!(before.starts_with("18 of 18 runs to make"), "{before}");
    assert!(
        before.contains("how long majority, head_only and lora takes is not known"),
        "{before}"
    );
    assert!(!place.path().join("out").exists());
    let said = place.ok(&arguments(&suite, backbone, &[]));
    for word in [
        "films",
        "tales",
        "average",
        "the first is",
        "Over 2 data sets",
        "lora",
    ] {
        assert!(said.contains(word), "'{word}' is not in {said}");
    }
    for name in ["films", "tales"] {
        let folder = place.path().join("out").join(name).join("records");
        assert_eq!(record_files(&folder).len(), 9);
    }
    let verdict = std::fs::read(place.path().join("out/suite.json")).unwrap();
    let verdict: Value = serde_json::from_slice(&verdict).unwrap();
    assert_eq!(verdict["title"], "Two kinds of texts");
    // The floor is in the matrix and takes no part in the verdict.
    assert_eq!(verdict["tables"][0]["rows"].as_array().unwrap().len(), 3);
    assert_eq!(verdict["tables"][1]["rows"].as_array().unwrap().len(), 1);
    let page = std::fs::read_to_string(place.path().join("out/report.html")).unwrap();
    assert!(page.contains("Two kinds of texts: the verdict over all data sets"));
    // Started again, it makes nothing, and knows what it would have cost.
    let after = place.ok(&arguments(&suite, backbone, &["--dry-run"]));
    assert!(after.starts_with("0 of 18 runs to make"), "{after}");
    let more = place.ok(&arguments(
        &suite,
        backbone,
        &["--dry-run", "--set", "recipe.steps=13"],
    ));
    assert!(more.starts_with("18 of 18 runs to make, about "), "{more}");
}

#[test]
fn data_sets_of_a_suite_that_are_not_found_are_named_at_once_before_any_run() {
    let place = Place::new();
    let backbone = tiny_backbone();
    let backbone = backbone.to_str().unwrap();
    place.refused(
        &arguments("glue-small", backbone, &["--offline"]),
        &["suite 'glue-small'", "cola", "mrpc", "rte", "stsb", "sst2"],
    );
    let one = place
        .file("one.yaml", "title: One\ndatasets: [sst2]\n")
        .display()
        .to_string();
    place.refused(
        &arguments(&one, backbone, &[]),
        &["one.yaml", "two or more"],
    );
    let twice = place
        .file("twice.yaml", "title: T\ndatasets: [sst2, sst2]\n")
        .display()
        .to_string();
    place.refused(
        &arguments(&twice, backbone, &[]),
        &["'sst2' is there twice"],
    );
    let odd = place
        .file(
            "odd.yaml",
            "title: T\ndatasets: [sst2, rte]\nmethod: [lora]\n",
        )
        .display()
        .to_string();
    place.refused(
        &arguments(&odd, backbone, &[]),
        &["odd.yaml", "method", "methods"],
    );
}
