use std::fs;

use super::*;

#[test]
fn every_yaml_of_the_folder_is_in_the_registry_and_valid() {
    let mut found: Vec<String> = fs::read_dir(env!("CARGO_MANIFEST_DIR"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| extension(path) == "yaml")
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    found.sort();
    let mut known: Vec<_> = names().collect();
    known.sort();
    assert_eq!(found, known);
    for name in names() {
        let spec = spec(name).unwrap();
        assert_eq!(spec.name, name);
        assert!(!spec.licence.is_empty() && !spec.citation.is_empty() && !spec.homepage.is_empty());
        assert!(spec.stand_in.is_none_or(|name| super::spec(&name).is_ok()));
    }
}

#[test]
fn of_the_sets_from_packages_that_repeat_texts_each_is_taken_once() {
    for name in [
        "newsgroups20",
        "reuters8",
        "sarcasm",
        "chinese_reviews",
        "peoples_daily_entities",
    ] {
        assert!(spec(name).unwrap().distinct, "{name}");
    }
}

#[test]
fn the_main_metric_is_the_first() {
    let main = |name| spec(name).unwrap().metrics[0];
    assert_eq!(main("sst2"), Metric::Accuracy);
    assert_eq!(main("cola"), Metric::Matthews);
    assert_eq!(main("mrpc"), Metric::F1);
    assert_eq!(main("rte"), Metric::Accuracy);
}

#[test]
fn an_unknown_data_set_is_refused_with_the_names_there_are() {
    let message = spec("sst3").unwrap_err().to_string();
    assert!(message.contains("'sst3'"), "{message}");
    for name in names() {
        assert!(message.contains(name), "{message}");
    }
}

fn yaml(changed: &str) -> String {
    format!(
        "name: mine\nsource: {{ files: {{ rows: {{}} }}, places: [path: {{ folder: ., files: {{ rows: a.csv }} }}] }}\n\
         splits: {{ train: rows }}\n{changed}"
    )
}

#[track_caller]
fn refused(changed: &str, words: &[&str]) {
    let message = DatasetSpec::from_yaml(&yaml(changed), "mine.yaml")
        .unwrap_err()
        .to_string();
    for word in ["mine.yaml"].iter().chain(words) {
        assert!(message.contains(word), "{word:?} is not in {message:?}");
    }
}

#[test]
fn a_minimal_yaml_is_enough() {
    DatasetSpec::from_yaml(&yaml("text: [a]\nlabel: { column: b }\n"), "mine.yaml").unwrap();
}

#[test]
fn an_unknown_key_is_refused_with_the_keys_there_are() {
    refused(
        "text: [a]\nlabel: { column: b }\nlicense: MIT\n",
        &["license", "licence", "stand_in", "line 6"],
    );
    refused(
        "text: [a]\nlabel: { colum: b }\n",
        &["label", "colum", "column", "threshold"],
    );
}

#[test]
fn keys_that_contradict_each_other_are_refused_all_at_once() {
    refused(
        "text: [a, b, a]\nlabel: { column: b, threshold: 0, names: [x] }\nmetrics: []\ncolumns: [a]\n",
        &[
            "text: 3 columns",
            "'b' is used twice",
            "label.names: [x]",
            "label.threshold",
            "metrics",
            "`format: csv`",
        ],
    );
}

#[test]
fn an_unknown_metric_is_refused_with_the_metrics_there_are() {
    refused(
        "text: [a]\nlabel: { column: b }\nmetrics: [bleurt]\n",
        &["bleurt", "accuracy", "matthews"],
    );
}

#[test]
fn a_format_that_is_not_known_is_refused_with_those_that_are() {
    let message = spec_from_path(Path::new("rows.xlsx"), &FileOptions::default())
        .unwrap_err()
        .to_string();
    for word in [
        "rows.xlsx",
        "'xlsx'",
        ".csv",
        ".tsv",
        ".jsonl",
        ".parquet",
        ".yaml",
    ] {
        assert!(message.contains(word), "{message}");
    }
}

#[test]
fn a_missing_file_is_refused_by_name() {
    let message = spec_from_path(Path::new("no/such.csv"), &FileOptions::default())
        .unwrap_err()
        .to_string();
    assert!(message.contains("no/such.csv"), "{message}");
}

#[test]
fn folders_of_a_users_yaml_start_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.yml");
    fs::write(&path, yaml("text: [a]\nlabel: { column: b }\n")).unwrap();
    let spec = spec_from_path(
        &path,
        &FileOptions {
            text_columns: vec!["words".into()],
            label_column: Some("class".into()),
            metric: Some("macro_f1".into()),
            ..FileOptions::default()
        },
    )
    .unwrap();
    assert_eq!(spec.metrics, [Metric::MacroF1, Metric::Accuracy]);
    assert_eq!(spec.text, ["words"]);
    assert_eq!(spec.label.column, "class");
    let Place::Path(place) = &spec.source.places[0] else {
        panic!("{:?}", spec.source.places)
    };
    assert_eq!(place.folder, folder.path().join("."));
}
