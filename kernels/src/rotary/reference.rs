//! The rotation composed of candle ops.

use candle_core::{Result, Tensor};

use super::RotaryLayout;

pub(crate) fn rotary(
    x: &Tensor,
    cos: &Tensor,
    sin: &Tensor,
    head_width: usize,
    layout: RotaryLayout,
) -> Result<Tensor> {
    let ((rows, width), pairs) = (x.dims2()?, cos.dim(1)?);
    let x = x.reshape((rows, width / head_width, head_width))?;
    let (cos, sin) = (cos.unsqueeze(1)?, sin.unsqueeze(1)?);
    let turned = x.narrow(2, 0, 2 * pairs)?;
    let (a, b) = match layout {
        RotaryLayout::HalfSplit => (turned.narrow(2, 0, pairs)?, turned.narrow(2, pairs, pairs)?),
        RotaryLayout::Interleaved => {
            let by_pair = turned.reshape((rows, (), pairs, 2))?;
            let part = |i| by_pair.narrow(3, i, 1)?.squeeze(3);
            (part(0)?, part(1)?)
        }
    };
    let first = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
    let second = (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?;
    let mut parts = match layout {
        RotaryLayout::HalfSplit => vec![first, second],
        RotaryLayout::Interleaved => {
            let by_pair = Tensor::stack(&[first, second], 3)?;
            vec![by_pair.reshape((rows, (), 2 * pairs))?]
        }
    };
    if 2 * pairs < head_width {
        parts.push(x.narrow(2, 2 * pairs, head_width - 2 * pairs)?);
    }
    Tensor::cat(&parts, 2)?.reshape((rows, width))
}
