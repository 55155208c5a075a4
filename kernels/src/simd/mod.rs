//! Vectors of floats, chosen at run time.
//!
//! A kernel is written once over [`Vector`] and compiled once per [`Level`]; [`Float::run`] picks the one that this
//! machine can execute. f64 has a single level of one lane: it exists for the finite-difference tests, which thus
//! run the very formulas of the f32 kernels. A new instruction set is one file like `x86.rs`, a [`Level`], its arm in
//! [`Float`], and its table of tiles in `gemm`.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(crate) mod amx;
mod math;
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::cell::Cell;
use std::sync::OnceLock;

use candle_core::WithDType;

pub(crate) use portable::{Double, Lanes4};
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512, transpose16};

/// The instruction sets with kernels of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// AVX-512F: 16 lanes.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// AVX2 with FMA: 8 lanes.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// What every machine of the target has, in groups of 4 lanes (on ARM the compiler makes NEON of it).
    Portable,
}

thread_local! {
    static OVERRIDE: Cell<Option<Level>> = const { Cell::new(None) };
}

/// The levels of this machine, best first.
pub fn levels() -> &'static [Level] {
    static LEVELS: OnceLock<Vec<Level>> = OnceLock::new();
    LEVELS.get_or_init(|| {
        let mut levels = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                levels.push(Level::Avx512);
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                levels.push(Level::Avx2);
            }
        }
        levels.push(Level::Portable);
        levels
    })
}

/// Runs `f` with the ops of this thread forced to `level`, which must be one of [`levels`].
pub fn with_level<R>(level: Level, f: impl FnOnce() -> R) -> R {
    struct Restore(Option<Level>);
    impl Drop for Restore {
        fn drop(&mut self) {
            OVERRIDE.set(self.0);
        }
    }
    assert!(
        levels().contains(&level),
        "{level:?} is not available on this machine"
    );
    let _restore = Restore(OVERRIDE.replace(Some(level)));
    f()
}

/// The level that ops of this thread use.
pub(crate) fn level() -> Level {
    OVERRIDE.get().unwrap_or(levels()[0])
}

/// A vector of floats.
///
/// Its functions compile to instructions that not every machine has, so a value may only be made inside a
/// [`Kernel`], which [`Float::run`] instantiates after looking at the machine. This is what every call of an
/// intrinsic in this folder relies on.
pub(crate) trait Vector: Copy {
    type Scalar: Float;
    const LANES: usize;

    fn splat(x: Self::Scalar) -> Self;
    /// Asks for the cache line at `p`, which need not exist, where the machine can be asked.
    #[inline(always)]
    fn prefetch(_p: *const Self::Scalar) {}
    /// # Safety
    /// `LANES` values can be read at `p`.
    unsafe fn load(p: *const Self::Scalar) -> Self;
    /// The first `n` (1 to `LANES`) lanes from memory, zeros in the others.
    /// # Safety
    /// `n` values can be read at `p`.
    unsafe fn load_part(p: *const Self::Scalar, n: usize) -> Self;
    /// Whole numbers of eight bits.
    /// # Safety
    /// `LANES` bytes can be read at `p`.
    unsafe fn load_i8(p: *const i8) -> Self;
    /// Whole numbers from 0 to 15: the low and the high four bits of each byte.
    /// # Safety
    /// `LANES` bytes can be read at `p`.
    unsafe fn load_u4(p: *const u8) -> (Self, Self);
    /// # Safety
    /// `LANES` values can be written at `p`.
    unsafe fn store(self, p: *mut Self::Scalar);
    /// # Safety
    /// `n` (1 to `LANES`) values can be written at `p`.
    unsafe fn store_part(self, p: *mut Self::Scalar, n: usize);

    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
    /// `self · b + c`, rounded once where the machine can.
    fn fma(self, b: Self, c: Self) -> Self;
    /// The larger one; `other` if either is NaN.
    fn max(self, other: Self) -> Self;
    /// The smaller one; `other` if either is NaN.
    fn min(self, other: Self) -> Self;
    /// Per lane `if self < bound { yes } else { no }`.
    fn select_below(self, bound: Self, yes: Self, no: Self) -> Self;
    fn sqrt(self) -> Self;
    fn exp(self) -> Self;
    fn tanh(self) -> Self;
    /// `Φ(x)` of the standard normal distribution, and `e^{−x²/2}`, which comes with it.
    fn normal_cdf(self) -> (Self, Self);
    /// The largest lane, if none is NaN.
    fn largest(self) -> Self::Scalar;
    /// The sum of the lanes.
    fn sum(self) -> Self::Scalar;
}

/// The next `min(n, LANES)` values, zeros in the other lanes.
/// # Safety
/// `n > 0` values can be read at `p`.
#[inline(always)]
pub(crate) unsafe fn load<V: Vector>(p: *const V::Scalar, n: usize) -> V {
    // SAFETY: passed on.
    unsafe {
        if n >= V::LANES {
            V::load(p)
        } else {
            V::load_part(p, n)
        }
    }
}

/// Stores `min(n, LANES)` lanes.
/// # Safety
/// `n > 0` values can be written at `p`.
#[inline(always)]
pub(crate) unsafe fn store<V: Vector>(v: V, p: *mut V::Scalar, n: usize) {
    // SAFETY: passed on.
    unsafe {
        if n >= V::LANES {
            v.store(p)
        } else {
            v.store_part(p, n)
        }
    }
}

/// A computation written over any [`Vector`]. Implementations of `run` are `#[inline(always)]`, and so is all that
/// they call over `V`: code that is not inlined would be compiled without the level's instructions.
pub(crate) trait Kernel<T> {
    type Output;
    /// # Safety
    /// The machine has the instructions of `V`; whatever the kernel's own pointers ask for.
    unsafe fn run<V: Vector<Scalar = T>>(self) -> Self::Output;
}

/// f32 or f64.
pub(crate) trait Float: WithDType + Default {
    /// Runs a kernel with the instructions of `level`.
    /// # Safety
    /// The pointers inside the kernel are good for what it does.
    unsafe fn run<K: Kernel<Self>>(level: Level, kernel: K) -> K::Output;
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn run_avx512<K: Kernel<f32>>(kernel: K) -> K::Output {
    // SAFETY: passed on to the caller, who has checked for AVX-512.
    unsafe { kernel.run::<Avx512>() }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn run_avx2<K: Kernel<f32>>(kernel: K) -> K::Output {
    // SAFETY: passed on to the caller, who has checked for AVX2 and FMA.
    unsafe { kernel.run::<Avx2>() }
}

impl Float for f32 {
    unsafe fn run<K: Kernel<f32>>(level: Level, kernel: K) -> K::Output {
        // SAFETY: a level other than portable comes from `levels`, which has asked the machine.
        unsafe {
            match level {
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 => run_avx512(kernel),
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => run_avx2(kernel),
                Level::Portable => kernel.run::<Lanes4>(),
            }
        }
    }
}

impl Float for f64 {
    unsafe fn run<K: Kernel<f64>>(_: Level, kernel: K) -> K::Output {
        // SAFETY: a `Double` needs no special instructions.
        unsafe { kernel.run::<Double>() }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    struct Map<'a>(&'a mut [f32], u8);
    impl Kernel<f32> for Map<'_> {
        type Output = ();
        #[inline(always)]
        unsafe fn run<V: Vector<Scalar = f32>>(self) {
            for chunk in self.0.chunks_mut(V::LANES) {
                // SAFETY: the part is as long as the chunk.
                unsafe {
                    let x = V::load_part(chunk.as_ptr(), chunk.len());
                    let y = match self.1 {
                        0 => x.exp(),
                        1 => x.tanh(),
                        _ => x.normal_cdf().0,
                    };
                    y.store_part(chunk.as_mut_ptr(), chunk.len());
                }
            }
        }
    }

    fn map(level: Level, which: u8, xs: &[f32]) -> Vec<f32> {
        let mut ys = xs.to_vec();
        // SAFETY: the kernel stays inside its slice.
        unsafe { f32::run(level, Map(&mut ys, which)) };
        ys
    }

    /// Largest relative error against f64, over values of a full sweep.
    fn worst(which: u8, from: f32, to: f32, truth: impl Fn(f64) -> f64) -> f64 {
        let xs: Vec<f32> = (0..=100_000)
            .map(|i| from + (to - from) * i as f32 / 1e5)
            .collect();
        let mut worst = 0f64;
        for &level in levels() {
            for (&x, y) in xs.iter().zip(map(level, which, &xs)) {
                let t = truth(f64::from(x));
                worst = worst.max((f64::from(y) - t).abs() / t.abs().max(1e-30));
            }
        }
        worst
    }

    #[test]
    fn exp_is_within_two_ulp() {
        assert!(worst(0, -87.0, 88.0, f64::exp) < 2.4e-7);
    }

    #[test]
    fn tanh_is_within_three_ulp() {
        assert!(worst(1, -12.0, 12.0, f64::tanh) < 3.6e-7);
    }

    #[test]
    fn the_normal_distribution_keeps_its_relative_precision_in_both_tails() {
        let cdf =
            |x: f64| 0.5 * candle_core::cpu::erf::erfc_f64(-x * std::f64::consts::FRAC_1_SQRT_2);
        // x² / 2 is rounded before the exponential, which costs x² / 2 half-ulps.
        assert!(worst(2, -5.0, 9.0, cdf) < 1.5e-6);
    }

    #[test]
    fn what_is_not_a_number_stays_so_and_extremes_stay_finite() {
        for &level in levels() {
            for which in 0..3 {
                let y = map(
                    level,
                    which,
                    &[f32::NAN, 1000.0, -1000.0, 0.0, -0.0, f32::NEG_INFINITY],
                );
                assert!(y[0].is_nan(), "{level:?} {which}");
                assert!(
                    y[2..].iter().all(|v| v.is_finite()),
                    "{level:?} {which} {y:?}"
                );
            }
            assert_eq!(
                map(level, 1, &[0.0, 40.0, -40.0, f32::INFINITY]),
                [0.0, 1.0, -1.0, 1.0]
            );
            assert_eq!(map(level, 0, &[0.0]), [1.0]);
        }
    }
}
