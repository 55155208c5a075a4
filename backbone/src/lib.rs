//! The frozen transformer.
//!
//! A [`Backbone`] turns a packed [`Batch`] of token ids into one vector per example. Methods act on it
//! through [`Hooks`]: at the input embeddings, at each [`Site`] (a linear layer), at the keys and values of
//! attention, at the output of each sublayer and at each [`Norm`]. Nothing in here knows any method.
//!
//! Letters in shapes: B examples, N tokens in the batch, H hidden size, P virtual tokens, L layers.
#![forbid(unsafe_code)]

mod batch;
mod cache;
mod checks;
mod config;
mod description;
mod error;
mod families;
mod gguf;
mod head_kind;
mod hooks;
mod keys;
mod mixed;
mod model;
mod norm;
mod pooling;
mod random;
mod site;
mod weights;

pub use batch::{Batch, Input};
pub use cache::Cache;
pub use config::{Architecture, Config};
pub use description::{Description, FeedForward, NormKind, Rotary, RotaryScaling};
pub use error::{Error, Result};
pub use gguf::{Gguf, is_gguf};
pub use head_kind::{HeadKind, conventions};
pub use hooks::{Hooks, KeyValues, NoHooks, Pass, Phase};
pub use kernels::{Activation, Linear, Precision, Spans};
pub use mixed::Mixed;
pub use model::{Backbone, TensorSource};
pub use norm::LayerNorm;
pub use pooling::Pooling;
pub use site::{Norm, Projection, Site, Sublayer};
pub use weights::{TensorFile, digest_of, output_blocks, output_matrix, weights_file};

/// Version of the forward pass: it rises with every change that changes a backbone's numbers, so that what was computed
/// before is not taken for what would be computed now.
pub const NUMERICS: u32 = 2;
