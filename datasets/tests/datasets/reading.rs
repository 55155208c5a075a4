//! What comes out of good files.

use std::collections::BTreeSet;

use peftbench_datasets::{FileOptions, Split, Target, read, spec_from_path};

use crate::support::*;

const ALL: [Split; 3] = [Split::Train, Split::Validation, Split::Test];

#[test]
fn string_labels_are_mapped_in_sorted_order_and_kept() {
    let data = read_text("mine.csv", csv_rows(90, &["red", "blue", "green"])).unwrap();
    assert_eq!(data.labels, ["blue", "green", "red"]);
    for example in ALL.iter().flat_map(|s| data.split(*s)) {
        let number: usize = example.text.rsplit(' ').next().unwrap().parse().unwrap();
        assert_eq!(example.label, Some(Target::Class([2, 0, 1][number % 3])));
    }
}

#[test]
fn labels_that_are_numbers_are_mapped_in_their_numeric_order() {
    let names: Vec<String> = (0..12).map(|i| i.to_string()).collect();
    let labels: Vec<&str> = names.iter().map(String::as_str).collect();
    let data = read_text("mine.csv", csv_rows(120, &labels)).unwrap();
    assert_eq!(data.labels, names);
}

#[test]
fn all_formats_of_the_same_rows_give_the_same_data() {
    let folder = Folder::new();
    let rows: Vec<(String, i64)> = (0..50)
        .map(|i| (format!("text \"{i}\", said é"), i % 2))
        .collect();
    let mut csv = "idx,text,label\r\n".to_owned();
    let mut tsv = "\u{feff}text\tlabel\n".to_owned();
    let mut json = String::new();
    for (text, label) in &rows {
        csv += &format!("7,\"{}\",{label}\r\n", text.replace('"', "\"\""));
        tsv += &format!("{text}\t{label}\n");
        json += &format!(
            "{}\n",
            serde_json::json!({ "label": label, "text": text, "more": [1] })
        );
    }
    let texts: Vec<Option<&str>> = rows.iter().map(|(text, _)| Some(text.as_str())).collect();
    let labels: Vec<Option<i64>> = rows.iter().map(|(_, label)| Some(*label)).collect();
    parquet(
        &folder.path().join("mine.parquet"),
        vec![numbers("label", &labels), strings("text", &texts)],
    );
    folder.write("mine.csv", csv);
    folder.write("mine.tsv", tsv);
    folder.write("mine.jsonl", json);
    let read = |name: &str| read_file(&folder.path().join(name)).unwrap();
    let first = read("mine.csv");
    assert_eq!(ALL.iter().map(|s| first.split(*s).len()).sum::<usize>(), 50);
    assert!(first.split(Split::Train)[0].text.contains("\", said é"));
    for name in ["mine.tsv", "mine.jsonl", "mine.parquet"] {
        let other = read(name);
        for split in ALL {
            assert_eq!(other.split(split), first.split(split), "{name}");
        }
        assert_eq!(other.digest(), first.digest(), "{name}");
    }
}

#[test]
fn quotes_in_the_middle_of_a_text_are_part_of_it() {
    let rows: String = (0..40)
        .map(|i| format!("a 5\" disk {i},{}\n", i % 2))
        .collect();
    let data = read_text("mine.csv", format!("text,label\n{rows}")).unwrap();
    assert!(
        data.split(Split::Train)
            .iter()
            .all(|e| e.text.contains("5\" disk"))
    );
    let rows: String = (0..40)
        .map(|i| format!("\"Never again {i}\t{}\n", i % 2))
        .collect();
    let data = read_text("mine.tsv", format!("text\tlabel\n{rows}")).unwrap();
    assert_eq!(ALL.iter().map(|s| data.split(*s).len()).sum::<usize>(), 40);
    assert!(
        data.split(Split::Train)
            .iter()
            .all(|e| e.text.starts_with("\"Never"))
    );
}

#[test]
fn ratings_become_two_classes_and_rows_on_the_threshold_are_left_out() {
    let folder = Folder::new();
    let rows: String = (0..60)
        .map(|i| format!("{i}\t{}\ttext {i} \r\n", [-0.05, 0.0, 2.5][i % 3]))
        .collect();
    let spec = spec(
        "label: { column: rating, names: [negative, positive], threshold: 0 }\nsplits: { train: train }\n\
         format: tsv\ncolumns: [id, rating, text]\nstrip: true\nrows: { train: 60 }\n",
    );
    let data = read(&spec, &files(&folder, &[("train", rows.trim_end())])).unwrap();
    assert_eq!(data.dropped, 20);
    assert_eq!(data.labels, ["negative", "positive"]);
    let mut count = [0, 0];
    for example in ALL.iter().flat_map(|s| data.split(*s)) {
        let number: usize = example.text.strip_prefix("text ").unwrap().parse().unwrap();
        let class = u32::from(number % 3 == 2);
        assert_eq!(example.label, Some(Target::Class(class)));
        count[class as usize] += 1;
    }
    assert_eq!(count, [20, 20]);
}

#[test]
fn splits_without_a_file_are_made_and_said_to_be() {
    let mut rows = csv_rows(400, &["a", "b"]);
    rows.push_str(rows.clone().strip_prefix("text,label\n").unwrap());
    let data = read_text("mine.csv", rows).unwrap();
    assert_eq!(data.made, [Split::Validation, Split::Test]);
    let texts = |split| {
        data.split(split)
            .iter()
            .map(|e| &e.text)
            .collect::<BTreeSet<_>>()
    };
    let [train, validation, test] = ALL.map(texts);
    assert!(
        train.is_disjoint(&validation) && train.is_disjoint(&test) && validation.is_disjoint(&test)
    );
    assert_eq!(train.len() + validation.len() + test.len(), 400);
    assert!((15..=75).contains(&validation.len()) && (15..=75).contains(&test.len()));
}

#[test]
fn a_split_with_a_file_is_taken_as_it_is() {
    let folder = Folder::new();
    let spec = spec(
        "label: { column: label }\nsplits: { train: train, validation: validation, test: test }\n",
    );
    let train = csv_rows(6, &["a", "b"]);
    let all = read(
        &spec,
        &files(
            &folder,
            &[
                ("train", &train),
                ("validation", "text,label\nx,b\n"),
                ("test", "text\ny\n"),
            ],
        ),
    )
    .unwrap();
    assert!(all.made.is_empty());
    assert_eq!(all.split(Split::Train).len(), 6);
    assert_eq!(all.split(Split::Validation), [example("x", None, Some(1))]);
    assert_eq!(all.split(Split::Test), [example("y", None, None)]);
    // An optional file that could not be had leaves its split empty, and the data of a run the same.
    let without = read(
        &spec,
        &files(
            &folder,
            &[("train", &train), ("validation", "text,label\nx,b\n")],
        ),
    )
    .unwrap();
    assert!(without.split(Split::Test).is_empty());
    assert_eq!(without.digest(), all.digest());
}

#[test]
fn hidden_labels_of_a_test_split_are_none() {
    let folder = Folder::new();
    let spec = spec(
        "label: { column: label, names: [no, yes], hidden: \"-1\" }\nsplits: { train: train, test: test }\n",
    );
    let data = read(
        &spec,
        &files(
            &folder,
            &[
                ("train", &csv_rows(60, &["0", "yes"])),
                ("test", "text,label\na,-1\nb,-1\n"),
            ],
        ),
    )
    .unwrap();
    assert_eq!(data.made, [Split::Validation]);
    let test = [example("a", None, None), example("b", None, None)];
    assert_eq!(data.split(Split::Test), test);
}

#[test]
fn two_text_columns_make_pairs() {
    let folder = Folder::new();
    let rows: String = (0..60)
        .map(|i| format!("first {i},second {i},{}\n", i % 2))
        .collect();
    let path = folder.write("mine.csv", format!("a,b,label\n{rows}"));
    let data = read_columns(&path, &["a", "b"], "label").unwrap();
    let first = &data.split(Split::Train)[0];
    assert!(first.text.starts_with("first"));
    assert_eq!(
        first.pair.as_deref(),
        Some(first.text.replace("first", "second").as_str())
    );
}

#[test]
fn white_space_is_cut_off_only_where_the_specification_says_so() {
    let folder = Folder::new();
    for (strip, expected) in [(true, "x"), (false, " x ")] {
        let spec = spec(&format!(
            "label: {{ column: label }}\nsplits: {{ train: train, validation: validation }}\nstrip: {strip}\n"
        ));
        let files = files(
            &folder,
            &[
                ("train", &csv_rows(60, &["a", "b"])),
                ("validation", "text,label\n x ,a\n"),
            ],
        );
        assert_eq!(
            read(&spec, &files).unwrap().split(Split::Validation)[0].text,
            expected
        );
    }
}

#[test]
fn the_digest_changes_with_every_text_label_and_name_of_a_label() {
    let digest = |rows: &str| read_text("mine.csv", rows).unwrap().digest();
    let rows = csv_rows(60, &["a", "b"]);
    let digests: BTreeSet<String> = [
        rows.clone(),
        rows.replace("number 7,", "number seven,"),
        rows.replace("number 7,b", "number 7,a"),
        rows.replace(",b", ",c"),
    ]
    .iter()
    .map(|rows| digest(rows))
    .collect();
    assert_eq!(digests.len(), 4);
    assert_eq!(digest(&rows), digest(&rows));
}

#[test]
fn a_users_file_is_fetched_as_any_other_source() {
    let folder = Folder::new();
    let path = folder.write("my reviews.csv", csv_rows(60, &["a", "b"]));
    let spec = spec_from_path(&path, &FileOptions::default()).unwrap();
    assert_eq!(spec.name, "my reviews");
    let fetched = sources::Fetcher::new(sources::Settings {
        cache: folder.path().join("cache"),
        ..sources::Settings::from_env(true).unwrap()
    })
    .fetch(&spec.name, &spec.source)
    .unwrap();
    assert_eq!(read(&spec, &fetched.files).unwrap().labels, ["a", "b"]);
}

#[test]
fn tags_of_bilou_and_iobes_are_read_as_they_are_written() {
    let folder = Folder::new();
    for (name, tags) in [
        ("bilou", ["B-place", "I-place", "L-place", "O", "U-name"]),
        ("iobes", ["B-place", "I-place", "E-place", "O", "S-name"]),
    ] {
        let sentence = |i: usize| {
            let words = ["New", "York", "City", "met", "Ada"].iter().zip(tags);
            let words = words.map(|(word, tag)| format!("{word}{i} {tag}\n"));
            words.collect::<String>() + "\n"
        };
        let text: String = (0..60).map(sentence).collect();
        let path = folder.write(&format!("{name}.conll"), text);
        let options = FileOptions {
            objective: Some("tokens".into()),
            ..FileOptions::default()
        };
        let spec = spec_from_path(&path, &options).unwrap();
        let data = read(&spec, &[("train".to_owned(), path)].into()).unwrap();
        let Some(Target::Tags(found)) = &data.split(Split::Train)[0].label else {
            panic!("{name}: no tags");
        };
        let found = found.iter().map(|tag| data.labels[*tag as usize].as_str());
        assert_eq!(found.collect::<Vec<_>>(), tags);
    }
}

#[test]
fn completions_of_one_prompt_are_in_one_split_and_stay_as_they_are_written() {
    let folder = Folder::new();
    let rows: String = (0..300)
        .map(|i| format!("\"fact {}\",\" The {i}th, so to say.\"\n", i % 60))
        .collect();
    let path = folder.write("facts.csv", format!("prompt,completion\n{rows}"));
    let options = FileOptions {
        objective: Some("completion".into()),
        ..FileOptions::default()
    };
    let spec = spec_from_path(&path, &options).unwrap();
    let data = read(&spec, &[("train".to_owned(), path)].into()).unwrap();
    assert!(data.labels.is_empty() && data.classes().is_empty());
    let completion = data.completion.as_ref().unwrap();
    assert_eq!(
        (completion.prompt.as_str(), completion.max_new_tokens),
        ("{text}\n", 64)
    );
    let mut seen = BTreeSet::new();
    for split in ALL {
        let prompts: BTreeSet<&String> = data.split(split).iter().map(|e| &e.text).collect();
        assert!(!prompts.is_empty(), "{split:?}");
        for prompt in prompts {
            assert!(seen.insert(prompt), "{prompt} is in two splits");
        }
    }
    assert_eq!(seen.len(), 60);
    // Nor does a part that is held out share a prompt with the rest.
    let (kept, held) = data.hold_out(0.2);
    let prompts = |part: &[u32]| -> BTreeSet<&str> {
        let train = data.split(Split::Train);
        part.iter()
            .map(|i| train[*i as usize].text.as_str())
            .collect()
    };
    assert!(!held.is_empty() && prompts(&kept).is_disjoint(&prompts(&held)));
    let written =
        |e: &peftbench_datasets::Example| e.label.as_ref().unwrap().text().map(str::to_owned);
    let first = data.split(Split::Train).iter().find_map(written).unwrap();
    assert!(
        first.starts_with(" The ") && first.ends_with("to say."),
        "{first:?}"
    );
    let said = data.notes.join("\n");
    assert!(
        said.contains("300 rows have 60 different prompts"),
        "{said}"
    );
}
