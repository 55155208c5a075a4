//! One number of threads for everything that computes.

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
        #[allow(unsafe_code)]
        unsafe {
            std::env::set_var(name, n.to_string());
        }
    }
    Ok(())
}

/// The number of threads that the ops use.
pub fn threads() -> usize {
    candle_core::utils::barrier_pool().n_workers() + 1
}
