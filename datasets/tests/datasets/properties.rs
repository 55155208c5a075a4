//! Whatever bytes a file holds, reading it ends in data or in an error.

use std::hash::{BuildHasher, RandomState};

use peftbench_datasets::{FileOptions, Split, TextTokenizer, spec_from_path};
use proptest::{prelude::*, test_runner::RngSeed};

use crate::support::*;

const ALL: [Split; 3] = [Split::Train, Split::Validation, Split::Test];

/// Strings of the characters that formats care about.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("text"),
        Just("label"),
        Just(","),
        Just("\t"),
        Just("\n"),
        Just("\r\n"),
        Just("\r"),
        Just("\""),
        Just("{"),
        Just("}"),
        Just("["),
        Just("]"),
        Just(":"),
        Just("\\"),
        Just("\\u12"),
        Just("é"),
        Just("\u{feff}"),
        Just("\0"),
        Just(" "),
        Just("-1"),
        Just("1e999"),
        Just("null"),
        Just("{\"text\":\"a\",\"label\":1}\n"),
        Just("name: x\n"),
        Just("source:\n"),
        Just("  files: {}\n"),
        Just("- "),
        Just("&a "),
        Just("*a"),
        Just("!!x"),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// Rows of two columns, written and read back.
fn rows() -> impl Strategy<Value = Vec<(String, String)>> {
    let text = "[a-z,\"\n\r\t é{}\\[\\]:\\\\]{0,12}[a-z]";
    prop::collection::vec((text, "[a-c]"), 30..60)
}

/// Texts with their labels of all splits, sorted; or nothing where the rows allow no data set.
fn read_back(name: &str, contents: impl AsRef<[u8]>) -> Option<Vec<(String, String)>> {
    match read_text(name, contents) {
        Ok(data) => {
            let examples = ALL.iter().flat_map(|split| data.split(*split));
            let mut rows: Vec<_> = examples
                .map(|e| {
                    (
                        e.text.clone(),
                        data.labels[e.label.as_ref().unwrap().class().unwrap() as usize].clone(),
                    )
                })
                .collect();
            rows.sort();
            Some(rows)
        }
        Err(peftbench_datasets::Error::TooFewRows { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

fn expected(rows: &[(String, String)]) -> Vec<(String, String)> {
    let mut rows: Vec<_> = rows
        .iter()
        .map(|(text, label)| (text.clone(), label.clone()))
        .collect();
    rows.sort();
    rows
}

/// The seed that the environment names, or one of its own, which is printed where the test fails.
fn seed() -> RngSeed {
    match ProptestConfig::default().rng_seed {
        RngSeed::Random => {
            let seed = RandomState::new().hash_one(0);
            eprintln!("the same cases again: PROPTEST_RNG_SEED={seed}");
            RngSeed::Fixed(seed)
        }
        named => named,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, rng_seed: seed(), ..ProptestConfig::default() })]

    #[test]
    fn readers_never_panic_on_strange_text(contents in pieces()) {
        for name in ["mine.csv", "mine.tsv", "mine.jsonl", "mine.parquet"] {
            read_text(name, &contents).ok();
        }
        let folder = Folder::new();
        spec_from_path(&folder.write("mine.yaml", &contents), &FileOptions::default()).ok();
        TextTokenizer::from_file(&folder.write("tokenizer.json", &contents)).ok();
    }

    #[test]
    fn readers_never_panic_on_strange_bytes(contents in prop::collection::vec(any::<u8>(), 0..300)) {
        for name in ["mine.csv", "mine.tsv", "mine.jsonl", "mine.parquet"] {
            read_text(name, &contents).ok();
        }
    }

    #[test]
    fn a_yaml_with_a_changed_byte_never_panics(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut yaml = include_bytes!("../../sst2.yaml").to_vec();
        let at = at.index(yaml.len());
        yaml[at] = byte;
        let folder = Folder::new();
        spec_from_path(&folder.write("mine.yaml", yaml), &FileOptions::default()).ok();
    }

    #[test]
    fn a_tokenizer_with_a_changed_byte_never_panics(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut json = crate::tokenising::TOKENIZER.as_bytes().to_vec();
        let at = at.index(json.len());
        json[at] = byte;
        let folder = Folder::new();
        if let Ok(tokenizer) = TextTokenizer::from_file(&folder.write("tokenizer.json", json)) {
            tokenizer.encode(&[example("a fine film", Some("b"), None)], 6).ok();
        }
    }

    // Only cut, not changed inside: a false length in its metadata can make polars ask for more memory than there is.
    #[test]
    fn a_parquet_file_cut_anywhere_is_refused(end in any::<prop::sample::Index>()) {
        let folder = Folder::new();
        let path = folder.path().join("mine.parquet");
        let texts: Vec<Option<&str>> = (0..40).map(|i| Some(["good", "bad"][i % 2])).collect();
        parquet(&path, vec![strings("text", &texts), strings("label", &texts)]);
        let bytes = std::fs::read(&path).unwrap();
        says(read_text("mine.parquet", &bytes[..end.index(bytes.len())]), &["mine.parquet"]);
    }

    #[test]
    fn csv_that_a_writer_quotes_is_read_back(rows in rows()) {
        for (name, separator) in [("mine.csv", b','), ("mine.tsv", b'\t'), ("mine.csv", b';')] {
            let mut writer = csv::WriterBuilder::new().delimiter(separator).from_writer(Vec::new());
            writer.write_record(["label", "text"]).unwrap();
            for (text, label) in &rows {
                writer.write_record([label, text]).unwrap();
            }
            if let Some(read) = read_back(name, writer.into_inner().unwrap()) {
                prop_assert_eq!(read, expected(&rows));
            }
        }
    }

    #[test]
    fn json_lines_are_read_back(rows in rows()) {
        let line = |(text, label): &(String, String)| format!("{}\n", serde_json::json!({ "text": text, "label": label }));
        let body: String = rows.iter().map(line).collect();
        if let Some(read) = read_back("mine.jsonl", body) {
            prop_assert_eq!(read, expected(&rows));
        }
    }
}
