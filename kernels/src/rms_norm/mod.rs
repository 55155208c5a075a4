//! Root-mean-square normalisation of each row (Zhang & Sennrich 2019, arXiv:1910.07467), alone or with the residual
//! before it.
//!
//! With `r = 1 / √(mean(x²) + ε)` and `x̂ = r x`: `y = γ ∘ x̂`. Backward, with `a = g ∘ γ`: `dx = r (a − x̂ mean(a ∘ x̂))`,
//! `dγ = Σ_rows g ∘ x̂`. The residual's gradient is that of `x`.

mod fast;
mod reference;

use candle_core::{Result, Tensor, bail};

use crate::path::choose;

/// A root-mean-square norm over runs of H values. `gamma` is trained if it is a `Var`, else frozen. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RmsNorm {
    gamma: Tensor,
    eps: f64,
}

impl RmsNorm {
    /// From `gamma [H]` and the ε added to the mean of the squares.
    pub fn new(gamma: Tensor, eps: f64) -> Result<Self> {
        if gamma.dims1()? == 0 {
            bail!("rms norm: gamma has no values")
        }
        let gamma = gamma.contiguous()?;
        Ok(Self { gamma, eps })
    }

    /// The scale γ, `[H]`.
    pub fn gamma(&self) -> &Tensor {
        &self.gamma
    }

    /// The ε added to the mean of the squares.
    pub fn eps(&self) -> f64 {
        self.eps
    }

    /// `RMS(x)`, `x [N, K·H]`. With K = 1 a row is one run; with more, each run of H values of a row is normed by
    /// itself with the same γ: the norms of queries and keys, head by head.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.check(x)?;
        self.apply(x, None)
    }

    /// `RMS(x + residual)`, both `[N, K·H]`.
    pub fn forward_residual(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        self.check(x)?;
        if x.dims() != residual.dims() {
            bail!(
                "rms norm: x is {:?} but the residual is {:?}",
                x.dims(),
                residual.dims()
            )
        }
        self.apply(x, Some(residual))
    }

    fn apply(&self, x: &Tensor, residual: Option<&Tensor>) -> Result<Tensor> {
        choose!(
            [x, residual.unwrap_or(x), &self.gamma],
            fast::rms_norm(x, residual, self),
            reference::rms_norm(x, residual, self)
        )
    }

    fn check(&self, x: &Tensor) -> Result<()> {
        let (_, width) = x.dims2()?;
        if width == 0 || width % self.gamma.elem_count() != 0 {
            bail!(
                "rms norm: a row of x has {width} values, gamma is {:?}",
                self.gamma.dims()
            )
        }
        Ok(())
    }
}
