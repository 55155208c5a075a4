//! Tokenizers as transformers reads them: every combination of `tests/fixtures/tokenizer_cases.py`.

use std::{fs, path::PathBuf};

use peftbench_datasets::{TextTokenizer, tokenizer_file};
use serde_json::{Value, json};

use crate::{support::*, tokenising::TOKENIZER};

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/tokenizers")
}

/// The folder of a case, as the generator lays it.
fn lay(folder: &Folder, case: &Value) {
    let family = case["family"].as_str().unwrap();
    for entry in fs::read_dir(fixtures().join(family)).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        match (name.as_str(), case["layout"].as_str().unwrap()) {
            ("tokenizer.json", "json") => {
                let mut file: Value = serde_json::from_str(&text).unwrap();
                for (key, value) in case["change"].as_object().unwrap() {
                    file[key] = value.clone();
                }
                folder.write(&name, file.to_string());
            }
            ("tokenizer.json", _) | (_, "json") => {}
            _ => {
                folder.write(&name, text);
            }
        }
    }
    folder.write(
        "config.json",
        json!({"model_type": family.replace('_', "-")}).to_string(),
    );
    for (name, content) in case["files"].as_object().unwrap() {
        let mut content = content.clone();
        if name == "tokenizer_config.json" && content.get("tokenizer_class").is_none() {
            content["tokenizer_class"] = match family {
                "bert" => "BertTokenizer",
                "roberta" => "RobertaTokenizer",
                "xlm_roberta" => "XLMRobertaTokenizer",
                "gpt2" => "GPT2Tokenizer",
                "qwen2" => "Qwen2Tokenizer",
                _ => "LlamaTokenizer",
            }
            .into();
        }
        folder.write(name, content.to_string());
    }
}

#[test]
fn ids_equal_those_of_transformers_in_every_combination() {
    let cases: Value =
        serde_json::from_str(&fs::read_to_string(fixtures().join("cases.json")).unwrap()).unwrap();
    let limit = cases["limit"].as_u64().unwrap() as usize;
    let texts: Vec<_> = cases["texts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| example(t[0].as_str().unwrap(), t[1].as_str(), None))
        .collect();
    let numbers = |v: &Value| -> Vec<u32> { serde_json::from_value(v.clone()).unwrap() };
    let (mut compared, mut wrong) = (0, Vec::new());
    for case in cases["cases"].as_array().unwrap() {
        let folder = Folder::new();
        lay(&folder, case);
        let what = format!(
            "{} {} {} {}",
            case["family"], case["layout"], case["files"], case["change"]
        );
        let tokenizer = match TextTokenizer::from_file(&tokenizer_file(folder.path()).unwrap()) {
            Ok(tokenizer) => tokenizer,
            Err(e) => {
                wrong.push(format!("{what}: {e}"));
                continue;
            }
        };
        let encoded = tokenizer.encode(&texts, limit).unwrap();
        for (i, answer) in case["answers"].as_array().unwrap().iter().enumerate() {
            let expected = &cases["answers"][answer.as_u64().unwrap() as usize];
            let (ids, types) = encoded.example(i);
            let types: Vec<u32> = types.iter().map(|t| u32::from(*t)).collect();
            // A model that is given no token types takes all for 0; others have none.
            let has_types =
                ["bert", "roberta", "xlm_roberta"].contains(&case["family"].as_str().unwrap());
            let same_types = match expected[1].is_null() {
                true => !has_types || types.iter().all(|kind| *kind == 0),
                false => types == numbers(&expected[1]),
            };
            if ids != numbers(&expected[0]) || !same_types {
                wrong.push(format!(
                    "{what}: text {i}: {ids:?} {types:?} instead of {expected}"
                ));
            }
            compared += 1;
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(compared > 5_000, "{compared} texts compared");
}

#[test]
fn a_tokenizer_read_twice_has_one_digest_and_a_key_that_changes_ids_another() {
    let digest = |config: Value| {
        let folder = Folder::new();
        let path = folder.write("tokenizer.json", TOKENIZER);
        folder.write("tokenizer_config.json", config.to_string());
        *TextTokenizer::from_file(&path).unwrap().digest()
    };
    let plain = digest(json!({"tokenizer_class": "BertTokenizer"}));
    assert_eq!(plain, digest(json!({"tokenizer_class": "BertTokenizer"})));
    assert_eq!(
        plain,
        digest(
            json!({"tokenizer_class": "BertTokenizer", "padding_side": "left", "name_or_path": "x"})
        )
    );
    for (key, value) in [
        ("do_lower_case", json!(false)),
        ("truncation_side", json!("left")),
        ("split_special_tokens", json!(true)),
        ("additional_special_tokens", json!(["film"])),
        ("model_input_names", json!(["input_ids"])),
    ] {
        let mut config = json!({"tokenizer_class": "BertTokenizer"});
        config[key] = value;
        assert_ne!(plain, digest(config), "{key}");
    }
}

#[test]
fn a_key_that_changes_ids_with_a_value_that_is_not_understood_is_refused_by_name() {
    for (name, key, value) in [
        ("tokenizer_config.json", "do_lower_case", json!("no")),
        ("tokenizer_config.json", "strip_accents", json!(1)),
        (
            "tokenizer_config.json",
            "tokenize_chinese_chars",
            json!(null),
        ),
        ("tokenizer_config.json", "add_prefix_space", json!("yes")),
        ("tokenizer_config.json", "truncation_side", json!("middle")),
        ("tokenizer_config.json", "padding_side", json!("both")),
        ("tokenizer_config.json", "model_max_length", json!(0)),
        ("tokenizer_config.json", "model_max_length", json!("512")),
        (
            "tokenizer_config.json",
            "split_special_tokens",
            json!("yes"),
        ),
        (
            "tokenizer_config.json",
            "added_tokens_decoder",
            json!(["a"]),
        ),
        (
            "tokenizer_config.json",
            "added_tokens_decoder",
            json!({"first": {"content": "a"}}),
        ),
        ("tokenizer_config.json", "mask_token", json!(7)),
        (
            "tokenizer_config.json",
            "additional_special_tokens",
            json!([7]),
        ),
        (
            "tokenizer_config.json",
            "tokenizer_class",
            json!("BertJapaneseTokenizer"),
        ),
        ("tokenizer_config.json", "from_slow", json!(true)),
        (
            "tokenizer_config.json",
            "fast_tokenizer_files",
            json!(["tokenizer.4.0.0.json"]),
        ),
        (
            "tokenizer_config.json",
            "model_input_names",
            json!("input_ids"),
        ),
        (
            "tokenizer_config.json",
            "clean_up_tokenization_spaces",
            json!("yes"),
        ),
        ("sentence_bert_config.json", "max_seq_length", json!(-1)),
        ("sentence_bert_config.json", "do_lower_case", json!("no")),
        ("added_tokens.json", "new", json!("7")),
    ] {
        let folder = Folder::new();
        let path = folder.write("tokenizer.json", TOKENIZER);
        folder.write("config.json", r#"{"model_type": "bert"}"#);
        folder.write(name, json!({key: value}).to_string());
        let shown = match &value {
            Value::Array(list) => list[0].to_string(),
            other => other.to_string(),
        };
        let shown = if key == "added_tokens_decoder" {
            String::new()
        } else {
            shown
        };
        says(TextTokenizer::from_file(&path), &[name, key, &shown]);
    }
}

#[test]
fn what_sentence_transformers_says_is_followed_and_said() {
    let folder = Folder::new();
    let path = folder.write(
        "tokenizer.json",
        TOKENIZER.replace("\"lowercase\": true", "\"lowercase\": false"),
    );
    let upper = [example("A FINE FILM . b", None, None)];
    let ids = |path| {
        TextTokenizer::from_file(path)
            .unwrap()
            .encode(&upper, 64)
            .unwrap()
    };
    assert_eq!(ids(&path).ids, [2, 1, 1, 1, 8, 11, 3]);
    folder.write(
        "sentence_bert_config.json",
        r#"{"max_seq_length": 5, "do_lower_case": true}"#,
    );
    assert_eq!(ids(&path).ids, [2, 4, 5, 6, 3]);
    assert_eq!(ids(&path).truncated, 1);
    let notes = TextTokenizer::from_file(&path).unwrap().notes().join("\n");
    assert!(notes.contains("max_seq_length 5"), "{notes}");
}

#[test]
fn what_is_written_is_cleaned_up_where_the_configuration_says_so() {
    let folder = Folder::new();
    let text = TOKENIZER.replace("\"cleanup\": true", "\"cleanup\": false");
    let path = folder.write("tokenizer.json", text);
    let written = |config: Value| {
        folder.write("tokenizer_config.json", config.to_string());
        let tokenizer = TextTokenizer::from_file(&path).unwrap();
        tokenizer.decode(&[5, 6, 8, 11]).unwrap()
    };
    let plain = written(json!({}));
    assert_eq!(plain, "fine film . b");
    let key = "clean_up_tokenization_spaces";
    assert_eq!(written(json!({key: null})), plain);
    assert_eq!(written(json!({key: true})), "fine film. b");
}

#[test]
fn padding_to_a_length_beyond_memory_is_not_followed() {
    let folder = Folder::new();
    let text = TOKENIZER.replace("\"Fixed\": 8", "\"Fixed\": 1000000000000");
    let tokenizer = TextTokenizer::from_file(&folder.write("tokenizer.json", text)).unwrap();
    let ids = tokenizer
        .encode(&[example("a b", None, None)], 8)
        .unwrap()
        .ids;
    assert_eq!(ids, [2, 4, 11, 3]);
}

#[test]
fn steps_that_make_a_text_too_long_for_any_memory_are_refused() {
    let double = json!({ "type": "Replace", "pattern": { "String": "a" }, "content": "aa" });
    let between = json!({ "type": "Replace", "pattern": { "Regex": "" }, "content": "aaaa" });
    let copy = json!({ "Sequence": { "id": "A", "type_id": 0 } });
    let twice = json!({
        "type": "TemplateProcessing", "single": [copy, copy], "pair": [copy, copy], "special_tokens": {}
    });
    for (key, list, step) in [
        ("normalizer", "normalizers", &double),
        ("normalizer", "normalizers", &between),
        ("decoder", "decoders", &double),
        ("post_processor", "processors", &twice),
    ] {
        let folder = Folder::new();
        let mut file: Value = serde_json::from_str(TOKENIZER).unwrap();
        let mut write = |steps: usize| {
            file[key] = json!({ "type": "Sequence", list: vec![step; steps] });
            folder.write("tokenizer.json", file.to_string())
        };
        says(
            TextTokenizer::from_file(&write(40)),
            &["tokenizer.json", key, "times as much of a text"],
        );
        if key == "normalizer" {
            TextTokenizer::from_file(&write(2)).unwrap();
        }
    }
}

#[test]
fn more_steps_than_any_text_has_time_for_are_refused() {
    let folder = Folder::new();
    let mut file: Value = serde_json::from_str(TOKENIZER).unwrap();
    let lower = json!({ "type": "Lowercase" });
    file["normalizer"] = json!({ "type": "Sequence", "normalizers": vec![lower; 1000] });
    says(
        TextTokenizer::from_file(&folder.write("tokenizer.json", file.to_string())),
        &["tokenizer.json", "normalizer", "1001 steps"],
    );
}

#[test]
fn a_folder_is_answered_with_its_file_or_the_line_that_converts() {
    let folder = Folder::new();
    says(
        tokenizer_file(folder.path()),
        &["tokenizer.json", "vocab.txt", "merges.txt"],
    );
    folder.write("sentencepiece.bpe.model", "x");
    says(
        tokenizer_file(folder.path()),
        &["sentencepiece.bpe.model", "save_pretrained"],
    );
    folder.write("vocab.json", "{}");
    says(tokenizer_file(folder.path()), &["cannot be read"]);
    folder.write("merges.txt", "");
    assert!(
        tokenizer_file(folder.path())
            .unwrap()
            .ends_with("vocab.json")
    );
    folder.write("vocab.txt", "a\nb\n");
    let path = tokenizer_file(folder.path()).unwrap();
    assert!(path.ends_with("vocab.txt"));
    says(TextTokenizer::from_file(&path), &["vocab.txt", "[CLS]"]);
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n";
    says(
        TextTokenizer::from_file(&folder.write("tokenizer.json", pointer)),
        &["Git LFS pointer", "git lfs pull"],
    );
    says(
        TextTokenizer::from_file(folder.path()),
        &["not a regular file"],
    );
    let random = TOKENIZER.replace(
        "\"type\": \"WordPiece\", \"unk",
        "\"dropout\": 0.1, \"type\": \"WordPiece\", \"unk",
    );
    says(
        TextTokenizer::from_file(&folder.write("tokenizer.json", random)),
        &["dropout", "null"],
    );
    let endless = TOKENIZER.replace("_per_word\": 100", "_per_word\": 9223372036854775808");
    says(
        TextTokenizer::from_file(&folder.write("tokenizer.json", endless)),
        &["max_input_chars_per_word: 9223372036854775808", "1000"],
    );
}

/// Long texts of every kind, whose ends a cut could get wrong.
fn long_texts() -> Vec<String> {
    let mut words = String::new();
    for i in 0..6_000u32 {
        words += [
            "film ", "a fine ", "b", ".", "  ", "films ", "[MASK] ", "<mask>", "don't ", "12345 ",
        ][(i.wrapping_mul(2_654_435_761) >> 8) as usize % 10];
    }
    vec![
        words.clone(),
        "这部电影".repeat(4_000),
        "[MASK]".repeat(4_000),
        " ".repeat(30_000) + "<mask> film",
        "film".to_owned() + &" ".repeat(30_000) + "<mask> film",
        "é̂".repeat(6_000),
        "a\u{301}".repeat(6_000) + &words,
        "b".repeat(40_000),
    ]
}

#[test]
fn a_long_text_is_cut_before_it_is_tokenised_and_keeps_its_ids() {
    for (family, side) in ["bert", "roberta", "xlm_roberta", "gpt2", "qwen2", "llama"]
        .into_iter()
        .flat_map(|family| [(family, "left"), (family, "right")])
    {
        let folder = Folder::new();
        lay(
            &folder,
            &json!({
                "family": family, "layout": "json", "change": {},
                "files": {"tokenizer_config.json": {"truncation_side": side}}
            }),
        );
        let tokenizer = TextTokenizer::from_file(&folder.path().join("tokenizer.json")).unwrap();
        for text in long_texts() {
            let whole = tokenizer.encode_text(&text).unwrap();
            for max in [9, 40] {
                let encoded = tokenizer
                    .encode(&[example(&text, None, None)], max)
                    .unwrap();
                let own: Vec<u32> = tokenizer
                    .encode(&[example("", None, None)], max)
                    .unwrap()
                    .ids;
                let room = max - own.len();
                let expected = match side {
                    "right" => &whole[..room.min(whole.len())],
                    _ => &whole[whole.len().saturating_sub(room)..],
                };
                let begin = usize::from(!own.is_empty() && family != "gpt2" && family != "qwen2");
                assert_eq!(
                    &encoded.ids[begin..begin + expected.len()],
                    expected,
                    "{family} {side} {max} {}",
                    text.chars().take(20).collect::<String>()
                );
            }
        }
    }
}
