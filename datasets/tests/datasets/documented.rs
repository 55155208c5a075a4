//! docs/DATASETS.md: every example of it is valid, and those whose files stand there are read.

use std::collections::BTreeMap;

use peftbench_datasets::{FileOptions, Split, Target, read, spec_from_path};
use sources::Place;

use crate::support::*;

const DOC: &str = include_str!("../../../docs/DATASETS.md");

/// Fenced blocks that have a file's name, by name.
fn blocks() -> BTreeMap<&'static str, String> {
    let mut blocks = BTreeMap::new();
    let mut open: Option<&str> = None;
    for line in DOC.lines() {
        match (line.strip_prefix("```"), open) {
            (Some(info), None) => {
                open = Some(info.split_once(' ').map_or("", |(_, name)| name));
            }
            (Some(_), Some(_)) => open = None,
            (None, Some(name)) if !name.is_empty() => {
                let block: &mut String = blocks.entry(name).or_default();
                block.push_str(line);
                block.push('\n');
            }
            _ => {}
        }
    }
    blocks
}

#[test]
fn every_example_is_valid_and_those_with_files_are_read() {
    let folder = Folder::new();
    let blocks = blocks();
    for (name, contents) in &blocks {
        folder.write(name, contents);
    }
    let mut read_names = Vec::new();
    let yamls = blocks.keys().filter(|name| name.ends_with(".yaml"));
    for name in yamls.clone() {
        let spec = spec_from_path(&folder.path().join(name), &FileOptions::default())
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        let Place::Path(place) = &spec.source.places[0] else {
            continue;
        };
        let mut files = BTreeMap::new();
        for (file, path) in &place.files {
            let path = place.folder.join(path);
            if path.exists() {
                files.insert(file.clone(), path);
            }
        }
        for also in &spec.also {
            files.insert(also.name.clone(), folder.path().join("more.tsv"));
        }
        let data = read(&spec, &files).unwrap_or_else(|e| panic!("{name}: {e}"));
        read_names.push(data.name.clone());
        if data.name == "spoken" {
            assert_eq!(data.labels, ["B-LOC", "B-PER", "I-PER", "O"]);
            let splits = [Split::Train, Split::Validation, Split::Test];
            let rows = splits.map(|split| data.split(split)).concat();
            let first = rows.iter().find(|row| row.text.starts_with("江")).unwrap();
            assert_eq!(first.text, "江\n泽民\n在\n北京\n讲话");
            assert_eq!(first.label, Some(Target::Tags(vec![1, 2, 3, 0, 3])));
        }
        let splits = [Split::Train, Split::Validation, Split::Test];
        let kinds = splits.iter().flat_map(|split| data.split(*split));
        let mut kinds = kinds.filter_map(|row| row.label.as_ref().map(Target::objective));
        assert!(kinds.all(|kind| kind == spec.objective), "{name}");
        if data.name == "moods" {
            let splits = [Split::Train, Split::Validation, Split::Test];
            let rows = splits.map(|split| data.split(split)).concat();
            let of = |class| Some(Target::Class(class));
            let count = |class| rows.iter().filter(|row| row.label == of(class)).count();
            assert_eq!(
                (count(0), count(1), data.labels.as_slice()),
                (5, 5, &["glad", "sad"].map(String::from)[..])
            );
            let said = data.notes.join("\n");
            assert!(
                said.contains("1 rows that repeat the text of another row"),
                "{said}"
            );
        }
        if data.name == "pairs" {
            assert_eq!(data.split(Split::Train).len(), 6);
            assert_eq!(data.split(Split::Validation).len(), 4);
            assert!(data.split(Split::Train)[4].text.starts_with("\"Stop,\""));
        }
    }
    assert_eq!(yamls.count(), 11);
    assert_eq!(
        read_names,
        [
            "facts",
            "moods",
            "names",
            "pairs",
            "ratings",
            "ratings_as_numbers",
            "reviews",
            "spoken",
            "topics"
        ]
    );
}

#[test]
fn every_key_of_a_data_set_stands_in_the_examples() {
    let folder = Folder::new();
    let unknown = folder.write("unknown.yaml", "zzz: 1\n");
    let error = spec_from_path(&unknown, &FileOptions::default())
        .unwrap_err()
        .to_string();
    let known = error
        .split("known: ")
        .nth(1)
        .unwrap()
        .split(')')
        .next()
        .unwrap();
    assert!(known.split(", ").count() >= 20, "{known}");
    for key in known.split(", ").filter(|key| *key != "stand_in") {
        assert!(
            DOC.contains(&format!("\n{key}:")),
            "{key} is not in docs/DATASETS.md"
        );
    }
}
