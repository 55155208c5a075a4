//! What every method is.

use backbone::{Backbone, Hooks};
use candle_core::{Tensor, Var};

use crate::{NotMergeable, Parameters, Result};

/// A way to adapt a frozen backbone to a task.
pub trait PeftMethod: Hooks + Send + Sync {
    /// Its named tensors.
    fn parameters(&self) -> &Parameters {
        Parameters::NONE
    }

    /// The trainable variables in a fixed order, named by site. Counting, the optimiser and the gradient audit
    /// read this and nothing else. A method that was loaded to predict has none.
    fn vars(&self) -> Vec<(String, Var)> {
        self.parameters().vars()
    }

    /// What the method's file holds: its tensors, unless they only make what the backbone sees (a
    /// reparametrisation), which is what is shipped then.
    ///
    /// # Errors
    /// If a tensor operation fails.
    fn shipped(&self) -> Result<Vec<(String, Tensor)>> {
        Ok(self.parameters().tensors())
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

    /// The inverse strength of the L2 penalty with which the head is solved for as a logistic regression, where it is not trained in steps.
    fn solves(&self) -> Option<f64> {
        None
    }

    /// The number of nearest training examples whose classes vote, where these are the head and nothing is trained.
    fn neighbours(&self) -> Option<usize> {
        None
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

/// Bytes in memory that a method takes beside `frozen`, the backbone that all methods share: its tensors, and of a
/// backbone of its own all that the two do not share.
pub fn resident_bytes(method: &dyn PeftMethod, frozen: &Backbone) -> u64 {
    let Some(own) = method.backbone() else {
        return method.parameters().bytes();
    };
    let shared: Vec<_> = frozen.tensors().iter().map(|(_, t)| t.id()).collect();
    let named = method.parameters().tensors();
    let named: Vec<_> = named.iter().map(|(_, t)| t.id()).collect();
    let own = own.tensors();
    let own = own.iter().map(|(_, t)| t);
    own.filter(|t| !shared.contains(&t.id()) && !named.contains(&t.id()))
        .map(crate::parameters::bytes)
        .sum::<u64>()
        + method.parameters().bytes()
}
