//! Frozen weights in few bits: whole numbers of eight bits with a scale for each output, or GGML's blocks.
//!
//! A product widens a panel of them to f32 in scratch memory just before it multiplies by it, forward and backward (as QLoRA,
//! Dettmers et al. 2023, arXiv:2305.14314), so that the few bits are all that is kept; one row alone (a token that a decoder goes on
//! with) is multiplied as they are widened. The result has the bits of the same product with the widened weight in f32: the only error
//! is that of the numbers that are stored.

mod blocks;

use std::ops::Range;

use crate::gemm::{Multiplied, transpose};
use crate::memory::with_scratch;
use crate::simd::{Float, Kernel, Level, Vector, level, load, store};
use crate::threads::{Shared, parallel_ranges};

use blocks::Block;
pub use blocks::BlockKind;

/// Outputs whose numbers lie side by side: as many as the widest panel has columns.
const STRIP: usize = 32;
/// Bytes of codes between what is widened and what is asked for from memory.
const ASKED_AHEAD: usize = 2048;
/// Strips that are worth a task of their own.
const LEAST: usize = 4;

/// A weight `[out, in]` by strips of outputs, the last one padded; in a strip by inputs, as a product with it goes.
#[derive(Clone)]
pub struct Quantised {
    out: usize,
    width: usize,
    /// Inputs that share a scale.
    block: usize,
    /// Blocks of a strip.
    blocks: usize,
    codes: Codes,
    /// Of each strip and block.
    scales: Vec<[f32; STRIP]>,
    /// Added to the values of each strip and block; empty where nothing is.
    shifts: Vec<[f32; STRIP]>,
}

#[derive(Clone)]
enum Codes {
    Eight(Vec<[i8; STRIP]>),
    /// The first half of a strip in the low bits of its bytes, the second in the high ones. `zero` stands for 0.
    Four {
        pairs: Vec<[u8; STRIP / 2]>,
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
    /// A weight of zeros of eight bits, or of four with a number that stands for 0.
    fn zeros(out: usize, width: usize, block: usize, has_shifts: bool, zero: Option<f32>) -> Self {
        let (strips, of_strip) = (out.div_ceil(STRIP), width.div_ceil(block));
        let blocks = strips * of_strip;
        Self {
            out,
            width,
            block,
            blocks: of_strip,
            codes: match zero {
                None => Codes::Eight(vec![[0; STRIP]; strips * width]),
                Some(zero) => Codes::Four {
                    pairs: vec![[0; STRIP / 2]; strips * width],
                    zero,
                },
            },
            scales: vec![[0.0; STRIP]; blocks],
            shifts: vec![[0.0; STRIP]; if has_shifts { blocks } else { 0 }],
        }
    }

    /// Writes the numbers of a row from one input on.
    fn set(&mut self, row: usize, from: usize, codes: &[i8]) {
        let (first, lane) = (row / STRIP * self.width + from, row % STRIP);
        match &mut self.codes {
            Codes::Eight(all) => {
                for (to, code) in all[first..].iter_mut().zip(codes) {
                    to[lane] = *code;
                }
            }
            Codes::Four { pairs, .. } => {
                let (byte, high) = (lane % (STRIP / 2), lane / (STRIP / 2));
                for (to, code) in pairs[first..].iter_mut().zip(codes) {
                    to[byte] |= (*code as u8) << (4 * high);
                }
            }
        }
    }

    /// A weight `[out, in]` rounded to eight bits, each row by its largest value.
    pub(crate) fn rounded(weight: &[f32], out: usize, width: usize) -> Self {
        let mut own = Self::zeros(out, width, width.max(1), false, None);
        for row in 0..out {
            let values = &weight[row * width..(row + 1) * width];
            let largest = values.iter().fold(0f32, |most, x| most.max(x.abs()));
            let scale = largest / 127.0;
            // (A row of zeros, or of numbers too small to have a scale, is zero.)
            let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
            let code = |x: &f32| (x * inverse).round_ties_even() as i8;
            let codes: Vec<i8> = values.iter().map(code).collect();
            own.set(row, 0, &codes);
            if let Some(scales) = own.scales.get_mut(row / STRIP) {
                scales[row % STRIP] = scale;
            }
        }
        own
    }

    /// A weight `[out, in]` from blocks as a GGUF has them, one row after the other; `None` unless whole blocks fill its rows and
    /// all of its numbers are finite.
    pub fn from_blocks(kind: BlockKind, out: usize, width: usize, bytes: &[u8]) -> Option<Self> {
        let (values, group) = (kind.values(), kind.group());
        let blocks = out.checked_mul(width)? / values;
        if !width.is_multiple_of(values) || blocks.checked_mul(kind.bytes())? != bytes.len() {
            return None;
        }
        let mut own = Self::zeros(out, width, group, kind.has_shifts(), kind.zero());
        let (of_row, groups) = (width / values, values / group);
        let mut block = Block::EMPTY;
        for (i, bytes) in bytes.chunks_exact(kind.bytes()).enumerate() {
            kind.read(bytes, &mut block);
            let (row, at) = (i / of_row, i % of_row);
            own.set(row, at * values, &block.codes[..values]);
            let first = (row / STRIP * of_row + at) * groups;
            for (j, scale) in block.scales[..groups].iter().enumerate() {
                own.scales[first + j][row % STRIP] = *scale;
                if let Some(shifts) = own.shifts.get_mut(first + j) {
                    shifts[row % STRIP] = block.shifts[j];
                }
            }
        }
        let mut numbers = own.scales.iter().chain(&own.shifts).flatten();
        let finite = numbers.all(|x| x.is_finite());
        finite.then_some(own)
    }

    /// Rows and columns.
    pub fn shape(&self) -> (usize, usize) {
        (self.out, self.width)
    }

    /// Bytes that it takes in memory.
    pub fn bytes(&self) -> usize {
        let codes = match &self.codes {
            Codes::Eight(codes) => size_of_val(&codes[..]),
            Codes::Four { pairs, .. } => size_of_val(&pairs[..]),
        };
        codes + size_of_val(&self.scales[..]) + size_of_val(&self.shifts[..])
    }

    fn strips(&self) -> usize {
        self.out.div_ceil(STRIP)
    }

    /// Its values, row by row.
    pub(crate) fn values(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.out * self.width];
        let mut by_input = vec![[0.0; STRIP]; self.width];
        for strip in 0..self.strips() {
            let kernel = Widen {
                of: self,
                strip,
                outputs: 0..STRIP,
                inputs: 0..self.width,
                to: by_input.as_mut_ptr().cast(),
            };
            // SAFETY: there is room for a strip at each input.
            unsafe { f32::run(level(), kernel) };
            for row in strip * STRIP..self.out.min((strip + 1) * STRIP) {
                let to = &mut values[row * self.width..(row + 1) * self.width];
                for (to, from) in to.iter_mut().zip(&by_input) {
                    *to = from[row % STRIP];
                }
            }
        }
        values
    }

    /// Inputs of a block.
    #[inline(always)]
    fn inputs(&self, block: usize) -> Range<usize> {
        block * self.block..self.width.min((block + 1) * self.block)
    }

    /// A panel of the transpose `[in, out]`: `[in, width]` at `to`; what is behind the last row of the weight has no meaning.
    /// # Safety
    /// All of the panel can be written.
    pub(crate) unsafe fn panel_of_transpose(&self, level: Level, index: usize, to: *mut f32) {
        let width = f32::tiles(level).width();
        let kernel = Widen {
            of: self,
            strip: index * width / STRIP,
            outputs: index * width % STRIP..index * width % STRIP + width,
            inputs: 0..self.width,
            to,
        };
        // SAFETY: passed on.
        unsafe { f32::run(level, kernel) }
    }

    /// A panel of the weight as it is, `[out, in]`: `[out, width]` at `to`, of which the last may be filled in part.
    /// # Safety
    /// All of the panel can be written.
    pub(crate) unsafe fn panel(&self, level: Level, index: usize, to: *mut f32) {
        let width = f32::tiles(level).width();
        let inputs = index * width..self.width.min((index + 1) * width);
        let count = inputs.len();
        with_scratch(count * STRIP, |whole: *mut f32| {
            for strip in 0..self.strips() {
                let kernel = Widen {
                    of: self,
                    strip,
                    outputs: 0..STRIP,
                    inputs: inputs.clone(),
                    to: whole,
                };
                let outputs = STRIP.min(self.out - strip * STRIP);
                // SAFETY: the scratch has room for a strip at these inputs, which is written before it is read; `to` as the caller
                // promises.
                unsafe {
                    f32::run(level, kernel);
                    let whole = std::slice::from_raw_parts(whole.cast_const(), count * STRIP);
                    let to = to.add(strip * STRIP * width);
                    transpose(level, whole, count, STRIP, outputs, to, width);
                }
            }
        });
    }

    /// `x Wᵀ` of one row, plus `init` where it is there: what [`crate::gemm::Product`] gives, bit by bit.
    /// # Safety
    /// `x` has as many values as a row of the weight, `init` and `to` as many as it has rows.
    pub(crate) unsafe fn times_row(
        &self,
        level: Level,
        x: *const f32,
        init: Option<*const f32>,
        to: *mut f32,
    ) {
        let (x, init) = (
            Shared(x.cast_mut()),
            init.map(|init| Shared(init.cast_mut())),
        );
        let to = Shared(to);
        parallel_ranges(self.strips(), LEAST, |strips| {
            for strip in strips {
                let first = strip * STRIP;
                // SAFETY: passed on; strips own their outputs.
                unsafe {
                    let row = Row {
                        of: self,
                        strip,
                        x: x.add(0).cast_const(),
                        init: init.map(|init| init.add(first).cast_const()),
                        to: to.add(first),
                        outputs: STRIP.min(self.out - first),
                    };
                    f32::run(level, row);
                }
            }
        });
    }
}

/// Does something with the values of a strip, `N` vectors of them for each input.
trait Each<V: Vector<Scalar = f32>, const N: usize> {
    /// # Safety
    /// As the maker of the kernel says.
    unsafe fn each(&mut self, input: usize, values: [V; N]);
}

/// Goes through a strip at some inputs, one input after the other.
/// # Safety
/// As for `each`.
#[inline(always)]
unsafe fn widen<V: Vector<Scalar = f32>, const N: usize>(
    of: &Quantised,
    strip: usize,
    inputs: Range<usize>,
    to: &mut impl Each<V, N>,
) {
    // SAFETY: passed on.
    unsafe {
        match (&of.codes, of.shifts.is_empty()) {
            (Codes::Eight(_), true) => widen_as::<V, N, false, false>(of, strip, inputs, to),
            (Codes::Eight(_), false) => widen_as::<V, N, false, true>(of, strip, inputs, to),
            (Codes::Four { .. }, true) => widen_as::<V, N, true, false>(of, strip, inputs, to),
            (Codes::Four { .. }, false) => widen_as::<V, N, true, true>(of, strip, inputs, to),
        }
    }
}

/// [`widen`] for numbers of four bits or eight, with shifts or without. (Numbers of four bits that have shifts have 0 for 0.)
/// # Safety
/// As for `widen`.
#[inline(always)]
unsafe fn widen_as<
    V: Vector<Scalar = f32>,
    const N: usize,
    const FOUR: bool,
    const SHIFTED: bool,
>(
    of: &Quantised,
    strip: usize,
    inputs: Range<usize>,
    to: &mut impl Each<V, N>,
) {
    let Range { start, end } = inputs;
    // (Bytes of an input, and what stands for 0.)
    let (codes, bytes, zero) = match &of.codes {
        Codes::Eight(codes) => (codes.as_ptr().cast::<u8>(), STRIP, 0.0),
        Codes::Four { pairs, zero } => (pairs.as_ptr().cast::<u8>(), STRIP / 2, *zero),
    };
    let zero = V::splat(zero);
    for block in start / of.block..end.div_ceil(of.block) {
        let inputs = of.inputs(block);
        let block = strip * of.blocks + block;
        let (mut scales, mut shifts) = ([zero; N], [zero; N]);
        let ahead = block + ASKED_AHEAD / (of.block * bytes) + 1;
        for asked in [&of.scales, &of.shifts] {
            let at = asked.as_ptr().wrapping_add(ahead).cast::<f32>();
            V::prefetch(at);
            V::prefetch(at.wrapping_add(STRIP / 2));
        }
        // SAFETY: a strip has N vectors; the codes have all inputs of all strips; `to` as the caller promises.
        unsafe {
            for i in 0..N {
                scales[i] = V::load(of.scales[block].as_ptr().add(i * V::LANES));
                if SHIFTED {
                    shifts[i] = V::load(of.shifts[block].as_ptr().add(i * V::LANES));
                }
            }
            for input in inputs.start.max(start)..inputs.end.min(end) {
                let codes = codes.add((strip * of.width + input) * bytes);
                V::prefetch(codes.wrapping_add(ASKED_AHEAD).cast());
                let mut values = [zero; N];
                if FOUR {
                    for i in 0..N / 2 {
                        let (low, high) = V::load_u4(codes.add(i * V::LANES));
                        (values[i], values[N / 2 + i]) = (low, high);
                    }
                } else {
                    for (i, value) in values.iter_mut().enumerate() {
                        *value = V::load_i8(codes.add(i * V::LANES).cast());
                    }
                }
                for (i, value) in values.iter_mut().enumerate() {
                    if FOUR && !SHIFTED {
                        *value = value.sub(zero);
                    }
                    *value = value.mul(scales[i]);
                    if SHIFTED {
                        *value = value.add(shifts[i]);
                    }
                }
                to.each(input, values);
            }
        }
    }
}

/// `$body` with a constant `N`, the vectors of a strip.
macro_rules! with_vectors {
    ($v:ty, $n:ident => $body:expr) => {
        match STRIP / <$v>::LANES {
            2 => {
                const $n: usize = 2;
                $body
            }
            4 => {
                const $n: usize = 4;
                $body
            }
            _ => {
                const $n: usize = 8;
                $body
            }
        }
    };
}

/// Some outputs of a strip at some inputs, one input after the other.
struct Widen<'a> {
    of: &'a Quantised,
    strip: usize,
    outputs: Range<usize>,
    inputs: Range<usize>,
    to: *mut f32,
}

/// Where the first of the inputs goes, which of them that is, and which outputs are wanted.
struct Panel {
    to: *mut f32,
    first: usize,
    outputs: Range<usize>,
}

impl<V: Vector<Scalar = f32>, const N: usize> Each<V, N> for Panel {
    #[inline(always)]
    unsafe fn each(&mut self, input: usize, values: [V; N]) {
        let Range { start, end } = self.outputs;
        for (i, value) in values.into_iter().enumerate() {
            let at = i * V::LANES;
            if (start..end).contains(&at) {
                let to = (input - self.first) * (end - start) + at - start;
                // SAFETY: the maker of the kernel promises the rows at `to`.
                unsafe { value.store(self.to.add(to)) }
            }
        }
    }
}

impl Kernel<f32> for Widen<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = f32>>(self) {
        let mut panel = Panel {
            to: self.to,
            first: self.inputs.start,
            outputs: self.outputs,
        };
        // SAFETY: passed on.
        with_vectors!(V, N => unsafe {
            widen::<V, N>(self.of, self.strip, self.inputs, &mut panel)
        })
    }
}

/// A strip of the product with one row.
struct Row<'a> {
    of: &'a Quantised,
    strip: usize,
    x: *const f32,
    init: Option<*const f32>,
    to: *mut f32,
    outputs: usize,
}

/// The sums so far, and the row.
struct Sums<V, const N: usize>([V; N], *const f32);

impl<V: Vector<Scalar = f32>, const N: usize> Each<V, N> for Sums<V, N> {
    #[inline(always)]
    unsafe fn each(&mut self, input: usize, values: [V; N]) {
        // SAFETY: the maker of the kernel promises all inputs of the row.
        let x = V::splat(unsafe { *self.1.add(input) });
        for (sum, value) in self.0.iter_mut().zip(values) {
            *sum = x.fma(value, *sum);
        }
    }
}

impl Kernel<f32> for Row<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = f32>>(self) {
        with_vectors!(V, N => {
            let mut sums = Sums([V::splat(0.0); N], self.x);
            // SAFETY: the maker of the kernel promises the values at each pointer.
            unsafe {
                widen::<V, N>(self.of, self.strip, 0..self.of.width, &mut sums);
                for (i, sum) in sums.0.into_iter().enumerate() {
                    let at = i * V::LANES;
                    if at < self.outputs {
                        let n = self.outputs - at;
                        let one = V::splat(1.0);
                        let value = match self.init {
                            None => sum.mul(one),
                            Some(init) => sum.fma(one, load(init.add(at), n)),
                        };
                        store(value, self.to.add(at), n);
                    }
                }
            }
        })
    }
}
