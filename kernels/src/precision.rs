//! How a frozen operand of a product is stored and multiplied.
//!
//! In bf16 (8 bits of exponent, as f32, and 8 of precision) a frozen weight is rounded once, when the layer is made, and
//! what it is multiplied by (activations in the forward, gradients in the backward) is rounded where a product reads it.
//! Products of two such numbers are exact in f32, and sums are f32: the only error is that of rounding the operands, so
//! that all instruction sets give the same up to the order of a sum. Forward and backward read the same rounded weight.
//! In fewer bits ([`crate::Quantised`]) a weight is a whole number times a scale, and products are those of f32 with these values.
//! Whatever is trained stays f32, and so do norms, softmax, losses and the optimiser.

use candle_core::{DType, Result, Tensor};
use serde::{Deserialize, Serialize};

/// The precision of frozen weights in products.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    F32,
    /// bf16 operands, f32 sums.
    Bf16,
    /// Weights of eight bits with a scale for each output; the other operand and sums in f32.
    Int8,
    /// Weights in blocks of four bits (or eight) as a GGUF has them; the other operand and sums in f32.
    Q4,
}

impl Precision {
    /// The name used in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
            Self::Q4 => "q4",
        }
    }
}

/// The upper half of the nearest bf16, ties to even; what is not a number stays so.
#[inline(always)]
pub(crate) fn to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    let nearest = (bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16;
    let quiet = (bits >> 16) as u16 | 0x40;
    if bits & 0x7fff_ffff > 0x7f80_0000 {
        quiet
    } else {
        nearest
    }
}

/// The f32 of the same value.
#[inline(always)]
pub(crate) fn from_bf16(x: u16) -> f32 {
    f32::from_bits(u32::from(x) << 16)
}

/// `x` rounded to bf16, with the numbers in the type that they have.
pub(crate) fn rounded(x: &Tensor) -> Result<Tensor> {
    x.detach().to_dtype(DType::BF16)?.to_dtype(x.dtype())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_to_the_nearest_with_ties_to_even() {
        // 1 + 2⁻⁸ lies between 1 and 1 + 2⁻⁷; 1 + 3 · 2⁻⁸ between 1 + 2⁻⁷ and 1 + 2⁻⁶.
        let cases = [
            (1.0, 1.0),
            (1.0 + 1.0 / 256.0, 1.0),
            (1.0 + 3.0 / 256.0, 1.0 + 1.0 / 64.0),
            (1.0 + 1.01 / 256.0, 1.0 + 1.0 / 128.0),
            (-1.0 - 1.01 / 256.0, -1.0 - 1.0 / 128.0),
            (f32::MAX, f32::INFINITY),
            (f32::NEG_INFINITY, f32::NEG_INFINITY),
            (-0.0, -0.0),
        ];
        for (x, expected) in cases {
            assert_eq!(from_bf16(to_bf16(x)).to_bits(), expected.to_bits(), "{x}");
        }
        for bits in [0x7f80_0001, 0x7fff_ffff, 0xffff_ffff] {
            assert!(from_bf16(to_bf16(f32::from_bits(bits))).is_nan());
        }
    }
}
