//! Folders of weights that other libraries write and read.
//!
//! Reading: a foreign folder becomes what our own folder holds, a [`SavedConfig`] and tensors under our names ([`read`]);
//! everything behind that knows one kind of folder. Writing: a loaded task becomes a foreign folder ([`export`]).
//! A key that would change a number and that we do not follow is refused by its name, never ignored.

mod adapterhub;
mod keys;
mod layout;
mod merged;
mod peft;
mod separate_head;

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result, bail, ensure};
use backbone::{Architecture, HeadKind, Pooling, TensorFile};
use candle_core::Tensor;
use clap::ValueEnum;
use serde_json::{Map, Value};

use crate::{
    prepare::LoadedBackbone,
    weights::{self, SavedConfig, Task},
};

/// Tensors by name.
pub type Tensors = BTreeMap<String, Tensor>;

/// The configuration of an adapter, in the schema of PEFT or of AdapterHub.
const ADAPTER_CONFIG: &str = "adapter_config.json";

/// Longest text of a folder that does not say it; cut to what the backbone's position table leaves.
const MAX_TOKENS: usize = 512;

/// A kind of folder that can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Hugging Face PEFT: adapter_config.json and adapter_model.safetensors.
    Peft,
    /// AdapterHub: adapter_config.json, adapter.safetensors, head_config.json and model_head.safetensors.
    Adapterhub,
    /// A plain transformers checkpoint, the method merged into the weights.
    Merged,
}

/// The formats other than our own in which a method that is trained with its defaults can be written, by name.
pub fn of(method: &str, mergeable: bool) -> Vec<&'static str> {
    let formats = [
        ("peft", peft::writes(method)),
        ("adapterhub", adapterhub::writes(method)),
        ("merged", mergeable),
    ];
    let can = formats.into_iter().filter(|(_, can)| *can);
    can.map(|(name, _)| name).collect()
}

/// What a folder of weights holds.
pub struct Saved {
    /// Our configuration of it.
    pub config: SavedConfig,
    /// Variables of the method and of the head, by our names.
    pub tensors: Tensors,
}

/// Reads a foreign folder; nothing if the folder is one of our own, or none that we know.
///
/// Without the backbone the tensors may lack layers of the head that the folder takes from it, and what depends on its
/// number of layers is not checked.
///
/// # Errors
/// If the folder is damaged, or holds something that we do not compute; the message names it.
pub fn read(folder: &Path, loaded: Option<&LoadedBackbone>) -> Result<Option<Saved>> {
    let path = folder.join(ADAPTER_CONFIG);
    if folder.join(weights::CONFIG).exists() || !path.exists() {
        return Ok(None);
    }
    let keys = keys::Keys::read(&path)?;
    let saved = if keys.has("peft_type") {
        peft::read(folder, keys, loaded)
    } else if keys.has("config") {
        adapterhub::read(folder, keys, loaded)
    } else {
        bail!(
            "{}: neither 'peft_type' (Hugging Face PEFT) nor 'config' (AdapterHub) is there",
            path.display()
        )
    };
    saved
        .with_context(|| folder.display().to_string())
        .map(Some)
}

/// What a foreign folder says, before it becomes a [`Saved`].
struct Foreign<'a> {
    architecture: Architecture,
    /// The backbone's name or folder as the foreign folder gives it.
    backbone: Option<String>,
    method: Method,
    pooling: Pooling,
    head: HeadKind,
    head_tensors: Tensors,
    labels: Option<Vec<String>>,
    virtual_tokens: usize,
    loaded: Option<&'a LoadedBackbone>,
}

/// A method in our words.
struct Method {
    name: &'static str,
    config: Map<String, Value>,
    tensors: Tensors,
}

impl Foreign<'_> {
    fn finish(self) -> Result<Saved> {
        if let Some(loaded) = self.loaded {
            let found = loaded.backbone.config().architecture;
            ensure!(
                found == self.architecture,
                "made for a backbone of the kind '{}', but '{}' is '{}'",
                self.architecture.name(),
                loaded.name,
                found.name()
            );
        }
        let output = self.head_tensors.get("head.output.weight");
        let classes = output.and_then(|t| t.dims().first().copied()).unwrap_or(0);
        // Without the backbone the classifier may be still to come.
        let known = output.is_some() || self.loaded.is_some();
        ensure!(
            classes >= 2 || !known,
            "the classifier has {classes} outputs: at least two classes are needed (one output is a regression)"
        );
        let labels = match self.labels {
            Some(labels) => labels,
            None => (0..classes).map(anonymous_label).collect(),
        };
        ensure!(
            labels.len() == classes || !known,
            "{} labels ({}) for a classifier of {classes} outputs",
            labels.len(),
            labels.join(", ")
        );
        let positions = self
            .loaded
            .map_or(MAX_TOKENS, |l| l.backbone.config().max_tokens());
        let backbone = self.backbone.unwrap_or_default();
        let resolved = methods::resolve_values(self.method.name, self.method.config)?;
        let mut tensors = self.method.tensors;
        tensors.extend(self.head_tensors);
        Ok(Saved {
            config: SavedConfig {
                format: weights::format(),
                method: self.method.name.to_owned(),
                config: resolved.config.as_object().cloned().unwrap_or_default(),
                backbone: layout::known_backbone(&backbone).unwrap_or(backbone),
                backbone_digest: self.loaded.map(|l| l.digest.clone()).unwrap_or_default(),
                pooling: self.pooling,
                head: self.head,
                labels,
                dataset: String::new(),
                max_tokens: MAX_TOKENS
                    .min(positions)
                    .saturating_sub(self.virtual_tokens),
                // The Python libraries leave texts as they are.
                strip: false,
                metrics: BTreeMap::new(),
            },
            tensors,
        })
    }
}

/// The name that transformers gives to a class without one.
fn anonymous_label(class: usize) -> String {
    format!("LABEL_{class}")
}

/// Whether the folder that labels come from gave them no names.
pub fn are_anonymous(labels: &[String]) -> bool {
    labels
        .iter()
        .enumerate()
        .all(|(i, label)| *label == anonymous_label(i))
}

/// Reads all tensors of a safetensors file of a foreign folder. Where only the pickle `pickle` is there, the message says
/// how to convert it.
fn read_tensors(folder: &Path, file: &str, pickle: &str) -> Result<File> {
    let path = folder.join(file);
    if !path.exists() && folder.join(pickle).exists() {
        bail!(
            "{pickle} is a pickle, which can run code when it is read; convert it once with: python -c \"import torch, \
             safetensors.torch as s; s.save_file({{k: v.clone().contiguous() for k, v in torch.load('{}', \
             weights_only=True).items()}}, '{}')\"",
            folder.join(pickle).display(),
            path.display()
        );
    }
    let file = TensorFile::open(&path)?;
    let names = file.names().into_iter();
    let tensors = names.map(|name| Ok((name.clone(), file.read(&name, None)?)));
    Ok(File {
        tensors: tensors.collect::<Result<_>>()?,
        metadata: file
            .metadata()
            .into_iter()
            .flatten()
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect(),
    })
}

/// What a safetensors file holds.
struct File {
    tensors: Tensors,
    metadata: BTreeMap<String, String>,
}

impl File {
    /// Label names, where the file carries them.
    fn labels(&self) -> Result<Option<Vec<String>>> {
        let text = self.metadata.get("labels");
        text.map(|text| serde_json::from_str(text).with_context(|| format!("labels: {text}")))
            .transpose()
    }
}

/// A loaded task as it is written into a foreign folder.
pub struct Export<'a> {
    /// Method and head.
    pub task: &'a Task,
    /// The backbone it was trained over.
    pub loaded: &'a LoadedBackbone,
    /// Where the head may be a file of its own, for a classifier that transformers' classes cannot hold.
    pub separate_head: bool,
}

/// Writes a task into a foreign folder; returns what the reader must know, if anything.
///
/// # Errors
/// If the format cannot hold the task (the message says what could), or the folder cannot be written.
pub fn export(export: &Export<'_>, format: Format, out: &Path) -> Result<Option<String>> {
    fs::create_dir_all(out).with_context(|| format!("{}: cannot be made", out.display()))?;
    match format {
        Format::Peft => peft::write(export, out),
        Format::Adapterhub => adapterhub::write(export, out),
        Format::Merged => merged::write(export, out),
    }
}

impl Export<'_> {
    /// What the method ships and the head's variables, by our names.
    fn tensors(&self) -> Result<(Tensors, Tensors)> {
        let head = self.task.head.vars().iter();
        Ok((
            self.task.method.shipped()?.into_iter().collect(),
            head.map(|(name, var)| (name.clone(), var.as_detached_tensor()))
                .collect(),
        ))
    }

    /// A key of the method's resolved configuration.
    fn key(&self, key: &str) -> &Value {
        self.task.config.config.get(key).unwrap_or(&Value::Null)
    }
}

/// Writes tensors with the metadata that Python's readers ask for.
fn write_tensors(path: &Path, tensors: Tensors, metadata: &[(&str, String)]) -> Result<()> {
    let metadata = [("format", "pt".to_owned())]
        .iter()
        .chain(metadata)
        .map(|(k, v)| (k.to_string(), v.clone()))
        .collect();
    let tensors: BTreeMap<_, _> = tensors
        .into_iter()
        .map(|(name, t)| Ok((name, t.contiguous()?)))
        .collect::<Result<_>>()?;
    safetensors::serialize_to_file(tensors, Some(metadata), path)
        .with_context(|| format!("{}: cannot be written", path.display()))
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value)? + "\n";
    fs::write(path, text).with_context(|| format!("{}: cannot be written", path.display()))
}
