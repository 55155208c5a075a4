//! The low-rank update of LoRA (Hu et al. 2021): `y + s (x Aᵀ) Bᵀ`.
//!
//! Backward, with `g = dL/d(result)` and `t = g B` `[N, R]`: `dA = s tᵀ x`, `dB = s gᵀ (x Aᵀ)`, `dx = s t A`, `dy = g`.

mod fast;
mod reference;

use candle_core::{Result, Tensor, bail};

use crate::linear::Linear;
use crate::path::choose;

/// A low-rank update `s · B A` that is added to what a layer gives. Where A and B are frozen, they are packed once.
#[derive(Clone, Debug)]
pub struct LowRank {
    a: Linear,
    b: Linear,
    scaling: f64,
}

impl LowRank {
    /// From A `[R, in]`, B `[out, R]` and s.
    ///
    /// # Errors
    /// If the shapes do not fit together.
    pub fn new(a: Tensor, b: Tensor, scaling: f64) -> Result<Self> {
        let ((rank, _), (_, b_rank)) = (a.dims2()?, b.dims2()?);
        if rank != b_rank {
            bail!("low rank: a {:?} and b {:?} do not fit", a.dims(), b.dims())
        }
        let (a, b) = (Linear::new(a, None)?, Linear::new(b, None)?);
        Ok(Self { a, b, scaling })
    }

    /// A, `[R, in]`.
    pub fn a(&self) -> &Tensor {
        self.a.tensor()
    }

    /// B, `[out, R]`.
    pub fn b(&self) -> &Tensor {
        self.b.tensor()
    }

    /// s.
    pub fn scaling(&self) -> f64 {
        self.scaling
    }

    /// `y + s · (x Aᵀ) Bᵀ`: `y [N, out]`, `x [N, in]`. Each of y, x, A and B gets a gradient if it is tracked.
    ///
    /// # Errors
    /// If the shapes do not fit or a tensor operation fails.
    pub fn add(&self, y: &Tensor, x: &Tensor) -> Result<Tensor> {
        let ((rows, out), (x_rows, width)) = (y.dims2()?, x.dims2()?);
        if rows != x_rows || width != self.a.in_features() || out != self.b.out_features() {
            bail!(
                "low rank: y {:?}, x {:?}, a {:?}, b {:?} do not fit",
                y.dims(),
                x.dims(),
                self.a().dims(),
                self.b().dims()
            )
        }
        choose!(
            [y, x, self.a(), self.b()],
            fast::low_rank_add(y, x, self),
            reference::low_rank_add(y, x, self.a(), self.b(), self.scaling)
        )
    }
}

/// [`LowRank::add`] for matrices that are used once.
pub fn low_rank_add(
    y: &Tensor,
    x: &Tensor,
    a: &Tensor,
    b: &Tensor,
    scaling: f64,
) -> Result<Tensor> {
    LowRank::new(a.clone(), b.clone(), scaling)?.add(y, x)
}
