//! What the machine reaches in a large matrix product: the yardstick of every speed that we publish.

use std::time::{Duration, Instant};

use candle_core::{Device, Result, Tensor};

/// GFLOP/s (10⁹ multiplications and additions per second) of a large f32 product on [`crate::threads`] threads: the
/// best of the runs that fit into half a second.
pub fn large_product_gflops() -> Result<f64> {
    const N: usize = 1536;
    let a = Tensor::ones((N, N), candle_core::DType::F32, &Device::Cpu)?;
    let b = a.affine(0.5, 0.0)?;
    let (start, mut best) = (Instant::now(), Duration::MAX);
    while start.elapsed() < Duration::from_millis(500) {
        let run = Instant::now();
        std::hint::black_box(a.matmul(&b)?);
        best = best.min(run.elapsed());
    }
    Ok(2.0 * (N as f64).powi(3) / best.as_secs_f64() / 1e9)
}
