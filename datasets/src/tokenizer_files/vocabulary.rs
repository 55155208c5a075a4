//! A `tokenizer.json` out of the vocabulary of a BERT or RoBERTa.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{
    added::Pending,
    side::{Side, bad, read_file},
};
use crate::Result;

pub(super) fn conversion(folder: &Path) -> String {
    format!(
        "make tokenizer.json once with: python -c \"from transformers import AutoTokenizer as A; \
         A.from_pretrained('{0}').save_pretrained('{0}')\"",
        folder.display()
    )
}

/// A `tokenizer.json` out of BERT's `vocab.txt`: one token a line, its id is the line's number from 0.
pub(super) fn word_piece(path: &Path, bytes: &[u8], config: &Side) -> Result<Value> {
    let text = lines_of(path, bytes)?;
    let mut vocabulary = Map::new();
    let lines = text.strip_suffix('\n').unwrap_or(&text);
    for (id, token) in lines.split('\n').enumerate() {
        vocabulary.insert(token.to_owned(), id.into());
    }
    let name = |key: &str, default: &str| match config.values.get(key) {
        Some(value) => Pending::of(value).map_or(default.into(), |t| t.content),
        None => default.to_owned(),
    };
    let (cls, sep) = (name("cls_token", "[CLS]"), name("sep_token", "[SEP]"));
    let mut special = Map::new();
    for token in [&cls, &sep] {
        let id = vocabulary.get(token).ok_or_else(|| {
            bad(
                path,
                format!("has no line '{token}'; it is not BERT's vocabulary"),
            )
        })?;
        special.insert(
            token.clone(),
            json!({"id": token, "ids": [id], "tokens": [token]}),
        );
    }
    let one = |token: &str, kind: u8| json!({"SpecialToken": {"id": token, "type_id": kind}});
    let a = json!({"Sequence": {"id": "A", "type_id": 0}});
    let b = json!({"Sequence": {"id": "B", "type_id": 1}});
    Ok(json!({
        "version": "1.0",
        "added_tokens": [],
        "normalizer": {
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [one(&cls, 0), a, one(&sep, 0)],
            "pair": [one(&cls, 0), a, one(&sep, 0), b, one(&sep, 1)],
            "special_tokens": special
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {
            "type": "WordPiece", "unk_token": name("unk_token", "[UNK]"),
            "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": vocabulary
        }
    }))
}

/// A `tokenizer.json` out of RoBERTa's `vocab.json` and `merges.txt`.
pub(super) fn byte_pairs(
    folder: &Path,
    class: &str,
    vocabulary: Map<String, Value>,
    config: &Side,
) -> Result<Value> {
    let path = folder.join("merges.txt");
    if class != "RobertaTokenizer" {
        return Err(bad(
            &folder.join("vocab.json"),
            format!("of a {class} cannot be read alone; {}", conversion(folder)),
        ));
    }
    let text = lines_of(&path, &read_file(&path)?)?;
    // transformers drops the first line, whatever it is, and what stands behind the last line end.
    let mut lines: Vec<&str> = text.split('\n').skip(1).collect();
    lines.pop();
    let mut merges: Vec<[&str; 2]> = Vec::with_capacity(lines.len());
    let mut seen = std::collections::HashSet::new();
    for (i, line) in lines.iter().enumerate() {
        let mut parts = line.split_whitespace();
        let (Some(left), Some(right), None) = (parts.next(), parts.next(), parts.next()) else {
            return Err(bad(
                &path,
                format!("line {}: '{line}' is not two tokens to merge", i + 2),
            ));
        };
        if seen.insert((left, right)) {
            merges.push([left, right]);
        }
    }
    let name = |key: &str, default: &str| match config.values.get(key) {
        Some(value) => Pending::of(value).map_or(default.into(), |t| t.content),
        None => default.to_owned(),
    };
    let (cls, sep) = (name("cls_token", "<s>"), name("sep_token", "</s>"));
    let id = |token: &str| {
        vocabulary.get(token).cloned().ok_or_else(|| {
            bad(
                &folder.join("vocab.json"),
                format!("has no token '{token}'"),
            )
        })
    };
    Ok(json!({
        "version": "1.0",
        "added_tokens": [],
        "normalizer": null,
        "pre_tokenizer": {
            "type": "ByteLevel", "add_prefix_space": config.boolean("add_prefix_space", false)?,
            "trim_offsets": true, "use_regex": true
        },
        "post_processor": {
            "type": "RobertaProcessing", "sep": [sep, id(&sep)?], "cls": [cls, id(&cls)?],
            "trim_offsets": true, "add_prefix_space": config.boolean("add_prefix_space", false)?
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
            "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": false, "vocab": vocabulary, "merges": merges
        }
    }))
}

/// Text with the line ends of Python's text mode.
fn lines_of(path: &Path, bytes: &[u8]) -> Result<String> {
    let text = std::str::from_utf8(bytes).map_err(|e| {
        bad(
            path,
            format!(
                "is not UTF-8 at byte {}; fetch or save it again",
                e.valid_up_to()
            ),
        )
    })?;
    Ok(text.replace("\r\n", "\n").replace('\r', "\n"))
}
