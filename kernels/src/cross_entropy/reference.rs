//! Cross-entropy composed of candle ops.

use candle_core::{D, Result, Tensor};

pub(crate) fn cross_entropy(logits: &Tensor, labels: &[u32]) -> Result<Tensor> {
    let labels = Tensor::new(labels, logits.device())?.unsqueeze(1)?;
    let shifted = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?.detach())?;
    let log_sum = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    (log_sum - shifted.contiguous()?.gather(&labels, 1)?)?.mean_all()
}
