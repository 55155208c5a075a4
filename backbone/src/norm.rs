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
    Rms(RmsNorm),
    Neutral(Tensor),
}

impl LayerNorm {
    /// Layer norm from `gamma [H]`, `beta [H]` and the ε added to the variance.
    ///
    /// # Errors
    /// If the shapes differ.
    pub fn new(gamma: Tensor, beta: Tensor, eps: f64) -> Result<Self> {
        Ok(Self(Kind::Layer(kernels::LayerNorm::new(gamma, beta, eps)?)))
    }

    /// Layer norm without a shift.
    ///
    /// # Errors
    /// If `gamma` is not a vector.
    pub fn without_bias(gamma: Tensor, eps: f64) -> Result<Self> {
        let beta = gamma.detach().zeros_like()?;
        Ok(Self(Kind::Unshifted(kernels::LayerNorm::new(gamma, beta, eps)?)))
    }

    /// Root-mean-square norm from `gamma [H]` and the ε added to the mean of the squares.
    ///
    /// # Errors
    /// If `gamma` is not a vector.
    pub fn rms(gamma: Tensor, eps: f64) -> Result<Self> {
        Ok(Self(Kind::Rms(RmsNorm::new(gamma, eps)?)))
    }

    /// No norm: `x` stays `x`.
    pub(crate) fn neutral(like: &Tensor) -> Self {
        Self(Kind::Neutral(like.clone()))
    }

    /// A norm of the same kind with other weights; a shift is passed over where the kind has none.
    ///
    /// # Errors
    /// If the shapes differ.
    pub fn with(&self, gamma: Tensor, beta: Option<Tensor>) -> Result<Self> {
        match (&self.0, beta) {
            (Kind::Layer(_), Some(beta)) => Self::new(gamma, beta, self.eps()),
            (Kind::Layer(norm), None) => Self::new(gamma, norm.beta().clone(), self.eps()),
            (Kind::Unshifted(_), _) => Self::without_bias(gamma, self.eps()),
            (Kind::Rms(_), _) => Self::rms(gamma, self.eps()),
            (Kind::Neutral(_), _) => Ok(Self(Kind::Neutral(gamma))),
        }
    }

    /// The scale γ, `[H]`.
    pub fn gamma(&self) -> &Tensor {
        match &self.0 {
            Kind::Layer(norm) | Kind::Unshifted(norm) => norm.gamma(),
            Kind::Rms(norm) => norm.gamma(),
            Kind::Neutral(ones) => ones,
        }
    }

    /// The shift β, `[H]`, where the norm has one.
    pub fn beta(&self) -> Option<&Tensor> {
        match &self.0 {
            Kind::Layer(norm) => Some(norm.beta()),
            _ => None,
        }
    }

    /// The ε added to variance or mean square.
    pub fn eps(&self) -> f64 {
        match &self.0 {
            Kind::Layer(norm) | Kind::Unshifted(norm) => norm.eps(),
            Kind::Rms(norm) => norm.eps(),
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
            Kind::Rms(norm) => norm.forward(x),
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
            Kind::Rms(norm) => norm.forward_residual(x, residual),
            Kind::Neutral(_) => kernels::add(x, residual),
        }
    }
}
