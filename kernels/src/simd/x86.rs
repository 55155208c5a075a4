//! AVX-512F and AVX2 + FMA vectors.

// SAFETY, for every block in this file: the values exist only inside kernels that run after the machine was asked
// for these instructions (see `Vector`); what a pointer must allow is said on the trait's functions.
#![allow(clippy::undocumented_unsafe_blocks)]

use std::arch::x86_64::*;

use super::Vector;
use super::math::{self, Bits};

/// Sixteen f32.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(__m512);

/// Eight f32.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(__m256);

impl Avx512 {
    /// Sixteen f32 by their bits.
    #[inline(always)]
    pub(crate) fn from_bits(bits: __m512i) -> Self {
        Self(unsafe { _mm512_castsi512_ps(bits) })
    }
}

impl Avx2 {
    /// Eight f32 by their bits.
    #[inline(always)]
    pub(crate) fn from_bits(bits: __m256i) -> Self {
        Self(unsafe { _mm256_castsi256_ps(bits) })
    }
}

/// Writes the transpose of `rows ≤ 16` rows of `cols ≤ 16` values, `step` apart, as `cols` rows of 16 values, `to_row`
/// apart: zeros where there is no row.
/// # Safety
/// The machine has AVX-512F; the values can be read and written.
#[target_feature(enable = "avx512f")]
pub(crate) unsafe fn transpose16(
    from: *const f32,
    [rows, cols]: [usize; 2],
    step: usize,
    to: *mut f32,
    to_row: usize,
) {
    let mut a = [_mm512_setzero_ps(); 16];
    for (i, row) in a.iter_mut().enumerate().take(rows) {
        *row = unsafe { _mm512_maskz_loadu_ps(mask16(cols), from.add(i * step)) };
    }
    let mut b = a;
    // Pairs of rows, then groups of four: the 128 bits L of row 4 g + j hold column 4 L + j of the rows 4 g to 4 g + 3.
    for i in (0..16).step_by(2) {
        b[i] = _mm512_unpacklo_ps(a[i], a[i + 1]);
        b[i + 1] = _mm512_unpackhi_ps(a[i], a[i + 1]);
    }
    for g in (0..16).step_by(4) {
        let pair = |i: usize| _mm512_castps_pd(b[g + i]);
        a[g] = _mm512_castpd_ps(_mm512_unpacklo_pd(pair(0), pair(2)));
        a[g + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(pair(0), pair(2)));
        a[g + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(pair(1), pair(3)));
        a[g + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(pair(1), pair(3)));
    }
    // The even and the odd 128 bits of two groups, and again.
    for j in 0..4 {
        for half in [0, 8] {
            b[half + j] = _mm512_shuffle_f32x4::<0x88>(a[half + j], a[half + 4 + j]);
            b[half + 4 + j] = _mm512_shuffle_f32x4::<0xdd>(a[half + j], a[half + 4 + j]);
        }
    }
    for j in 0..4 {
        a[j] = _mm512_shuffle_f32x4::<0x88>(b[j], b[8 + j]);
        a[4 + j] = _mm512_shuffle_f32x4::<0x88>(b[4 + j], b[12 + j]);
        a[8 + j] = _mm512_shuffle_f32x4::<0xdd>(b[j], b[8 + j]);
        a[12 + j] = _mm512_shuffle_f32x4::<0xdd>(b[4 + j], b[12 + j]);
    }
    for (j, column) in a.into_iter().enumerate().take(cols) {
        unsafe { _mm512_storeu_ps(to.add(j * to_row), column) };
    }
}

impl Vector for Avx512 {
    type Scalar = f32;
    const LANES: usize = 16;

    #[inline(always)]
    fn splat(x: f32) -> Self {
        Self(unsafe { _mm512_set1_ps(x) })
    }
    #[inline(always)]
    fn prefetch(p: *const f32) {
        // SAFETY: a prefetch of any address has no effect that a program can see.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        Self(unsafe { _mm512_loadu_ps(p) })
    }
    #[inline(always)]
    unsafe fn load_part(p: *const f32, n: usize) -> Self {
        Self(unsafe { _mm512_maskz_loadu_ps(mask16(n), p) })
    }
    #[inline(always)]
    unsafe fn load_i8(p: *const i8) -> Self {
        unsafe {
            let bytes = _mm_loadu_si128(p.cast());
            Self(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes)))
        }
    }
    #[inline(always)]
    unsafe fn load_u4(p: *const u8) -> (Self, Self) {
        unsafe {
            let numbers = _mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast()));
            // (Looked up by their last four bits: fewer instructions than to mask and convert them.)
            let table = _mm512_setr_ps(
                0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0,
                15.0,
            );
            let high = _mm512_srli_epi32::<4>(numbers);
            (
                Self(_mm512_permutexvar_ps(numbers, table)),
                Self(_mm512_permutexvar_ps(high, table)),
            )
        }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        unsafe { _mm512_storeu_ps(p, self.0) }
    }
    #[inline(always)]
    unsafe fn store_part(self, p: *mut f32, n: usize) {
        unsafe { _mm512_mask_storeu_ps(p, mask16(n), self.0) }
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(unsafe { _mm512_add_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self(unsafe { _mm512_sub_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Self(unsafe { _mm512_mul_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        Self(unsafe { _mm512_div_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        Self(unsafe { _mm512_fmadd_ps(self.0, b.0, c.0) })
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        Self(unsafe { _mm512_max_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Self(unsafe { _mm512_min_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn select_below(self, bound: Self, yes: Self, no: Self) -> Self {
        unsafe {
            let below = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.0, bound.0);
            Self(_mm512_mask_blend_ps(below, no.0, yes.0))
        }
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        Self(unsafe { _mm512_sqrt_ps(self.0) })
    }
    #[inline(always)]
    fn exp(self) -> Self {
        math::exp(self)
    }
    #[inline(always)]
    fn tanh(self) -> Self {
        math::tanh(self)
    }
    #[inline(always)]
    fn normal_cdf(self) -> (Self, Self) {
        math::normal_cdf(self)
    }
    #[inline(always)]
    fn largest(self) -> f32 {
        unsafe { _mm512_reduce_max_ps(self.0) }
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        unsafe { _mm512_reduce_add_ps(self.0) }
    }
}

impl Bits for Avx512 {
    #[inline(always)]
    fn power_of_two(self) -> Self {
        unsafe {
            let exponent = _mm512_slli_epi32::<23>(_mm512_castps_si512(self.0));
            Self(_mm512_castsi512_ps(_mm512_add_epi32(
                exponent,
                _mm512_set1_epi32(0x3f80_0000),
            )))
        }
    }
}

/// A mask of the first `n` of 16 lanes.
#[inline(always)]
fn mask16(n: usize) -> u16 {
    (0xffffu32 >> (16 - n)) as u16
}

/// The first `n` of 8 lanes all ones.
#[inline(always)]
unsafe fn mask8(n: usize) -> __m256i {
    const ONES_THEN_ZEROS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    unsafe { _mm256_loadu_si256(ONES_THEN_ZEROS.as_ptr().add(8 - n).cast()) }
}

impl Vector for Avx2 {
    type Scalar = f32;
    const LANES: usize = 8;

    #[inline(always)]
    fn splat(x: f32) -> Self {
        Self(unsafe { _mm256_set1_ps(x) })
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        Self(unsafe { _mm256_loadu_ps(p) })
    }
    #[inline(always)]
    unsafe fn load_part(p: *const f32, n: usize) -> Self {
        Self(unsafe { _mm256_maskload_ps(p, mask8(n)) })
    }
    #[inline(always)]
    unsafe fn load_i8(p: *const i8) -> Self {
        unsafe {
            let bytes = _mm_loadl_epi64(p.cast());
            Self(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)))
        }
    }
    #[inline(always)]
    unsafe fn load_u4(p: *const u8) -> (Self, Self) {
        unsafe {
            let numbers = _mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast()));
            let low = _mm256_and_si256(numbers, _mm256_set1_epi32(15));
            let high = _mm256_srli_epi32::<4>(numbers);
            (
                Self(_mm256_cvtepi32_ps(low)),
                Self(_mm256_cvtepi32_ps(high)),
            )
        }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        unsafe { _mm256_storeu_ps(p, self.0) }
    }
    #[inline(always)]
    unsafe fn store_part(self, p: *mut f32, n: usize) {
        unsafe { _mm256_maskstore_ps(p, mask8(n), self.0) }
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(unsafe { _mm256_add_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self(unsafe { _mm256_sub_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Self(unsafe { _mm256_mul_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        Self(unsafe { _mm256_div_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        Self(unsafe { _mm256_fmadd_ps(self.0, b.0, c.0) })
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        Self(unsafe { _mm256_max_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Self(unsafe { _mm256_min_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn select_below(self, bound: Self, yes: Self, no: Self) -> Self {
        unsafe {
            let below = _mm256_cmp_ps::<_CMP_LT_OQ>(self.0, bound.0);
            Self(_mm256_blendv_ps(no.0, yes.0, below))
        }
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        Self(unsafe { _mm256_sqrt_ps(self.0) })
    }
    #[inline(always)]
    fn exp(self) -> Self {
        math::exp(self)
    }
    #[inline(always)]
    fn tanh(self) -> Self {
        math::tanh(self)
    }
    #[inline(always)]
    fn normal_cdf(self) -> (Self, Self) {
        math::normal_cdf(self)
    }
    #[inline(always)]
    fn largest(self) -> f32 {
        unsafe {
            let four = _mm_max_ps(
                _mm256_castps256_ps128(self.0),
                _mm256_extractf128_ps::<1>(self.0),
            );
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        }
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        unsafe {
            let four = _mm_add_ps(
                _mm256_castps256_ps128(self.0),
                _mm256_extractf128_ps::<1>(self.0),
            );
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }
}

impl Bits for Avx2 {
    #[inline(always)]
    fn power_of_two(self) -> Self {
        unsafe {
            let exponent = _mm256_slli_epi32::<23>(_mm256_castps_si256(self.0));
            Self(_mm256_castsi256_ps(_mm256_add_epi32(
                exponent,
                _mm256_set1_epi32(0x3f80_0000),
            )))
        }
    }
}
