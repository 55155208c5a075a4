//! Files as pandas and pyarrow read them. `fixtures/generate.py` made what is compared with.

use std::path::PathBuf;

use peftbench_datasets::{FileOptions, RowError, RowOptions, Rows, Split, read, spec_from_path};
use serde_json::Value;

use crate::support::*;

fn fixture(name: &str) -> PathBuf {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
    PathBuf::from(folder).join(name)
}

fn cases(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(fixture(name)).unwrap()).unwrap()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex
        .bytes()
        .map(|b| (b as char).to_digit(16).unwrap() as u8)
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

/// The values of two columns, row by row.
fn rows_of(rows: Rows) -> Vec<[String; 2]> {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    rows.map(|row| match row {
        Ok(row) => ["text", "label"].map(|column| text(&row.fields[column])),
        Err(RowError::Row(fault)) => panic!("{}: {fault}", fault.place),
        Err(RowError::File(error)) => panic!("{error}"),
    })
    .collect()
}

#[test]
fn tables_of_text_have_the_rows_that_pandas_reads() {
    let folder = Folder::new();
    let cases = cases("tables.json");
    let cases = cases.as_array().unwrap();
    assert!(cases.len() >= 32, "{}", cases.len());
    for case in cases {
        let said = |key: &str| case["options"][key].as_str().map(str::to_owned);
        let file = format!("rows.{}", case["extension"].as_str().unwrap());
        let path = folder.write(&file, bytes(case["hex"].as_str().unwrap()));
        let options = RowOptions {
            quote: said("quote"),
            encoding: said("encoding"),
            columns: vec!["text".into(), "label".into()],
            ..RowOptions::default()
        };
        let rows = Rows::open(&path, &options).unwrap_or_else(|e| panic!("{}: {e}", case["name"]));
        let found = rows_of(rows);
        let expected: Vec<[String; 2]> = serde_json::from_value(case["rows"].clone()).unwrap();
        assert_eq!(found, expected, "{}", case["name"]);
        // A stream of the same bytes has the same rows, where its first line says what it is.
        if !file.contains("tsv") {
            let stream = std::fs::File::open(&path).unwrap();
            let rows = Rows::of_stream(Box::new(stream), "stream", &options).unwrap();
            assert_eq!(rows_of(rows), expected, "{} as a stream", case["name"]);
        }
    }
}

#[test]
fn label_columns_have_the_classes_that_pandas_finds() {
    let cases = cases("labels.json");
    for (kind, least) in [("csv", 15), ("json", 7)] {
        let cases = cases[kind].as_array().unwrap();
        assert!(cases.len() >= least);
        for case in cases {
            let values = case["values"].as_array().unwrap();
            let row = |i: usize| match (kind, &values[i % values.len()]) {
                ("csv", value) => format!("text {i},\"{}\"\n", value.as_str().unwrap()),
                (_, value) => format!(
                    "{}\n",
                    serde_json::json!({ "text": format!("text {i}"), "label": value })
                ),
            };
            let rows: String = (0..120).map(row).collect();
            let read = match kind {
                "csv" => read_text("mine.csv", format!("text,label\n{rows}")),
                _ => read_text("mine.jsonl", rows),
            };
            let classes = match read {
                Ok(data) => data.labels.len(),
                Err(error) => panic!("{values:?}: {error}"),
            };
            assert_eq!(
                classes as u64,
                case["classes"].as_u64().unwrap(),
                "{values:?}"
            );
        }
    }
}

#[test]
fn every_missing_marker_of_pandas_is_refused_and_all_rows_are_counted() {
    let cases = cases("labels.json");
    let markers: Vec<&str> = cases["missing"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m.as_str().unwrap())
        .collect();
    assert_eq!(markers.len(), 19);
    let mut rows = csv_rows(60, &["neg", "pos"]);
    for (i, marker) in markers.iter().enumerate() {
        rows += &format!("a text of its own {i},{marker}\n");
    }
    says(
        read_text("mine.csv", &rows),
        &[
            "mine.csv",
            "19 lines",
            "line 62 (empty)",
            "line 63 ('#N/A')",
            "9 more",
            "'label' has no label",
            "--drop-missing",
        ],
    );
    let folder = Folder::new();
    let path = folder.write("mine.csv", &rows);
    let options = FileOptions {
        drop_missing: true,
        ..FileOptions::default()
    };
    let spec = spec_from_path(&path, &options).unwrap();
    let data = read(&spec, &[("train".to_owned(), path)].into()).unwrap();
    assert_eq!(data.labels, ["neg", "pos"]);
    assert_eq!(data.dropped_missing, 19);
    assert!(
        data.notes
            .iter()
            .any(|note| note.contains("19 rows") && note.contains("left out")),
        "{:?}",
        data.notes
    );
    let all = [Split::Train, Split::Validation, Split::Test];
    assert_eq!(all.iter().map(|s| data.split(*s).len()).sum::<usize>(), 60);
}

#[test]
fn a_marker_that_a_yaml_names_as_a_label_is_one() {
    let folder = Folder::new();
    let spec = spec("label: { column: label, names: [NA, EU] }\nsplits: { train: train }\n");
    let data = read(
        &spec,
        &files(&folder, &[("train", &csv_rows(60, &["EU", "NA"]))]),
    )
    .unwrap();
    assert_eq!(data.labels, ["NA", "EU"]);
}

#[test]
fn columns_of_parquet_of_every_kind_have_the_values_that_pyarrow_reads() {
    let cases = cases("parquet.json");
    let cases = cases.as_object().unwrap();
    assert!(cases.len() >= 15);
    for (name, expected) in cases {
        let path = fixture(&format!("{name}.parquet"));
        let rows = Rows::open(&path, &RowOptions::default()).unwrap();
        for (i, [text, label]) in rows_of(rows).into_iter().enumerate() {
            assert_eq!(text, format!("text {i}"));
            let expected = expected[i].as_str().unwrap();
            let same = match (label.parse::<f64>(), expected.parse::<f64>()) {
                (Ok(a), Ok(b)) => {
                    (a - b).abs() <= 1e-7 * b.abs()
                        && (a.fract() != 0.0
                            || label.parse::<i128>().ok() == expected.parse::<i128>().ok()
                            || label.contains('.'))
                }
                _ => {
                    label.to_lowercase()
                        == expected
                            .trim_end_matches("00000")
                            .trim_end_matches('0')
                            .to_lowercase()
                        || label.to_lowercase() == expected.to_lowercase()
                }
            };
            assert!(same, "{name}, row {}: {label}, not {expected}", i + 1);
        }
    }
}

#[test]
fn numbers_of_classes_have_the_names_that_the_file_keeps_beside_them() {
    let data = read_file(&fixture("class_label.parquet")).unwrap();
    assert_eq!(data.labels, ["neg", "pos"]);
    let said = |notes: &[String]| notes.iter().any(|note| note.contains("neg, pos"));
    assert!(said(&data.notes), "{:?}", data.notes);
    // The same column without the names, and what a YAML says before all.
    let data = read_file(&fixture("value_label.parquet")).unwrap();
    assert_eq!(data.labels, ["0", "1"]);
    let path = fixture("class_label.parquet");
    let of = |options: FileOptions| {
        let mut spec = spec_from_path(&path, &options).unwrap();
        if options == FileOptions::default() {
            spec.label.names = Some(vec!["no".into(), "yes".into()]);
        }
        spec
    };
    let named = of(FileOptions::default());
    let data = read(&named, &[("train".to_owned(), path.clone())].into()).unwrap();
    assert_eq!(data.labels, ["no", "yes"]);
    assert!(!said(&data.notes));
    // -1 stands for a label that is missing: refused in training, hidden in a test split.
    let path = fixture("class_label_missing.parquet");
    says(
        read_file(&path),
        &[
            "class_label_missing.parquet",
            "20 rows",
            "row 1 ('-1')",
            "--drop-missing",
        ],
    );
    let options = FileOptions {
        drop_missing: true,
        ..FileOptions::default()
    };
    let spec = spec_from_path(&path, &options).unwrap();
    let data = read(&spec, &[("train".to_owned(), path)].into()).unwrap();
    assert_eq!(
        (data.labels, data.dropped_missing),
        (vec!["neg".into(), "pos".into()], 20)
    );
    let path = fixture("class_label.parquet");
    let options = FileOptions {
        split_files: [(Split::Test, fixture("class_label_hidden.parquet"))].into(),
        ..FileOptions::default()
    };
    let spec = spec_from_path(&path, &options).unwrap();
    let data = read(&spec, &[("train".to_owned(), path)].into()).unwrap();
    let test = data.split(Split::Test);
    assert!(test.len() == 6 && test.iter().all(|e| e.label.is_none()));
    // Of lists, what is in them.
    for (name, objective, labels) in [
        ("class_label_list", "multi_label", vec!["neg", "pos"]),
        ("class_label_tokens", "tokens", vec!["O", "B-PER", "I-PER"]),
    ] {
        let path = fixture(&format!("{name}.parquet"));
        let options = FileOptions {
            objective: Some(objective.into()),
            ..FileOptions::default()
        };
        let spec = spec_from_path(&path, &options).unwrap();
        let data = read(&spec, &[("train".to_owned(), path)].into()).unwrap();
        assert_eq!(data.labels, labels, "{name}");
    }
}

#[test]
fn parquet_columns_of_one_name_or_of_kinds_that_are_not_read_are_refused_by_name() {
    says(
        read_file(&fixture("twice.parquet")),
        &["twice.parquet", "several columns 'text'"],
    );
    says(
        read_file(&fixture("nothing.parquet")),
        &["nothing.parquet", "6 rows", "'label' has no label"],
    );
    for kind in ["time", "half", "fixed", "map"] {
        says(
            read_file(&fixture(&format!("unread_{kind}.parquet"))),
            &["unread_", "column 'label' is", "accepted: texts, numbers"],
        );
    }
}

#[test]
fn a_text_that_pandas_takes_for_a_missing_value_is_a_text_and_said() {
    for (name, row) in [
        ("mine.csv", "NA,0\nnull,1\n"),
        ("mine.tsv", "NA\t0\nnull\t1\n"),
    ] {
        let separator = if name.ends_with("csv") { ',' } else { '\t' };
        let rows = csv_rows(60, &["0", "1"]).replace(',', &separator.to_string()) + row;
        let data = read_text(name, rows).unwrap();
        let all = [Split::Train, Split::Validation, Split::Test];
        assert_eq!(all.iter().map(|s| data.split(*s).len()).sum::<usize>(), 62);
        let note = data
            .notes
            .iter()
            .find(|note| note.contains("missing value"));
        let note = note.unwrap_or_else(|| panic!("{:?}", data.notes));
        for word in ["2, the first", "'NA'", "line 62"] {
            assert!(note.contains(word), "{note}");
        }
    }
}

#[test]
fn whole_numbers_beyond_64_bits_keep_their_digits_in_json() {
    let folder = Folder::new();
    let long = "123456789012345678901234567890";
    let path = folder.write(
        "rows.jsonl",
        format!("{{\"text\": \"a \\\"{long}\", \"label\": {long}, \"id\": -{long}, \"x\": 1e300, \"n\": 18446744073709551615}}\n"),
    );
    let mut rows = Rows::open(&path, &RowOptions::default()).unwrap();
    let Some(Ok(row)) = rows.next() else { panic!() };
    assert_eq!(row.fields["text"], format!("a \"{long}"));
    assert_eq!(row.fields["label"], long);
    assert_eq!(row.fields["id"], format!("-{long}"));
    assert_eq!(row.fields["x"], 1e300);
    assert_eq!(row.fields["n"], u64::MAX);
}

#[test]
fn parquet_labels_of_decimals_categories_and_bytes_are_classes() {
    for (name, labels) in [
        ("decimal_38_0", ["0", "1"]),
        ("decimal_9_2", ["-0.75", "0.75"]),
        ("category", ["neg", "pos"]),
        ("category_of_numbers", ["0", "1"]),
        ("binary", ["neg", "né"]),
        ("float64", ["0", "1"]),
        ("boolean", ["false", "true"]),
        ("uint64", ["9223372036854775808", "9223372036854775809"]),
    ] {
        let data = read_file(&fixture(&format!("{name}.parquet"))).unwrap();
        assert_eq!(data.labels, labels, "{name}");
    }
}

#[test]
fn parquet_that_cannot_be_read_is_refused_in_plain_words() {
    says(
        read_file(&fixture("nested.parquet")),
        &["nested.parquet", "'label' is a list", "accepted"],
    );
    says(
        read_file(&fixture("missing.parquet")),
        &[
            "missing.parquet",
            "2 rows",
            "row 2",
            "row 3",
            "'label' has no label",
        ],
    );
    let rows = Rows::open(&fixture("nested.parquet"), &RowOptions::default()).unwrap();
    assert!(rows.notes()[0].contains("'more'"), "{:?}", rows.notes());
}

#[test]
fn a_parquet_file_of_several_row_groups_is_read_in_parts_and_in_order() {
    let rows = Rows::open(&fixture("groups.parquet"), &RowOptions::default()).unwrap();
    let mut count = 0;
    for row in rows {
        let Ok(row) = row else { panic!() };
        assert_eq!(row.fields["text"], format!("t{count}"));
        assert_eq!(row.fields["label"], count % 2);
        count += 1;
        assert_eq!(row.place, count);
    }
    assert_eq!(count, 9000);
}
