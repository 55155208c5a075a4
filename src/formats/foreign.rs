//! A folder of another library on its way in: what it says, before it becomes a [`Saved`].

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result, bail, ensure};
use backbone::{Architecture, HeadKind, Pooling, TensorFile};
use datasets::{Objective, Words};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::layout;
use crate::{
    folders::ADAPTER_CONFIG,
    labels,
    prepare::LoadedBackbone,
    saved::{self, Saved, SavedConfig, Tensors},
};

/// Longest text of a folder that does not say it; cut to what the backbone's position table leaves.
const MAX_TOKENS: usize = 512;

/// What a foreign folder says, before it becomes a [`Saved`].
pub(super) struct Foreign<'a> {
    pub(super) folder: &'a Path,
    pub(super) architecture: Architecture,
    /// The revision of the backbone's repository that it was trained over, if it says so.
    pub(super) revision: Option<String>,
    /// The backbone's name or folder as the foreign folder gives it.
    pub(super) backbone: Option<String>,
    pub(super) method: Method,
    pub(super) pooling: Pooling,
    pub(super) head: HeadKind,
    pub(super) head_tensors: Tensors,
    pub(super) labels: Option<Vec<String>>,
    /// The words that stand for classes, where a folder that we wrote says them.
    pub(super) words: Option<Words>,
    /// What becomes of texts, where a folder that we wrote says it.
    pub(super) texts: Texts,
    pub(super) virtual_tokens: usize,
    pub(super) loaded: Option<&'a LoadedBackbone>,
}

/// A method in our words.
pub(super) struct Method {
    pub(super) name: &'static str,
    pub(super) config: Map<String, Value>,
    pub(super) tensors: Tensors,
}

impl Foreign<'_> {
    /// Names of classes that the folder leaves to a `config.json`: its own, or else the backbone's, as in the Python
    /// libraries.
    pub(super) fn inherited_labels(&self, classes: usize) -> Result<Vec<String>> {
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

    /// What the outputs stand for: one is a number, and of several the `problem_type` of the folder's own `config.json` says it,
    /// as in transformers.
    fn objective(&self, outputs: usize) -> Result<Objective> {
        let path = self.folder.join("config.json");
        let config: Value = match path.is_file() {
            true => serde_json::from_slice(&crate::folders::read_small(&path)?)
                .with_context(|| path.display().to_string())?,
            false => Value::Null,
        };
        let kind = match &config["problem_type"] {
            Value::Null => None,
            kind => Some(kind.as_str().unwrap_or("that is not text")),
        };
        match (kind, outputs) {
            (None | Some("regression"), 1) => Ok(Objective::Regression),
            (None | Some("single_label_classification"), 2..) => Ok(Objective::Classification),
            (Some("multi_label_classification"), 2..) => Ok(Objective::MultiLabel),
            _ => bail!(
                "config.json: problem_type {} with {}; supported: single_label_classification and multi_label_classification \
                 with several outputs, regression with one",
                config["problem_type"],
                if outputs == 1 {
                    "one output"
                } else {
                    "several outputs"
                }
            ),
        }
    }

    /// Refuses another revision of the backbone than the folder names, where the backbone's own is known.
    pub(super) fn check_revision(&self, loaded: &LoadedBackbone) -> Result<()> {
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

    /// Says so where the backbone is not, by its name, the one that the folder was trained over: its numbers fit every
    /// backbone of these sizes.
    fn check_name(&self, loaded: &LoadedBackbone) {
        let Some(theirs) = self.backbone.as_deref().filter(|name| !name.is_empty()) else {
            return;
        };
        let last = |name: &str| {
            let name = name.split('@').next().unwrap_or_default();
            let last = name.trim_end_matches('/').rsplit(['/', '\\']).next();
            last.unwrap_or_default().to_lowercase()
        };
        let known = layout::known_backbone(theirs);
        let in_cache = theirs.replace('/', "--");
        let folder = loaded.folder.as_ref();
        let folder = folder.map(|folder| folder.display().to_string());
        if known.as_ref() != Some(&loaded.name)
            && last(theirs) != last(&loaded.name)
            && !folder.is_some_and(|folder| folder.contains(&in_cache))
        {
            eprintln!(
                "note: {}: it was trained over '{theirs}'; whether '{}' is the same model is not known",
                self.folder.display(),
                loaded.name
            );
        }
    }

    pub(super) fn finish(mut self) -> Result<Saved> {
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
            self.check_name(loaded);
        }
        let output = self.head_tensors.get("head.output.weight");
        let classes = output.and_then(|t| t.dims().first().copied()).unwrap_or(0);
        // Without the backbone the classifier may be still to come.
        let known = (output.is_some() || self.loaded.is_some()) && self.words.is_none();
        ensure!(classes >= 1 || !known, "the classifier has no outputs");
        // One output is a number, as transformers takes it.
        let tags = self.texts.objective == Some(Objective::Tokens);
        let number = classes == 1 && known && !tags;
        let objective = match self.texts.objective {
            Some(objective) if !number => objective,
            _ => self.objective(if known { classes } else { 2 })?,
        };
        let labels = match self.labels.take() {
            _ if number => Vec::new(),
            Some(labels) => labels,
            None => self.inherited_labels(classes)?,
        };
        if let Some(words) = &self.words {
            ensure!(
                words.words.len() == labels.len() && labels.len() >= 2,
                "{} words for {} labels ({})",
                words.words.len(),
                labels.len(),
                labels.join(", ")
            );
        }
        ensure!(
            labels.len() == classes || number || !known,
            "{} labels ({}) for a classifier of {classes} outputs",
            labels.len(),
            labels.join(", ")
        );
        let positions = self
            .loaded
            .map_or(MAX_TOKENS, |l| l.backbone.config().max_tokens());
        let cut = self.loaded.and_then(|l| l.tokenizer.max_length());
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
                precision: self
                    .loaded
                    .map(|l| l.backbone.precision())
                    .unwrap_or_default(),
                head: self.head,
                objective,
                scale: None,
                labels,
                dataset: String::new(),
                weights_sha256: None,
                config_sha256: None,
                data_digest: None,
                pairs: self.texts.pairs,
                max_tokens: self
                    .texts
                    .max_tokens
                    .unwrap_or(MAX_TOKENS)
                    .min(positions.saturating_sub(self.virtual_tokens))
                    .min(cut.unwrap_or(usize::MAX)),
                // The Python libraries leave texts as they are.
                strip: self.texts.strip.unwrap_or(false),
                words: self.words,
                completion: None,
                metrics: BTreeMap::new(),
            },
            tensors,
        })
    }
}

/// Reads all tensors of a safetensors file of a foreign folder. Where only the pickle `pickle` is there, the message says
/// how to convert it.
pub(super) fn read_tensors(folder: &Path, file: &str, pickle: &str) -> Result<File> {
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
pub(super) struct File {
    pub(super) tensors: Tensors,
    pub(super) metadata: BTreeMap<String, String>,
}

/// What becomes of a text before it is read, where a folder says it.
#[derive(Clone, Copy, Default)]
pub(super) struct Texts {
    /// Longest text in tokens.
    max_tokens: Option<usize>,
    /// Whether white space around it is cut off.
    strip: Option<bool>,
    /// What is predicted of it.
    pub(super) objective: Option<Objective>,
    /// Whether there are two.
    pairs: Option<bool>,
}

impl File {
    /// What becomes of a text before it is read.
    pub(super) fn texts(&self) -> Result<Texts> {
        Ok(Texts {
            max_tokens: self.said("max_tokens")?,
            strip: self.said("strip")?,
            objective: self.said("objective")?,
            pairs: self.said("pairs")?,
        })
    }

    /// What a file that we wrote says under a key of its metadata.
    pub(super) fn said<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let text = self.metadata.get(key);
        text.map(|text| serde_json::from_str(text).with_context(|| format!("{key}: {text}")))
            .transpose()
    }
}
