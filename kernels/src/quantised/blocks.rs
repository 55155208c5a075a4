//! GGML's blocks: whole numbers of a few bits, and for each group of them a scale and a shift.

/// Values of the largest block.
const MOST: usize = 256;
/// Values of a small block, and of a group in most large ones.
const SMALL: usize = 32;

/// GGML's kinds of blocks that are read. A value is `scale · q + shift`, or without the shift.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockKind {
    /// 32 values `d · (q − 8)`, q of four bits.
    Q4_0,
    /// 32 values `d · q + m`, q of four bits.
    Q4_1,
    /// 32 values `d · (q − 16)`, q of five bits.
    Q5_0,
    /// 32 values `d · q + m`, q of five bits.
    Q5_1,
    /// 32 values `d · q`, q of eight bits.
    Q8_0,
    /// 256 values in groups of 32 with scales and shifts of six bits, q of four.
    Q4K,
    /// The same with q of five bits.
    Q5K,
    /// 256 values in groups of 16 with scales of eight bits, q of six.
    Q6K,
}

/// What a block says.
pub(super) struct Block {
    pub(super) codes: [i8; MOST],
    pub(super) scales: [f32; MOST / 16],
    pub(super) shifts: [f32; MOST / SMALL],
}

impl Block {
    pub(super) const EMPTY: Self = Self {
        codes: [0; MOST],
        scales: [0.0; MOST / 16],
        shifts: [0.0; MOST / SMALL],
    };
}

impl BlockKind {
    /// Values of a block.
    pub fn values(self) -> usize {
        match self {
            Self::Q4K | Self::Q5K | Self::Q6K => MOST,
            _ => SMALL,
        }
    }

    /// Bytes of a block.
    pub fn bytes(self) -> usize {
        match self {
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    /// Values that share a scale.
    pub(super) fn group(self) -> usize {
        match self {
            Self::Q6K => 16,
            _ => SMALL,
        }
    }

    /// Whether a shift is added to the values of a group.
    pub(super) fn has_shifts(self) -> bool {
        matches!(self, Self::Q4_1 | Self::Q5_1 | Self::Q4K | Self::Q5K)
    }

    /// For whole numbers of four bits, the one that stands for 0.
    pub(super) fn zero(self) -> Option<f32> {
        match self {
            Self::Q4_0 => Some(8.0),
            Self::Q4_1 | Self::Q4K => Some(0.0),
            _ => None,
        }
    }

    /// Reads a block of [`BlockKind::bytes`] bytes. Whole numbers of four bits are kept as they are, others count from 0.
    pub(super) fn read(self, bytes: &[u8], to: &mut Block) {
        let half = |at: usize| from_f16(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
        let fifth = |bits: u32, i: usize| (bits >> i & 1) as u8;
        match self {
            Self::Q8_0 => {
                to.scales[0] = half(0);
                for (code, byte) in to.codes.iter_mut().zip(&bytes[2..]) {
                    *code = *byte as i8;
                }
            }
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 => {
                let (head, pairs) = bytes.split_at(bytes.len() - SMALL / 2);
                to.scales[0] = half(0);
                if self.has_shifts() {
                    to.shifts[0] = half(2);
                }
                let high = match (self, head.last_chunk::<4>()) {
                    (Self::Q5_0 | Self::Q5_1, Some(high)) => u32::from_le_bytes(*high),
                    _ => 0,
                };
                let zero = if self == Self::Q5_0 { 16 } else { 0 };
                for (i, pair) in pairs.iter().enumerate() {
                    let low = pair & 15 | fifth(high, i) << 4;
                    let behind = pair >> 4 | fifth(high, i + SMALL / 2) << 4;
                    to.codes[i] = low as i8 - zero;
                    to.codes[i + SMALL / 2] = behind as i8 - zero;
                }
            }
            Self::Q4K | Self::Q5K => {
                let (scale, least) = (half(0), half(2));
                let packed = &bytes[4..16];
                let (high, pairs) = bytes[16..].split_at(bytes.len() - 16 - MOST / 2);
                for group in 0..MOST / SMALL {
                    let (of_scale, of_least) = six_bits(group, packed);
                    to.scales[group] = scale * f32::from(of_scale);
                    to.shifts[group] = -(least * f32::from(of_least));
                    for i in 0..SMALL {
                        let pair = pairs[group / 2 * SMALL + i];
                        let low = if group % 2 == 0 { pair & 15 } else { pair >> 4 };
                        let fifth = high.get(i).map_or(0, |bits| bits >> group & 1);
                        to.codes[group * SMALL + i] = (low | fifth << 4) as i8;
                    }
                }
            }
            Self::Q6K => {
                let (low, rest) = bytes.split_at(MOST / 2);
                let (high, rest) = rest.split_at(MOST / 4);
                let scale = half(self.bytes() - 2);
                for (to, byte) in to.scales.iter_mut().zip(rest) {
                    *to = scale * f32::from(*byte as i8);
                }
                for (i, code) in to.codes.iter_mut().enumerate() {
                    // In each half: four rows of 32 values, of which two share their bytes of low bits.
                    let (part, row, at) = (i / 128, i % 128 / 32, i % 32);
                    let byte = low[part * 64 + row % 2 * 32 + at];
                    let four = if row < 2 { byte & 15 } else { byte >> 4 };
                    let two = high[part * 32 + at] >> (2 * row) & 3;
                    *code = (four | two << 4) as i8 - 32;
                }
            }
        }
    }
}

/// The scale and the shift, in six bits each, of a group of a large block.
fn six_bits(group: usize, packed: &[u8]) -> (u8, u8) {
    match group {
        0..4 => (packed[group] & 63, packed[group + 4] & 63),
        _ => (
            packed[group + 4] & 15 | packed[group - 4] >> 6 << 4,
            packed[group + 4] >> 4 | packed[group] >> 6 << 4,
        ),
    }
}

/// The f32 of the same value.
fn from_f16(bits: u16) -> f32 {
    let (sign, fraction) = (u32::from(bits >> 15) << 31, u32::from(bits & 0x3ff));
    match u32::from(bits >> 10 & 0x1f) {
        0 => f32::from_bits((fraction as f32 / (1u32 << 24) as f32).to_bits() | sign),
        31 => f32::from_bits(sign | 0x7f80_0000 | fraction << 13),
        exponent => f32::from_bits(sign | (exponent + 112) << 23 | fraction << 13),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_sixteen_bits_have_their_value() {
        for (bits, value) in [
            (0x0000, 0.0),
            (0x8000, -0.0),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x3555, 0.333_251_95),
            (0x0001, 5.960_464_5e-8),
            (0x03ff, 6.097_555e-5),
            (0x0400, 6.103_515_6e-5),
            (0x7bff, 65504.0),
            (0x7c00, f32::INFINITY),
        ] {
            assert_eq!(from_f16(bits).to_bits(), f32::to_bits(value), "{bits:x}");
        }
        assert!(from_f16(0x7e00).is_nan());
    }
}
