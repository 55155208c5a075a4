//! Which classifier stands on top of the pooled vector.

use serde::Deserialize;

use crate::{Architecture, Pooling};

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
