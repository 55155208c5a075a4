//! Dropout with a mask drawn by the caller, so that its randomness is a seeded stream.

mod fast;
mod reference;

use candle_core::{Result, Tensor, bail};

use crate::path::choose;

/// `x ∘ mask / (1 − p)`: where `keep` is false the value, and its gradient, is zero. `keep` is in row-major order.
pub fn dropout(x: &Tensor, keep: Vec<bool>, p: f64) -> Result<Tensor> {
    if keep.len() != x.elem_count() {
        bail!(
            "dropout: the mask has {} entries but x is {:?}",
            keep.len(),
            x.dims()
        )
    }
    if !(0.0..1.0).contains(&p) {
        bail!("dropout: p must be in [0, 1), got {p}")
    }
    choose!(
        [x],
        fast::dropout(x, keep, p),
        reference::dropout(x, &keep, p)
    )
}
