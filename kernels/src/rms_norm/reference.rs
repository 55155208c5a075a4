//! Root-mean-square normalisation composed of candle ops.

use candle_core::{D, Result, Tensor};

use super::RmsNorm;

pub(crate) fn rms_norm(x: &Tensor, residual: Option<&Tensor>, norm: &RmsNorm) -> Result<Tensor> {
    let x = match residual {
        Some(residual) => (x + residual)?,
        None => x.clone(),
    };
    let runs = x.reshape(((), norm.gamma.elem_count()))?;
    let mean = runs.sqr()?.mean_keepdim(D::Minus1)?;
    let normed = runs.broadcast_div(&(mean + norm.eps)?.sqrt()?)?;
    normed.broadcast_mul(&norm.gamma)?.reshape(x.shape())
}
