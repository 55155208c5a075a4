//! Rotary position embedding (Su et al. 2021, arXiv:2104.09864): pairs of values of each head are turned by an angle
//! that grows with the position.
//!
//! A pair `(a, b)` becomes `(a cos − b sin, b cos + a sin)`. Backward: the gradient is turned back, by the same angle.

mod fast;
mod reference;

use candle_core::{Result, Tensor, bail};

use crate::path::choose;

/// Which values of a head make a pair, of the R that are turned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotaryLayout {
    /// Value `i` and value `i + R/2`: GPT-NeoX, and Llama as transformers stores it.
    HalfSplit,
    /// Values `2 i` and `2 i + 1`: Llama as Meta and most GGUF files store it.
    Interleaved,
}

/// Turns the first R values of each head of `x [N, heads · head_width]` by the angles of its row; the rest of a head stays.
///
/// `cos` and `sin` are `[N, R/2]`: row `n` has the cosine and sine of the angles of the position of row `n`. They are
/// frozen: nothing is trained through them.
pub fn rotary(
    x: &Tensor,
    cos: &Tensor,
    sin: &Tensor,
    head_width: usize,
    layout: RotaryLayout,
) -> Result<Tensor> {
    let (rows, width) = x.dims2()?;
    let (angle_rows, pairs) = cos.dims2()?;
    if head_width == 0 || width % head_width != 0 {
        bail!("rotary: heads of {head_width} values do not divide a row of {width} values")
    }
    if cos.dims() != sin.dims() || angle_rows != rows {
        bail!(
            "rotary: x is {:?}, cos {:?}, sin {:?}; the three need the same number of rows",
            x.dims(),
            cos.dims(),
            sin.dims()
        )
    }
    if pairs == 0 || 2 * pairs > head_width {
        bail!("rotary: a head of {head_width} values cannot have {pairs} pairs of them turned")
    }
    if cos.track_op() || sin.track_op() {
        bail!("rotary: cos and sin must be frozen, no gradient is computed for them")
    }
    choose!(
        [x, cos, sin],
        fast::rotary(x, cos, sin, head_width, layout),
        reference::rotary(x, cos, sin, head_width, layout)
    )
}
