//! Backbones by name: one YAML each in `configs/`.

use serde::Deserialize;
use sources::Source;

use crate::{Architecture, Error, Pooling, Result};

/// The classifier that is trained on top of the pooled vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HeadKind {
    /// One linear layer, H → C.
    Linear,
    /// Dense H → H, tanh, linear H → C: RoBERTa's classification head.
    DenseTanh,
    /// Dense H → H, ReLU, linear H → C: DistilBERT's classification head.
    DenseRelu,
}

/// Where a backbone comes from and how it is read.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackboneSpec {
    /// Its name on the command line.
    pub name: String,
    /// One line about it.
    pub about: String,
    /// Licence of the weights.
    pub licence: String,
    /// Files `config`, `tokenizer` and `weights`, and where to get them.
    pub source: Source,
    /// How an example's vector is read.
    pub pooling: Pooling,
    /// The classifier on top.
    pub head: HeadKind,
}

impl BackboneSpec {
    /// How a checkpoint without a YAML is read, by its architecture: as transformers' sequence
    /// classification does for RoBERTa and DistilBERT, and by the mean for BERT.
    pub fn conventions(architecture: Architecture) -> (Pooling, HeadKind) {
        match architecture {
            Architecture::Bert => (Pooling::Mean, HeadKind::Linear),
            Architecture::Roberta => (Pooling::Cls, HeadKind::DenseTanh),
            Architecture::DistilBert => (Pooling::Cls, HeadKind::DenseRelu),
            Architecture::ModernBert => (Pooling::Cls, HeadKind::Linear),
            Architecture::Llama | Architecture::Qwen2 | Architecture::Qwen3 => {
                (Pooling::Last, HeadKind::Linear)
            }
        }
    }
}

const CONFIGS: [(&str, &str); 4] = [
    ("minilm", include_str!("../configs/minilm.yaml")),
    (
        "bert-base-uncased",
        include_str!("../configs/bert-base-uncased.yaml"),
    ),
    ("roberta-base", include_str!("../configs/roberta-base.yaml")),
    (
        "distilbert-base-uncased",
        include_str!("../configs/distilbert-base-uncased.yaml"),
    ),
];

/// Names of all backbones that have a YAML.
pub fn names() -> impl Iterator<Item = &'static str> {
    CONFIGS.iter().map(|(name, _)| *name)
}

/// The YAML of a backbone, read and checked.
///
/// # Errors
/// If there is none of this name (the message lists them), or it is not valid.
pub fn spec(name: &str) -> Result<BackboneSpec> {
    let (_, yaml) = CONFIGS.iter().find(|(n, _)| *n == name).ok_or_else(|| {
        let known: Vec<_> = names().collect();
        Error::Unsupported(format!(
            "unknown backbone '{name}'; known: {}, or a folder with config.json, tokenizer.json and model.safetensors",
            known.join(", ")
        ))
    })?;
    serde_yaml::from_str(yaml).map_err(|e| {
        Error::content(
            std::path::Path::new(&format!("backbone/configs/{name}.yaml")),
            e.to_string(),
        )
    })
}
