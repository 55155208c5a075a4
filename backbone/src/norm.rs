//! A norm over rows, whichever a family has.

use candle_core::{Result, Tensor};
use kernels::RmsNorm;

/// A norm over rows of H values. The neutral one only adds the residual: it stands where a sublayer of a pre-norm
/// transformer has none behind it.
#[derive(Clone, Debug)]
pub struct LayerNorm(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Layer(kernels::LayerNorm),
    /// Without a shift: the zeros that stand for it are nobody's weight.
    Unshifted(kernels::LayerNorm),
    /// With the zeros of a shift that it does not have.
    Rms(RmsNorm, Tensor),
    Neutral(Tensor),
}

impl LayerNorm {
    /// Layer norm from `gamma [H]`, `beta [H]` and the ε added to the variance.
    ///
    /// # Errors
    /// If the shapes differ.
    pub fn new(gamma: Tensor, beta: Tensor, eps: f64) -> Result<Self> {
        Ok(Self(Kind::Layer(kernels::LayerNorm::new(
            gamma, beta, eps,
        )?)))
    }

    /// Layer norm without a shift.
    ///
    /// # Errors
    /// If `gamma` is not a vector.
    pub fn without_bias(gamma: Tensor, eps: f64) -> Result<Self> {
        let beta = gamma.detach().zeros_like()?;
        Ok(Self(Kind::Unshifted(kernels::LayerNorm::new(
            gamma, beta, eps,
        )?)))
    }

    /// Root-mean-square norm from `gamma [H]` and the ε added to the mean of the squares.
    ///
    /// # Errors
    /// If `gamma` is not a vector.
    pub fn rms(gamma: Tensor, eps: f64) -> Result<Self> {
        let zeros = gamma.detach().zeros_like()?;
        Ok(Self(Kind::Rms(RmsNorm::new(gamma, eps)?, zeros)))
    }

    /// A norm of the same kind from other tensors; a shift is left away where the kind has none.
    ///
    /// # Errors
    /// If the shapes differ.
    pub fn with(&self, gamma: Tensor, beta: Option<Tensor>) -> Result<Self> {
        match &self.0 {
            Kind::Layer(norm) => Self::new(
                gamma,
                beta.unwrap_or_else(|| norm.beta().clone()),
                norm.eps(),
            ),
            Kind::Unshifted(norm) => Self::without_bias(gamma, norm.eps()),
            Kind::Rms(norm, _) => Self::rms(gamma, norm.eps()),
            Kind::Neutral(_) => Ok(self.clone()),
        }
    }

    /// No norm: `x` stays `x`.
    pub(crate) fn neutral(like: &Tensor) -> Self {
        Self(Kind::Neutral(like.clone()))
    }

    /// The scale γ, `[H]`.
    pub fn gamma(&self) -> &Tensor {
        match &self.0 {
            Kind::Layer(norm) | Kind::Unshifted(norm) => norm.gamma(),
            Kind::Rms(norm, _) => norm.gamma(),
            Kind::Neutral(ones) => ones,
        }
    }

    /// The shift β, `[H]`: zeros where the norm has none (see [`LayerNorm::has_bias`]).
    pub fn beta(&self) -> &Tensor {
        match &self.0 {
            Kind::Layer(norm) | Kind::Unshifted(norm) => norm.beta(),
            Kind::Rms(_, zeros) | Kind::Neutral(zeros) => zeros,
        }
    }

    /// Whether the norm has a shift.
    pub fn has_bias(&self) -> bool {
        matches!(self.0, Kind::Layer(_))
    }

    /// The ε added to variance or mean square.
    pub fn eps(&self) -> f64 {
        match &self.0 {
            Kind::Layer(norm) | Kind::Unshifted(norm) => norm.eps(),
            Kind::Rms(norm, _) => norm.eps(),
            Kind::Neutral(_) => 0.0,
        }
    }

    /// The normalised rows of `x [N, H]`.
    ///
    /// # Errors
    /// If the rows have another length.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match &self.0 {
            Kind::Layer(norm) | Kind::Unshifted(norm) => norm.forward(x),
            Kind::Rms(norm, _) => norm.forward(x),
            Kind::Neutral(_) => Ok(x.clone()),
        }
    }

    /// The normalised rows of `x + residual`, both `[N, H]`.
    ///
    /// # Errors
    /// If the shapes differ.
    pub fn forward_residual(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        match &self.0 {
            Kind::Layer(norm) | Kind::Unshifted(norm) => norm.forward_residual(x, residual),
            Kind::Rms(norm, _) => norm.forward_residual(x, residual),
            Kind::Neutral(_) => kernels::add(x, residual),
        }
    }
}
