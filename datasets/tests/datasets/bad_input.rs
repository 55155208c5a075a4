//! Bad input gets one clear message: the file, the place in it, the value, what is accepted.

use peftbench_datasets::{
    FileOptions, Format, RowError, RowOptions, Rows, Split, TextTokenizer, read, spec_from_path,
};

use crate::support::*;

#[test]
fn a_missing_column_is_refused_with_the_columns_there_are() {
    says(
        read_text("mine.csv", "sentence,label\ngood,1\n"),
        &["mine.csv", "'text'", "sentence, label", "--text-column"],
    );
    says(
        read_text("mine.tsv", "text\tclass\ngood\t1\n"),
        &["mine.tsv", "'label'", "text, class"],
    );
    says(
        read_text(
            "mine.jsonl",
            "{\"text\": \"good\", \"class\": 1}\n{\"score\": 1}\n",
        ),
        &["mine.jsonl", "'label'", "class, score, text"],
    );
    let folder = Folder::new();
    let path = folder.path().join("mine.parquet");
    parquet(
        &path,
        vec![strings("text", &[Some("good")]), numbers("idx", &[Some(1)])],
    );
    says(read_file(&path), &["mine.parquet", "'label'", "text, idx"]);
}

#[test]
fn an_empty_file_is_refused() {
    for name in ["mine.csv", "mine.tsv", "mine.jsonl", "mine.parquet"] {
        says(read_text(name, ""), &[name, "no rows"]);
    }
    says(
        read_text("mine.csv", "text,label\n"),
        &["mine.csv", "no rows"],
    );
    says(
        read_text("mine.jsonl", "\n  \n\n"),
        &["mine.jsonl", "no rows"],
    );
}

#[test]
fn a_row_without_a_label_is_refused_with_its_line() {
    says(
        read_text("mine.csv", "text,label\ngood,1\nbad,\n"),
        &["mine.csv", "line 3", "'label'", "empty"],
    );
    says(
        read_text("mine.tsv", "text\tlabel\r\ngood\t1\r\n\r\nbad\t \r\n"),
        &["mine.tsv", "line 4", "'label'"],
    );
    says(
        read_text("mine.csv", "text,label\n\"two\n\"\"lines\"\"\",1\nbad,\n"),
        &["mine.csv", "line 4", "'label'"],
    );
    says(
        read_text(
            "mine.jsonl",
            "{\"text\": \"a\", \"label\": 1}\n\n{\"text\": \"b\"}\n",
        ),
        &["mine.jsonl", "line 3", "'label'"],
    );
    says(
        read_text("mine.jsonl", "{\"text\": \"b\", \"label\": null}\n"),
        &["mine.jsonl", "line 1", "'label'"],
    );
    let folder = Folder::new();
    let path = folder.path().join("mine.parquet");
    parquet(
        &path,
        vec![
            strings("text", &[Some("good"), Some("bad")]),
            numbers("label", &[Some(1), None]),
        ],
    );
    says(read_file(&path), &["mine.parquet", "row 2", "'label'"]);
}

#[test]
fn a_row_without_a_text_is_refused_with_its_line() {
    says(
        read_text("mine.csv", "text,label\ngood,1\n  ,0\n"),
        &["mine.csv", "line 3", "'text'", "empty"],
    );
    says(
        read_text(
            "mine.jsonl",
            "{\"label\": 1}\n{\"text\": \"b\", \"label\": 0}\n",
        ),
        &["mine.jsonl", "line 1", "'text'"],
    );
}

#[test]
fn one_class_only_is_refused_for_training() {
    says(
        read_text("mine.csv", csv_rows(100, &["good"])).and_then(|data| data.check_trainable()),
        &["'mine'", "'good'", "two classes"],
    );
    let folder = Folder::new();
    let spec = spec("label: { column: label, names: [no, yes] }\nsplits: { train: train }\n");
    says(
        read(&spec, &files(&folder, &[("train", &csv_rows(100, &["1"]))]))
            .and_then(|data| data.check_trainable()),
        &["'yes'", "two classes"],
    );
}

#[test]
fn a_megabyte_in_one_line_is_read() {
    let long = "a long text ".repeat(100_000);
    let all = [Split::Train, Split::Validation, Split::Test];
    let rows = csv_rows(40, &["a", "b"]);
    let json: String = (0..40)
        .map(|i| format!("{{\"text\": \"short {i}\", \"label\": {}}}\n", i % 2))
        .collect();
    for (name, contents) in [
        ("mine.csv", format!("{rows}{long},a\n")),
        (
            "mine.jsonl",
            format!("{json}{{\"text\": \"{long}\", \"label\": 1}}\n"),
        ),
    ] {
        let data = read_text(name, contents).unwrap();
        let lengths = all
            .iter()
            .flat_map(|split| data.split(*split))
            .map(|e| e.text.len());
        assert_eq!(lengths.max(), Some(long.len()));
    }
}

#[test]
fn invalid_utf8_is_refused_with_its_line_and_byte() {
    for name in ["mine.csv", "mine.tsv", "mine.jsonl"] {
        says(
            read_text(name, b"text,label\ngood,1\nb\xe4d,0\n"),
            &[name, "line 3, byte 2", "0xe4", "UTF-8"],
        );
    }
}

#[test]
fn a_label_outside_the_mapping_is_refused_with_the_labels_there_are() {
    let folder = Folder::new();
    let with_names = spec("label: { column: label, names: [no, yes] }\nsplits: { train: train }\n");
    says(
        read(
            &with_names,
            &files(&folder, &[("train", "text,label\na,no\nb,2\n")]),
        ),
        &["train.csv", "line 3", "'label'", "'2'", "no, yes", "0 to 1"],
    );
    let without =
        spec("label: { column: label }\nsplits: { train: train, validation: validation }\n");
    says(
        read(
            &without,
            &files(
                &folder,
                &[
                    ("train", "text,label\na,no\nb,yes\n"),
                    ("validation", "text,label\na,maybe\n"),
                ],
            ),
        ),
        &["validation.csv", "line 2", "'maybe'", "no, yes"],
    );
    let rated = spec(
        "label: { column: label, names: [no, yes], threshold: 0.5 }\nsplits: { train: train }\n",
    );
    for value in ["high", "inf"] {
        says(
            read(
                &rated,
                &files(
                    &folder,
                    &[("train", &format!("text,label\na,0.9\nb,{value}\n"))],
                ),
            ),
            &["train.csv", "line 3", value, "a number"],
        );
    }
}

#[test]
fn another_number_of_rows_than_specified_is_refused() {
    let folder = Folder::new();
    let spec = spec("label: { column: label }\nsplits: { train: train }\nrows: { train: 50 }\n");
    says(
        read(
            &spec,
            &files(&folder, &[("train", &csv_rows(49, &["a", "b"]))]),
        ),
        &["train.csv", "49 rows", "train", "50"],
    );
}

#[test]
fn a_row_with_too_many_or_too_few_fields_is_refused_with_its_line() {
    says(
        read_text("mine.csv", "text,label\r\na,1\r\nb, c,0\r\n"),
        &["mine.csv", "line 3", "3 fields", "2 columns", "quotes"],
    );
    says(
        read_text("mine.tsv", "text\tlabel\n\n\na\n"),
        &["mine.tsv", "line 4", "1 fields"],
    );
    let folder = Folder::new();
    let spec = spec(
        "label: { column: label }\nsplits: { train: train }\nformat: csv\ncolumns: [id, label, text]\n",
    );
    says(
        read(&spec, &files(&folder, &[("train", "1,yes\n")])),
        &["train.csv", "2 fields", "id, label, text"],
    );
}

#[test]
fn a_line_that_is_no_json_object_is_refused_with_its_line() {
    let good = "{\"text\": \"a\", \"label\": 1}\n";
    says(
        read_text(
            "mine.jsonl",
            format!("{good}{{\"text\": \"b\", \"label\"}}\n"),
        ),
        &["mine.jsonl", "line 2", "column 22", "expected ':'"],
    );
    says(
        read_text("mine.jsonl", format!("{good}[1, 2]\n")),
        &["mine.jsonl", "line 2"],
    );
    says(
        read_text(
            "mine.jsonl",
            format!("{good}{{\"text\": [\"b\"], \"label\": 1}}\n"),
        ),
        &["mine.jsonl", "line 2", "'text' is a list", "a text"],
    );
}

#[test]
fn a_damaged_parquet_file_is_refused_by_name() {
    let folder = Folder::new();
    let path = folder.path().join("mine.parquet");
    let texts: Vec<String> = (0..500).map(|i| format!("text {i}")).collect();
    let texts: Vec<Option<&str>> = texts.iter().map(|t| Some(t.as_str())).collect();
    parquet(
        &path,
        vec![strings("text", &texts), strings("label", &texts)],
    );
    let whole = std::fs::read(&path).unwrap();
    for end in [1, 4, 11, whole.len() / 2, whole.len() - 1] {
        says(
            read_text("cut.parquet", &whole[..end]),
            &["cut.parquet", "parquet"],
        );
    }
    says(
        read_text("other.parquet", "text,label\na,1\n"),
        &["other.parquet", "parquet"],
    );
}

/// polars takes memory for what a length says, and an allocation that fails ends the process.
#[test]
fn a_parquet_file_whose_lengths_are_not_true_is_refused_and_ends_nothing() {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
    for (name, stated) in [
        (
            "int64",
            "states -7 values in a page, there can be 6 at most",
        ),
        (
            "dictionary",
            "bytes in a page, there can be 536870912 at most",
        ),
        (
            "nested",
            "states -7 values in a part, there can be 134217728",
        ),
        ("delta_whole", "states 17 packed values in a page"),
        ("delta_lengths", "states 7 packed values in a page"),
        (
            "delta_texts",
            "states 10 bytes of the text before, there can be 7",
        ),
    ] {
        let whole = std::fs::read(format!("{fixtures}/{name}.parquet")).unwrap();
        let messages = (0..whole.len()).filter_map(|at| {
            let mut bytes = whole.clone();
            // The lowest bit of a number in parquet's headers is its sign.
            bytes[at] ^= 1;
            read_text("mine.parquet", &bytes).err()
        });
        let messages: String = messages.map(|error| error.to_string()).collect();
        assert!(messages.contains(stated), "{name}: {messages}");
    }
    // The list of row groups in the footer (field 4: its type, a list; then one structure) states two thousand million of them.
    let mut whole = std::fs::read(format!("{fixtures}/int64.parquet")).unwrap();
    let at = whole
        .windows(4)
        .rposition(|bytes| bytes == [0x16, 0x0c, 0x19, 0x1c])
        .unwrap();
    whole.splice(at + 3..at + 4, [0xfc, 0xff, 0xff, 0xff, 0xff, 0x07]);
    let end = whole.len() - 8;
    let size = u32::from_le_bytes(whole[end..end + 4].try_into().unwrap()) + 5;
    whole[end..end + 4].copy_from_slice(&size.to_le_bytes());
    says(
        read_text("mine.parquet", &whole),
        &["mine.parquet", "footer", "too long"],
    );
}

#[test]
fn all_bad_rows_are_told_at_once_with_their_lines_and_counts() {
    let mut rows = csv_rows(20, &["a", "b"]);
    rows += "short\none,two,three\n,a\nx,\ny,NA\n";
    says(
        read_text("mine.csv", &rows),
        &[
            "line 22: 1 fields",
            "line 23: 3 fields",
            "line 24: column 'text' is empty",
            "2 lines: line 25 (empty), line 26 ('NA')",
            "--drop-missing",
        ],
    );
    let folder = Folder::new();
    let spec = spec("label: { column: label, names: [no, yes] }\nsplits: { train: train }\n");
    let rows: String = (0..30)
        .map(|i| format!("text {i},{}\n", ["no", "maybe"][i % 2]))
        .collect();
    says(
        read(
            &spec,
            &files(&folder, &[("train", &format!("text,label\n{rows}"))]),
        ),
        &[
            "15 lines",
            "line 3 ('maybe'), line 5 ('maybe')",
            "and 5 more",
            "accepted: no, yes",
        ],
    );
}

#[test]
fn what_is_no_text_is_named_for_what_it_is() {
    for (bytes, words) in [
        (&b"PK\x03\x04..."[..], ["zip", "Excel"]),
        (b"PAR1....", ["parquet", ".parquet"]),
        (b"BZh91AY", ["bzip2", "bunzip2"]),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            ["Git LFS", "git lfs pull"],
        ),
        (b"<!DOCTYPE html><html>", ["web page", "download"]),
        (b"t\0e\0x\0t\0,\0", ["UTF-16LE", "--encoding utf-16le"]),
        (b"\0t\0e\0x\0t", ["UTF-16BE", "--encoding utf-16be"]),
        (b"\x1f\x8b\x08\0broken", ["gzip", "damaged"]),
    ] {
        says(
            read_text("mine.csv", bytes),
            &["mine.csv", words[0], words[1]],
        );
    }
    let cp1252 = b"text,label\nun caf\xe9 \x93chaud\x94,pos\nna\xefve,neg\n";
    says(
        read_text("mine.csv", cp1252),
        &["line 2, byte 7", "windows-1252", "--encoding"],
    );
    let (gb, _, _) = encoding_rs::GB18030
        .encode("text,label\n这部电影很好看值得推荐给大家,好\n房间太小而且很吵服务态度也差,坏\n");
    says(read_text("mine.csv", &gb), &["line 2", "--encoding gb"]);
}

#[cfg(unix)]
#[test]
fn only_regular_files_are_opened_and_others_are_named() {
    let folder = Folder::new();
    let pipe = folder.path().join("pipe.csv");
    let made = std::process::Command::new("mkfifo")
        .arg(&pipe)
        .status()
        .unwrap();
    assert!(made.success());
    says(read_file(&pipe), &["pipe.csv", "named pipe", "--input -"]);
    let socket = folder.path().join("socket.csv");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    says(read_file(&socket), &["socket.csv", "socket"]);
    let inside = folder.path().join("folder.csv");
    std::fs::create_dir(&inside).unwrap();
    says(read_file(&inside), &["folder.csv", "is a folder"]);
    let device = folder.path().join("zero.csv");
    std::os::unix::fs::symlink("/dev/zero", &device).unwrap();
    says(read_file(&device), &["zero.csv", "a device"]);
    let yaml = folder.path().join("mine.yaml");
    std::os::unix::fs::symlink("/dev/zero", &yaml).unwrap();
    says(
        peftbench_datasets::spec_from_path(&yaml, &Default::default()),
        &["mine.yaml", "a device"],
    );
    // A link to a regular file is one.
    folder.write("rows.csv", csv_rows(40, &["a", "b"]));
    let link = folder.path().join("link.csv");
    std::os::unix::fs::symlink(folder.path().join("rows.csv"), &link).unwrap();
    read_file(&link).unwrap();
}

#[test]
fn a_row_that_never_ends_is_refused_in_bounded_memory() {
    let zeros = std::io::Read::take(std::io::repeat(b'a'), 200 << 20);
    let options = RowOptions {
        format: Some(Format::Lines),
        ..RowOptions::default()
    };
    let mut rows = Rows::of_stream(Box::new(zeros), "-", &options).unwrap();
    let Some(Err(RowError::File(error))) = rows.next() else {
        panic!("read");
    };
    assert!(error.to_string().contains("64 MiB"), "{error}");
    assert!(rows.next().is_none());
}

#[test]
fn a_quote_that_is_never_closed_is_called_one() {
    let mut rows = csv_rows(20, &["a", "b"]);
    rows += "\"never closed,a\nanother,b\n";
    says(
        read_text("mine.csv", &rows),
        &["line 22", "a quote is opened and never closed"],
    );
}

#[test]
fn a_class_that_stands_twice_is_refused() {
    let folder = Folder::new();
    let yaml = "name: mine
source:
  files: { train: {} }
  places: [path: { folder: ., files: { train: train.csv } }]
splits: { train: train }
text: [text]
label: { column: label, names: [good, bad, good] }
";
    let path = folder.write("mine.yaml", yaml);
    let refused = spec_from_path(&path, &FileOptions::default());
    let message = refused.err().unwrap().to_string();
    for part in ["mine.yaml", "label.names", "'good' stands twice"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_column_name_that_stands_twice_is_refused() {
    says(
        read_text("mine.csv", "text,label,label\na,b,c\n"),
        &["mine.csv", "'label' twice"],
    );
}

#[test]
fn a_column_of_another_spelling_is_proposed() {
    says(
        read_text("mine.csv", "Text,label\na,b\n"),
        &["did you mean 'Text'"],
    );
    says(
        read_text("mine.csv", "text, label\na,b\n"),
        &["did you mean ' label'"],
    );
}

#[test]
fn lines_that_python_and_excel_write_as_no_json_are_told_in_plain_words() {
    let good = "{\"text\": \"a\", \"label\": 1}\n";
    for (line, words) in [
        ("[{\"text\": \"b\"}]", "a JSON list"),
        ("{'text': 'b'}", "double quotes"),
        ("{\"text\": tru}", "misspelt"),
        ("{", "over several lines"),
        ("text,label", "no JSON object"),
        ("{\"text\": \"b\"", "ends before"),
    ] {
        says(
            read_text("mine.jsonl", format!("{good}{line}\n")),
            &["line 2", words],
        );
    }
    says(
        read_text(
            "mine.jsonl",
            format!("{good}{{\"text\": \"b NaN\", \"label\": NaN}}\n"),
        ),
        &["line 2 (empty)", "no label"],
    );
}

#[test]
fn numbers_to_predict_are_refused_with_the_objective_that_fits() {
    let rows: String = (0..80)
        .map(|i| format!("text {i},{}\n", f64::from(i) * 0.37))
        .collect();
    says(
        read_text("mine.csv", format!("text,label\n{rows}")),
        &[
            "mine.csv",
            "'label'",
            "80 different values in 80 rows",
            "regression",
            "label.threshold",
        ],
    );
}

#[test]
fn a_file_that_is_not_there_is_refused_by_name() {
    let spec = spec("label: { column: label }\nsplits: { train: train }\n");
    says(
        read(&spec, &[("train".to_owned(), "no/such.csv".into())].into()),
        &["no/such.csv"],
    );
    says(
        read(&spec, &Default::default()),
        &["'train'", "not fetched"],
    );
}

#[test]
fn too_few_rows_to_make_a_validation_split_of_are_refused() {
    says(
        read_text("mine.csv", csv_rows(2, &["a", "b"])),
        &["mine", "2 rows", "validation"],
    );
}

#[test]
fn a_test_split_with_labels_for_some_rows_only_is_refused() {
    let folder = Folder::new();
    let spec = spec(
        "label: { column: label, names: [no, yes], hidden: \"-1\" }\nsplits: { train: train, test: test }\n",
    );
    says(
        read(
            &spec,
            &files(
                &folder,
                &[
                    ("train", &csv_rows(60, &["0", "1"])),
                    ("test", "text,label\na,1\nb,-1\n"),
                ],
            ),
        ),
        &["test.csv", "line 3", "'label'"],
    );
    says(
        read(
            &spec,
            &files(&folder, &[("train", "text,label\na,1\nb,-1\n")]),
        ),
        &["train.csv", "line 3", "'label'"],
    );
}

#[test]
fn a_damaged_tokenizer_is_refused_by_name() {
    let folder = Folder::new();
    let whole = crate::tokenising::TOKENIZER;
    let half = &whole[..whole.len() / 2];
    for contents in ["", "{}", "[1, 2]", half, "\u{0}\u{1}"] {
        let path = folder.write("tokenizer.json", contents);
        says(
            TextTokenizer::from_file(&path).map(drop),
            &["tokenizer.json", "not a readable"],
        );
    }
    let missing = folder.path().join("missing.json");
    says(
        TextTokenizer::from_file(&missing).map(drop),
        &["missing.json"],
    );
}
