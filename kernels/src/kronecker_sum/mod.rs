//! The weight of a parameterised hypercomplex multiplication (Zhang et al. 2021, arXiv:2102.08597), with its factors of
//! rank one (Mahabadi et al. 2021, arXiv:2106.04647): `W = (Σᵢ Aᵢ ⊗ lᵢ rᵢᵀ)ᵀ`.
//!
//! With `in = n·u` and `out = n·v`: `W[q v + k, p u + j] = Σᵢ A[i, p, q] l[i, j] r[i, k]`. Each of the three gradients
//! is the same sum over the other two.

mod fast;
mod reference;

use candle_core::{Result, Tensor, bail};

use crate::path::choose;

/// `(Σᵢ Aᵢ ⊗ lᵢ rᵢᵀ)ᵀ`, a weight `[n·v, n·u]` as [`crate::Linear`] takes it: `a [n, n, n]`, `left [n, u, 1]`,
/// `right [n, 1, v]`.
pub fn kronecker_sum(a: &Tensor, left: &Tensor, right: &Tensor) -> Result<Tensor> {
    let ((n, p, q), (l, u, one), (r, also_one, v)) = (a.dims3()?, left.dims3()?, right.dims3()?);
    if [p, q, l, r] != [n; 4] || [one, also_one] != [1; 2] {
        bail!(
            "kronecker_sum: a {:?}, left {:?}, right {:?} do not fit",
            a.dims(),
            left.dims(),
            right.dims()
        )
    }
    choose!(
        [a, left, right],
        fast::kronecker_sum(a, left, right, [n, u, v]),
        reference::kronecker_sum(a, left, right, [n, u, v])
    )
}
