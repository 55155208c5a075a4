//! A folder of AdapterHub on its way in or out, as the files of its methods see it.

use anyhow::{Context, Result, bail, ensure};
use backbone::{Activation, Architecture};
use serde_json::{Map, Value, json};

use super::super::keys::Keys;
use crate::{prepare::LoadedBackbone, saved::Tensors};

pub(super) const WEIGHTS: &str = "adapter.safetensors";
pub(super) const NAME: &str = "task";

/// A folder's tensors on their way in.
pub(super) struct Reading<'a> {
    pub(super) architecture: Architecture,
    /// The adapter's name.
    pub(super) name: String,
    pub(super) loaded: Option<&'a LoadedBackbone>,
    /// Tensors that nobody has taken yet, without the architecture's prefix.
    pub(super) tensors: Tensors,
}

pub(super) fn architecture(model_type: &str) -> Result<Architecture> {
    match model_type {
        "bert" => Ok(Architecture::Bert),
        "roberta" | "xlm-roberta" => Ok(Architecture::Roberta),
        "distilbert" => Ok(Architecture::DistilBert),
        "llama" => Ok(Architecture::Llama),
        other => {
            bail!(
                "model_type '{other}' is not supported; supported: bert, roberta, distilbert, llama"
            )
        }
    }
}

pub(super) fn activation(keys: &mut Keys) -> Result<Activation> {
    let name: String = keys
        .take("non_linearity")?
        .context("non_linearity is missing")?;
    serde_json::from_value(json!(name.to_lowercase()))
        .with_context(|| format!("non_linearity '{name}'"))
}

/// A method, or a part of a combination, on its way out.
pub(super) struct Part {
    pub(super) method: String,
    pub(super) config: Map<String, Value>,
    /// By our names; then by theirs, without the architecture's prefix.
    pub(super) tensors: Tensors,
}

impl Part {
    pub(super) fn key(&self, key: &str) -> &Value {
        self.config.get(key).unwrap_or(&Value::Null)
    }

    /// Refuses a key that the format cannot say.
    pub(super) fn only(&self, key: &str, accepted: &Value) -> Result<()> {
        let value = self.key(key);
        ensure!(
            value == accepted,
            "{}: {key} {value} cannot be written in the format of AdapterHub; only {accepted} can",
            self.method
        );
        Ok(())
    }
}
