//! Layer normalisation on vectors, a row at a time; the normed rows and their 1/√(σ² + ε) are kept for the backward.

use std::sync::Arc;

use candle_core::{Result, Tensor};

use super::LayerNorm;
use crate::element::Element;
use crate::elementwise::{GROUP, sum_rows};
use crate::memory::{Output, with_scratch};
use crate::simd::{Kernel, Vector, level, load, store};
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
    let kept = if keep { rows } else { 0 };
    let (mut y, mut normed, mut scales) = (
        Output::new(rows * width),
        Output::new(kept * width),
        Output::new(kept),
    );
    {
        let (x, gamma, beta) = (
            view::<T>(&x)?,
            view::<T>(&norm.gamma)?,
            view::<T>(&norm.beta)?,
        );
        let residual = residual.as_ref().map(view::<T>).transpose()?;
        let (x, gamma, beta): (&[T], &[T], &[T]) = (&x, &gamma, &beta);
        let residual: Option<&[T]> = residual.as_deref();
        let (to, normed, scales, level) = (y.ptr(), normed.ptr(), scales.ptr(), level());
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
                        kept: keep.then(|| (normed.add(start), scales.add(range.start))),
                        scratch,
                    };
                    T::run(level, forward);
                }
            });
        });
    }
    // SAFETY: every row has been written.
    let (y, normed, scales) = unsafe { (y.finish(), normed.finish(), scales.finish()) };
    let node = Normed {
        normed,
        scales,
        gamma: norm.gamma.detach(),
    };
    record(&inputs, y, (rows, width), node)
}

struct Normed<T> {
    /// x̂
    normed: Vec<T>,
    /// 1/√(σ² + ε) of each row.
    scales: Vec<T>,
    gamma: Tensor,
}

impl<T: Element> Node<T> for Normed<T> {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn backward(&self, grad: &Arc<Vec<T>>, into: &mut Gradients<T>) -> Result<()> {
        let gamma = view::<T>(&self.gamma)?;
        let gamma: &[T] = &gamma;
        let (rows, width) = (self.scales.len(), gamma.len());
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
                        normed: self.normed.as_ptr().add(start),
                        scales: self.scales.as_ptr().add(first),
                        gamma: gamma.as_ptr(),
                        grad: grad.as_ptr().add(start),
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
        if into.len() > 3 && into.wants(3) {
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
    /// Where x̂ and 1/√(σ² + ε) go, if they are kept.
    kept: Option<(*mut T, *mut T)>,
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
                    if let Some((to, _)) = self.kept {
                        store(normed, to.add(at + i), n);
                    }
                    let y = normed.fma(load(self.gamma.add(i), n), load(self.beta.add(i), n));
                    store(y, self.y.add(at + i), n);
                }
                if let Some((_, scales)) = self.kept {
                    *scales.add(row) = scale;
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
                let scale = *self.scales.add(row);
                let (mut sum, mut product) = (V::splat(T::default()), V::splat(T::default()));
                for i in (0..width).step_by(V::LANES) {
                    let n = width - i;
                    let normed = load::<V>(self.normed.add(at + i), n);
                    let g = load::<V>(self.grad.add(at + i), n);
                    // Lanes past the end: g is zero there.
                    let a = g.mul(load(self.gamma.add(i), n));
                    sum = sum.add(a);
                    product = a.fma(normed, product);
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
                    let normed = load::<V>(self.normed.add(at + i), n);
                    let a = load::<V>(self.grad.add(at + i), n).mul(load(self.gamma.add(i), n));
                    let dx = a.sub(sum).sub(normed.mul(product)).mul(V::splat(scale));
                    store(dx, self.dx.add(at + i), n);
                }
            }
        }
    }
}
