//! Backbones by name: one YAML each in `backbone/configs/`.

use anyhow::{Context, Result};
use backbone::{HeadKind, Pooling};
use serde::Deserialize;
use sources::Source;

use crate::nearest;

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
    /// Files `config`, `tokenizer` and `weights`, or one `gguf`, and where to get them.
    pub source: Source,
    /// How an example's vector is read.
    pub pooling: Pooling,
    /// The classifier on top.
    pub head: HeadKind,
}

macro_rules! configs {
    ($($name:literal)*) => {
        &[$(($name, include_str!(concat!("../backbone/configs/", $name, ".yaml")))),*]
    };
}

const CONFIGS: &[(&str, &str)] = configs!(
    "minilm"
    "bert-base-uncased"
    "roberta-base"
    "distilbert-base-uncased"
    "bert-base-chinese"
    "multilingual-e5-small"
    "modernbert-base"
    "smollm2-135m"
    "smollm2-360m"
    "qwen2.5-0.5b"
    "qwen3-0.6b"
);

/// Names of all backbones that have a YAML.
pub fn names() -> impl Iterator<Item = &'static str> {
    CONFIGS.iter().map(|(name, _)| *name)
}

/// The YAML of a backbone, read and checked.
///
/// # Errors
/// If there is none of this name (the message lists them), or it is not valid.
pub fn spec(name: &str) -> Result<BackboneSpec> {
    let (_, yaml) = CONFIGS
        .iter()
        .find(|(n, _)| *n == name)
        .with_context(|| {
            let known: Vec<_> = names().collect();
            format!(
                "unknown backbone '{name}'; {}, or a folder with config.json, tokenizer.json and model.safetensors",
                nearest::known(name, &known)
            )
        })?;
    serde_yaml::from_str(yaml).with_context(|| format!("backbone/configs/{name}.yaml"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_backbone_has_a_valid_yaml_of_its_own_name() {
        for name in names() {
            let spec = spec(name).unwrap();
            assert_eq!(spec.name, name);
            let files = &spec.source.files;
            let all = ["config", "tokenizer", "weights"];
            assert!(
                files.contains_key("gguf") || all.iter().all(|file| files.contains_key(*file)),
                "{name}: {files:?}"
            );
        }
        let message = spec("minilmm").unwrap_err().to_string();
        assert!(message.contains("did you mean 'minilm'?"), "{message}");
    }
}
