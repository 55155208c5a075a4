//! A tokenizer from its files, as transformers' `AutoTokenizer` makes it.
//!
//! `tokenizer.json` alone does not say how a text becomes ids: transformers lets the values of `tokenizer_config.json`
//! (and of the tokenizer's class, where the file is silent) overrule it. The class is named by `tokenizer_config.json`,
//! else by `config.json`. A key that changes ids is followed or refused by name; every other key is passed over.
//!
//! | key | what it does |
//! |---|---|
//! | `do_lower_case`, `strip_accents`, `tokenize_chinese_chars` | BERT's normalizer, also where they are absent: true, null, true |
//! | `add_prefix_space` | a space before the text, for byte-level tokenizers |
//! | `add_bos_token`, `add_eos_token` | Llama's template |
//! | `truncation_side`, `model_max_length` | which end a long text loses, and from how many tokens on |
//! | `added_tokens_decoder`, the special tokens, `added_tokens.json`, `special_tokens_map.json` | tokens that are found before the text is split |
//! | `split_special_tokens` | special tokens in a text are ordinary text |
//! | `model_input_names` | whether the second text of a pair has token types of its own; the class says it where it is absent |
//! | `clean_up_tokenization_spaces` | what is written loses spaces before punctuation |
//! | `max_seq_length`, `do_lower_case` of `sentence_bert_config.json` | as sentence-transformers reads them |

mod added;
mod class;
mod side;
mod vocabulary;

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};
use tokenizers::{Tokenizer, utils::truncation::TruncationDirection};

use crate::{Error, Result, caught};
use added::{Pending, added_tokens_decoder, special_tokens};
use class::{UNKNOWN, class, types};
use side::{Side, bad, read_file};
use vocabulary::{byte_pairs, conversion, word_piece};

/// A tokenizer with what transformers keeps beside it.
pub(crate) struct TokenizerFiles {
    pub(crate) tokenizer: Tokenizer,
    /// The end that a text which is too long loses.
    pub(crate) truncation_side: TruncationDirection,
    /// The most tokens of an example, special ones included.
    pub(crate) max_length: Option<usize>,
    /// Texts are lower-cased before anything else.
    pub(crate) lower_case: bool,
    /// Whether token types are given to the model.
    pub(crate) types: bool,
    /// Texts that are made of tokens lose spaces before punctuation.
    pub(crate) clean_up: bool,
    /// Rows that an embedding table needs: tokens that only the class brings along are not counted.
    pub(crate) vocabulary: usize,
    /// What of the side files is worth a line on the terminal.
    pub(crate) notes: Vec<String>,
}

/// How many times as long as it was a text may become before it is tokenised.
const GROWTH: f64 = 1000.0;
/// Steps that a part of a tokenizer may consist of; the longest of real ones have some ten.
const STEPS: usize = 1000;

/// The file in a folder that a tokenizer is made of: `tokenizer.json`, or the vocabulary of a BERT or RoBERTa.
///
/// # Errors
/// If there is none that can be read; where a Python program could convert what is there, the message holds it.
pub fn tokenizer_file(folder: &Path) -> Result<PathBuf> {
    let has = |name: &str| folder.join(name).exists();
    for (name, also) in [
        ("tokenizer.json", None),
        ("vocab.txt", None),
        ("vocab.json", Some("merges.txt")),
    ] {
        if has(name) && also.is_none_or(has) {
            return Ok(folder.join(name));
        }
    }
    let other = [
        "sentencepiece.bpe.model",
        "spiece.model",
        "tokenizer.model",
        "vocab.json",
    ]
    .into_iter()
    .find(|name| has(name));
    let message = match other {
        Some(name) => format!("missing, and {name} cannot be read; {}", conversion(folder)),
        None => "missing; a backbone's folder needs tokenizer.json, or vocab.txt, or vocab.json \
                 with merges.txt"
            .into(),
    };
    Err(Error::Tokenizer {
        path: folder.join("tokenizer.json"),
        message,
    })
}

/// A tokenizer that is all in one `tokenizer.json`, which another file (`path`, for messages) was turned into.
pub(crate) fn of_json(path: &Path, json: &Value) -> Result<TokenizerFiles> {
    let tokenizer = caught(|| Tokenizer::from_bytes(json.to_string()))
        .map_err(|e| bad(path, format!("its tokenizer cannot be used: {e}")))?;
    let largest = tokenizer.get_vocab(true).into_values().max();
    Ok(TokenizerFiles {
        tokenizer,
        truncation_side: TruncationDirection::Right,
        max_length: None,
        lower_case: false,
        types: true,
        clean_up: false,
        vocabulary: largest.map_or(0, |id| id as usize + 1),
        notes: Vec::new(),
    })
}

/// Reads the tokenizer whose main file is `path`, with the files beside it.
pub(crate) fn read(path: &Path) -> Result<TokenizerFiles> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let side = |name: &str| Side::read(folder.join(name));
    let mut config = side("tokenizer_config.json")?;
    let model = side("config.json")?;
    let class = class(&config, &model)?;
    // The library reads another file then: that of the newest version that is not newer than itself.
    if let Some(other) = config.values.get("fast_tokenizer_files").and_then(|files| {
        let mut files = files.as_array()?.iter();
        files.find(|file| **file != "tokenizer.json")
    }) {
        let accepted = "tokenizer.json alone; make it the one with the version that is wanted";
        return Err(config.wrong("fast_tokenizer_files", other, accepted));
    }

    let mut pending = added_tokens_decoder(&config)?;
    let mut known: Vec<Pending> = pending.iter().map(|(_, token)| token.clone()).collect();
    // Files older than `added_tokens_decoder` say the same in other places.
    let legacy = pending.is_empty() && !config.values.contains_key("added_tokens_decoder");
    if legacy {
        for (key, value) in side("special_tokens_map.json")?.values {
            let value = match value {
                Value::Object(mut token) => {
                    token.insert("special".into(), true.into());
                    token.insert("__type".into(), "AddedToken".into());
                    Value::Object(token)
                }
                other => other,
            };
            config.values.insert(key, value);
        }
    }
    let bytes = read_file(path)?;
    let object = || -> Result<Map<String, Value>> {
        serde_json::from_slice(&bytes).map_err(|e| {
            let what = format!("not a readable tokenizer.json: {e}; fetch or save it again");
            bad(path, what)
        })
    };
    let mut file = match path.file_name().and_then(|name| name.to_str()) {
        Some("vocab.txt") => word_piece(path, &bytes, &config)?,
        Some("vocab.json") => byte_pairs(folder, class, object()?, &config)?,
        _ => Value::Object(object()?),
    };
    if legacy {
        let own: Vec<&Value> = file["added_tokens"]
            .as_array()
            .into_iter()
            .flatten()
            .collect();
        let specials: HashSet<String> = special_tokens(class, &config, &[])?
            .into_iter()
            .map(|token| token.content)
            .collect();
        let own_ids: HashSet<u64> = own.iter().filter_map(|t| t["id"].as_u64()).collect();
        let added = side("added_tokens.json")?;
        for (content, id) in &added.values {
            let id = id
                .as_u64()
                .ok_or_else(|| added.wrong(content, id, "the id of a token"))?;
            if own_ids.contains(&id) {
                continue;
            }
            let special = specials.contains(content);
            pending.push((
                id,
                Pending {
                    content: content.clone(),
                    special,
                    normalized: Some(!special),
                    ..Pending::default()
                },
            ));
        }
        // Their flags hold for the special tokens of the same name.
        known.extend(own.into_iter().filter_map(Pending::parse));
    }
    pending.sort_by_key(|(id, _)| *id);

    let direction = file["truncation"]["direction"]
        .as_str()
        .map(str::to_lowercase);
    // An order to pad to 10¹² tokens would be followed by the first text.
    for key in ["truncation", "padding"] {
        if file.get(key).is_some() {
            file[key] = Value::Null;
        }
    }
    if file["model"]["dropout"].as_f64().is_some_and(|p| p > 0.0) {
        return Err(bad(
            path,
            format!(
                "model.dropout: {} makes the ids of a text random; set it to null",
                file["model"]["dropout"]
            ),
        ));
    }
    // Each part of a word is looked up: the time grows with the cube of its length. (BERT's words have at most 100.)
    let word = &file["model"]["max_input_chars_per_word"];
    if word.as_u64().is_some_and(|longest| longest > 1000) {
        return Err(bad(
            path,
            format!(
                "model.max_input_chars_per_word: {word} lets a single word take minutes; accepted: up to 1000"
            ),
        ));
    }
    follow(class, &config, &mut file)?;
    check_growth(path, &file)?;

    let mut tokenizer = caught(|| Tokenizer::from_bytes(file.to_string())).map_err(|e| {
        bad(
            path,
            format!("not a readable tokenizer.json: {e}; fetch or save it again"),
        )
    })?;
    let vocabulary = |t: &Tokenizer| {
        let largest = t.get_vocab(true).into_values().max();
        largest.map_or(0, |id| id as usize + 1)
    };
    let mut specials = special_tokens(class, &config, &known)?;
    let names: HashSet<String> = specials.iter().map(|t| t.content.clone()).collect();
    let add = |tokenizer: &mut Tokenizer, tokens: Vec<Pending>| {
        let tokens = tokens.into_iter().map(|mut token| {
            token.special |= names.contains(&token.content);
            token.into_token()
        });
        caught(|| tokenizer.add_tokens(tokens.collect::<Vec<_>>()))
            .map_err(|e| bad(path, format!("its added tokens cannot be used: {e}")))
    };
    add(
        &mut tokenizer,
        pending.into_iter().map(|(_, t)| t).collect(),
    )?;
    let rows = vocabulary(&tokenizer);
    // A name alone changes nothing where the token is there already; a token with its flags replaces it.
    let present = tokenizer.get_added_tokens_decoder();
    let present: HashSet<&str> = present.values().map(|p| p.content.as_str()).collect();
    specials.retain(|t| t.whole || !present.contains(t.content.as_str()));
    add(&mut tokenizer, specials)?;
    if class == "LlamaTokenizer" {
        llama_template(&config, &mut tokenizer)?;
    }
    tokenizer.set_encode_special_tokens(config.boolean("split_special_tokens", false)?);

    let mut notes = Vec::new();
    let truncation_side = match config.text("truncation_side")?.or(direction).as_deref() {
        None | Some("right") => TruncationDirection::Right,
        Some("left") => {
            notes.push(format!(
                "{}: truncation_side left: a text that is too long loses its beginning",
                config.path.display()
            ));
            TruncationDirection::Left
        }
        Some(other) => {
            return Err(config.wrong("truncation_side", &other.into(), "left or right"));
        }
    };
    if let Some(side) = config.text("padding_side")?
        && !["left", "right"].contains(&side.as_str())
    {
        return Err(config.wrong("padding_side", &side.into(), "left or right"));
    }
    let mut max_length = config.length("model_max_length")?;
    if !config.values.contains_key("model_max_length") {
        max_length = config.length("max_len")?;
    }
    let sentence = side("sentence_bert_config.json")?;
    let lower_case = sentence.boolean("do_lower_case", false)?;
    if let Some(limit) = sentence.length("max_seq_length")? {
        notes.push(format!(
            "{}: max_seq_length {limit}: longer texts are cut",
            sentence.path.display()
        ));
        max_length = Some(max_length.map_or(limit, |m| m.min(limit)));
    }
    Ok(TokenizerFiles {
        types: types(class, &config, &model)?,
        clean_up: match config.values.get("clean_up_tokenization_spaces") {
            Some(Value::Null) => false,
            _ => config.boolean("clean_up_tokenization_spaces", false)?,
        },
        tokenizer,
        truncation_side,
        max_length,
        lower_case,
        vocabulary: rows,
        notes,
    })
}

/// Refuses steps that together make so much of a text that no memory holds it (forty times `a` to `aa` is 2⁴⁰ letters of one),
/// and more steps than any text has time for.
fn check_growth(path: &Path, file: &Value) -> Result<()> {
    for key in ["normalizer", "pre_tokenizer", "post_processor", "decoder"] {
        let steps = steps(&file[key]);
        if steps > STEPS {
            return Err(bad(
                path,
                format!("{key}: it has {steps} steps; at most {STEPS} are followed"),
            ));
        }
    }
    for key in ["normalizer", "post_processor", "decoder"] {
        let times = growth(&file[key]);
        if times > GROWTH {
            return Err(bad(
                path,
                format!(
                    "{key}: its steps may make {times:.1e} times as much of a text; at most {GROWTH} times is followed"
                ),
            ));
        }
    }
    Ok(())
}

/// The steps that a step consists of.
fn below(step: &Value) -> impl Iterator<Item = &Value> {
    let keys = ["normalizers", "pretokenizers", "processors", "decoders"];
    let lists = keys.into_iter().filter_map(|key| step[key].as_array());
    lists.flatten()
}

/// The step and those that it consists of.
fn steps(step: &Value) -> usize {
    1 + below(step).map(steps).sum::<usize>()
}

/// How many times as long a step may make a text of at least one letter, or of one token. Steps are known by their keys, as
/// they need not say their type.
fn growth(step: &Value) -> f64 {
    let length = |text: &Value| text.as_str().map_or(0, |text| text.chars().count()) as f64;
    let replaced = match (length(&step["content"]), length(&step["pattern"]["String"])) {
        // What is no plain text may match between any two letters.
        (content, 0.0) => 1.0 + content,
        (content, pattern) => (content / pattern).max(1.0),
    };
    let copies = ["single", "pair"].map(|key| {
        let pieces = step[key].as_array().into_iter().flatten();
        let texts = pieces.filter_map(|piece| piece["Sequence"]["id"].as_str());
        let texts: Vec<&str> = texts.collect();
        let of = |id: &str| texts.iter().filter(|text| **text == id).count();
        of("A").max(of("B")).max(1) as f64
    });
    below(step).map(growth).product::<f64>()
        * replaced
        * (1.0 + length(&step["prepend"]))
        * copies[0].max(copies[1])
}

/// Writes what the class makes of the configuration into the `tokenizer.json`.
fn follow(class: &str, config: &Side, file: &mut Value) -> Result<()> {
    if matches!(class, "BertTokenizer" | "DistilBertTokenizer") {
        let normalizer = &mut file["normalizer"];
        if normalizer["type"] == "BertNormalizer" {
            normalizer["lowercase"] = config.boolean("do_lower_case", true)?.into();
            normalizer["handle_chinese_chars"] =
                config.boolean("tokenize_chinese_chars", true)?.into();
            normalizer["strip_accents"] = match config.values.get("strip_accents") {
                None | Some(Value::Null) => Value::Null,
                Some(_) => config.boolean("strip_accents", false)?.into(),
            };
        }
    }
    if class == "LlamaTokenizer"
        && let Some(value) = config
            .values
            .get("add_prefix_space")
            .filter(|v| !v.is_null())
    {
        return Err(config.wrong(
            "add_prefix_space",
            value,
            "null: with another value transformers converts the tokenizer anew from tokenizer.model",
        ));
    }
    if let Some(value) = config.values.get("from_slow")
        && truthy(value)
    {
        return Err(config.wrong("from_slow", value, "false"));
    }
    let explicit = config.values.get("add_prefix_space");
    // A class that knows nothing of it has it false; null is an error that transformers passes over.
    if explicit != Some(&Value::Null) && class != UNKNOWN {
        let space = config.boolean("add_prefix_space", false)?;
        // (Metaspace, which had the key in files of old, knows another one now.)
        if file["pre_tokenizer"]["type"] == "ByteLevel" {
            file["pre_tokenizer"]["add_prefix_space"] = space.into();
        }
    }
    Ok(())
}

fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(b) => *b,
        Value::Number(n) => n.as_f64() != Some(0.0),
        Value::String(s) => !s.is_empty(),
        Value::Array(a) => !a.is_empty(),
        Value::Object(o) => !o.is_empty(),
    }
}

/// Llama's class writes the template of special tokens itself.
fn llama_template(config: &Side, tokenizer: &mut Tokenizer) -> Result<()> {
    let mut parts = [String::new(), String::new()];
    let mut tokens = Vec::new();
    for (part, (key, default, name)) in parts.iter_mut().zip([
        ("add_bos_token", true, "bos_token"),
        ("add_eos_token", false, "eos_token"),
    ]) {
        if !config.boolean(key, default)? {
            continue;
        }
        let defaults = ["<s>", "</s>"][usize::from(name == "eos_token")];
        let content = match config.values.get(name) {
            None => Some(defaults.to_owned()),
            Some(value) => Pending::of(value).map(|t| t.content),
        };
        let token = content.and_then(|c| Some((tokenizer.token_to_id(&c)?, c)));
        let Some((id, content)) = token else {
            return Err(config.wrong(
                key,
                &true.into(),
                &format!("false, where there is no {name}"),
            ));
        };
        *part = content.clone();
        tokens.push((content, id));
    }
    let [bos, eos] = &parts;
    let around = |sequence: &str, kind: usize| {
        [bos.as_str(), sequence, eos.as_str()]
            .into_iter()
            .filter(|p| !p.is_empty())
            .map(|p| format!("{p}:{kind}"))
            .collect::<Vec<_>>()
            .join(" ")
    };
    let template = || {
        let single = around("$A", 0);
        let pair = format!("{single} {}", around("$B", 1));
        tokenizers::processors::template::TemplateProcessing::builder()
            .try_single(single)?
            .try_pair(pair)?
            .special_tokens(tokens)
            .build()
            .map_err(|e| e.to_string())
    };
    let template = template().map_err(|e| bad(&config.path, format!("its special tokens: {e}")))?;
    tokenizer.with_post_processor(Some(template));
    Ok(())
}
