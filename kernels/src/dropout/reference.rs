//! Dropout composed of candle ops.

use candle_core::{Result, Tensor};

pub(crate) fn dropout(x: &Tensor, keep: &[bool], p: f64) -> Result<Tensor> {
    let mask: Vec<u8> = keep.iter().map(|&k| u8::from(k)).collect();
    let mask = Tensor::from_vec(mask, x.shape(), x.device())?.to_dtype(x.dtype())?;
    x * (mask / (1.0 - p))?
}
