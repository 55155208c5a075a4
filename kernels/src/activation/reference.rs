//! The activations composed of candle ops.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, SQRT_2};

use candle_core::{Result, Tensor};

use super::Activation;

pub(crate) fn activate(x: &Tensor, f: Activation) -> Result<Tensor> {
    match f {
        // Not candle's `gelu_erf`: the constants of its backward have six digits.
        Activation::Gelu => (x * (((x / SQRT_2)?.erf()? + 1.0)? * 0.5)?)?.contiguous(),
        Activation::GeluTanh => {
            let inner =
                ((x + (x * x.sqr()?)?.affine(0.044715, 0.0)?)? * (FRAC_2_SQRT_PI * FRAC_1_SQRT_2))?;
            x * ((inner.tanh()? + 1.0)? * 0.5)?
        }
        // Not candle's `relu`, whose derivative at 0 is 1.
        Activation::Relu => x * x.gt(&x.zeros_like()?)?.to_dtype(x.dtype())?,
        Activation::Swish => x.silu(),
        Activation::Tanh => x.tanh(),
    }
}
