//! Root-mean-square normalisation on vectors, a run of H values at a time; the normed runs and their 1/√(mean + ε) are
//! kept for the backward.

use candle_core::{Result, Tensor};

use super::RmsNorm;
use crate::element::Element;
use crate::memory::Output;
use crate::normed::{LEAST, Normed};
use crate::simd::{Kernel, Vector, level, load, store};
use crate::tape::{record, tracked, view};
use crate::threads::parallel_ranges;

pub(super) fn rms_norm<T: Element>(
    x: &Tensor,
    residual: Option<&Tensor>,
    norm: &RmsNorm,
) -> Result<Tensor> {
    let x = x.contiguous()?;
    let residual = residual.map(Tensor::contiguous).transpose()?;
    let width = norm.gamma.elem_count();
    let runs = x.elem_count() / width;
    let mut inputs = vec![&x, &norm.gamma];
    inputs.extend(&residual);
    let keep = tracked(&inputs);
    let kept = if keep { runs } else { 0 };
    let mut y = Output::new(runs * width);
    let (mut normed, mut scales) = (Output::new(kept * width), Output::new(kept));
    {
        let (x, gamma) = (view::<T>(&x)?, view::<T>(&norm.gamma)?);
        let residual = residual.as_ref().map(view::<T>).transpose()?;
        let (x, gamma): (&[T], &[T]) = (&x, &gamma);
        let residual: Option<&[T]> = residual.as_deref();
        let (to, normed, scales, level) = (y.ptr(), normed.ptr(), scales.ptr(), level());
        parallel_ranges(runs, LEAST / width, |range| {
            let start = range.start * width;
            // SAFETY: runs are disjoint, and all buffers hold all runs.
            unsafe {
                let forward = Forward {
                    x: x.as_ptr().add(start),
                    residual: residual.map(|r| r.as_ptr().add(start)),
                    gamma: gamma.as_ptr(),
                    eps: norm.eps,
                    runs: range.len(),
                    width,
                    y: to.add(start),
                    kept: keep.then(|| (normed.add(start), scales.add(range.start))),
                };
                T::run(level, forward);
            }
        });
    }
    // SAFETY: every run has been written.
    let (y, normed, scales) = unsafe { (y.finish(), normed.finish(), scales.finish()) };
    let node = Normed::<T, false> {
        normed,
        scales,
        gamma: norm.gamma.detach(),
    };
    record(&inputs, y, x.shape(), node)
}

struct Forward<T> {
    x: *const T,
    residual: Option<*const T>,
    gamma: *const T,
    eps: f64,
    runs: usize,
    width: usize,
    y: *mut T,
    /// Where x̂ and 1/√(mean(x²) + ε) go, if they are kept.
    kept: Option<(*mut T, *mut T)>,
}

impl<T: Element> Kernel<T> for Forward<T> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = T>>(self) {
        let width = self.width;
        // SAFETY: the maker of the kernel promises the runs at each pointer.
        unsafe {
            for run in 0..self.runs {
                let at = run * width;
                let mut squares = V::splat(T::default());
                for i in (0..width).step_by(V::LANES) {
                    let n = width - i;
                    // Lanes past the end are zeros. The sum waits in the place of the result.
                    let mut x = load::<V>(self.x.add(at + i), n);
                    if let Some(residual) = self.residual {
                        x = x.add(load(residual.add(at + i), n));
                        store(x, self.y.add(at + i), n);
                    }
                    squares = x.fma(x, squares);
                }
                let from = match self.residual {
                    Some(_) => self.y.cast_const(),
                    None => self.x,
                };
                let mean = squares.sum().to_f64() / width as f64;
                let scale = T::from_f64(1.0 / (mean + self.eps).sqrt());
                for i in (0..width).step_by(V::LANES) {
                    let n = width - i;
                    let normed = load::<V>(from.add(at + i), n).mul(V::splat(scale));
                    if let Some((to, _)) = self.kept {
                        store(normed, to.add(at + i), n);
                    }
                    let y = normed.mul(load(self.gamma.add(i), n));
                    store(y, self.y.add(at + i), n);
                }
                if let Some((_, scales)) = self.kept {
                    *scales.add(run) = scale;
                }
            }
        }
    }
}
