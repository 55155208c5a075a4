//! Mean cross-entropy: `mean_i (log Σ_c e^{z_ic} − z_{i, label_i})`, gradient `(softmax(z) − onehot) / B`.

mod fast;
pub(crate) mod reference;

use candle_core::{Result, Tensor, bail};

use crate::path::choose;

/// The mean cross-entropy (a scalar) of `logits [B, C]` with B labels below C.
pub fn cross_entropy(logits: &Tensor, labels: &[u32]) -> Result<Tensor> {
    let (rows, classes) = logits.dims2()?;
    if rows == 0 || labels.len() != rows {
        bail!(
            "cross_entropy: {} labels for logits {:?}",
            labels.len(),
            logits.dims()
        )
    }
    if let Some(label) = labels.iter().find(|&&label| label as usize >= classes) {
        bail!("cross_entropy: label {label} with only {classes} classes")
    }
    choose!(
        [logits],
        fast::cross_entropy(logits, labels),
        reference::cross_entropy(logits, labels)
    )
}
