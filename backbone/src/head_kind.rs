//! Which classifier stands on top of the pooled vector.

use serde::Deserialize;

use crate::{Architecture, Config, Pooling};

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
    /// Dense H → H without bias, GELU, layer norm without shift, linear H → C: ModernBERT's classification head.
    DenseNorm,
    /// One linear layer without bias, H → C: a decoder's classification head.
    Score,
    /// No trained layer: the logits of one word per class, from the decoder's own output matrix (Lester et al. 2021).
    Words,
    /// No trained layer: the logits of all words, from the decoder's own output matrix, to write with.
    Vocabulary,
}

impl HeadKind {
    /// The name used in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::DenseTanh => "dense_tanh",
            Self::DenseRelu => "dense_relu",
            Self::DenseNorm => "dense_norm",
            Self::Score => "score",
            Self::Words => "words",
            Self::Vocabulary => "vocabulary",
        }
    }
}

/// How a checkpoint without a YAML is read, by its architecture: as transformers' sequence
/// classification does, but by the mean for BERT.
pub fn conventions(config: &Config) -> (Pooling, HeadKind) {
    match config.architecture {
        Architecture::Bert => (Pooling::Mean, HeadKind::Linear),
        Architecture::Roberta => (Pooling::Cls, HeadKind::DenseTanh),
        Architecture::DistilBert => (Pooling::Cls, HeadKind::DenseRelu),
        Architecture::ModernBert => (config.description.classifier_pooling, HeadKind::DenseNorm),
        Architecture::Llama | Architecture::Qwen2 | Architecture::Qwen3 => {
            (Pooling::Last, HeadKind::Score)
        }
    }
}
