//! Root-mean-square normalisation on vectors, a run of H values at a time; the normed runs and their 1/√(mean + ε) are
//! kept for the backward.

use std::sync::Arc;

use candle_core::{Result, Tensor};

use super::RmsNorm;
use crate::element::Element;
use crate::elementwise::{GROUP, sum_rows};
use crate::memory::Output;
use crate::simd::{Kernel, Vector, level, load, store};
use crate::tape::{Gradients, Node, record, tracked, view};
use crate::threads::{Shared, parallel_ranges};

/// Values that a task should at least have to do.
const LEAST: usize = 16_384;

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
    let node = Normed {
        normed,
        scales,
        gamma: norm.gamma.detach(),
    };
    record(&inputs, y, x.shape(), node)
}

struct Normed<T> {
    /// x̂
    normed: Vec<T>,
    /// 1/√(mean(x²) + ε) of each run.
    scales: Vec<T>,
    gamma: Tensor,
}

impl<T: Element> Node<T> for Normed<T> {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn backward(&self, grad: &Arc<Vec<T>>, into: &mut Gradients<T>) -> Result<()> {
        let gamma = view::<T>(&self.gamma)?;
        let gamma: &[T] = &gamma;
        let (runs, width) = (self.scales.len(), gamma.len());
        let trained = into.wants(1);
        // Sums over runs go by fixed groups, so that they are the same on any number of threads.
        let groups = runs.div_ceil(GROUP);
        let mut partial = vec![T::default(); if trained { groups * width } else { 0 }];
        let mut dx = Output::new(runs * width);
        let (to, sums, level) = (dx.ptr(), Shared(partial.as_mut_ptr()), level());
        parallel_ranges(groups, (LEAST / (GROUP * width)).max(1), |range| {
            for group in range {
                let first = group * GROUP;
                let start = first * width;
                // SAFETY: groups are disjoint, and all buffers hold all runs.
                unsafe {
                    let backward = Backward {
                        normed: self.normed.as_ptr().add(start),
                        scales: self.scales.as_ptr().add(first),
                        gamma: gamma.as_ptr(),
                        grad: grad.as_ptr().add(start),
                        runs: GROUP.min(runs - first),
                        width,
                        dx: to.add(start),
                        sums: trained.then(|| sums.add(group * width)),
                    };
                    T::run(level, backward);
                }
            }
        });
        // SAFETY: every run has been written.
        let dx = Arc::new(unsafe { dx.finish() });
        if into.wants(0) {
            into.add_shared(0, dx.clone());
        }
        if into.len() > 2 && into.wants(2) {
            into.add_shared(2, dx);
        }
        if trained {
            into.add(1, sum_rows(&partial, width));
        }
        Ok(())
    }
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

struct Backward<T> {
    normed: *const T,
    scales: *const T,
    gamma: *const T,
    grad: *const T,
    runs: usize,
    width: usize,
    dx: *mut T,
    /// Σ g ∘ x̂
    sums: Option<*mut T>,
}

impl<T: Element> Kernel<T> for Backward<T> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = T>>(self) {
        let width = self.width;
        let per_value = T::from_f64(1.0 / width as f64);
        // SAFETY: the maker of the kernel promises the runs at each pointer.
        unsafe {
            for run in 0..self.runs {
                let at = run * width;
                let scale = V::splat(*self.scales.add(run));
                let mut product = V::splat(T::default());
                for i in (0..width).step_by(V::LANES) {
                    let n = width - i;
                    let normed = load::<V>(self.normed.add(at + i), n);
                    let g = load::<V>(self.grad.add(at + i), n);
                    // Lanes past the end: g is zero there.
                    product = g.mul(load(self.gamma.add(i), n)).fma(normed, product);
                    if let Some(sums) = self.sums {
                        store(g.fma(normed, load(sums.add(i), n)), sums.add(i), n);
                    }
                }
                let product = V::splat(product.sum() * per_value);
                for i in (0..width).step_by(V::LANES) {
                    let n = width - i;
                    let normed = load::<V>(self.normed.add(at + i), n);
                    let a = load::<V>(self.grad.add(at + i), n).mul(load(self.gamma.add(i), n));
                    let dx = a.sub(normed.mul(product)).mul(scale);
                    store(dx, self.dx.add(at + i), n);
                }
            }
        }
    }
}
