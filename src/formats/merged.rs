//! A plain transformers checkpoint: `config.json` with the labels, the tokenizer, `model.safetensors` with the classifier.
//!
//! The method's changes of weights are added to the backbone's, so that nothing but transformers is needed to read it.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};
use backbone::{Architecture, Backbone, Gguf, HeadKind};
use datasets::Objective;
use serde_json::{Map, Value, json};

use super::{
    export::{Export, write_json},
    layout, separate_head,
};
use crate::{
    gguf_tokenizer, labels,
    saved::{Tensors, write_tensors},
};

pub(super) fn write(export: &Export<'_>, out: &Path) -> Result<Option<String>> {
    let (task, loaded) = (export.task, export.loaded);
    let frozen = &loaded.backbone;
    let architecture = frozen.config().architecture;
    let backbone = merged(export)?;
    let words = matches!(task.config.head, HeadKind::Words | HeadKind::Vocabulary);
    let tokens = task.config.objective == Objective::Tokens;
    let layers = match layout::head_layers(architecture, frozen.pooling(), task.config.head) {
        _ if export.separate_head => None,
        _ if words => Some(&[] as layout::HeadLayers),
        _ if tokens => Some(layout::layers_of_tags(architecture, task.config.head)?),
        Some(layers) => Some(layers),
        None => {
            return Err(layout::cannot_hold(
                architecture,
                frozen.pooling(),
                task.config.head,
            ));
        }
    };
    let prefix = match layers {
        Some(_) => architecture.prefix(),
        None => String::new(),
    };
    let mut tensors: Tensors = backbone
        .tensors()
        .into_iter()
        .map(|(name, t)| (format!("{prefix}{name}"), t.detach()))
        .collect();
    let said = match layers {
        None => Some(separate_head::write(export, out)?),
        Some(layers) => {
            let (_, head) = export.tensors()?;
            for (ours, theirs, parts) in layers {
                for part in *parts {
                    let name = format!("{ours}.{part}");
                    let tensor = head
                        .get(&name)
                        .with_context(|| format!("{name} is missing"))?;
                    tensors.insert(format!("{theirs}.{part}"), tensor.clone());
                }
            }
            export.words()
        }
    };
    let [.., weights] = &loaded.files;
    if words && !frozen.config().description.tied {
        let table = backbone::output_matrix(weights, frozen.config())?;
        tensors.insert("lm_head.weight".into(), table);
    }
    // Classes of transformers refuse or invent tensors: RoBERTa's has no pooler, nor has any that reads words.
    if (architecture == Architecture::Roberta || tokens) && layers.is_some() {
        tensors.retain(|name, _| !name.starts_with(&format!("{prefix}pooler.")));
    }
    write_tensors(&out.join("model.safetensors"), tensors, &[])?;
    write_json(&out.join("config.json"), &config(export, layers.is_some())?)?;
    write_tokenizer(export, out)?;
    Ok(said)
}

/// The backbone with the method in its weights.
fn merged(export: &Export<'_>) -> Result<Backbone> {
    let (method, frozen) = (&export.task.method, &export.loaded.backbone);
    if let Some(own) = method.backbone() {
        return Ok(own.clone());
    }
    if method.parameters().tensors().is_empty() {
        return Ok(frozen.clone());
    }
    match method.merge(frozen) {
        Ok(merged) => Ok(merged),
        Err(reason) => {
            let name = &export.task.config.method;
            let others = super::of(name, false).join(" or ");
            let hint = match others.is_empty() {
                true => "no other format holds this method".to_owned(),
                false => format!("write another format: --format {others}"),
            };
            bail!("method '{name}' cannot be merged: {reason}; {hint}")
        }
    }
}

/// The backbone's configuration as it is, with the class that reads the checkpoint and the labels.
pub(super) fn config(export: &Export<'_>, with_head: bool) -> Result<Value> {
    let mut config = export.loaded.config_json()?;
    let architecture = export.loaded.backbone.config().architecture;
    let xlm = config.get("model_type").is_some_and(|t| t == "xlm-roberta");
    let family = match architecture {
        Architecture::Bert => "Bert",
        Architecture::Roberta if xlm => "XLMRoberta",
        Architecture::Roberta => "Roberta",
        Architecture::DistilBert => "DistilBert",
        Architecture::ModernBert => "ModernBert",
        Architecture::Llama => "Llama",
        Architecture::Qwen2 => "Qwen2",
        Architecture::Qwen3 => "Qwen3",
    };
    let words = matches!(
        export.task.config.head,
        HeadKind::Words | HeadKind::Vocabulary
    );
    let objective = export.task.config.objective;
    let class = match with_head {
        true if words => "ForCausalLM",
        true if objective == Objective::Tokens => "ForTokenClassification",
        true => "ForSequenceClassification",
        false => "Model",
    };
    if architecture == Architecture::ModernBert && with_head {
        let pooling = export.loaded.backbone.pooling();
        config.insert("classifier_pooling".into(), json!(pooling.name()));
    }
    let of_number = [labels::anonymous(0)];
    let labels = match objective {
        Objective::Regression => &of_number[..],
        _ => &export.task.config.labels,
    };
    let labels = labels.iter().enumerate();
    let by_index: Map<_, _> = labels
        .clone()
        .map(|(i, l)| (i.to_string(), json!(l)))
        .collect();
    let by_name: Map<_, _> = labels.map(|(i, l)| (l.clone(), json!(i))).collect();
    config.insert("architectures".into(), json!([format!("{family}{class}")]));
    config
        .entry("model_type")
        .or_insert(json!(architecture.name()));
    if objective != Objective::Completion {
        config.insert("id2label".into(), by_index.into());
        config.insert("label2id".into(), by_name.into());
        config.insert(
            "problem_type".into(),
            json!(match objective {
                Objective::MultiLabel => "multi_label_classification",
                Objective::Regression => "regression",
                _ => "single_label_classification",
            }),
        );
    }
    config.remove("_name_or_path");
    // For programs that read these weights: transformers keeps it as `model.config.peftbench`.
    let task = &export.task.config;
    let mut texts = json!({ "max_tokens": task.max_tokens, "strip": task.strip });
    if let Some(pairs) = task.pairs {
        texts["pairs"] = pairs.into();
    }
    if let Some(completion) = &task.completion {
        texts["completion"] = json!(completion);
    }
    config.insert("peftbench".into(), texts);
    Ok(config.into())
}

/// The tokenizer and, where the backbone's folder has none, a configuration that leaves it as it is.
fn write_tokenizer(export: &Export<'_>, out: &Path) -> Result<()> {
    let [_, tokenizer, _] = &export.loaded.files;
    let copy = |from: &Path, name: &str| {
        let to = out.join(name);
        // What is copied goes to others: no link may bring something from elsewhere along.
        let folder = from.parent().unwrap_or(Path::new("."));
        let own = from.file_name().unwrap_or_default().to_string_lossy();
        sources::inside(folder, &own)?;
        fs::copy(from, &to).with_context(|| format!("{}: cannot be written", to.display()))
    };
    if backbone::is_gguf(tokenizer) {
        let json = gguf_tokenizer::json(&Gguf::open(tokenizer)?)?;
        write_json(&out.join("tokenizer.json"), &json)?;
        let cut = export.task.config.max_tokens;
        let class = "PreTrainedTokenizerFast";
        let how = json!({ "tokenizer_class": class, "model_max_length": cut });
        return write_json(&out.join("tokenizer_config.json"), &how);
    }
    let own = tokenizer.file_name().and_then(|name| name.to_str());
    let vocabulary = own.filter(|name| ["vocab.txt", "vocab.json"].contains(name));
    copy(tokenizer, vocabulary.unwrap_or("tokenizer.json"))?;
    for name in [
        "merges.txt",
        "added_tokens.json",
        "special_tokens_map.json",
        "tokenizer_config.json",
        "sentence_bert_config.json",
        "chat_template.jinja",
    ] {
        let beside = tokenizer.with_file_name(name);
        if beside.exists() {
            copy(&beside, name)?;
        }
    }
    // Texts are cut where they were cut in training.
    let cut = export.task.config.max_tokens;
    let path = out.join("tokenizer_config.json");
    if path.exists() {
        let at = || path.display().to_string();
        let text = crate::folders::read_small(&path)?;
        let mut json: Map<String, Value> = serde_json::from_slice(&text).with_context(at)?;
        json.insert("model_max_length".into(), cut.into());
        return write_json(&path, &json.into());
    }
    if vocabulary.is_some() {
        return write_json(&path, &json!({ "model_max_length": cut }));
    }
    let config = export.loaded.backbone.config();
    if config.description.rotary.is_some() {
        let class = "PreTrainedTokenizerFast";
        let how = json!({ "tokenizer_class": class, "model_max_length": cut });
        return write_json(&path, &how);
    }
    let (names, specials) = match config.architecture {
        Architecture::Roberta => (2, ["<s>", "</s>", "<unk>", "<pad>", "<mask>"]),
        Architecture::DistilBert => (2, ["[CLS]", "[SEP]", "[UNK]", "[PAD]", "[MASK]"]),
        _ => (3, ["[CLS]", "[SEP]", "[UNK]", "[PAD]", "[MASK]"]),
    };
    let inputs = ["input_ids", "attention_mask", "token_type_ids"];
    let mut json = json!({
        // The class that takes tokenizer.json as it is.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": cut,
        "model_input_names": inputs[..names],
    });
    for (key, token) in [
        "cls_token",
        "sep_token",
        "unk_token",
        "pad_token",
        "mask_token",
    ]
    .into_iter()
    .zip(specials)
    {
        json[key] = token.into();
    }
    write_json(&out.join("tokenizer_config.json"), &json)
}
