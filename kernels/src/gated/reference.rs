//! The gated activation composed of candle ops.

use candle_core::{Result, Tensor};

use crate::activation::{self, Activation};

pub(crate) fn gated(gate: &Tensor, up: &Tensor, f: Activation) -> Result<Tensor> {
    activation::reference::activate(gate, f)? * up
}

pub(crate) fn gated_halves(x: &Tensor, f: Activation) -> Result<Tensor> {
    let half = x.dim(1)? / 2;
    let part = |start| x.narrow(1, start, half)?.contiguous();
    gated(&part(0)?, &part(half)?, f)
}
