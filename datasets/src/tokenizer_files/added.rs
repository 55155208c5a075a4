//! Tokens that are found before the text is split: special ones and others that were added.

use std::collections::HashSet;

use serde_json::Value;
use tokenizers::AddedToken;

use super::{class::UNKNOWN, side::Side};
use crate::Result;

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

/// A token that may be added, as Python's `AddedToken`.
#[derive(Clone, Debug, Default)]
pub(super) struct Pending {
    pub(super) content: String,
    pub(super) single_word: bool,
    pub(super) lstrip: bool,
    pub(super) rstrip: bool,
    /// Where it is not said, special tokens are not normalised and others are.
    pub(super) normalized: Option<bool>,
    pub(super) special: bool,
    /// It came with its flags and replaces a token of its name.
    pub(super) whole: bool,
}

impl Pending {
    fn name(content: &str) -> Self {
        Self {
            content: content.to_owned(),
            ..Self::default()
        }
    }

    pub(super) fn parse(value: &Value) -> Option<Self> {
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
    pub(super) fn of(value: &Value) -> Option<Self> {
        match value {
            Value::String(content) => Some(Self::name(content)),
            other => Self::parse(other),
        }
    }

    pub(super) fn into_token(self) -> AddedToken {
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
pub(super) fn added_tokens_decoder(config: &Side) -> Result<Vec<(u64, Pending)>> {
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
pub(super) fn special_tokens(
    class: &str,
    config: &Side,
    known: &[Pending],
) -> Result<Vec<Pending>> {
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
    let (mut found, mut contents) = (Vec::new(), HashSet::new());
    let mut push = |token: Pending| {
        if !token.content.is_empty() && contents.insert(token.content.clone()) {
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
