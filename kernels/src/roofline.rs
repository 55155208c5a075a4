//! What the machine can reach at most: multiply-adds in registers, and reading memory. The yardsticks of every speed that
//! we publish.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::Precision;
use crate::gemm::rounded::peak_of_bf16;
use crate::memory::Aligned;
use crate::simd::{Float, Kernel, Level, Vector, level, load};
use crate::threads::{parallel, threads};

/// How long each yardstick is measured.
const TIME: Duration = Duration::from_millis(200);

/// GFLOP/s (10⁹ multiplications and additions per second) of independent multiply-adds in registers on all
/// [`crate::threads`], with the instructions that products of this precision use: the best of a fifth of a second. No
/// product can be faster.
pub fn register_gflops(precision: Precision) -> f64 {
    /// Of one task: about a tenth of a millisecond.
    const ROUNDS: usize = 20_000;
    let level = level();
    let per_task = match precision {
        Precision::Bf16 => peak_of_bf16(),
        Precision::F32 | Precision::Int8 | Precision::Q4 => None,
    };
    let task = || match per_task {
        Some(rounds) => rounds(ROUNDS),
        None => f32_rounds(level, ROUNDS),
    };
    best(|| {
        let operations = task();
        // The same for every task.
        let tasks = 8 * threads();
        let start = Instant::now();
        parallel(tasks, |_| {
            black_box(task());
        });
        tasks as f64 * operations / start.elapsed().as_secs_f64()
    }) / 1e9
}

/// GB/s (10⁹ bytes per second) that all threads read from a buffer of this many bytes, over and over: a pass that reads
/// that much can take no less time.
pub fn reading_gb_per_second(bytes: usize) -> f64 {
    const PART: usize = 1 << 16;
    let parts = (bytes / (PART * size_of::<f32>())).max(1);
    let buffer = Aligned::<f32>::zeros(parts * PART);
    let from = crate::threads::Shared(buffer.as_ptr().cast_mut());
    let level = level();
    best(|| {
        let start = Instant::now();
        parallel(parts, |part| {
            // SAFETY: the part lies in the buffer.
            let sum = unsafe { f32::run(level, Sum(from.add(part * PART), PART)) };
            black_box(sum);
        });
        (parts * PART * size_of::<f32>()) as f64 / start.elapsed().as_secs_f64()
    }) / 1e9
}

fn best(mut run: impl FnMut() -> f64) -> f64 {
    let start = Instant::now();
    let mut best = 0.0;
    while start.elapsed() < TIME {
        best = run().max(best);
    }
    best
}

/// Does `rounds` of multiply-adds in f32; how many operations that were.
fn f32_rounds(level: Level, rounds: usize) -> f64 {
    // SAFETY: it has no pointers.
    unsafe { f32::run(level, Rounds(rounds)) }
}

struct Rounds(usize);

impl Kernel<f32> for Rounds {
    type Output = f64;
    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = f32>>(self) -> f64 {
        // As many chains as the latency of an instruction needs, and as every instruction set has registers for.
        const CHAINS: usize = 12;
        let x = V::splat(black_box(0.5));
        let mut sums = [x; CHAINS];
        for _ in 0..self.0 {
            for sum in &mut sums {
                *sum = x.fma(x, *sum);
            }
        }
        let sums = sums.map(Vector::sum);
        black_box(sums);
        (self.0 * CHAINS * V::LANES * 2) as f64
    }
}

struct Sum(*const f32, usize);

impl Kernel<f32> for Sum {
    type Output = f32;
    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = f32>>(self) -> f32 {
        let mut sums = [V::splat(0.0); 8];
        for i in (0..self.1).step_by(8 * V::LANES) {
            for (j, sum) in sums.iter_mut().enumerate() {
                // SAFETY: the maker of the kernel promises the values, whose number is a multiple of this.
                *sum = sum.add(unsafe { load(self.0.add(i + j * V::LANES), V::LANES) });
            }
        }
        sums.map(Vector::sum).iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rounds_count_what_they_do() {
        for &level in crate::levels() {
            let operations = f32_rounds(level, 1000);
            assert!(operations >= 1000.0 * 12.0 * 4.0 * 2.0, "{level:?}");
            assert_eq!(f32_rounds(level, 2000), 2.0 * operations);
        }
    }
}
