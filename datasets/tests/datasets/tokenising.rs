//! Token ids: what they are, how they are cut, how they are kept.

use std::fs;

use peftbench_datasets::{Completion, Error, Example, Target, TextTokenizer};

use crate::support::*;

/// A WordPiece tokenizer of BERT's form. It orders padding and truncation to 8 tokens, which must not be followed.
pub const TOKENIZER: &str = r###"{
  "version": "1.0",
  "truncation": { "direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0 },
  "padding": { "strategy": { "Fixed": 8 }, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]" },
  "added_tokens": [
    { "id": 0, "content": "[PAD]", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true },
    { "id": 1, "content": "[UNK]", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true },
    { "id": 2, "content": "[CLS]", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true },
    { "id": 3, "content": "[SEP]", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true }
  ],
  "normalizer": { "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true },
  "pre_tokenizer": { "type": "BertPreTokenizer" },
  "post_processor": {
    "type": "TemplateProcessing",
    "single": [{ "SpecialToken": { "id": "[CLS]", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }, { "SpecialToken": { "id": "[SEP]", "type_id": 0 } }],
    "pair": [{ "SpecialToken": { "id": "[CLS]", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }, { "SpecialToken": { "id": "[SEP]", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } }, { "SpecialToken": { "id": "[SEP]", "type_id": 1 } }],
    "special_tokens": { "[CLS]": { "id": "[CLS]", "ids": [2], "tokens": ["[CLS]"] }, "[SEP]": { "id": "[SEP]", "ids": [3], "tokens": ["[SEP]"] } }
  },
  "decoder": { "type": "WordPiece", "prefix": "##", "cleanup": true },
  "model": {
    "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
    "vocab": { "[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "a": 4, "fine": 5, "film": 6, "##s": 7, ".": 8, "[unused0]": 9, "b": 11 }
  }
}"###;

fn tokenizer(folder: &Folder) -> TextTokenizer {
    TextTokenizer::from_file(&folder.write("tokenizer.json", TOKENIZER)).unwrap()
}

#[test]
fn examples_are_packed_without_padding() {
    let folder = Folder::new();
    let examples = [
        example("A fine film.", None, Some(1)),
        example("films", None, Some(0)),
        example("zebra a a a a a a a a", None, Some(1)),
    ];
    let encoded = tokenizer(&folder).encode(&examples, 64).unwrap();
    assert_eq!(
        encoded.ids,
        [
            2, 4, 5, 6, 8, 3, 2, 6, 7, 3, 2, 1, 4, 4, 4, 4, 4, 4, 4, 4, 3
        ]
    );
    assert_eq!(encoded.types, [0; 21]);
    assert_eq!(encoded.offsets, [0, 6, 10, 21]);
    assert_eq!(encoded.labels, [1, 0, 1].map(Target::Class));
    assert_eq!(encoded.truncated, 0);
    assert_eq!(encoded.len(), 3);
    assert_eq!(encoded.lengths(), [6, 4, 11]);
    assert_eq!(encoded.example(1), (&[2, 6, 7, 3][..], &[0; 4][..]));
    assert_eq!(
        (encoded.length(2), encoded.label(2)),
        (11, &Target::Class(1))
    );
}

#[test]
fn the_second_text_of_a_pair_has_type_one() {
    let folder = Folder::new();
    let pair = [example("a film", Some("b"), None)];
    let encoded = tokenizer(&folder).encode(&pair, 64).unwrap();
    assert_eq!(encoded.ids, [2, 4, 6, 3, 11, 3]);
    assert_eq!(encoded.types, [0, 0, 0, 0, 1, 1]);
    assert!(encoded.labels.is_empty());
}

#[test]
fn a_text_that_is_too_long_is_cut_and_counted() {
    let folder = Folder::new();
    let examples = [
        example("a fine film . b", None, Some(0)),
        example("a fine film", None, Some(0)),
    ];
    let encoded = tokenizer(&folder).encode(&examples, 5).unwrap();
    assert_eq!(encoded.ids, [2, 4, 5, 6, 3, 2, 4, 5, 6, 3]);
    assert_eq!(encoded.truncated, 1);
}

#[test]
fn the_longer_text_of_a_pair_is_cut_first() {
    let folder = Folder::new();
    let encode = |text: &str, pair: &str, max| {
        let encoded = tokenizer(&folder)
            .encode(&[example(text, Some(pair), None)], max)
            .unwrap();
        assert_eq!(encoded.truncated, 1);
        encoded.ids
    };
    assert_eq!(encode("a a a a a a", "b b", 8), [2, 4, 4, 4, 3, 11, 11, 3]);
    assert_eq!(encode("a a", "b b b b b b", 8), [2, 4, 4, 3, 11, 11, 11, 3]);
    assert_eq!(
        encode("a a a a a a", "b b b b b b", 9),
        [2, 4, 4, 4, 3, 11, 11, 11, 3]
    );
}

#[test]
fn a_limit_without_room_for_text_is_refused_with_the_smallest_that_has() {
    let folder = Folder::new();
    let tokenizer = tokenizer(&folder);
    let single = [example("a", None, None)];
    says(
        tokenizer.encode(&single, 2),
        &["tokenizer.json", "max_tokens 2", "accepted: 3"],
    );
    assert_eq!(tokenizer.encode(&single, 3).unwrap().ids, [2, 4, 3]);
    let pair = [example("a", Some("b"), None)];
    says(tokenizer.encode(&pair, 0), &["max_tokens 0", "accepted: 4"]);
}

#[test]
fn megabytes_in_both_texts_of_a_pair_are_cut_like_any_other() {
    let folder = Folder::new();
    let examples = [
        example(&"a ".repeat(500_000), Some(&"b".repeat(1_000_000)), None),
        example(&"film".repeat(250_000), Some(&"b.".repeat(500_000)), None),
    ];
    let encoded = tokenizer(&folder).encode(&examples, 10).unwrap();
    assert_eq!(encoded.truncated, 2);
    assert_eq!(encoded.example(0).0, [2, 4, 4, 4, 4, 4, 4, 3, 1, 3]);
    assert_eq!(encoded.example(1).0, [2, 1, 3, 11, 8, 11, 8, 11, 8, 3]);
}

#[test]
fn a_word_or_white_space_without_end_is_tokenised_to_a_bound_and_counts_as_cut() {
    let folder = Folder::new();
    let (word, space) = ("x".repeat(1_500_000), " ".repeat(1_500_000));
    let right = tokenizer(&folder);
    let examples = [
        example(&format!("a {word} film"), None, None),
        example(&format!("a{space}film"), None, None),
        example("a", Some(&format!("b {word} film")), None),
    ];
    let encoded = right.encode(&examples, 10).unwrap();
    assert_eq!(encoded.example(0).0, [2, 4, 1, 3]);
    assert_eq!(encoded.example(1).0, [2, 4, 3]);
    assert_eq!(encoded.example(2).0, [2, 4, 3, 11, 1, 3]);
    assert_eq!(encoded.truncated, 3);
    folder.write(
        "tokenizer_config.json",
        r#"{"tokenizer_class": "PreTrainedTokenizerFast", "truncation_side": "left"}"#,
    );
    let left = tokenizer(&folder);
    let example_of = |text: &str| [example(text, None, None)];
    let encoded = left
        .encode(&example_of(&format!("film {word} a")), 10)
        .unwrap();
    assert_eq!(encoded.ids, [2, 1, 4, 3]);
    assert_eq!(encoded.truncated, 1);

    // Words with tags keep their numbers; one of which only a part is left is not read.
    let tagged = |tokenizer: &TextTokenizer, text: &str| {
        let encoded = tokenizer.encode_tagged(&example_of(text), 10).unwrap();
        assert_eq!(encoded.truncated, 1);
        let words: Vec<u32> = encoded.words[0].iter().map(|w| w.word).collect();
        (encoded.ids, words)
    };
    assert_eq!(
        tagged(&right, &format!("a\n{word}\nfilm")),
        (vec![2, 4, 3], vec![0])
    );
    assert_eq!(
        tagged(&left, &format!("film\n{word}\na")),
        (vec![2, 4, 3], vec![2])
    );
    assert_eq!(tagged(&right, &word), (vec![2, 1, 3], vec![0]));
    says(
        left.encode_tagged(&example_of(&word), 10),
        &["none of the 1 words"],
    );

    let completion = Completion::new(false, Some("{text} ."), Some(3));
    let writing = right.with_completion(&completion, 3);
    let examples = [
        asked("a", Some(&word)),
        asked("a", Some(&"film ".repeat(300_000))),
    ];
    let encoded = writing.encode(&examples, 9).unwrap();
    assert_eq!(encoded.completion(0), [1, 3]);
    assert_eq!(encoded.completion(1), [6, 6, 6]);
    assert_eq!(encoded.truncated, 2);
}

#[test]
fn the_vocabulary_is_known_by_its_largest_id_and_its_ordinary_tokens() {
    let folder = Folder::new();
    let tokenizer = tokenizer(&folder);
    assert_eq!(tokenizer.vocabulary_size(), 12);
    assert_eq!(tokenizer.ordinary_tokens(), [4, 5, 6, 7, 8, 11]);
    assert_eq!(tokenizer.special_tokens(), [0, 1, 2, 3].into());
    assert_eq!(tokenizer.encode_text("A fine film.").unwrap(), [4, 5, 6, 8]);
    assert_eq!(tokenizer.encode_text("").unwrap(), [] as [u32; 0]);
}

/// The one file of a cache.
fn cached(folder: &Folder) -> std::path::PathBuf {
    let mut files = fs::read_dir(folder.path().join("tokens")).unwrap();
    let path = files.next().unwrap().unwrap().path();
    assert!(files.next().is_none(), "more than one file");
    path
}

#[test]
fn a_cache_gives_the_same_tokens_with_the_labels_of_the_examples() {
    let folder = Folder::new();
    let tokenizer = tokenizer(&folder);
    let mut examples = [
        example("a fine film", Some("b b b"), Some(1)),
        example("b", Some("films"), Some(0)),
    ];
    let first = tokenizer
        .encode_cached(&examples, 8, folder.path())
        .unwrap();
    assert_eq!(first, tokenizer.encode(&examples, 8).unwrap());
    let written = fs::metadata(cached(&folder)).unwrap().modified().unwrap();
    assert_eq!(
        tokenizer
            .encode_cached(&examples, 8, folder.path())
            .unwrap(),
        first
    );
    examples[1].label = Some(Target::Class(1));
    let changed = tokenizer
        .encode_cached(&examples, 8, folder.path())
        .unwrap();
    assert_eq!(changed.labels, [1, 1].map(Target::Class));
    assert_eq!(changed.ids, first.ids);
    assert_eq!(
        fs::metadata(cached(&folder)).unwrap().modified().unwrap(),
        written
    );
}

#[test]
fn another_text_limit_or_tokenizer_has_another_place_in_the_cache() {
    let folder = Folder::new();
    let cache = folder.path();
    let one = tokenizer(&folder);
    one.encode_cached(&[example("a b", None, None)], 8, cache)
        .unwrap();
    one.encode_cached(&[example("a b", None, None)], 9, cache)
        .unwrap();
    one.encode_cached(&[example("a", Some("b"), None)], 8, cache)
        .unwrap();
    one.encode_cached(
        &[example("a", None, None), example("b", None, None)],
        8,
        cache,
    )
    .unwrap();
    let other = folder.write("other.json", TOKENIZER.replace("\"b\": 11", "\"b\": 10"));
    let other = TextTokenizer::from_file(&other).unwrap();
    let ids = other
        .encode_cached(&[example("a b", None, None)], 8, cache)
        .unwrap()
        .ids;
    assert_eq!(ids, [2, 4, 10, 3]);
    assert_eq!(fs::read_dir(cache.join("tokens")).unwrap().count(), 5);
}

#[test]
fn a_damaged_cache_is_made_again() {
    let folder = Folder::new();
    let tokenizer = tokenizer(&folder);
    let examples = [
        example("a fine film", None, Some(1)),
        example("b", None, Some(0)),
    ];
    let good = tokenizer
        .encode_cached(&examples, 8, folder.path())
        .unwrap();
    let path = cached(&folder);
    let bytes = fs::read(&path).unwrap();
    let mut flipped = bytes.clone();
    flipped[30] ^= 1;
    for damaged in [
        &bytes[..0],
        &bytes[..20],
        &bytes[..bytes.len() - 1],
        &flipped,
        &[bytes.clone(), vec![0]].concat(),
    ] {
        fs::write(&path, damaged).unwrap();
        assert_eq!(
            tokenizer
                .encode_cached(&examples, 8, folder.path())
                .unwrap(),
            good
        );
        assert_eq!(fs::read(&path).unwrap(), bytes, "written again");
    }
}

#[test]
fn a_cache_that_cannot_be_written_stops_nothing() -> Result<(), Error> {
    let folder = Folder::new();
    let not_a_folder = folder.write("file", "");
    let examples = [example("a fine film", None, Some(1))];
    let tokenizer = tokenizer(&folder);
    let encoded = tokenizer.encode_cached(&examples, 8, &not_a_folder)?;
    assert_eq!(encoded, tokenizer.encode(&examples, 8)?);
    Ok(())
}

/// An example with a text to write.
fn asked(text: &str, written: Option<&str>) -> Example {
    Example {
        text: text.to_owned(),
        pair: None,
        label: written.map(|text| Target::Text(text.to_owned())),
    }
}

#[test]
fn a_completion_stands_behind_its_prompt_and_each_token_is_read_one_before() {
    let folder = Folder::new();
    let completion = Completion::new(false, Some("{text} ."), Some(3));
    let tokenizer = tokenizer(&folder).with_completion(&completion, 3);
    let examples = [
        asked("a fine", Some("film")),
        // Longer than a completion may be, so that it has no end.
        asked("a", Some("a fine film b")),
        // Longer than what is left for a prompt: the text loses its end, the template stays.
        asked("a fine film a fine film", Some("b")),
    ];
    let encoded = tokenizer.encode(&examples, 9).unwrap();
    // The tokenizer's own end of a text does not stand between them.
    assert_eq!(encoded.prompt(0), [2, 4, 5, 8]);
    assert_eq!(encoded.completion(0), [6, 3]);
    assert_eq!(encoded.completion(1), [4, 5, 6]);
    assert_eq!(encoded.prompt(2), [2, 4, 5, 6, 8]);
    assert_eq!(encoded.completion(2), [11, 3]);
    assert_eq!(encoded.truncated, 2);
    assert_eq!(encoded.same_prompts(&examples), 0);
    let read = |i: usize| -> Vec<u32> { encoded.words[i].iter().map(|w| w.token).collect() };
    assert_eq!(
        [read(0), read(1), read(2)],
        [vec![3, 4], vec![2, 3, 4], vec![4, 5]]
    );
    // A prompt whose completion is to come is the same prompt.
    let alone = tokenizer.encode(&[asked("a fine", None)], 9).unwrap();
    assert_eq!(alone.ids, [2, 4, 5, 8]);
    assert_eq!(alone.prompt(0), encoded.prompt(0));
    assert_eq!(tokenizer.decode(&[6, 7, 3]).unwrap(), "films");
}

#[test]
fn prompts_that_are_cut_to_the_same_tokens_are_counted_and_rows_of_one_prompt_are_not() {
    let folder = Folder::new();
    let completion = Completion::new(false, Some("{text} ."), Some(3));
    let tokenizer = tokenizer(&folder).with_completion(&completion, 3);
    let examples = [
        asked("a fine film a fine film", Some("b")),
        asked("a fine film a fine", Some("film")),
        asked("a fine film a fine", Some("b")),
        asked("a fine", Some("film")),
    ];
    let encoded = tokenizer.encode(&examples, 9).unwrap();
    assert_eq!(encoded.prompt(0), encoded.prompt(1));
    assert_eq!(encoded.same_prompts(&examples), 1);
}

#[test]
fn a_prompt_without_room_is_refused_with_what_to_do() {
    let folder = Folder::new();
    let completion = Completion::new(false, Some("{text} ."), Some(3));
    let tokenizer = tokenizer(&folder).with_completion(&completion, 3);
    let refused = |max_tokens: usize| {
        let refused = tokenizer.encode(&[asked("a", Some("b"))], max_tokens);
        refused.unwrap_err().to_string()
    };
    assert!(
        refused(3).contains("max_new_tokens 3 leaves no room"),
        "{}",
        refused(3)
    );
    let message = refused(5);
    assert!(
        message.contains("prompt: '{text} .' alone has 3 tokens") && message.contains("in 2"),
        "{message}"
    );
    let pairs = Completion::new(true, Some("{text} . {pair}"), Some(3));
    let tokenizer = tokenizer.with_completion(&pairs, 3);
    let long = [example("a film", Some("b b b b b b b b"), None)];
    let message = tokenizer.encode(&long, 9).unwrap_err().to_string();
    assert!(
        message.contains("more than 6 tokens") && message.contains("shorten the second"),
        "{message}"
    );
}
