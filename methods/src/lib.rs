//! Parameter-efficient fine-tuning methods.
//!
//! Each method is one file with one constructor, one YAML of defaults in `configs/`, and one line in
//! [`registry`]. A method acts on the frozen backbone through [`Hooks`] and owns its trainable variables;
//! it never sees data, optimiser, clock or path.
//!
//! Letters in shapes: N tokens, H hidden size, P virtual tokens, R rank.
#![forbid(unsafe_code)]

mod adapter;
mod bitfit;
mod capabilities;
mod combine;
mod compacter;
mod config;
mod dora;
mod full;
mod head_only;
mod ia3;
mod init;
mod layer_norm;
mod lora;
mod majority;
mod p_tuning;
mod prefix_tuning;
mod prompt_tuning;
mod random_features;
pub mod registry;
mod targets;

use std::collections::BTreeMap;

use backbone::{Backbone, Hooks};
use candle_core::{Tensor, Var};
use rand_chacha::ChaCha8Rng;

pub use capabilities::{Capabilities, capabilities};
pub use config::{Optimiser, Range, Resolved, resolve, resolve_values, search};
pub use head_only::HeadOnly;
pub use init::normal;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong with a method.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No method has this name.
    #[error("unknown method '{name}'; known: {}", known.join(", "))]
    UnknownMethod {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<&'static str>,
    },
    /// A configuration is not valid.
    #[error("method {method}: {what}")]
    Config {
        /// The method.
        method: String,
        /// Key, offending value and accepted values.
        what: String,
    },
    /// Saved weights do not fit the method.
    #[error("weights: {0}")]
    Weights(String),
    /// The backbone refused.
    #[error(transparent)]
    Backbone(#[from] backbone::Error),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// A way to adapt a frozen backbone to a task.
pub trait PeftMethod: Hooks + Send + Sync {
    /// The trainable variables in a fixed order, named by site. Counting, the optimiser and the gradient audit
    /// read this and nothing else.
    fn vars(&self) -> Vec<(String, Var)>;

    /// What the method's file holds: the trainable variables, unless they only make what the backbone sees
    /// (a reparametrisation), which is what is shipped then.
    ///
    /// # Errors
    /// If a tensor operation fails.
    fn shipped(&self) -> Result<Vec<(String, Tensor)>> {
        let detached = |(name, var): (String, Var)| (name, var.as_detached_tensor());
        Ok(self.vars().into_iter().map(detached).collect())
    }

    /// Takes over what [`PeftMethod::shipped`] gave, to predict with it: it need not be trainable afterwards.
    ///
    /// # Errors
    /// As [`restore`].
    fn load(&mut self, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
        restore(&self.vars(), tensors)
    }

    /// A variable's share of the method's learning rate.
    fn learning_rate_factor(&self, _variable: &str) -> f64 {
        1.0
    }

    /// The method's own copy of the backbone, for a method that trains the backbone itself.
    fn backbone(&self) -> Option<&Backbone> {
        None
    }

    /// Whether what is predicted depends on the text at all. Where it does not, the head becomes the training labels'
    /// frequencies and nothing is trained.
    fn reads_text(&self) -> bool {
        true
    }

    /// Positions that the method takes before the text of every example.
    fn virtual_tokens(&self) -> usize {
        0
    }

    /// Whether the untrained method leaves the backbone's output as it is, or why it does not.
    ///
    /// # Errors
    /// The reason, in words.
    fn starts_as_backbone(&self) -> std::result::Result<(), &'static str> {
        Ok(())
    }

    /// A copy of `backbone` with changed weights, over which the method vanishes from the forward pass; what is
    /// not changed is shared.
    ///
    /// # Errors
    /// [`NotMergeable`] with the reason.
    fn merge(&self, backbone: &Backbone) -> std::result::Result<Backbone, NotMergeable>;
}

/// Why a method cannot be merged into the backbone's weights.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotMergeable(pub String);

impl From<candle_core::Error> for NotMergeable {
    fn from(e: candle_core::Error) -> Self {
        Self(e.to_string())
    }
}

impl From<backbone::Error> for NotMergeable {
    fn from(e: backbone::Error) -> Self {
        Self(e.to_string())
    }
}

/// What a method is built from.
pub struct Context<'a> {
    /// The frozen backbone.
    pub backbone: &'a Backbone,
    /// The method's own random stream.
    pub rng: &'a mut ChaCha8Rng,
    /// The tokenizer's vocabulary, for methods that start from words.
    pub words: &'a dyn Words,
}

/// The part of a tokenizer that an initialisation may need.
pub trait Words {
    /// Token ids of a text, without special tokens.
    ///
    /// # Errors
    /// The tokenizer's own message.
    fn encode(&self, text: &str) -> std::result::Result<Vec<u32>, String>;

    /// Ids of ordinary tokens (neither special nor unused), the more common first where the vocabulary is so ordered.
    fn ordinary(&self) -> Vec<u32>;
}

/// Sets a method's variables from saved tensors.
///
/// # Errors
/// If a variable has no tensor, a tensor no variable, or a shape differs; the message names it.
pub fn restore(vars: &[(String, Var)], tensors: &BTreeMap<String, Tensor>) -> Result<()> {
    // All names and shapes are checked before anything is set.
    let found = vars.iter().map(|(name, var)| {
        let tensor = tensors
            .get(name)
            .ok_or_else(|| Error::Weights(format!("tensor '{name}' is missing")))?;
        if tensor.dims() != var.dims() {
            let (got, expected) = (tensor.dims(), var.dims());
            return Err(Error::Weights(format!(
                "tensor '{name}' has shape {got:?}, expected {expected:?}"
            )));
        }
        Ok((var, tensor))
    });
    let found = found.collect::<Result<Vec<_>>>()?;
    if let Some(name) = tensors
        .keys()
        .find(|name| !vars.iter().any(|(known, _)| known == *name))
    {
        return Err(Error::Weights(format!(
            "tensor '{name}' does not belong to this method"
        )));
    }
    for (var, tensor) in found {
        var.set(tensor)?;
    }
    Ok(())
}
