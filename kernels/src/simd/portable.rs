//! Vectors without special instructions.

use std::f64::consts::FRAC_1_SQRT_2;

use super::Vector;
use super::math::{self, Bits};

/// Four f32 in an array; the compiler maps it to the baseline's vector registers.
#[derive(Clone, Copy)]
pub(crate) struct Lanes4([f32; 4]);

/// One f64.
#[derive(Clone, Copy)]
pub(crate) struct Double(f64);

/// One rounding where the target always has the instruction (ARM), two elsewhere: a call of a library function per
/// lane would be many times slower.
#[inline(always)]
fn fma(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(any(target_arch = "aarch64", target_feature = "fma")) {
        a.mul_add(b, c)
    } else {
        a * b + c
    }
}

#[inline(always)]
fn zip(a: Lanes4, b: Lanes4, f: impl Fn(f32, f32) -> f32) -> Lanes4 {
    Lanes4([
        f(a.0[0], b.0[0]),
        f(a.0[1], b.0[1]),
        f(a.0[2], b.0[2]),
        f(a.0[3], b.0[3]),
    ])
}

impl Vector for Lanes4 {
    type Scalar = f32;
    const LANES: usize = 4;

    #[inline(always)]
    fn splat(x: f32) -> Self {
        Self([x; 4])
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: the caller's promise; an array of f32 needs no more alignment than f32.
        Self(unsafe { p.cast::<[f32; 4]>().read() })
    }
    #[inline(always)]
    unsafe fn load_part(p: *const f32, n: usize) -> Self {
        let mut lanes = [0.0; 4];
        for (i, lane) in lanes.iter_mut().enumerate().take(n) {
            // SAFETY: the caller's promise, `i < n`.
            *lane = unsafe { *p.add(i) };
        }
        Self(lanes)
    }
    #[inline(always)]
    unsafe fn load_i8(p: *const i8) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { p.cast::<[i8; 4]>().read() }.map(f32::from))
    }
    #[inline(always)]
    unsafe fn load_u4(p: *const u8) -> (Self, Self) {
        // SAFETY: the caller's promise.
        let bytes = unsafe { p.cast::<[u8; 4]>().read() };
        (
            Self(bytes.map(|byte| f32::from(byte & 15))),
            Self(bytes.map(|byte| f32::from(byte >> 4))),
        )
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<[f32; 4]>().write(self.0) }
    }
    #[inline(always)]
    unsafe fn store_part(self, p: *mut f32, n: usize) {
        for (i, lane) in self.0.iter().enumerate().take(n) {
            // SAFETY: the caller's promise, `i < n`.
            unsafe { *p.add(i) = *lane }
        }
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        zip(self, other, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        zip(self, other, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        zip(self, other, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        zip(self, other, |a, b| a / b)
    }
    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        Self([
            fma(self.0[0], b.0[0], c.0[0]),
            fma(self.0[1], b.0[1], c.0[1]),
            fma(self.0[2], b.0[2], c.0[2]),
            fma(self.0[3], b.0[3], c.0[3]),
        ])
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        zip(self, other, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        zip(self, other, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn select_below(self, bound: Self, yes: Self, no: Self) -> Self {
        let pick = |i: usize| {
            if self.0[i] < bound.0[i] {
                yes.0[i]
            } else {
                no.0[i]
            }
        };
        Self([pick(0), pick(1), pick(2), pick(3)])
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        Self(self.0.map(f32::sqrt))
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
        self.0[0].max(self.0[2]).max(self.0[1].max(self.0[3]))
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        (self.0[0] + self.0[2]) + (self.0[1] + self.0[3])
    }
}

impl Bits for Lanes4 {
    #[inline(always)]
    fn power_of_two(self) -> Self {
        Self(
            self.0
                .map(|x| f32::from_bits((x.to_bits() << 23).wrapping_add(1f32.to_bits()))),
        )
    }
}

impl Vector for Double {
    type Scalar = f64;
    const LANES: usize = 1;

    #[inline(always)]
    fn splat(x: f64) -> Self {
        Self(x)
    }
    #[inline(always)]
    unsafe fn load(p: *const f64) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { *p })
    }
    #[inline(always)]
    unsafe fn load_part(p: *const f64, _: usize) -> Self {
        // SAFETY: the caller's promise, a part has at least one lane.
        Self(unsafe { *p })
    }
    #[inline(always)]
    unsafe fn load_i8(p: *const i8) -> Self {
        // SAFETY: the caller's promise.
        Self(f64::from(unsafe { *p }))
    }
    #[inline(always)]
    unsafe fn load_u4(p: *const u8) -> (Self, Self) {
        // SAFETY: the caller's promise.
        let byte = unsafe { *p };
        (Self(f64::from(byte & 15)), Self(f64::from(byte >> 4)))
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f64) {
        // SAFETY: the caller's promise.
        unsafe { *p = self.0 }
    }
    #[inline(always)]
    unsafe fn store_part(self, p: *mut f64, _: usize) {
        // SAFETY: the caller's promise, a part has at least one lane.
        unsafe { *p = self.0 }
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Self(self.0 * other.0)
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        Self(self.0 / other.0)
    }
    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        Self(self.0 * b.0 + c.0)
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        Self(if self.0 > other.0 { self.0 } else { other.0 })
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Self(if self.0 < other.0 { self.0 } else { other.0 })
    }
    #[inline(always)]
    fn select_below(self, bound: Self, yes: Self, no: Self) -> Self {
        if self.0 < bound.0 { yes } else { no }
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        Self(self.0.sqrt())
    }
    #[inline(always)]
    fn exp(self) -> Self {
        Self(self.0.exp())
    }
    #[inline(always)]
    fn tanh(self) -> Self {
        Self(self.0.tanh())
    }
    #[inline(always)]
    fn normal_cdf(self) -> (Self, Self) {
        let cdf = 0.5 * candle_core::cpu::erf::erfc_f64(-self.0 * FRAC_1_SQRT_2);
        (Self(cdf), Self((-0.5 * self.0 * self.0).exp()))
    }
    #[inline(always)]
    fn largest(self) -> f64 {
        self.0
    }
    #[inline(always)]
    fn sum(self) -> f64 {
        self.0
    }
}
