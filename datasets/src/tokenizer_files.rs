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

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value, json};
use tokenizers::{AddedToken, Tokenizer, utils::truncation::TruncationDirection};

use crate::{Error, Result, caught};

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

/// Classes of transformers that are understood, without `Fast`.
const CLASSES: [&str; 7] = [
    "BertTokenizer",
    "DistilBertTokenizer",
    "RobertaTokenizer",
    "XLMRobertaTokenizer",
    "GPT2Tokenizer",
    "Qwen2Tokenizer",
    "LlamaTokenizer",
];

/// A tokenizer that is read as its file says.
const GENERIC: &str = "PreTrainedTokenizer";

/// Nothing says how transformers would read the tokenizer: its own file is all there is.
const UNKNOWN: &str = "";

/// Names of special tokens, in transformers' order.
const SPECIAL: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];

/// From this length on transformers takes `model_max_length` for "no limit".
const NO_LIMIT: f64 = 1e20;

/// How many times as long as it was a text may become before it is tokenised.
const GROWTH: f64 = 1000.0;

/// The largest file that is read whole.
const MAX_FILE: u64 = 1 << 30;

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

fn conversion(folder: &Path) -> String {
    format!(
        "make tokenizer.json once with: python -c \"from transformers import AutoTokenizer as A; \
         A.from_pretrained('{0}').save_pretrained('{0}')\"",
        folder.display()
    )
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
        let specials: Vec<String> = special_tokens(class, &config, &[])?
            .into_iter()
            .map(|token| token.content)
            .collect();
        let added = side("added_tokens.json")?;
        for (content, id) in &added.values {
            let id = id
                .as_u64()
                .ok_or_else(|| added.wrong(content, id, "the id of a token"))?;
            if own.iter().any(|token| token["id"] == id) {
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
    let names: Vec<String> = specials.iter().map(|t| t.content.clone()).collect();
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
    specials.retain(|t| t.whole || !present.values().any(|p| p.content == t.content));
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

/// Name of the class of transformers without `Fast`: from `tokenizer_config.json`, else from `config.json`.
fn class(config: &Side, model: &Side) -> Result<&'static str> {
    let named = match config.text("tokenizer_class")? {
        Some(name) => Some((name, config)),
        None => model.text("tokenizer_class")?.map(|name| (name, model)),
    };
    if let Some((name, file)) = named {
        let short = name.trim_end_matches("Fast");
        let known = CLASSES.into_iter().chain([GENERIC]);
        return known.into_iter().find(|c| *c == short).ok_or_else(|| {
            file.wrong(
                "tokenizer_class",
                &name.into(),
                &format!("{}, {GENERIC}Fast", CLASSES.join(", ")),
            )
        });
    }
    Ok(match model.text("model_type")?.as_deref() {
        Some("bert") => "BertTokenizer",
        Some("distilbert") => "DistilBertTokenizer",
        Some("roberta") => "RobertaTokenizer",
        Some("xlm-roberta") => "XLMRobertaTokenizer",
        Some("gpt2") => "GPT2Tokenizer",
        Some("qwen2" | "qwen3") => "Qwen2Tokenizer",
        Some("llama") => "LlamaTokenizer",
        Some("modernbert") => GENERIC,
        _ => UNKNOWN,
    })
}

/// Refuses steps that together make so much of a text that no memory holds it: forty times `a` to `aa` is 2⁴⁰ letters of one.
fn check_growth(path: &Path, file: &Value) -> Result<()> {
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

/// How many times as long a step may make a text of at least one letter, or of one token. Steps are known by their keys, as
/// they need not say their type.
fn growth(step: &Value) -> f64 {
    let length = |text: &Value| text.as_str().map_or(0, |text| text.chars().count()) as f64;
    let below = ["normalizers", "processors", "decoders"];
    let below = below.iter().filter_map(|key| step[*key].as_array());
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
    below.flatten().map(growth).product::<f64>()
        * replaced
        * (1.0 + length(&step["prepend"]))
        * copies[0].max(copies[1])
}

/// Whether a model that has token types is given any.
fn types(class: &str, config: &Side, model: &Side) -> Result<bool> {
    let named = match config.values.get("model_input_names") {
        None => matches!(class, "BertTokenizer" | GENERIC | UNKNOWN),
        Some(Value::Array(names)) => names.iter().any(|name| name == "token_type_ids"),
        Some(other) => {
            return Err(config.wrong("model_input_names", other, "a list of names"));
        }
    };
    let has_none = model.text("model_type")?.is_some_and(|of| {
        let with_types = ["bert", "roberta", "xlm-roberta"];
        !with_types.contains(&of.as_str())
    });
    Ok(named || has_none)
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

/// A token that may be added, as Python's `AddedToken`.
#[derive(Clone, Debug, Default)]
struct Pending {
    content: String,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
    /// Where it is not said, special tokens are not normalised and others are.
    normalized: Option<bool>,
    special: bool,
    /// It came with its flags and replaces a token of its name.
    whole: bool,
}

impl Pending {
    fn name(content: &str) -> Self {
        Self {
            content: content.to_owned(),
            ..Self::default()
        }
    }

    fn parse(value: &Value) -> Option<Self> {
        let token = value.as_object()?;
        let flag = |key: &str| token.get(key).and_then(Value::as_bool);
        Some(Self {
            content: token.get("content")?.as_str()?.to_owned(),
            single_word: flag("single_word").unwrap_or(false),
            lstrip: flag("lstrip").unwrap_or(false),
            rstrip: flag("rstrip").unwrap_or(false),
            normalized: flag("normalized"),
            special: flag("special").unwrap_or(false),
            whole: true,
        })
    }

    /// From a string or an object.
    fn of(value: &Value) -> Option<Self> {
        match value {
            Value::String(content) => Some(Self::name(content)),
            other => Self::parse(other),
        }
    }

    fn into_token(self) -> AddedToken {
        AddedToken {
            normalized: self.normalized.unwrap_or(!self.special),
            content: self.content,
            single_word: self.single_word,
            lstrip: self.lstrip,
            rstrip: self.rstrip,
            special: self.special,
        }
    }
}

/// The tokens of `added_tokens_decoder` with their ids.
fn added_tokens_decoder(config: &Side) -> Result<Vec<(u64, Pending)>> {
    let key = "added_tokens_decoder";
    let Some(value) = config.values.get(key) else {
        return Ok(Vec::new());
    };
    let wrong = |value: &Value| config.wrong(key, value, "an object of tokens by their ids");
    let tokens = value.as_object().ok_or_else(|| wrong(value))?;
    tokens
        .iter()
        .map(|(id, token)| {
            let id = id.parse().map_err(|_| wrong(&Value::from(id.as_str())))?;
            Ok((id, Pending::parse(token).ok_or_else(|| wrong(token))?))
        })
        .collect()
}

/// The special tokens that the configuration and the class name, each once, in transformers' order. Those that the
/// configuration names have the flags of the `known` token of the same text.
fn special_tokens(class: &str, config: &Side, known: &[Pending]) -> Result<Vec<Pending>> {
    let mask = |normalized| Pending {
        lstrip: true,
        normalized,
        whole: true,
        ..Pending::name("<mask>")
    };
    let default = |key: &str| {
        let name = match (class, key) {
            ("BertTokenizer" | "DistilBertTokenizer", "unk_token") => "[UNK]",
            ("BertTokenizer" | "DistilBertTokenizer", "sep_token") => "[SEP]",
            ("BertTokenizer" | "DistilBertTokenizer", "pad_token") => "[PAD]",
            ("BertTokenizer" | "DistilBertTokenizer", "cls_token") => "[CLS]",
            ("BertTokenizer" | "DistilBertTokenizer", "mask_token") => "[MASK]",
            ("RobertaTokenizer", "mask_token") => return Some(mask(Some(false))),
            ("XLMRobertaTokenizer", "mask_token") => return Some(mask(None)),
            ("RobertaTokenizer" | "XLMRobertaTokenizer", "bos_token" | "cls_token") => "<s>",
            ("RobertaTokenizer" | "XLMRobertaTokenizer", "eos_token" | "sep_token") => "</s>",
            ("RobertaTokenizer" | "XLMRobertaTokenizer", "unk_token") => "<unk>",
            ("RobertaTokenizer" | "XLMRobertaTokenizer", "pad_token") => "<pad>",
            ("GPT2Tokenizer", "unk_token" | "bos_token" | "eos_token") => "<|endoftext|>",
            ("Qwen2Tokenizer", "unk_token" | "pad_token" | "eos_token") => {
                return Some(qwen("<|endoftext|>"));
            }
            ("LlamaTokenizer", "unk_token") => "<unk>",
            ("LlamaTokenizer", "bos_token") => "<s>",
            ("LlamaTokenizer", "eos_token") => "</s>",
            _ => return None,
        };
        Some(Pending::name(name))
    };
    let mut found: Vec<Pending> = Vec::new();
    let mut push = |token: Pending| {
        if !token.content.is_empty() && !found.iter().any(|t| t.content == token.content) {
            found.push(token);
        }
    };
    if class == UNKNOWN {
        return Ok(Vec::new());
    }
    for key in SPECIAL {
        let known = |name: &str| known.iter().rev().find(|t| t.content == name).cloned();
        let value = config.values.get(key);
        let same = value.and_then(Pending::of).and_then(|t| known(&t.content));
        let token = match value {
            _ if same.is_some() => same,
            None => default(key),
            Some(Value::Null) => None,
            Some(Value::String(name)) => Some(match (class, key) {
                ("RobertaTokenizer", "mask_token") => Pending {
                    content: name.clone(),
                    ..mask(Some(false))
                },
                ("XLMRobertaTokenizer", "mask_token") => Pending {
                    content: name.clone(),
                    ..mask(None)
                },
                ("Qwen2Tokenizer", "unk_token" | "pad_token" | "eos_token" | "bos_token") => {
                    qwen(name)
                }
                _ => Pending::name(name),
            }),
            Some(value) => Some(
                Pending::parse(value).ok_or_else(|| config.wrong(key, value, "a token's text"))?,
            ),
        };
        token.into_iter().for_each(&mut push);
    }
    for key in ["additional_special_tokens", "extra_special_tokens"] {
        let tokens: Vec<&Value> = match config.values.get(key) {
            None | Some(Value::Null) => continue,
            Some(Value::Array(tokens)) => tokens.iter().collect(),
            Some(Value::Object(tokens)) => tokens.values().collect(),
            Some(other) => return Err(config.wrong(key, other, "a list of tokens")),
        };
        for value in tokens {
            push(Pending::of(value).ok_or_else(|| config.wrong(key, value, "a token's text"))?);
        }
    }
    Ok(found)
}

fn qwen(name: &str) -> Pending {
    Pending {
        special: true,
        normalized: Some(false),
        whole: true,
        ..Pending::name(name)
    }
}

/// A `tokenizer.json` out of BERT's `vocab.txt`: one token a line, its id is the line's number from 0.
fn word_piece(path: &Path, bytes: &[u8], config: &Side) -> Result<Value> {
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
fn byte_pairs(
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

/// One of the small JSON files beside a tokenizer; empty where it is missing.
struct Side {
    path: PathBuf,
    values: Map<String, Value>,
}

impl Side {
    fn read(path: PathBuf) -> Result<Self> {
        if !path.exists() {
            return Ok(Self {
                path,
                values: Map::new(),
            });
        }
        let bytes = read_file(&path)?;
        let values = serde_json::from_slice(&bytes).map_err(|e| {
            bad(
                &path,
                format!("is not a JSON object: {e}; fetch or save it again"),
            )
        })?;
        Ok(Self { path, values })
    }

    fn wrong(&self, key: &str, value: &Value, accepted: &str) -> Error {
        let value: String = value.to_string().chars().take(80).collect();
        bad(
            &self.path,
            format!("{key}: {value} is not understood; accepted: {accepted}"),
        )
    }

    fn boolean(&self, key: &str, default: bool) -> Result<bool> {
        match self.values.get(key) {
            None => Ok(default),
            Some(Value::Bool(value)) => Ok(*value),
            Some(other) => Err(self.wrong(key, other, "true or false")),
        }
    }

    fn text(&self, key: &str) -> Result<Option<String>> {
        match self.values.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => Err(self.wrong(key, other, "a text")),
        }
    }

    /// A number of tokens; `None` where there is no limit.
    fn length(&self, key: &str) -> Result<Option<usize>> {
        match self.values.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_f64() {
                Some(n) if n > NO_LIMIT => Ok(None),
                Some(n) if n >= 1.0 && n.fract() == 0.0 => Ok(Some(n as usize)),
                _ => Err(self.wrong(key, value, "a number of tokens from 1 on")),
            },
        }
    }
}

/// A file's bytes, if it is an ordinary file and what it says.
fn read_file(path: &Path) -> Result<Vec<u8>> {
    let io = |error| Error::Io {
        path: path.to_owned(),
        error,
    };
    let kind = fs::metadata(path).map_err(io)?;
    if !kind.is_file() {
        return Err(bad(path, "is not a regular file".into()));
    }
    if kind.len() > MAX_FILE {
        return Err(bad(path, format!("{} bytes are no tokenizer", kind.len())));
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes))
        .map_err(io)?;
    if bytes.starts_with(b"version https://git-lfs") {
        return Err(bad(
            path,
            "is a Git LFS pointer, not the file itself; run `git lfs pull` in its folder".into(),
        ));
    }
    Ok(bytes)
}

fn bad(path: &Path, message: String) -> Error {
    Error::Tokenizer {
        path: path.to_owned(),
        message,
    }
}
