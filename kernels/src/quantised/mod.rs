//! Frozen weights in few bits: whole numbers of eight bits with a scale for each output, or GGML's blocks.
//!
//! A product widens a panel of them to f32 in scratch memory just before it multiplies by it, forward and backward (as QLoRA,
//! Dettmers et al. 2023, arXiv:2305.14314), so that the few bits are all that is kept. The result has the bits of the same
//! product with the widened weight in f32: the only error is that of the numbers that are stored.

mod blocks;

use std::ops::Range;

use crate::gemm::{Multiplied, transpose};
use crate::memory::with_scratch;
use crate::simd::{Float, Kernel, Level, Vector};

use blocks::Block;
pub use blocks::BlockKind;

/// Whole numbers of four bits lie in groups of this many.
const GROUP: usize = 32;

/// A weight `[out, in]` by rows, each row in blocks that have a scale.
#[derive(Clone)]
pub struct Quantised {
    out: usize,
    width: usize,
    /// Values that share a scale.
    block: usize,
    codes: Codes,
    /// Of each block.
    scales: Vec<f32>,
    /// Added to the values of each block; empty where nothing is.
    shifts: Vec<f32>,
}

#[derive(Clone)]
enum Codes {
    Eight(Vec<i8>),
    /// The first half of a block in the low bits of its bytes, the second in the high ones. `zero` stands for 0.
    Four {
        pairs: Vec<u8>,
        zero: f32,
    },
}

impl std::fmt::Debug for Quantised {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Quantised({} x {}, {} bytes)",
            self.out,
            self.width,
            self.bytes()
        )
    }
}

impl Quantised {
    /// A weight `[out, in]` rounded to eight bits, each row by its largest value.
    pub(crate) fn rounded(weight: &[f32], out: usize, width: usize) -> Self {
        let mut codes = Vec::with_capacity(weight.len());
        let mut scales = Vec::with_capacity(out);
        for row in 0..out {
            let row = &weight[row * width..(row + 1) * width];
            let largest = row.iter().fold(0f32, |most, x| most.max(x.abs()));
            let scale = largest / 127.0;
            // (A row of zeros, or of numbers too small to have a scale, is zero.)
            let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
            codes.extend(row.iter().map(|x| (x * inverse).round_ties_even() as i8));
            scales.push(scale);
        }
        Self {
            out,
            width,
            block: width.max(1),
            codes: Codes::Eight(codes),
            scales,
            shifts: Vec::new(),
        }
    }

    /// A weight `[out, in]` from blocks as a GGUF has them, one row after the other; `None` unless whole blocks fill its rows and
    /// all of its numbers are finite.
    pub fn from_blocks(kind: BlockKind, out: usize, width: usize, bytes: &[u8]) -> Option<Self> {
        let (values, group) = (kind.values(), kind.group());
        let blocks = out.checked_mul(width)? / values;
        if !width.is_multiple_of(values) || blocks.checked_mul(kind.bytes())? != bytes.len() {
            return None;
        }
        let (mut scales, mut shifts) = (Vec::new(), Vec::new());
        let (mut pairs, mut eight) = (Vec::new(), Vec::new());
        let mut block = Block::EMPTY;
        for bytes in bytes.chunks_exact(kind.bytes()) {
            kind.read(bytes, &mut block);
            scales.extend_from_slice(&block.scales[..values / group]);
            if kind.has_shifts() {
                shifts.extend_from_slice(&block.shifts[..values / group]);
            }
            let codes = &block.codes[..values];
            match kind.zero() {
                None => eight.extend_from_slice(codes),
                Some(_) => {
                    for codes in codes.chunks_exact(GROUP) {
                        let (first, second) = codes.split_at(GROUP / 2);
                        let both = first.iter().zip(second);
                        pairs.extend(both.map(|(a, b)| *a as u8 | (*b as u8) << 4));
                    }
                }
            }
        }
        if !scales.iter().chain(&shifts).all(|x: &f32| x.is_finite()) {
            return None;
        }
        Some(Self {
            out,
            width,
            block: group,
            codes: match kind.zero() {
                None => Codes::Eight(eight),
                Some(zero) => Codes::Four { pairs, zero },
            },
            scales,
            shifts,
        })
    }

    /// Rows and columns.
    pub fn shape(&self) -> (usize, usize) {
        (self.out, self.width)
    }

    /// Bytes that it takes in memory.
    pub fn bytes(&self) -> usize {
        let codes = match &self.codes {
            Codes::Eight(codes) => codes.len(),
            Codes::Four { pairs, .. } => pairs.len(),
        };
        codes + size_of::<f32>() * (self.scales.len() + self.shifts.len())
    }

    /// Its values, row by row.
    pub(crate) fn values(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.out * self.width];
        if self.width > 0 {
            for (row, to) in values.chunks_exact_mut(self.width).enumerate() {
                self.widen(row, 0..self.width, to);
            }
        }
        values
    }

    /// Some values of a row.
    #[inline(always)]
    fn widen(&self, row: usize, columns: Range<usize>, to: &mut [f32]) {
        let blocks = self.width / self.block;
        let of_row = columns.start / self.block..columns.end.div_ceil(self.block);
        for block in of_row {
            let (begin, index) = (block * self.block, row * blocks + block);
            let from = columns.start.max(begin)..columns.end.min(begin + self.block);
            let to = &mut to[from.start - columns.start..from.end - columns.start];
            let scale = self.scales[index];
            match &self.codes {
                Codes::Eight(codes) => {
                    let codes = &codes[row * self.width..][from];
                    for (to, code) in to.iter_mut().zip(codes) {
                        *to = f32::from(*code) * scale;
                    }
                    if let Some(shift) = self.shifts.get(index) {
                        for to in to {
                            *to += shift;
                        }
                    }
                }
                Codes::Four { pairs, zero } => {
                    let pairs = &pairs[index * GROUP / 2..][..GROUP / 2];
                    let mut values = [0f32; GROUP];
                    let (first, second) = values.split_at_mut(GROUP / 2);
                    for ((first, second), pair) in first.iter_mut().zip(second).zip(pairs) {
                        *first = (f32::from(pair & 15) - zero) * scale;
                        *second = (f32::from(pair >> 4) - zero) * scale;
                    }
                    if let Some(shift) = self.shifts.get(index) {
                        for value in &mut values {
                            *value += shift;
                        }
                    }
                    match to.first_chunk_mut::<GROUP>() {
                        Some(to) => *to = values,
                        None => {
                            to.copy_from_slice(&values[from.start - begin..from.end - begin]);
                        }
                    }
                }
            }
        }
    }

    /// A panel of the transpose `[in, out]`: `[in, width]` at `to`, zeros behind the last row of the weight.
    /// # Safety
    /// All of the panel can be written.
    pub(crate) unsafe fn panel_of_transpose(&self, level: Level, index: usize, to: *mut f32) {
        let width = f32::tiles(level).width();
        let rows = index * width..self.out.min((index + 1) * width);
        let (count, k) = (rows.len(), self.width);
        with_scratch(count * k, |whole: *mut f32| {
            // SAFETY: the scratch has room for these rows, which are written before they are read; `to` as the caller promises.
            unsafe {
                let kernel = Widen {
                    of: self,
                    rows,
                    columns: 0..k,
                    to: whole,
                    to_row: k,
                };
                f32::run(level, kernel);
                let whole = std::slice::from_raw_parts(whole.cast_const(), count * k);
                transpose(level, whole, count, k, k, to, width);
            }
        });
    }

    /// A panel of the weight as it is, `[out, in]`: `[out, width]` at `to`, of which the last may be filled in part.
    /// # Safety
    /// All of the panel can be written.
    pub(crate) unsafe fn panel(&self, level: Level, index: usize, to: *mut f32) {
        let width = f32::tiles(level).width();
        let kernel = Widen {
            of: self,
            rows: 0..self.out,
            columns: index * width..self.width.min((index + 1) * width),
            to,
            to_row: width,
        };
        // SAFETY: passed on.
        unsafe { f32::run(level, kernel) }
    }
}

/// Some columns of some rows, to rows that are `to_row` apart.
struct Widen<'a> {
    of: &'a Quantised,
    rows: Range<usize>,
    columns: Range<usize>,
    to: *mut f32,
    to_row: usize,
}

impl Kernel<f32> for Widen<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = f32>>(self) {
        for (i, row) in self.rows.enumerate() {
            // SAFETY: the maker of the kernel promises the rows at `to`.
            let to = unsafe {
                std::slice::from_raw_parts_mut(self.to.add(i * self.to_row), self.columns.len())
            };
            self.of.widen(row, self.columns.clone(), to);
        }
    }
}
