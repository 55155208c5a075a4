//! The backward of norms over runs of H values: of layer norms, which centre a run and shift it, and of root-mean-square norms,
//! which do neither.
//!
//! With `a = g ∘ γ` and `r` the scale of a run: `dx = r (a − mean(a) − x̂ mean(a ∘ x̂))`, `dγ = Σ_runs g ∘ x̂`, `dβ = Σ_runs g`;
//! where nothing is centred, without `mean(a)` and β.

use std::sync::Arc;

use candle_core::{Result, Tensor};

use crate::element::Element;
use crate::elementwise::{GROUP, sum_rows};
use crate::memory::Output;
use crate::simd::{Kernel, Vector, level, load, store};
use crate::tape::{Gradients, Node, view};
use crate::threads::{Shared, parallel_ranges};

/// Values that a task should at least have to do.
pub(crate) const LEAST: usize = 16_384;

/// What the forward keeps. The inputs are x, γ, β where a run is centred, and the residual where there is one.
pub(crate) struct Normed<T, const CENTRED: bool> {
    /// x̂
    pub(crate) normed: Vec<T>,
    /// The scale of each run: 1 over the root of its variance, or of its mean square, with ε.
    pub(crate) scales: Vec<T>,
    pub(crate) gamma: Tensor,
}

impl<T: Element, const CENTRED: bool> Node<T> for Normed<T, CENTRED> {
    fn name(&self) -> &'static str {
        if CENTRED { "layer-norm" } else { "rms-norm" }
    }

    fn backward(&self, grad: &Arc<Vec<T>>, into: &mut Gradients<T>) -> Result<()> {
        let gamma = view::<T>(&self.gamma)?;
        let gamma: &[T] = &gamma;
        let (runs, width) = (self.scales.len(), gamma.len());
        let residual = if CENTRED { 3 } else { 2 };
        let trained = (1..residual).any(|input| into.wants(input));
        // Sums over runs go by fixed groups, so that they are the same on any number of threads.
        let groups = runs.div_ceil(GROUP);
        let sums_width = (residual - 1) * width;
        let mut partial = vec![T::default(); if trained { groups * sums_width } else { 0 }];
        let mut dx = Output::new(runs * width);
        let (to, sums, level) = (dx.ptr(), Shared(partial.as_mut_ptr()), level());
        parallel_ranges(groups, (LEAST / (GROUP * width)).max(1), |range| {
            for group in range {
                let first = group * GROUP;
                let start = first * width;
                // SAFETY: groups are disjoint, and all buffers hold all runs.
                unsafe {
                    let backward = Backward::<T, CENTRED> {
                        normed: self.normed.as_ptr().add(start),
                        scales: self.scales.as_ptr().add(first),
                        gamma: gamma.as_ptr(),
                        grad: grad.as_ptr().add(start),
                        runs: GROUP.min(runs - first),
                        width,
                        dx: to.add(start),
                        sums: trained.then(|| sums.add(group * sums_width)),
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
        if into.len() > residual && into.wants(residual) {
            into.add_shared(residual, dx);
        }
        if trained {
            let mut gamma = sum_rows(&partial, sums_width);
            let beta = gamma.split_off(width);
            if into.wants(1) {
                into.add(1, gamma);
            }
            if CENTRED && into.wants(2) {
                into.add(2, beta);
            }
        }
        Ok(())
    }
}

struct Backward<T, const CENTRED: bool> {
    normed: *const T,
    scales: *const T,
    gamma: *const T,
    grad: *const T,
    runs: usize,
    width: usize,
    dx: *mut T,
    /// Σ g ∘ x̂ and, after it, Σ g where a run is centred.
    sums: Option<*mut T>,
}

impl<T: Element, const CENTRED: bool> Kernel<T> for Backward<T, CENTRED> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = T>>(self) {
        let width = self.width;
        let per_value = T::from_f64(1.0 / width as f64);
        // SAFETY: the maker of the kernel promises the runs at each pointer.
        unsafe {
            for run in 0..self.runs {
                let at = run * width;
                let scale = *self.scales.add(run);
                let (mut sum, mut product) = (V::splat(T::default()), V::splat(T::default()));
                for i in (0..width).step_by(V::LANES) {
                    let n = width - i;
                    let normed = load::<V>(self.normed.add(at + i), n);
                    let g = load::<V>(self.grad.add(at + i), n);
                    // Lanes past the end: g is zero there.
                    let a = g.mul(load(self.gamma.add(i), n));
                    if CENTRED {
                        sum = sum.add(a);
                    }
                    product = a.fma(normed, product);
                    if let Some(sums) = self.sums {
                        let gamma = sums.add(i);
                        store(g.fma(normed, load(gamma, n)), gamma, n);
                        if CENTRED {
                            let beta = sums.add(width + i);
                            store(g.add(load(beta, n)), beta, n);
                        }
                    }
                }
                let (sum, product) = (
                    V::splat(sum.sum() * per_value),
                    V::splat(product.sum() * per_value),
                );
                for i in (0..width).step_by(V::LANES) {
                    let n = width - i;
                    let normed = load::<V>(self.normed.add(at + i), n);
                    let mut a = load::<V>(self.grad.add(at + i), n).mul(load(self.gamma.add(i), n));
                    if CENTRED {
                        a = a.sub(sum);
                    }
                    let dx = a.sub(normed.mul(product)).mul(V::splat(scale));
                    store(dx, self.dx.add(at + i), n);
                }
            }
        }
    }
}
