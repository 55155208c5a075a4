//! Layer normalisation on vectors, a row at a time; the normed rows and their 1/√(σ² + ε) are kept for the backward.

use candle_core::{Result, Tensor};

use super::LayerNorm;
use crate::element::Element;
use crate::memory::{Output, with_scratch};
use crate::normed::{LEAST, Normed};
use crate::simd::{Kernel, Vector, level, load, store};
use crate::tape::{record, tracked, view};
use crate::threads::parallel_ranges;

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
    let node = Normed::<T, true> {
        normed,
        scales,
        gamma: norm.gamma.detach(),
    };
    record(&inputs, y, (rows, width), node)
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
