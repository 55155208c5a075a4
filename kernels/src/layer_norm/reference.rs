//! Layer normalisation composed of candle ops.

use candle_core::{D, Result, Tensor};

use super::LayerNorm;

pub(crate) fn layer_norm(
    x: &Tensor,
    residual: Option<&Tensor>,
    norm: &LayerNorm,
) -> Result<Tensor> {
    let x = match residual {
        Some(residual) => (x + residual)?,
        None => x.clone(),
    };
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    let normed = centred.broadcast_div(&(variance + norm.eps)?.sqrt()?)?;
    normed.broadcast_mul(&norm.gamma)?.broadcast_add(&norm.beta)
}
