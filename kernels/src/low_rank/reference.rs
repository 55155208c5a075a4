//! The low-rank update composed of candle ops.

use candle_core::{Result, Tensor};

pub(crate) fn low_rank_add(
    y: &Tensor,
    x: &Tensor,
    a: &Tensor,
    b: &Tensor,
    scaling: f64,
) -> Result<Tensor> {
    y + (x.contiguous()?.matmul(&a.t()?)?.matmul(&b.t()?)? * scaling)?
}
