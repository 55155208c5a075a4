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
use clap::ValueEnum;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{
    labels,
    prepare::LoadedBackbone,
    saved::{self, ADAPTER_CONFIG, CONFIG, Saved, SavedConfig, Task, Tensors, write_tensors},
};

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

/// Reads a foreign folder; nothing if the folder is one of our own, or none that we know.
///
/// Without the backbone the tensors may lack layers of the head that the folder takes from it, and what depends on its
/// number of layers is not checked.
///
/// # Errors
/// If the folder is damaged, or holds something that we do not compute; the message names it.
pub fn read(folder: &Path, loaded: Option<&LoadedBackbone>) -> Result<Option<Saved>> {
    let path = folder.join(ADAPTER_CONFIG);
    if folder.join(CONFIG).exists() || !path.exists() {
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
    folder: &'a Path,
    architecture: Architecture,
    /// The revision of the backbone's repository that it was trained over, if it says so.
    revision: Option<String>,
    /// The backbone's name or folder as the foreign folder gives it.
    backbone: Option<String>,
    method: Method,
    pooling: Pooling,
    head: HeadKind,
    head_tensors: Tensors,
    labels: Option<Vec<String>>,
    /// Longest text in tokens, where a folder that we wrote says it.
    max_tokens: Option<usize>,
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
    /// Names of classes that the folder leaves to a `config.json`: its own, or else the backbone's, as in the Python
    /// libraries.
    fn inherited_labels(&self, classes: usize) -> Result<Vec<String>> {
        let own = self.folder.join("config.json");
        let of_backbone = self.loaded.map(|loaded| loaded.files[0].clone());
        for path in [Some(own).filter(|path| path.exists()), of_backbone] {
            let Some(path) = path else { continue };
            match layout::id2label(&path)? {
                Some(labels) if labels.len() == classes => return Ok(labels),
                _ => {}
            }
        }
        Ok((0..classes).map(labels::anonymous).collect())
    }

    /// Refuses another revision of the backbone than the folder names, where the backbone's own is known.
    fn check_revision(&self, loaded: &LoadedBackbone) -> Result<()> {
        let Some(wanted) = self.revision.as_deref().filter(|r| *r != "main") else {
            return Ok(());
        };
        let is_commit = wanted.len() == 40 && wanted.bytes().all(|b| b.is_ascii_hexdigit());
        match layout::base(loaded).revision {
            Some(found) if found == wanted => {}
            Some(found) if is_commit => bail!(
                "{ADAPTER_CONFIG}: revision: it was trained over revision {wanted} of its backbone, but '{}' is revision \
                 {found}; name a folder with that revision: --backbone FOLDER",
                loaded.name
            ),
            _ => eprintln!(
                "note: {}: it was trained over revision '{wanted}' of its backbone; whether '{}' is that revision is not \
                 known",
                self.folder.display(),
                loaded.name
            ),
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Saved> {
        if let Some(loaded) = self.loaded {
            let found = loaded.backbone.config().architecture;
            ensure!(
                found == self.architecture,
                "made for a backbone of the kind '{}', but '{}' is '{}'",
                self.architecture.name(),
                loaded.name,
                found.name()
            );
            self.check_revision(loaded)?;
        }
        let output = self.head_tensors.get("head.output.weight");
        let classes = output.and_then(|t| t.dims().first().copied()).unwrap_or(0);
        // Without the backbone the classifier may be still to come.
        let known = output.is_some() || self.loaded.is_some();
        ensure!(
            classes >= 2 || !known,
            "the classifier has {classes} outputs: at least two classes are needed (one output is a regression)"
        );
        let labels = match self.labels.take() {
            Some(labels) => labels,
            None => self.inherited_labels(classes)?,
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
                format: saved::FORMAT,
                method: self.method.name.to_owned(),
                config: resolved.config,
                backbone: layout::known_backbone(&backbone).unwrap_or(backbone),
                backbone_digest: self.loaded.map(|l| l.digest.clone()).unwrap_or_default(),
                pooling: self.pooling,
                head: self.head,
                labels,
                dataset: String::new(),
                max_tokens: self
                    .max_tokens
                    .unwrap_or(MAX_TOKENS)
                    .min(positions.saturating_sub(self.virtual_tokens)),
                metrics: BTreeMap::new(),
            },
            tensors,
        })
    }
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
    Ok(File {
        tensors: saved::read_tensors(&file)?,
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
    /// What a file that we wrote says under a key of its metadata.
    fn said<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let text = self.metadata.get(key);
        text.map(|text| serde_json::from_str(text).with_context(|| format!("{key}: {text}")))
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
        let head = self.task.head.parameters().tensors();
        Ok((
            self.task.method.shipped()?.into_iter().collect(),
            head.into_iter().collect(),
        ))
    }

    /// What a file says beside its tensors, so that whoever reads it has the same classes and cuts texts as in training.
    fn metadata(&self) -> Result<[(&'static str, String); 2]> {
        let config = &self.task.config;
        Ok([
            ("labels", serde_json::to_string(&config.labels)?),
            ("max_tokens", config.max_tokens.to_string()),
        ])
    }

    /// A key of the method's resolved configuration.
    fn key(&self, key: &str) -> &Value {
        self.task.config.config.get(key).unwrap_or(&Value::Null)
    }
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value)? + "\n";
    Ok(record::write_whole(path, text.as_bytes())?)
}
