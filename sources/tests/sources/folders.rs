use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use peftbench_sources::{Error, Source};

use crate::support::{Machine, nobody, sha256, source};

fn folder(machine: &Machine, file: &str) -> Source {
    source(&format!(
        "
files: {{ train: {file} }}
places: [ path: {{ folder: {:?}, files: {{ train: train.csv }} }} ]
",
        machine.path("data")
    ))
}

#[test]
fn a_file_of_a_folder_is_handed_out_when_its_length_and_hash_are_right() {
    let machine = Machine::new();
    let file = machine.write("data/train.csv", b"text,label\n");
    let hash = sha256(b"text,label\n");
    let source = folder(&machine, &format!("{{ sha256: {hash}, bytes: 11 }}"));
    let fetched = machine.offline().fetch("mine", &source).unwrap();
    assert_eq!(fetched.files["train"], file);
    assert_eq!(
        fetched.place,
        format!("folder {}", machine.path("data").display())
    );
    assert_eq!(fetched.warnings, Vec::<String>::new());
}

#[test]
fn a_truncated_file_is_named_with_both_lengths() {
    let machine = Machine::new();
    let file = machine.write("data/train.csv", b"text,lab");
    let source = folder(&machine, "{ bytes: 11 }");
    let error = machine.offline().fetch("mine", &source).unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains(&file.display().to_string())
            && message.contains("expected 11 bytes, found 8 bytes"),
        "{message}"
    );
}

#[test]
fn a_corrupted_file_is_named_with_both_hashes_and_left_alone() {
    let machine = Machine::new();
    let file = machine.write("data/train.csv", b"text,lebal\n");
    let (expected, actual) = (sha256(b"text,label\n"), sha256(b"text,lebal\n"));
    let source = folder(&machine, &format!("{{ sha256: {expected} }}"));
    let error = machine.online(&nobody()).fetch("mine", &source);
    let message = error.unwrap_err().to_string();
    assert!(
        message.contains(&format!(
            "expected sha256 {expected}, found sha256 {actual}"
        )),
        "{message}"
    );
    assert_eq!(fs::read(file).unwrap(), b"text,lebal\n");
}

#[test]
fn a_verified_file_is_believed_until_its_length_or_time_changes() {
    let machine = Machine::new();
    let path = machine.write("data/train.csv", b"good");
    let source = folder(&machine, &format!("{{ sha256: {} }}", sha256(b"good")));
    let fetcher = machine.offline();
    fetcher.fetch("mine", &source).unwrap();

    // The same length and time: nobody reads it again.
    let changed = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, b"evil").unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    file.set_modified(changed).unwrap();
    fetcher.fetch("mine", &source).unwrap();

    let later: SystemTime = changed + Duration::from_secs(1);
    file.set_modified(later).unwrap();
    fetcher.fetch("mine", &source).unwrap_err();
}

#[test]
fn a_place_may_have_other_bytes_with_a_hash_of_its_own() {
    let machine = Machine::new();
    machine.write("data/train.csv", b"with a byte order mark");
    let source = |hash: &str| {
        source(&format!(
            "
files: {{ train: {{ sha256: {}, bytes: 5 }} }}
places: [ path: {{ folder: {:?}, files: {{ train: train.csv }}, hashes: {{ train: {hash} }} }} ]
",
            sha256(b"other"),
            machine.path("data")
        ))
    };
    let right = source(&sha256(b"with a byte order mark"));
    machine.offline().fetch("mine", &right).unwrap();
    let wrong = source(&sha256(b"something else"));
    machine.offline().fetch("mine", &wrong).unwrap_err();
}

#[test]
fn an_optional_file_that_is_not_there_is_left_out_and_a_required_one_is_named() {
    let machine = Machine::new();
    machine.write("data/train.csv", b"x");
    let source = |optional: bool| {
        source(&format!(
            "
files: {{ train: {{}}, test: {{ optional: {optional} }} }}
places: [ path: {{ folder: {:?}, files: {{ train: train.csv, test: test.csv }} }} ]
",
            machine.path("data")
        ))
    };
    let fetched = machine.offline().fetch("mine", &source(true)).unwrap();
    assert_eq!(fetched.files.into_keys().collect::<Vec<_>>(), ["train"]);

    let error = machine.offline().fetch("mine", &source(false)).unwrap_err();
    assert!(error.to_string().contains("test.csv does not exist"));
}

#[test]
fn a_source_with_problems_is_refused_before_anything_is_looked_for() {
    let machine = Machine::new();
    let error = machine
        .offline()
        .fetch("mine", &source("{files: {}, places: []}"))
        .unwrap_err();
    assert!(matches!(&error, Error::Spec { problems, .. } if problems.len() == 2));
    assert!(
        error
            .to_string()
            .starts_with("the source of mine is not valid:\n  1. files: is empty")
    );
}
