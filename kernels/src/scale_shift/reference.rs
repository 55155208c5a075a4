//! Scale and shift composed of candle ops.

use candle_core::{Result, Tensor};

pub(crate) fn scale_shift(
    x: &Tensor,
    width: usize,
    scale: Option<&Tensor>,
    shift: Option<&Tensor>,
) -> Result<Tensor> {
    let mut y = x.clone();
    if let Some(scale) = scale {
        y = y.broadcast_mul(&scale.reshape(width)?)?;
    }
    if let Some(shift) = shift {
        y = y.broadcast_add(&shift.reshape(width)?)?;
    }
    Ok(y)
}
