//! The low-rank update of LoRA (Hu et al. 2021): `y + s (x Aᵀ) Bᵀ`.
//!
//! Backward, with `g = dL/d(result)` and `t = g B` `[N, R]`: `dA = s tᵀ x`, `dB = s gᵀ (x Aᵀ)`, `dx = s t A`, `dy = g`.

mod fast;
mod reference;

use candle_core::{Result, Tensor, bail};

use crate::path::choose;

/// `y + scaling · (x Aᵀ) Bᵀ`: `y [N, out]`, `x [N, in]`, `a [R, in]`, `b [out, R]`. Each of the four gets a gradient
/// if it is tracked.
pub fn low_rank_add(
    y: &Tensor,
    x: &Tensor,
    a: &Tensor,
    b: &Tensor,
    scaling: f64,
) -> Result<Tensor> {
    let ((rows, out), (x_rows, width)) = (y.dims2()?, x.dims2()?);
    let (rank, _) = a.dims2()?;
    if rows != x_rows || a.dims() != [rank, width] || b.dims() != [out, rank] {
        bail!(
            "low_rank_add: y {:?}, x {:?}, a {:?}, b {:?} do not fit",
            y.dims(),
            x.dims(),
            a.dims(),
            b.dims()
        )
    }
    choose!(
        [y, x, a, b],
        fast::low_rank_add(y, x, a, b, scaling),
        reference::low_rank_add(y, x, a, b, scaling)
    )
}
