//! A folder of PEFT on its way in or out, as the files of its methods see it.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use backbone::{Architecture, Site};
use serde_json::{Map, Value};

use super::{
    super::{export::Export, keys::Keys, layout},
    rules::Rules,
};
use crate::{prepare::LoadedBackbone, saved::Tensors};

pub(super) const WEIGHTS: &str = "adapter_model.safetensors";
pub(super) const EMBEDDINGS: &str = "prompt_embeddings";

/// A folder on its way in.
pub(super) struct Reading<'a> {
    pub(super) keys: Keys,
    /// Tensors that nobody has taken yet, without PEFT's own prefix.
    pub(super) tensors: Tensors,
    pub(super) architecture: Architecture,
    /// What paths of modules begin with: `bert.` in a class for sequence classification, nothing in a bare encoder.
    pub(super) prefix: String,
    pub(super) modules_to_save: Vec<String>,
    /// Whether it gives a tag to each word.
    pub(super) tags: bool,
    pub(super) loaded: Option<&'a LoadedBackbone>,
    /// Changes of the weights of the head's layers, by their paths.
    pub(super) head_deltas: Tensors,
    /// What prompt tuning reads first.
    pub(super) first_row: &'static str,
    pub(super) virtual_tokens: usize,
}

impl Reading<'_> {
    /// Takes the tensors whose names end with `.suffix`, by the path before it.
    pub(super) fn take_by_path(&mut self, suffix: &str) -> Tensors {
        let names: Vec<String> = self
            .tensors
            .keys()
            .filter(|n| n.ends_with(suffix))
            .cloned()
            .collect();
        names
            .into_iter()
            .filter_map(|name| {
                let tensor = self.tensors.remove(&name)?;
                let path = name.strip_suffix(suffix)?.strip_suffix('.')?;
                Some((path.to_owned(), tensor))
            })
            .collect()
    }

    /// The site of a module's path.
    pub(super) fn site(&self, path: &str) -> Option<Site> {
        layout::site(self.architecture, path.strip_prefix(&self.prefix)?)
    }

    /// Refuses a folder whose tensors are not those of the modules that its rules name.
    pub(super) fn check_targets<'p>(
        &self,
        rules: &Rules,
        paths: impl Iterator<Item = &'p String>,
    ) -> Result<()> {
        let found: BTreeSet<&String> = paths.collect();
        for path in &found {
            ensure!(
                rules.matches(path)?,
                "{WEIGHTS} has weights for the module '{path}', which target_modules does not name"
            );
        }
        // How many layers there are, only the backbone knows.
        let Some(loaded) = self.loaded else {
            return Ok(());
        };
        let layers = loaded.backbone.config().layers;
        let own = self.architecture.prefix();
        for (path, site) in layout::linear_modules(self.architecture, layers, self.tags) {
            let path = match site {
                Some(_) if self.prefix.is_empty() => path.trim_start_matches(&own).to_owned(),
                None if self.prefix.is_empty() => continue,
                _ => path,
            };
            ensure!(
                found.contains(&path) || !rules.matches(&path)?,
                "target_modules names the module '{path}', but {WEIGHTS} has no weights for it"
            );
        }
        Ok(())
    }
}

/// A task on its way out.
pub(super) struct Writing<'a> {
    pub(super) export: &'a Export<'a>,
    /// The method's tensors by our names.
    pub(super) tensors: Tensors,
    pub(super) architecture: Architecture,
    pub(super) prefix: String,
}

/// What a method becomes.
pub(super) struct Written {
    pub(super) peft_type: &'static str,
    pub(super) config: Map<String, Value>,
    /// By names behind [`TUNER`], or [`EMBEDDINGS`].
    pub(super) tensors: Tensors,
}

impl Writing<'_> {
    /// The module's path of a site.
    pub(super) fn path(&self, site: &str) -> Result<String> {
        let site: Site = site.parse().map_err(anyhow::Error::msg)?;
        Ok(format!("{}{}", self.prefix, self.architecture.module(site)))
    }
}

pub(super) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
