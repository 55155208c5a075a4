//! The tokenizer of a GGUF: byte-level byte pairs from its tokens and merges, as a `tokenizer.json`.
//!
//! `tokenizer.ggml.pre` says how texts are split before pairs are merged. Of SmolLM2 digits stand alone (transformers' own
//! conversion of this file takes it for a Llama tokenizer and gives other ids).

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use backbone::Gguf;
use datasets::TextTokenizer;
use serde_json::{Map, Value, json};

/// Kinds of tokens that are found in a text before it is split: control, and those that a user added.
const CONTROL: i64 = 3;
const ADDED: i64 = 4;

/// Splits that are understood, by their name.
const SPLITS: [&str; 4] = ["smollm", "gpt-2", "qwen2", "llama-bpe"];

/// Reads it.
///
/// # Errors
/// If it is of another kind, or its parts do not fit together.
pub fn read(path: &Path) -> Result<TextTokenizer> {
    let gguf = Gguf::open(path)?;
    let json = json(&gguf).with_context(|| path.display().to_string())?;
    Ok(TextTokenizer::from_json(path, &json)?)
}

/// What transformers would have in `tokenizer.json`.
///
/// # Errors
/// As [`read`].
pub fn json(gguf: &Gguf) -> Result<Value> {
    let model = gguf.text("tokenizer.ggml.model").unwrap_or_default();
    ensure!(
        model == "gpt2",
        "tokenizer.ggml.model: '{model}' is not read from GGUF; accepted: gpt2 (byte-level byte pairs); name a folder with \
         tokenizer.json instead"
    );
    let list = |key: &str| {
        let key = format!("tokenizer.ggml.{key}");
        gguf.texts(&key)
            .with_context(|| format!("{key} is missing, or no list of texts"))
    };
    let (tokens, merges) = (list("tokens")?, list("merges")?);
    let kinds = gguf.wholes("tokenizer.ggml.token_type").unwrap_or_default();
    ensure!(
        kinds.is_empty() || kinds.len() == tokens.len(),
        "tokenizer.ggml.token_type has {} entries for {} tokens",
        kinds.len(),
        tokens.len()
    );
    let mut vocabulary = Map::new();
    for (id, token) in tokens.iter().enumerate() {
        if vocabulary.insert(token.clone(), id.into()).is_some() {
            bail!("tokenizer.ggml.tokens: '{token}' is there twice");
        }
    }
    let pairs = merges.iter().map(|merge| match merge.split_once(' ') {
        Some((a, b)) => Ok(json!([a, b])),
        None => bail!("tokenizer.ggml.merges: '{merge}' is not a pair of tokens"),
    });
    let pairs: Vec<Value> = pairs.collect::<Result<_>>()?;
    let added = tokens.iter().enumerate().filter_map(|(id, token)| {
        let kind = kinds.get(id).copied().unwrap_or_default();
        [CONTROL, ADDED].contains(&kind).then(|| {
            json!({
                "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
                "special": kind == CONTROL,
            })
        })
    });
    let pre = gguf.text("tokenizer.ggml.pre").unwrap_or("gpt-2");
    let byte_level = |use_regex: bool| json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex });
    let split = |pattern: &str| json!({ "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false });
    const WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|";
    const REST: &str = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let first = match pre {
        "smollm" => Some(json!({ "type": "Digits", "individual_digits": true })),
        "gpt-2" => None,
        "qwen2" => Some(split(&format!(r"{WORDS}\p{{N}}{REST}"))),
        "llama-bpe" => Some(split(&format!(r"{WORDS}\p{{N}}{{1,3}}{REST}"))),
        other => bail!(
            "tokenizer.ggml.pre: '{other}' is not understood; accepted: {}",
            SPLITS.join(", ")
        ),
    };
    let own_split = matches!(pre, "smollm" | "gpt-2");
    let steps: Vec<Value> = first.into_iter().chain([byte_level(own_split)]).collect();
    let byte_processor = json!({ "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true });
    // Whether texts begin with bos; of Llama 3 they do, as in llama.cpp, where the file does not say.
    let begins = gguf.truth("tokenizer.ggml.add_bos_token");
    let processor = match begins.unwrap_or(pre == "llama-bpe") {
        true => {
            let id = gguf
                .number("tokenizer.ggml.bos_token_id")
                .unwrap_or(u64::MAX) as usize;
            let bos = tokens.get(id);
            let bos = bos.context("tokenizer.ggml.bos_token_id names no token")?;
            json!({
                "type": "TemplateProcessing",
                "single": [{ "SpecialToken": { "id": bos, "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }],
                "pair": [
                    { "SpecialToken": { "id": bos, "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } },
                    { "Sequence": { "id": "B", "type_id": 0 } }
                ],
                "special_tokens": { bos: { "id": bos, "ids": [id], "tokens": [bos] } },
            })
        }
        false => byte_processor,
    };
    let normalizer = match pre {
        "qwen2" => json!({ "type": "NFC" }),
        _ => Value::Null,
    };
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added.collect::<Vec<_>>(),
        "normalizer": normalizer,
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": steps },
        "post_processor": processor,
        "decoder": byte_level(true),
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": false, "byte_fallback": false, "ignore_merges": pre == "llama-bpe",
            "vocab": vocabulary, "merges": pairs,
        },
    }))
}
