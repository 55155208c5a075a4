//! Gated activations (Shazeer 2020, arXiv:2002.05202): `y = f(gate) ∘ up`, with SiLU (SwiGLU) or a GELU (GeGLU) as `f`.
//!
//! Backward, with `g = dL/dy`: `d gate = g ∘ up ∘ f'(gate)`, `d up = g ∘ f(gate)`; both are computed again from the gate,
//! so nothing is kept but the two operands.

mod fast;
mod reference;

use candle_core::{Result, Tensor, bail};

use crate::Activation;
use crate::path::choose;

/// `f(gate) ∘ up`, both `[N, I]`.
pub fn gated(gate: &Tensor, up: &Tensor, f: Activation) -> Result<Tensor> {
    gate.dims2()?;
    if gate.dims() != up.dims() {
        bail!(
            "gated: gate {:?} and up {:?} differ",
            gate.dims(),
            up.dims()
        )
    }
    choose!(
        [gate, up],
        fast::gated(gate, up, f),
        reference::gated(gate, up, f)
    )
}

/// `f(gate) ∘ up` of the halves of `x [N, 2·I]`, gate first: what one fused projection gives (ModernBERT's `Wi`).
pub fn gated_halves(x: &Tensor, f: Activation) -> Result<Tensor> {
    let (_, width) = x.dims2()?;
    if width == 0 || width % 2 != 0 {
        bail!("gated: a row of {width} values has no two halves")
    }
    choose!([x], fast::gated_halves(x, f), reference::gated_halves(x, f))
}
