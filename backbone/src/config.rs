//! The architecture of a backbone, read from its `config.json` as transformers reads it.
//!
//! A missing key has the library's default. A key that changes the forward pass is followed or refused by name; every
//! other key is passed over.

use std::path::Path;

use kernels::Activation;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    Description, Error, Norm, Projection, Result, Site,
    gguf::{Gguf, is_gguf},
    keys::{Keys, truthy},
    weights::read_whole,
};

/// The families of transformers that can be a backbone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// BERT (Devlin et al. 2019) and its like.
    Bert,
    /// RoBERTa (Liu et al. 2019): positions start behind the padding id.
    Roberta,
    /// DistilBERT (Sanh et al. 2019): no token types, no pooler.
    DistilBert,
    /// ModernBERT (Warner et al. 2024): pre-norm, rotary, mostly local attention.
    ModernBert,
    /// Llama (Touvron et al. 2023) and what has its form: SmolLM2, TinyLlama.
    Llama,
    /// Qwen2 and Qwen2.5 (Yang et al. 2024).
    Qwen2,
    /// Qwen3 (Yang et al. 2025).
    Qwen3,
}

impl Architecture {
    /// The name that `config.json` gives as `model_type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bert => "bert",
            Self::Roberta => "roberta",
            Self::DistilBert => "distilbert",
            Self::ModernBert => "modernbert",
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
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
    /// The norms' epsilon.
    pub epsilon: f64,
    /// What the layers are made of.
    pub description: Description,
}

impl Config {
    /// What the library takes for a configuration without a key.
    pub fn of(architecture: Architecture) -> Self {
        architecture.defaults(architecture.name())
    }

    /// Reads `config.json`, or what a GGUF says in its place.
    ///
    /// # Errors
    /// If the file cannot be read, is not JSON, names an unsupported architecture, or has keys that change numbers and
    /// cannot be followed: all of them together.
    pub fn read(path: &Path) -> Result<Self> {
        if is_gguf(path) {
            let json = Gguf::open(path)?.config()?;
            return Self::from_json(&json).map_err(|what| Error::content(path, what));
        }
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
                "architecture '{model_type}' is not supported{}; supported: {SUPPORTED}",
                Architecture::because(&model_type)
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
        // Keys by which the library reads other files than these.
        keys.only(
            "transformers_weights",
            "null or model.safetensors, the file that is read",
            |v| v.is_null() || v == "model.safetensors",
        );
        keys.only(
            "configuration_files",
            "config.json alone; make it the one of the version that is wanted",
            |v| {
                let files = v.as_array();
                v.is_null()
                    || files.is_some_and(|files| files.iter().all(|file| file == "config.json"))
            },
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
            || self.description.rotary.is_none() && !self.hidden.is_multiple_of(self.heads)
        {
            found.push(format!(
                "hidden size {} must be a positive multiple of {} attention heads, with at least one layer",
                self.hidden, self.heads
            ));
        }
        let d = &self.description;
        if d.key_value_heads == 0 || !self.heads.is_multiple_of(d.key_value_heads.max(1)) {
            found.push(format!(
                "num_key_value_heads {} must divide {} attention heads",
                d.key_value_heads, self.heads
            ));
        }
        if d.head_width == 0 || d.rotary.is_some() && !d.head_width.is_multiple_of(2) {
            found.push(format!(
                "heads of {} values cannot have rotary positions: an even number is needed",
                d.head_width
            ));
        }
        if d.windows.contains(&Some(0)) {
            found.push("local_attention, sliding_window: a window of 0 tokens sees nothing".into());
        }
        if self.positions <= self.position_offset {
            found.push(format!(
                "max_position_embeddings {} leaves no room",
                self.positions
            ));
        }
        if self.token_types == 0
            && matches!(
                self.architecture,
                Architecture::Bert | Architecture::Roberta
            )
        {
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
            Norm::Embeddings => self.architecture.embedding_norm().to_owned(),
            Norm::Layer(layer, which) => self.architecture.norm_module(layer, which),
            Norm::Final => self.architecture.final_norm().to_owned(),
        }
    }

    /// All sites, from the input upwards.
    pub fn sites(&self) -> impl Iterator<Item = Site> + use<> {
        let projections: Vec<Projection> = self.description.projections().collect();
        (0..self.layers).flat_map(move |layer| {
            let projections = projections.clone().into_iter();
            projections.map(move |projection| Site { layer, projection })
        })
    }

    /// Values of a row of keys or of values.
    pub fn key_width(&self) -> usize {
        self.description.key_value_heads * self.description.head_width
    }

    /// The linear layers that Hugging Face PEFT's LoRA changes where nobody names any.
    pub fn lora_targets(&self) -> &'static [Projection] {
        self.architecture.lora_targets()
    }

    /// The linear layers that IA3 scales where nobody names any, and those of them whose input it scales.
    pub fn ia3_targets(&self) -> [&'static [Projection]; 2] {
        self.architecture.ia3_targets()
    }

    /// Sizes `(out, in)` of a linear layer.
    pub fn shape(&self, projection: Projection) -> (usize, usize) {
        let d = &self.description;
        let (queries, shared) = (self.heads * d.head_width, d.key_value_heads * d.head_width);
        match projection {
            Projection::Query => (queries, self.hidden),
            Projection::Key | Projection::Value => (shared, self.hidden),
            Projection::QueryKeyValue => (queries + 2 * shared, self.hidden),
            Projection::AttentionOutput => (self.hidden, queries),
            Projection::Intermediate if d.feed_forward == crate::FeedForward::GatedFused => {
                (2 * self.intermediate, self.hidden)
            }
            Projection::Gate | Projection::Intermediate => (self.intermediate, self.hidden),
            Projection::Output => (self.hidden, self.intermediate),
        }
    }
}

const SUPPORTED: &str = "bert, roberta, xlm-roberta, distilbert, modernbert, llama, qwen2, qwen3";

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
