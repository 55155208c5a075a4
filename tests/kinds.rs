//! Inputs of every kind that people have, as they are typed: each is read as the Python libraries read it, or refused in
//! words that say what to do. The trials of public reports are run too, where their folder is.

use std::{fs, path::PathBuf, process::Command};

use crate::support::{Place, skip, tiny_backbone};

/// 40 rows of two classes.
fn table(header: &str, row: impl Fn(usize) -> String) -> String {
    let rows: String = (0..40).map(|i| row(i) + "\n").collect();
    format!("{header}\n{rows}")
}

fn plain() -> String {
    table("text,label", |i| {
        format!("text {i},{}", ["neg", "pos"][i % 2])
    })
}

fn objects(of: impl Fn(usize) -> String) -> String {
    (0..40).map(|i| of(i) + "\n").collect()
}

/// A table whose labels repeat these.
fn labels(all: &[&str]) -> String {
    table("text,label", |i| format!("t {i},{}", all[i % all.len()]))
}

/// What a user types, and what has to come: `read` with these words (classes in order, notes), or `refused` with these.
struct Case {
    name: &'static str,
    contents: Vec<u8>,
    more: &'static [&'static str],
    good: bool,
    words: &'static [&'static str],
}

fn read(
    name: &'static str,
    contents: impl Into<Vec<u8>>,
    more: &'static [&'static str],
    words: &'static [&'static str],
) -> Case {
    Case {
        name,
        contents: contents.into(),
        more,
        good: true,
        words,
    }
}

fn refused(
    name: &'static str,
    contents: impl Into<Vec<u8>>,
    more: &'static [&'static str],
    words: &'static [&'static str],
) -> Case {
    Case {
        name,
        contents: contents.into(),
        more,
        good: false,
        words,
    }
}

/// Runs `check` on each.
fn all(cases: Vec<Case>) {
    let place = Place::new();
    let backbone = tiny_backbone();
    for case in cases {
        if !case.contents.is_empty() {
            place.file(case.name, &case.contents);
        }
        let mut arguments = vec!["check", case.name, "--backbone", backbone.to_str().unwrap()];
        arguments.extend(case.more);
        let output = place.run(&arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let code = if case.good { 0 } else { 2 };
        assert_eq!(
            output.status.code(),
            Some(code),
            "{} {:?}: {said}",
            case.name,
            case.more
        );
        assert!(!said.contains("panicked"), "{said}");
        let squeezed = said.split_whitespace().collect::<Vec<_>>().join(" ");
        for word in case.words {
            assert!(
                squeezed.contains(word),
                "{} {:?}: {word:?} is not in: {said}",
                case.name,
                case.more
            );
        }
    }
}

const CLASSES: &[&str] = &["neg 15 4 1 pos 15 2 3"];

#[test]
fn tables_are_read_as_pandas_reads_them_or_named_for_what_they_are() {
    let p = plain();
    let utf16: Vec<u8> = p.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let utf16be: Vec<u8> = [0xfe, 0xff]
        .into_iter()
        .chain(p.encode_utf16().flat_map(u16::to_be_bytes))
        .collect();
    let latin: Vec<u8> = p
        .replace("text 3,", "caf\u{e9} 3,")
        .chars()
        .map(|c| c as u8)
        .collect();
    let json = |i: usize| format!("{{\"text\": \"t {i}\", \"label\": {}}}", i % 2);
    let array = format!("[{}]\n", (0..40).map(json).collect::<Vec<_>>().join(", "));
    let spread = objects(|i| format!("{{\n \"text\": \"t {i}\",\n \"label\": {}\n}}", i % 2));
    all(vec![
        read("plain.csv", p.clone(), &[], CLASSES),
        read("UPPER.CSV", p.clone(), &[], CLASSES),
        read("mark.csv", format!("\u{feff}{p}"), &[], CLASSES),
        read(
            "mark.csv",
            "",
            &["--encoding=utf-16le"],
            &["as its byte-order mark says", "neg 15 4 1"],
        ),
        read("returns.csv", p.replace('\n', "\r"), &[], CLASSES),
        read("mixed.csv", p.replacen('\n', "\r\n", 10), &[], CLASSES),
        read("blank.csv", p.replacen('\n', "\n\n  \n", 5), &[], CLASSES),
        read(
            "quoted.csv",
            p.replacen("text,label", "\"text\",\"label\"", 1),
            &[],
            CLASSES,
        ),
        read(
            "missing-text.csv",
            p.replacen("text 0,", "NA,", 1),
            &[],
            &[
                "missing value are read as texts: 1, the first is 'NA' in line 2",
                "neg 16 3 1",
            ],
        ),
        read(
            "index.csv",
            table(",text,label", |i| format!("{i},t {i},{}", i % 2)),
            &[],
            &["0 17 2 1"],
        ),
        read(
            "trailing.csv",
            table("text,label,", |i| format!("t {i},{},", i % 2)),
            &[],
            &["0 17 2 1"],
        ),
        read(
            "semicolon.csv",
            p.replace(',', ";"),
            &[],
            &["separated by ';'", "neg 15 4 1"],
        ),
        read(
            "pipe.csv",
            p.replace(',', "|"),
            &[],
            &["separated by '|'", "neg 15 4 1"],
        ),
        read(
            "caret.csv",
            p.replace(',', "^"),
            &["--separator=^"],
            CLASSES,
        ),
        read(
            "single.csv",
            table("text,label", |i| format!("'a, {i}',{}", i % 2)),
            &["--quote='"],
            &["1 "],
        ),
        read("be.csv", utf16be, &[], &["read as UTF-16BE", "neg 15 4 1"]),
        read(
            "latin.csv",
            latin.clone(),
            &["--encoding=latin1"],
            &["read as windows-1252"],
        ),
        refused(
            "latin.csv",
            "",
            &[],
            &["line 5, byte 4", "--encoding windows-1252"],
        ),
        refused(
            "latin.csv",
            "",
            &["--encoding=klingon"],
            &["'klingon'", "gb18030"],
        ),
        refused(
            "utf16.csv",
            utf16,
            &[],
            &["looks like UTF-16LE", "--encoding utf-16le"],
        ),
        refused(
            "zip.csv",
            b"PK\x03\x04 and so on".to_vec(),
            &[],
            &["zip archive or an Excel workbook"],
        ),
        refused("bzip.csv", b"BZh91AY and so on".to_vec(), &[], &["bunzip2"]),
        refused(
            "parquet.csv",
            b"PAR1 and so on".to_vec(),
            &[],
            &["parquet file", ".parquet"],
        ),
        refused(
            "not.parquet",
            p.clone(),
            &[],
            &["not.parquet", "not a readable parquet file"],
        ),
        refused("page.csv", "<!DOCTYPE html><html>", &[], &["web page"]),
        refused(
            "pointer.csv",
            "version https://git-lfs.github.com/spec/v1\n",
            &[],
            &["Git LFS pointer"],
        ),
        refused("lines.csv", objects(json), &[], &["holds JSON", ".jsonl"]),
        refused("list.json", array, &[], &["line 1: a JSON list", "jq -c"]),
        refused(
            "spread.jsonl",
            spread,
            &[],
            &["line 1: an object over several lines", "jq -c ."],
        ),
        refused(
            "data.json",
            "{\"data\": []}\n",
            &[],
            &[
                "no column 'text' and no column 'label'",
                "its columns: data",
            ],
        ),
        refused(
            "cut.jsonl",
            "{\"text\": \"a \\ud800\", \"label\": 1}\n",
            &[],
            &["half of a character"],
        ),
        refused(
            "comma.jsonl",
            "{\"text\": \"a\", \"label\": 1,}\n",
            &[],
            &["a comma stands before the end"],
        ),
        refused(
            "python.jsonl",
            "{'text': 'a', 'label': 1}\n",
            &[],
            &["need double quotes"],
        ),
        refused(
            "chat.jsonl",
            objects(|i| format!("{{\"text\": [\"a\"], \"label\": {}}}", i % 2)),
            &[],
            &["40 lines", "is a list"],
        ),
        refused(
            "spaces.csv",
            table("text, label", |i| format!("t {i}, {}", i % 2)),
            &[],
            &["no column 'label'", "did you mean ' label'"],
        ),
        refused(
            "case.csv",
            p.replacen("text,label", "Text,Label", 1),
            &[],
            &["did you mean 'Text' and 'Label'"],
        ),
        refused(
            "twice.csv",
            table("text,text,label", |i| format!("a,b,{}", i % 2)),
            &[],
            &["'text' twice"],
        ),
        refused(
            "open.csv",
            p.replacen("text 0", "\"text 0", 1),
            &[],
            &["line 2: a quote is opened and never closed"],
        ),
        refused(
            "ragged.csv",
            p.clone() + "only one\na,b,c,d\n",
            &[],
            &["line 42: 1 fields", "line 43: 4 fields"],
        ),
        refused(
            "plain.csv",
            "",
            &["--label-column=text"],
            &["'text' is used twice"],
        ),
        refused(
            "plain.csv",
            "",
            &["--separator=||"],
            &["'||'", "one ASCII character"],
        ),
        refused("data.txt", p.clone(), &[], &["extension 'txt'", ".csv"]),
        refused("sheet.xlsx", p.clone(), &[], &["extension 'xlsx'"]),
        refused(".", "", &[], &["is a folder"]),
        refused("nowhere", "", &[], &["there is no data set 'nowhere'"]),
        refused("sst-2", "", &[], &["did you mean 'sst2'"]),
        refused("~/a.csv", "", &[], &["home folder"]),
        refused(
            "https://example.org/a.csv",
            "",
            &[],
            &["addresses are not read"],
        ),
        refused(
            "https://huggingface.co/datasets/ada/reviews",
            "",
            &[],
            &["hub:ada/reviews"],
        ),
        refused(
            "hf://datasets/ada/reviews/train.parquet",
            "",
            &[],
            &["hub:ada/reviews"],
        ),
        refused("ada/reviews", "", &[], &["hub:ada/reviews"]),
    ]);
}

#[test]
fn labels_are_classes_by_value_or_refused_all_at_once() {
    let long = [
        "1234567890123456789012345678901234567890",
        "1234567890123456789012345678901234567891",
    ];
    let digits = |i: usize| {
        format!(
            "{{\"text\": \"t {i}\", \"label\": 12345678901234567890123{}}}",
            i % 2
        )
    };
    let mixed = |i: usize| {
        format!(
            "{{\"text\": \"t {i}\", \"label\": {}}}",
            ["\"0\"", "0", "1"][i % 3]
        )
    };
    let many: Vec<String> = (0..40).map(|i| format!("id{i}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    all(vec![
        read(
            "signed.csv",
            labels(&["-1", "+1"]),
            &[],
            &["-1 17 2 1 1 17 2 1"],
        ),
        read(
            "codes.csv",
            labels(&["01", "02", "1"]),
            &[],
            &["'01', '1' are one class"],
        ),
        read(
            "powers.csv",
            labels(&["1e0", "2e0", "1"]),
            &[],
            &["'1', '1e0' are one class"],
        ),
        read(
            "zero.csv",
            labels(&["-0", "0", "1"]),
            &[],
            &["'-0', '0' are one class"],
        ),
        read(
            "large.csv",
            labels(&["12345678901234567890", "12345678901234567891"]),
            &[],
            &["12345678901234567890 17", "12345678901234567891 17"],
        ),
        read(
            "longer.csv",
            labels(&long),
            &[],
            &[
                "1234567890123456789012345678901234567890 17",
                "1234567890123456789012345678901234567891 17",
            ],
        ),
        read(
            "digits.jsonl",
            objects(digits),
            &[],
            &["123456789012345678901230 17", "123456789012345678901231 17"],
        ),
        refused(
            "float.jsonl",
            objects(|i| format!("{{\"text\": \"t {i}\", \"label\": 1e2{}}}", i % 2)),
            &[],
            &["40 lines", "write it as text"],
        ),
        read("mixed.jsonl", objects(mixed), &[], &["0 22 3 2 1 11 1 1"]),
        read(
            "booleans.csv",
            labels(&["TRUE", "true", "False"]),
            &[],
            &["are one class", "False 11"],
        ),
        read(
            "both.csv",
            labels(&["True", "False", "1", "0"]),
            &[],
            &["read as text", "different classes"],
        ),
        read(
            "around.csv",
            labels(&[" pos", "pos\u{a0}", "neg"]),
            &[],
            &["cut off", "neg 11"],
        ),
        read(
            "case.csv",
            labels(&["Pos", "pos", "neg"]),
            &[],
            &["differ only in case"],
        ),
        read(
            "infinite.csv",
            labels(&["inf", "-inf"]),
            &[],
            &["-inf 17 2 1 inf 17 2 1"],
        ),
        read(
            "letters.csv",
            labels(&["T", "F"]),
            &[],
            &["F 17 2 1 T 17 2 1"],
        ),
        read("percent.csv", labels(&["10%", "20%"]), &[], &["10% 17"]),
        refused(
            "missing.csv",
            labels(&["null", "pos", "neg"]),
            &[],
            &["14 lines", "('null')", "and 4 more", "--drop-missing"],
        ),
        read(
            "missing.csv",
            "",
            &["--drop-missing"],
            &["14 rows without a text or a label were left out"],
        ),
        refused(
            "ids.csv",
            labels(&many),
            &[],
            &["40 different values in 40 rows", "completion"],
        ),
        refused(
            "numbers.csv",
            table("text,label", |i| format!("t {i},{}", i as f64 / 7.0)),
            &[],
            &["regression", "label.threshold"],
        ),
        refused(
            "one.csv",
            labels(&["pos"]),
            &[],
            &["one.csv", "column 'label'", "'pos'", "two classes"],
        ),
        refused(
            "lists.jsonl",
            objects(|_| "{\"text\": \"t\", \"label\": [\"a\"]}".into()),
            &[],
            &["40 lines", "column 'label' is a list"],
        ),
    ]);
}

#[test]
fn metrics_go_by_the_names_of_other_libraries_only_with_a_hint() {
    let mut cases: Vec<Case> = ["accuracy", "f1", "macro_f1", "weighted_f1", "matthews"]
        .map(|name| {
            read(
                "plain.csv",
                plain(),
                Box::leak(vec![&*format!("--metric={name}").leak()].into_boxed_slice()),
                CLASSES,
            )
        })
        .into();
    for (more, near) in [
        (&["--metric=f1_macro"], &["did you mean 'macro_f1'"]),
        (&["--metric=f1_weighted"], &["did you mean 'weighted_f1'"]),
        (&["--metric=mcc"], &["did you mean 'matthews'"]),
        (&["--metric=F1"], &["did you mean 'f1'"]),
        (&["--metric=auc"], &["known: accuracy"]),
    ] {
        cases.push(refused("plain.csv", plain(), more, near));
    }
    all(cases);
}

/// Trials of public reports: the folder, and what its commands have to print (each at least so many times).
const TRIALS: &[(&str, &[(&str, usize)])] = &[
    (
        "01a-tokenizer-config-bert",
        &[("[0.1226", 1), ("0.8844", 1)],
    ),
    (
        "01b-tokenizer-config-roberta",
        &[("[-0.5565", 1), ("-0.8398", 1)],
    ),
    ("02-roberta-pad-in-text", &[("[0.2150", 1), ("-1.4663", 1)]),
    ("03-is-decoder", &[("is_decoder: true is not supported", 1)]),
    (
        "04a-id2label",
        &[("accuracy 1.0000", 1), ("positive", 1), ("negative", 1)],
    ),
    ("04b-import-labels", &[("accuracy 1.0000", 1)]),
    ("06-label-spellings", &[("\"labels\": [", 3)]),
    ("08-tsv-quotes", &[("\"neg\",", 1), ("\"pos\"", 1)]),
    ("09-strip", &[("accuracy 1.0000", 1)]),
    ("10-macro-f1", &[("f1 1.0000", 1)]),
    (
        "13-hub-cache-stale",
        &[("web page (HTML)", 1), ("/weights/", 1)],
    ),
    ("14-revision", &[("revision e4ce9877", 1)]),
    ("15-model-type-and-digest", &[("[0.00380", 2)]),
    ("16-parquet-decimal", &[("majority", 1), ("/weights/", 1)]),
    ("18-config-keys", &[("[-0.63168", 4), ("0.61690", 4)]),
    // 1.289730: one of two ends of five digits, by the order of a sum.
    (
        "19-adapterhub-legacy",
        &[("[1.28972|[1.28973", 4), ("-2.75383", 4)],
    ),
    ("20-peft-eva", &[("[-0.63168", 3)]),
    ("23-backbone-layouts", &[("[-0.63168", 2)]),
    (
        "25-lfs-pointer",
        &[("Git LFS pointer", 1), ("git lfs pull", 1)],
    ),
    (
        "26-predict-input",
        &[("\"id\":7", 1), ("a JSON list", 1), ("UTF-16LE", 1)],
    ),
    ("28-rare-class-split", &[("\"rare\"", 3)]),
    (
        "29-unclear-folders",
        &[
            ("weights/myadapter", 1),
            ("--backbone names another place", 1),
        ],
    ),
    ("30-report-odds", &[("runs in", 1)]),
];
/// Trials that print nothing where they are right: what they pass on is what a record would say, and there is none.
const SILENT: &[&str] = &["07-missing-labels", "12-continuous-label"];

#[test]
fn the_trials_of_public_reports_are_right() {
    let near = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/trials");
    let folder = std::env::var_os("PEFTBENCH_TRIALS").map_or(near, PathBuf::from);
    if !folder.is_dir() {
        skip(
            "trials",
            "the folder of trials is not there; PEFTBENCH_TRIALS names it",
        );
        return;
    }
    let place = Place::new();
    let run = |name: &str| {
        let output = Command::new("bash")
            .arg(folder.join(name).join("cmd.sh"))
            .env("PEFTBENCH", env!("CARGO_BIN_EXE_peftbench"))
            .env("TRIAL_OUT", place.path().join("out"))
            .env("PEFTBENCH_CACHE", place.path().join("cache"))
            .output()
            .unwrap();
        [output.stdout, output.stderr]
            .map(|o| String::from_utf8_lossy(&o).into_owned())
            .concat()
    };
    for (name, expected) in TRIALS {
        let printed = run(name);
        for (words, times) in *expected {
            let found: usize = words.split('|').map(|w| printed.matches(w).count()).sum();
            assert!(
                found >= *times,
                "{name}: {words:?} comes {found} times, not {times}: {printed}"
            );
        }
    }
    for name in SILENT {
        assert_eq!(run(name), "", "{name}");
    }
    let there = fs::read_dir(&folder)
        .unwrap()
        .flatten()
        .filter(|e| e.path().is_dir())
        .count();
    assert_eq!(there, TRIALS.len() + SILENT.len());
}
