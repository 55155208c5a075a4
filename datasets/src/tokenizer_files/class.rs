//! The class of transformers that would read a tokenizer.

use serde_json::Value;

use super::side::Side;
use crate::Result;

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
pub(super) const UNKNOWN: &str = "";

/// Name of the class of transformers without `Fast`: from `tokenizer_config.json`, else from `config.json`.
pub(super) fn class(config: &Side, model: &Side) -> Result<&'static str> {
    let named = match config.text("tokenizer_class")? {
        Some(name) => Some((name, config)),
        None => model.text("tokenizer_class")?.map(|name| (name, model)),
    };
    if let Some((name, file)) = named {
        let short = name.strip_suffix("Fast").unwrap_or(&name);
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

/// Whether a model that has token types is given any.
pub(super) fn types(class: &str, config: &Side, model: &Side) -> Result<bool> {
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
