//! Products with operands in bf16 and sums in f32.
//!
//! The right operand lies in panels of pairs: a row of a panel holds, for each of its columns, two neighbours of the inner
//! dimension. That is what AVX512-BF16 and AMX multiply, and what is widened to f32 with a shift and a mask where a
//! machine has neither. Rows of the left operand are rounded block by block into scratch memory. As with f32, each
//! element is one chain in the order of k, whatever rows and columns are beside it.

use std::cell::Cell;
use std::ops::Range;

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use super::{ASKED_AHEAD, Multiplied, Product};
use crate::memory::{Aligned, with_scratch};
use crate::precision::{from_bf16, to_bf16};
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use crate::simd::amx;
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512};
use crate::simd::{Float, Kernel, Lanes4, Level, Vector, level, load, store};
use crate::threads::{Shared, parallel};

/// The inner dimension is padded with zeros to a multiple of this: a tile of AMX.
const STEP: usize = 32;
/// Columns of the widest panel.
const WIDEST: usize = 32;
/// Rows of the largest tile.
const TALLEST: usize = 32;

/// The instructions that multiply bf16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bf16Unit {
    /// Tiles of 16 × 32 (AMX).
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    Amx,
    /// Pairs in vectors (AVX512-BF16).
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16,
    /// Weights are widened to f32 as they are loaded: half of f32's memory traffic, and no more arithmetic per second.
    Widened,
}

thread_local! {
    static OVERRIDE: Cell<Option<Bf16Unit>> = const { Cell::new(None) };
}

/// The units of this machine, best first.
pub fn bf16_units() -> Vec<Bf16Unit> {
    let mut units = Vec::new();
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    if amx::available() {
        units.push(Bf16Unit::Amx);
    }
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512f") {
        units.push(Bf16Unit::Avx512Bf16);
    }
    units.push(Bf16Unit::Widened);
    units
}

/// Runs `f` with the ops of this thread forced to `unit`, which must be one of [`bf16_units`]. A level below AVX-512
/// widens all the same.
pub fn with_bf16_unit<R>(unit: Bf16Unit, f: impl FnOnce() -> R) -> R {
    struct Restore(Option<Bf16Unit>);
    impl Drop for Restore {
        fn drop(&mut self) {
            OVERRIDE.set(self.0);
        }
    }
    assert!(
        bf16_units().contains(&unit),
        "{unit:?} is not available on this machine"
    );
    let _restore = Restore(OVERRIDE.replace(Some(unit)));
    f()
}

/// The unit that ops of this thread use at its level.
pub fn bf16_unit() -> Bf16Unit {
    static BEST: std::sync::OnceLock<Bf16Unit> = std::sync::OnceLock::new();
    #[cfg(target_arch = "x86_64")]
    if level() == Level::Avx512 {
        return OVERRIDE
            .get()
            .unwrap_or_else(|| *BEST.get_or_init(|| bf16_units()[0]));
    }
    let _ = (&BEST, level());
    Bf16Unit::Widened
}

impl Bf16Unit {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Self::Amx => "AMX",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16 => "AVX512-BF16",
            Self::Widened => "f32 instructions, for it has none of bf16",
        }
    }
}

impl Bf16Unit {
    /// About how many times as fast as f32, memory included: work that is not worth sharing is so much larger.
    pub(super) fn speed(self) -> usize {
        match self {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Self::Amx => 32,
            _ => 1,
        }
    }
}

/// What does so many rounds of independent multiply-adds of bf16 in registers, and returns how many operations they were;
/// `None` where the unit computes in f32.
pub(crate) fn peak_of_bf16() -> Option<fn(usize) -> f64> {
    match bf16_unit() {
        // SAFETY: the unit is the machine's.
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        Bf16Unit::Amx => Some(|rounds| unsafe { amx::rounds(rounds) }),
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Bf16Unit::Avx512Bf16 => Some(|rounds| unsafe { paired_rounds(rounds) }),
        Bf16Unit::Widened => None,
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn paired_rounds(rounds: usize) -> f64 {
    const CHAINS: usize = 12;
    // SAFETY: any bits are a vector of bf16.
    let x: __m512bh = unsafe { std::mem::transmute(_mm512_set1_epi32(std::hint::black_box(0))) };
    let mut sums = [_mm512_setzero_ps(); CHAINS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm512_dpbf16_ps(*sum, x, x);
        }
    }
    std::hint::black_box(sums);
    (rounds * CHAINS * 32 * 2) as f64
}

/// A right operand `[k, n]` in panels of pairs, rounded to bf16: panel by panel `[k / 2, width, 2]`, zero-padded.
pub(crate) struct Panels {
    pub(crate) level: Level,
    k: usize,
    data: Aligned<u16>,
}

impl std::fmt::Debug for Panels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Panels({:?}, k = {})", self.level, self.k)
    }
}

impl Panels {
    /// Of a row-major matrix `[k, n]`.
    pub(crate) fn of(level: Level, matrix: &[f32], k: usize, n: usize) -> Self {
        Self::new(level, k, n, |i, j| matrix[i * n + j])
    }

    /// Of the transpose of a row-major matrix `[n, k]`.
    pub(crate) fn transpose_of(level: Level, matrix: &[f32], n: usize, k: usize) -> Self {
        Self::new(level, k, n, |i, j| matrix[j * k + i])
    }

    fn new(level: Level, k: usize, n: usize, at: impl Fn(usize, usize) -> f32 + Sync) -> Self {
        let width = f32::tiles(level).width();
        let pairs = k.next_multiple_of(STEP) / 2;
        let panels = n.div_ceil(width);
        let mut data = Aligned::zeros(panels * pairs * width * 2);
        let to = Shared(data.as_mut_ptr());
        parallel(panels, |panel| {
            let columns = panel * width..n.min((panel + 1) * width);
            // SAFETY: each task writes its own panel.
            let to = unsafe {
                std::slice::from_raw_parts_mut(to.add(panel * pairs * width * 2), pairs * width * 2)
            };
            for i in 0..k {
                for j in columns.clone() {
                    to[(i / 2 * width + j - columns.start) * 2 + i % 2] = to_bf16(at(i, j));
                }
            }
        });
        Self { level, k, data }
    }

    /// Bytes that it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.data.bytes()
    }

    /// The matrix `[n, k]` whose transpose it was made of, row by row.
    pub(crate) fn transposed_values(&self, n: usize) -> Vec<f32> {
        let width = f32::tiles(self.level).width();
        let mut values = vec![0.0; n * self.k];
        if self.k > 0 {
            for (j, row) in values.chunks_exact_mut(self.k).enumerate() {
                // SAFETY: the panel holds column j, and all pairs of the inner dimension.
                let column = unsafe { self.panel(j / width, width).add(j % width * 2) };
                for (i, value) in row.iter_mut().enumerate() {
                    // SAFETY: as above.
                    *value = from_bf16(unsafe { *column.add(i / 2 * width * 2 + i % 2) });
                }
            }
        }
        values
    }

    fn panel(&self, index: usize, width: usize) -> *const u16 {
        // SAFETY: a panel of the operand.
        unsafe {
            self.data
                .as_ptr()
                .add(index * self.k.next_multiple_of(STEP) * width)
        }
    }
}

/// One tile into `sums`, whose rows are a panel's width apart: `a` in rows of bf16 or f32, `a_row` values apart.
struct Tile<A> {
    a: *const A,
    a_row: usize,
    b: *const u16,
    k: usize,
    sums: *mut f32,
}

/// Vectors in the width of a panel.
const VECTORS: usize = super::VECTORS;

/// A vector that loads pairs of bf16.
trait Pairs: Vector<Scalar = f32> {
    /// The first and the second of as many pairs as there are lanes.
    /// # Safety
    /// They can be read at `p`.
    unsafe fn load_pairs(p: *const u16) -> (Self, Self);
}

#[cfg(target_arch = "x86_64")]
impl Pairs for Avx512 {
    #[inline(always)]
    unsafe fn load_pairs(p: *const u16) -> (Self, Self) {
        // SAFETY: see `Vector` and the function's promise.
        unsafe {
            let both = _mm512_loadu_si512(p.cast());
            let second = _mm512_and_si512(both, _mm512_set1_epi32(0xffff_0000_u32 as i32));
            (
                Self::from_bits(_mm512_slli_epi32::<16>(both)),
                Self::from_bits(second),
            )
        }
    }
}

#[cfg(target_arch = "x86_64")]
impl Pairs for Avx2 {
    #[inline(always)]
    unsafe fn load_pairs(p: *const u16) -> (Self, Self) {
        // SAFETY: see `Vector` and the function's promise.
        unsafe {
            let both = _mm256_loadu_si256(p.cast());
            let second = _mm256_and_si256(both, _mm256_set1_epi32(0xffff_0000_u32 as i32));
            (
                Self::from_bits(_mm256_slli_epi32::<16>(both)),
                Self::from_bits(second),
            )
        }
    }
}

impl Pairs for Lanes4 {
    #[inline(always)]
    unsafe fn load_pairs(p: *const u16) -> (Self, Self) {
        let (mut first, mut second) = ([0.0; 4], [0.0; 4]);
        for lane in 0..4 {
            // SAFETY: the function's promise.
            unsafe {
                first[lane] = from_bf16(*p.add(2 * lane));
                second[lane] = from_bf16(*p.add(2 * lane + 1));
            }
        }
        // SAFETY: four values each.
        unsafe { (Self::load(first.as_ptr()), Self::load(second.as_ptr())) }
    }
}

#[inline(always)]
unsafe fn widened<V: Pairs, const ROWS: usize>(t: &Tile<f32>) {
    let mut sums = [[V::splat(0.0); VECTORS]; ROWS];
    let (mut a, mut b) = (t.a, t.b);
    let ahead = ASKED_AHEAD * 2 * VECTORS * V::LANES;
    // SAFETY: `block` hands over rows and panels that are padded to whole steps.
    unsafe {
        for _ in 0..t.k.div_ceil(2) {
            let mut pairs = [(V::splat(0.0), V::splat(0.0)); VECTORS];
            for (j, pair) in pairs.iter_mut().enumerate() {
                let at = b.add(2 * j * V::LANES);
                V::prefetch(at.wrapping_add(ahead).cast());
                *pair = V::load_pairs(at);
            }
            for (i, sums) in sums.iter_mut().enumerate() {
                let (x, y) = (
                    V::splat(*a.add(i * t.a_row)),
                    V::splat(*a.add(i * t.a_row + 1)),
                );
                for (sum, (first, second)) in sums.iter_mut().zip(pairs) {
                    *sum = y.fma(second, x.fma(first, *sum));
                }
            }
            a = a.add(2);
            b = b.add(2 * VECTORS * V::LANES);
        }
        for (i, sums) in sums.iter().enumerate() {
            for (j, sum) in sums.iter().enumerate() {
                sum.store(t.sums.add((i * VECTORS + j) * V::LANES));
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn paired<const ROWS: usize>(t: &Tile<u16>) {
    let mut sums = [[_mm512_setzero_ps(); VECTORS]; ROWS];
    let (mut a, mut b) = (t.a, t.b);
    // SAFETY: as for `widened`; any bits are a vector of bf16.
    unsafe {
        for _ in 0..t.k.div_ceil(2) {
            let mut pairs = [_mm512_setzero_si512(); VECTORS];
            for (j, pair) in pairs.iter_mut().enumerate() {
                let at = b.add(32 * j);
                Avx512::prefetch(at.wrapping_add(ASKED_AHEAD * 32 * VECTORS).cast());
                *pair = _mm512_loadu_si512(at.cast());
            }
            for (i, sums) in sums.iter_mut().enumerate() {
                let x = _mm512_set1_epi32(a.add(i * t.a_row).cast::<i32>().read_unaligned());
                let x: __m512bh = std::mem::transmute(x);
                for (sum, pair) in sums.iter_mut().zip(pairs) {
                    *sum =
                        _mm512_dpbf16_ps(*sum, x, std::mem::transmute::<__m512i, __m512bh>(pair));
                }
            }
            a = a.add(2);
            b = b.add(32 * VECTORS);
        }
        for (i, sums) in sums.iter().enumerate() {
            for (j, sum) in sums.iter().enumerate() {
                _mm512_storeu_ps(t.sums.add((i * VECTORS + j) * 16), *sum);
            }
        }
    }
}

type TileFn<A> = unsafe fn(&Tile<A>);

/// Functions by rows − 1.
macro_rules! by_rows {
    ($name:ident, $a:ty, $function:ident, [$($rows:literal)*]) => {
        static $name: &[TileFn<$a>] = &[$($function::<$rows>),*];
    };
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn widened_avx512<const ROWS: usize>(t: &Tile<f32>) {
    // SAFETY: passed on; the table is only reached through the level that has the instructions.
    unsafe { widened::<Avx512, ROWS>(t) }
}
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn widened_avx2<const ROWS: usize>(t: &Tile<f32>) {
    // SAFETY: as above.
    unsafe { widened::<Avx2, ROWS>(t) }
}
unsafe fn widened_portable<const ROWS: usize>(t: &Tile<f32>) {
    // SAFETY: passed on.
    unsafe { widened::<Lanes4, ROWS>(t) }
}

#[cfg(target_arch = "x86_64")]
by_rows!(PAIRED, u16, paired, [1 2 3 4 5 6 7 8 9 10 11 12 13 14]);
#[cfg(target_arch = "x86_64")]
by_rows!(WIDENED_AVX512, f32, widened_avx512, [1 2 3 4 5 6 7 8 9 10 11 12]);
#[cfg(target_arch = "x86_64")]
by_rows!(WIDENED_AVX2, f32, widened_avx2, [1 2 3 4 5]);
by_rows!(WIDENED_PORTABLE, f32, widened_portable, [1 2 3 4 5 6]);

fn widened_tiles(level: Level) -> &'static [TileFn<f32>] {
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => WIDENED_AVX512,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => WIDENED_AVX2,
        Level::Portable => WIDENED_PORTABLE,
    }
}

/// A number that the left operand is rounded to.
pub(crate) trait Rounded: Copy {
    const ZERO: Self;
    fn of(x: f32) -> Self;
}

impl Rounded for u16 {
    const ZERO: u16 = 0;
    #[inline(always)]
    fn of(x: f32) -> u16 {
        to_bf16(x)
    }
}

impl Rounded for f32 {
    const ZERO: f32 = 0.0;
    #[inline(always)]
    fn of(x: f32) -> f32 {
        from_bf16(to_bf16(x))
    }
}

/// Rounds `rows` rows of `width` values, `step` apart, to rows `to_row` apart.
pub(crate) struct Round<A> {
    pub(crate) from: *const f32,
    pub(crate) step: usize,
    pub(crate) rows: usize,
    pub(crate) width: usize,
    pub(crate) to: *mut A,
    pub(crate) to_row: usize,
}

impl<A: Rounded> Kernel<f32> for Round<A> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = f32>>(self) {
        // SAFETY: the maker of the kernel promises the rows at each pointer.
        unsafe {
            for row in 0..self.rows {
                let (from, to) = (
                    self.from.add(row * self.step),
                    self.to.add(row * self.to_row),
                );
                for i in 0..self.width {
                    *to.add(i) = A::of(*from.add(i));
                }
            }
        }
    }
}

/// `to = a ∘ b`, of which `b` is in bf16.
pub(crate) struct Scale {
    pub(crate) a: *const f32,
    pub(crate) b: *const u16,
    pub(crate) to: *mut f32,
    pub(crate) len: usize,
}

impl Kernel<f32> for Scale {
    type Output = ();
    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = f32>>(self) {
        for i in 0..self.len {
            // SAFETY: the maker of the kernel promises the values at each pointer.
            unsafe { *self.to.add(i) = *self.a.add(i) * from_bf16(*self.b.add(i)) }
        }
    }
}

/// `c = init + sums` for some rows and columns.
struct Finish {
    sums: *const f32,
    sums_row: usize,
    init: *const f32,
    init_row: usize,
    c: *mut f32,
    c_row: usize,
    rows: usize,
    columns: usize,
}

impl Kernel<f32> for Finish {
    type Output = ();
    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = f32>>(self) {
        // SAFETY: the maker of the kernel promises the rows at each pointer.
        unsafe {
            for row in 0..self.rows {
                for i in (0..self.columns).step_by(V::LANES) {
                    let n = self.columns - i;
                    let mut value: V = load(self.sums.add(row * self.sums_row + i), n);
                    if !self.init.is_null() {
                        value = value.add(load(self.init.add(row * self.init_row + i), n));
                    }
                    store(value, self.c.add(row * self.c_row + i), n);
                }
            }
        }
    }
}

/// Some rows of C times some panels of B, in this thread; the product's `a` starts at the first of the rows.
/// # Safety
/// As for [`Product::run`]. `unit` is one of the machine's, and no other than [`Bf16Unit::Widened`] below AVX-512.
pub(super) unsafe fn block(
    product: &Product<f32>,
    (b, unit): (&Panels, Bf16Unit),
    level: Level,
    rows: Range<usize>,
    panels: Range<usize>,
    done: Option<&(dyn Fn(Range<usize>, Range<usize>) + Sync)>,
) {
    debug_assert_eq!((product.a.step, product.scale), (1, 1.0));
    let block = Block {
        product,
        b,
        level,
        rows,
        panels,
        done,
    };
    // SAFETY: passed on; each tile gets what its unit reads.
    unsafe {
        match unit {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Bf16Unit::Amx => amx::with_tiles(|| {
                let steps = product.k.div_ceil(STEP);
                let size = (2 * amx::ROWS, amx::ROWS);
                block.tiles(size, |tile: Tile<u16>, rows| {
                    amx::multiply(
                        tile.a,
                        2 * tile.a_row,
                        tile.b,
                        steps,
                        tile.sums,
                        rows > amx::ROWS,
                    )
                })
            }),
            #[cfg(target_arch = "x86_64")]
            Bf16Unit::Avx512Bf16 => block.tiles_of(PAIRED),
            Bf16Unit::Widened => block.tiles_of(widened_tiles(level)),
        }
    }
}

/// What [`block`] is given.
struct Block<'a> {
    product: &'a Product<'a, f32>,
    b: &'a Panels,
    level: Level,
    rows: Range<usize>,
    panels: Range<usize>,
    done: Option<&'a (dyn Fn(Range<usize>, Range<usize>) + Sync)>,
}

impl Block<'_> {
    /// By functions for tiles of so many rows.
    /// # Safety
    /// As for [`block`].
    unsafe fn tiles_of<A: Rounded>(self, table: &[TileFn<A>]) {
        // SAFETY: passed on; the tile has as many rows as the function reads.
        unsafe { self.tiles((table.len(), 1), |tile, rows| table[rows - 1](&tile)) }
    }

    /// The loop over panels and tiles of at most `tallest` rows, which read whole groups of `together` rows.
    /// # Safety
    /// As for [`block`].
    unsafe fn tiles<A: Rounded>(
        self,
        (tallest, together): (usize, usize),
        multiply: impl Fn(Tile<A>, usize),
    ) {
        let Self {
            product,
            b,
            level,
            rows,
            panels,
            done,
        } = self;
        #[repr(C, align(64))]
        struct Sums([f32; TALLEST * WIDEST]);
        let mut sums = Sums([0.0; TALLEST * WIDEST]);
        let width = f32::tiles(level).width();
        let (m, k) = (rows.len(), product.k.next_multiple_of(STEP));
        let all = m.next_multiple_of(together);
        let heights = m.div_ceil(tallest);
        // Tiles of nearly equal height, in whole groups.
        let starts = |t: usize| (t * (all / together) / heights * together).min(m);
        with_scratch(all * k, |left: *mut A| {
            // SAFETY: the scratch has room for all rows, the sums for a tile; the product promises A, C and what C starts from.
            unsafe {
                f32::run(
                    level,
                    Round {
                        from: product.a.ptr,
                        step: product.a.row,
                        rows: m,
                        width: product.k,
                        to: left,
                        to_row: k,
                    },
                );
                for row in 0..all {
                    let start = if row < m { product.k } else { 0 };
                    for i in start..k {
                        *left.add(row * k + i) = A::ZERO;
                    }
                }
                for panel in panels {
                    let columns = panel * width..product.n.min((panel + 1) * width);
                    let right = b.panel(panel, width);
                    for t in 0..heights {
                        let (start, end) = (starts(t), starts(t + 1));
                        let tile = Tile {
                            a: left.add(start * k).cast_const(),
                            a_row: k,
                            b: right,
                            k: product.k,
                            sums: sums.0.as_mut_ptr(),
                        };
                        multiply(tile, end - start);
                        let row = rows.start + start;
                        let init = match product.init.is_null() {
                            true => product.init,
                            false => product.init.add(row * product.init_row + columns.start),
                        };
                        f32::run(
                            level,
                            Finish {
                                sums: sums.0.as_ptr(),
                                sums_row: width,
                                init,
                                init_row: product.init_row,
                                c: product.c.add(row * product.c_row + columns.start),
                                c_row: product.c_row,
                                rows: end - start,
                                columns: columns.len(),
                            },
                        );
                    }
                    if let Some(done) = done {
                        done(rows.clone(), columns);
                    }
                }
            }
        });
    }
}
