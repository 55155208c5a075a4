//! Hugging Face PEFT: `adapter_config.json` with a `peft_type`, and `adapter_model.safetensors`.
//!
//! Each PEFT type is one [`Mapping`]: what its keys and tensors mean in our words; a file per kind of method has reader and
//! writer side by side.

mod folder;
mod ia3;
mod layer_norm;
mod lora;
mod prompt;
mod rules;
mod targets;

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context, Result, bail, ensure};
use backbone::{Architecture, HeadKind, Pooling};
use datasets::{Objective, Words};
use serde_json::{Map, Value, json};

use super::{
    export::{Export, write_json},
    foreign::{Foreign, Method, read_tensors},
    keys::Keys,
    layout, merged, separate_head,
};
use crate::{
    folders::ADAPTER_CONFIG,
    prepare::LoadedBackbone,
    saved::{Saved, Tensors, write_tensors},
};
use folder::{EMBEDDINGS, Reading, WEIGHTS, Writing, Written};
use ia3::{read_ia3, write_ia3};
use layer_norm::{read_layer_norm, write_layer_norm};
use lora::{read_lora, write_lora};
use prompt::{read_prefix, read_prompt, write_prefix, write_prompt};

/// Before the tensors that the encoder's own modules hold.
const TUNER: &str = "base_model.model.";

/// Before the head's tensors where the method only gives virtual tokens.
const PROMPT: &str = "base_model.";

/// One PEFT type.
struct Mapping {
    peft_type: &'static str,
    read: fn(&mut Reading<'_>) -> Result<Method>,
}

const READ: &[Mapping] = &[
    Mapping {
        peft_type: "LORA",
        read: read_lora,
    },
    Mapping {
        peft_type: "PROMPT_TUNING",
        read: read_prompt,
    },
    // What its encoder computed is saved, not the encoder: virtual tokens as those of prompt tuning.
    Mapping {
        peft_type: "P_TUNING",
        read: read_prompt,
    },
    Mapping {
        peft_type: "PREFIX_TUNING",
        read: read_prefix,
    },
    Mapping {
        peft_type: "IA3",
        read: read_ia3,
    },
    Mapping {
        peft_type: "LN_TUNING",
        read: read_layer_norm,
    },
];

/// Makes the keys and tensors of one method.
type Writer = fn(&Writing<'_>) -> Result<Written>;

/// Our methods that can be written.
const WRITE: &[(&str, Writer)] = &[
    ("lora", write_lora),
    ("dora", write_lora),
    ("prompt_tuning", write_prompt),
    // What is shipped are the virtual tokens: a prompt as any other.
    ("p_tuning", write_prompt),
    ("prefix_tuning", write_prefix),
    ("ia3", write_ia3),
    ("layer_norm", write_layer_norm),
];

/// Whether a method can be written.
pub(super) fn writes(method: &str) -> bool {
    WRITE.iter().any(|(name, _)| *name == method)
}

/// Keys that change nothing when weights are read, whatever the type.
const WITHOUT_EFFECT: &[&str] = &["ensure_weight_tying", "inference_mode", "peft_version"];

pub(super) fn read(
    folder: &Path,
    mut keys: Keys,
    loaded: Option<&LoadedBackbone>,
) -> Result<Saved> {
    let peft_type: String = keys.take("peft_type")?.context("peft_type is null")?;
    let Some(mapping) = READ.iter().find(|m| m.peft_type == peft_type) else {
        let known: Vec<_> = READ.iter().map(|m| m.peft_type).collect();
        bail!(
            "peft_type '{peft_type}' is not supported; supported: {}",
            known.join(", ")
        );
    };
    let backbone = keys.take("base_model_name_or_path")?;
    let revision = keys.take("revision")?;
    let task_type: Option<String> = keys.take("task_type")?;
    let class: Option<Map<String, Value>> = keys.take("auto_mapping")?;
    keys.without_effect(WITHOUT_EFFECT);
    let mut modules_to_save: Vec<String> = keys.take("modules_to_save")?.unwrap_or_default();
    // The library adds its names of classifiers before it looks for the modules that are changed.
    let of_classes = matches!(task_type.as_deref(), Some("SEQ_CLS" | "TOKEN_CLS"));
    if of_classes {
        modules_to_save.extend(["classifier", "score"].map(str::to_owned));
    }
    let mut file = read_tensors(folder, WEIGHTS, "adapter_model.bin")?;
    let mut labels = file.said("labels")?;
    let mut texts = file.texts()?;
    let tensors: Tensors = std::mem::take(&mut file.tensors)
        .into_iter()
        .map(|(name, tensor)| {
            let short = name
                .strip_prefix(TUNER)
                .or_else(|| name.strip_prefix(PROMPT));
            (short.unwrap_or(&name).to_owned(), tensor)
        })
        .collect();

    let separate = separate_head::read(folder)?;
    let words: Option<Words> = file.said("words")?;
    let kind = match &task_type {
        Some(kind) => kind.as_str(),
        None => kind_of_class(class, separate.is_some())?,
    };
    let (bare, tags) = match kind {
        "SEQ_CLS" => (false, false),
        "TOKEN_CLS" => (false, true),
        "CAUSAL_LM" if words.is_some() => (false, false),
        "CAUSAL_LM" => bail!(
            "task_type CAUSAL_LM: it holds a language model's method, but no words that stand for classes; what this program \
             trained with words can be read (completions from the folder that it wrote itself)"
        ),
        "FEATURE_EXTRACTION" => (true, false),
        other => {
            bail!("task_type '{other}' is not supported; supported: SEQ_CLS, TOKEN_CLS, CAUSAL_LM")
        }
    };
    if tags {
        texts.objective = Some(Objective::Tokens);
    }
    let architecture = match &separate {
        Some(head) => head.architecture,
        None => architecture_of(&tensors, loaded),
    };
    let mut reading = Reading {
        keys,
        tensors,
        architecture,
        prefix: if bare {
            String::new()
        } else {
            architecture.prefix()
        },
        modules_to_save,
        tags,
        loaded,
        head_deltas: Tensors::new(),
        first_row: match &separate {
            Some(head) if !head.first => "cls",
            _ => "first",
        },
        virtual_tokens: 0,
    };
    let method = (mapping.read)(&mut reading)?;
    reading.keys.finish()?;

    let mut left = reading.tensors;
    let (pooling, head, head_tensors) = match separate {
        Some(separate) if bare => {
            labels = Some(separate.labels);
            texts = separate.texts;
            (separate.pooling, separate.head, separate.tensors)
        }
        _ if words.is_some() => (Pooling::Last, HeadKind::Words, Tensors::new()),
        _ => {
            ensure!(
                !bare,
                "it holds an encoder without a classifier (task_type FEATURE_EXTRACTION), so there is nothing to \
                 predict with"
            );
            let deltas = &reading.head_deltas;
            let pooler = "bert.pooler.dense";
            // (Where every word has a tag, no pooler is read.)
            let trained =
                tags || deltas.contains_key(pooler) || left.keys().any(|n| n.starts_with(pooler));
            let (pooling, head) = layout::reading(architecture, loaded, trained);
            let (head, layers) = match layout::head_layers(architecture, pooling, head) {
                _ if tags => layout::tag_layers(architecture),
                layers => (head, layers.context("no such head")?),
            };
            // PEFT always saves the classifier of such a folder, and refuses one without it.
            let lacks = |part: &str| !left.contains_key(&format!("{part}.weight"));
            let classifier = layers.iter().map(|(_, theirs, _)| *theirs);
            let mut classifier = classifier.filter(|theirs| theirs.starts_with("classifier"));
            if let (true, Some(part)) = (of_classes, classifier.find(|part| lacks(part)))
                && !deltas.contains_key(part)
            {
                bail!(
                    "{WEIGHTS}: tensor '{part}.weight' is missing: the folder was saved without its classifier"
                );
            }
            if let Some(path) = deltas
                .keys()
                .find(|p| !layers.iter().any(|(_, l, _)| l == p))
            {
                bail!(
                    "module '{path}' has low-rank weights, but it belongs to nothing that is computed here"
                );
            }
            let tensors = layout::take_head(&mut left, layers, deltas, loaded)?;
            (pooling, head, tensors)
        }
    };
    if let Some(name) = left.keys().next() {
        bail!(
            "{WEIGHTS}: tensor '{name}' belongs to nothing that is computed here; it is not ignored"
        );
    }
    Foreign {
        folder,
        architecture,
        revision,
        backbone,
        method,
        pooling,
        head,
        head_tensors,
        labels,
        words,
        texts,
        virtual_tokens: reading.virtual_tokens,
        loaded,
    }
    .finish()
}

/// The kind of task of a folder that names none: that of the class that it was trained in, which the library writes then.
fn kind_of_class(
    class: Option<Map<String, Value>>,
    has_separate_head: bool,
) -> Result<&'static str> {
    let class = class.and_then(|map| Some(map.get("base_model_class")?.as_str()?.to_owned()));
    Ok(match class.as_deref() {
        None if has_separate_head => "FEATURE_EXTRACTION",
        None => "SEQ_CLS",
        Some(class) if class.ends_with("ForSequenceClassification") => "SEQ_CLS",
        Some(class) if class.ends_with("ForTokenClassification") => "TOKEN_CLS",
        Some(class) if class.ends_with("ForCausalLM") => "CAUSAL_LM",
        Some(class) if class.ends_with("Model") => "FEATURE_EXTRACTION",
        Some(class) => bail!(
            "auto_mapping: base_model_class '{class}' is not supported; supported: …ForSequenceClassification, \
             …ForTokenClassification, …ForCausalLM, and …Model with a head of its own"
        ),
    })
}

/// The kind of model that tensors were saved from: by the paths of its modules, or by its head.
fn architecture_of(tensors: &Tensors, loaded: Option<&LoadedBackbone>) -> Architecture {
    let by_path = tensors.keys().find_map(|n| layout::split_prefix(n, loaded));
    let has = |prefix: &str| tensors.keys().any(|n| n.starts_with(prefix));
    match (by_path, loaded) {
        (Some((architecture, _)), _) => architecture,
        _ if has("classifier.out_proj.") => Architecture::Roberta,
        _ if has("pre_classifier.") => Architecture::DistilBert,
        _ if has("head.dense.") => Architecture::ModernBert,
        (None, None) if has("score.") => Architecture::Llama,
        (None, Some(loaded)) => loaded.backbone.config().architecture,
        _ => Architecture::Bert,
    }
}

pub(super) fn write(export: &Export<'_>, out: &Path) -> Result<Option<String>> {
    let task = export.task;
    let loaded = export.loaded;
    let name = task.config.method.as_str();
    let Some((_, write)) = WRITE.iter().find(|(method, _)| *method == name) else {
        let known: Vec<_> = WRITE.iter().map(|(method, _)| *method).collect();
        bail!(
            "method '{name}' cannot be written in the format of Hugging Face PEFT; methods that can: {}",
            known.join(", ")
        );
    };
    let architecture = loaded.backbone.config().architecture;
    let (pooling, head) = (loaded.backbone.pooling(), task.config.head);
    let of_model = matches!(head, HeadKind::Words | HeadKind::Vocabulary);
    let tags = task.config.objective == Objective::Tokens;
    let tokens = task.method.virtual_tokens();
    // The library's class reads row 0, which is a virtual token where there are any.
    let row_0 = tokens == 0
        || name == "prefix_tuning"
        || export.key("pooling") == "first"
        || pooling == Pooling::Last;
    let layers = layout::head_layers(architecture, pooling, head).filter(|_| row_0);
    let own = loaded.backbone.config().description.classifier_pooling;
    ensure!(
        architecture != Architecture::ModernBert || export.separate_head || tags || pooling == own,
        "the classifier reads by '{}', but the backbone's config.json says classifier_pooling '{}', which PEFT would follow; \
         train with --set backbone.pooling={}, or write the head into a file of its own: --separate-head",
        pooling.name(),
        own.name(),
        own.name()
    );
    let layers = match layers {
        _ if of_model => Some(&[] as layout::HeadLayers),
        _ if tags => Some(layout::layers_of_tags(architecture, head)?),
        Some(layers) if !export.separate_head => Some(layers),
        _ if export.separate_head => None,
        _ if !row_0 && layout::head_layers(architecture, pooling, head).is_some() => bail!(
            "{name} with 'pooling: cls' reads the text's own first row, but PEFT's class for sequence classification reads \
             row 0, a virtual token; train with --set {name}.pooling=first, or write the head into a file of its own, with \
             the few lines of Python that read it: --separate-head"
        ),
        _ => return Err(layout::cannot_hold(architecture, pooling, head)),
    };
    let (tensors, head_tensors) = export.tensors()?;
    let written = write(&Writing {
        export,
        tensors,
        architecture,
        prefix: match layers {
            Some(_) => architecture.prefix(),
            None => String::new(),
        },
    })?;
    let is_prompt = written.tensors.contains_key(EMBEDDINGS);
    let mut tensors: Tensors = written
        .tensors
        .into_iter()
        .map(|(name, t)| match name.as_str() {
            EMBEDDINGS => (name, t),
            _ => (format!("{TUNER}{name}"), t),
        })
        .collect();
    let base = layout::base(loaded);
    let mut config = json!({
        "peft_type": written.peft_type,
        "task_type": "FEATURE_EXTRACTION",
        "base_model_name_or_path": base.name,
        "revision": base.revision,
        "inference_mode": true,
    });
    let mut said = None;
    if of_model {
        config["task_type"] = "CAUSAL_LM".into();
        said = export.words();
    } else if let Some(layers) = layers {
        let prefix = if is_prompt { PROMPT } else { TUNER };
        let mut saved = BTreeSet::from(["classifier", "score"]);
        for (ours, theirs, parts) in layers {
            for part in *parts {
                let tensor = head_tensors
                    .get(&format!("{ours}.{part}"))
                    .with_context(|| format!("{ours}.{part} is missing"))?;
                tensors.insert(format!("{prefix}{theirs}.{part}"), tensor.clone());
            }
            match *theirs {
                "bert.pooler.dense" => saved.insert("pooler"),
                "pre_classifier" => saved.insert("pre_classifier"),
                "head.dense" => saved.insert("head"),
                _ => false,
            };
        }
        config["task_type"] = if tags { "TOKEN_CLS" } else { "SEQ_CLS" }.into();
        config["modules_to_save"] = json!(saved);
    } else {
        said = Some(separate_head::write(export, out)?);
    }
    for (key, value) in written.config {
        config[key] = value;
    }
    write_tensors(&out.join(WEIGHTS), tensors, &export.metadata()?)?;
    write_json(&out.join(ADAPTER_CONFIG), &config)?;
    // For AutoConfig: which classes there are.
    write_json(
        &out.join("config.json"),
        &merged::config(export, layers.is_some())?,
    )?;
    Ok(said)
}
