//! The architecture of a backbone, read from its `config.json`.

use std::path::Path;

use candle_transformers::models::bert;
use kernels::Activation;
use serde::Deserialize;

use crate::{Error, Result};

/// The families of encoders that can be a backbone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// Sizes and constants of a backbone.
#[derive(Clone, Debug)]
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
    /// Rows of the token type table; 0 where there is none.
    pub token_types: usize,
    /// The feed-forward activation.
    pub activation: Activation,
    /// Layer norm's epsilon.
    pub epsilon: f64,
}

#[derive(Deserialize)]
struct DistilBert {
    vocab_size: usize,
    dim: usize,
    n_layers: usize,
    n_heads: usize,
    hidden_dim: usize,
    max_position_embeddings: usize,
    #[serde(default = "gelu")]
    activation: Activation,
}

fn gelu() -> Activation {
    Activation::Gelu
}

impl Config {
    /// Reads `config.json`.
    ///
    /// # Errors
    /// If the file cannot be read, is not JSON, lacks a key, or names an unsupported architecture.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|source| Error::Read {
            path: path.to_owned(),
            source,
        })?;
        let content = |e: serde_json::Error| Error::content(path, e.to_string());
        let json: serde_json::Value = serde_json::from_slice(&bytes).map_err(content)?;
        if !json.is_object() {
            return Err(Error::content(path, "is not a JSON object"));
        }
        let model_type = json
            .get("model_type")
            .and_then(|v| v.as_str())
            .unwrap_or("bert")
            .to_owned();
        let architecture = match model_type.as_str() {
            "bert" => Architecture::Bert,
            "roberta" | "xlm-roberta" => Architecture::Roberta,
            "distilbert" => Architecture::DistilBert,
            other => {
                return Err(Error::content(
                    path,
                    format!(
                        "architecture '{other}' is not supported; supported: bert, roberta, distilbert"
                    ),
                ));
            }
        };
        let config = if architecture == Architecture::DistilBert {
            let c: DistilBert = serde_json::from_value(json).map_err(content)?;
            Self {
                architecture,
                layers: c.n_layers,
                hidden: c.dim,
                heads: c.n_heads,
                intermediate: c.hidden_dim,
                vocabulary: c.vocab_size,
                positions: c.max_position_embeddings,
                position_offset: 0,
                token_types: 0,
                activation: c.activation,
                epsilon: 1e-12,
            }
        } else {
            // The config's own activation names are wider than the enum of candle-transformers.
            let activation = json
                .get("hidden_act")
                .cloned()
                .unwrap_or_else(|| "gelu".into());
            let activation: Activation = serde_json::from_value(activation).map_err(content)?;
            let mut json = json;
            json["hidden_act"] = "gelu".into();
            let c: bert::Config = serde_json::from_value(json).map_err(content)?;
            let position_offset = match architecture {
                Architecture::Roberta => c.pad_token_id.saturating_add(1),
                _ => 0,
            };
            Self {
                architecture,
                layers: c.num_hidden_layers,
                hidden: c.hidden_size,
                heads: c.num_attention_heads,
                intermediate: c.intermediate_size,
                vocabulary: c.vocab_size,
                positions: c.max_position_embeddings,
                position_offset,
                token_types: c.type_vocab_size,
                activation,
                epsilon: c.layer_norm_eps,
            }
        };
        if config.hidden == 0
            || config.layers == 0
            || config.heads == 0
            || config.hidden % config.heads != 0
        {
            return Err(Error::content(
                path,
                format!(
                    "hidden size {} must be a positive multiple of {} attention heads, with at least one layer",
                    config.hidden, config.heads
                ),
            ));
        }
        if config.positions <= config.position_offset {
            return Err(Error::content(
                path,
                format!(
                    "max_position_embeddings {} leaves no room",
                    config.positions
                ),
            ));
        }
        Ok(config)
    }

    /// The most tokens an example may have, virtual tokens included.
    pub fn max_tokens(&self) -> usize {
        self.positions - self.position_offset
    }
}
