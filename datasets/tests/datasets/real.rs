//! The real data sets, where their files are on this machine.

use std::path::PathBuf;

use peftbench_datasets::{Dataset, Split, Target, read, spec};
use polars::prelude::{Column, IntoColumn, NamedFrom, Series};
use sources::Place;

use crate::{
    skip::skip,
    support::{Folder, numbers, parquet, strings},
};

/// Reads a data set from the Hugging Face cache at `HF_HOME`.
fn from_hub_cache(name: &str) -> Option<Dataset> {
    let home = PathBuf::from(std::env::var_os("HF_HOME").unwrap_or_default());
    let spec = spec(name).unwrap();
    let Place::Hub(hub) = &spec.source.places[0] else {
        panic!("{name} is not on the hub");
    };
    let folder = format!(
        "hub/datasets--{}/snapshots/{}",
        hub.repo.replace('/', "--"),
        hub.revision
    );
    let files = hub
        .files
        .iter()
        .map(|(file, path)| (file.clone(), home.join(&folder).join(path)));
    let files: std::collections::BTreeMap<_, _> = files.collect();
    if !files.values().all(|path| path.exists()) {
        skip(
            "real",
            format!(
                "{name} is not in the Hugging Face cache at {}",
                home.display()
            ),
        );
        return None;
    }
    Some(read(&spec, &files).unwrap())
}

#[track_caller]
fn check(data: &Dataset, split: Split, rows: usize, ones: Option<usize>) {
    let examples = data.split(split);
    assert_eq!(examples.len(), rows, "{} {}", data.name, split.name());
    match ones {
        Some(ones) => assert_eq!(
            examples
                .iter()
                .filter(|e| e.label == Some(Target::Class(1)))
                .count(),
            ones
        ),
        None => assert!(examples.iter().all(|e| e.label.is_none())),
    }
    let texts = examples
        .iter()
        .flat_map(|e| [Some(&e.text), e.pair.as_ref()])
        .flatten();
    for text in texts {
        assert!(!text.is_empty() && text.trim() == text, "{text:?}");
    }
}

// Counts of class 1 were made with pyarrow 26.0.1 from the same files.

#[test]
fn sst2_has_its_rows_and_no_white_space_around_them() {
    let Some(data) = from_hub_cache("sst2") else {
        return;
    };
    assert_eq!(data.labels, ["negative", "positive"]);
    assert!(data.made.is_empty());
    check(&data, Split::Train, 67_349, Some(37_569));
    check(&data, Split::Validation, 872, Some(444));
    check(&data, Split::Test, 1_821, None);
    let first = &data.split(Split::Train)[0];
    assert_eq!(
        (first.text.as_str(), first.label.clone()),
        (
            "hide new secretions from the parental units",
            Some(Target::Class(0))
        )
    );
}

#[test]
fn cola_has_its_rows() {
    let Some(data) = from_hub_cache("cola") else {
        return;
    };
    check(&data, Split::Train, 8_551, Some(6_023));
    check(&data, Split::Validation, 1_043, Some(721));
    check(&data, Split::Test, 1_063, None);
}

#[test]
fn mrpc_has_its_pairs() {
    let Some(data) = from_hub_cache("mrpc") else {
        return;
    };
    check(&data, Split::Train, 3_668, Some(2_474));
    check(&data, Split::Validation, 408, Some(279));
    check(&data, Split::Test, 1_725, Some(1_147));
    assert!(data.split(Split::Train).iter().all(|e| e.pair.is_some()));
}

#[test]
fn rte_has_its_pairs() {
    let Some(data) = from_hub_cache("rte") else {
        return;
    };
    assert_eq!(data.labels, ["entailment", "not_entailment"]);
    check(&data, Split::Train, 2_490, Some(1_241));
    check(&data, Split::Validation, 277, Some(131));
    check(&data, Split::Test, 3_000, None);
    assert!(data.split(Split::Train).iter().all(|e| e.pair.is_some()));
}

#[test]
fn chnsenticorp_has_its_rows_but_the_one_without_a_text_and_its_letters() {
    // A file of the published form; the hub's copy is known by its sha256.
    let place = std::env::var_os("PEFTBENCH_CHNSENTICORP").map(PathBuf::from);
    let Some(file) = place.filter(|file| file.exists()) else {
        return skip(
            "chinese",
            "PEFTBENCH_CHNSENTICORP names no copy of ChnSentiCorp_htl_all.csv",
        );
    };
    let spec = spec("chnsenticorp").unwrap();
    let data = read(&spec, &[("rows".to_owned(), file)].into()).unwrap();
    let splits = [Split::Train, Split::Validation, Split::Test];
    let seen = splits.map(|split| data.split(split)).concat();
    // Counted with Python's csv: 7,766 rows, one of label 0 without a text, 5,322 of label 1.
    let of = |class| {
        let label = Some(peftbench_datasets::Target::Class(class));
        seen.iter().filter(|e| e.label == label).count()
    };
    assert_eq!((of(0), of(1)), (2_443, 5_322));
    let has_letters = |text: &str| text.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c));
    assert!(seen.iter().filter(|e| has_letters(&e.text)).count() > 7_700);
    assert_eq!(data.labels, ["negative", "positive"]);
}

#[test]
fn e2e_nlg_is_read_with_all_sentences_of_its_facts_in_one_split() {
    // The challenge's own validation file; the hub's copy has other names for its columns.
    let place = std::env::var_os("PEFTBENCH_E2E").map(PathBuf::from);
    let Some(file) = place.filter(|file| file.exists()) else {
        return skip(
            "e2e",
            "PEFTBENCH_E2E names no copy of the E2E challenge's devset.csv",
        );
    };
    let mut spec = spec("e2e_nlg").unwrap();
    spec.text = vec!["mr".into()];
    spec.label.column = "ref".into();
    spec.splits = [(Split::Train, "train".to_owned())].into();
    spec.rows = [(Split::Train, 4_672)].into();
    let data = read(&spec, &[("train".to_owned(), file)].into()).unwrap();
    // Counted with Python's csv: 4,672 rows of 547 lists of facts.
    let splits = [Split::Train, Split::Validation, Split::Test].map(|split| data.split(split));
    assert_eq!(splits.iter().map(|rows| rows.len()).sum::<usize>(), 4_672);
    let facts = |rows: &[peftbench_datasets::Example]| -> std::collections::BTreeSet<String> {
        rows.iter().map(|e| e.text.clone()).collect()
    };
    let of = splits.map(facts);
    assert_eq!(of.iter().map(|facts| facts.len()).sum::<usize>(), 547);
    assert!(of[0].is_disjoint(&of[1]) && of[1].is_disjoint(&of[2]) && of[0].is_disjoint(&of[2]));
}

#[test]
fn conll2003_and_tnews_are_read_from_files_of_the_form_that_the_hub_has() {
    let folder = Folder::new();
    // Tokens and the numbers of their tags, one list a row.
    let rows = |n: usize| {
        let tokens = ["Ada", "Lovelace", "of", "London"].map(Some);
        let tokens = Series::new("".into(), tokens.as_slice());
        let tags = Series::new("".into(), [1i64, 2, 0, 5].as_slice());
        let list = |name: &str, row: Series| {
            Series::new(name.into(), vec![row; n].as_slice()).into_column()
        };
        vec![list("tokens", tokens), list("ner_tags", tags)]
    };
    let file = |name: &str, columns: Vec<Column>| {
        let path = folder.path().join(format!("{name}.parquet"));
        parquet(&path, columns);
        (name.to_owned(), path)
    };
    let files = [("train", 14_041), ("validation", 3_250), ("test", 3_453)];
    let files = files.map(|(name, n)| file(name, rows(n)));
    let data = read(&spec("conll2003").unwrap(), &files.into()).unwrap();
    assert_eq!(data.split(Split::Train).len(), 14_041);
    let first = &data.split(Split::Test)[0];
    assert_eq!(first.text, "Ada\nLovelace\nof\nLondon");
    assert_eq!(first.label, Some(Target::Tags(vec![1, 2, 0, 5])));
    assert_eq!(data.labels[5], "B-LOC");

    // Headlines with the number of their section.
    let rows = |n: usize| {
        let texts: Vec<String> = (0..n).map(|i| format!("标题 {i}")).collect();
        let texts: Vec<Option<&str>> = texts.iter().map(|text| Some(text.as_str())).collect();
        let labels: Vec<Option<i64>> = (0..n as i64).map(|i| Some(i % 15)).collect();
        vec![strings("sentence", &texts), numbers("label", &labels)]
    };
    let files = [("train", 53_360), ("validation", 10_000)];
    let files = files.map(|(name, n)| file(name, rows(n)));
    let data = read(&spec("tnews").unwrap(), &files.into()).unwrap();
    assert_eq!(data.split(Split::Validation).len(), 10_000);
    assert_eq!(
        data.split(Split::Validation)[14].label,
        Some(Target::Class(14))
    );
    assert_eq!((data.labels.len(), data.labels[14].as_str()), (15, "game"));
}
