//! AdapterHub: `adapter_config.json` with a `config` of its own schema, `adapter.safetensors`, and a head in
//! `head_config.json` and `model_head.safetensors`.
//!
//! A `config` is a bottleneck (with hypercomplex layers: Compacter), a prefix, or a union of these: a combination.

mod bottleneck;
mod folder;
mod head;
mod prefix;

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use backbone::{Architecture, Pooling};
use datasets::Objective;
use serde_json::{Map, Value, json};

use super::{
    export::{Export, write_json},
    foreign::{Foreign, Method, read_tensors},
    keys::Keys,
    layout, separate_head,
};
use crate::{
    folders::ADAPTER_CONFIG,
    prepare::LoadedBackbone,
    saved::{Saved, Tensors, write_tensors},
};
use bottleneck::{read_bottleneck, write_bottleneck};
use folder::{NAME, Part, Reading, WEIGHTS, architecture};
use head::{read_head, write_head};
use prefix::{read_prefix, write_prefix};

/// Our methods that the format holds, and whether it does with the defaults.
const METHODS: [(&str, bool); 4] = [
    ("adapter", true),
    ("compacter", true),
    ("mam", true),
    // It moves the text's positions by default.
    ("prefix_tuning", false),
];

/// Whether a method that is trained with its defaults can be written.
pub(super) fn writes(method: &str) -> bool {
    METHODS.contains(&(method, true))
}

pub(super) fn read(
    folder: &Path,
    mut keys: Keys,
    loaded: Option<&LoadedBackbone>,
) -> Result<Saved> {
    let backbone: Option<String> = keys.take("model_name")?;
    let model_type: String = keys.take("model_type")?.context("model_type is missing")?;
    let architecture = architecture(&model_type)?;
    let name: String = keys.take("name")?.context("name is missing")?;
    // (`config_id` and `type` are of adapter-transformers 1.x.)
    keys.without_effect(&["config_id", "hidden_size", "model_class", "version"]);
    let old_type: Option<String> = keys.take("type")?;
    let mut inner = keys.inner("config")?;
    keys.finish()?;
    let own = architecture.prefix();
    let mut file = read_tensors(folder, WEIGHTS, "pytorch_adapter.bin")?;
    let tensors = std::mem::take(&mut file.tensors);
    let mut reading = Reading {
        architecture,
        name,
        loaded,
        tensors: tensors
            .into_iter()
            .map(|(path, t)| (now(path.strip_prefix(&own).unwrap_or(&path)), t))
            .collect(),
    };
    // In the old format, adapters for a task name invertible ones that they do not have.
    let has_invertible = |name: &String| name.contains("invertible_adapters.");
    if old_type.as_deref() == Some("text_task") && !reading.tensors.keys().any(has_invertible) {
        inner.without_effect(&["inv_adapter", "inv_adapter_reduction_factor"]);
    }
    let method = read_method(&mut reading, inner)?;
    if let Some(path) = reading.tensors.keys().next() {
        bail!(
            "{WEIGHTS}: tensor '{path}' belongs to nothing that is computed here; it is not ignored"
        );
    }
    let mut texts = file.texts()?;
    let (pooling, head, head_tensors, labels) = match separate_head::read(folder)? {
        Some(separate) => {
            texts = separate.texts;
            let labels = Some(separate.labels);
            (separate.pooling, separate.head, separate.tensors, labels)
        }
        None => {
            let head = read_head(folder, loaded)?;
            if head.tags {
                texts.objective = Some(Objective::Tokens);
            }
            (head.pooling, head.kind, head.tensors, head.labels)
        }
    };
    Foreign {
        folder,
        architecture,
        revision: None,
        backbone,
        method,
        pooling,
        head,
        head_tensors,
        labels,
        words: None,
        texts,
        virtual_tokens: 0,
        loaded,
    }
    .finish()
}

/// The name that a tensor of adapter-transformers 1.x has now.
fn now(name: &str) -> String {
    let names = [
        ("attention_text_task_adapters", "adapters"),
        ("attention_text_lang_adapters", "adapters"),
        ("layer_text_task_adapters", "adapters"),
        ("layer_text_lang_adapters", "adapters"),
        ("invertible_lang_adapters", "invertible_adapters"),
    ];
    let rename = |name: String, (old, new): &(&str, &str)| name.replace(old, new);
    names.iter().fold(name.to_owned(), rename)
}

fn read_method(reading: &mut Reading<'_>, mut keys: Keys) -> Result<Method> {
    let kind: Option<String> = keys.take("architecture")?;
    let method = match kind.as_deref() {
        None => read_bottleneck(reading, &mut keys)?,
        Some("prefix_tuning") => read_prefix(reading, &mut keys)?,
        Some("union") => read_union(reading, &mut keys)?,
        Some(other) => bail!(
            "architecture '{other}' is not supported; supported: bottleneck adapters, prefix_tuning, and a union of both"
        ),
    };
    keys.finish()?;
    Ok(method)
}

/// A prefix and a bottleneck together.
fn read_union(reading: &mut Reading<'_>, keys: &mut Keys) -> Result<Method> {
    let (mut names, mut config, mut tensors) = (Vec::new(), Map::new(), Tensors::new());
    for part in keys.list("configs")? {
        let part = read_method(reading, part)?;
        names.push(part.name);
        tensors.extend(part.tensors);
        for (key, value) in part.config {
            let all = json!("all");
            // Without the backbone it is not known which layers are all of them.
            if key == "layers" && (value == all || reading.loaded.is_none()) {
                continue;
            }
            config.insert(format!("{}.{key}", part.name), value);
        }
    }
    let mut sorted = names.clone();
    sorted.sort_unstable();
    ensure!(
        sorted == ["adapter", "prefix_tuning"],
        "a union of {} is not supported; supported: a prefix and a bottleneck adapter (MAMConfig)",
        names.join(", ")
    );
    config.insert("combine".into(), json!(names));
    Ok(Method {
        name: "mam",
        config,
        tensors,
    })
}

/// The method, or the parts of a combination.
fn parts(export: &Export<'_>, tensors: Tensors) -> Result<Vec<Part>> {
    let config = &export.task.config.config;
    let Some(names) = config.get("combine").and_then(Value::as_array) else {
        return Ok(vec![Part {
            method: export.task.config.method.clone(),
            config: config.clone(),
            tensors,
        }]);
    };
    let (prefix, rest): (Tensors, Tensors) = tensors.into_iter().partition(|(n, _)| n == "prefix");
    let names = names.iter().filter_map(Value::as_str);
    let part = |method: &str| {
        let own = format!("{method}.");
        let keys = config.iter();
        let keys = keys.filter_map(|(k, v)| Some((k.strip_prefix(&own)?.to_owned(), v.clone())));
        let resolved = methods::resolve_values(method, keys.collect())?;
        Ok(Part {
            method: method.to_owned(),
            config: resolved.config,
            tensors: if method == "prefix_tuning" {
                prefix.clone()
            } else {
                rest.clone()
            },
        })
    };
    names.map(part).collect()
}

/// Their configuration of a part; its tensors get their names.
fn write_part(part: &mut Part, loaded: &LoadedBackbone) -> Result<Value> {
    match part.method.as_str() {
        "prefix_tuning" if loaded.backbone.config().architecture == Architecture::Llama => bail!(
            "a prefix over a llama cannot be written in the format of AdapterHub; --format peft can"
        ),
        "adapter" | "compacter" => write_bottleneck(part, loaded),
        "prefix_tuning" => write_prefix(part, loaded),
        other => {
            let known: Vec<_> = METHODS.iter().map(|(name, _)| *name).collect();
            bail!(
                "method '{other}' cannot be written in the format of AdapterHub; methods that can: {}",
                known.join(", ")
            )
        }
    }
}

pub(super) fn write(export: &Export<'_>, out: &Path) -> Result<Option<String>> {
    let loaded = export.loaded;
    let architecture = loaded.backbone.config().architecture;
    let pooling = loaded.backbone.pooling();
    let tags = export.task.config.objective == Objective::Tokens;
    let (ours, _) = export.tensors()?;
    let mut parts = parts(export, ours)?;
    let configs = parts.iter_mut().map(|part| write_part(part, loaded));
    let mut configs: Vec<Value> = configs.collect::<Result<_>>()?;
    let config = match configs.len() {
        1 => configs.remove(0),
        _ => json!({ "architecture": "union", "configs": configs }),
    };
    ensure!(
        pooling != Pooling::Mean || tags || export.separate_head,
        "AdapterHub's heads read the first row, not the mean of all rows; train with --set backbone.pooling=cls, or write \
         the head into a file of its own, with the few lines of Python that read it: --separate-head"
    );
    let prefix = match export.separate_head {
        false => architecture.prefix(),
        true => String::new(),
    };
    let tensors = parts.into_iter().flat_map(|part| part.tensors);
    let tensors = tensors
        .map(|(name, t)| (format!("{prefix}{name}"), t))
        .collect();
    let family = match architecture {
        Architecture::Bert => "Bert",
        Architecture::Roberta => "Roberta",
        Architecture::DistilBert => "DistilBert",
        Architecture::Llama => "Llama",
        other => bail!(
            "AdapterHub's library does not know {}; write another format: --format peft or merged, where the method can",
            other.name()
        ),
    };
    let common = json!({
        "hidden_size": loaded.backbone.config().hidden,
        "model_class": format!("{family}{}", if export.separate_head { "Model" } else { "AdapterModel" }),
        "model_name": layout::base(loaded).name,
        "model_type": architecture.name(),
        "name": NAME,
    });
    let mut adapter = common.clone();
    adapter["config"] = config;
    write_tensors(&out.join(WEIGHTS), tensors, &export.metadata()?)?;
    write_json(&out.join(ADAPTER_CONFIG), &adapter)?;
    if export.separate_head {
        return separate_head::write(export, out).map(Some);
    }
    write_head(export, common, out)?;
    Ok(None)
}
