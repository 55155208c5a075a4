//! Activation functions.
//!
//! | function | formula |
//! |---|---|
//! | `Gelu` | `x Φ(x)`, with the exact `Φ(x) = (1 + erf(x/√2)) / 2` |
//! | `GeluTanh` | `x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2` |
//! | `Relu` | `max(x, 0)`, derivative 0 at 0 |
//! | `Swish` | `x / (1 + e⁻ˣ)` |
//! | `Tanh` | `tanh x` |

pub(crate) mod fast;
pub(crate) mod reference;

use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

use crate::path::choose;

/// An activation function, named as in transformers' `config.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x Φ(x)` with the error function (`gelu`).
    Gelu,
    /// The approximation by a tanh (`gelu_tanh`, `gelu_new`, `gelu_pytorch_tanh`).
    #[serde(alias = "gelu_new", alias = "gelu_pytorch_tanh")]
    GeluTanh,
    /// `max(x, 0)` (`relu`).
    Relu,
    /// `x σ(x)` (`swish`, `silu`).
    #[serde(alias = "silu")]
    Swish,
    /// `tanh x` (`tanh`).
    Tanh,
}

/// `f(x)`, element by element, any shape.
pub fn activate(x: &Tensor, f: Activation) -> Result<Tensor> {
    choose!([x], fast::activate(x, f), reference::activate(x, f))
}
