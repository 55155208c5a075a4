//! Mean cross-entropy over a vocabulary, `mean_i (log Σ_v e^{h_i·t_v} − h_i·t_{label_i})`, without the logits of all rows.
//!
//! The logits `h tᵀ` of M rows over V words would be the largest tensor of a step by far. Here some words meet some rows
//! at a time, with running maxima and sums as in Milakov & Gimelshein 2018 (arXiv:1805.02867), and the gradient of the
//! rows is summed up on the way. Backward, with `P = softmax(h tᵀ)` and Y the labels' one-hot rows:
//! `dh = (P − Y) t / M`, `dt = (P − Y)ᵀ h / M`, the latter only for a trained table, from logits computed once more.

mod fast;
mod reference;

use candle_core::{Result, Tensor, bail};

use crate::path::choose;

/// The mean cross-entropy (a scalar) of M labels below V: `hidden [M, H]`, the rows that are scored, and `table [V, H]`, an
/// output matrix, tied to the embeddings or not.
pub fn vocabulary_cross_entropy(hidden: &Tensor, table: &Tensor, labels: &[u32]) -> Result<Tensor> {
    let ((rows, width), (words, table_width)) = (hidden.dims2()?, table.dims2()?);
    if width != table_width || width == 0 {
        bail!(
            "vocabulary_cross_entropy: hidden is {:?} but the table {:?}",
            hidden.dims(),
            table.dims()
        )
    }
    if rows == 0 || labels.len() != rows {
        bail!(
            "vocabulary_cross_entropy: {} labels for hidden {:?}",
            labels.len(),
            hidden.dims()
        )
    }
    if let Some(label) = labels.iter().find(|&&label| label as usize >= words) {
        bail!("vocabulary_cross_entropy: label {label} with only {words} words")
    }
    choose!(
        [hidden, table],
        fast::vocabulary_cross_entropy(hidden, table, labels),
        reference::vocabulary_cross_entropy(hidden, table, labels)
    )
}
