//! The classifier: `head_config.json` and `model_head.safetensors`.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use backbone::{Architecture, HeadKind, Pooling};
use datasets::Objective;
use serde_json::{Map, Value, json};

use super::{
    super::{
        export::{Export, write_json},
        foreign::read_tensors,
        keys::Keys,
        layout,
    },
    folder::{NAME, architecture},
};
use crate::{
    prepare::LoadedBackbone,
    saved::{Tensors, write_tensors},
};

const HEAD_CONFIG: &str = "head_config.json";
const HEAD: &str = "model_head.safetensors";

/// A classifier on its way in.
pub(super) struct Head {
    pub(super) pooling: Pooling,
    pub(super) kind: HeadKind,
    pub(super) tensors: Tensors,
    pub(super) labels: Option<Vec<String>>,
    /// Whether it gives a tag to each word.
    pub(super) tags: bool,
}

pub(super) fn read_head(folder: &Path, loaded: Option<&LoadedBackbone>) -> Result<Head> {
    ensure!(
        folder.join(HEAD_CONFIG).exists(),
        "it has no {HEAD_CONFIG}, so there is nothing to predict with; save it with with_head=True"
    );
    let mut keys = Keys::read(&folder.join(HEAD_CONFIG))?;
    let model_type: String = keys.take("model_type")?.context("model_type is missing")?;
    let architecture = architecture(&model_type)?;
    keys.without_effect(&["hidden_size", "model_name", "version"]);
    let class: Option<String> = keys.take("model_class")?;
    let name: Option<String> = keys.take("name")?;
    let outer = labels(&mut keys)?;
    let flexible: Option<Map<String, Value>> = keys.take("config")?;
    keys.without_effect(&["num_labels"]);
    keys.finish()?;
    let mut left = read_tensors(folder, HEAD, "pytorch_model_head.bin")?.tensors;
    let Some(flexible) = flexible else {
        // The head of a transformers class. Its pooler is frozen, and is not read where every word has a tag.
        let class = class.unwrap_or_default();
        let tags = class.ends_with("ForTokenClassification");
        ensure!(
            tags || class.is_empty() || class.ends_with("ForSequenceClassification"),
            "{HEAD_CONFIG}: model_class '{class}' is not supported; supported: …ForSequenceClassification, \
             …ForTokenClassification, and AdapterHub's own classes"
        );
        let (pooling, kind) = layout::reading(architecture, loaded, tags);
        let (kind, layers) = match layout::head_layers(architecture, pooling, kind) {
            _ if tags => layout::tag_layers(architecture),
            layers => (kind, layers.context("no such head")?),
        };
        return finish_head(
            Head {
                pooling,
                kind,
                tensors: layout::take_head(&mut left, layers, &Tensors::new(), loaded)?,
                labels: outer,
                tags,
            },
            &left,
        );
    };
    let mut keys = Keys::of(&folder.join(HEAD_CONFIG), flexible);
    let tags = keys.is("head_type", "tagging");
    keys.only("head_type", &["classification".into(), "tagging".into()])?;
    let bias: bool = keys.take("bias")?.unwrap_or(true);
    keys.without_effect(&["dropout_prob", "num_labels"]);
    let labels = labels(&mut keys)?.or(outer);
    let use_pooler: bool = keys.take("use_pooler")?.unwrap_or(false);
    let layers: usize = keys.take("layers")?.unwrap_or(2);
    let activation: Option<String> = keys.take("activation_function")?;
    keys.finish()?;
    let kind = match (layers, activation.as_deref()) {
        (1, _) if !bias => HeadKind::Score,
        (_, _) if !bias => bail!("{HEAD_CONFIG}: bias: false is supported for one layer only"),
        (1, _) => HeadKind::Linear,
        (2, Some("tanh")) => HeadKind::DenseTanh,
        (2, Some("relu")) => HeadKind::DenseRelu,
        (layers, activation) => bail!(
            "{HEAD_CONFIG}: a head of {layers} layers with activation_function {} is not supported; supported: one layer, or \
             two with tanh or relu",
            activation.unwrap_or("null")
        ),
    };
    let pooling = match (use_pooler, architecture) {
        (true, _) => Pooling::Pooler,
        // The library reads a decoder at its last token.
        (false, Architecture::Llama) => Pooling::Last,
        (false, _) => Pooling::Cls,
    };
    let name = name.context("name is missing")?;
    let mut tensors = Tensors::new();
    for (ours, theirs) in flexible_layers(kind) {
        for part in parts(kind) {
            let theirs = format!("heads.{name}.{theirs}.{part}");
            let tensor = left.remove(&theirs);
            let tensor = tensor.with_context(|| format!("{HEAD}: tensor '{theirs}' is missing"))?;
            tensors.insert(format!("{ours}.{part}"), tensor);
        }
    }
    finish_head(
        Head {
            pooling,
            kind,
            tensors,
            labels,
            tags,
        },
        &left,
    )
}

fn finish_head(head: Head, left: &Tensors) -> Result<Head> {
    if let Some(name) = left.keys().next() {
        bail!(
            "{HEAD}: tensor '{name}' belongs to nothing that is computed here; it is not ignored"
        );
    }
    Ok(head)
}

/// Places of a head's layers in the library's own head: a dropout before each layer, the activation after the first.
fn flexible_layers(head: HeadKind) -> &'static [(&'static str, usize)] {
    match head {
        HeadKind::Linear | HeadKind::Score => &[("head.output", 1)],
        HeadKind::DenseTanh | HeadKind::DenseRelu => &[("head.dense", 1), ("head.output", 4)],
        HeadKind::DenseNorm | HeadKind::Words | HeadKind::Vocabulary => &[],
    }
}

/// Tensors of a layer.
fn parts(head: HeadKind) -> &'static [&'static str] {
    match head {
        HeadKind::Score => &["weight"],
        _ => &["weight", "bias"],
    }
}

/// Labels in the order of their indices.
fn labels(keys: &mut Keys) -> Result<Option<Vec<String>>> {
    let map: Option<std::collections::BTreeMap<String, usize>> = keys.take("label2id")?;
    let Some(map) = map else { return Ok(None) };
    let mut labels: Vec<_> = map.into_iter().collect();
    labels.sort_by_key(|(_, index)| *index);
    ensure!(
        labels.iter().map(|(_, index)| *index).eq(0..labels.len()),
        "{HEAD_CONFIG}: label2id does not number the labels from 0 on"
    );
    let labels: Vec<String> = labels.into_iter().map(|(label, _)| label).collect();
    Ok((!labels.is_empty()).then_some(labels))
}

/// Writes a head of the library's own kind; `common` are the keys that all its configurations have.
pub(super) fn write_head(export: &Export<'_>, common: Value, out: &Path) -> Result<()> {
    let task = export.task;
    let (pooling, head) = (export.loaded.backbone.pooling(), task.config.head);
    let (_, head_tensors) = export.tensors()?;
    ensure!(
        !flexible_layers(head).is_empty(),
        "AdapterHub's classification heads cannot hold the head '{}'; train with --set backbone.head=linear, dense_tanh or \
         dense_relu",
        head.name()
    );
    let mut tensors = Tensors::new();
    for (ours, theirs) in flexible_layers(head) {
        for part in parts(head) {
            let tensor = head_tensors.get(&format!("{ours}.{part}"));
            let tensor = tensor.with_context(|| format!("{ours}.{part} is missing"))?;
            tensors.insert(format!("heads.{NAME}.{theirs}.{part}"), tensor.clone());
        }
    }
    let labels = task.config.labels.iter().enumerate();
    let mut config = common;
    config["config"] = json!({
        "head_type": "tagging",
        "layers": flexible_layers(head).len(),
        "activation_function": if head == HeadKind::DenseRelu { "relu" } else { "tanh" },
        "dropout_prob": null,
        "num_labels": task.config.labels.len(),
        "label2id": labels.map(|(i, l)| (l.clone(), json!(i))).collect::<Map<_, _>>(),
    });
    if task.config.objective != Objective::Tokens {
        config["config"]["head_type"] = "classification".into();
        config["config"]["use_pooler"] = (pooling == Pooling::Pooler).into();
        config["config"]["bias"] = (head != HeadKind::Score).into();
    }
    write_tensors(&out.join(HEAD), tensors, &[])?;
    write_json(&out.join(HEAD_CONFIG), &config)?;
    Ok(())
}
