//! The low-rank update in two thin products.

use std::sync::Arc;

use candle_core::{Result, Tensor};

use super::LowRank;
use crate::element::Element;
use crate::gemm::{Left, Product, Right};
use crate::memory::Output;
use crate::simd::level;
use crate::tape::{Gradients, Node, record, view};

pub(super) fn low_rank_add<T: Element>(y: &Tensor, x: &Tensor, update: &LowRank) -> Result<Tensor> {
    let (y, x, scaling) = (y.contiguous()?, x.contiguous()?, update.scaling);
    let (a, b) = (update.a(), update.b());
    let ((rows, width), (rank, _), (out, _)) = (x.dims2()?, a.dims2()?, b.dims2()?);
    let (mut inner, mut result) = (Output::new(rows * rank), Output::new(rows * out));
    let level = level();
    {
        let (y, x) = (view::<T>(&y)?, view::<T>(&x)?);
        let down = update.a.packed::<T>(level)?;
        let up = update.b.packed::<T>(level)?;
        let t = inner.ptr().0;
        // SAFETY: the shapes were checked to fit; the first product fills what the second reads.
        unsafe {
            Product::new(
                rows,
                rank,
                width,
                Left::rows(&x, width),
                Right::Packed(&down),
                t,
            )
            .run(level, None, None);
            let left = Left {
                ptr: t.cast_const(),
                row: rank,
                step: 1,
            };
            let mut product =
                Product::new(rows, out, rank, left, Right::Packed(&up), result.ptr().0);
            (product.init, product.init_row, product.scale) =
                (y.as_ptr(), out, T::from_f64(scaling));
            product.run(level, None, None);
        }
    }
    // SAFETY: the products cover both.
    let (inner, result) = unsafe { (inner.finish(), result.finish()) };
    let node = Added {
        x: x.detach(),
        a: a.detach(),
        b: b.detach(),
        inner,
        scaling,
    };
    record(&[&y, &x, a, b], result, (rows, out), node)
}

struct Added<T> {
    x: Tensor,
    a: Tensor,
    b: Tensor,
    /// `x Aᵀ`
    inner: Vec<T>,
    scaling: f64,
}

impl<T: Element> Node<T> for Added<T> {
    fn name(&self) -> &'static str {
        "low-rank-add"
    }

    fn backward(&self, grad: &Arc<Vec<T>>, into: &mut Gradients<T>) -> Result<()> {
        let ((rows, width), (rank, _), (out, _)) =
            (self.x.dims2()?, self.a.dims2()?, self.b.dims2()?);
        let (x, a, b) = (
            view::<T>(&self.x)?,
            view::<T>(&self.a)?,
            view::<T>(&self.b)?,
        );
        let level = level();
        let multiply =
            |into: &mut Gradients<T>, i: usize, (m, n, k), left: Left<T>, right: Right<T>| {
                into.write(i, |so_far, to| {
                    let mut product = Product::new(m, n, k, left, right, to);
                    product.scale = T::from_f64(self.scaling);
                    if let Some(so_far) = so_far {
                        (product.init, product.init_row) = (so_far, n);
                    }
                    // SAFETY: the shapes were checked by the forward.
                    unsafe { product.run(level, None, None) }
                });
            };
        if into.wants(1) || into.wants(2) {
            let mut t = Output::new(rows * rank);
            // SAFETY: g is [N, out], B [out, R]; the product covers t.
            let t = unsafe {
                let left = Left::rows(grad, out);
                Product::new(rows, rank, out, left, Right::rows(&b, rank), t.ptr().0)
                    .run(level, None, None);
                t.finish()
            };
            if into.wants(1) {
                multiply(
                    into,
                    1,
                    (rows, width, rank),
                    Left::rows(&t, rank),
                    Right::rows(&a, width),
                );
            }
            if into.wants(2) {
                multiply(
                    into,
                    2,
                    (rank, width, rows),
                    Left::transposed(&t, rank),
                    Right::rows(&x, width),
                );
            }
        }
        if into.wants(3) {
            multiply(
                into,
                3,
                (out, rank, rows),
                Left::transposed(grad, out),
                Right::rows(&self.inner, rank),
            );
        }
        if into.wants(0) {
            into.add_shared(0, grad.clone());
        }
        Ok(())
    }
}
