//! The logits of all rows, and their cross-entropy.

use candle_core::{Result, Tensor};

use crate::cross_entropy;

pub(crate) fn vocabulary_cross_entropy(
    hidden: &Tensor,
    table: &Tensor,
    labels: &[u32],
) -> Result<Tensor> {
    cross_entropy::reference::cross_entropy(&hidden.contiguous()?.matmul(&table.t()?)?, labels)
}
