//! One number of threads, and one pool, for everything that computes.

use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::utils::barrier_pool;
use candle_core::{Result, bail};

/// Makes `n` threads compute: ours, candle's, and those of the `gemm` crate under it.
///
/// Call it once, first thing in `main`, while the process has a single thread and before any tensor exists: the
/// pools read `CANDLE_NUM_THREADS` and `RAYON_NUM_THREADS` when they start, and those are what this sets.
pub fn set_threads(n: usize) -> Result<()> {
    if n == 0 {
        bail!("threads: at least one is needed, got 0")
    }
    for name in ["CANDLE_NUM_THREADS", "RAYON_NUM_THREADS"] {
        // SAFETY: documented to run before any other thread exists, so nobody reads the environment meanwhile.
        unsafe { std::env::set_var(name, n.to_string()) }
    }
    Ok(())
}

/// The number of threads that the ops use.
pub fn threads() -> usize {
    barrier_pool().n_workers() + 1
}

/// Runs `task(0..tasks)`, each once, on the pool of candle's own elementwise ops: its workers wait spinning for a
/// while, so handing work over takes a microsecond, and two pools would take each other's cores.
///
/// A free thread takes the next task. Every number is computed inside one task, so who takes it changes no bit. A
/// task must not call `parallel` or candle.
pub(crate) fn parallel(tasks: usize, task: impl Fn(usize) + Sync) {
    if tasks <= 1 || threads() == 1 {
        (0..tasks).for_each(task);
        return;
    }
    let next = AtomicUsize::new(0);
    barrier_pool().execute(|_| {
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= tasks {
                break;
            }
            task(i);
        }
    });
}

/// Splits `items` into nearly equal ranges and runs them in parallel: about four per thread, each of at least
/// `least` items. The split depends on nothing else, so sums taken per range come out the same on every run.
pub(crate) fn parallel_ranges(
    items: usize,
    least: usize,
    task: impl Fn(std::ops::Range<usize>) + Sync,
) {
    let parts = (items / least.max(1)).clamp(1, 4 * threads());
    parallel(parts, |i| task(i * items / parts..(i + 1) * items / parts));
}

/// A pointer that tasks may share. Whoever makes one promises that tasks write to disjoint places.
#[derive(Clone, Copy)]
pub(crate) struct Shared<T>(pub(crate) *mut T);

// SAFETY: the promise above; the pointers lead to plain numbers.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// The pointer `offset` elements on.
    /// # Safety
    /// As for [`pointer::add`].
    pub(crate) unsafe fn add(&self, offset: usize) -> *mut T {
        // SAFETY: passed on.
        unsafe { self.0.add(offset) }
    }
}
