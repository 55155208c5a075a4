//! The linear layer composed of candle ops.

use candle_core::{Result, Tensor};

use crate::activation::{self, Activation};

pub(crate) fn linear(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    f: Option<Activation>,
) -> Result<Tensor> {
    let mut y = x.contiguous()?.matmul(&weight.t()?)?;
    if let Some(bias) = bias {
        y = y.broadcast_add(bias)?;
    }
    match f {
        Some(f) => activation::reference::activate(&y, f),
        None => Ok(y),
    }
}
