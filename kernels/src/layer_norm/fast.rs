//! Layer normalisation on vectors, a row at a time; the row's mean and 1/√(σ² + ε) are kept for the backward.

use std::sync::Arc;

use candle_core::{Result, Tensor};

use super::LayerNorm;
use crate::elementwise::{GROUP, sum_rows};
use crate::memory::{Output, with_scratch};
use crate::simd::{Element, Kernel, Vector, level, load, store};
use crate::tape::{Gradients, Node, record, tracked, view};
use crate::threads::parallel_ranges;

/// Values that a task should at least have to do.
const LEAST: usize = 16_384;

pub(super) fn layer_norm<T: Element>(
    x: &Tensor,
    residual: Option<&Tensor>,
    norm: &LayerNorm,
) -> Result<Tensor> {
    let x = x.contiguous()?;
    let residual = residual.map(Tensor::contiguous).transpose()?;
    let (rows, width) = x.dims2()?;
    let mut inputs = vec![&x, &norm.gamma, &norm.beta];
    inputs.extend(&residual);
    let keep = tracked(&inputs);
    let (mut y, mut statistics) = (Output::new(rows * width), Output::new(2 * rows));
    {
        let (x, gamma, beta) = (
            view::<T>(&x)?,
            view::<T>(&norm.gamma)?,
            view::<T>(&norm.beta)?,
        );
        let residual = residual.as_ref().map(view::<T>).transpose()?;
        let (x, gamma, beta): (&[T], &[T], &[T]) = (&x, &gamma, &beta);
        let residual: Option<&[T]> = residual.as_deref();
        let (to, statistics, level) = (y.ptr(), statistics.ptr(), level());
        parallel_ranges(rows, LEAST / width, |range| {
            with_scratch(width, |scratch| {
                let start = range.start * width;
                // SAFETY: rows are disjoint, and all buffers hold all rows.
                unsafe {
                    let forward = Forward {
                        x: x.as_ptr().add(start),
                        residual: residual.map(|r| r.as_ptr().add(start)),
                        gamma: gamma.as_ptr(),
                        beta: beta.as_ptr(),
                        eps: norm.eps,
                        rows: range.len(),
                        width,
                        y: to.add(start),
                        statistics: statistics.add(2 * range.start),
                        scratch,
                    };
                    T::run(level, forward);
                }
            });
        });
    }
    // SAFETY: every row has been written.
    let (y, statistics) = unsafe { (y.finish(), statistics.finish()) };
    let node = Normed {
        x: x.detach(),
        residual: residual.as_ref().map(Tensor::detach),
        gamma: norm.gamma.detach(),
        statistics: if keep { statistics } else { Vec::new() },
    };
    record(&inputs, y, (rows, width), node)
}

struct Normed<T> {
    x: Tensor,
    residual: Option<Tensor>,
    gamma: Tensor,
    /// Mean and 1/√(σ² + ε) of each row.
    statistics: Vec<T>,
}

impl<T: Element> Node<T> for Normed<T> {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn backward(&self, grad: &Arc<Vec<T>>, into: &mut Gradients<T>) -> Result<()> {
        let (rows, width) = self.x.dims2()?;
        let (x, gamma) = (view::<T>(&self.x)?, view::<T>(&self.gamma)?);
        let residual = self.residual.as_ref().map(view::<T>).transpose()?;
        let (x, gamma, residual): (&[T], &[T], Option<&[T]>) = (&x, &gamma, residual.as_deref());
        let trained = into.wants(1) || into.wants(2);
        // Sums over rows go by fixed groups, so that they are the same on any number of threads.
        let groups = rows.div_ceil(GROUP);
        let mut partial = vec![T::default(); if trained { 2 * groups * width } else { 0 }];
        let mut dx = Output::new(rows * width);
        let (to, sums, level) = (
            dx.ptr(),
            crate::threads::Shared(partial.as_mut_ptr()),
            level(),
        );
        parallel_ranges(groups, (LEAST / (GROUP * width)).max(1), |range| {
            for group in range {
                let first = group * GROUP;
                let start = first * width;
                // SAFETY: groups are disjoint, and all buffers hold all rows.
                unsafe {
                    let backward = Backward {
                        x: x.as_ptr().add(start),
                        residual: residual.map(|r| r.as_ptr().add(start)),
                        gamma: gamma.as_ptr(),
                        grad: grad.as_ptr().add(start),
                        statistics: self.statistics.as_ptr().add(2 * first),
                        rows: GROUP.min(rows - first),
                        width,
                        dx: to.add(start),
                        sums: trained.then(|| sums.add(2 * group * width)),
                    };
                    T::run(level, backward);
                }
            }
        });
        // SAFETY: every row has been written.
        let dx = Arc::new(unsafe { dx.finish() });
        if into.wants(0) {
            into.add_shared(0, dx.clone());
        }
        if self.residual.is_some() && into.wants(3) {
            into.add_shared(3, dx);
        }
        if trained {
            let mut gamma = sum_rows(&partial, 2 * width);
            let beta = gamma.split_off(width);
            if into.wants(1) {
                into.add(1, gamma);
            }
            if into.wants(2) {
                into.add(2, beta);
            }
        }
        Ok(())
    }
}

struct Forward<T> {
    x: *const T,
    residual: Option<*const T>,
    gamma: *const T,
    beta: *const T,
    eps: f64,
    rows: usize,
    width: usize,
    y: *mut T,
    statistics: *mut T,
    /// One row.
    scratch: *mut T,
}

impl<T: Element> Kernel<T> for Forward<T> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = T>>(self) {
        let width = self.width;
        let per_value = T::from_f64(1.0 / width as f64);
        // SAFETY: the maker of the kernel promises the rows at each pointer.
        unsafe {
            for row in 0..self.rows {
                let at = row * width;
                let mut sum = V::splat(T::default());
                for i in (0..width).step_by(V::LANES) {
                    let n = width - i;
                    let mut s = load::<V>(self.x.add(at + i), n);
                    if let Some(residual) = self.residual {
                        s = s.add(load(residual.add(at + i), n));
                    }
                    store(s, self.scratch.add(i), n);
                    sum = sum.add(s);
                }
                let mean = sum.sum() * per_value;
                let mut squares = V::splat(T::default());
                for i in (0..width).step_by(V::LANES) {
                    let n = width - i;
                    let centred = load::<V>(self.scratch.add(i), n).sub(V::splat(mean));
                    store(centred, self.scratch.add(i), n);
                    // Read back: lanes past the end are zeros, not −μ.
                    let centred = if n < V::LANES {
                        load(self.scratch.add(i), n)
                    } else {
                        centred
                    };
                    squares = centred.fma(centred, squares);
                }
                let variance = (squares.sum() * per_value).to_f64();
                let scale = T::from_f64(1.0 / (variance + self.eps).sqrt());
                for i in (0..width).step_by(V::LANES) {
                    let n = width - i;
                    let normed = load::<V>(self.scratch.add(i), n).mul(V::splat(scale));
                    let y = normed.fma(load(self.gamma.add(i), n), load(self.beta.add(i), n));
                    store(y, self.y.add(at + i), n);
                }
                *self.statistics.add(2 * row) = mean;
                *self.statistics.add(2 * row + 1) = scale;
            }
        }
    }
}

struct Backward<T> {
    x: *const T,
    residual: Option<*const T>,
    gamma: *const T,
    grad: *const T,
    statistics: *const T,
    rows: usize,
    width: usize,
    dx: *mut T,
    /// Σ g ∘ x̂ and, after it, Σ g.
    sums: Option<*mut T>,
}

impl<T: Element> Kernel<T> for Backward<T> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = T>>(self) {
        let width = self.width;
        let per_value = T::from_f64(1.0 / width as f64);
        // SAFETY: the maker of the kernel promises the rows at each pointer.
        unsafe {
            for row in 0..self.rows {
                let at = row * width;
                let (mean, scale) = (
                    *self.statistics.add(2 * row),
                    *self.statistics.add(2 * row + 1),
                );
                let (mut sum, mut product) = (V::splat(T::default()), V::splat(T::default()));
                for i in (0..width).step_by(V::LANES) {
                    let n = width - i;
                    let mut s = load::<V>(self.x.add(at + i), n);
                    if let Some(residual) = self.residual {
                        s = s.add(load(residual.add(at + i), n));
                    }
                    let normed = s.sub(V::splat(mean)).mul(V::splat(scale));
                    let g = load::<V>(self.grad.add(at + i), n);
                    // Lanes past the end: g is zero there.
                    let a = g.mul(load(self.gamma.add(i), n));
                    sum = sum.add(a);
                    product = a.fma(normed, product);
                    store(normed, self.dx.add(at + i), n);
                    if let Some(sums) = self.sums {
                        let (gamma, beta) = (sums.add(i), sums.add(width + i));
                        store(g.fma(normed, load(gamma, n)), gamma, n);
                        store(g.add(load(beta, n)), beta, n);
                    }
                }
                let (sum, product) = (
                    V::splat(sum.sum() * per_value),
                    V::splat(product.sum() * per_value),
                );
                for i in (0..width).step_by(V::LANES) {
                    let n = width - i;
                    let normed = load::<V>(self.dx.add(at + i), n);
                    let a = load::<V>(self.grad.add(at + i), n).mul(load(self.gamma.add(i), n));
                    let dx = a.sub(sum).sub(normed.mul(product)).mul(V::splat(scale));
                    store(dx, self.dx.add(at + i), n);
                }
            }
        }
    }
}
