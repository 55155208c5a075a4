//! A scale and a shift per column: `y = x ∘ s + t`, what IA3, a trained bias or DoRA's magnitude do to a linear layer.
//!
//! Backward, with `g = dL/dy`: `dx = g ∘ s`, `ds = Σ_rows g ∘ x`, `dt = Σ_rows g`; each only where it is asked for.

mod fast;
mod reference;

use candle_core::{Result, Tensor, bail};

use crate::path::choose;

/// `x ∘ scale + shift`: rows of `x` `[…, W]`, W values of any shape in `scale` and `shift`; leaving one out means 1 or 0.
pub fn scale_shift(x: &Tensor, scale: Option<&Tensor>, shift: Option<&Tensor>) -> Result<Tensor> {
    let width = x.dims().last().copied().unwrap_or(1);
    for (what, t) in [("scale", scale), ("shift", shift)] {
        if let Some(t) = t.filter(|t| t.elem_count() != width) {
            bail!(
                "scale_shift: a row of x has {width} values, the {what} is {:?}",
                t.dims()
            )
        }
    }
    choose!(
        [x, scale.unwrap_or(x), shift.unwrap_or(x)],
        fast::scale_shift(x, width, scale, shift),
        reference::scale_shift(x, width, scale, shift)
    )
}
