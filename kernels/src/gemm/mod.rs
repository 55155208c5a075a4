//! Matrix products `C = init + scale · A B` on two threads or more.
//!
//! C is cut into tiles that fit into the vector registers (9 × 48 with AVX-512, or 14 × 32 where that is all rows; 6 × 16
//! with AVX2). A tile runs over the whole inner dimension in one go, so every element is one chain of fused multiply-adds
//! in the order of k, whatever the tile's size: a row's result does not depend on how many other rows there are, nor on
//! the split over threads. A is read where it lies, row-major or transposed, since each of its values is loaded alone and
//! repeated over the lanes; one that lies transposed (`gᵀ x`) is turned around block by block where many panels read it.
//! B is read by vectors along its rows: where it lies, or from [`Packed`] panels, into which it is put first where many
//! rows of A pass by. Row blocks are chosen so that their part of A stays in the L2 cache while the panels of B pass by.

pub(crate) mod rounded;

use std::ops::Range;

use crate::memory::{Aligned, with_scratch};
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512};
use crate::simd::{Double, Float, Lanes4, Level, Vector};
use crate::threads::{Shared, parallel, threads};
use rounded::{Bf16Unit, Panels};

/// Vectors in the width of a panel of B.
const VECTORS: usize = 2;
/// Rows of A that are multiplied by one panel of B after the other.
const BLOCK_ROWS: usize = 112;
/// From this inner dimension on, panels of an unpacked B are copied together before use where few blocks of rows read them:
/// its rows lie in too many different pages.
const COPY_PANEL_FROM: usize = 512;
/// Rows of B between the one that is multiplied and the one that is asked for: what the processor asks for by itself
/// ends with each page, of which a panel has twelve.
const ASKED_AHEAD: usize = 16;
/// From this inner dimension on, a large product first puts together what lies apart: an unpacked B, once for all row
/// blocks, and a transposed A, of which each step of k may lie in another page.
const TIDY_FROM: usize = 128;
/// Below this many operations a product stays on one thread.
const SERIAL_BELOW: usize = 200_000;

/// One tile: `c[i, j] = init[i, j] + scale · Σ_k a[i, k] b[k, j]`.
pub(crate) struct Tile<T> {
    k: usize,
    /// `a[i, k]` is at `a[i / 4] + k · a_step`, and `a_behind[i mod 4 − 1]` behind that where i is no multiple of 4: few
    /// pointers, which all stay in registers.
    a: [*const T; 4],
    a_behind: [usize; 3],
    a_step: usize,
    /// The first vector of `b[k, ..]` is at `b + k · b_step`, the others are `b_behind` that.
    b: *const T,
    b_step: usize,
    b_behind: [usize; 2],
    /// Null for zeros.
    init: *const T,
    init_row: usize,
    scale: T,
    c: *mut T,
    c_row: usize,
    /// Columns of the last vector.
    last: usize,
}

type TileFn<T> = unsafe fn(&Tile<T>);

/// Transposes a square of as many rows and columns as a vector has lanes, or a part of one: see
/// [`transpose16`](crate::simd::transpose16).
type SquareFn<T> = unsafe fn(*const T, [usize; 2], usize, *mut T, usize);

/// The tile functions of a level: by vectors − 1, rows − 1, and whether the last vector is partial.
pub(crate) struct Tiles<T: 'static> {
    lanes: usize,
    by_shape: &'static [&'static [[TileFn<T>; 2]]],
    square: Option<SquareFn<T>>,
}

impl<T> Tiles<T> {
    /// Columns of a panel.
    pub(crate) fn width(&self) -> usize {
        self.lanes * VECTORS
    }

    /// Rows of the tallest tile of so many vectors.
    fn tallest(&self, vectors: usize) -> usize {
        self.by_shape[vectors - 1].len()
    }

    /// Vectors of the tiles that many rows are cut into. Few rows pass by B in one tile of fewer.
    fn vectors(&self, rows: usize) -> usize {
        if rows <= self.tallest(VECTORS) {
            VECTORS
        } else {
            self.by_shape.len()
        }
    }
}

/// The same pointer, of which the compiler does not know where it came from: it would keep a pointer for each row of A
/// otherwise, more than there are registers.
#[inline(always)]
fn unseen<T>(mut pointer: *const T) -> *const T {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: no instruction at all.
    unsafe {
        std::arch::asm!("/* {0} */", inout(reg) pointer, options(pure, readonly, nostack, preserves_flags));
    }
    pointer
}

#[inline(always)]
unsafe fn tile<V: Vector, const ROWS: usize, const COLS: usize, const PARTIAL: bool>(
    t: &Tile<V::Scalar>,
) {
    let zero = V::splat(V::Scalar::default());
    let mut sums = [[zero; COLS]; ROWS];
    let (mut a, a_behind, mut b) = (t.a, t.a_behind, t.b);
    let b_behind = [0, t.b_behind[0], t.b_behind[1]];
    let mut ahead = unseen(b.wrapping_add(ASKED_AHEAD * t.b_step));
    // SAFETY: `Product` has checked that all of A, B, init and C can be reached; partial vectors touch `last` lanes.
    unsafe {
        for _ in 0..t.k {
            let mut row = [zero; COLS];
            for (j, v) in row.iter_mut().enumerate() {
                V::prefetch(ahead.wrapping_add(b_behind[j]));
                let at = b.add(b_behind[j]);
                *v = if PARTIAL && j + 1 == COLS {
                    V::load_part(at, t.last)
                } else {
                    V::load(at)
                };
            }
            for (i, sums) in sums.iter_mut().enumerate() {
                let behind = if i % 4 == 0 { 0 } else { a_behind[i % 4 - 1] };
                let x = V::splat(*a[i / 4].add(behind));
                for (sum, v) in sums.iter_mut().zip(row) {
                    *sum = x.fma(v, *sum);
                }
            }
            for a in &mut a[..ROWS.div_ceil(4)] {
                *a = unseen(a.wrapping_add(t.a_step));
            }
            b = b.wrapping_add(t.b_step);
            ahead = ahead.wrapping_add(t.b_step);
        }
        let scale = V::splat(t.scale);
        for (i, sums) in sums.iter().enumerate() {
            for (j, &sum) in sums.iter().enumerate() {
                let partial = PARTIAL && j + 1 == COLS;
                let value = if t.init.is_null() {
                    sum.mul(scale)
                } else {
                    let at = t.init.add(i * t.init_row + j * V::LANES);
                    sum.fma(
                        scale,
                        if partial {
                            V::load_part(at, t.last)
                        } else {
                            V::load(at)
                        },
                    )
                };
                let at = t.c.add(i * t.c_row + j * V::LANES);
                if partial {
                    value.store_part(at, t.last)
                } else {
                    value.store(at)
                }
            }
        }
    }
}

macro_rules! tiles {
    ($table:ident, $entry:ident, $vector:ty, $scalar:ty, {$($vectors:literal: [$($rows:literal)*])*}, $square:expr, $(#[$feature:meta])*) => {
        $(#[$feature])*
        unsafe fn $entry<const ROWS: usize, const COLS: usize, const PARTIAL: bool>(t: &Tile<$scalar>) {
            // SAFETY: passed on; the table is only reached through the level that has the instructions.
            unsafe { tile::<$vector, ROWS, COLS, PARTIAL>(t) }
        }
        static $table: Tiles<$scalar> = Tiles {
            lanes: <$vector as Vector>::LANES,
            by_shape: &[$(&[
                $([$entry::<$rows, $vectors, false>, $entry::<$rows, $vectors, true>]),*
            ]),*],
            square: $square,
        };
    };
}

#[cfg(target_arch = "x86_64")]
tiles!(AVX512, avx512, Avx512, f32, {
    1: [1 2 3 4 5 6 7 8 9 10 11 12 13 14]
    2: [1 2 3 4 5 6 7 8 9 10 11 12 13 14]
    3: [1 2 3 4 5 6 7 8 9]
}, Some(crate::simd::transpose16), #[target_feature(enable = "avx512f")]);
#[cfg(target_arch = "x86_64")]
tiles!(AVX2, avx2, Avx2, f32, {1: [1 2 3 4 5 6] 2: [1 2 3 4 5 6]}, None, #[target_feature(enable = "avx2,fma")]);
tiles!(PORTABLE, portable, Lanes4, f32, {1: [1 2 3 4 5 6] 2: [1 2 3 4 5 6]}, None,);
tiles!(DOUBLE, double, Double, f64, {1: [1 2 3 4] 2: [1 2 3 4]}, None,);

/// A float whose products have tiles.
pub(crate) trait Multiplied: Float {
    /// The innermost loops for `level`.
    fn tiles(level: Level) -> &'static Tiles<Self>;

    /// The product as one of f32, if it is that.
    fn as_f32<'a, 'b>(product: &'a Product<'b, Self>) -> Option<&'a Product<'b, f32>>;
}

impl Multiplied for f32 {
    fn tiles(level: Level) -> &'static Tiles<f32> {
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => &AVX512,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => &AVX2,
            Level::Portable => &PORTABLE,
        }
    }

    fn as_f32<'a, 'b>(product: &'a Product<'b, f32>) -> Option<&'a Product<'b, f32>> {
        Some(product)
    }
}

impl Multiplied for f64 {
    fn tiles(_: Level) -> &'static Tiles<f64> {
        &DOUBLE
    }

    fn as_f32<'a, 'b>(_: &'a Product<'b, f64>) -> Option<&'a Product<'b, f32>> {
        None
    }
}

/// The left operand: `a[i, k]` at `ptr + i · row + k · step`.
#[derive(Clone, Copy)]
pub(crate) struct Left<T> {
    pub(crate) ptr: *const T,
    pub(crate) row: usize,
    pub(crate) step: usize,
}

impl<T> Left<T> {
    /// A row-major matrix with `width` columns.
    pub(crate) fn rows(data: &[T], width: usize) -> Self {
        Self {
            ptr: data.as_ptr(),
            row: width,
            step: 1,
        }
    }

    /// The transpose of a row-major matrix with `width` columns.
    pub(crate) fn transposed(data: &[T], width: usize) -> Self {
        Self {
            ptr: data.as_ptr(),
            row: 1,
            step: width,
        }
    }

    fn at_row(self, i: usize) -> Self {
        // SAFETY: `i` is a row of the operand.
        let ptr = unsafe { self.ptr.add(i * self.row) };
        Self { ptr, ..self }
    }
}

/// The right operand.
#[derive(Clone, Copy)]
pub(crate) enum Right<'a, T> {
    /// `b[k, j]` at `ptr + k · step + j`.
    Rows { ptr: *const T, step: usize },
    /// Panels of the level's width.
    Packed(&'a Packed<T>),
    /// Panels of the level's width that are written, one after the other, to where they are used.
    Made(&'a (dyn Fn(usize, *mut T) + Sync)),
    /// Panels in bf16, of f32 only, and what multiplies them. The left operand lies in rows, and the scale is 1.
    Rounded(&'a Panels, Bf16Unit),
}

impl<T> Right<'_, T> {
    /// A row-major matrix with `width` columns.
    pub(crate) fn rows(data: &[T], width: usize) -> Self {
        Right::Rows {
            ptr: data.as_ptr(),
            step: width,
        }
    }
}

/// A right operand `[k, n]` in panels for one level: panel by panel `[k, width]`, zero-padded.
pub(crate) struct Packed<T> {
    pub(crate) level: Level,
    k: usize,
    data: Aligned<T>,
}

impl<T> std::fmt::Debug for Packed<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Packed({:?}, k = {})", self.level, self.k)
    }
}

impl<T: Copy> Packed<T> {
    /// Bytes that it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.data.bytes()
    }
}

impl<T: Multiplied> Packed<T> {
    /// Packs `matrix [k, n]`, whose rows are `step` apart.
    pub(crate) fn of(level: Level, matrix: &[T], step: usize, k: usize, n: usize) -> Self {
        let width = T::tiles(level).width();
        // SAFETY: a panel has `k` rows of `width`, each of which gets its values and zeros behind them.
        unsafe {
            Self::of_panels(level, n, k, |columns, to| {
                for i in 0..k {
                    let (values, to) = (&matrix[i * step..][columns.clone()], to.add(i * width));
                    to.copy_from_nonoverlapping(values.as_ptr(), values.len());
                    to.add(values.len()).write_bytes(0, width - values.len());
                }
            })
        }
    }

    /// Packs the transpose of the row-major `matrix [n, k]`.
    pub(crate) fn transpose_of(level: Level, matrix: &[T], n: usize, k: usize) -> Self {
        let width = T::tiles(level).width();
        // SAFETY: the columns of a panel are rows of the matrix, and zeros are written behind the last one.
        unsafe {
            Self::of_panels(level, n, k, |columns, to| {
                let from = &matrix[columns.start * k..];
                transpose(level, from, columns.len(), k, k, to, width);
            })
        }
    }

    /// Makes the panels of an operand `[k, n]` on all threads: `write` gets the columns of a panel and its place.
    /// # Safety
    /// `write` writes the whole panel, `k` rows of the level's width.
    unsafe fn of_panels(
        level: Level,
        n: usize,
        k: usize,
        write: impl Fn(Range<usize>, *mut T) + Sync,
    ) -> Self {
        let width = T::tiles(level).width();
        let (panels, panel_len) = (n.div_ceil(width), width * k);
        let mut data = Aligned::<T>::unwritten(panels * panel_len);
        let to = Shared(data.as_mut_ptr());
        parallel(panels, |panel| {
            // SAFETY: each task has its own panel.
            let to = unsafe { to.add(panel * panel_len) };
            write(panel * width..n.min((panel + 1) * width), to);
        });
        // SAFETY: the caller's promise; every panel has been written.
        let data = unsafe { data.written(panels * panel_len) };
        Self { level, k, data }
    }
}

/// Writes the transpose of `from [rows, cols]` (rows `step` apart) to `to [cols, to_row]`; zeros in the columns of `to`
/// from `rows` on.
/// # Safety
/// All of `to` can be written, and `rows ≤ to_row`.
pub(crate) unsafe fn transpose<T: Multiplied>(
    level: Level,
    from: &[T],
    rows: usize,
    step: usize,
    cols: usize,
    to: *mut T,
    to_row: usize,
) {
    let tiles = T::tiles(level);
    let side = tiles.lanes;
    if let Some(square) = tiles.square
        && to_row.is_multiple_of(side)
    {
        for i in (0..to_row).step_by(side) {
            let some = rows.saturating_sub(i).min(side);
            for j in (0..cols).step_by(side) {
                let from = match some {
                    0 => from.as_ptr(),
                    _ => from[i * step + j..].as_ptr(),
                };
                // SAFETY: the level has the square's instructions; `to` as the caller promises.
                unsafe {
                    square(
                        from,
                        [some, side.min(cols - j)],
                        step,
                        to.add(j * to_row + i),
                        to_row,
                    )
                }
            }
        }
        return;
    }
    // In strips of sixteen columns: the reads of a strip share cache lines, and its writes do.
    for strip in (0..cols).step_by(16) {
        let end = cols.min(strip + 16);
        for i in 0..rows {
            for (j, &x) in from[i * step + strip..i * step + end].iter().enumerate() {
                // SAFETY: the caller's promise.
                unsafe { *to.add((strip + j) * to_row + i) = x }
            }
        }
        for j in strip..end {
            for i in rows..to_row {
                // SAFETY: the caller's promise.
                unsafe { *to.add(j * to_row + i) = T::default() }
            }
        }
    }
}

/// A product `C [m, n] = init + scale · A [m, k] B [k, n]`.
#[derive(Clone, Copy)]
pub(crate) struct Product<'a, T> {
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
    pub(crate) a: Left<T>,
    pub(crate) b: Right<'a, T>,
    /// What the sums are added to: null, or a matrix with rows `init_row` apart (0 repeats one row, as for a bias). It
    /// may be C itself.
    pub(crate) init: *const T,
    pub(crate) init_row: usize,
    pub(crate) scale: T,
    pub(crate) c: *mut T,
    pub(crate) c_row: usize,
}

// SAFETY: the pointers are read, except for C, of which tasks write disjoint parts.
unsafe impl<T> Send for Product<'_, T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Product<'_, T> {}

impl<'a, T: Multiplied> Product<'a, T> {
    /// `c = a b` with a C of width `n`.
    pub(crate) fn new(
        m: usize,
        n: usize,
        k: usize,
        a: Left<T>,
        b: Right<'a, T>,
        c: *mut T,
    ) -> Self {
        let init = std::ptr::null();
        Self {
            m,
            n,
            k,
            a,
            b,
            init,
            init_row: 0,
            scale: T::from_f64(1.0),
            c,
            c_row: n,
        }
    }

    /// Rows and columns of each task.
    fn split(&self, width: usize, rows: usize) -> (usize, usize) {
        let (threads, panels) = (threads(), self.n.div_ceil(width));
        let serial_below = match self.b {
            Right::Rounded(_, unit) => unit.speed() * SERIAL_BELOW,
            _ => SERIAL_BELOW,
        };
        // (Few rows take as long as reading B.)
        let little = self.n * self.k < SERIAL_BELOW / 2;
        if threads == 1 || 2 * self.m * self.n * self.k < serial_below && little {
            return (self.m.div_ceil(BLOCK_ROWS), 1);
        }
        if self.m >= 2 * rows * threads {
            return (self.m.div_ceil(BLOCK_ROWS).next_multiple_of(threads), 1);
        }
        (self.m.div_ceil(BLOCK_ROWS), panels.min(2 * threads))
    }

    /// Computes on all threads. `left` may give another left operand for some rows, made in the scratch memory handed
    /// to it (`rows · k` values); `done` is told which part of C is ready while it is in the cache.
    /// # Safety
    /// All operands are as large as the product says, C is written by nobody else.
    pub(crate) unsafe fn run(
        &self,
        level: Level,
        left: Option<&(dyn Fn(Range<usize>, *mut T) + Sync)>,
        done: Option<&(dyn Fn(Range<usize>, Range<usize>) + Sync)>,
    ) {
        let tiles = T::tiles(level);
        let width = tiles.width();
        let (row_blocks, column_blocks) = self.split(width, tiles.tallest(VECTORS));
        let panels = self.n.div_ceil(width);
        // (Where many panels read A, and many rows B.)
        let large = panels >= 4 && self.k >= TIDY_FROM;
        let packed;
        let mut product = *self;
        if let Right::Rows { ptr, step } = self.b
            && large
            && row_blocks >= 4
        {
            // SAFETY: the caller's promise: k rows, the last of which has n values.
            let b = unsafe { std::slice::from_raw_parts(ptr, (self.k - 1) * step + self.n) };
            packed = Packed::of(level, b, step, self.k, self.n);
            product.b = Right::Packed(&packed);
        }
        let turned = tiles.square.is_some()
            && self.a.row == 1
            && self.a.step > 1
            && column_blocks == 1
            && large;
        // An odd number of vectors, so that rows next to each other lie in different sets of the cache.
        let turned_row = (self.k.div_ceil(tiles.lanes) | 1) * tiles.lanes;
        let work = |task: usize| {
            let (i, j) = (task / column_blocks, task % column_blocks);
            let rows = i * self.m / row_blocks..(i + 1) * self.m / row_blocks;
            let panels = j * panels / column_blocks..(j + 1) * panels / column_blocks;
            match left {
                // SAFETY: the caller's promise; blocks are disjoint.
                Some(left) => with_scratch(rows.len() * self.k, |scratch| unsafe {
                    left(rows.clone(), scratch);
                    let a = Left {
                        ptr: scratch.cast_const(),
                        row: self.k,
                        step: 1,
                    };
                    product.block(level, a, rows.clone(), panels, done)
                }),
                // SAFETY: as above; A is read at its k columns of the block's rows, and the scratch memory has all that is written.
                None if turned => with_scratch(rows.len() * turned_row, |scratch| unsafe {
                    let from = self.a.at_row(rows.start);
                    let len = (self.k - 1) * from.step + rows.len();
                    let from = std::slice::from_raw_parts(from.ptr, len);
                    let (k, step) = (self.k, self.a.step);
                    transpose(level, from, k, step, rows.len(), scratch, turned_row);
                    let a = Left {
                        ptr: scratch.cast_const(),
                        row: turned_row,
                        step: 1,
                    };
                    product.block(level, a, rows.clone(), panels, done)
                }),
                // SAFETY: the caller's promise; blocks are disjoint.
                None => unsafe {
                    product.block(level, self.a.at_row(rows.start), rows, panels, done)
                },
            }
        };
        let tasks = row_blocks * column_blocks;
        if tasks == 1 {
            work(0)
        } else {
            parallel(tasks, work)
        }
    }

    /// Computes all of it in this thread.
    /// # Safety
    /// As for [`Product::run`].
    pub(crate) unsafe fn whole(&self, level: Level) {
        let panels = self.n.div_ceil(T::tiles(level).width());
        // SAFETY: passed on.
        unsafe { self.block(level, self.a, 0..self.m, 0..panels, None) }
    }

    /// Some rows of C times some panels of B, in this thread; `a` starts at the first of the rows.
    /// # Safety
    /// As for [`Product::run`].
    unsafe fn block(
        &self,
        level: Level,
        a: Left<T>,
        rows: Range<usize>,
        panels: Range<usize>,
        done: Option<&(dyn Fn(Range<usize>, Range<usize>) + Sync)>,
    ) {
        if let Right::Rounded(b, unit) = self.b {
            let own = Self { a, ..*self };
            let own = T::as_f32(&own).expect("panels in bf16 are of f32");
            // SAFETY: passed on; the unit is the machine's.
            return unsafe { rounded::block(own, (b, unit), level, rows, panels, done) };
        }
        let tiles = T::tiles(level);
        let (width, lanes) = (tiles.width(), tiles.lanes);
        let m = rows.len();
        let vectors = match self.b {
            Right::Made(_) => VECTORS,
            _ => tiles.vectors(m),
        };
        let end = self.n.min(panels.end * width);
        for start in (panels.start * width..end).step_by(vectors * lanes) {
            let columns = start..end.min(start + vectors * lanes);
            let vectors = columns.len().div_ceil(lanes);
            let last = columns.len() - (vectors - 1) * lanes;
            let heights = m.div_ceil(tiles.tallest(vectors));
            let multiply = |b: *const T, b_step: usize, b_behind: [usize; 2]| {
                for t in 0..heights {
                    // Tiles of nearly equal height: 10 rows are 5 + 5, not 9 + 1.
                    let (start, end) = (t * m / heights, (t + 1) * m / heights);
                    let row = rows.start + start;
                    // SAFETY: inside the operands, see above; a table has all heights up to the tallest.
                    unsafe {
                        let init = if self.init.is_null() {
                            self.init
                        } else {
                            self.init.add(row * self.init_row + columns.start)
                        };
                        tiles.by_shape[vectors - 1][end - start - 1][usize::from(last < lanes)](
                            &Tile {
                                k: self.k,
                                a: [0, 4, 8, 12].map(|i| a.ptr.wrapping_add((start + i) * a.row)),
                                a_behind: [1, 2, 3].map(|i| i * a.row),
                                a_step: a.step,
                                b,
                                b_step,
                                b_behind,
                                init,
                                init_row: self.init_row,
                                scale: self.scale,
                                c: self.c.add(row * self.c_row + columns.start),
                                c_row: self.c_row,
                                last,
                            },
                        );
                    }
                }
            };
            let together = [lanes, 2 * lanes];
            // SAFETY: columns start with a vector of a panel.
            unsafe {
                match self.b {
                    Right::Packed(packed) => {
                        // (Three vectors lie in two panels.)
                        let at = |column: usize| column / width * width * packed.k + column % width;
                        let first = at(start);
                        let behind = [1, 2].map(|i| at(start + i * lanes) - first);
                        multiply(packed.data.as_ptr().add(first), width, behind)
                    }
                    Right::Rows { ptr, step } if self.k >= COPY_PANEL_FROM && heights >= 4 => {
                        let width = vectors * lanes;
                        with_scratch(self.k * width, |copy: *mut T| {
                            for k in 0..self.k {
                                let row = ptr.add(k * step + columns.start);
                                row.copy_to_nonoverlapping(copy.add(k * width), columns.len());
                            }
                            multiply(copy, width, together);
                        });
                    }
                    Right::Rows { ptr, step } => multiply(ptr.add(start), step, together),
                    Right::Made(make) => with_scratch(self.k * width, |made: *mut T| {
                        make(start / width, made);
                        multiply(made, width, together);
                    }),
                    Right::Rounded(..) => unreachable!("has blocks of its own"),
                }
            }
            if let Some(done) = done {
                done(rows.clone(), columns);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{simd::levels, threads::with_threads};

    #[test]
    fn operands_that_are_put_together_first_give_the_bits_of_those_read_where_they_lie() {
        let values = |len: usize, by: usize| -> Vec<f32> {
            (0..len)
                .map(|i| (i * by % 1009) as f32 / 504.5 - 1.0)
                .collect()
        };
        // The last has too few rows for that.
        for (m, n, k) in [
            (449, 130, 128),
            (340, 101, 131),
            (500, 260, 150),
            (9, 130, 200),
        ] {
            // Both operands are parts of wider matrices.
            let (a_row, b_row) = (m + 5, n + 3);
            let (a, b) = (values(k * a_row, 7919), values(k * b_row, 6151));
            for &level in levels() {
                let product = |run: &dyn Fn(Product<f32>)| {
                    let mut c = vec![f32::NAN; m * n];
                    let (left, right) = (Left::transposed(&a, a_row), Right::rows(&b, b_row));
                    run(Product::new(m, n, k, left, right, c.as_mut_ptr()));
                    c
                };
                // SAFETY: A is [k, m] in rows of `a_row`, B [k, n] in rows of `b_row`, C [m, n].
                let plain = product(&|product| unsafe { product.whole(level) });
                for (i, j) in [(0, 0), (m / 2, n / 3), (m - 1, n - 1)] {
                    let term = |k| f64::from(a[k * a_row + i]) * f64::from(b[k * b_row + j]);
                    let sum: f64 = (0..k).map(term).sum();
                    // What rounding each of k sums can do.
                    let bound = (0..k).map(|k| term(k).abs()).sum::<f64>()
                        * k as f64
                        * f64::from(f32::EPSILON);
                    let found = f64::from(plain[i * n + j]);
                    assert!((found - sum).abs() < bound, "{level:?}: {found}, {sum}");
                }
                for threads in [1, 2, 5] {
                    let tidied = with_threads(threads, || {
                        // SAFETY: as above.
                        product(&|product| unsafe { product.run(level, None, None) })
                    });
                    let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits();
                    assert!(
                        plain.iter().zip(&tidied).all(same),
                        "{level:?}, {m} x {n} x {k} on {threads} threads"
                    );
                }
            }
        }
    }

    #[test]
    fn a_transpose_has_every_value_in_its_place_and_zeros_behind() {
        for &level in levels() {
            for (rows, cols, to_row) in [
                (1, 1, 16),
                (13, 32, 16),
                (16, 16, 16),
                (17, 5, 32),
                (32, 100, 32),
                (3, 7, 5),
            ] {
                let step = cols + 3;
                let from: Vec<f32> = (0..rows * step).map(|i| i as f32 + 1.0).collect();
                let mut to = vec![f32::NAN; cols * to_row];
                // SAFETY: `to` has the rows that are written.
                unsafe { transpose(level, &from, rows, step, cols, to.as_mut_ptr(), to_row) }
                for (i, &x) in to.iter().enumerate() {
                    let (j, i) = (i / to_row, i % to_row);
                    let expected = if i < rows { from[i * step + j] } else { 0.0 };
                    assert_eq!(
                        x, expected,
                        "{level:?} {rows} x {cols}, row {j}, column {i}"
                    );
                }
            }
        }
    }
}
