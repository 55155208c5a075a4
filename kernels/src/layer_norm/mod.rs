//! Layer normalisation of each row (Ba et al. 2016), alone or with the residual before it.
//!
//! With `x̂ = (x − μ) / √(σ² + ε)`: `y = γ ∘ x̂ + β`. μ and σ² are taken in two passes; the shortcut `E[x²] − μ²` loses
//! all digits on a nearly constant row. Backward, with `a = g ∘ γ`: `dx = (a − mean(a) − x̂ mean(a ∘ x̂)) / √(σ² + ε)`,
//! `dγ = Σ_rows g ∘ x̂`, `dβ = Σ_rows g`. The residual's gradient is that of `x`.

mod fast;
mod reference;

use candle_core::{Result, Tensor, bail};

use crate::path::choose;

/// A layer norm over rows of length H. `gamma` and `beta` are trained if they are `Var`s, else frozen.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    gamma: Tensor,
    beta: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// From `gamma [H]`, `beta [H]` and the ε added to the variance.
    pub fn new(gamma: Tensor, beta: Tensor, eps: f64) -> Result<Self> {
        gamma.dims1()?;
        if gamma.dims() != beta.dims() {
            bail!(
                "layer norm: gamma is {:?} but beta is {:?}",
                gamma.dims(),
                beta.dims()
            )
        }
        Ok(Self {
            gamma: gamma.contiguous()?,
            beta: beta.contiguous()?,
            eps,
        })
    }

    /// The scale γ, `[H]`.
    pub fn gamma(&self) -> &Tensor {
        &self.gamma
    }

    /// The shift β, `[H]`.
    pub fn beta(&self) -> &Tensor {
        &self.beta
    }

    /// The ε added to the variance.
    pub fn eps(&self) -> f64 {
        self.eps
    }

    /// `LN(x)`, `x [N, H]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.check(x)?;
        self.apply(x, None)
    }

    /// `LN(x + residual)`, both `[N, H]`.
    pub fn forward_residual(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        self.check(x)?;
        if x.dims() != residual.dims() {
            bail!(
                "layer norm: x is {:?} but the residual is {:?}",
                x.dims(),
                residual.dims()
            )
        }
        self.apply(x, Some(residual))
    }

    fn apply(&self, x: &Tensor, residual: Option<&Tensor>) -> Result<Tensor> {
        choose!(
            [x, residual.unwrap_or(x), &self.gamma, &self.beta],
            fast::layer_norm(x, residual, self),
            reference::layer_norm(x, residual, self)
        )
    }

    fn check(&self, x: &Tensor) -> Result<()> {
        let (_, width) = x.dims2()?;
        if self.gamma.dims() != [width] {
            bail!(
                "layer norm: a row of x has {width} values, gamma is {:?}",
                self.gamma.dims()
            )
        }
        Ok(())
    }
}
