//! `y = x Wᵀ + b`, frozen or trained, with an activation in the epilogue if wanted.
//!
//! With `g = dL/dy`: `dx = g W`, `dW = gᵀ x`, `db = Σ_rows g`; each only where it is asked for.
//!
//! A frozen weight may be in bf16 ([`Precision`]): then `y = r(x) r(W)ᵀ + b` and `dx = r(g) r(W)`, with `r` for rounding and
//! sums in f32. The plain reference rounds x and W, and not g.

mod fast;
mod reference;

use std::any::Any;
use std::cell::Cell;
use std::sync::{Arc, OnceLock};

use candle_core::{DType, Result, Tensor, bail};

use crate::gemm::rounded::Panels;
use crate::path::choose;
use crate::precision::rounded;
use crate::{Activation, Precision};

thread_local! {
    static PACKINGS: Cell<usize> = const { Cell::new(0) };
}

/// How often this thread has put a weight into panels: a frozen one is packed once, a trained one in every forward.
pub fn packings() -> usize {
    PACKINGS.get()
}

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
    precision: Precision,
    /// The frozen weight in panels of its dtype, made by the first forward.
    packed: OnceLock<Arc<dyn Any + Send + Sync>>,
    /// The frozen weight in panels of bf16: for the forward, for the backward.
    rounded: [OnceLock<Arc<Panels>>; 2],
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
        Ok(Self::of(weight.contiguous()?, bias, Precision::F32))
    }

    fn of(weight: Tensor, bias: Option<Tensor>, precision: Precision) -> Self {
        Self {
            shared: Arc::new(Shared {
                weight,
                bias,
                precision,
                packed: OnceLock::new(),
                rounded: Default::default(),
            }),
        }
    }

    /// The same layer with its frozen weight in `precision`; one that is trained stays in f32.
    pub fn in_precision(&self, precision: Precision) -> Result<Self> {
        if self.weight().track_op() || precision == self.precision() {
            return Ok(self.clone());
        }
        let weight = match precision {
            Precision::F32 => self.weight().clone(),
            Precision::Bf16 => rounded(self.weight())?,
        };
        Ok(Self::of(weight, self.bias().cloned(), precision))
    }

    /// How the weight is stored and multiplied.
    pub fn precision(&self) -> Precision {
        self.shared.precision
    }

    /// The weight, `[out, in]`; in bf16, its rounded values.
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
            match (self.precision(), x.dtype()) {
                (Precision::Bf16, DType::F32) => {
                    // (Exact: x and what it is rounded to are less than a factor of two apart.)
                    let x = (x + (rounded(x)? - x)?.detach())?;
                    reference::linear(&x, self.weight(), self.bias(), f)
                }
                _ => reference::linear(x, self.weight(), self.bias(), f),
            }
        )
    }
}
