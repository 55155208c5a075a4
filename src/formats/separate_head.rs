//! A classifier in a file of its own, for heads that the classes of the Python libraries cannot hold.
//!
//! `head.safetensors` has the tensors `dense.*`, `norm.*` and `output.*` (and `pooler.*` where the vector goes through BERT's
//! pooler), and in its metadata how they are used; `head.py` beside it is the reader.

use std::path::Path;

use anyhow::{Context, Result, bail};
use backbone::{Architecture, HeadKind, Pooling};
use serde::de::DeserializeOwned;

use super::{
    export::Export,
    foreign::{File, Texts, read_tensors},
    layout,
};
use crate::saved::{Tensors, write_tensors};

const FILE: &str = "head.safetensors";
const READER: &str = "head.py";

/// Such a classifier.
pub(super) struct SeparateHead {
    pub architecture: Architecture,
    pub pooling: Pooling,
    pub head: HeadKind,
    pub labels: Vec<String>,
    /// What becomes of a text before it is read.
    pub texts: Texts,
    /// Whether virtual tokens are read too.
    pub first: bool,
    pub tensors: Tensors,
}

/// Reads it, if there is one.
pub(super) fn read(folder: &Path) -> Result<Option<SeparateHead>> {
    if !folder.join(FILE).exists() {
        return Ok(None);
    }
    let mut file = read_tensors(folder, FILE, "head.bin")?;
    let architecture = word(&file, "architecture")?.to_owned();
    let mut tensors = Tensors::new();
    for (name, tensor) in std::mem::take(&mut file.tensors) {
        if is_layer(&name) {
            tensors.insert(format!("head.{name}"), tensor);
        } else if !name.starts_with("pooler.") {
            bail!("{FILE}: tensor '{name}' is not one of dense, norm, output, pooler");
        }
    }
    Ok(Some(SeparateHead {
        architecture: layout::ARCHITECTURES
            .into_iter()
            .find(|a| a.name() == architecture)
            .with_context(|| format!("{FILE}: architecture '{architecture}'"))?,
        pooling: parsed(&file, "pooling")?,
        head: parsed(&file, "head")?,
        texts: file.texts()?,
        labels: file
            .said("labels")?
            .with_context(|| format!("{FILE}: its metadata has no 'labels'"))?,
        first: word(&file, "rows_from")? == "0",
        tensors,
    }))
}

/// Whether a tensor is one of a layer that the reader computes.
fn is_layer(name: &str) -> bool {
    ["dense", "norm", "output"].contains(&name.split('.').next().unwrap_or_default())
}

fn word<'a>(file: &'a File, key: &str) -> Result<&'a str> {
    let value = file.metadata.get(key);
    Ok(value.with_context(|| format!("{FILE}: its metadata has no '{key}'"))?)
}

fn parsed<T: DeserializeOwned>(file: &File, key: &str) -> Result<T> {
    let value = word(file, key)?;
    serde_json::from_value(value.into()).with_context(|| format!("{FILE}: {key}"))
}

/// Writes it with its reader; returns what to say about it.
pub(super) fn write(export: &Export<'_>, out: &Path) -> Result<String> {
    let config = &export.task.config;
    let backbone = &export.loaded.backbone;
    let (_, head) = export.tensors()?;
    let mut tensors: Tensors = head
        .into_iter()
        .map(|(name, t)| (name.trim_start_matches("head.").to_owned(), t))
        .collect();
    if let Some(name) = tensors.keys().find(|name| !is_layer(name)) {
        bail!(
            "'{name}' of the method '{}' is not a layer of a classifier, so the head cannot be written into a file of its own",
            config.method
        );
    }
    if backbone.pooling() == Pooling::Pooler {
        for (name, tensor) in backbone.tensors() {
            if let Some(part) = name.strip_prefix("pooler.dense.") {
                tensors.insert(format!("pooler.{part}"), tensor);
            }
        }
    }
    let rows_from = match export.key("pooling").as_str() {
        Some("first") => 0,
        // A prefix has no rows of its own.
        _ if config.method == "prefix_tuning" => 0,
        _ => export.task.method.virtual_tokens(),
    };
    let metadata = [
        (
            "architecture",
            backbone.config().architecture.name().to_owned(),
        ),
        ("pooling", backbone.pooling().name().to_owned()),
        ("head", layout::name_of(config.head)),
        ("rows_from", rows_from.to_string()),
    ];
    let metadata: Vec<_> = metadata.into_iter().chain(export.metadata()?).collect();
    write_tensors(&out.join(FILE), tensors, &metadata)?;
    record::write_whole(&out.join(READER), include_bytes!("head.py"))?;
    Ok(format!(
        "the classifier, which reads by '{}', is in {FILE} and not where the library's own classes would look for it; \
         {READER} reads it: python {READER} TEXT",
        backbone.pooling().name()
    ))
}
