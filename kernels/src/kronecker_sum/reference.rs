//! The sum of Kronecker products composed of candle ops.

use candle_core::{Result, Tensor};

pub(crate) fn kronecker_sum(
    a: &Tensor,
    left: &Tensor,
    right: &Tensor,
    [n, u, v]: [usize; 3],
) -> Result<Tensor> {
    // Axes i, q, k, p, j.
    let a = a.transpose(1, 2)?.contiguous()?.reshape((n, n, 1, n, 1))?;
    let outer = right
        .reshape((n, v, 1))?
        .broadcast_mul(&left.reshape((n, 1, u))?)?
        .reshape((n, 1, v, 1, u))?;
    a.broadcast_mul(&outer)?.sum(0)?.reshape((n * v, n * u))
}
