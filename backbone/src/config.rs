//! The architecture of a backbone, read from its `config.json` as transformers reads it.
//!
//! A missing key has the library's default. A key that changes the forward pass is followed or refused by name; every
//! other key is passed over.

use std::path::Path;

use kernels::Activation;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    Error, Norm, Result, Site,
    keys::{Keys, truthy},
    weights::read_whole,
};

/// The families of encoders that can be a backbone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// BERT (Devlin et al. 2019) and its like.
    Bert,
    /// RoBERTa (Liu et al. 2019): positions start behind the padding id.
    Roberta,
    /// DistilBERT (Sanh et al. 2019): no token types, no pooler.
    DistilBert,
}

impl Architecture {
    /// The name that `config.json` gives as `model_type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bert => "bert",
            Self::Roberta => "roberta",
            Self::DistilBert => "distilbert",
        }
    }
}

/// Sizes and constants of a backbone: all of its configuration that changes numbers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Config {
    /// The family.
    pub architecture: Architecture,
    /// Encoder layers L.
    pub layers: usize,
    /// Hidden size H.
    pub hidden: usize,
    /// Attention heads.
    pub heads: usize,
    /// Size between the two feed-forward layers.
    pub intermediate: usize,
    /// Rows of the word embedding table.
    pub vocabulary: usize,
    /// Rows of the position table.
    pub positions: usize,
    /// Rows of the position table that no token uses, at its start.
    pub position_offset: usize,
    /// The id of tokens that do not advance the position and have the position before the first (RoBERTa's padding).
    pub position_padding: Option<u32>,
    /// Whether the position table is added to the embeddings.
    pub position_table: bool,
    /// Rows of the token type table; 0 where there is none.
    pub token_types: usize,
    /// The feed-forward activation.
    pub activation: Activation,
    /// Layer norm's epsilon.
    pub epsilon: f64,
}

impl Config {
    /// What the library takes for a configuration without a key.
    pub fn of(architecture: Architecture) -> Self {
        architecture.defaults(architecture.name())
    }

    /// Reads `config.json`.
    ///
    /// # Errors
    /// If the file cannot be read, is not JSON, names an unsupported architecture, or has keys that change numbers and
    /// cannot be followed: all of them together.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = read_whole(path)?;
        let json: Value = serde_json::from_slice(&bytes)
            .map_err(|e| Error::content(path, format!("is not JSON: {e}")))?;
        let Value::Object(json) = json else {
            return Err(Error::content(path, "is not a JSON object"));
        };
        Self::from_json(&json).map_err(|what| Error::content(path, what))
    }

    fn from_json(json: &Map<String, Value>) -> std::result::Result<Self, String> {
        let model_type = model_type(json)?;
        let Some(architecture) = Architecture::of_model_type(&model_type) else {
            return Err(format!(
                "architecture '{model_type}' is not supported; supported: {SUPPORTED}"
            ));
        };
        let mut keys = Keys::new(json);
        let config = architecture.read(&mut keys, architecture.defaults(&model_type));
        keys.only(
            "problem_type",
            "single_label_classification or null: what is trained here is a classifier",
            |v| v.is_null() || v == "single_label_classification",
        );
        keys.only("pruned_heads", "no heads", |v| !truthy(v));
        keys.only(
            "quantization_config",
            "weights in f32, f16 or bf16: save the model without quantisation",
            |v| !truthy(v),
        );
        let mut problems = keys.problems();
        if problems.is_empty() {
            problems = config.disagreements();
        }
        if problems.is_empty() {
            Ok(config)
        } else {
            Err(problems.join("; "))
        }
    }

    /// What does not fit together in the sizes.
    fn disagreements(&self) -> Vec<String> {
        let mut found = Vec::new();
        if self.hidden == 0
            || self.layers == 0
            || self.heads == 0
            || self.intermediate == 0
            || !self.hidden.is_multiple_of(self.heads)
        {
            found.push(format!(
                "hidden size {} must be a positive multiple of {} attention heads, with at least one layer",
                self.hidden, self.heads
            ));
        }
        if self.positions <= self.position_offset {
            found.push(format!(
                "max_position_embeddings {} leaves no room",
                self.positions
            ));
        }
        if self.token_types == 0 && self.architecture != Architecture::DistilBert {
            found.push("type_vocab_size: 0 is not supported; accepted: 1 or more".into());
        }
        found
    }

    /// The most tokens an example may have, virtual tokens included.
    pub fn max_tokens(&self) -> usize {
        self.positions - self.position_offset
    }

    /// The name of the weight's tensor at a site, as transformers writes it, without a prefix.
    pub fn tensor_name(&self, site: Site) -> String {
        self.architecture.module(site)
    }

    /// The name of a layer norm, as transformers writes it, without a prefix.
    pub fn norm_name(&self, at: Norm) -> String {
        match at {
            Norm::Embeddings => "embeddings.LayerNorm".to_owned(),
            Norm::Layer(layer, which) => self.architecture.norm_module(layer, which),
        }
    }
}

const SUPPORTED: &str = "bert, roberta, xlm-roberta, distilbert";

/// The family's name: `model_type`, else what `architectures` says.
fn model_type(json: &Map<String, Value>) -> std::result::Result<String, String> {
    match json.get("model_type") {
        Some(Value::String(name)) if !name.is_empty() => return Ok(name.clone()),
        None | Some(Value::Null | Value::String(_)) => {}
        Some(other) => return Err(format!("model_type: {other}; supported: {SUPPORTED}")),
    }
    let classes = json.get("architectures").and_then(Value::as_array);
    let classes = || classes.into_iter().flatten().filter_map(Value::as_str);
    match classes().find_map(Architecture::model_type_of_class) {
        Some(name) => Ok(name.to_owned()),
        None => Err(format!(
            "has no model_type{}; add \"model_type\" with one of: {SUPPORTED}",
            match classes().next() {
                Some(class) =>
                    format!(", and architectures names '{class}', which is not supported"),
                None => " and no architectures".into(),
            }
        )),
    }
}
