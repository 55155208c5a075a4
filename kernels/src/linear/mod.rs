//! `y = x Wᵀ + b`, frozen or trained, with an activation in the epilogue if wanted.
//!
//! With `g = dL/dy`: `dx = g W`, `dW = gᵀ x`, `db = Σ_rows g`; each only where it is asked for.

mod fast;
mod reference;

use std::any::Any;
use std::sync::{Arc, OnceLock};

use candle_core::{Result, Tensor, bail};

use crate::Activation;
use crate::path::choose;

/// A linear layer `y = x Wᵀ + b`. A weight or bias that candle does not track is frozen: no gradient is computed or
/// kept for it. One that is a `Var` is trained. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Linear {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    weight: Tensor,
    bias: Option<Tensor>,
    /// The frozen weight in panels of its dtype, made by the first forward.
    packed: OnceLock<Arc<dyn Any + Send + Sync>>,
}

impl Linear {
    /// From a weight `[out, in]` and a bias `[out]`.
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Result<Self> {
        let (out, _) = weight.dims2()?;
        let bias = bias.map(|bias| bias.contiguous()).transpose()?;
        if let Some(bias) = &bias
            && bias.dims() != [out]
        {
            bail!(
                "linear: the weight is {:?}, so the bias must be [{out}], got {:?}",
                weight.dims(),
                bias.dims()
            )
        }
        Ok(Self {
            shared: Arc::new(Shared {
                weight: weight.contiguous()?,
                bias,
                packed: OnceLock::new(),
            }),
        })
    }

    /// The weight, `[out, in]`.
    pub fn weight(&self) -> &Tensor {
        &self.shared.weight
    }

    /// The bias, `[out]`.
    pub fn bias(&self) -> Option<&Tensor> {
        self.shared.bias.as_ref()
    }

    /// The length of an input row.
    pub fn in_features(&self) -> usize {
        self.weight().dims()[1]
    }

    /// The length of an output row.
    pub fn out_features(&self) -> usize {
        self.weight().dims()[0]
    }

    /// `x [N, in]` to `[N, out]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.apply(x, None)
    }

    /// `f(x Wᵀ + b)`: `x [N, in]` to `[N, out]`.
    pub fn forward_activated(&self, x: &Tensor, f: Activation) -> Result<Tensor> {
        self.apply(x, Some(f))
    }

    fn apply(&self, x: &Tensor, f: Option<Activation>) -> Result<Tensor> {
        let (_, width) = x.dims2()?;
        if width != self.in_features() {
            bail!(
                "linear: a row of x has {width} values, the weight is {:?}",
                self.weight().dims()
            )
        }
        let bias = self.bias().unwrap_or(x);
        choose!(
            [x, self.weight(), bias],
            fast::linear(self, x, f),
            reference::linear(x, self.weight(), self.bias(), f)
        )
    }
}
